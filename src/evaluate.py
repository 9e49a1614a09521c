"""The last stage: the trained model on the test set, which nothing else opens, and the report."""

from pathlib import Path

from hypermap.errors import run
from hypermap.evaluation import evaluate
from hypermap.files import read_slice

CONFIG = Path("reports/config/evaluate.yaml")
REPORTS = Path("reports")


def main() -> None:
    """Write test.json, intervals.json, baselines.json and report.md with its pictures and plots into reports/."""
    metrics = evaluate(read_slice(CONFIG), Path("data/prepared"), Path("models"), Path("baselines"), REPORTS)
    print(f"Test {', '.join(f'{name} {value:.4f}' for name, value in metrics.items())}")
    print(f"Report: {REPORTS / 'report.md'}")


if __name__ == "__main__":
    run(main)
