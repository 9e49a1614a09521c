import subprocess
import sys
from pathlib import Path

import pytest

import hypermap
from hypermap.errors import TRACEBACK_VARIABLE, UserError, near, run

PACKAGE = str(Path(hypermap.__file__).parents[1])


def failing(error):
    def command():
        raise error

    return command


@pytest.fixture(autouse=True)
def no_traceback(monkeypatch):
    monkeypatch.delenv(TRACEBACK_VARIABLE, raising=False)


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("momentun", " (did you mean 'momentum'?)"),
        ("adan", " (did you mean 'adam' or 'adamw'?)"),
        ("quite_another", ""),
        ("", ""),
    ],
)
def test_near_matches(word, hint):
    assert near(word, ["momentum", "adam", "adamw", "sgd"]) == hint


def test_near_takes_any_iterable():
    assert near("lrr", {"lr": 0.1}) == " (did you mean 'lr'?)"
    assert near("lr", iter(())) == ""


def test_what_a_command_returns_is_returned(capsys):
    assert run(lambda: 7) == 7
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UserError("data.x is 1; allowed: 2."), 1, "Error: data.x is 1; allowed: 2.\n"),
        (
            OSError(28, "No space left on device", "models/x"),
            1,
            "Error: [Errno 28] No space left on device: 'models/x'",
        ),
        (PermissionError(13, "Permission denied", "runs"), 1, "Error: [Errno 13] Permission denied: 'runs'"),
        (KeyboardInterrupt(), 130, "Interrupted.\n"),
    ],
)
def test_exit_codes_and_messages(error, code, message, capsys):
    with pytest.raises(SystemExit) as left:
        run(failing(error))
    assert left.value.code == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(message)
    assert (TRACEBACK_VARIABLE in printed.err) == (code == 1)  # says how to see more


@pytest.mark.parametrize("error", [ValueError("a bug"), RuntimeError("a bug"), KeyError("a bug")])
def test_a_bug_keeps_its_traceback(error):
    with pytest.raises(type(error), match="a bug"):
        run(failing(error))


@pytest.mark.parametrize(("value", "shown"), [("1", True), ("yes", True), ("0", False), ("", False)])
def test_the_variable_shows_the_traceback(value, shown, monkeypatch):
    monkeypatch.setenv(TRACEBACK_VARIABLE, value)
    with pytest.raises(UserError if shown else SystemExit):
        run(failing(UserError("wrong")))


def test_a_process_ends_with_one_message_and_its_code():
    code = "from hypermap.errors import *\ndef f(): raise UserError('so it is')\nrun(f)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": PACKAGE})
    assert done.returncode == 1
    assert done.stderr == f"Error: so it is\n({TRACEBACK_VARIABLE}=1 shows the traceback)\n"
