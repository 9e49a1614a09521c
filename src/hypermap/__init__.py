"""Hypermap: a workbench for tuning deep networks, in which everything is a mapping."""

import sys
from pathlib import Path


def _let_installed_packages_come_first() -> None:
    """Move src/ behind the installed packages on the path: some scripts share a package's name, such as ``evaluate``.

    The user's own modules there are still found, and before those of another installed clone.
    """
    sources = str(Path(__file__).resolve().parents[1])
    if sources in sys.path:
        others = [path for path in sys.path if path != sources]
        clones = (place for place, path in enumerate(others) if Path(path, "hypermap").is_dir())
        others.insert(next(clones, len(others)), sources)
        sys.path[:] = others


_let_installed_packages_come_first()
