"""The second stage: prepare the raw data in data/prepared, as configured in reports/config/preprocess.yaml."""

import sys

from hypermap.core.cli import run
from hypermap.core.cli_args import check_none
from hypermap.core.files import read_slice
from hypermap.core.paths import CONFIGS, PREPARED
from hypermap.datasets.prepare import Pinned, prepare_settings, print_notes

CONFIG = CONFIGS / "preprocess.yaml"


def main() -> None:
    """Write the three splits and their manifest, if the raw files are still those that the compose stage found."""
    check_none(sys.argv[1:])
    part = read_slice(CONFIG)
    option, checksum = part["data"], part.get("files_sha256")
    changed = "changed since python src/compose.py looked at it: run dvc repro again."
    manifest = prepare_settings(PREPARED, option, Pinned(checksum, changed) if checksum else None)
    rows = ", ".join(f"{count:,} {split}" for split, count in manifest.rows.items())
    print_notes(manifest)
    print(f"{option['name']}: {rows} rows in {PREPARED}")


if __name__ == "__main__":
    run(main, __doc__)
