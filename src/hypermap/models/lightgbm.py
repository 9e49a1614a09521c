"""LightGBM's gradient-boosted trees, as a family beside scikit-learn's."""

import re
from functools import cached_property
from itertools import pairwise
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from hypermap.core.errors import UserError
from hypermap.core.typing import Array
from hypermap.data.layout import ColumnLayout
from hypermap.models.sklearn_models import ClassWeight, SklearnModel, TrainingData, of_known_classes

HEADER = (
    "version", "num_class", "num_tree_per_iteration", "label_index", "max_feature_idx", "objective", "feature_names",
    "feature_infos",
)  # fmt: skip
"""The lines of a text's head that predictions depend on."""
TREE = ("num_leaves", "num_cat", "cat_boundaries", "cat_threshold", "split_feature", "threshold", "decision_type",
        "left_child", "right_child", "leaf_value", "shrinkage")  # fmt: skip
"""The lines of a tree that predictions depend on; the others tell how it came about."""
NUMBERS = re.compile(r"[-+.0-9einfa ]*")
CATEGORICAL = 1  # the bit of a decision_type


class LightGBM(SklearnModel):
    """Gradient-boosted trees that grow leaf by leaf (Ke et al. 2017, https://papers.nips.cc/paper/6907).

    The defaults are LGBM-TD's, tuned on the meta-train benchmark of Holzmüller et al. 2024
    (https://arxiv.org/abs/2407.04491; pytabkit's ``LGBM_TD_CLASS`` and ``LGBM_TD_REG``), which differ between
    classification and regression: None takes them. As there, rows are drawn anew for each tree. Trees are added until
    the loss on the validation rows has not improved for `early_stopping_rounds` trees; those up to the best are kept.
    A split divides categories into two sets.

    Args:
        layout: of the columns.
        learning_rate: None for 0.04, in regression 0.05.
        n_estimators: maximum number of trees, or of trees for each of several classes.
        num_leaves: of a tree at most; None for 50, in regression 100.
        max_depth: of a tree at most; None for any.
        min_data_in_leaf: minimum rows of a leaf; None for 40, in regression 3.
        min_sum_hessian_in_leaf: minimum sum of the loss's second derivatives in a leaf.
        bagging_fraction: share of the rows that a tree is fitted to; None for 0.75, in regression 0.7.
        feature_fraction: share of the columns that a tree is fitted to.
        lambda_l1: penalty of a leaf's absolute value.
        lambda_l2: penalty of its square.
        early_stopping_rounds: number of trees without improvement to stop after.
        class_weight: ``balanced`` weights every class equally.
    """

    CLASSIFICATION: ClassVar = {
        "learning_rate": 0.04, "num_leaves": 50, "min_data_in_leaf": 40, "bagging_fraction": 0.75
    }  # fmt: skip
    REGRESSION: ClassVar = {"learning_rate": 0.05, "num_leaves": 100, "min_data_in_leaf": 3, "bagging_fraction": 0.7}

    trusted = ("hypermap.models.lightgbm.Trees",)

    def __init__(
        self,
        layout: ColumnLayout | None = None,
        learning_rate: float | None = None,
        n_estimators: int = 1000,
        num_leaves: int | None = None,
        max_depth: int | None = None,
        min_data_in_leaf: int | None = None,
        min_sum_hessian_in_leaf: float = 1e-7,
        bagging_fraction: float | None = None,
        feature_fraction: float = 1.0,
        lambda_l1: float = 0.0,
        lambda_l2: float = 0.0,
        early_stopping_rounds: int = 300,
        class_weight: ClassWeight = None,
    ) -> None:
        self.layout = layout or ColumnLayout(0)
        self.n_estimators = n_estimators
        self.early_stopping_rounds = early_stopping_rounds
        self.class_weight = class_weight
        self.given = {
            "learning_rate": learning_rate,
            "num_leaves": num_leaves,
            "max_depth": max_depth,
            "min_data_in_leaf": min_data_in_leaf,
            "min_sum_hessian_in_leaf": min_sum_hessian_in_leaf,
            "bagging_fraction": bagging_fraction,
            "feature_fraction": feature_fraction,
            "lambda_l1": lambda_l1,
            "lambda_l2": lambda_l2,
        }

    def fit(self, problem: TrainingData) -> "Trees":
        """Return the fitted trees.

        Raises:
            ValueError: LightGBM refuses a value, or the training rows are of one class.
        """
        lightgbm = _lightgbm()
        inputs, targets = problem.train
        classes = np.unique(targets) if problem.classifies else None
        if classes is not None and len(classes) < 2:
            raise ValueError(f"the training rows are of {len(classes)} class")
        parameters = self._parameters(problem, classes)
        rounds = max(1, round(problem.decided.get("n_estimators", self.n_estimators)))
        try:
            train = lightgbm.Dataset(
                inputs,
                _codes(targets, classes),
                weight=self._weights(targets, classes),
                categorical_feature=[self.layout.plain + k for k in range(len(self.layout.cardinalities))],
                params=parameters,
            )
            held, callbacks = [], []
            if problem.validation is not None:
                others, theirs = of_known_classes(problem)
                held = [train.create_valid(others, _codes(theirs, classes))]
                callbacks = [lightgbm.early_stopping(self.early_stopping_rounds, verbose=False)]
            booster = lightgbm.train(parameters, train, rounds, valid_sets=held, callbacks=callbacks)
        except lightgbm.basic.LightGBMError as error:
            raise ValueError(str(error)) from error
        return Trees(checked(booster.model_to_string(num_iteration=booster.best_iteration)), classes)

    def decided(self, estimator: "Trees") -> dict[str, float]:
        """Return the number of trees (of each class, where there are more than two)."""
        return {"n_estimators": float(estimator.iterations)}

    def _parameters(self, problem: TrainingData, classes: Array | None) -> dict[str, Any]:
        usual = self.REGRESSION if classes is None else self.CLASSIFICATION
        given = {name: value for name, value in self.given.items() if value is not None}
        parameters: dict[str, Any] = {
            **usual,
            **given,
            "bagging_freq": 1,
            "seed": problem.seed % 2**31,  # LightGBM's are of 32 bits
            "num_threads": problem.threads,
            "deterministic": True,
            "force_row_wise": True,  # rather than what is quicker in a trial
            "verbosity": -1,
        }
        if classes is None:
            return {**parameters, "objective": "regression"}
        if len(classes) == 2:
            return {**parameters, "objective": "binary"}
        return {**parameters, "objective": "multiclass", "num_class": len(classes)}

    def _weights(self, targets: Array, classes: Array | None) -> Array | None:
        from sklearn.utils.class_weight import compute_sample_weight

        if classes is None or self.class_weight is None:
            return None
        weights: Array = compute_sample_weight(self.class_weight, targets)
        return weights


