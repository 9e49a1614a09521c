"""The names of tasks, for whoever needs no more of them: nothing is imported."""

from collections.abc import Sequence
from typing import Literal

TableTask = Literal["binary", "multiclass", "regression"]
"""What ``data.task`` of a table may say."""

NUMBER: Literal["regression"] = "regression"
CLASS = "classification"


def usual_task(classes: Sequence[str]) -> str:
    """Return the name of the task of targets that are these classes, or numbers."""
    return CLASS if classes else NUMBER
