"""Confirmations: the best configurations of a study and its baseline, trained again with other seeds."""

import itertools
import os
import random
import re
import runpy
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
import yaml
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from optuna.distributions import IntDistribution

from hypermap.core.errors import UserError
from hypermap.core.files import write_json
from hypermap.core.paths import ROOT, SOURCES
from hypermap.search.counter_samplers import Listed
from hypermap.search.storage import open_storage
from hypermap.search.study import trial_seed
from hypermap.sweeps.confirm import wanted
from hypermap.sweeps.plan import OF_A_RUN, lasting
from hypermap.sweeps.training_target import TrainingTarget
from hypermap.sweeps.trials import snapshot_path

CONFIRM = ("python", "src/confirm.py")
# A Hydra application whose score depends on the seed; it notes what it was run with.
TASK = """
import random, time

import hydra

from hypermap.search.trial import current


@hydra.main(config_path="conf", config_name="config")
def task(config):
    trial = current()
    seed = config.seed if "seed" in trial.values else trial.seed
    time.sleep(config.pause_s)
    with open("ran.txt", "a") as file:
        file.write(f"{config.x!r} {seed}\\n")
    if seed in config.fail:
        raise RuntimeError("no luck")
    if config.report is not None:
        trial.report(1, config.report)
    noise = random.Random(seed).random() / 100
    return [(config.x - 0.3) ** 2 + noise, config.x**2] if config.pair else (config.x - 0.3) ** 2 + noise


if __name__ == "__main__":
    task()
"""
CONFIG = {
    "defaults": [{"override hydra/sweeper": "hypermap"}, "_self_"],
    "x": 0.9, "seed": 7, "pause_s": 0.0, "fail": [], "pair": False, "report": None,
    "hydra": {"sweep": {"dir": "studies/study"}, "sweeper": {"study_name": "study", "seed": 1}},
}  # fmt: skip
RANDOM = ("x=interval(-1.0,1.0)", "hydra/sweeper/sampler=random", "hydra/sweeper/pruner=none")


def score(x: float, seed: int) -> float:
    return (x - 0.3) ** 2 + random.Random(seed).random() / 100


def seeds(count: int) -> list[int]:
    return [trial_seed(1, "confirmation", j) for j in range(count)]


class App:
    """The application in a folder of its own."""

    def __init__(self, folder: Path, forking: dict[str, str], **changes) -> None:
        self.folder, self.forking = folder, forking
        (folder / "conf").mkdir()
        (folder / "conf/config.yaml").write_text(yaml.safe_dump(CONFIG | changes, sort_keys=False))
        (folder / "task.py").write_text(TASK)

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["python", "task.py", "-m", *words],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": str(SOURCES), "OMP_NUM_THREADS": "1"} | self.forking,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str, code: int = 0) -> str:
        process = self.start(*words)
        out, _ = process.communicate(timeout=120)
        assert process.returncode == code, out
        return out

    def trials(self, study: str = "study") -> list[optuna.trial.FrozenTrial]:
        return optuna.load_study(
            study_name=study, storage=open_storage(str(self.folder / "studies/study/journal.log"))
        ).get_trials()

    def confirmed(self) -> list[tuple[int, int]]:
        return [(trial.params["trial"], trial.params["seed"]) for trial in self.trials("study-confirmation")]

    def ran(self) -> list[str]:
        path = self.folder / "ran.txt"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def app(tmp_path, forks):
    return App(tmp_path, forks.light)


def ranked(trials) -> list[int]:
    return [trial.number for trial in sorted(trials, key=lambda trial: trial.value)]


