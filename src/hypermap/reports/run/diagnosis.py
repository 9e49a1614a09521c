"""What a run's curves say, in words: one small function a finding, each with the numbers behind it.

The questions are those of Google's *Deep Learning Tuning Playbook* for a single run. Two kinds of noise are kept
apart from a trend: how far a score on so many rows may lie from the truth (`score_error`), and how much a curve
shakes from one epoch to the next (`shake`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hypermap.tasks.base import LOSSES, Task

GAP = 0.05
"""Training score above the validation score that is worth acting on: five points of accuracy, or of R²."""

STANDARD_ERRORS = 2.0
"""A difference this many standard errors wide is no noise: about 95 % for a normal error."""

LOSS_RISE = 0.10
"""Rise of the validation loss above its best, as a share of it: less is common in runs with nothing wrong."""

RISE_EPOCHS = 3
"""Epochs after the best before a rise is called one: the next one or two are often a wobble."""

LATE = 0.25
"""The playbook's last quarter: a best epoch in there says that training may have ended too soon."""

LOSS_GAIN = 0.03
"""Fall of the validation loss between the last two quarters that makes more epochs worth their time."""

LEVEL = 0.05
"""Fall of the training loss between the last two quarters below which it has levelled off."""

SCORE_SHAKE = 0.02
"""Epoch-to-epoch deviation of the validation score at which the kept epoch is partly a matter of luck."""

LOSS_JUMP = 1.5
"""Training loss over that of the epoch before: a step so far uphill is no noise, as it is a mean over all rows."""

Row = Mapping[str, Any]
Curve = NDArray[np.float64]


@dataclass(frozen=True)
class Finding:
    """`kind`: underfitting, overfitting, still_improving, unstable, healthy or duplicates; `sentence`: the numbers, and
    what to try.
    """

    kind: str
    sentence: str


@dataclass(frozen=True)
class Curves:
    """A run's history as arrays (epochs,), and what one must know to read them."""

    train_loss: Curve
    validation_loss: Curve
    train_score: Curve
    validation_score: Curve
    learning_rate: Curve
    kept: int
    """Index of the kept epoch, from 0."""
    monitor: str
    task: type[Task]
    validation_rows: int
    stopped_early: bool
    images: bool = False

    @property
    def epochs(self) -> int:
        """Return how many epochs were trained."""
        return len(self.train_loss)

    @property
    def score_name(self) -> str:
        """Return what the score is, in words."""
        return self.task.score_name

    @property
    def score_error(self) -> float:
        """Return one standard error of the kept epoch's validation score."""
        return self.task.standard_error(float(self.validation_score[self.kept]), self.validation_rows)


def diagnose(
    history: Sequence[Row],
    best_epoch: int,
    monitor: str,
    task: type[Task],
    validation_rows: int,
    stopped_early: bool = False,
    images: bool = False,
) -> list[Finding]:
    """Return what the curves of one run say; `healthy` alone where nothing else is found.

    `history` has a row an epoch (the columns of plots/history.csv), `best_epoch` counts from 1, `monitor` is a loss or
    the score of the `task`. Of overfitting and more epochs one is advised: where the kept
    epoch's score still gets better, a gap to the training rows' is no reason to stop; where the loss rises, it is.
    """

    def column(name: str) -> Curve:
        return np.array([row[name] for row in history], dtype=np.float64)

    curves = Curves(
        train_loss=column("train_loss"),
        validation_loss=column("validation_loss"),
        train_score=column("train_score"),
        validation_score=column("validation_score"),
        learning_rate=column("learning_rate"),
        kept=best_epoch - 1,
        monitor=monitor,
        task=task,
        validation_rows=validation_rows,
        stopped_early=stopped_early,
        images=images,
    )
    found = [finding for check in CHECKS if (finding := check(curves))]
    if {"overfitting", "still_improving"} <= {finding.kind for finding in found}:
        less = "still_improving" if rise(curves.train_loss, curves.validation_loss) else "overfitting"
        found = [finding for finding in found if finding.kind != less]
    return found or [healthy(curves)]


