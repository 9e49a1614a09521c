"""What a study on a server carries for machines that share no folder with the one that began it."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import optuna
from optuna.trial import FrozenTrial

from hypermap.core.errors import UserError
from hypermap.core.files import packed, unpacked, whole_folder, write_text

CONF = "conf"  # system attribute of a study: the YAML files of its snapshot of conf/
FILES = "files"  # system attribute of a complete trial: its small files


def send_conf(study: optuna.Study, folder: Path) -> None:
    """Store the YAML files of a folder in the study."""
    texts = {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in folder.rglob("*.yaml")}
    study._storage.set_study_system_attr(study._study_id, CONF, packed(texts))


def has_conf(study: optuna.Study) -> bool:
    """Return whether the study carries its snapshot of conf/."""
    return CONF in study._storage.get_study_system_attrs(study._study_id)


def fetch_conf(study: optuna.Study, folder: Path) -> None:
    """Write what `send_conf` stored, if anything, into a folder that does not exist yet.

    Raises:
        UserError: it is damaged, or names a file outside the folder.
    """
    kept = study._storage.get_study_system_attrs(study._study_id).get(CONF)
    if kept is None or folder.exists():
        return
    with whole_folder(folder) as partial:
        for name, text in _texts(kept, f"the study {study.study_name}").items():
            parts = PurePosixPath(name).parts
            if not name.endswith(".yaml") or ".." in parts or PurePosixPath(name).is_absolute():
                raise UserError(f"The study {study.study_name} carries a file {name!r}, which is none of conf/.")
            write_text(partial / name, text)


def send_files(trial: optuna.Trial, texts: Mapping[str, str]) -> None:
    """Store small files of a trial in it."""
    trial.study._storage.set_trial_system_attr(trial._trial_id, FILES, packed(texts))


def files_of_trial(trial: FrozenTrial) -> dict[str, str]:
    """Return what `send_files` stored; empty if nothing.

    Raises:
        UserError: it is damaged.
    """
    kept = trial.system_attrs.get(FILES)
    return {} if kept is None else _texts(kept, f"trial {trial.number}")


def _texts(kept: object, what: str) -> dict[str, str]:
    try:
        return unpacked(str(kept))
    except ValueError as error:
        raise UserError(f"The files that {what} carries are damaged: {error}.") from None
