"""The folder of a study: found by the study's name wherever it is, and used by one study only."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hypermap.core.cli_args import override
from hypermap.core.errors import UserError
from hypermap.core.files import write_json
from hypermap.core.paths import STUDIES
from hypermap.search.storage import file_of
from hypermap.search.study import WHERE, StudyConfig


def folder_of(name: str) -> Path:
    """Return the folder of a study of this project, with its trials and the configuration that it started from."""
    return Path(_read(STUDIES / name).get("folder") or STUDIES / name).absolute()


def check_place(plan: StudyConfig) -> None:
    """Refuse a folder that belongs to another study, and a name whose study is in another folder.

    Raises:
        UserError: with the ways to have both studies, or to continue the existing one.
    """
    there = _read(plan.folder)
    if there.get("name", plan.name) != plan.name and _is_kept(there):
        own = override("hydra.sweep.dir", str(plan.folder.parent / plan.name))
        raise UserError(
            f"{plan.folder} is the folder of the study {there['name']}, and this one is {plan.name}. Leave "
            f"hydra.sweep.dir out, or give it a folder of its own: {own}"
        )
    here, folder = _read(STUDIES / plan.name), folder_of(plan.name)
    if here and folder != plan.folder and _is_kept(here) and file_of(here["storage"]) != file_of(plan.storage):
        on = override("hydra.sweep.dir", str(folder))
        raise UserError(
            f"The study {plan.name} is in {folder}, and not in {plan.folder}. Begin another with "
            "hydra.sweeper.study_name=NAME, or go on with it: "
            f"{'leave hydra.sweep.dir out' if folder == usual(plan) else on}"
        )


def remember(plan: StudyConfig) -> None:
    """Record where a study's folder is, so that it is found by name."""
    if plan.folder != usual(plan):
        write_json(usual(plan) / WHERE, {**_read(plan.folder), "folder": str(plan.folder)})


def usual(plan: StudyConfig) -> Path:
    """Return the default folder of a study."""
    return (STUDIES / plan.name).absolute()


def _is_kept(record: Mapping[str, Any]) -> bool:
    """Return whether the study still exists where a folder's record says; a database server is not queried."""
    file = file_of(str(record["storage"]))
    return file is None or file.exists()


def _read(folder: Path) -> dict[str, Any]:
    """Return a folder's record of its study; empty if it has none, or an unreadable one."""
    try:
        record = json.loads((folder / WHERE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) and {"name", "storage"} <= record.keys() else {}