def overfitting(curves: Curves) -> Finding | None:
    """Return a finding if the validation loss climbs after its best while the training loss falls, or the kept
    epoch's scores part.
    """
    said = [text for text in (rise(curves.train_loss, curves.validation_loss), _gap(curves)) if text]
    if not said:
        return None
    remedies = (
        "`model.dropout=0.2`, `regularizer=l2` or `augment=shift`"
        if curves.images
        else ("`model.dropout=0.2`, `regularizer=l2` or `regularizer=early_stopping`")
    )
    return Finding("overfitting", f"{_sentence(said)}: try {remedies}.")


def underfitting(curves: Curves) -> Finding | None:
    """Return a finding if the training score is low at its best, no better than validation's, and the training loss
    falls no more.
    """
    low = curves.train_score.max() < curves.task.low_score
    if not low or _gap(curves) or curves.epochs < 4 or _gain(curves.train_loss) > LEVEL:
        return None
    before, last = _quarters(curves.train_loss)
    return Finding(
        "underfitting",
        f"Training {curves.score_name} itself is {_number(curves.train_score.max())} at best (validation "
        f"{_number(curves.validation_score[curves.kept])}), and the training loss has levelled off "
        f"({_number(before)} to {_number(last)} over the last two quarters of the run): unless the data hold no "
        f"more, try a larger model, such as `model.hidden=[256,256]`, or `optimizer.lr={_rate(curves, 3)}`.",
    )


def still_improving(curves: Curves) -> Finding | None:
    """Return a finding if the kept epoch lies in the last quarter, and what it was picked by still got better there,
    beyond noise.
    """
    longer = f"try `trainer.epochs={2 * max(curves.epochs, 5)}`"
    if curves.epochs == 1:
        return Finding("still_improving", f"One epoch shows no trend yet: {longer}.")
    late = curves.kept + 1 > (1 - LATE) * curves.epochs
    gain = _loss_gain(curves) if curves.monitor in LOSSES else _score_gain(curves)
    if curves.stopped_early or not late or not gain:
        return None
    where = f"the best epoch is {curves.kept + 1} of {curves.epochs}"
    return Finding("still_improving", f"{gain}, and {where}: {longer}.")


def unstable(curves: Curves) -> Finding | None:
    """Return the late validation score shakes by more than its sampling error, or the training loss jumps."""
    said = [text for text in (_shaking_score(curves), _jump(curves)) if text]
    if not said:
        return None
    remedy = f"try `optimizer.lr={_rate(curves, 1 / 3)}`, a schedule that decays, or `regularizer=clip`"
    return Finding("unstable", f"{_sentence(said)}: {remedy}.")


def healthy(curves: Curves) -> Finding:
    """Return what is said where there is nothing to mend: what the kept epoch shows, and where a better score may come
    from.
    """
    end = ", where early stopping ended the run" if curves.stopped_early else ""
    gap = curves.train_score[curves.kept] - curves.validation_score[curves.kept]
    wide = " Training rows are still learned better, beyond that error: `model.dropout=0.2` may help."
    return Finding(
        "healthy",
        f"Epoch {curves.kept + 1} of {curves.epochs} was kept{end}: {curves.score_name} "
        f"{_number(curves.train_score[curves.kept])} on training rows and "
        f"{_number(curves.validation_score[curves.kept])} on {curves.validation_rows:,} validation rows (standard "
        f"error {curves.score_error:.2g}), and neither loss nor score of the validation rows gets worse; for a better "
        f"score try other values, such as `optimizer.lr={_rate(curves, 3)}` or "
        f"`optimizer.lr={_rate(curves, 1 / 3)}`.{wide if gap > 2 * curves.score_error else ''}",
    )


CHECKS = (overfitting, underfitting, still_improving, unstable)


def shake(curve: Curve) -> float:
    """Return the standard deviation of a curve about its own trend, 0 for fewer than four epochs.

    Second differences take out any straight trend and have six times the variance of independent noise.
    """
    return float(np.sqrt(np.mean(np.diff(curve, 2) ** 2) / 6)) if len(curve) >= 4 else 0.0


