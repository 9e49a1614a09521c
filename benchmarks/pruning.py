"""What pruning saves on Fashion-MNIST: epochs to the best validation score of 40 random trials trained in full.

python benchmarks/pruning.py [--seeds 0 1 2 3 4] [--rows 8000]        (HYPERMAP_DATA, or downloads into data/raw)
python benchmarks/pruning.py --quick    does it run at all: digits, four trials of nine epochs, by one seed

For each seed the project's own command searches the dense network's learning rate, width, dropout and batch size with
40 random trials of 81 epochs each, and then again with pruning until a trial that was trained to its end has reached
the same score, for 160 trials at most. Random trials are a function of the seed and of their number, so the first 40 of
a pruned random search are the same configurations. The shares count every epoch that was trained, of pruned trials too.
Half of the rows validate: on a few thousand, the best of 40 scores is luck, which no search can be asked to find again.
"""

import argparse
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import optuna  # noqa: E402

from hypermap.search.storage import open_storage  # noqa: E402
from hypermap.search.study import best, epochs  # noqa: E402

TRIALS, EPOCHS = 40, 81
SPACE = [
    "optimizer.lr=tag(log,interval(1e-4,1e-1))",
    "model.hidden=[32],[64],[128],[256]",
    "model.dropout=interval(0.0,0.6)",
    "trainer.batch_size=tag(pow2,interval(32,512))",
]
HALVING = "hydra/sweeper/pruner=successive_halving"
PRUNERS = {
    "successive halving (eta 3, from epoch 3)": [
        HALVING,
        "hydra.sweeper.pruner.reduction_factor=3",
        "hydra.sweeper.pruner.min_resource=3",
    ],
}


def sweep(folder: Path, name: str, seed: int, *settings: str) -> list[optuna.trial.FrozenTrial]:
    """The trials of one sweep, run as a person would."""
    words = [
        "data.validation=0.5",
        "trainer.threads=1",
        f"hydra.sweeper.seed={seed}",
        f"hydra.sweeper.study_name={name}",
        "hydra.sweeper.dvc=false",
        "hydra.sweeper.report=false",
        "hydra/sweeper/sampler=random",
    ]
    done = subprocess.run(
        [sys.executable, str(ROOT / "src/train.py"), "-m", *words, *settings, *SPACE],
        cwd=folder,
        env=os.environ | {"HYPERMAP_DATA": os.environ.get("HYPERMAP_DATA", str(ROOT / "data/raw"))},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    storage = open_storage(str(folder / f"studies/{name}/journal.log"))
    return optuna.load_study(study_name=name, storage=storage).trials


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--rows", type=int, default=8000)
    parser.add_argument("--quick", action="store_true", help="a smoke run: digits, few trials of few epochs, one seed")
    arguments = parser.parse_args()
    data, count, epochs_each = ("digits", 4, 9) if arguments.quick else ("fashion_mnist", TRIALS, EPOCHS)
    rows = 400 if arguments.quick else arguments.rows
    common = [f"data={data}", f"data.rows={rows}", f"trainer.epochs={epochs_each}"]
    shares: dict[str, list[float]] = {name: [] for name in PRUNERS}
    print(f"| seed | best of {count} | epochs | " + " | ".join(PRUNERS) + " |\n|---|---|---|" + "---|" * len(PRUNERS))
    for seed in arguments.seeds[:1] if arguments.quick else arguments.seeds:
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            shutil.copy(ROOT / "params.yaml", folder)
            whole = ["hydra/sweeper/pruner=none", f"hydra.sweeper.n_trials={count}"]
            full = sweep(folder, "full", seed, *common, *whole)
            top, spent = best(full, maximizes=True), sum(map(epochs, full))
            assert top is not None
            assert top.value is not None
            cells = []
            for number, (name, pruner) in enumerate(PRUNERS.items()):
                until = [f"hydra.sweeper.target={top.value}", f"hydra.sweeper.n_trials={4 * count}"]
                trials = sweep(folder, f"pruned-{number}", seed, *common, *pruner, *until)
                found = best(trials, maximizes=True)
                reached = found is not None and found.value is not None and found.value >= top.value
                shares[name].append(sum(map(epochs, trials)) / spent if reached else math.inf)
                cells.append(f"{shares[name][-1]:.2f} ({len(trials)} trials)" if reached else "not reached")
        print(f"| {seed} | {top.value:.4f} | {spent} | " + " | ".join(cells) + " |", flush=True)
    told = [f"{statistics.median(values):.2f} (at most {max(values):.2f})" for values in shares.values()]
    print("| median | | | " + " | ".join(told) + " |")


if __name__ == "__main__":
    main()
