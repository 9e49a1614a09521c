"""Write a trial into params.yaml: python src/promote.py STUDY [NUMBER] (or: make promote STUDY=name [TRIAL=42]).

With ensemble=10, of a study of models for a table, its best ten trials as the portfolio of an AutoML, which trains each
on folds again and combines them (docs/automl.md).
With trust=true also a trial that names code outside this project, if you trust whoever made the study.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from hypermap.config.compose import compose, defaults_of, group_defaults
from hypermap.config.groups import read_params
from hypermap.config.params_file import params_of, rewrite
from hypermap.config.portfolio import AUTOML, entry_of, expanded
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
    keys = read_words([word for word in words if "=" in word], ("trust", "ensemble"))
    trust, size = read_trust(keys), keys.get("ensemble")
    if not 1 <= len(given) <= 2 or not all(word.isdecimal() for word in given[1:]):
        raise UserError("name a study: make promote STUDY=NAME takes its best trial, TRIAL=42 beside it another.")
    if size is not None and (len(given) == 2 or not size.isdecimal() or int(size) < 2):
        raise UserError(f"ensemble={size}: how many of the best trials, at least 2, without the number of one.")
    check_study_name(given[0])
    read_params()  # raises if the present one is invalid
    if size is None:
        number = best_trials(given[0], 1)[0] if len(given) == 1 else int(given[1])
        params, said = read_trial(given[0], number, trust=trust), f"trial {number}"
    else:
        numbers = best_trials(given[0], int(size))
        params = portfolio_of([read_trial(given[0], number, trust=trust) for number in numbers])
        said = f"trials {', '.join(map(str, numbers))}"
    experiment = params.get("experiment")
    if params.get("final") is None and (not experiment or group_defaults(f"experiment={experiment}")["final"] is None):
        params["final"] = "refit"
    present = PARAMS.read_text(encoding="utf-8")
    write_text(PARAMS, rewrite(present, params, alone=True))
    print(f"{PARAMS} now has {said} of {given[0]}. Next: dvc repro")


def read_trial(study: str, number: int, *, trust: bool) -> dict[str, Any]:
    """Return the params.yaml of a trial."""
    params = OmegaConf.to_container(OmegaConf.create(params_of_trial(study, number)))
    assert isinstance(params, dict)
    check_record(params, f"trial {number} of {study}", trust=trust)
    check_plain(params, f"trial {number} of {study}")
    return {str(key): value for key, value in params.items()}


def portfolio_of(trials: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return a params.yaml whose AutoML has these trials, the first of which says all that they share."""
    configurations = [compose(params=params) for params in trials]
    entries = dict.fromkeys(entry_of(own, configurations[0]) for own in configurations)
    automl = {**defaults_of({AUTOML: "good"})[AUTOML], "portfolio": [*entries], "search": []}
    configuration = {**configurations[0], AUTOML: automl}
    expanded(configuration)  # raises if a trial cannot be a candidate
    return params_of(configuration, {"experiment": None})


def best_trials(name: str, count: int) -> list[int]:
    """Return the numbers of a study's best trials, the best first."""
    from hypermap.search.study import find, ranked

    study, _ = find(name)
    if len(study.directions) > 1:
        raise UserError(f"{name} has several objectives and no one best trial: choose one with TRIAL=number.")
    top = ranked(study.get_trials(deepcopy=False), maximizes=study.direction.name == "MAXIMIZE")
    if not top:
        raise UserError(f"No trial of {name} was trained to its end.")
    return [trial.number for trial in top[:count]]


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
