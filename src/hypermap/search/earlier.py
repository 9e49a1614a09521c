"""Results of an earlier study, and the predictions that they give for a new one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hypermap.core.typing import Floats

if TYPE_CHECKING:  # a sweep without an earlier study does not need scipy
    from hypermap.search.gaussian_process import GaussianProcess
    from hypermap.search.unit_cube import Cube

EACH = 3  # configurations of an earlier study that are tried unchanged
LEAST = 8  # minimum number of scored ones for a prediction
MOST = 80  # maximum number used for it; the cost grows with their cube
FITS = 50  # candidates for the model's hyperparameters, once per worker
WORSE = 0.25  # share of the scores that are treated as equal: how bad the bad ones are would dominate


@dataclass(frozen=True)
class EarlierStudy:
    """The results of an earlier study, as far as they lie in the space of the new one.

    Attributes:
        best: configurations, the best first, at most `EACH`.
        scored: every configuration and its score, including pruned ones; higher is better, in any unit.
    """

    best: tuple[dict[str, Any], ...]
    scored: tuple[tuple[dict[str, Any], float], ...] = ()

    def expectation(self, cube: "Cube", rng: np.random.Generator) -> "GaussianProcess | None":
        """Return the standardized scores as a function on the cube; None if there are too few."""
        known = sorted(self.scored, key=lambda one: -one[1])
        if len(known) > MOST:  # the best, and an evenly spaced subset of the others
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
    """Return the predictions of each earlier study at ``(n, f)`` points, as further features ``(n, k)``."""
    return np.array([model.predict(features)[0] for model in expectations]).reshape(-1, len(features)).T