def test_the_best_and_the_baseline_are_trained_with_each_seed_and_nothing_twice(app):
    asks = [*RANDOM, "hydra.sweeper.n_trials=6"]
    out = app.run(*asks, "hydra.sweeper.confirm={best:2,seeds:3}")
    assert "Confirming the best 2 and the baseline with 3 seeds each: 9 trainings" in out
    trials = app.trials()
    x = {trial.number: trial.params["x"] for trial in trials} | {-1: 0.9}
    expected = [(number, seed) for seed in seeds(3) for number in [*ranked(trials)[:2], -1]]
    assert app.confirmed() == expected
    assert [trial.value for trial in app.trials("study-confirmation")] == [score(x[n], seed) for n, seed in expected]
    for number, label in ((ranked(trials)[0], f"trial {ranked(trials)[0]}"), (-1, "baseline")):
        scores = [score(x[number], seed) for seed in seeds(3)]
        row = next(line for line in out.splitlines()[-3:] if line.startswith(label)).removeprefix(label).split()
        assert [float(cell) for cell in row] == pytest.approx(
            [statistics.mean(scores), statistics.stdev(scores), 3], rel=1e-3, abs=5e-5
        )

    assert "All 6 trials are finished" in (again := app.run(*asks, "hydra.sweeper.confirm={best:2,seeds:3}"))
    assert out.splitlines()[-4:] == again.splitlines()[-4:]
    assert len(app.ran()) == 6 + 9
    app.run(*asks, "hydra.sweeper.confirm={best:1,seeds:4}")  # more seeds, fewer configurations
    assert app.confirmed() == [*expected, (ranked(trials)[0], seeds(4)[3]), (-1, seeds(4)[3])]

    before = len(app.ran())  # the search goes on, and has another best
    app.run(*RANDOM, "hydra.sweeper.n_trials=14", "hydra.sweeper.confirm={best:1,seeds:2}")
    best = ranked(app.trials())[0]
    assert best >= 6
    assert app.confirmed()[len(expected) + 2 :] == [(best, seed) for seed in seeds(2)]
    assert len(app.ran()) == before + 8 + 2


def test_a_confirmation_that_is_killed_goes_on_with_the_same_command(app):
    asks = [*RANDOM, "hydra.sweeper.n_trials=3", "hydra.sweeper.confirm={best:2,seeds:3}", "pause_s=0.1"]
    process = app.start(*asks, "hydra.sweeper.n_jobs=2")
    end = time.monotonic() + 60
    while len(app.ran()) < 3 + 4 and time.monotonic() < end:
        time.sleep(0.01)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    app.run(*asks)
    expected = [(number, seed) for seed in seeds(3) for number in [*ranked(app.trials())[:2], -1]]
    assert app.confirmed() == expected
    assert {trial.state.name for trial in app.trials("study-confirmation")} == {"COMPLETE"}
    assert 3 + 9 <= len(app.ran()) <= 3 + 9 + 2  # what ran when it was killed ran again


def test_what_is_asked_for_later_counts_and_not_what_is_left_of_before(app):
    asks = [*RANDOM, "hydra.sweeper.n_trials=2", "pause_s=0.05"]
    process = app.start(*asks, "hydra.sweeper.confirm={best:2,seeds:500}")
    end = time.monotonic() + 60
    while len(app.ran()) < 2 + 4 and time.monotonic() < end:
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert "trainings. Run the same command to resume." in out
    begun = app.confirmed()
    app.run(*asks, "hydra.sweeper.confirm={best:1,seeds:2}")
    first = ranked(app.trials())[0]
    assert sorted(app.confirmed()) == sorted({*begun, *itertools.product([first, -1], seeds(2))})


def test_a_search_that_was_stopped_is_not_confirmed_and_one_that_reached_its_target_is(app):
    assert "Confirming" not in app.run(*RANDOM, "hydra.sweeper.timeout=0.0001", "hydra.sweeper.confirm=true")
    out = app.run(*RANDOM, "hydra.sweeper.target=0.5", "hydra.sweeper.confirm={best:1,seeds:1}")
    assert "Confirming the best and the baseline with 1 seed each: 2 trainings" in out


