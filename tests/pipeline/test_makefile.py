"""What stands behind make's variables reaches the scripts as one word, whatever is in it."""

import shlex
import subprocess

import pytest

from hypermap.core.paths import ROOT


@pytest.mark.parametrize("name", ["plain", "two words", "it's", 'say "x"', "`id`", "a;b", "ü*", "a\\b"])
@pytest.mark.parametrize(
    ("target", "variables", "words"),
    [
        ("promote", ["STUDY", "TRIAL"], ["src/promote.py", "{}", "{}"]),
        ("confirm", ["STUDY", "BEST"], ["src/confirm.py", "{}", "best={}"]),
        ("dashboard", ["STUDY"], ["src/dashboard.py", "{}"]),
        ("review", ["BASE"], ["src/review.py", "{}"]),
        ("order", ["EXPERIMENT"], ["src/order.py", "{}"]),
        ("export", ["MODEL", "OUTPUT"], ["src/export.py", "model={}", "output={}"]),
    ],
)
def test_a_variable_is_one_word(tmp_path, name, target, variables, words):
    (tmp_path / "installed").touch()
    command = ["make", "--no-print-directory", "--dry-run", "-o", f"{tmp_path}/installed", f"VENV={tmp_path}", target]
    made = subprocess.run(
        [*command, *(f"{key}={name}" for key in variables)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert shlex.split(made.stdout) == ["python", *(word.format(name) for word in words)]
