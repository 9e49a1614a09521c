import subprocess
import sys

import pytest

from hypermap.core.cli import TRACEBACK_VARIABLE, run
from hypermap.core.errors import UserError, near
from hypermap.core.paths import SOURCES

PACKAGE = str(SOURCES)


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
        ("adam", " (did you mean 'adamw'?)"),  # what was given is no help
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
            "Error: models/x: No space left on device. Free some space there, then give the same command again.\n",
        ),
        (
            PermissionError(13, "Permission denied", "runs"),
            1,
            "Error: runs: Permission denied. Give yourself the right",
        ),
        (OSError(30, "Read-only file system", "a"), 1, "Error: a: Read-only file system. Make it writable, or work in"),
        (IsADirectoryError(21, "Is a directory", "a"), 1, "Error: [Errno 21] Is a directory: 'a'"),
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
    code = "from hypermap.core.cli import *\ndef f(): raise UserError('so it is')\nrun(f)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": PACKAGE})
    assert done.returncode == 1
    assert done.stderr == f"Error: so it is\n({TRACEBACK_VARIABLE}=1 shows the traceback)\n"


WORK = """
from pathlib import Path
from hypermap.core.cli import (run)

def work():
    for line in range(3):
        print("a line of output →", line, flush=True)
    Path("done").touch()

run(work, "How to work.")
"""


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ('"$0" -c "$1" | true', "Broken pipe"),
        ('"$0" -c "$1" > /dev/full', "No space left on device"),
        ('"$0" -c "$1" >&- 2>&- <&-', None),
    ],
)
def test_work_goes_on_without_a_reader(tmp_path, command, reason):
    command = (
        f"set -o pipefail; {command.replace('$1', 'import time; time.sleep(0.2); $1') if '|' in command else command}"
    )
    ended = subprocess.run(
        ["bash", "-c", command, sys.executable, WORK],
        cwd=tmp_path,
        env={"PYTHONPATH": PACKAGE},
        capture_output=True,
        text=True,
    )
    assert (tmp_path / "done").exists()
    assert ended.returncode == 0
    assert ended.stderr == (f"The output is no longer read ({reason}); the work continues.\n" if reason else "")


def test_what_the_output_cannot_show_is_escaped(tmp_path):
    words = [sys.executable, "-c", WORK]
    variables = {"PYTHONPATH": PACKAGE, "PYTHONIOENCODING": "ascii"}
    ended = subprocess.run(words, cwd=tmp_path, env=variables, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines()[0] == "a line of output \\u2192 0"


def test_a_command_says_what_it_is_about(tmp_path):
    for flag in ("-h", "--help"):
        words = [sys.executable, "-c", WORK, flag]
        ended = subprocess.run(words, cwd=tmp_path, env={"PYTHONPATH": PACKAGE}, capture_output=True, text=True)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "How to work.\n", "")
    assert not (tmp_path / "done").exists()


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: path.symlink_to("gone"), "is a link to gone, which is not there. Make that folder, or remove"),
        (lambda path: path.write_text(""), "is a file where a folder is to be. Move it away"),
    ],
)
def test_what_is_in_a_folders_place_is_told(tmp_path, capsys, make, told):
    make(tmp_path / "data")
    with pytest.raises(SystemExit):
        run(lambda: (tmp_path / "data").mkdir(parents=True, exist_ok=True))
    assert f"Error: {tmp_path / 'data'} {told}" in capsys.readouterr().err
