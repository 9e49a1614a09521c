"""Preprocessing of a table's matrix with scikit-learn: missing values, scales and categories.

Everything is fitted on the given training rows; the same object is used for prediction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from hypermap.core.errors import UserError, near
from hypermap.data.layout import ColumnLayout

Matrix = NDArray[np.float64]

Missing = Literal["mean", "median", "most_frequent", "constant", "drop"]
Scaling = Literal["standard", "min_max", "robust", "robust_clip", "quantile", "none"]
Categories = Literal["auto", "one_hot", "ordinal", "embedding", "target"]

MISSING_CODE = -2.0  # of a missing category; the schema's own codes are -1 and up
QUANTILES = 1000
FOLDS = 5  # of the means of a target, as is usual in scikit-learn


@dataclass(frozen=True)
class Settings:
    """Preprocessing settings; validated on construction.

    Attributes:
        missing: what replaces a missing number: a statistic of the training rows, or ``constant`` for `fill`. ``drop``
            drops rows in which anything is missing.
        fill: the constant.
        missing_indicator: whether to add an indicator column for each column with missing numbers.
        missing_categories: missing categories become a category of their ``own``, or the ``most_frequent``.
        scaling: of numbers; ``quantile`` maps each column to a normal distribution by its ranks, ``robust_clip`` see
            `hypermap.data.robust_clip`.
        categories: ``one_hot`` columns, ``ordinal`` numbers, an ``embedding`` that the network learns, the ``target``'s
            mean, or ``auto``, which depends on the model.
        rare: categories with fewer training rows than this share one code.
        max_categories: maximum number of codes of a column; the rarest categories share the last one.
        pca: number of principal components (or the share of the variance that they explain) that replace the numbers.
        arithmetic: maximum number of sums, differences, products and ratios of two numbers to add.
    """

    missing: Missing = "median"
    fill: float = 0.0
    missing_indicator: bool = True
    missing_categories: Literal["own", "most_frequent"] = "own"
    scaling: Scaling = "standard"
    categories: Categories = "auto"
    rare: int = 1
    max_categories: int | None = None
    pca: float | None = None
    arithmetic: int = 0

    def __post_init__(self) -> None:
        for name, kind in (("missing", Missing), ("scaling", Scaling), ("categories", Categories)):
            if (given := getattr(self, name)) not in (allowed := get_args(kind)):
                raise UserError(
                    f"data.{name} is {given!r}; for a table it is one of {', '.join(allowed)}{near(given, allowed)}."
                )


class Preparation:
    """A fitted ColumnTransformer of scikit-learn, and the layout of the rows that it returns.

    Attributes:
        transformer: from matrix to numbers, components of texts, indicators and raw codes, in this order.
        layout: of the rows that `transform` returns.
    """

    def __init__(self, transformer: Any) -> None:
        self.transformer = transformer
        self._encoder = _part(transformer, "categories", "codes")
        self._rare = [] if self._encoder is None else [_count(rare) for rare in self._encoder.infrequent_categories_]
        self.layout = self._layout()

    @classmethod
    def fit(
        cls,
        matrix: Matrix,
        roles: Sequence[str],
        settings: Settings,
        targets: NDArray[Any] | None = None,
        seed: int = 0,
    ) -> "Preparation":
        """Fit to training rows ``(rows, columns)``, NaN where missing.

        Args:
            matrix: the rows.
            roles: of each column: ``number``, ``category``, ``text`` for a component of a text, which is kept as it
                is, or ``arithmetic`` for a feature of two numbers.
            settings: how to preprocess them.
            targets: ``(rows,)``, class indices (integers) or numbers, if categories become means of the target.
            seed: of the folds of these means.

        Raises:
            UserError: `pca` asks for more components than there are, or there are no such targets.
        """
        columns = {
            wanted: [k for k, role in enumerate(roles) if role == wanted]
            for wanted in ("number", "arithmetic", "text", "category")
        }
        _check_pca(settings.pca, len(columns["number"]), len(matrix))
        encoder = None
        if settings.categories == "target" and columns["category"]:
            encoder = _target_encoder(targets, seed)
        transformer = _transformer(columns, settings, len(matrix), encoder)
        return cls(transformer.fit(matrix, targets))

    def transform(self, matrix: Matrix) -> NDArray[np.float32]:
        """Return rows as a model sees them: ``(rows, columns)`` float64 to ``(rows, layout.width)`` float32."""
        return self._coded(self.transformer.transform(matrix))

    def training_rows(self, matrix: Matrix, targets: NDArray[Any]) -> NDArray[np.float32]:
        """Return the rows that this was fitted to as a model learns from them, like `transform`.

        They differ from those of `transform` if categories became means of the target: a row's own target has no part
        in its mean, or a model would trust the means too much (scikit-learn's cross fitting).
        """
        if "encoded" not in self.transformer.named_transformers_:
            return self.transform(matrix)
        from sklearn.base import clone

        return self._coded(clone(self.transformer).fit_transform(matrix, targets))

    def _coded(self, transformed: NDArray[Any]) -> NDArray[np.float32]:
        """Return rows with the codes of the model instead of the encoder's."""
        rows = np.asarray(transformed, np.float32)
        raw = rows[:, self.layout.plain :]
        unseen = np.array(
            [size if rare else 0 for size, rare in zip(self.layout.cardinalities, self._rare, strict=True)]
        )
        rows[:, self.layout.plain :] = np.where(raw < 0, unseen, raw + 1)  # codes begin at 1
        return rows

    def _layout(self) -> ColumnLayout:
        outputs = {name: part.stop - part.start for name, part in self.transformer.output_indices_.items()}
        sizes: tuple[int, ...] = ()
        if self._encoder is not None:
            known = zip(self._encoder.categories_, self._rare, strict=True)
            sizes = tuple(len(categories) - rare + (rare > 0) for categories, rare in known)
        numbers = sum(outputs.get(name, 0) for name in ("numbers", "arithmetic", "texts", "encoded"))
        return ColumnLayout(numbers, outputs.get("missing", 0), sizes)


def complete_rows(matrix: Matrix) -> NDArray[np.bool_]:
    """Return which rows ``(rows,)`` have no missing values: those that ``missing=drop`` keeps."""
    return np.asarray(np.isfinite(matrix).all(axis=1))


def _transformer(columns: Mapping[str, list[int]], settings: Settings, rows: int, encoder: Any) -> Any:
    """Return the unfitted ColumnTransformer; unneeded steps are left out. `encoder` is that of `_target_encoder`."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import MissingIndicator
    from sklearn.pipeline import Pipeline

    numbers, categories = columns["number"], columns["category"]
    steps: list[tuple[str, Any, list[int]]] = []
    if numbers:
        steps.append(("numbers", Pipeline(_number_steps(settings, rows)), numbers))
    if arithmetic := columns["arithmetic"]:
        # By ranks, since a ratio may be as large as can be.
        ranked = settings if settings.scaling == "none" else replace(settings, scaling="quantile")
        steps.append(("arithmetic", Pipeline(_number_steps(replace(ranked, pca=None), rows)), arithmetic))
    if texts := columns["text"]:
        steps.append(("texts", "passthrough", texts))
    if encoder is not None:
        steps.append(("encoded", Pipeline(_encoded_steps(settings, rows, encoder)), categories))
    if numbers and settings.missing_indicator and settings.missing != "drop":
        steps.append(("missing", MissingIndicator(features="missing-only", error_on_new=False), numbers))
    if categories and encoder is None:
        steps.append(("categories", Pipeline(_category_steps(settings)), categories))
    return ColumnTransformer(steps, sparse_threshold=0.0)


def _number_steps(settings: Settings, rows: int) -> list[tuple[str, Any]]:
    from sklearn.decomposition import PCA
    from sklearn.impute import SimpleImputer

    strategy = "median" if settings.missing == "drop" else settings.missing  # nothing is missing then
    steps = [("impute", SimpleImputer(strategy=strategy, fill_value=settings.fill, keep_empty_features=True))]
    steps += _scaling_steps(settings, rows)
    if settings.pca is not None:
        steps.append(("pca", PCA(n_components=settings.pca, svd_solver="full")))
    return steps


def _scaling_steps(settings: Settings, rows: int) -> list[tuple[str, Any]]:
    from sklearn import preprocessing

    from hypermap.data.robust_clip import RobustClip

    # The number of quantiles of Gorishniy et al., https://arxiv.org/abs/2106.11959
    quantiles = max(min(rows // 30, QUANTILES), min(rows, 10))
    scalers = {
        "standard": preprocessing.StandardScaler,
        "min_max": preprocessing.MinMaxScaler,
        "robust": preprocessing.RobustScaler,
        "robust_clip": RobustClip,
        "quantile": lambda: preprocessing.QuantileTransformer(
            n_quantiles=quantiles, output_distribution="normal", subsample=None
        ),
    }
    return [] if settings.scaling == "none" else [("scale", scalers[settings.scaling]())]


def _category_imputer(settings: Settings) -> Any:
    from sklearn.impute import SimpleImputer

    strategy = "constant" if settings.missing_categories == "own" else "most_frequent"
    return SimpleImputer(strategy=strategy, fill_value=MISSING_CODE, keep_empty_features=True)


def _encoded_steps(settings: Settings, rows: int, encoder: Any) -> list[tuple[str, Any]]:
    return [("impute", _category_imputer(settings)), ("means", encoder), *_scaling_steps(settings, rows)]


def _target_encoder(targets: NDArray[Any] | None, seed: int) -> Any:
    """Return an unfitted TargetEncoder for targets like these, which draws its folds by the seed."""
    from sklearn.model_selection import KFold, StratifiedKFold
    from sklearn.preprocessing import TargetEncoder

    if targets is None or targets.ndim > 1:
        raise UserError("data.categories is target, which is for one target: take auto if there are several.")
    if targets.dtype.kind == "f":
        return TargetEncoder(target_type="continuous", cv=KFold(_folds(len(targets)), shuffle=True, random_state=seed))
    counts = np.unique_counts(targets).counts
    # Not stratified if a class has fewer rows than there are folds, which is impossible.
    splitter = StratifiedKFold if counts.min() >= FOLDS else KFold
    folds = splitter(_folds(len(targets)), shuffle=True, random_state=seed)
    return TargetEncoder(target_type="multiclass" if len(counts) > 2 else "binary", cv=folds)


def _folds(rows: int) -> int:
    return max(2, min(FOLDS, rows))


def _category_steps(settings: Settings) -> list[tuple[str, Any]]:
    from sklearn.preprocessing import OrdinalEncoder

    codes = OrdinalEncoder(
        handle_unknown="use_encoded_value",
        unknown_value=-1,
        min_frequency=settings.rare,  # 1 groups none
        max_categories=settings.max_categories,
    )
    return [("impute", _category_imputer(settings)), ("codes", codes)]


def _check_pca(components: float | None, numbers: int, rows: int) -> None:
    if components is None:
        return
    if isinstance(components, int) and not 1 <= components <= (most := min(numbers, rows)):
        raise UserError(
            f"data.pca is {components}; there are {numbers} columns of numbers and {rows} training rows: give at most "
            f"{most}, or a share of the variance, such as 0.95."
        )
    if not numbers:
        raise UserError(f"data.pca is {components}, and the table has no columns of numbers: set it to null.")


def _part(transformer: Any, name: str, step: str) -> Any:
    """Return a fitted step of one of the transformer's parts; None if the part does not exist."""
    part = transformer.named_transformers_.get(name)
    return None if part is None else part.named_steps[step]


def _count(categories: NDArray[Any] | None) -> int:
    return 0 if categories is None else len(categories)
