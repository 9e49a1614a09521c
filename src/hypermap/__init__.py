"""Hypermap: a workbench for tuning deep networks, in which everything is a mapping."""

import sys
from pathlib import Path

# The scripts lie beside the package, and are not to be found before what is installed under the same name, such as
# `evaluate`; modules of a person's own are found there all the same.
_sources = str(Path(__file__).resolve().parents[1])
if _sources in sys.path:
    sys.path[:] = [*(path for path in sys.path if path != _sources), _sources]
