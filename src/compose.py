"""The first stage: params.yaml over conf/ becomes one resolved slice of the configuration for each later stage."""

import sys
from pathlib import Path

import yaml

from hypermap.config.compose import compose, slices
from hypermap.config.groups import read_order
from hypermap.core.cli_args import check_none
from hypermap.core.errors import run
from hypermap.core.files import write_text
from hypermap.datasets.prepare import file_checksum

FOLDER = Path("reports/config")


def main() -> None:
    """Write a slice for each stage; that of preprocess says what the data's files hold, where that can change."""
    check_none(sys.argv[1:])
    parts = slices(compose(order=read_order()))
    if checksum := file_checksum(parts["preprocess"]["data"]):
        parts["preprocess"]["files_sha256"] = checksum
    for stage, configuration in parts.items():
        text = yaml.safe_dump(configuration, sort_keys=False, default_flow_style=False)
        write_text(FOLDER / f"{stage}.yaml", f"# Composed from params.yaml and conf/: what {stage} needs.\n{text}")


if __name__ == "__main__":
    run(main, __doc__)
