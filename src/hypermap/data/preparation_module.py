"""A fitted preparation as a torch module, so that a network and its preprocessing export as one program.

The parts map float64 ``(rows, columns)`` to float64 and compute in the same order as scikit-learn, so that only
rounding differs. Missing values are NaN, and remain so except in `Impute`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hypermap.core.errors import UserError
from hypermap.data.arithmetic import Arithmetic
from hypermap.data.preparation import Preparation
from hypermap.data.robust_clip import LIMIT, RobustClip

EDGE = 1e-7  # scikit-learn's BOUNDS_THRESHOLD: values closer to an outermost quantile, or beyond, count as it


class Impute(nn.Module):
    """Replace missing numbers by a column's `fill` (SimpleImputer)."""

    fill: Tensor

    def __init__(self, fill: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("fill", _float64(fill))

    def forward(self, rows: Tensor) -> Tensor:
        """Return the same shape, without NaN."""
        return torch.where(rows.isnan(), self.fill, rows)


class Affine(nn.Module):
    """``(rows - shift) / scale * factor + offset``, each with one number per column, or None."""

    shift: Tensor | None
    scale: Tensor | None
    factor: Tensor | None
    offset: Tensor | None

    def __init__(
        self,
        shift: np.ndarray | None = None,
        scale: np.ndarray | None = None,
        factor: np.ndarray | None = None,
        offset: np.ndarray | None = None,
    ) -> None:
        super().__init__()
        for name, values in (("shift", shift), ("scale", scale), ("factor", factor), ("offset", offset)):
            self.register_buffer(name, None if values is None else _float64(values))

    def forward(self, rows: Tensor) -> Tensor:
        """Return the same shape."""
        rows = rows if self.shift is None else rows - self.shift
        rows = rows if self.scale is None else rows / self.scale
        rows = rows if self.factor is None else rows * self.factor
        return rows if self.offset is None else rows + self.offset


class Quantiles(nn.Module):
    """QuantileTransformer: a value's rank among the training rows, then (if `normal`) its normal quantile.

    Between two quantiles the rank is interpolated; if several quantiles are equal, it is the middle of their ranks, by
    interpolation from below and from above.
    """

    quantiles: Tensor
    references: Tensor

    def __init__(self, quantiles: np.ndarray, references: np.ndarray, *, normal: bool) -> None:
        super().__init__()
        self.normal = normal
        self.register_buffer("quantiles", _float64(quantiles.T))  # (columns, quantiles)
        self.register_buffer("references", _float64(references))
        ends = torch.tensor([EDGE - np.spacing(1), 1 - (EDGE - np.spacing(1))], dtype=torch.float64)
        self.lowest, self.highest = torch.special.ndtri(ends).tolist()

    def forward(self, rows: Tensor) -> Tensor:
        """Return the same shape."""
        values = rows.T.contiguous()
        ranks = _interpolated(values, self.quantiles, self.references)
        ranks = 0.5 * (ranks - _interpolated(-values, -self.quantiles.flip(1), -self.references.flip(0)))
        low, high = self.quantiles[:, :1], self.quantiles[:, -1:]
        edge = EDGE if self.normal else 0.0
        ranks = torch.where(values + edge > high if self.normal else values == high, 1.0, ranks)
        ranks = torch.where(values - edge < low if self.normal else values == low, 0.0, ranks)
        return (torch.special.ndtri(ranks).clamp(self.lowest, self.highest) if self.normal else ranks).T


class Components(nn.Module):
    """PCA: the centered rows projected to the training rows' principal axes ``(components, columns)``."""

    mean: Tensor
    axes: Tensor

    def __init__(self, mean: np.ndarray, axes: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("mean", _float64(mean))
        self.register_buffer("axes", _float64(axes))

    def forward(self, rows: Tensor) -> Tensor:
        """Map (rows, columns) to (rows, components)."""
        return rows @ self.axes.T - self.mean @ self.axes.T


class SmoothClip(nn.Module):
    """``x / sqrt(1 + (x / 3)^2)``, the second half of `RobustClip`."""

    def forward(self, rows: Tensor) -> Tensor:
        """Return the same shape."""
        return rows / torch.sqrt(1 + torch.square(rows / LIMIT))


class Codes(nn.Module):
    """Maps category codes of the schema to those of the model, by a lookup table for each column.

    The entries of a table: for a missing category, for an unknown one (-1), for 0, 1, …
    """

    table: Tensor

    def __init__(self, table: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("table", _float64(table))  # (columns, entries)

    def forward(self, rows: Tensor) -> Tensor:
        """Return the same shape."""
        entry = torch.where(rows.isnan(), 0.0, rows + 2).long().clamp(0, self.table.shape[1] - 1)
        return self.table.gather(1, entry.T).T


class Means(nn.Module):
    """Maps category codes of the schema to the means of the target and their scale, by lookup tables like `Codes`."""

    table: Tensor

    def __init__(self, table: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("table", _float64(table))  # (columns, entries, means)

    def forward(self, rows: Tensor) -> Tensor:
        """Map (rows, columns) to (rows, columns * means)."""
        entry = torch.where(rows.isnan(), 0.0, rows + 2).long().clamp(0, self.table.shape[1] - 1)
        return self.table[torch.arange(self.table.shape[0], device=rows.device), entry].flatten(1)


class Missing(nn.Module):
    """Whether a number is missing (MissingIndicator)."""

    def forward(self, rows: Tensor) -> Tensor:
        """Return the same shape, bool."""
        return rows.isnan()


class Part(nn.Module):
    """A module applied to some columns of a matrix."""

    columns: Tensor

    def __init__(self, columns: np.ndarray, mapping: nn.Module) -> None:
        super().__init__()
        self.register_buffer("columns", torch.from_numpy(columns))
        self.mapping = mapping

    def forward(self, matrix: Tensor) -> Tensor:
        """Map (rows, columns of the matrix) float64 to (rows, columns of the part) float32."""
        mapped: Tensor = self.mapping(matrix[:, self.columns])
        return mapped.float()


class Prepare(nn.Module):
    """A whole `Preparation`: maps a matrix ``(rows, columns)`` float64 to features ``(rows, layout.width)`` float32.

    Arithmetic features are behind the matrix's own columns, as `with_arithmetic` has them.

    Raises:
        UserError: a part of it is not supported here.
    """

    def __init__(self, preparation: Preparation, arithmetic: Sequence[Arithmetic] = ()) -> None:
        super().__init__()
        self.arithmetic = tuple(arithmetic)
        transformer = preparation.transformer
        fitted = transformer.named_transformers_
        parts = []
        for name, _, chosen in transformer.transformers_:
            columns = np.array(chosen)
            if name in ("numbers", "arithmetic"):
                parts.append(Part(columns, as_module(fitted[name])))
            elif name == "encoded":
                parts.append(Part(columns, Means(_means(fitted[name], len(columns)))))
            elif name == "missing" and len(fitted[name].features_):
                parts.append(Part(columns[fitted[name].features_], Missing()))
            elif name == "categories":
                parts.append(Part(columns, Codes(_tabulated(preparation, columns))))
        self.parts = nn.ModuleList(parts)

    def forward(self, matrix: Tensor) -> Tensor:
        """Return the result of `Preparation.transform`."""
        if self.arithmetic:
            made = torch.stack([feature(matrix) for feature in self.arithmetic], 1)
            matrix = torch.cat([matrix, torch.where(made.isfinite(), made, torch.nan)], 1)
        return torch.cat([part(matrix) for part in self.parts], 1)


class Scale(nn.Module):
    """Images and plain tables: ``(rows - shift) * factor`` along dimension 1, float32, as `Scaling` does."""

    shift: Tensor
    factor: Tensor

    def __init__(self, shift: Sequence[float], scale: Sequence[float], dimensions: int) -> None:
        super().__init__()
        along = (1, -1, *[1] * (dimensions - 2))
        self.register_buffer("shift", torch.tensor(shift, dtype=torch.float32).view(along))
        self.register_buffer("factor", torch.tensor([1 / value for value in scale], dtype=torch.float32).view(along))

    def forward(self, rows: Tensor) -> Tensor:
        """Return inputs of any dtype as float32, of the same shape."""
        return (rows.float() - self.shift) * self.factor


def as_module(estimator: Any) -> nn.Module:
    """Return a fitted transformer of numbers as a module equivalent to its `transform`.

    Raises:
        UserError: its type is not supported here.
    """
    from sklearn import preprocessing
    from sklearn.decomposition import PCA
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline

    match estimator:
        case None | "passthrough":
            return nn.Identity()
        case Pipeline():
            return nn.Sequential(*(as_module(step) for _, step in estimator.steps))
        case SimpleImputer(add_indicator=False, keep_empty_features=True):  # columns are never dropped
            return Impute(estimator.statistics_)
        case preprocessing.StandardScaler():
            return Affine(shift=estimator.mean_, scale=estimator.scale_)
        case preprocessing.MinMaxScaler(clip=False):
            return Affine(factor=estimator.scale_, offset=estimator.min_)
        case preprocessing.RobustScaler():
            return Affine(
                shift=estimator.center_ if estimator.with_centering else None,
                scale=estimator.scale_ if estimator.with_scaling else None,
            )
        case RobustClip():
            return nn.Sequential(Affine(shift=estimator.center_, scale=estimator.scale_), SmoothClip())
        case preprocessing.QuantileTransformer():
            normal = estimator.output_distribution == "normal"
            return Quantiles(estimator.quantiles_, estimator.references_, normal=normal)
        case PCA(whiten=False):
            return Components(estimator.mean_, estimator.components_)
    raise UserError(
        f"the preparation has a {type(estimator).__name__} ({estimator}), which cannot be exported. "
        "Use the model with python src/predict.py."
    )


def _tabulated(preparation: Preparation, columns: np.ndarray) -> np.ndarray:
    """Return the lookup tables ``(columns, entries)`` of `Codes`, by preprocessing every code of the schema.

    Codes above the largest fitted one are unseen, like -1: the last entry is for them.
    """
    codes = _every_code(preparation.transformer.named_transformers_["categories"].named_steps["codes"])
    matrix = np.zeros((len(codes), preparation.transformer.n_features_in_))
    matrix[:, columns] = codes
    return preparation.transform(matrix)[:, preparation.layout.plain :].T


def _means(encoded: Any, columns: int) -> np.ndarray:
    """Return the lookup tables ``(columns, entries, means)`` of `Means` for a fitted pipeline, likewise."""
    codes = _every_code(encoded.named_steps["means"])
    found: np.ndarray = encoded.transform(np.repeat(codes, columns, axis=1))
    return found.reshape(len(codes), columns, -1).transpose(1, 0, 2)


def _every_code(encoder: Any) -> np.ndarray:
    """Return NaN, -1, each code from 0 to the largest that the encoder knows, and one more ``(entries, 1)``."""
    most = int(max((known.max() for known in encoder.categories_), default=0))
    return np.array([np.nan, -1, *range(most + 2)])[:, np.newaxis]


def _interpolated(values: Tensor, grid: Tensor, levels: Tensor) -> Tensor:
    """Return `numpy.interp` per column: values ``(columns, rows)`` on the ascending `grid` ``(columns, points)``."""
    last = grid.shape[1] - 1
    right = torch.searchsorted(grid, values, right=True).clamp(1, last)
    left = right - 1
    begin, end = grid.gather(1, left), grid.gather(1, right)
    width = end - begin  # zero only if the outermost points are equal; then the bounds below decide
    slope = (levels[right] - levels[left]) / torch.where(width > 0, width, 1.0)
    found = slope * (values - begin) + levels[left]
    found = torch.where(values >= grid[:, -1:], levels[-1], found)
    return torch.where(values < grid[:, :1], levels[0], found)


def _float64(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(values, dtype=np.float64, order="C"))  # contiguous, not a view of the estimator
