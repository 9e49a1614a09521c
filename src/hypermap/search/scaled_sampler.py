"""Any Optuna sampler, searching in a scaled space, while the study stores only untransformed values.

The sampler sees a view of the study in which parameters and distributions with a scale are replaced by their images.
Its proposals are mapped back by the inverse, so storage, dashboards and reports never see an image.
"""

import copy
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any, cast

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from hypermap.core.errors import UserError
from hypermap.search import scales
from hypermap.search.counter_samplers import count, member

Numerical = FloatDistribution | IntDistribution


class ScaledSampler(BaseSampler):
    """Wraps a sampler so that it searches in the images of the parameters that have a scale.

    Parameters without a mapping pass unchanged, and so does everything where the sampler proposes natural values by
    itself, as a grid does (its attribute ``natural`` says so). One object serves one study.

    Raises:
        UserError: pow2 on integers with a step, or without a power of two between the bounds.
    """

    def __init__(self, inner: BaseSampler, mappings: Mapping[str, scales.Scale]) -> None:
        self.inner = inner
        self._mappings = {} if getattr(inner, "natural", False) else dict(mappings)
        self._images: dict[str, list[tuple[Numerical, Numerical]]] = {}  # natural distributions and their images
        self._finished: dict[int, FrozenTrial] = {}  # by trial id

    def __str__(self) -> str:
        return f"Mapped({self.inner})"

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the inner sampler's search space, in natural distributions."""
        space = self.inner.infer_relative_search_space(self._view(study), self.image(trial))
        return {name: self._natural(name, distribution) for name, distribution in space.items()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the inner sampler's joint proposal for all parameters, in natural values."""
        images = {name: self._image(name, distribution) for name, distribution in search_space.items()}
        values = self.inner.sample_relative(self._view(study), self.image(trial), images)
        return {name: self._value(name, search_space[name], value) for name, value in values.items()}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return the inner sampler's proposal for one parameter, as a natural value."""
        image = self._image(param_name, param_distribution)
        if image.single() and isinstance(image, IntDistribution | FloatDistribution):  # some samplers need an interval
            return self._value(param_name, param_distribution, image.low)
        value = self.inner.sample_independent(self._view(study), self.image(trial), param_name, image)
        return self._value(param_name, param_distribution, value)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Call the inner sampler."""
        self.inner.before_trial(self._view(study), self.image(trial))

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Call the inner sampler."""
        self.inner.after_trial(self._view(study), self.image(trial), state, values)

    def reseed_rng(self) -> None:
        """Call the inner sampler."""
        self.inner.reseed_rng()

    def image(self, trial: FrozenTrial) -> FrozenTrial:
        """Return the trial with images instead of scaled parameters and distributions; a copy if there are any."""
        if trial._trial_id in self._finished:
            return self._finished[trial._trial_id]
        seen = self._image_of(trial)
        if trial.state.is_finished():
            self._finished[trial._trial_id] = seen
        return seen

    def images(self, trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
        """Return each trial's image."""
        return [self.image(trial) for trial in trials]

    def _view(self, study: Study) -> Study:
        return cast(Study, _View(study, self)) if self._mappings else study

    def _image_of(self, trial: FrozenTrial) -> FrozenTrial:
        mapped = [name for name in trial.distributions if name in self._mappings]
        if not mapped:
            return trial
        seen = copy.copy(trial)
        seen.distributions = {name: self._image(name, natural) for name, natural in trial.distributions.items()}
        seen.params = trial.params | {
            name: self._mappings[name].forward(trial.params[name])
            for name in mapped
            if seen.distributions[name] is not trial.distributions[name]
        }
        return seen

    def _image(self, name: str, natural: BaseDistribution) -> BaseDistribution:
        """Return the distribution that the inner sampler sees."""
        if name not in self._mappings or isinstance(natural, CategoricalDistribution):
            return natural
        known = self._images.setdefault(name, [])
        for before, seen in known:
            if before == natural:
                return seen
        known.append((cast(Numerical, natural), image(self._mappings[name], cast(Numerical, natural))))
        return known[-1][1]

    def _natural(self, name: str, image: BaseDistribution) -> BaseDistribution:
        """Return the natural distribution whose image the inner sampler saw in a trial."""
        return next((natural for natural, seen in self._images.get(name, []) if seen == image), image)

    def _value(self, name: str, natural: BaseDistribution, value: Any) -> Any:
        """Return the natural value of a proposal of the inner sampler."""
        if name not in self._mappings or isinstance(natural, CategoricalDistribution):
            return value
        return nearest(cast(Numerical, natural), self._mappings[name].inverse(value))


class _View:
    """A view of a study whose trials are images; everything else is the study's own."""

    def __init__(self, study: Study, mapped: ScaledSampler) -> None:
        self._natural = study
        self._mapped = mapped

    def __getattr__(self, name: str) -> Any:
        return getattr(self._natural, name)

    @property
    def trials(self) -> list[FrozenTrial]:
        return self.get_trials()

    @property
    def best_trial(self) -> FrozenTrial:
        return self._mapped.image(self._natural.best_trial)

    @property
    def best_params(self) -> dict[str, Any]:
        return self.best_trial.params

    @property
    def best_trials(self) -> list[FrozenTrial]:
        return self._mapped.images(self._natural.best_trials)

    def get_trials(self, deepcopy: bool = True, states: Container[TrialState] | None = None) -> list[FrozenTrial]:
        return self._get_trials(deepcopy, states)

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        images = self._mapped.images(self._natural._get_trials(deepcopy=False, states=states, use_cache=use_cache))
        return copy.deepcopy(images) if deepcopy else images


def nearest(distribution: Numerical, value: float) -> float:
    """Return the member of a distribution nearest to a number."""
    value = min(max(value, distribution.low), distribution.high)
    if distribution.step is None:
        return float(value)
    return member(distribution, min(round((value - distribution.low) / distribution.step), count(distribution) - 1))


def image(through: scales.Scale, natural: Numerical) -> Numerical:
    """Return the distribution that a sampler sees instead of a natural one."""
    if through.name == "pow2" and isinstance(natural, IntDistribution):
        return _exponents(natural)
    low, high = through.forward(natural.low), through.forward(natural.high)
    if natural.step is None or natural.single():
        return FloatDistribution(low, high)
    # Extended beyond the ends by half the distance to their neighbors, so that the ends are proposed as often as
    # others.
    first = through.forward(natural.low + natural.step) - low
    last = high - through.forward(natural.high - natural.step)
    return FloatDistribution(low - first / 2, high + last / 2)


def _exponents(natural: IntDistribution) -> IntDistribution:
    """Return the exponents of the powers of two between the bounds."""
    lowest, highest = (natural.low - 1).bit_length(), natural.high.bit_length() - 1
    if natural.step != 1:
        raise UserError(f"pow2 takes powers of two, which a step of {natural.step} does not: leave the step away.")
    if lowest > highest:
        raise UserError(f"pow2 finds no power of two from {natural.low} to {natural.high}.")
    return IntDistribution(lowest, highest)