def test_a_configuration_is_trained_once_a_seed_however_many_trials_had_it(app):
    out = app.run("x=0.5,0.9,0.5000", "hydra/sweeper/pruner=none", "hydra.sweeper.confirm={best:3,seeds:2}")
    assert "The baseline is the configuration of trial 1, and trained as such." in out
    assert "Confirming the best 2 with 2 seeds each: 4 trainings" in out
    better = next(number for number in ranked(app.trials()) if number != 1)  # of two that differ in their seeds alone
    assert app.confirmed() == [(number, seed) for seed in seeds(2) for number in (better, 1)]


def test_a_baseline_that_cannot_be_is_left_out(tmp_path, forks):
    app = App(tmp_path, forks.light, x="???")
    out = app.run("x=0.5,0.2", "hydra.sweeper.confirm={best:1,seeds:2}")
    assert "No baseline is trained: " in out
    assert "Confirming the best with 2 seeds: 2 trainings" in out
    assert [number for number, _ in app.confirmed()] == [1, 1]


def test_of_several_objectives_the_front_is_confirmed(app):
    app.run("x=-0.5,0.1,0.2,0.6", "hydra.sweeper.direction=[minimize,minimize]", "pair=true",
            "hydra.sweeper.confirm={best:3,seeds:2}")  # fmt: skip
    assert {number for number, _ in app.confirmed()} == {1, 2, -1}
    assert app.trials("study-confirmation")[0].values == [score(0.2, seeds(1)[0]), pytest.approx(0.04)]


def test_what_failed_and_what_was_pruned_is_told(app):
    fail = f"fail=[{seeds(2)[1]}]"
    out = app.run("x=0.5,0.2", fail, "hydra.sweeper.confirm={best:1,seeds:3}")
    assert [line.split()[-3:] for line in out.splitlines()[-2:]] == [["2", "(1", "failed)"]] * 2
    pruned = ["hydra/sweeper/pruner=threshold", "hydra.sweeper.pruner.upper=0.5", "report=1"]
    out = app.run(*RANDOM, *pruned, "hydra.sweeper.n_trials=2", "hydra.sweeper.confirm=true",
                  "hydra.sweeper.study_name=pruned", "hydra.sweep.dir=pruned")  # fmt: skip
    assert "No trial of pruned was trained to its end, so there is nothing to confirm." in out


def test_what_would_be_another_configuration_is_refused(app):
    app.run("x=0.5,0.2")
    config = app.folder / "conf/config.yaml"
    config.write_text(config.read_text().replace("pause_s: 0.0", "pause_s: 0.01"))
    told = app.run("x=0.5,0.2", "hydra.sweeper.confirm={only:study}", code=1)
    assert "study cannot be confirmed: its trials were trained with something else than is here now:" in told
    assert "pause_s was 0.0 and is 0.01" in told
    assert len(app.ran()) == 2


def test_a_configuration_without_a_seed_is_refused_before_the_search(app):
    told = app.run(*RANDOM, "~seed", "hydra.sweeper.confirm=true", code=1)
    assert "the configuration has no key seed" in told
    assert not app.ran()


def test_what_was_asked_of_one_command_is_not_asked_again():
    kept = ["hydra/sweeper/sampler=random", "hydra.sweeper.n_jobs=2", "hydra.sweeper.study_name=a", "+hydra.x=1"]
    once = ["hydra.mode=MULTIRUN", "hydra.sweeper.resume=force", "hydra.sweeper.report=false", "~hydra.sweeper.report",
            "hydra.sweeper.confirm={best:3,seeds:5}", "++hydra.sweeper.confirm.best=3"]  # fmt: skip
    assert lasting([*once, *kept]) == kept


def test_the_settings_of_a_run_leave_a_sweep_its_name():
    words = ["hydra.sweeper.confirm={best:3,seeds:5}", "+hydra.sweeper.confirm.best=3", "hydra.sweeper.seeds=2",
             "hydra.sweeper.scientific=[x]", "hydra.sweeper.report=false"]  # fmt: skip
    assert [word for word in words if not re.match(OF_A_RUN, word)] == []
    others = ["hydra.sweeper.seed=2", "hydra.sweeper.compare.a.seeds=2", "++hydra.sweeper.sampler.x=1"]
    assert [word for word in others if re.match(OF_A_RUN, word)] == []


