"""The last stage: evaluate the trained model on the test set, which nothing else opens, and write the report.

python src/evaluate.py              models/ and baselines/, which may only name parts of this project and of torch
python src/evaluate.py trust=true   the same, with any code that they name, if you trust whoever wrote them
"""

import json
import sys

from hypermap.core.cli import run
from hypermap.core.cli_args import read_trust, read_words
from hypermap.core.files import read_slice
from hypermap.core.paths import BASELINES, CONFIGS, MODELS, PREPARED, REPORTS
from hypermap.inference.evaluate import evaluate

CONFIG = CONFIGS / "evaluate.yaml"


def main() -> None:
    """Write test.json, intervals.json, baselines.json and report.md with its pictures and plots into reports/."""
    trust = read_trust(read_words(sys.argv[1:], ("trust",)))
    metrics = evaluate(read_slice(CONFIG), PREPARED, MODELS, BASELINES, REPORTS, trust=trust)
    print(f"Test {', '.join(f'{name} {value:.4f}' for name, value in metrics.items())}")
    beside = json.loads((REPORTS / "baselines.json").read_text(encoding="utf-8"))
    figure = "accuracy" if "accuracy" in metrics else "r2"
    if compared := [f"{name} {other['test'][figure]:.4f}" for name, other in beside.items() if figure in other["test"]]:
        print(f"Beside, test {figure}: {', '.join(compared)}; the report says which to take")
    print(f"Report: {REPORTS / 'report.md'}")


if __name__ == "__main__":
    run(main, __doc__)
