"""How long predictions for a large table take: a million rows of 20 columns, CSV in and out.

python benchmarks/predictions.py
python benchmarks/predictions.py --rows 1 --rounds 7    the time to start
python benchmarks/predictions.py --quick    does it run at all: two thousand rows, by one model

The table is made up: thirteen columns of numbers (one of whole numbers, three with missing values), five of categories,
one of yes and no, one of dates, and a target. The models are trained on 20,000 rows of it, the network for two epochs.
What is timed is what a person waits for: the command with its imports, until the file is written. Beside it stand its
processor time (user and system, of all threads), which says more on a busy machine, and the peak of its memory.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars

ROOT = Path(__file__).resolve().parents[1]
TRAINING_ROWS = 20_000
DATA = ["data=table", "data.path=train.csv", "data.target=bought"]
MODELS = {
    "tabular_mlp": ["model=tabular_mlp", "loss=auto", "trainer.epochs=2", "trainer.batch_size=256"],
    "gradient_boosting": ["model=gradient_boosting"],
    "random_forest": ["model=random_forest"],
    "linear": ["model=linear"],
}


def table(rows: int, seed: int) -> polars.DataFrame:
    """A target of two classes that depends on some columns of each kind."""
    drawn = np.random.default_rng(seed)
    columns = {f"number_{k}": np.round(drawn.normal(50, 20, rows), 3) for k in range(9)}
    columns |= {f"gapped_{k}": np.where(drawn.random(rows) < 0.1, np.nan, drawn.gamma(2, 3, rows)) for k in range(3)}
    columns["count"] = drawn.poisson(4, rows).astype(float)
    sizes = (3, 5, 12, 40, 200)
    codes = {f"category_{k}": np.floor(size * drawn.random(rows) ** 2) for k, size in enumerate(sizes)}
    yes = drawn.random(rows) < 0.3
    days = drawn.integers(16_000, 20_000, rows)  # since 1970
    slope = columns["number_0"] / 20 - 2.5 + np.nan_to_num(columns["gapped_0"]) / 6 - 1 + codes["category_0"] - 1 + yes
    target = drawn.random(rows) < 1 / (1 + np.exp(-slope))
    words = {name: polars.Series(code.astype(int)).cast(polars.String).str.zfill(3) for name, code in codes.items()}
    return polars.DataFrame(columns, nan_to_null=True).with_columns(
        **{name: "w" + series for name, series in words.items()},
        member=polars.Series(np.where(yes, "yes", "no")),
        joined=polars.Series(days, dtype=polars.Int32).cast(polars.Date),
        bought=polars.Series(np.where(target, "bought", "left")),
    )


def measure(words: list[str], folder: Path, program: str) -> tuple[float, float, float]:
    """A command's peak of resident memory in MiB, its time, and its processor time."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, program, *words], cwd=folder, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{program} {' '.join(words)} failed")
    return usage.ru_maxrss / 1024, time.perf_counter() - began, usage.ru_utime + usage.ru_stime


def main() -> None:
    """Print a line for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--quick", action="store_true", help="a smoke run: few rows, one model, one round")
    arguments = parser.parse_args()
    training_rows = TRAINING_ROWS
    if arguments.quick:
        training_rows = arguments.rows = 2000
        arguments.rounds, arguments.models = 1, ["linear"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("conf", "params.yaml", "src"):  # so that nothing is left in the project
            (folder / part).symlink_to(ROOT / part)
        table(training_rows, seed=0).write_csv(folder / "train.csv")
        table(arguments.rows, seed=1).drop("bought").write_csv(folder / "new.csv")
        size = (folder / "new.csv").stat().st_size / 2**20
        print(f"{arguments.rows:,} rows, {size:.0f} MiB, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
        print(f"| model | seconds, median of {arguments.rounds} | processor seconds | peak memory, MiB |")
        print("|---|--:|--:|--:|", flush=True)
        for model in arguments.models:
            measure([*DATA, *MODELS[model], f"hydra.run.dir={model}"], folder, "src/train.py")
            command = ["input=new.csv", "output=predictions.csv", f"model={model}"]
            taken = [measure(command, folder, "src/predict.py") for _ in range(arguments.rounds)]
            peaks, seconds, processor = zip(*taken, strict=True)
            medians = f"{statistics.median(seconds):.1f} | {statistics.median(processor):.1f}"
            print(f"| {model} | {medians} | {max(peaks):.0f} |", flush=True)


if __name__ == "__main__":
    main()
