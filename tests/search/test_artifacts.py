"""States of trials in a place that machines without a shared folder share."""

import json
import multiprocessing
import os
import shutil
import signal
import zipfile
from dataclasses import replace

import pytest

from hypermap.core.errors import Interrupted, UserError
from hypermap.search import artifacts as module
from hypermap.search.artifacts import Artifacts
from hypermap.search.study import connect, open_study
from hypermap.search.worker import work
from support.studies import planned

fork = multiprocessing.get_context("fork")


def begun(tmp_path, **changes):
    plan = replace(planned(tmp_path), n_trials=1, pauses=True, artifacts=str(tmp_path / "store"), **changes)
    open_study(plan, {"identity": {"direction": list(plan.directions), "space": plan.space.record()}}, force=False)
    return plan


class Counting:
    """Trains for five epochs, from the state in its folder on; it is interrupted once."""

    def __init__(self, stops_at=None):
        self.stops_at = stops_at
        self.began_at = []

    def __call__(self, trial, values):
        path = trial.state / "deep" / "state.json"
        epoch = json.loads(path.read_text()) if path.exists() else 0
        self.began_at.append(epoch)
        while epoch < 5:
            epoch += 1
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(epoch))
            trial.report(epoch, 1 / epoch)
            if epoch == self.stops_at:
                raise Interrupted
        return 0.0


def test_another_machine_goes_on_from_the_state_that_was_sent(tmp_path):
    plan = begun(tmp_path)
    work(plan, Counting(stops_at=3))
    assert (tmp_path / "store" / plan.name / "0" / "state.zip").exists()
    shutil.rmtree(plan.folder / "0")  # another machine has no such folder
    there = Counting()
    work(plan, there)
    assert there.began_at == [3]
    assert connect(plan).trials[0].values == [0.0]
    assert not list((tmp_path / "store").rglob("state.zip"))


def test_a_running_trials_state_is_sent_from_time_to_time(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "EVERY_S", 0.0)
    plan = begun(tmp_path)
    process = fork.Process(target=work, args=(plan, Killed()))
    process.start()
    process.join()
    shutil.rmtree(plan.folder / "0")
    there = Counting()
    work(plan, there)
    assert there.began_at == [2]


class Killed(Counting):
    def __call__(self, trial, values):
        trial_report = trial.report

        def report(step, value):
            trial_report(step, value)
            if step == 2:
                os.kill(os.getpid(), signal.SIGKILL)

        trial.report = report
        return super().__call__(trial, values)


def test_what_a_failed_trial_leaves_is_sent(tmp_path):
    def fails(trial, values):
        raise ValueError("no such thing")

    plan = begun(tmp_path)
    work(plan, fails)
    assert "no such thing" in (tmp_path / "store" / plan.name / "0" / "error.txt").read_text()


def test_a_place_that_is_away_ends_no_trial(tmp_path, monkeypatch, capsys):
    def away(self):
        raise OSError("the network is down")

    monkeypatch.setattr(Artifacts, "_opened", away)
    plan = begun(tmp_path)
    work(plan, Counting(stops_at=3))
    work(plan, Counting())
    assert connect(plan).trials[0].values == [0.0]
    told = capsys.readouterr().out
    assert f"The state of trial 0 was not sent to {plan.artifacts}: the network is down" in told


@pytest.mark.parametrize("url", ["nowhere://bucket", "s3nope://x"])
def test_a_place_that_cannot_be_is_told(url):
    with pytest.raises(UserError, match=rf"hydra.sweeper.artifacts={url} cannot be used .*s3://BUCKET/FOLDER"):
        Artifacts(url, "study").check()


def test_a_state_is_there_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    class Dies(BaseException):
        pass

    def dies(archive, path):
        extract(archive, path)
        (path / "two").unlink()
        raise Dies

    sent, state = tmp_path / "sent", tmp_path / "0" / "state"
    sent.mkdir()
    for name in ("one", "two"):
        (sent / name).write_text(name)
    there = Artifacts(str(tmp_path / "store"), "study")
    there.push(0, sent, at_once=True)
    extract = module.zipfile.ZipFile.extractall
    monkeypatch.setattr(module.zipfile.ZipFile, "extractall", dies)
    with pytest.raises(Dies):
        there.pull(0, state)
    assert not state.exists()
    monkeypatch.setattr(module.zipfile.ZipFile, "extractall", extract)
    there.pull(0, state)
    assert sorted(path.name for path in state.iterdir()) == ["one", "two"]


def test_a_state_that_names_files_elsewhere_is_not_unpacked(tmp_path, capsys):
    store = tmp_path / "store" / "study" / "0"
    store.mkdir(parents=True)
    with zipfile.ZipFile(store / "state.zip", "w") as archive:
        archive.writestr("../../evil.txt", b"evil")
    Artifacts(str(tmp_path / "store"), "study").pull(0, tmp_path / "a" / "b" / "state")
    assert not list(tmp_path.rglob("evil.txt"))
    assert "Trial 0 starts over" in capsys.readouterr().out
