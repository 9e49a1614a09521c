"""Windows of series as network inputs: standardised by the training steps, with the calendar.

A raw row is a window, float32: `HEAD` numbers that say where it stands and how it is built, and then its steps, each
with the values of all columns: those to forecast, those known until now (`past`), and those known ahead (`known`). What
is to be forecast stands in the row as well, so that the series can be put together again from training rows, each step
once; `SeriesPreprocessor` cuts it off.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hypermap.core.typing import Array, Floats
from hypermap.data.manifest import Manifest
from hypermap.data.preprocessor import Fitted, Preprocessor
from hypermap.tasks.regression import LOGS

CYCLES = {"hour": 3600.0, "day": 86_400.0, "week": 604_800.0, "year": 365.2425 * 86_400}
"""Seconds of what the calendar has turns of. 1970-01-01 was a Thursday: the turn of a week begins there."""

MONTH = CYCLES["year"] / 12


@dataclass(frozen=True)
class Head:
    """What a raw row begins with.

    Attributes:
        series: number of the window's series, from 1.
        position: number of the first step to forecast, from 0, on the clock that all series share.
        day: of the window's first step, days since 1970-01-01.
        second: of that day.
        months: of a step; 0 if a step is `seconds` long.
        seconds: of a step; 0 if times are mere numbers.
        period: steps of a season.
        lookback: steps before the forecast.
        horizon: steps to forecast.
        targets: columns to forecast; the first of a step.
        past: columns known until the forecast begins.
        known: columns known ahead.
    """

    series: int
    position: int
    day: int
    second: int
    months: int
    seconds: int
    period: int
    lookback: int
    horizon: int
    targets: int
    past: int
    known: int

    @property
    def width(self) -> int:
        """The number of columns."""
        return self.targets + self.past + self.known

    @property
    def steps(self) -> int:
        """The number of steps of a window."""
        return self.lookback + self.horizon

    @classmethod
    def of(cls, row: Array) -> "Head":
        """Return that of a raw row."""
        return cls(*(int(value) for value in row[:HEAD]))


HEAD = len(Head.__annotations__)
OF_ROW = ("series", "position", "day", "second")
"""What differs from row to row of a file."""


def steps_of(rows: Array, head: Head) -> Array:
    """Return the windows of raw rows, ``(rows, steps, columns)``."""
    return rows[:, HEAD:].reshape(len(rows), head.steps, head.width)


def put_together(rows: Array, head: Head) -> dict[int, Floats]:
    """Return each series as raw rows have it, by its number: float64 ``(steps, columns)``, NaN where no row reaches."""
    windows, heads = steps_of(rows, head), rows[:, :2].astype(np.int64)
    found = {}
    for number in np.unique(heads[:, 0]).tolist():
        own = np.flatnonzero(heads[:, 0] == number)
        starts = heads[own, 1] - head.lookback
        whole = np.full((int(starts.max() - starts.min()) + head.steps, head.width), np.nan)
        for row, start in zip(own, starts - starts.min(), strict=True):
            whole[start : start + head.steps] = windows[row]
        found[number] = whole
    return found


class SeriesPreprocessor(Preprocessor):
    """Each column standardised by the training steps, each of them counted once, and what is to come cut off.

    A row of a network's inputs is flat, float32: the lookback of the columns to forecast, that of those of the past,
    and both parts of those known ahead with the calendar's, step by step. `extras` has the sizes as ``window``.
    """

    @classmethod
    def fit(cls, inputs: Array, info: Manifest) -> Fitted:
        """Return what the training windows decide, that of the targets as well: the windows have both.

        Beside the scale of each column it is the mean absolute error of the seasonal naive forecast on the training
        steps of each series, for the mean absolute scaled error.
        """
        head = Head.of(inputs[0])
        series = put_together(inputs, head)
        log = info.target_transform
        levels = {number: _logs(values, head, log) for number, values in series.items()}
        every = np.concatenate(list(levels.values()))
        shift, spread = np.nanmean(every, axis=0), np.nanstd(every, axis=0)
        varies = np.nanmax(every, axis=0) > np.nanmin(every, axis=0)
        scale = np.where(varies & (spread > 0), spread, 1.0)
        calendar = list(info.arguments.get("calendar") or [])
        known = head.known + 2 * len(calendar)
        window = {
            "lookback": head.lookback,
            "horizon": head.horizon,
            "targets": head.targets,
            "past": head.past,
            "known": known,
            "period": head.period,
            "quantiles": list(info.arguments.get("quantiles") or []),
        }
        naive = {
            str(number): _naive_errors(values[:, : head.targets], head.period) for number, values in series.items()
        }
        return Fitted(
            {
                "shape": [head.lookback * (head.targets + head.past) + head.steps * known],
                "extras": {"window": window},
                "shift": shift.tolist(),
                "scale": scale.tolist(),
                "target": {
                    **window,
                    "step": [head.months, head.seconds],
                    "gap": int(info.arguments.get("gap") or 0),
                    "columns": _names(info.arguments.get("target"), head.targets),
                    "shift": shift[: head.targets].tolist(),
                    "scale": scale[: head.targets].tolist(),
                    "naive": naive,
                },
            }
        )

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return flat rows, float32."""
        made: Tensor = self.module()(inputs)
        return made

    def points(self, features: Tensor) -> Array | None:
        """Return None: windows that overlap lie on a string, which is no map."""
        return None

    def module(self) -> nn.Module:
        """Return the same in torch."""
        manifest = self.manifest
        return _Windows(
            manifest.extras["window"],
            manifest.shift,
            manifest.scale,
            manifest.target_transform,
            list(manifest.arguments.get("calendar") or []),
        )