def test_a_configuration_above_its_trials_is_copied_without_them(tmp_path):
    for name in ("config.yaml", "group/one.yaml", "data.bin", ".git/config.yaml", "studies/other/.conf/config.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    path, copied = ConfigSearchPathImpl(), tmp_path / "studies/study/.conf"
    path.append("main", f"file://{tmp_path}")
    copied.parent.mkdir()
    [entry] = snapshot_path(path, copied).get_path()
    assert entry.path == f"file://{copied}"
    found = sorted(str(file.relative_to(copied)) for file in copied.rglob("*") if file.is_file())
    assert found == ["config.yaml", "group/one.yaml"]


def test_the_setting_is_read():
    assert wanted(None) is wanted(False) is None
    assert (wanted(True).best, wanted(True).seeds) == (3, 5)
    assert (wanted({"seeds": 2}).best, wanted({"seeds": 2}).seeds) == (3, 2)
    for setting, told in (
        (3, "hydra.sweeper.confirm is 3; it is true, or {best: 3, seeds: 5}."),
        ({"bset": 3}, "it is true, or {best: 3, seeds: 5}."),
        ({"best": 0}, "hydra.sweeper.confirm.best is 0; it must be a whole number of at least 1."),
        ({"seeds": True}, "hydra.sweeper.confirm.seeds is True; it must be a whole number of at least 1."),
    ):
        with pytest.raises(UserError) as error:
            wanted(setting)
        assert told in str(error.value)


def test_listed_rows_are_proposed_by_their_number():
    listed, whole = Listed([{"a": 1, "b": 2}, {"a": 3, "b": 4}]), IntDistribution(0, 9)
    study = optuna.create_study(sampler=listed)
    drawn = [study.ask({"b": whole, "a": whole}).params for _ in range(2)]
    assert drawn == [{"b": 2, "a": 1}, {"b": 4, "a": 3}]
    with pytest.raises(UserError, match="trial 2 is beyond the rows, of which there are 2"):
        listed.propose(2, "a", whole)
    with pytest.raises(UserError, match="row 0 has no c"):
        listed.propose(0, "c", whole)


# Hypermap's own training, by make confirm.


def test_a_study_is_confirmed_as_it_was_whatever_has_changed_since(clone):
    project = clone()
    sweep = ["optimizer=adam,sgd", "model.hidden=[6],[12]", "trainer.epochs=2", "hydra.sweeper.study_name=tune"]
    sweep += ["final=refit"]  # of which no trial knows
    project.ok(
        "python",
        "src/train.py",
        "-m",
        *sweep,
        "hydra.sweeper.n_trials=3",
        "hydra/sweeper/pruner=none",
        "hydra.sweeper.report=false",
    )
    was = {name: (project.path / name).read_bytes() for name in ("params.yaml", "conf/optimizer/sgd.yaml")}
    project.order(model={"name": "mlp", "hidden": [99]}, trainer={"name": "default", "epochs": 7}, seed=3)
    project.edit("conf/optimizer/sgd.yaml", "momentum: ", "momentum: 0.123  # ")
    project.append("src/hypermap/tasks/losses.py", "# changed\n")

    out = project.ok(*CONFIRM, "tune", "best=3", "seeds=1").out
    assert "| baseline |" in (project.path / "reports/studies/tune/report.md").read_text()
    assert "Confirming the best 3 and the baseline with 1 seed each: 4 trainings" in out
    assert "The code is not that with which tune was searched" in out
    assert "tune-confirmation" not in project.ok("git", "for-each-ref").out
    seed = trial_seed(0, "confirmation", 0)
    confirmed = optuna.load_study(
        study_name="tune-confirmation", storage=open_storage(str(project.path / "studies/tune/journal.log"))
    ).trials
    assert sorted(trial.params["trial"] for trial in confirmed) == [-1, 0, 1, 2]
    for trial in confirmed:
        assert trial.params["seed"] == seed
        of, order = trial.params["trial"], project.yaml(f"studies/tune/confirmation/{trial.number}/params.yaml")
        assert order.pop("seed") == seed
        assert order["final"] == "refit"
        assert project.json(f"studies/tune/confirmation/{trial.number}/model.json")["final"] == "holdout"
        if of >= 0:
            own = project.yaml(f"studies/tune/{of}/params.yaml")
            assert order == {key: value for key, value in own.items() if key != "seed"}
        else:
            assert (order["model"]["hidden"], order["trainer"]["epochs"]) == ([16], 2)

    for name, content in was.items():  # a trial's own order, trained by hand with the seed, gives the same figures
        (project.path / name).write_bytes(content)
    trial = next(trial for trial in confirmed if trial.params["trial"] == 1)
    shutil.copy(project.path / "studies/tune/1/params.yaml", project.path / "params.yaml")
    project.ok("python", "src/train.py", f"seed={seed}", "hydra.run.dir=by-hand")
    by_hand = project.json("by-hand/validation.json")
    assert trial.value == by_hand["validation_accuracy"]
    assert project.json(f"studies/tune/confirmation/{trial.number}/validation.json") == by_hand


def test_a_report_that_cannot_be_written_is_told_and_the_search_counts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    storage = str(tmp_path / "journal.log")
    study = optuna.create_study(study_name="plain", storage=open_storage(storage))
    report = TrainingTarget(lambda configuration: tmp_path, "").report
    Path("reports").touch()
    assert re.fullmatch(
        r"No report: .*Not a directory.*\nOnce that is mended: python src/report.py study=plain", report(study, storage)
    )
    Path("conf").mkdir()
    Path("conf/report.yaml").write_text("edge: 2")
    assert "No report: report: edge is 2.0; it is a share between 0 and 1." in report(study, storage)


def test_make_gives_what_it_is_given():
    told = subprocess.run(
        ["make", "--no-print-directory", "--dry-run", "confirm", "STUDY=tune", "BEST=2", "JOBS=4"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert shlex.split(told.splitlines()[-1]) == ["python", "src/confirm.py", "tune", "best=2", "jobs=4"]


def test_mistakes_are_told_in_a_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    storage = Path("studies/plain/journal.log").absolute()
    write_json(storage.with_name("study.json"), {"storage": str(storage)})
    study = optuna.create_study(study_name="plain", storage=open_storage(str(storage)))
    for words, told in (
        (["plain"], "plain was made by another program, and does not tell what its trials were trained with."),
        (["plian"], "No study 'plian' here (did you mean 'plain'?). There are: plain."),
        ([], "name a study: make confirm STUDY=NAME"),
        (["plain", "best=0"], "best=0: best is a whole number of at least 1."),
        (["plain", "seed=3"], "seed=3: no such count (did you mean 'seeds'?)"),
        (["../plain"], "'../plain' cannot name a study"),
    ):
        assert told in _fails(words, monkeypatch, capsys)
    study.set_user_attr("hypermap", {"identity": {}, "program": "task.py"})
    assert "plain was not searched by src/train.py" in _fails(["plain"], monkeypatch, capsys)
    study.set_user_attr("hypermap", {"identity": {}, "base": ""})
    assert "the configuration that plain began from, is gone" in _fails(["plain"], monkeypatch, capsys)


def _fails(words, monkeypatch, capsys) -> str:
    monkeypatch.setattr(sys, "argv", ["src/confirm.py", *words])
    with pytest.raises(SystemExit, match="1"):
        runpy.run_path(str(ROOT / "src/confirm.py"), run_name="__main__")
    return capsys.readouterr().err
