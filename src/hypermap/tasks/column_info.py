"""What a task of several targets knows of each one of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hypermap.tasks.names import usual_task


@dataclass(frozen=True)
class ColumnInfo:
    """One column of several targets, as a task of one target sees it (`hypermap.tasks.base.TargetInfo`)."""

    task: str
    classes: Sequence[str] = ()
    target_transform: str | None = None
    target_shift: Any = None
    target_scale: Any = None
    target: Mapping[str, Any] = field(default_factory=dict)
    target_columns: Sequence[Mapping[str, Any]] = ()

    @classmethod
    def of(cls, column: Mapping[str, Any], fitted: Mapping[str, Any] | None = None) -> "ColumnInfo":
        """Return that of a manifest's entry, with what was fitted on its training targets."""
        return cls(usual_task(column["classes"]), tuple(column["classes"]), **(fitted or {}))
