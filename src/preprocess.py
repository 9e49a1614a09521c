"""The second stage: raw data to data/prepared, as reports/config/preprocess.yaml has it."""

from pathlib import Path

import yaml

from hypermap.data.prepare import prepare_settings
from hypermap.errors import UserError, run

CONFIG = Path("reports/config/preprocess.yaml")
PREPARED = Path("data/prepared")


def main() -> None:
    """Write the three splits and their manifest."""
    if not CONFIG.is_file():
        raise UserError(f"{CONFIG} is not here. `dvc repro` writes it, as does python src/compose.py.")
    choice = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["data"]
    rows = prepare_settings(PREPARED, choice)["rows"]
    print(f"{choice['name']}: {', '.join(f'{count:,} {split}' for split, count in rows.items())} rows in {PREPARED}")


if __name__ == "__main__":
    run(main)
