"""Open a study in optuna-dashboard: python src/dashboard.py STUDY (or: make dashboard STUDY=name)."""

import shutil
import subprocess
import sys

from hypermap.core.cli import run
from hypermap.core.errors import UserError
from hypermap.core.passwords import revealed
from hypermap.search.study import find


def main() -> None:
    """Serve the study's storage until Ctrl-C."""
    if len(sys.argv) != 2 or not sys.argv[1]:
        raise UserError("name a study: make dashboard STUDY=NAME")
    _, storage = find(sys.argv[1])
    if shutil.which("optuna-dashboard") is None:
        raise UserError("optuna-dashboard is not installed: pip install optuna-dashboard")
    sys.exit(subprocess.run(["optuna-dashboard", revealed(storage)]).returncode)


if __name__ == "__main__":
    run(main, __doc__)
