"""What a sweep asks of the program whose task it runs."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna

from hypermap.search.trial import RunningTrial


@dataclass(frozen=True)
class About:
    """What a sweep is about.

    Attributes:
        objectives: figures by name; empty: what the task returns by itself.
        directions: of each objective, ``minimize`` or ``maximize``.
        seed: the study's, unless the sweep is given one.
        horizon: reports of a full trial, where that is known.
        identity: what must be the same when the study is taken up again.
    """

    objectives: tuple[str, ...] = ()
    directions: tuple[str, ...] = ("minimize",)
    seed: int = 0
    horizon: int | None = None
    identity: dict[str, Any] = field(default_factory=dict)


class Application:
    """Any Hydra application: a task that returns its objective. Whoever knows more of itself overrides this."""

    def check(self, configuration: Mapping[str, Any]) -> None:
        """Refuse a configuration that no trial should begin with."""

    def idle(self, group: str, choice: str) -> Collection[str]:
        """The groups that have no part in the task where `group` has this choice: a space file's are not searched."""
        return ()

    def about(
        self, configuration: Mapping[str, Any], searched: Sequence[str], objectives: Sequence[str] | None
    ) -> About:
        """What a sweep from this baseline over these keys is about; `objectives` are those that were asked for."""
        return About(identity={"configuration": without(configuration, searched)})

    def begin(self, study: str, *, publish: bool) -> dict[str, Any]:
        """What is kept in a study that begins, for `resume`."""
        return {}

    def resume(self, study: str, kept: Mapping[str, Any], menu: Path) -> None:
        """Take up what `begin` kept, in the process that launches the workers.

        `menu` is the configuration's folder as it was when the study began.
        """

    def report(self, study: optuna.Study, storage: str) -> str:
        """What is printed once a sweep's results are told; whoever reports on studies does so here."""
        return ""

    def before_tell(self, trial: RunningTrial) -> None:
        """Called in a worker with each trial that completed, before the study counts it as such."""


def without(configuration: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """A configuration's values by dotted key, but for some keys and, where one is a group, all that is in it."""
    flat = dict(_flat(configuration, ""))
    return {k: v for k, v in flat.items() if not any(k == key or k.startswith(f"{key}.") for key in keys)}


def _flat(value: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, inner in value.items():
        path = f"{prefix}{key}"
        pairs += _flat(inner, f"{path}.") if isinstance(inner, Mapping) and inner else [(path, inner)]
    return pairs
