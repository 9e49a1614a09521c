"""New locations of modules that older files name: the user's conf/, studies, models, DVC experiments."""

from collections.abc import Mapping
from typing import Any

MOVED = {  # 2026-11: the package in rooms
    "hypermap.augment": "hypermap.training.augment",
    "hypermap.data.sources": "hypermap.datasets.images",
    "hypermap.families": "hypermap.models.sklearn_models",
    "hypermap.losses": "hypermap.tasks.losses",
    "hypermap.member.Settings": "hypermap.training.state.TrainerConfig",
    "hypermap.member": "hypermap.training.state",
    "hypermap.regularizers": "hypermap.training.regularizers",
    "hypermap.schedules": "hypermap.training.lr_schedules",
    "hypermap.search.mapped.Mapped": "hypermap.search.scaled_sampler.ScaledSampler",
    "hypermap.search.mapped": "hypermap.search.scaled_sampler",
    "hypermap.search.mapping": "hypermap.search.scales",
    "hypermap.search.numbered": "hypermap.search.counter_samplers",
    "hypermap.tables.source": "hypermap.datasets.tables.dataset",
    "hypermap.validation": "hypermap.data.cross_validation",
}

RENAMED = {"kept_epoch": "best_epoch"}  # 2026-11: keys of records


def moved(path: str) -> str:
    """Return the present dotted path of an object."""
    for old, new in MOVED.items():
        if path == old or path.startswith(f"{old}."):
            return new + path[len(old) :]
    return path


def with_paths_of_now(value: Any, name: str = "_target_") -> Any:
    """Return nested mappings and lists with every dotted path updated.

    Args:
        value: JSON-like.
        name: the key of a path, or the last part of a dotted key.
    """
    if isinstance(value, list):
        return [with_paths_of_now(part, name) for part in value]
    if not isinstance(value, dict):
        return value
    return {
        key: moved(inner)
        if isinstance(inner, str) and str(key).rpartition(".")[2] == name
        else with_paths_of_now(inner, name)
        for key, inner in value.items()
    }


def with_keys_of_now(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record with its keys renamed to the present ones."""
    ours = {RENAMED.get(key, key): value for key, value in record.items()}
    if (temperature := ours.pop("temperature", None)) is not None:  # 2026-11: one of what may be tuned
        ours["tuned"] = {} if temperature == 1 else {"temperature": temperature}
    return ours