def rise(train: Curve, loss: Curve) -> str | None:
    """Return how far the validation loss rose from its best, where the training loss fell meanwhile."""
    best = int(loss.argmin())
    after = len(loss) - 1 - best
    if after < RISE_EPOCHS:
        return None
    end = float(np.mean(loss[-RISE_EPOCHS:]))
    noise = STANDARD_ERRORS * shake(loss)
    fell = train[-1] < train[best]
    if not fell or end - loss[best] <= max(LOSS_RISE * abs(loss[best]), noise):
        return None
    return (
        f"validation loss rose from its best, {_number(loss[best])} at epoch {best + 1}, to {_number(end)} (mean of "
        f"the last {RISE_EPOCHS} epochs) while training loss fell from {_number(train[best])} to {_number(train[-1])}"
    )


def _gap(curves: Curves) -> str | None:
    """Return the difference of the kept epoch's scores, if it is large and larger than the validation score's error."""
    train, validation = curves.train_score[curves.kept], curves.validation_score[curves.kept]
    if train - validation <= max(GAP, STANDARD_ERRORS * curves.score_error):
        return None
    return (
        f"at the kept epoch {curves.score_name} is {_number(train)} on training rows and {_number(validation)} on "
        f"validation rows, a gap of {_number(train - validation)} where {curves.score_error:.2g} is the "
        "standard error"
    )


def _score_gain(curves: Curves) -> str | None:
    before, last = _quarters(curves.validation_score)
    if last - before <= max(curves.score_error, _quarter_noise(curves.validation_score)):
        return None
    return (
        f"Validation {curves.score_name} still rose from {_number(before)} to {_number(last)} over the last two "
        f"quarters of the run, more than its standard error of {curves.score_error:.2g}"
    )


def _loss_gain(curves: Curves) -> str | None:
    before, last = _quarters(curves.validation_loss)
    noise = _quarter_noise(curves.validation_loss)
    if _gain(curves.validation_loss) <= LOSS_GAIN or before - last <= noise:
        return None
    return (
        f"Validation loss still fell from {_number(before)} to {_number(last)} over the last two quarters of the "
        f"run, by {_gain(curves.validation_loss):.0%}"
    )


def _shaking_score(curves: Curves) -> str | None:
    late = curves.validation_score[curves.epochs // 2 :]
    if shake(late) <= max(SCORE_SHAKE, curves.score_error):
        return None
    return (
        f"validation {curves.score_name} of the second half swings between {_number(late.min())} and "
        f"{_number(late.max())}, by {_number(shake(late))} (standard deviation) from epoch to epoch"
    )


def _jump(curves: Curves) -> str | None:
    """Return the largest uphill step of the training loss, if it is one: steep, and not a trifle beside the first
    loss.
    """
    loss = curves.train_loss
    ups = [
        k for k in range(1, len(loss)) if loss[k] > LOSS_JUMP * loss[k - 1] and loss[k] - loss[k - 1] > LEVEL * loss[0]
    ]
    if not ups:
        return None
    worst = max(ups, key=lambda k: float(loss[k] / loss[k - 1]))
    return f"training loss jumped from {_number(loss[worst - 1])} to {_number(loss[worst])} at epoch {worst + 1}"


def _quarters(curve: Curve) -> tuple[float, float]:
    """Return the means of the last quarter of the epochs and of the quarter before it, the earlier one first."""
    size = max(1, int(len(curve) * LATE))
    return float(np.mean(curve[-2 * size : -size])), float(np.mean(curve[-size:]))


def _quarter_noise(curve: Curve) -> float:
    """Return what the means of two quarters may differ by through the shaking of the curve alone."""
    return STANDARD_ERRORS * shake(curve[len(curve) // 2 :]) * math.sqrt(2 / max(1, int(len(curve) * LATE)))


def _gain(loss: Curve) -> float:
    """Return the fall of a loss from one quarter to the next, as a share."""
    before, last = _quarters(loss)
    return (before - last) / abs(before) if before else 0.0


def _rate(curves: Curves, factor: float) -> str:
    """Return the run's largest learning rate times `factor`, to one digit, as one types it."""
    return f"{float(f'{curves.learning_rate.max() * factor:.0e}'):g}"


def _sentence(said: Sequence[str]) -> str:
    text = "; ".join(said)
    return text[0].upper() + text[1:]


def _number(value: float) -> str:
    """Return a number with three digits after the point where a score may lie, else three significant ones."""
    size = abs(value)
    return f"{value:,.0f}" if 1000 <= size < 1e9 else f"{value:.3f}" if 0.1 <= size < 10 else f"{value:.3g}"
