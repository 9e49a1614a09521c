"""Where a study's folder is: found by the study's name wherever it lies, and of one study alone."""

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
    """Return the folder of a study that was made here: of its trials, and of the configuration that it began from."""
    return Path(_read(STUDIES / name).get("folder") or STUDIES / name).absolute()


def check_place(plan: StudyConfig) -> None:
    """Refuse a folder that another study has, and a name whose study is in another folder.

    Raises:
        UserError: says how to have both studies, or to go on with the one that is there.
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
    """Note where a study's folder is, for whoever asks by its name."""
    if plan.folder != usual(plan):
        write_json(usual(plan) / WHERE, {**_read(plan.folder), "folder": str(plan.folder)})


def usual(plan: StudyConfig) -> Path:
    """Return the folder that a study has unless it is told another."""
    return (STUDIES / plan.name).absolute()


def _is_kept(record: Mapping[str, Any]) -> bool:
    """Return whether the study is still where a folder says; a database with a server is not asked."""
    file = file_of(str(record["storage"]))
    return file is None or file.exists()


def _read(folder: Path) -> dict[str, Any]:
    """Return what a folder says of its study; nothing where it has none, or says it in no way that is understood."""
    try:
        record = json.loads((folder / WHERE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) and {"name", "storage"} <= record.keys() else {}
