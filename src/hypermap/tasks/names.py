"""The names of tasks, for whoever needs no more of them: nothing is imported."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

TableTask = Literal["binary", "multiclass", "regression"]
"""What ``data.task`` of a table may say."""

NUMBER: Literal["regression"] = "regression"
CLASS = "classification"


@dataclass(frozen=True)
class TargetColumn:
    """One of several columns of targets: classes, or numbers where it has none."""

    name: str
    classes: tuple[str, ...] = ()


def several_targets(*, labels: bool) -> str:
    """Return the name of the task of several columns of targets: labels, yes or no each, or targets of any kind."""
    return "multilabel" if labels else "multitask"


def usual_task(classes: Sequence[str]) -> str:
    """Return the name of the task of targets that are these classes, or numbers."""
    return CLASS if classes else NUMBER
