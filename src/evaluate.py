"""The last stage: the trained model on the test set, which nothing else opens, and the report."""

from pathlib import Path

import yaml

from hypermap.errors import UserError, run
from hypermap.evaluation import evaluate

CONFIG = Path("reports/config/evaluate.yaml")
REPORTS = Path("reports")


def main() -> None:
    """Write reports/test.json, reports/intervals.json and reports/report.md with its pictures and plots."""
    if not CONFIG.is_file():
        raise UserError(f"{CONFIG} is not here. `dvc repro` writes it, as does python src/compose.py.")
    configuration = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    metrics = evaluate(configuration, Path("data/prepared"), Path("models"), REPORTS)
    print(f"Test {', '.join(f'{name} {value:.4f}' for name, value in metrics.items())}")
    print(f"Report: {REPORTS / 'report.md'}")


if __name__ == "__main__":
    run(main)
