"""Whether torchrun has started a process."""

import pytest

from hypermap.core.errors import UserError
from hypermap.core.launch import Launched, check_processes, check_single, launched


@pytest.fixture
def by_torchrun(monkeypatch):
    variables = {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "MASTER_ADDR": "first", "MASTER_PORT": "29500"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_by_itself(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "8")  # without the rest, as a scheduler may set it
    assert launched() is None
    check_processes(1)
    check_processes(2)
    check_single(["-m", "optimizer.lr=0.1"])


def test_one_process_of_torchrun_is_by_itself(by_torchrun, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert launched() is None


@pytest.mark.usefixtures("by_torchrun")
def test_the_place_is_that_of_the_variables():
    assert launched() == Launched(rank=5, size=8, local_rank=1)


@pytest.mark.usefixtures("by_torchrun")
def test_another_number_of_processes_is_refused():
    check_processes(8)
    with pytest.raises(UserError, match=r"^WORLD_SIZE is 8.* trainer\.processes is 1: add trainer\.processes=8, or"):
        check_processes(1)


@pytest.mark.usefixtures("by_torchrun")
def test_a_sweep_is_refused():
    check_single(["optimizer.lr=0.1"])
    with pytest.raises(UserError, match=r": python src/train\.py -m optimizer\.lr=0\.1,0\.2 trainer\.processes=8$"):
        check_single(["-m", "optimizer.lr=0.1,0.2"])
