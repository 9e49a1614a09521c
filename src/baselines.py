"""The stage beside training: other models on the same rows, which the report compares with the one in use."""

from hypermap.core.cli import run
from hypermap.core.files import read_slice
from hypermap.core.paths import BASELINES, CONFIGS, PREPARED
from hypermap.models.baselines import fit

CONFIG = CONFIGS / "baselines.yaml"


def main() -> None:
    """Fit evaluation.baselines into baselines/; for images there are none."""
    if not fit(read_slice(CONFIG), PREPARED, BASELINES):
        print("No baselines: the data are images, or evaluation.baselines names none.")


if __name__ == "__main__":
    run(main, __doc__)
