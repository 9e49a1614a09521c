"""What a study of 10,000 trials takes in each storage, and in Git, and what a person waits for.

python benchmarks/ten_thousand.py [--parts storages references commands]
python benchmarks/ten_thousand.py --quick    does it run at all: thirty trials, in files

**storages.** The size; opening the study and reading all its trials; and one ask of random search and of the default
one, in a worker that has read them before: the median of five, from the study's lock to the values.
**references.** As many experiments, published one after the other: the time of the last hundred, and what reads their
references, before and after `git pack-refs`.
**commands.** `python src/study.py watch`: one refresh of a study of 1,000 trials, two of which run, in each storage;
and a sweep with `hydra.sweeper.detach=true`, until the command returns, beside `import torch`.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

import optuna  # noqa: E402
from optuna.distributions import distribution_to_json  # noqa: E402
from optuna.trial import FrozenTrial, TrialState, create_trial  # noqa: E402

from hypermap.core import dvc_experiments  # noqa: E402
from hypermap.search.counter_samplers import Random  # noqa: E402
from hypermap.search.database import Database  # noqa: E402
from hypermap.search.lease import TERM_S, Leases  # noqa: E402
from hypermap.search.overview import overview, workers  # noqa: E402
from hypermap.search.storage import batching, is_served, open_storage  # noqa: E402
from hypermap.search.strategy import AUTO, AUTO_PRUNER, Samplers, make_pruner, make_scheduler  # noqa: E402
from hypermap.search.study import BUDGET, StudyConfig, TrialQueue, connect, open_study  # noqa: E402
from storages import REPORTS, SPACE, STORAGES, storage  # noqa: E402
from support.postgres import why_not  # type: ignore[import-not-found]  # noqa: E402

BEGAN = datetime(2026, 1, 1)


def plan(place: str, folder: Path, sampler: str, pruner: str) -> StudyConfig:
    """A search without an end."""
    return StudyConfig(
        "large", place, folder, SPACE, ("minimize",), ("loss",), {"_target_": sampler}, {"_target_": pruner}, None, 0,
        budget=1e6, horizon=REPORTS, pauses=True, baseline={},
    )  # fmt: skip


def trial(number: int) -> FrozenTrial:
    """A complete trial, whose loss falls to the sum of its parameters' logarithms."""
    sampler, every = Random(0), SPACE.distributions()
    params = {name: sampler.propose(number, name, distribution) for name, distribution in every.items()}
    end = sum(params.values())
    made = create_trial(
        state=TrialState.COMPLETE,
        value=end,
        params=params,
        distributions=every,
        user_attrs={"result": {"outcome": "complete", "seed": number, "seconds": 9.0}},
        intermediate_values={step: end + 1 / step for step in range(1, REPORTS + 1)},
    )
    made.number, made.datetime_start = number, BEGAN + timedelta(seconds=5 * number)
    made.datetime_complete = made.datetime_start + timedelta(seconds=9)
    return made


def fill(study: optuna.Study, trials: list[FrozenTrial]) -> None:
    """Add trials, to a database with a few large statements."""
    inner = getattr(study._storage, "inner", None)
    engine = getattr(study._storage, "engine", None)
    if inner is None or engine is None:
        with batching(study._storage):
            study.add_trials(trials)
        return
    from optuna.storages._rdb import models
    from sqlalchemy import insert, select

    rows: dict[Any, list[dict[str, Any]]] = {}
    with engine.begin() as connection:
        started = [
            {"study_id": study._study_id, "number": t.number, "state": t.state, "datetime_start": t.datetime_start,
             "datetime_complete": t.datetime_complete}
            for t in trials
        ]  # fmt: skip
        table = models.TrialModel.__table__
        connection.execute(insert(table), started)
        ids = dict(connection.execute(select(table.c.number, table.c.trial_id)).all())
        for one in trials:
            of = {"trial_id": ids[one.number]}
            finite = {"value": one.value, "value_type": models.TrialValueModel.TrialValueType.FINITE}
            rows.setdefault(models.TrialValueModel, []).append(of | {"objective": 0} | finite)
            attr = {"key": "result", "value_json": '{"outcome": "complete", "seed": 1, "seconds": 9.0}'}
            rows.setdefault(models.TrialUserAttributeModel, []).append(of | attr)
            for name, value in one.params.items():
                text = distribution_to_json(one.distributions[name])
                param = {"param_name": name, "param_value": value, "distribution_json": text}
                rows.setdefault(models.TrialParamModel, []).append(of | param)
            kind = models.TrialIntermediateValueModel.TrialIntermediateValueType.FINITE
            rows.setdefault(models.TrialIntermediateValueModel, []).extend(
                of | {"step": step, "intermediate_value": value, "intermediate_value_type": kind}
                for step, value in one.intermediate_values.items()
            )
        for model, some in rows.items():
            connection.execute(insert(model.__table__), some)


