"""The second stage: raw data to data/prepared, as reports/config/preprocess.yaml has it."""

from pathlib import Path

from hypermap.data.prepare import prepare_settings
from hypermap.errors import run
from hypermap.files import read_slice

CONFIG = Path("reports/config/preprocess.yaml")
PREPARED = Path("data/prepared")


def main() -> None:
    """Write the three splits and their manifest."""
    choice = read_slice(CONFIG)["data"]
    rows = prepare_settings(PREPARED, choice)["rows"]
    print(f"{choice['name']}: {', '.join(f'{count:,} {split}' for split, count in rows.items())} rows in {PREPARED}")


if __name__ == "__main__":
    run(main)