class _Windows(nn.Module):
    """From raw rows to a network's inputs."""

    shift: Tensor
    scale: Tensor

    def __init__(
        self,
        window: dict[str, int],
        shift: Sequence[float],
        scale: Sequence[float],
        log: str | None,
        calendar: Sequence[str],
    ) -> None:
        super().__init__()
        self.lookback, self.horizon = window["lookback"], window["horizon"]
        self.targets, self.past = window["targets"], window["past"]
        self.log, self.cycles = log, [CYCLES[name] for name in calendar]
        self.register_buffer("shift", torch.tensor(shift, dtype=torch.float64))
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float64))

    def forward(self, rows: Tensor) -> Tensor:
        """Return ``(rows, width)`` float32 of raw rows."""
        steps = rows[:, HEAD:].unflatten(1, (self.lookback + self.horizon, -1))
        own = self._scaled(steps[:, : self.lookback, : self.targets], 0, self.log)
        past = self._scaled(steps[:, : self.lookback, self.targets : self.targets + self.past], self.targets)
        known = self._scaled(steps[:, :, self.targets + self.past :], self.targets + self.past)
        parts = [own, past, torch.cat([known, *self._calendar(rows)], 2)]
        return torch.cat([part.flatten(1) for part in parts], 1)

    def _scaled(self, values: Tensor, first: int, log: str | None = None) -> Tensor:
        columns = slice(first, first + values.shape[2])
        values = values.double()
        if log:
            values = values.log() if log == "log" else values.log1p()
        return ((values - self.shift[columns]) / self.scale[columns]).float()

    def _calendar(self, rows: Tensor) -> list[Tensor]:
        """Return sine and cosine of each cycle at each step, ``(rows, steps, 2)`` each."""
        if not self.cycles:
            return []
        head = rows[:, 2:6].double().unsqueeze(2)
        step = head[:, 2] * MONTH + head[:, 3]
        count = torch.arange(self.lookback + self.horizon, dtype=torch.float64, device=rows.device)
        seconds = head[:, 0] * CYCLES["day"] + head[:, 1] + step * count
        turns = [2 * torch.pi * torch.remainder(seconds, cycle) / cycle for cycle in self.cycles]
        return [torch.stack([turn.sin(), turn.cos()], 2).float() for turn in turns]


def _logs(values: Floats, head: Head, log: str | None) -> Floats:
    """Return a series with the logarithms of what is to be forecast, if these are asked for."""
    if not log:
        return values
    return np.concatenate([LOGS[log][0](values[:, : head.targets]), values[:, head.targets :]], axis=1)


def _naive_errors(values: Floats, period: int) -> list[float]:
    """Return the mean absolute difference from a season before for each column; that from a step before if the series
    is shorter than a season, or the same in each.
    """
    errors = np.ones(values.shape[1])
    for lag in (1, period):
        if len(values) > lag:
            apart = np.abs(values[lag:] - values[:-lag])
            known = np.nanmean(np.where(np.isnan(apart).all(axis=0), 0.0, apart), axis=0)
            errors = np.where(known > 0, known, errors)
    found: list[float] = errors.tolist()
    return found


def _names(target: Any, columns: int) -> list[str]:
    given = target if isinstance(target, list) else [target]
    return [str(name) for name in given] if target is not None and len(given) == columns else ["value"] * columns
