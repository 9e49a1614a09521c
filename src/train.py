"""Train one configuration; the model of the epoch that validates best is kept.

python src/train.py optimizer.lr=0.03           params.yaml, with a value changed
python src/train.py experiment=mnist_mlp        an experiment
python src/train.py -m optimizer.lr=0.1,0.01    each value in turn
python src/train.py --config FILE               the stage of dvc.yaml
"""

import sys
from pathlib import Path
from typing import Any

from hypermap.errors import run

PREPARED = Path("data/prepared")
CACHE = Path("data/cache")


def stage(config: Path) -> None:
    """Train on data/prepared what the compose stage wrote; results where DVC expects them."""
    from hypermap.files import read_slice

    configuration = read_slice(config)
    from hypermap.experiment import train  # brings torch, which takes seconds

    report(train(configuration, PREPARED, Path("models"), Path("reports/validation.json")))


def prepare(configuration: dict[str, Any]) -> Path:
    """The folder of the data that the configuration asks for, prepared first where it is not."""
    from hypermap.data.prepare import find_or_prepare

    return find_or_prepare(configuration["data"], [PREPARED], CACHE)


def by_hand(configuration: dict[str, Any], output: Path) -> Any:
    """Train beside the pipeline, alone or as a trial of a sweep; results in `output`. Returns the objective(s)."""
    prepared = prepare(configuration)
    from hypermap.search.trial import current

    if (trial := current()) is not None:
        from hypermap.sweeps import train_trial

        return train_trial(configuration, prepared, trial)
    from hypermap.experiment import train

    result = train(configuration, prepared, output, output / "validation.json")
    report(result)
    print(f"Model and history: {output}")
    return result.objective


def report(result: Any) -> None:
    """Say in one line how it went."""
    fits = len(result.scores)
    told = f"mean of {fits} trainings" if fits > 1 else f"at epoch {result.kept_epoch} of {result.epochs}"
    print(f"Validation {result.monitor} {result.objective:.4f} {told}, trained in {result.seconds:.1f} s")


def main() -> None:
    """Take the stage's configuration, or compose one as a Hydra application."""
    if sys.argv[1:2] == ["--config"] and len(sys.argv) == 3:
        stage(Path(sys.argv[2]))
    else:
        from hypermap.compose import application

        application(by_hand, prepare)


if __name__ == "__main__":
    run(main)
