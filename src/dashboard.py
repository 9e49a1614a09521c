"""Open a study in optuna-dashboard: python src/dashboard.py STUDY (or: make dashboard STUDY=name)."""

import sys
from importlib.util import find_spec

from hypermap.core.cli import run
from hypermap.core.errors import UserError
from hypermap.search.storage import open_storage
from hypermap.search.study import find

HOST, PORT = "127.0.0.1", 8080


def main() -> None:
    """Serve the study's storage in this process until Ctrl-C: a command line, with its password, is visible to all."""
    if len(sys.argv) != 2 or not sys.argv[1]:
        raise UserError("name a study: make dashboard STUDY=NAME")
    _, storage = find(sys.argv[1])
    if find_spec("optuna_dashboard") is None:
        raise UserError("optuna-dashboard is not installed: pip install optuna-dashboard")
    from optuna_dashboard import run_server  # type: ignore[import-untyped, unused-ignore]

    print(f"Listening on http://{HOST}:{PORT}/ (Ctrl-C ends it)", flush=True)
    run_server(open_storage(storage), host=HOST, port=PORT)


if __name__ == "__main__":
    run(main, __doc__)
