"""Train one configuration; the model of the epoch that validates best is kept.

python src/train.py optimizer.lr=0.03           params.yaml, with a value changed
python src/train.py experiment=mnist_mlp        an experiment
python src/train.py -m optimizer.lr=0.1,0.01    each value in turn
python src/train.py --config FILE               the stage of dvc.yaml
"""

import sys
from pathlib import Path

from hypermap.core.cli_args import check_none
from hypermap.core.errors import run
from hypermap.core.preload import preload_torch, uncollected
from hypermap.sweeps.cli import PREPARED, asked_to_end, by_hand, prepare, told


def stage(config: Path) -> None:
    """Train on data/prepared what the compose stage wrote; results where DVC expects them."""
    from hypermap.core.files import read_slice

    configuration = read_slice(config)
    with uncollected():
        from hypermap.experiments.run import Asked, train  # brings torch, which takes seconds

    with asked_to_end() as pause:
        print(told(train(Asked(configuration, PREPARED, Path("models"), Path("reports/validation.json"), pause=pause))))


def main() -> None:
    """Take the stage's configuration, or compose one as a Hydra application."""
    preload_torch()
    if sys.argv[1:2] == ["--config"] and len(sys.argv) > 2:
        check_none(sys.argv[3:], " beside --config FILE")
        stage(Path(sys.argv[2]))
    else:
        with uncollected():
            from hypermap.config.compose import application

        application(by_hand, prepare)


if __name__ == "__main__":
    run(main)
