"""Write a trial into params.yaml: python src/promote.py STUDY [NUMBER] (or: make promote STUDY=name [TRIAL=42]).

With trust=true also a trial that names code outside this project, if you trust whoever made the study.
"""

import sys
from pathlib import Path

from omegaconf import OmegaConf

from hypermap.config.compose import group_defaults
from hypermap.config.groups import read_params
from hypermap.config.params_file import rewrite
from hypermap.core.cli import run
from hypermap.core.cli_args import read_trust, read_words
from hypermap.core.dvc_experiments import check_study_name, experiment_name, order_of
from hypermap.core.errors import UserError
from hypermap.core.files import write_text
from hypermap.core.instantiate import check_plain, check_record
from hypermap.core.paths import PARAMS


def main() -> None:
    """Replace params.yaml by that of a study's best trial, or of the trial with the given number; keep the comments.

    Unless the search was told otherwise, the model is then trained again on all rows outside the test set.
    """
    words = [word for word in sys.argv[1:] if word]
    given = [word for word in words if "=" not in word]
    trust = read_trust(read_words([word for word in words if "=" in word], ("trust",)))
    if not 1 <= len(given) <= 2 or not all(word.isdecimal() for word in given[1:]):
        raise UserError("name a study: make promote STUDY=NAME takes its best trial, TRIAL=42 beside it another.")
    check_study_name(given[0])
    read_params()  # raises if the present one is invalid
    number = best_trial(given[0]) if len(given) == 1 else int(given[1])
    params = OmegaConf.to_container(OmegaConf.create(params_of_trial(given[0], number)))
    assert isinstance(params, dict)
    check_record(params, f"trial {number} of {given[0]}", trust=trust)
    check_plain(params, f"trial {number} of {given[0]}")
    experiment = params.get("experiment")
    if params.get("final") is None and (not experiment or group_defaults(f"experiment={experiment}")["final"] is None):
        params["final"] = "refit"
    present = PARAMS.read_text(encoding="utf-8")
    write_text(PARAMS, rewrite(present, {str(key): value for key, value in params.items()}, alone=True))
    print(f"{PARAMS} now has trial {number} of {given[0]}. Next: dvc repro")


def best_trial(name: str) -> int:
    """Return the number of a study's best trial."""
    from hypermap.search.study import best, find

    study, _ = find(name)
    if len(study.directions) > 1:
        raise UserError(f"{name} has several objectives and no one best trial: choose one with TRIAL=number.")
    top = best(study.get_trials(deepcopy=False), maximizes=study.direction.name == "MAXIMIZE")
    if top is None:
        raise UserError(f"No trial of {name} was trained to its end.")
    return top.number


def params_of_trial(study: str, number: int) -> str:
    """Return the params.yaml of a trial: from its folder or, if that is gone, from its DVC experiment."""
    from hypermap.search.place import folder_of

    folder = folder_of(study)
    path = folder / str(number) / PARAMS
    if path.exists():
        return path.read_text(encoding="utf-8")
    try:
        return order_of(Path(), experiment_name(study, number))
    except UserError as error:
        if not (kept := sorted(int(k) for p in folder.glob(f"*/{PARAMS}") if (k := p.parent.name).isdecimal())):
            raise UserError(f"There is no {path}, and no experiment in its place: {error}") from None
        raise UserError(
            f"TRIAL={number}: {study} has no such trial that was trained to its end. TRIAL may be one of: "
            f"{', '.join(map(str, kept))}; the best without it."
        ) from None


if __name__ == "__main__":
    run(main, __doc__)
