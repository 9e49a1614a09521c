"""What a report says of forecasts of series."""

from functools import cached_property
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from hypermap.core.typing import Floats
from hypermap.data.preprocessors.series import Head, steps_of
from hypermap.reports.run import plots, wording
from hypermap.reports.run.pictures import BLUE, GREEN, GREY, VERMILLION, WIDTH, picture
from hypermap.reports.run.run import Run
from hypermap.reports.run.task_report import TaskReport
from hypermap.tasks.base import make_task
from hypermap.tasks.forecast import Forecast

DRAWN = 3
"""Windows that are drawn: the first of the test, one in the middle, and the last."""

SEASONS = 3
"""Seasons before a forecast that are drawn, if they are longer than the forecast."""

LAGS = 48
"""Lags of the autocorrelation, or two seasons if they are more, up to a quarter of the residuals."""

SHOWN = 6
"""Steps in the table of errors by horizon."""


class ForecastReport(TaskReport):
    """Forecasts against what came, errors by the steps ahead, and what residuals still have in common."""

    headline = ("scaled_mse", "mase")
    compared = ("r2", "mase")

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        made = make_task(run.manifest)
        assert isinstance(made, Forecast)
        self.forecast = made
        self.head = Head.of(run.inputs[0])

    @cached_property
    def windows(self) -> Floats:
        """The steps of the test windows that a forecast sees, of the columns to forecast, in their own units."""
        steps = steps_of(self.run.inputs, self.head)
        return steps[:, : self.head.lookback, : self.head.targets].astype(np.float64)

    @cached_property
    def true(self) -> Floats:
        """What came, ``(rows, horizon, columns)``."""
        return self.forecast.steps(self.run.targets.astype(np.float64))

    @cached_property
    def naive(self) -> Floats | None:
        """The seasonal naive forecast, likewise; None if the lookback is shorter than a season."""
        lookback, period = self.head.lookback, self.head.period
        if lookback < period:
            return None
        return self.windows[:, lookback - period + np.arange(self.head.horizon) % period]

    @cached_property
    def errors(self) -> dict[str, Floats]:
        """The mean absolute error at each step ahead, standardised, ``(horizon,)``, of the model and of the naive."""
        task = self.forecast
        scaled = task.scaled(self.true)
        found = {"model": task.scaled(task.points(self.run.predictions))}
        if self.naive is not None:
            found["seasonal naive"] = task.scaled(self.naive)
        return {name: np.abs(scaled - own).mean(axis=(0, 2)) for name, own in found.items()}

    @cached_property
    def correlations(self) -> Floats:
        """The autocorrelation of the errors one step ahead, of the first series and column, from lag 1 on."""
        heads = self.run.inputs[:, :2]
        own = np.flatnonzero(heads[:, 0] == heads[0, 0])
        own = own[np.argsort(heads[own, 1], kind="stable")]
        residuals = (self.true - self.forecast.points(self.run.predictions))[own, 0, 0]
        return autocorrelation(residuals, min(max(LAGS, 2 * self.head.period), len(residuals) // 4))

    def pictures(self) -> dict[str, bytes]:
        """Return the pictures by name."""
        drawn = {**super().pictures(), "forecasts": _forecasts(self), "horizon": _horizon(self.errors)}
        if len(self.correlations):
            drawn["autocorrelation"] = _autocorrelation(self.correlations, self._band)
        return drawn

    @property
    def _band(self) -> float:
        """Within which 95 % of the autocorrelations of white noise lie."""
        heads = self.run.inputs[:, 0]
        return 1.96 / float(np.sqrt((heads == heads[0]).sum()))

    def tables(self) -> dict[str, plots.Rows]:
        """Return the tables that `dvc plots` draws, by name: the first column one step ahead."""
        points = self.forecast.points(self.run.predictions)[:, 0, 0]
        return {**super().tables(), "residuals": plots.residual_rows(self.true[:, 0, 0], points)}

    def sections(self) -> list[str]:
        """Return the pictures of forecasts and errors, and what may still leak."""
        task, head = self.forecast, self.head
        text = [
            "## Forecasts against what came",
            "![Forecasts](pictures/forecasts.png)",
            f"Three of the {len(self.true):,} windows of the test, of {wording.code(task.names[0])}"
            + (f", the first of {len(task.names)} columns" if len(task.names) > 1 else "")
            + f": each sees {head.lookback} steps and forecasts {head.horizon}, and a season has {head.period}.",
            "## Errors by steps ahead",
            "![Errors by steps ahead](pictures/horizon.png)",
            self._horizon_table(),
        ]
        if len(task.quantiles) > 1 and "coverage" in self.run.test:
            low, high = task.quantiles[0], task.quantiles[-1]
            text.append(
                f"{self.run.test['coverage']:.1%} of what came lies between the quantiles {low:g} and {high:g}, where "
                f"{high - low:.0%} should. That holds for later steps only as far as the series goes on as before."
            )
        if len(self.correlations):
            found = self.correlations
            outside, largest = int((np.abs(found) > self._band).sum()), int(np.abs(found).argmax())
            text += [
                "## Autocorrelation of the errors one step ahead",
                "![Autocorrelation](pictures/autocorrelation.png)",
                f"{outside} of {len(found)} lags lie outside the band of white noise, where {0.05 * len(found):.0f} "
                f"would by chance; the largest is {found[largest]:+.2f} at lag {largest + 1}. What is outside, the "
                "forecast could still have learned.",
            ]
        return [
            *text,
            "## What was kept apart",
            "Test windows forecast steps after all that training and validation windows see or forecast, and "
            "validation windows steps after those of training; what a window sees may reach back into the steps "
            "before. Scales and the scaled error's naive forecast are of the training steps. Windows overlap, so that "
            "neighbors are alike: the intervals above are too narrow.",
        ]

    def _horizon_table(self) -> str:
        """Return the scaled mean absolute error at some steps ahead."""
        horizon = self.head.horizon
        steps = np.unique(np.linspace(1, horizon, min(SHOWN, horizon)).round().astype(int)).tolist()
        lines = [
            (name, *(wording.significant(own[step - 1]) for step in steps), wording.significant(own.mean()))
            for name, own in self.errors.items()
        ]
        return wording.table(("scaled_mae, steps ahead", *map(str, steps), "all"), lines)


def autocorrelation(values: Floats, lags: int) -> Floats:
    """Return the autocorrelation of values ``(n,)`` at the lags from 1 to `lags`; of constant values it is 0."""
    centred = values - values.mean()
    variance = float((centred**2).sum())
    if variance == 0 or lags < 1:
        return np.zeros(max(0, lags))
    return np.array([(centred[lag:] * centred[:-lag]).sum() / variance for lag in range(1, lags + 1)])


@picture
def _forecasts(report: ForecastReport) -> Figure:
    """Draw some windows: what was seen, what came, the forecast with its quantiles, and the seasonal naive one."""
    rows = np.unique(np.linspace(0, len(report.true) - 1, DRAWN).round().astype(int))
    figure = Figure(figsize=(WIDTH, 2.3 * len(rows)))
    head, task = report.head, report.forecast
    seen = min(head.lookback, max(SEASONS * head.period, head.horizon))
    ahead = np.arange(1, head.horizon + 1)
    points, steps = task.points(report.run.predictions), task.steps(report.run.predictions)
    for axes, row in zip(figure.subplots(len(rows), 1, squeeze=False)[:, 0], rows, strict=True):
        axes.plot(np.arange(1 - seen, 1), report.windows[row, -seen:, 0], color=GREY, linewidth=1.2, label="seen")
        axes.plot(ahead, report.true[row, :, 0], color="#222222", linewidth=1.4, label="what came")
        if report.naive is not None:
            axes.plot(ahead, report.naive[row, :, 0], color=GREEN, linewidth=1.0, label="seasonal naive")
        if len(task.quantiles) > 1:
            axes.fill_between(ahead, steps[row, :, 0, 0], steps[row, :, 0, -1], color=BLUE, alpha=0.2, linewidth=0)
        axes.plot(ahead, points[row, :, 0], color=BLUE, linewidth=1.6, label="forecast")
        axes.axvline(0.5, color=GREY, linestyle="--", linewidth=1.0)
        axes.set_title(f"test window {row + 1:,} of {len(report.true):,}")
    axes.set_xlabel("steps ahead")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", ncols=4)
    return figure


@picture
def _horizon(errors: dict[str, Floats]) -> Figure:
    """Draw the mean absolute error against the steps ahead."""
    figure = Figure(figsize=(WIDTH, 3.2))
    axes: Any = figure.subplots()
    for (name, own), colour in zip(errors.items(), (BLUE, GREEN), strict=False):
        steps = np.arange(1, len(own) + 1)
        axes.plot(steps, own, color=colour, marker="o" if len(own) <= 15 else None, label=name)
    axes.set(xlabel="steps ahead", title="mean absolute error, standardised")
    axes.set_ylim(bottom=0)
    axes.legend(loc="lower right")
    return figure


@picture
def _autocorrelation(values: Floats, band: float) -> Figure:
    """Draw autocorrelations against the lag, and the band of white noise."""
    figure = Figure(figsize=(WIDTH, 2.8))
    axes: Any = figure.subplots()
    lags = np.arange(1, len(values) + 1)
    outside = np.abs(values) > band
    axes.axhspan(-band, band, color=GREY, alpha=0.25, linewidth=0)
    axes.vlines(lags, 0, values, colors=[VERMILLION if out else BLUE for out in outside], linewidth=1.6)
    axes.axhline(0, color=GREY, linewidth=1.0)
    axes.set(xlabel="lag in steps", title="autocorrelation of the errors one step ahead (band: white noise, 95 %)")
    return figure