def size_mb(place: str, study: optuna.Study) -> float:
    """The megabytes of a file or a database."""
    if place.startswith("postgresql"):
        from sqlalchemy import text

        storage = study._storage
        assert isinstance(storage, Database)
        with storage.engine.connect() as connection:
            return float(connection.execute(text("SELECT pg_database_size(current_database())")).scalar()) / 1e6
    return Path(place.removeprefix("sqlite:///")).stat().st_size / 1e6


def ask_ms(place: str, folder: Path, sampler: str, pruner: str, rounds: int) -> float:
    """The median time of an ask in a worker."""
    settings = plan(place, folder, sampler, pruner)
    made = make_pruner(settings)
    study = connect(settings, made)
    claims = TrialQueue(settings, study, Samplers(settings), make_scheduler(settings, made))
    study.get_trials(deepcopy=False)
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        with claims.deciding() as trials:
            claim = claims.next(trials)
            assert claim is not None
            with batching(study._storage):
                SPACE.suggest(claim.trial)
        taken.append(time.perf_counter() - began)
        study.tell(claim.trial, 1.0)
        claim.release()
    return 1000 * statistics.median(taken)


def in_storages(trials: int, kinds: list[str]) -> None:
    """Print the first table."""
    columns = ("MB", "s to open and read", "ms, one ask of random", "of auto")
    print(f"| {trials:,} trials | {' | '.join(columns)} |\n|---|{'--:|' * len(columns)}")
    for kind in kinds:
        with tempfile.TemporaryDirectory() as made, storage(kind, Path(made)) as (place, _):
            os.chdir(made)
            settings = plan(place, Path(made), AUTO, AUTO_PRUNER)
            study, _record = open_study(settings, {"identity": {}}, force=False)
            fill(study, [trial(number) for number in range(trials)])
            began = time.perf_counter()
            assert len(optuna.load_study(study_name="large", storage=open_storage(place)).trials) == trials
            opened = time.perf_counter() - began
            megabytes = size_mb(place, study)
            asks = [
                ask_ms(place, Path(made), *of, 5)
                for of in (
                    ("hypermap.search.counter_samplers.Random", "optuna.pruners.NopPruner"),
                    (AUTO, AUTO_PRUNER),
                )
            ]
            cells = [f"{megabytes:.1f}", f"{opened:.1f}", *(f"{ms:.0f}" for ms in asks)]
            print(f"| {kind} | {' | '.join(cells)} |", flush=True)
            os.chdir(ROOT)


def timed_ms(do: Callable[[], Any]) -> float:
    """The milliseconds of a call."""
    began = time.perf_counter()
    do()
    return 1000 * (time.perf_counter() - began)


def references(counts: list[int]) -> None:
    """Print the second table."""
    columns = ("ms to publish one", "for-each-ref, ms", "names of all, ms", "packing, ms", "publish", "for-each-ref")
    print(f"\n| experiments | {' | '.join(columns)}, packed |\n|--:|{'--:|' * len(columns)}")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)

        def git(*words: str) -> str:
            identity = ["-c", "user.name=me", "-c", "user.email=me@localhost"]
            done = subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True)
            return done.stdout.strip()

        git("init", "-q")
        (folder / "params.yaml").write_text("a: 1\n")
        git("add", "-A")
        git("commit", "-qm", "Begin")
        of = dvc_experiments.Snapshot(git("rev-parse", "HEAD"), git("rev-parse", "HEAD^{tree}"), dirty=False)

        def publish(first: int, last: int) -> float:
            """Publish experiments; return the milliseconds of each of the last hundred."""
            taken = []
            for number in range(first, last):
                began, metrics = time.perf_counter(), f'{{"score": {number}}}\n'
                dvc_experiments.publish(folder, of, f"study-{number:05d}", f"a: {number}\n", metrics)
                taken.append(1000 * (time.perf_counter() - began))
            return statistics.mean(taken[-100:])

        begun = 0
        for count in counts:
            each = publish(begun, count)
            cells = [each, timed_ms(lambda: git("for-each-ref")), timed_ms(lambda: dvc_experiments.names(folder))]
            cells.append(timed_ms(lambda: git("pack-refs", "--all")))
            begun = count + 50
            cells += [publish(count, begun), timed_ms(lambda: git("for-each-ref"))]
            print(f"| {count:,} | {' | '.join(f'{ms:.1f}' for ms in cells)} |", flush=True)


