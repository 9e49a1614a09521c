"""Train a study's best and its baseline with other seeds: python src/confirm.py STUDY [best=3] [seeds=5] [jobs=1].

Or: make confirm STUDY=name [BEST=3] [SEEDS=5] [JOBS=1]. Hydra's own words may follow, such as hydra/launcher=NAME; and
trust=true, where a study names other code than this project's, and you trust whoever made it.
"""

import sys
from pathlib import Path
from typing import Any

from hypermap.config.compose import sweep_again
from hypermap.core.cli import run
from hypermap.core.dvc_experiments import check_study_name
from hypermap.core.errors import UserError, near
from hypermap.sweeps.cli import by_hand, target

COUNTS = {"best": 3, "seeds": 5, "jobs": 1}


def main() -> None:
    """Give the sweep's own command once more, from the configuration that it began from, to confirm alone.

    Raises:
        UserError: no study is named, a word is not understood, or as `begun`.
    """
    given = [word for word in sys.argv[1:] if word]
    if not given or "=" in given[0]:
        raise UserError("name a study: make confirm STUDY=NAME [BEST=3] [SEEDS=5] [JOBS=1]")
    name, counts = given[0], dict(COUNTS)
    check_study_name(name)
    others = [word for word in given[1:] if word.startswith("hydra")]
    trust = "trust=true" in given[1:]
    for word in given[1:]:
        if word not in [*others, "trust=true"]:
            key, count = read_count(word)
            counts[key] = count
    record, conf = begun(name, trust=trust)
    confirm = f"{{only:'{name}',best:{counts['best']},seeds:{counts['seeds']}}}"
    own = {"hydra.sweeper.confirm": confirm, "hydra.sweeper.n_jobs": counts["jobs"], "hydra.sweeper.resume": "auto"}
    words = [*record["command"], *record.get("hydra", [])]
    words = [word for word in words if word.partition("=")[0] not in own]
    sweep_again(by_hand, target, [*words, *(f"{k}={v}" for k, v in own.items()), *others], record["base"], conf)


def read_count(word: str) -> tuple[str, int]:
    """Return one of `COUNTS` as it was given.

    Raises:
        UserError: there is no such count, or it is below 1.
    """
    key, _, count = word.partition("=")
    if key not in COUNTS:
        raise UserError(f"{word}: no such count{near(key, COUNTS)}. There are: best=3, seeds=5, jobs=1.")
    if not count.isdecimal() or int(count) < 1:
        raise UserError(f"{word}: {key} is a whole number of at least 1.")
    return key, int(count)


def begun(name: str, *, trust: bool = False) -> tuple[dict[str, Any], Path]:
    """Return the record of a study, and the folder of the configuration that it began from.

    Raises:
        UserError: there is no such study, another program made it, that folder is gone; or what they keep names code
            that is no part, and there is no `trust` in them.
    """
    from hypermap.core.instantiate import TRUST
    from hypermap.search.place import folder_of
    from hypermap.search.study import RECORD, SNAPSHOT, find
    from hypermap.sweeps.recorded_sweep import check_begun, check_conf

    study, _ = find(name)
    record: dict[str, Any] | None = study.user_attrs.get(RECORD)
    if record is None:
        raise UserError(f"{name} was made by another program, and does not tell what its trials were trained with.")
    if "base" not in record:
        program = record.get("program", "PROGRAM")
        raise UserError(
            f"{name} was not searched by src/train.py. Give its command once more with hydra.sweeper.confirm=true "
            f"(python {program} -m …)."
        )
    conf = folder_of(name) / SNAPSHOT
    if not conf.is_dir():
        raise UserError(f"{conf}, the configuration that {name} began from, is gone: nothing can be trained as it was.")
    if not trust:
        check_conf(conf, TRUST)
        check_begun(study, [*record["command"], *record.get("hydra", []), *record.get("fixed", [])], record)
    return record, conf


if __name__ == "__main__":
    run(main, __doc__)
