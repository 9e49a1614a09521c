"""The baselines stage: fit other models on the same rows, which the report compares with the one in use."""

import sys

from hypermap.core.cli import run
from hypermap.core.cli_args import check_none
from hypermap.core.files import read_slice
from hypermap.core.paths import BASELINES, CONFIGS, PREPARED
from hypermap.models.baselines import fit

CONFIG = CONFIGS / "baselines.yaml"


def main() -> None:
    """Fit the models of evaluation.baselines and write them to baselines/; for images there are none."""
    check_none(sys.argv[1:])
    if not fit(read_slice(CONFIG), PREPARED, BASELINES):
        print("No baselines: the data are images, or evaluation.baselines names none.")


if __name__ == "__main__":
    run(main, __doc__)
