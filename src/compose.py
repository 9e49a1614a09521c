"""The first stage: params.yaml over conf/ becomes one resolved slice of the configuration for each later stage."""

from pathlib import Path

import yaml

from hypermap.compose import compose, slices
from hypermap.errors import run
from hypermap.files import write_text
from hypermap.menu import read_order

FOLDER = Path("reports/config")


def main() -> None:
    """Write reports/config/{preprocess,train,evaluate}.yaml."""
    for stage, configuration in slices(compose(order=read_order())).items():
        text = yaml.safe_dump(configuration, sort_keys=False, default_flow_style=False)
        write_text(FOLDER / f"{stage}.yaml", f"# Composed from params.yaml and conf/: what {stage} needs.\n{text}")


if __name__ == "__main__":
    run(main)
