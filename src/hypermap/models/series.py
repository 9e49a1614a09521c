"""Networks for series: windows of what was, to what comes next.

They take the flat rows of `hypermap.data.preprocessors.series.SeriesPreprocessor`, float32 ``(batch, width)``, whose
sizes are in `window`, and return standardised values ``(batch, horizon * targets * quantiles)``.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hypermap.core.errors import UserError
from hypermap.models.layers import Dropout, initialize, positive
from hypermap.models.text import AttentionLayer

Normalization = Literal["none", "mean", "last", "standard", "difference", "seasonal"]
EPSILON = 1e-5  # added to a window's variance

Restore = Callable[[Tensor], Tensor]


class SeriesNetwork(nn.Module, ABC):
    """A network on windows, each normalised by itself, and what is known ahead added by a linear layer.

    Windows of one series lie on different levels, and later ones on levels that no training window had. So the window's
    own level is taken out first and put back in the end (after RevIN, Kim et al. 2022,
    https://openreview.net/forum?id=cGDAkQo1C0p, without its affine part).

    Args:
        window: sizes, as the preprocessor gives them: `lookback`, `horizon`, `targets`, `past`, `known`, `period`.
        outputs: width of the output.
        normalization: what is taken out of each column: ``none``; its ``mean``; its ``last`` value; mean and standard
            deviation (``standard``); or what a step adds to the one before (``difference``) or to that of the season
            before (``seasonal``) is forecast.
        alone: whether the network sees columns to forecast one by one, and no columns of the past.

    Raises:
        UserError: another normalization, a season longer than the lookback, or there are columns of the past that the
            network does not see.
    """

    def __init__(self, window: Mapping[str, Any], outputs: int, normalization: Normalization, *, alone: bool) -> None:
        super().__init__()
        if normalization not in get_args(Normalization):
            allowed = ", ".join(get_args(Normalization))
            raise UserError(f"model.normalization is {normalization!r}; it is {allowed}.")
        self.lookback, self.horizon, self.period = (int(window[key]) for key in ("lookback", "horizon", "period"))
        self.targets, self.past, self.known = (int(window[key]) for key in ("targets", "past", "known"))
        self.each = outputs // (self.horizon * self.targets)  # values for a step and column
        self.normalization = normalization
        if normalization == "seasonal" and self.period >= self.lookback:
            raise UserError(
                f"model.normalization is seasonal, and data.lookback={self.lookback} is not longer than a season of "
                f"{self.period} steps (data.period): raise it."
            )
        if alone and self.past:
            raise UserError(
                "this network sees each column to forecast by itself, and data.past and data.moving_averages are "
                "further columns: leave them out, or take model=series_tcn, series_rnn or mlp."
            )
        self.ahead = nn.Linear(self.known, self.targets * self.each, bias=False) if self.known else None
        if self.ahead is not None:
            nn.init.zeros_(self.ahead.weight)

    @abstractmethod
    def forecast(self, own: Tensor, past: Tensor, known: Tensor) -> Tensor:
        """Map the normalised columns to forecast, those of the past, ``(batch, lookback, columns)`` each, and those
        known ahead, ``(batch, lookback + horizon, columns)``, to ``(batch, horizon, targets, values)``.
        """

    def forward(self, rows: Tensor) -> Tensor:
        """Map rows ``(batch, width)`` to values ``(batch, outputs)``."""
        sizes = [self.lookback * self.targets, self.lookback * self.past, (self.lookback + self.horizon) * self.known]
        own, past, known = rows.split(sizes, 1)
        own = own.unflatten(1, (self.lookback, self.targets))
        past = past.unflatten(1, (self.lookback, self.past))
        known = known.unflatten(1, (self.lookback + self.horizon, self.known))
        own, restore = self._normalized(own)
        values = restore(self.forecast(own, past, known))
        if self.ahead is not None:
            values = values + self.ahead(known[:, self.lookback :]).unflatten(2, (self.targets, self.each))
        return values.flatten(1)

    def _normalized(self, own: Tensor) -> tuple[Tensor, Restore]:
        """Return columns ``(batch, lookback, targets)`` without their level, and what puts it back."""
        last = own[:, -1:]
        match self.normalization:
            case "mean":
                mean = own.mean(1, keepdim=True)
                return own - mean, lambda values: values + mean.unsqueeze(3)
            case "last":
                return own - last, lambda values: values + last.unsqueeze(3)
            case "standard":
                mean = own.mean(1, keepdim=True)
                spread = (own.var(1, keepdim=True, unbiased=False) + EPSILON).sqrt()
                return (own - mean) / spread, lambda values: values * spread.unsqueeze(3) + mean.unsqueeze(3)
            case "difference":
                steps = F.pad(own.diff(dim=1), (0, 0, 1, 0))
                return steps, lambda values: values.cumsum(1) + last.unsqueeze(3)
            case "seasonal":
                steps = F.pad(own[:, self.period :] - own[:, : -self.period], (0, 0, self.period, 0))
                return steps, lambda values: self._added(values, own[:, -self.period :])
        return own, lambda values: values

    def _added(self, values: Tensor, season: Tensor) -> Tensor:
        """Return differences from the season before, added up from the last season ``(batch, period, targets)``."""
        seasons = math.ceil(self.horizon / self.period)
        padded = F.pad(values, (0, 0, 0, 0, 0, seasons * self.period - self.horizon))
        summed = padded.unflatten(1, (seasons, self.period)).cumsum(1) + season[:, None, :, :, None]
        steps: Tensor = summed.flatten(1, 2)[:, : self.horizon]
        return steps


class SeriesLinear(SeriesNetwork):
    """A linear layer from the lookback to the horizon, which all columns share.

    With `trend_steps`, the trend, a moving average of so many steps, and what is left of it have a layer each: DLinear
    (Zeng et al. 2023, https://arxiv.org/abs/2205.13504). Without one, and with `normalization` ``standard``, it is
    RLinear (Li et al. 2023, https://arxiv.org/abs/2305.10721), with ``last`` NLinear of the former.

    Args:
        input_shape: ``(width,)``.
        outputs: width of the output.
        window: sizes (`SeriesNetwork`).
        trend_steps: of the moving average, an odd number; None: there is none.
        normalization: of a window (`SeriesNetwork`).

    Raises:
        UserError: an even moving average, or as `SeriesNetwork`.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int,
        window: Mapping[str, Any],
        trend_steps: int | None = 25,
        normalization: Normalization = "none",
    ) -> None:
        super().__init__(window, outputs, normalization, alone=True)
        if trend_steps is not None and trend_steps % 2 == 0:
            raise UserError(f"model.trend_steps is {trend_steps}; it is an odd number of steps, or null.")
        self.trend_steps = trend_steps
        self.rest = nn.Linear(self.lookback, self.horizon * self.each)
        self.trend = None if trend_steps is None else nn.Linear(self.lookback, self.horizon * self.each)

    def forecast(self, own: Tensor, past: Tensor, known: Tensor) -> Tensor:
        """See `SeriesNetwork`."""
        columns = own.transpose(1, 2)
        if self.trend is None or self.trend_steps is None:
            return self._steps(self.rest(columns))
        half = self.trend_steps // 2
        padded = torch.cat(
            [columns[:, :, :1].expand(-1, -1, half), columns, columns[:, :, -1:].expand(-1, -1, half)], 2
        )
        trend = F.avg_pool1d(padded, self.trend_steps, 1)
        return self._steps(self.rest(columns - trend) + self.trend(trend))

    def _steps(self, values: Tensor) -> Tensor:
        made: Tensor = values.unflatten(2, (self.horizon, self.each)).transpose(1, 2)
        return made


class SparseLinear(SeriesNetwork):
    """A linear layer from the seasons seen to the seasons to come, which all columns and all steps of a season share.

    SparseTSF (Lin et al. 2024, https://arxiv.org/abs/2405.00946): the window, smoothed by a convolution over a season,
    is folded by the season, and each of its steps is forecast from the same step of the seasons before.

    Args:
        input_shape: ``(width,)``.
        outputs: width of the output.
        window: sizes (`SeriesNetwork`).
        fold: steps to fold by; None: those of a season (``data.period``).
        normalization: of a window (`SeriesNetwork`).

    Raises:
        UserError: the lookback is shorter than a fold, or as `SeriesNetwork`.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int,
        window: Mapping[str, Any],
        fold: int | None = None,
        normalization: Normalization = "mean",
    ) -> None:
        super().__init__(window, outputs, normalization, alone=True)
        self.fold = fold or self.period
        positive("fold", self.fold)
        self.seen, self.come = self.lookback // self.fold, math.ceil(self.horizon / self.fold)
        if not self.seen:
            raise UserError(
                f"model.fold is {self.fold} steps, and data.lookback={self.lookback} is shorter: raise the latter."
            )
        self.smooth = nn.Conv1d(1, 1, 1 + 2 * (self.fold // 2), padding=self.fold // 2, bias=False)
        self.seasons = nn.Linear(self.seen, self.come * self.each, bias=False)

    def forecast(self, own: Tensor, past: Tensor, known: Tensor) -> Tensor:
        """See `SeriesNetwork`."""
        made: Tensor = (own.transpose(1, 2) @ self.matrix().T).unflatten(2, (self.horizon, self.each)).transpose(1, 2)
        return made

    def matrix(self) -> Tensor:
        """Return smoothing, folding and the layer as one linear map ``(horizon * values, lookback)``.

        A convolution of that many rows takes a small part of the time of one of all windows, and so does the product.
        """
        seasons = self.seasons.weight.unflatten(0, (self.come, self.each))
        steps = torch.eye(self.fold, dtype=seasons.dtype, device=seasons.device)
        folded = torch.einsum("jqi,pr->jpqir", seasons, steps).flatten(3).flatten(0, 2)[: self.horizon * self.each]
        padded = F.pad(folded, (self.lookback - self.seen * self.fold, 0)).unsqueeze(1)
        smoothed = F.conv_transpose1d(padded, self.smooth.weight, padding=self.fold // 2)
        return (padded + smoothed).squeeze(1)


class SeriesTCN(SeriesNetwork):
    """Causal convolutions over all columns, each block seeing twice as far back, and a linear layer on the last step.

    Bai et al. 2018, https://arxiv.org/abs/1803.01271.

    Args:
        input_shape: ``(width,)``.
        outputs: width of the output.
        window: sizes (`SeriesNetwork`).
        filters: of a convolution.
        kernel_size: steps that a convolution sees.
        depth: blocks of two convolutions; None: as many as see the whole lookback.
        dropout: of the convolutions' values.
        normalization: of a window (`SeriesNetwork`).

    Raises:
        UserError: a size below 1, a dropout outside [0, 1), or as `SeriesNetwork`.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int,
        window: Mapping[str, Any],
        filters: int = 32,
        kernel_size: int = 3,
        depth: int | None = None,
        dropout: float = 0.1,
        normalization: Normalization = "standard",
    ) -> None:
        super().__init__(window, outputs, normalization, alone=False)
        positive("filters", filters, kernel_size - 1, *([] if depth is None else [depth]))
        reach = max(1, math.ceil(math.log2(max(2, self.lookback / (2 * (kernel_size - 1)) + 1))))
        widths = [self.targets + self.past + self.known, *[filters] * (depth or reach)]
        self.blocks = nn.ModuleList(
            _CausalBlock(taken, filters, kernel_size, 2**k, dropout) for k, taken in enumerate(widths[:-1])
        )
        self.output = initialize(nn.Linear(filters, outputs), "glorot_uniform")

    def forecast(self, own: Tensor, past: Tensor, known: Tensor) -> Tensor:
        """See `SeriesNetwork`."""
        values = torch.cat([own, past, known[:, : self.lookback]], 2).transpose(1, 2)
        for block in self.blocks:
            values = block(values)
        made: Tensor = self.output(values[:, :, -1]).reshape(-1, self.horizon, self.targets, self.each)
        return made


class _CausalBlock(nn.Module):
    """Two convolutions that see no later step, added to what the block is given."""

    def __init__(self, taken: int, filters: int, size: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.before = (size - 1) * dilation
        self.first = nn.Conv1d(taken, filters, size, dilation=dilation)
        self.second = nn.Conv1d(filters, filters, size, dilation=dilation)
        self.same = nn.Identity() if taken == filters else nn.Conv1d(taken, filters, 1)
        self.drop = Dropout(dropout)

    def forward(self, values: Tensor) -> Tensor:
        """Map (batch, taken, steps) to (batch, filters, steps)."""
        inner = self.drop(F.relu(self.first(F.pad(values, (self.before, 0)))))
        inner = self.drop(F.relu(self.second(F.pad(inner, (self.before, 0)))))
        added: Tensor = F.relu(self.same(values) + inner)
        return added


class SeriesRNN(SeriesNetwork):
    """A recurrent network over all columns, and a linear layer on what it holds after the last step.

    LSTM: Hochreiter and Schmidhuber 1997, https://doi.org/10.1162/neco.1997.9.8.1735; GRU: Cho et al. 2014,
    https://arxiv.org/abs/1406.1078.

    Args:
        input_shape: ``(width,)``.
        outputs: width of the output.
        window: sizes (`SeriesNetwork`).
        cell: ``lstm`` or ``gru``.
        units: of a layer.
        layers: on top of each other.
        dropout: of what each layer gives.
        normalization: of a window (`SeriesNetwork`).

    Raises:
        UserError: a size below 1, another cell, a dropout outside [0, 1), or as `SeriesNetwork`.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int,
        window: Mapping[str, Any],
        cell: Literal["lstm", "gru"] = "gru",
        units: int = 64,
        layers: int = 1,
        dropout: float = 0.1,
        normalization: Normalization = "standard",
    ) -> None:
        super().__init__(window, outputs, normalization, alone=False)
        positive("layers", units, layers)
        if cell not in ("lstm", "gru"):
            raise UserError(f"model.cell is {cell!r}; it is lstm or gru.")
        kind = nn.LSTM if cell == "lstm" else nn.GRU
        widths = [self.targets + self.past + self.known, *[units] * layers]
        self.layers = nn.ModuleList(kind(taken, units, batch_first=True) for taken in widths[:-1])
        self.drop = Dropout(dropout)
        self.output = initialize(nn.Linear(units, outputs), "glorot_uniform")

    def forecast(self, own: Tensor, past: Tensor, known: Tensor) -> Tensor:
        """See `SeriesNetwork`."""
        values = torch.cat([own, past, known[:, : self.lookback]], 2)
        for layer in self.layers:
            values = self.drop(layer(values)[0])
        made: Tensor = self.output(values[:, -1]).reshape(-1, self.horizon, self.targets, self.each)
        return made


class SeriesTransformer(SeriesNetwork):
    """Attention between patches of a column, and a linear layer on all of them; all columns share the weights.

    PatchTST (Nie et al. 2023, https://arxiv.org/abs/2211.14730), with layer norms before each part.

    Args:
        input_shape: ``(width,)``.
        outputs: width of the output.
        window: sizes (`SeriesNetwork`).
        patch: steps of a patch.
        patch_stride: steps from a patch to the next.
        width: of a patch's vector, in all layers.
        heads: of attention; they share the width.
        layers: on top of each other.
        expansion: inner width of a layer's dense part, as a multiple of width.
        dropout: of the vectors, and of what each part adds.
        normalization: of a window (`SeriesNetwork`).

    Raises:
        UserError: a size below 1, heads that do not divide the width, a patch longer than the lookback, a dropout
            outside [0, 1), or as `SeriesNetwork`.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int,
        window: Mapping[str, Any],
        patch: int = 16,
        patch_stride: int = 8,
        width: int = 16,
        heads: int = 4,
        layers: int = 2,
        expansion: float = 4.0,
        dropout: float = 0.3,
        normalization: Normalization = "standard",
    ) -> None:
        super().__init__(window, outputs, normalization, alone=True)
        positive("layers", patch, patch_stride, width, heads, layers)
        if width % heads:
            raise UserError(
                f"model.heads is {heads} and model.width {width}: the heads share the width, in equal parts."
            )
        if patch > self.lookback:
            raise UserError(f"model.patch is {patch} steps, and data.lookback={self.lookback} is shorter: lower it.")
        self.patch, self.stride = patch, patch_stride
        self.patches = (self.lookback - patch) // patch_stride + 2  # the last one has the last step again and again
        self.vectors = initialize(nn.Linear(patch, width), "glorot_uniform")
        self.places = nn.Parameter(torch.randn(self.patches, width) * 0.02)
        self.layers = nn.ModuleList(
            AttentionLayer(width, heads, round(expansion * width), dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.drop = Dropout(dropout)
        self.output = nn.Linear(self.patches * width, self.horizon * self.each)

    def forecast(self, own: Tensor, past: Tensor, known: Tensor) -> Tensor:
        """See `SeriesNetwork`."""
        columns = own.transpose(1, 2)
        columns = torch.cat([columns, columns[:, :, -1:].expand(-1, -1, self.stride)], 2)
        patches = columns.unfold(2, self.patch, self.stride)[:, :, : self.patches]
        values = self.drop(self.vectors(patches).flatten(0, 1) + self.places)
        there = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
        for layer in self.layers:
            values = layer(values, there)
        come = self.output(self.drop(self.norm(values)).flatten(1))
        made: Tensor = come.reshape(-1, self.targets, self.horizon, self.each).transpose(1, 2)
        return made
