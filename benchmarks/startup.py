"""How long a person waits before training begins: a run and a sweep, beside `import torch`, in whole processes.

python benchmarks/startup.py [--rounds 7] [--trials 64]
python benchmarks/startup.py --quick    does it run at all: one round, a sweep of three

The processes take turns, after one of each that does not count and leaves compiled bytecode and prepared data behind,
and the medians count. The time is from the command to its end; processor time (user and system, of all threads) stands
beside it, since it says more on a busy machine. The run is `python src/train.py optimizer.lr=0.02`, 30 epochs of the
default network on digits; the sweep trains so many small networks for 3 epochs, as one stack. What imports take, and
how often a configuration is composed, is counted in one more process of each (`-X importtime`).
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGET = 1.3
RUN = ("optimizer.lr=0.02",)
SWEEP = (
    "-m", "optimizer.lr=tag(log,interval(1e-4,1e-1))", "trainer.epochs=3", "hydra/sweeper/sampler=random",
    "hydra/sweeper/pruner=none", "hydra.sweeper.report=false", "hydra.sweeper.dvc=false",
)  # fmt: skip
# What runs a script and says at its end how often Hydra composed.
COUNTING = """
import atexit, runpy, sys
from hydra._internal.config_loader_impl import ConfigLoaderImpl
times, compose = [], ConfigLoaderImpl._load_configuration_impl
def counted(*args, **kwargs):
    times.append(1)
    return compose(*args, **kwargs)
ConfigLoaderImpl._load_configuration_impl = counted
atexit.register(lambda: print(f"composed {len(times)} times", file=sys.stderr))
sys.path.insert(0, str(sys.argv[1].rpartition("/")[0]))
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@dataclass
class Command:
    """A command, and the seconds of wall and of processor time that it took in each round."""

    name: str
    words: Sequence[str]  # after python
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def measure(self, folder: Path) -> None:
        """Run it once more."""
        before, started = os.times(), time.perf_counter()
        python(self.words, folder)
        self.wall.append(time.perf_counter() - started)
        after = os.times()
        spent = after.children_user + after.children_system - before.children_user - before.children_system
        self.cpu.append(spent)


def python(words: Sequence[str], folder: Path) -> str:
    """Run Python with these words in a folder, as a person's would run; returns what it says on the standard error."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=kept, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"python {' '.join(words)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done.stderr


def sweep(trials: int, number: int) -> list[str]:
    """Return the words of a sweep with a study of its own."""
    own = (f"hydra.sweeper.n_trials={trials}", f"hydra.sweeper.stack={trials}", f"hydra.sweeper.study_name=s{number}")
    return [str(ROOT / "src/train.py"), *SWEEP, *own]


def counted(words: Sequence[str], folder: Path) -> tuple[float, int]:
    """Return the seconds that a command's imports take, and how often it composes a configuration."""
    said = python(["-X", "importtime", "-c", COUNTING, *words], folder)
    microseconds = sum(int(own) for own in re.findall(r"^import time: +(\d+) \|", said, re.MULTILINE))
    composed = re.search(r"composed (\d+) times", said)
    assert composed is not None
    return microseconds / 1e6, int(composed[1])


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--trials", type=int, default=64, help="of the sweep")
    parser.add_argument("--quick", action="store_true", help="a smoke run: one round, a sweep of three")
    given = parser.parse_args()
    rounds, trials = (1, 3) if given.quick else (given.rounds, given.trials)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
        run = [str(ROOT / "src/train.py"), *RUN, "hydra.run.dir=output"]
        commands = [
            Command("import torch", ["-c", "import torch"]),
            Command("a run", run),
            Command(f"a sweep of {trials}", []),
        ]
        for number in range(rounds if given.quick else 1 + rounds):
            commands[2].words = sweep(trials, number)
            for command in commands:
                command.measure(folder)
        once = [run] if given.quick else [run, sweep(trials, 1 + rounds)]
        counts = [counted(words, folder) for words in once]
    base = commands[0]
    print(f"{rounds} rounds, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} at the end\n")
    print("| process | seconds | times import torch | processor seconds | times import torch | target |")
    print("|---|--:|--:|--:|--:|---|")
    for command in commands:
        wall, cpu = (statistics.median(own[-rounds:]) for own in (command.wall, command.cpu))
        times = [wall / statistics.median(base.wall[-rounds:]), cpu / statistics.median(base.cpu[-rounds:])]
        met = f"{TARGET}: {'met' if times[0] <= TARGET else 'not met'}" if command.name == "a run" else ""
        print(f"| {command.name} | {wall:.2f} | {times[0]:.2f} | {cpu:.2f} | {times[1]:.2f} | {met} |")
    print("\n| counted once | seconds in imports | configurations composed |\n|---|--:|--:|")
    for command, (seconds, composed) in zip(commands[1:], counts, strict=False):
        print(f"| {command.name}, counted | {seconds:.2f} | {composed} |")


if __name__ == "__main__":
    main()
