"""Retrain a study's best trials and baseline with other seeds: python src/confirm.py STUDY [best=3] [seeds=5] [jobs=1].

Or: make confirm STUDY=name [BEST=3] [SEEDS=5] [JOBS=1]. Hydra overrides such as hydra/launcher=NAME may follow; and
trust=true if a study names code outside this project and you trust whoever made it.
"""

import sys

from hypermap.config.compose import sweep_again
from hypermap.core.cli import run
from hypermap.core.dvc_experiments import check_study_name
from hypermap.core.errors import UserError, near
from hypermap.sweeps.cli import by_hand, target
from hypermap.sweeps.recorded_sweep import begun

COUNTS = {"best": 3, "seeds": 5, "jobs": 1}


def main() -> None:
    """Run the sweep's command again, with the configuration that it started from, only to confirm.

    Raises:
        UserError: no study is named, an argument is not understood, or as for `begun`.
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
    """Return the name and the value of one of `COUNTS`.

    Raises:
        UserError: there is no such count, or it is below 1.
    """
    key, _, count = word.partition("=")
    if key not in COUNTS:
        raise UserError(f"{word}: no such count{near(key, COUNTS)}. There are: best=3, seeds=5, jobs=1.")
    if not count.isdecimal() or int(count) < 1:
        raise UserError(f"{word}: {key} is a whole number of at least 1.")
    return key, int(count)


if __name__ == "__main__":
    run(main, __doc__)
