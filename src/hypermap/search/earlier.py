"""What an earlier study found, and what it makes another one expect."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hypermap.core.typing import Floats

if TYPE_CHECKING:  # a sweep that has no earlier study does without scipy
    from hypermap.search.gaussian_process import GaussianProcess
    from hypermap.search.unit_cube import Cube

EACH = 3  # configurations of an earlier study that are tried as they are
LEAST = 8  # scored ones from which on it makes one expect something
MOST = 80  # that this is found from; its cost grows with their cube
FITS = 50  # hyperparameters that are tried, once a worker
WORSE = 0.25  # the share of the scores that are taken for equal: how bad the bad are would rule all else


@dataclass(frozen=True)
class EarlierStudy:
    """What was found, as far as it lies in the space of the study that is to come.

    Attributes:
        best: configurations, the best first, at most `EACH`.
        scored: every configuration and what it came to, pruned ones included; higher is better, the unit is its own.
    """

    best: tuple[dict[str, Any], ...]
    scored: tuple[tuple[dict[str, Any], float], ...] = ()

    def expectation(self, cube: "Cube", rng: np.random.Generator) -> "GaussianProcess | None":
        """Return the scores, standardised, as a function on the cube; None where too few are known."""
        known = sorted(self.scored, key=lambda one: -one[1])
        if len(known) > MOST:  # the best, and of the others every so many
            others = np.linspace(MOST // 2, len(known) - 1, MOST - MOST // 2).astype(int)
            known = [*known[: MOST // 2], *(known[k] for k in others)]
        scores = np.array([score for _, score in known])
        if (finite := scores[np.isfinite(scores)]).size < LEAST:
            return None
        scores = np.maximum(scores, np.quantile(finite, WORSE))
        if scores.max() <= scores.min():
            return None
        from hypermap.search.gaussian_process import GaussianProcess

        features = cube.features(cube.snapped(np.array([cube.filled(params) for params, _ in known])))
        values = (scores - scores.mean()) / scores.std()
        return GaussianProcess(features, values, np.zeros(len(values)), cube.groups, rng, FITS)


def starts(studies: Sequence[EarlierStudy]) -> Iterator[Mapping[str, Any]]:
    """Yield the best configuration of each study, then the second of each, and so on."""
    for place in range(EACH):
        for study in studies:
            if place < len(study.best):
                yield study.best[place]


def trends(expectations: Sequence["GaussianProcess"], features: Floats) -> Floats:
    """Return what each earlier study makes one expect at ``(n, f)`` points, as further features ``(n, k)``."""
    return np.array([model.predict(features)[0] for model in expectations]).reshape(-1, len(features)).T
