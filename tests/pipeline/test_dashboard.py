"""make dashboard STUDY=NAME: the storage is opened here, so that no command line shows its password."""

import runpy
import sys

import optuna
import pytest

from hypermap.core.files import write_json
from hypermap.core.paths import SOURCES
from hypermap.search.storage import open_storage

SCRIPT = SOURCES / "dashboard.py"


def test_the_storage_itself_is_served(tmp_path, monkeypatch, capsys):
    served = {}
    fake = type(sys)("optuna_dashboard")
    fake.run_server = lambda storage, **where: served.update(storage=storage, **where)
    fake.__spec__ = sys.__spec__
    monkeypatch.setitem(sys.modules, "optuna_dashboard", fake)
    monkeypatch.chdir(tmp_path)
    place = str(tmp_path / "studies/mine/journal.log")
    optuna.create_study(study_name="mine", storage=open_storage(place)).enqueue_trial({"x": 1})
    write_json(tmp_path / "studies/mine/study.json", {"storage": place, "study": "mine"})
    monkeypatch.setattr(sys, "argv", ["src/dashboard.py", "mine"])
    runpy.run_path(str(SCRIPT))["main"]()
    assert [trial.params for trial in optuna.load_study(study_name="mine", storage=served["storage"]).trials] == [{}]
    assert served["host"] == "127.0.0.1"
    assert "http://127.0.0.1:8080/" in capsys.readouterr().out


def test_without_a_study(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["src/dashboard.py"])
    with pytest.raises(Exception, match="make dashboard STUDY=NAME"):
        runpy.run_path(str(SCRIPT))["main"]()
