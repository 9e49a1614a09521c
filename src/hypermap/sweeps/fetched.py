"""A study of another machine, made one of this clone: its place, its configuration and its trials' results."""

import optuna

from hypermap.core.errors import UserError
from hypermap.core.files import write_json
from hypermap.core.passwords import shown
from hypermap.core.paths import STUDIES
from hypermap.search.place import folder_of
from hypermap.search.storage import absolute, is_served
from hypermap.search.study import RECORD, SNAPSHOT, WHERE, completed, find
from hypermap.search.transport import fetch_conf
from hypermap.sweeps.cli import prepare
from hypermap.sweeps.training_target import TrainingTarget


def fetch(name: str, storage: str | None) -> str:
    """Write what a study carries into its folder here, and publish its complete trials as DVC experiments.

    Args:
        name: of the study.
        storage: where it is; None: as this clone knows.

    Returns:
        a message.

    Raises:
        UserError: there is no such study, or src/train.py did not make it.
    """
    study, place = find(name, storage)
    record = study.user_attrs.get(RECORD)
    if record is None or "base" not in record:
        raise UserError(f"{name} was not searched by src/train.py, so there is nothing to fetch.")
    folder = folder_of(name)
    if not (STUDIES / name / WHERE).exists():
        write_json(STUDIES / name / WHERE, {"name": name, "storage": shown(absolute(place))})
    if is_served(study._storage):
        fetch_conf(study, folder / SNAPSHOT)
    target = TrainingTarget(prepare, str(record["base"]))
    target.resume(name, record, folder / SNAPSHOT)
    target.collect(study, folder)
    return f"{name}: {_counted(study)} in {folder}. Next: dvc exp show, make promote STUDY={name}"


def _counted(study: optuna.Study) -> str:
    number = len(completed(study.get_trials(deepcopy=False)))
    return f"{number} complete trial{'' if number == 1 else 's'}"