def commands(trials: int, kinds: list[str], *, sweep: bool) -> None:
    """Print the third table."""
    print(f"\n| {trials:,} trials | s | processor s |\n|---|--:|--:|")
    for kind in kinds:
        with tempfile.TemporaryDirectory() as made, storage(kind, Path(made)) as (place, _):
            os.chdir(made)
            study, _record = open_study(plan(place, Path(made), AUTO, AUTO_PRUNER), {"identity": {}}, force=False)
            study.set_user_attr(BUDGET, 2 * trials)
            if kind == "proxy":
                study.add_trials([trial(number) for number in range(trials)])
            else:
                fill(study, [trial(number) for number in range(trials)])
            busy = study.ask(), study.ask()
            watching = optuna.load_study(study_name="large", storage=open_storage(place))
            leases = Leases(watching, TERM_S) if is_served(watching._storage) else None

            def refresh(watching: optuna.Study = watching, place: str = place, leases: Leases | None = leases) -> None:
                if leases is not None:
                    leases.look(workers(watching.get_trials(deepcopy=False)))
                overview(watching, place, leases)

            refresh()
            taken = []
            for step in range(1, 6):
                for one in busy:
                    one.report(1.0, step)
                time.sleep(0.25)
                began, before = time.perf_counter(), time.process_time()
                refresh()
                taken.append((time.perf_counter() - began, time.process_time() - before))
            wall, processor = map(statistics.median, zip(*taken, strict=True))
            print(f"| watch, {kind} | {wall:.3f} | {processor:.3f} |", flush=True)
            os.chdir(ROOT)
    if sweep:
        with tempfile.TemporaryDirectory() as made:
            subprocess.run(["git", "clone", "-q", str(ROOT), "clone"], cwd=made, check=True)
            words = ["optimizer.lr=interval(0.001,0.1)", "trainer.epochs=1", "hydra.sweeper.n_trials=1"]
            words += ["hydra.sweeper.detach=true", "hydra.sweeper.report=false"]
            clone = Path(made) / "clone"
            for name, command in (
                ("", ["src/train.py", "-m", *words, "hydra.sweeper.study_name=first"]),  # it prepares the data
                ("detach=true", ["src/train.py", "-m", *words, "hydra.sweeper.study_name=second"]),
                ("import torch", ["-c", "import torch"]),
            ):
                start, times = time.perf_counter(), os.times()
                subprocess.run([sys.executable, *command], cwd=clone, check=True, stdout=subprocess.DEVNULL)
                wall, after = time.perf_counter() - start, os.times()
                processor = after.children_user + after.children_system - times.children_user - times.children_system
                if name:
                    print(f"| {name} | {wall:.2f} | {processor:.2f} |", flush=True)
                time.sleep(30 if "src/train.py" in command else 0)  # for the sweep itself to end


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=("storages", "references", "commands"))
    parser.add_argument("--storages", nargs="+", choices=STORAGES, default=list(STORAGES))
    parser.add_argument("--trials", type=int, default=10000)
    parser.add_argument("--quick", action="store_true", help="a smoke run: thirty trials in files")
    given = parser.parse_args()
    parts = given.parts or ["storages", "references", "commands"]
    kinds, trials = (list(STORAGES[:2]), 30) if given.quick else (given.storages, given.trials)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    print(f"Load average at the start: {os.getloadavg()[0]:.1f}\n")
    runnable = [kind for kind in kinds if kind in STORAGES[:2] or why_not() is None]
    if "storages" in parts:
        in_storages(trials, [kind for kind in runnable if kind != "proxy"])
    if "references" in parts:
        references([10, 100] if given.quick else [500, trials])
    if "commands" in parts:
        commands(min(trials, 1000), runnable, sweep=not given.quick)


if __name__ == "__main__":
    main()
