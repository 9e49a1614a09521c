"""Forecasts by rule: the last value, that of a season before, and the line from the first value to the last.

They have nothing to learn, and are what a network for series has to beat.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator

from hypermap.core.errors import UserError
from hypermap.core.typing import Array, Floats
from hypermap.models.sklearn_models import SklearnModel, TrainingData


class Naive(SklearnModel):
    """A rule, by the sizes of a window (`hypermap.data.preprocessors.series`)."""

    inputs: ClassVar = frozenset({"windows"})
    predicts: ClassVar = frozenset({"forecaster"})
    trusted: ClassVar = ("hypermap.models.naive.Rule",)
    rule: ClassVar[str]

    def __init__(self, window: Mapping[str, Any]) -> None:
        self.window = dict(window)

    def fit(self, problem: TrainingData) -> Any:
        """Return the rule; nothing is fitted."""
        return Rule(self.rule, self.window)


class LastValue(Naive):
    """Every step to come is as the last one."""

    rule = "last_value"


class SeasonalNaive(Naive):
    """Every step to come is as the last one of its place in the season (``data.period``).

    Raises:
        UserError: the lookback is shorter than a season.
    """

    rule = "seasonal_naive"

    def __init__(self, window: Mapping[str, Any]) -> None:
        super().__init__(window)
        if window["lookback"] < window["period"]:
            raise UserError(
                f"seasonal_naive repeats the last season of {window['period']} steps (data.period), and data.lookback="
                f"{window['lookback']} is shorter: raise it."
            )


class Drift(Naive):
    """The line through the first and the last value of the window."""

    rule = "drift"


class Rule(BaseEstimator):  # type: ignore[misc]
    """A rule as an estimator: flat rows of windows to standardised values ``(rows, horizon * targets * quantiles)``.

    Quantiles are those of normal errors, whose deviation is that of the rule's errors within the window and grows with
    the steps ahead (Hyndman and Athanasopoulos 2021, https://otexts.com/fpp3/prediction-intervals.html).
    """

    def __init__(self, rule: str = "last_value", window: Mapping[str, Any] | None = None) -> None:
        self.rule = rule
        self.window = window

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict(self, rows: Array) -> Floats:
        """Return the forecasts of rows, float64."""
        from scipy.stats import norm

        assert self.window is not None
        lookback, horizon, targets, period = (
            int(self.window[key]) for key in ("lookback", "horizon", "targets", "period")
        )
        own = np.asarray(rows)[:, : lookback * targets].astype(np.float64).reshape(-1, lookback, targets)
        ahead = np.arange(1, horizon + 1)[:, np.newaxis]
        if self.rule == "seasonal_naive":
            values = own[:, lookback - period + (ahead[:, 0] - 1) % period]
            errors, grown = own[:, period:] - own[:, :-period], np.sqrt((ahead - 1) // period + 1)
        else:
            steps = max(1, lookback - 1)
            slope = (own[:, -1:] - own[:, :1]) / steps if self.rule == "drift" else np.zeros_like(own[:, :1])
            values = own[:, -1:] + slope * ahead
            errors = np.diff(own, axis=1) - slope
            grown = np.sqrt(ahead * (1 + ahead / steps)) if self.rule == "drift" else np.sqrt(ahead)
        levels = list(self.window["quantiles"])
        if not levels:
            return values.reshape(len(values), -1)
        spread = np.sqrt((errors**2).mean(axis=1, keepdims=True)) if errors.shape[1] else np.zeros_like(own[:, :1])
        made = values[..., np.newaxis] + (spread * grown)[..., np.newaxis] * norm.ppf(levels)
        found: Floats = made.reshape(len(values), -1)
        return found
