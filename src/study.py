"""Look at a study, stop it, go on with it: python src/study.py VERB STUDY [storage=…].

status STUDY            how far it is, its best trial, and what its workers do
watch STUDY             the same, again and again (every=2 seconds), until it is finished or Ctrl-C
stop STUDY              ask all its workers, wherever they run, to stop after their running epochs
resume STUDY            go on with it from here; Hydra's overrides may follow, such as hydra.sweeper.n_jobs=4
fetch STUDY             get the results of trials that ran elsewhere, for dvc exp show, promote, report and confirm
serve storage=URL       stand between a database and many workers: hydra.sweeper.storage=grpc://HOST:PORT
                        (host=0.0.0.0 port=13000)

storage=URL: of a study that was not begun in this folder. trust=true, with resume: also if the study names code outside
this project, and you trust whoever made it.
"""

import sys
import time

from hypermap.core.cli import run
from hypermap.core.cli_args import read_trust, read_words
from hypermap.core.dvc_experiments import check_study_name
from hypermap.core.errors import UserError, near

VERBS = ("status", "watch", "stop", "resume", "fetch", "serve")


def main() -> None:
    """Carry out one verb.

    Raises:
        UserError: there is no such verb or study, or an argument is not understood.
    """
    verb, *words = [word for word in sys.argv[1:] if word] or [""]
    if verb not in VERBS:
        raise UserError(f"{verb!r} is no verb{near(verb, VERBS)}: python src/study.py {'|'.join(VERBS)} STUDY")
    if verb == "serve":
        from hypermap.search.serve import serve

        given = read_words(words, ("storage", "host", "port"))
        serve(given.get("storage", ""), given.get("host", "localhost"), given.get("port", "13000"))
        return
    if not words or "=" in words[0]:
        raise UserError(f"name a study: python src/study.py {verb} STUDY")
    name, *rest = words
    check_study_name(name)
    overrides = [word for word in rest if word.startswith("hydra")] if verb == "resume" else []
    keys = ("storage", *(("every",) if verb == "watch" else ("trust",) if verb == "resume" else ()))
    given = read_words([word for word in rest if word not in overrides], keys)
    if verb in ("status", "watch", "stop"):
        look(verb, name, given)
        return
    from hypermap.sweeps.cli import by_hand, target
    from hypermap.sweeps.fetched import fetch

    if verb == "fetch" or "storage" in given:
        print(fetch(name, given.get("storage")), flush=True)
    if verb == "resume":
        from hypermap.config.compose import sweep_again
        from hypermap.sweeps.recorded_sweep import begun

        record, conf = begun(name, trust=read_trust(given))
        own = {override.partition("=")[0] for override in overrides}
        words = [word for word in [*record["command"], *record.get("hydra", [])] if word.partition("=")[0] not in own]
        sweep_again(by_hand, target, [*words, *overrides], record["base"], conf)


def look(verb: str, name: str, given: dict[str, str]) -> None:
    """Print a study's state, once or repeatedly, or ask its workers to stop."""
    from hypermap.search.lease import TERM_S, Leases, request_stop
    from hypermap.search.overview import overview, workers
    from hypermap.search.storage import is_served
    from hypermap.search.study import BUDGET, find, finished

    study, storage = find(name, given.get("storage"))
    if verb == "stop":
        request_stop(study, storage)
        print(f"The workers of {name} stop after their running epochs. To go on: python src/study.py resume {name}")
        return
    if verb == "status":
        print(overview(study, storage))
        return
    every, lines, before = read_every(given.get("every", "2")), 0, ""
    leases = Leases(study, TERM_S) if is_served(study._storage) else None
    while True:
        trials = study.get_trials(deepcopy=False)
        if leases is not None:
            leases.look(workers(trials))
        text = overview(study, storage, leases)
        if text != before:
            if sys.stdout.isatty() and lines:
                print(f"\033[{lines}A\033[J", end="")
            print(text, flush=True)
            lines, before = text.count("\n") + 1, text
        most = study.user_attrs.get(BUDGET)
        if most is not None and len(finished(trials, most)) >= most and all(t.state.is_finished() for t in trials):
            return
        time.sleep(every)


def read_every(word: str) -> float:
    """Return the seconds between two looks.

    Raises:
        UserError: it is not a number above 0.
    """
    try:
        every = float(word)
    except ValueError:
        every = 0.0
    if not 0 < every < 1e6:
        raise UserError(f"every={word}: it is a number of seconds, such as every=2")
    return every


if __name__ == "__main__":
    run(main, __doc__)
