"""What a worker finds on its own machine, and what it says of what it does not find."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hypermap.core.errors import UserError
from hypermap.core.paths import ROOT
from hypermap.sweeps import workplace
from hypermap.sweeps.workplace import Refusal, Workplace, unpack, versions


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A command in a folder of its own."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src/train.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["src/train.py"])
    return Workplace()


@pytest.fixture
def gone(here):
    """The same, of another machine."""
    return replace(here, host="login1", root=Path("/home/me/hypermap"), program=Path("/home/me/hypermap/src/train.py"))


def test_the_same_folder_is_used_where_there_is_one(here, tmp_path):
    assert here.root_here() == tmp_path
    assert here.moved(tmp_path / "studies/a") == tmp_path / "studies/a"


def test_without_it_the_clone_of_the_installed_package_is(gone):
    assert gone.root_here() == ROOT
    assert gone.moved(Path("/home/me/hypermap/studies/a")) == ROOT / "studies/a"
    assert gone.moved(Path("/shared/studies/a")) == Path("/shared/studies/a")
    assert gone.moved_storage("postgresql://host/db") == "postgresql://host/db"


def test_a_folder_that_was_only_just_made_is_not_the_project(here):
    """Hydra makes the sweep's folder before it calls the worker."""
    with pytest.raises(UserError, match=r"has neither .*, where .* runs other\.py, nor a clone"):
        replace(here, program=here.root / "src/other.py").root_here()


@pytest.mark.parametrize("storage", ["/home/me/hypermap/studies/a/journal.log", "sqlite:////home/me/hypermap/a.db"])
def test_a_file_that_is_not_seen_is_named(gone, storage):
    with pytest.raises(UserError, match=rf"does not see {ROOT}/.*, which has the study on login1.*postgresql://"):
        gone.moved_storage(storage)


def test_a_database_file_is_found_in_the_clone(here, monkeypatch, tmp_path):
    clone = tmp_path / "clone"
    (clone / "src").mkdir(parents=True)
    (clone / "src/train.py").touch()
    (clone / "a.db").touch()
    monkeypatch.setattr(workplace, "ROOT", clone)
    away = replace(here, root=Path("/home/me"), program=Path("/home/me/src/train.py"))
    assert away.moved_storage("sqlite:////home/me/a.db") == f"sqlite:///{clone}/a.db"


def test_other_versions_are_refused_by_name(here):
    other = replace(here, host="login1", versions=versions() | {"torch": "2.0"})
    message = str(other.differences())
    assert f"torch {versions()['torch']} instead of 2.0, which login1 has" in message
    assert "pip install" in message
    refusal = unpack(dict, other, b"")
    assert refusal == Refusal(message)
    with pytest.raises(UserError, match=r"instead of 2\.0"):
        refusal(None)


def test_another_build_of_the_same_version_is_not_refused(here):
    known = versions()
    torch, python = known["torch"].partition("+")[0], known["python"].rpartition(".")[0]
    builds = {"torch": f"{torch}+cu129", "python": f"{python}.99"}
    assert replace(here, versions=known | builds).differences() is None


def test_modules_are_found_before_a_worker_is_read(here, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/a_module_of_ones_own.py").write_text("VALUE = 3\n")
    state = b"ca_module_of_ones_own\nVALUE\n."
    place = replace(here, modules=(tmp_path / "lib",))
    assert isinstance(unpack(lambda **state: state, here, state), Refusal)
    assert sys.path[-1] != str(tmp_path / "lib")
    with pytest.raises(TypeError):  # it was read, and is no mapping
        unpack(lambda **state: state, place, state)
    assert sys.path[-1] == str(tmp_path / "lib")
