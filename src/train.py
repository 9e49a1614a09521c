"""Train one configuration and keep the model of the best epoch by validation.

python src/train.py optimizer.lr=0.03           params.yaml with one value changed
python src/train.py experiment=mnist_mlp        an experiment
python src/train.py -m optimizer.lr=0.1,0.01    one training for each value
python src/train.py --config FILE               the stage of dvc.yaml
"""

import sys
from pathlib import Path

from hypermap.core.cli import run, stop_after_epoch
from hypermap.core.cli_args import check_none
from hypermap.core.launch import launched
from hypermap.core.paths import MODELS, PREPARED, VALIDATION
from hypermap.core.preload import preload_torch, uncollected


def stage(config: Path) -> None:
    """Train on data/prepared with the configuration from the compose stage; write results where DVC expects them."""
    from hypermap.core.files import read_slice

    configuration = read_slice(config)
    if configuration.get("automl", {}).get("name", "none") != "none":
        from hypermap.automl.cli import stage as automl
        from hypermap.experiments.run import summary

        print(summary(automl(configuration, PREPARED, MODELS, VALIDATION)))
        return
    with uncollected():
        from hypermap.experiments.run import (
            TrainingRequest,
            summary,
            train,
            train_alone,
            train_without_texts,
        )  # imports torch, which takes seconds

    with stop_after_epoch() as pause:
        request = TrainingRequest(configuration, PREPARED, MODELS, VALIDATION, pause=pause)
        print(summary(train(request)))
        for number, result in enumerate(train_alone(request), 1):
            print(f"Target {number} alone: {summary(result)}")
        if (without := train_without_texts(request)) is not None:
            print(f"Without the texts: {summary(without)}")


def main() -> None:
    """Read the stage's configuration, or compose one as a Hydra application."""
    preload_torch()
    if launched() is not None:
        from hypermap.training.rank import take_part

        if take_part(sys.argv[1:]):
            return
    if sys.argv[1:2] == ["--config"] and len(sys.argv) > 2:
        check_none(sys.argv[3:], " beside --config FILE")
        stage(Path(sys.argv[2]))
    else:
        with uncollected():
            from hypermap.automl.cli import by_hand
            from hypermap.config.compose import application
            from hypermap.sweeps.cli import target

        application(by_hand, target)


if __name__ == "__main__":
    run(main)
