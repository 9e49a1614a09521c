"""The second stage: raw data to data/prepared, as reports/config/preprocess.yaml has it."""

from pathlib import Path

from hypermap.data.prepare import prepare_settings, tell
from hypermap.errors import run
from hypermap.files import read_slice

CONFIG = Path("reports/config/preprocess.yaml")
PREPARED = Path("data/prepared")


def main() -> None:
    """Write the three splits and their manifest."""
    choice = read_slice(CONFIG)["data"]
    manifest = prepare_settings(PREPARED, choice)
    rows = ", ".join(f"{count:,} {split}" for split, count in manifest["rows"].items())
    tell(manifest)
    print(f"{choice['name']}: {rows} rows in {PREPARED}")


if __name__ == "__main__":
    run(main)
