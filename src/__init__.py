"""Not a package: run a script here as a file (python src/train.py); python -m src.train fails."""

import shlex
import sys

_, script, *words = sys.orig_argv[sys.orig_argv.index("-m") :] if "-m" in sys.orig_argv else ["", "src.train"]
instead = shlex.join(["python", f"src/{script.removeprefix('src.')}.py", *words])
sys.exit(f"Error: src is no package. Start the script as a file: {instead}")