class Trees:
    """LightGBM's trees as a classifier, or without classes as a regressor.

    Its state is the trees as text, in LightGBM's own format, and the classes. A text from a file is `checked`.
    """

    def __init__(self, text: str, classes: Array | None = None) -> None:
        self.text = text
        self.classes = classes

    def __getstate__(self) -> dict[str, Any]:
        return {"text": self.text, "classes": self.classes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        text, classes = checked(state["text"]), state["classes"]
        outputs = int(_number(_lines(text.partition("\n\n")[0])["num_class"]))
        if outputs != (1 if classes is None or len(classes) == 2 else len(classes)):
            raise ValueError(f"trees of {outputs} outputs for {0 if classes is None else len(classes)} classes")
        self.__init__(text, classes)  # type: ignore[misc]
        assert self._booster  # LightGBM accepts it

    @property
    def classes_(self) -> Array:
        """The classes of the columns of `predict_proba`."""
        assert self.classes is not None
        return self.classes

    @property
    def iterations(self) -> int:
        """The number of trees, or with several classes of trees for each class."""
        several = self.classes is not None and len(self.classes) > 2
        return self.text.count("\nTree=") // (len(self.classes_) if several else 1)

    def predict(self, inputs: Array) -> Array:
        """Return values ``(rows,)``, float64."""
        values: Array = self._booster.predict(inputs, num_threads=1)  # the caller predicts blocks of rows in parallel
        return values

    def predict_proba(self, inputs: Array) -> Array:
        """Return probabilities ``(rows, classes)``, float64."""
        values = self.predict(inputs)
        return np.stack([1 - values, values], 1) if values.ndim == 1 else values

    @cached_property
    def _booster(self) -> Any:
        return _lightgbm().Booster(model_str=self.text)


def checked(text: str) -> str:
    """Return a text of LightGBM's trees with the lines that predictions depend on.

    LightGBM follows the indices in a text wherever they lead. So each must be in bounds, and a node come after its
    parent, as it does in trees that grew.

    Raises:
        ValueError: the text holds anything else.
    """
    head, *trees = re.split(r"\n+Tree=\d+\n", text.partition("\nend of trees")[0])
    header = _lines(head.removeprefix("tree\n"))
    outputs, columns = _number(header["num_class"]), _number(header["max_feature_idx"]) + 1
    objective = f"multiclass num_class:{outputs}" if outputs > 1 else "(binary sigmoid:1|regression)"
    right = (
        re.fullmatch(objective, header["objective"])
        and outputs >= 1
        and outputs == _number(header["num_tree_per_iteration"])
        and len(trees) % outputs == 0
        and columns == len(header["feature_names"].split()) == len(header["feature_infos"].split())
    )
    if not right:
        raise ValueError("the head of the trees is damaged")
    parts = ["tree\n" + _joined(header, HEADER)]
    for number, tree in enumerate(trees):
        lines = _lines(tree)
        _check_tree(lines, columns)
        parts.append(f"Tree={number}\n{_joined(lines, TREE)}")
    return "\n\n".join([*parts, "end of trees\n"])


def _check_tree(lines: dict[str, str], columns: int) -> None:
    """Refuse a tree that is not one, or whose indices lead elsewhere."""
    if any(not NUMBERS.fullmatch(value) for value in lines.values()) or lines.get("is_linear", "0") != "0":
        raise ValueError("a tree has something other than numbers")
    leaves, sets = _number(lines["num_leaves"]), _number(lines["num_cat"])
    if leaves < 1 or len(lines["leaf_value"].split()) != leaves:
        raise ValueError("a tree lacks leaves")
    if leaves == 1:
        return
    features, kinds, left, right = (
        np.array(lines[name].split(), np.int64)
        for name in ("split_feature", "decision_type", "left_child", "right_child")
    )
    thresholds, nodes = np.array(lines["threshold"].split(), np.float64), np.arange(leaves - 1)
    if any(len(values) != leaves - 1 for values in (features, kinds, left, right, thresholds)):
        raise ValueError("a tree lacks nodes")
    for children in (left, right):
        if not (np.where(children < 0, ~children < leaves, (children > nodes) & (children < leaves - 1))).all():
            raise ValueError("a node of a tree has no such child")
    chosen = thresholds[(kinds & CATEGORICAL) > 0]
    if not ((features >= 0) & (features < columns)).all() or not ((chosen >= 0) & (chosen < sets)).all():
        raise ValueError("a node of a tree splits by nothing")
    if sets:
        borders, words = [int(word) for word in lines["cat_boundaries"].split()], lines["cat_threshold"].split()
        ascending = all(before < after for before, after in pairwise(borders))
        if not ascending or len(borders) != sets + 1 or borders[0] != 0 or borders[-1] != len(words):
            raise ValueError("a tree's sets of categories are damaged")


def _lines(block: str) -> dict[str, str]:
    pairs = [line.partition("=")[::2] for line in block.splitlines() if line]
    lines = dict(pairs)
    if len(lines) < len(pairs):
        raise ValueError("the trees have a line twice")
    return lines


def _joined(lines: dict[str, str], names: tuple[str, ...]) -> str:
    return "\n".join(f"{name}={lines[name]}" for name in names if name in lines)


def _number(word: str) -> int:
    if not word.isdecimal() or len(word) > 9:
        raise ValueError(f"{word!r} is no count")
    return int(word)


def _codes(targets: Array, classes: Array | None) -> Array:
    return targets if classes is None else np.searchsorted(classes, targets)


def _lightgbm() -> ModuleType:
    try:
        import lightgbm
    except OSError as error:  # its library needs another: most often OpenMP's
        raise UserError(
            f"LightGBM cannot be loaded ({error}). Install OpenMP (apt install libgomp1, or brew install libomp), or "
            "take model=gradient_boosting."
        ) from None
    return lightgbm
