"""Candidates after those of the portfolio: parameters that a model of the results so far expects to be good."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna

from hypermap.automl.order import Candidate, Tried
from hypermap.config.overrides import parse_override
from hypermap.config.portfolio import with_values
from hypermap.data.cross_validation import repeat_seed
from hypermap.search.scaled_sampler import ScaledSampler
from hypermap.search.space import Space
from hypermap.sweeps.space import ConfigGroups, read_space

FIRST = 8  # candidates that are drawn at random
CANDIDATES = 48  # draws of which the sampler takes the one that it expects most of


class Proposals:
    """The portfolio, then candidates of a search over models, their parameters and preprocessing.

    The search is Optuna's multivariate TPE (Bergstra et al. 2011; Falkner et al. 2018, section 3), one for each group
    of parameters that occur together. A candidate depends on its number and those that it is told of, nothing else.

    Args:
        portfolio: the first candidates, by number.
        search: the names of models whose parameters are searched.
        ranges: of their parameters (`hypermap.config.portfolio`).
        features: ranges of preprocessing, as on the command line.
        seed: of all draws.
    """

    def __init__(
        self,
        portfolio: Sequence[Candidate],
        search: Sequence[str],
        ranges: Mapping[str, Any],
        features: Sequence[str],
        seed: int,
    ) -> None:
        self.portfolio = portfolio
        self.bases = {str(one.configuration["model"]["name"]): one for one in reversed(portfolio)}
        self.seed = seed
        self.search = [name for name in search if name in self.bases]
        self.space = self._space(ranges, features) if self.search else Space()

    def _space(self, ranges: Mapping[str, Any], features: Sequence[str]) -> Space:
        from hypermap.models.sklearn_fit import IGNORED_GROUPS, is_family

        def ignored(group: str, option: str) -> Sequence[str]:
            return IGNORED_GROUPS if group == "model" and is_family(self.bases[option].configuration["model"]) else ()

        optimizer = str(self.bases[self.search[0]].configuration["optimizer"]["name"])
        known = {"model": list(self.bases), "optimizer": [optimizer]}
        groups = ConfigGroups(
            choices=lambda group: known.get(group, ()),
            has=lambda group, option, key: True,
            chosen={"model": self.search[0], "optimizer": optimizer},
            ignored_groups=ignored,
        )
        return read_space([f"model=choice({','.join(self.search)})", *features], {}, ranges, groups)[0]

    def __call__(self, number: int, known: Sequence[Tried]) -> Candidate | None:
        """Return the candidate of a number, given those that have been tried; None if there is no other."""
        if number < len(self.portfolio):
            return self.portfolio[number]
        if not self.search:
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of `group`
            sampler = optuna.samplers.TPESampler(
                n_startup_trials=FIRST,
                n_ei_candidates=CANDIDATES,
                multivariate=True,
                group=True,
                seed=repeat_seed(self.seed, number + 1),
            )
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(sampler=ScaledSampler(sampler, self.space.mappings))
        distributions = self.space.distributions()
        for tried in known:
            if (drawn := tried.candidate.drawn) is not None:
                own = {name: distributions[name] for name in drawn}
                study.add_trial(optuna.trial.create_trial(params=dict(drawn), distributions=own, value=tried.loss))
        trial = study.ask()
        values = self.space.suggest(trial)
        return self._candidate(trial.params, {key: _parsed(value) for key, value in values.items()})

    def _candidate(self, drawn: Mapping[str, Any], values: Mapping[str, Any]) -> Candidate:
        name = str(values["model"])
        base = self.bases[name]
        data = {key.removeprefix("data."): value for key, value in values.items() if key.startswith("data.")}
        own = {key: value for key, value in values.items() if key != "model" and not key.startswith("data.")}
        says = " ".join(f"{key}={_short(value)}" for key, value in values.items())
        return Candidate(says, with_values(base.configuration, own), {**base.preparation, **data}, drawn)


def _parsed(value: Any) -> Any:
    """Return a value: text is in Hydra's grammar, such as ``[64,64]``."""
    return parse_override(f"key={value}").value() if isinstance(value, str) else value


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace(" ", "")
