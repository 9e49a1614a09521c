"""One training on two processes: how much faster than on one, by the network and the batch.

python benchmarks/processes.py            a few minutes on idle cores
python benchmarks/processes.py --quick    does it run at all: the figures mean nothing

Samples a second of training alone, raced as `race.py` tells: one process with one thread and with all, and two
processes with one thread each.
"""

import argparse
from dataclasses import replace
from functools import partial

from race import ROUNDS, SECONDS, Contender, Entry, Ready, Work, contenders, machine_lines, prepare, race
from trainers import device_name, epochs_of, estimator, hypermap_rows, unvalidated

PROBLEMS = {
    "digits, MLP 64-128-10, batches of 64": (),
    "MNIST, MLP 784-1024-1024-10, batches of 1,024": (
        "experiment=mnist_mlp", "scheduler=constant", "model.hidden=[1024,1024]", "trainer.batch_size=1024",
    ),
    "MNIST, CNN 32-64-64, batches of 64": ("experiment=mnist_cnn", "scheduler=constant"),
    "MNIST, CNN 32-64-64, batches of 512": ("experiment=mnist_cnn", "scheduler=constant", "trainer.batch_size=512"),
}  # fmt: skip
ROWS = 2048  # of a data set: an epoch of the largest network takes about a second
ALONE, BOTH, SHARED = "one process, one thread", "one process, all threads", "two processes, one thread each"
SETTINGS = {ALONE: (1, 1), BOTH: (1, None), SHARED: (2, 2)}  # processes, and the threads of all together


def trainer(work: Work, processes: int, threads: int | None) -> Ready:
    """`Trainer.epoch` on so many processes, without validation."""
    import torch

    from hypermap.core import device as machine
    from hypermap.training.backends.eager import Eager
    from hypermap.training.loop import MakeBackend
    from hypermap.training.processes import OnSeveral, Training
    from hypermap.training.processes import processes as others

    machine.make_repeatable()
    settings = {**work.configuration["trainer"], "processes": processes, "threads": threads or machine.CORES}
    work = replace(work, configuration={**work.configuration, "trainer": settings})
    rows = hypermap_rows(work)
    own = estimator(work, rows, 0, 1)
    fold = own.encode(rows)
    member = own.begin(fold, work.configuration["seed"])
    make_backend: MakeBackend = Eager
    if processes > 1:
        manifest = fold.rows.transform.manifest
        training = Training(own.configuration, manifest, work.configuration["seed"], own.threads)
        make_backend = partial(OnSeveral, training=training, processes=others(processes, own.device))
    torch.set_num_threads(machine.share_of_threads(own.threads, processes))
    trainer = unvalidated()({0: member}, {0: fold.sets}, make_backend)

    return Ready(
        epochs_of(trainer, [member]), len(rows.train.targets), device_name(own.device.type), threads=own.threads
    )


def raced(title: str, overrides: tuple[str, ...], quick: bool) -> list[str]:
    """The race on one problem, as a row of Markdown."""
    work, _ = prepare((*overrides, "trainer.device=cpu"), quick)
    work = work if quick else replace(work, rows=ROWS)
    entries = [Entry(name, partial(trainer, processes=p, threads=t)) for name, (p, t) in SETTINGS.items()]
    with contenders(entries, work) as entrants:
        race(entrants, 1 if quick else ROUNDS, 0.0 if quick else SECONDS)
    alone, both, shared = entrants
    best = max(alone.median, both.median)
    rates = " | ".join(thousands(one) for one in entrants)
    return [f"| {title} | {rates} | {shared.median / alone.median:.2f} | {shared.median / best:.2f} |"]


def thousands(contender: Contender) -> str:
    """A contender's rate: the median, and its range."""
    low, high = min(contender.rates) / 1000, max(contender.rates) / 1000
    return f"{contender.median / 1000:.1f} ({low:.1f} to {high:.1f})"


def main() -> None:
    """Race on each problem, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    print("\n".join(f"- {line}" for line in machine_lines()))
    columns = ["thousand samples a second, median (range)", *SETTINGS, "two over one thread", "over the best"]
    print(f"\n| {' | '.join(columns)} |")
    print(f"|---{'|--:' * (len(columns) - 1)}|")
    for title, overrides in list(PROBLEMS.items())[: 1 if quick else None]:
        print("\n".join(raced(title, overrides, quick)), flush=True)


if __name__ == "__main__":
    main()
