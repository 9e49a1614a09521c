"""AutoML from the command line: within a budget of time, by a number of steps, or as a stage of the pipeline."""

import os
import re
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypermap.config.compose import compose, slices
from hypermap.config.groups import Configuration, groups, read_params
from hypermap.config.params_file import params_of, rewrite
from hypermap.config.portfolio import AUTOML, chosen, expanded
from hypermap.core.cli import run, stop_after_epoch
from hypermap.core.errors import UserError, near
from hypermap.core.files import write_text
from hypermap.core.paths import MODELS, PARAMS, VALIDATION
from hypermap.core.preload import uncollected
from hypermap.sweeps import cli

if TYPE_CHECKING:  # torch takes seconds
    from hypermap.automl.run import Clock
    from hypermap.experiments.run import Result

UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
LEAST_S = 10.0  # the shortest budget: it takes seconds to import what trains
OWN = ("budget", "preset", "jobs")
EXIT_S = 0.3  # from the written model to the end of the command


def seconds_of(text: str) -> float:
    """Return a budget of time in seconds, such as that of ``90``, ``60s``, ``5m`` or ``1.5h``.

    Raises:
        UserError: it is none, or too short.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|)", text.strip())
    if found is None:
        raise UserError(f"budget={text}: a time is written 90, 60s, 5m or 1.5h.")
    seconds = float(found[1]) * UNITS[found[2]]
    if seconds < LEAST_S:
        raise UserError(f"budget={text}: {LEAST_S:g} seconds at least, since starting takes some of them.")
    return seconds


def within_budget(words: Sequence[str]) -> None:
    """Search until the time is up, write the model and, into params.yaml, what does the same steps again.

    Args:
        words: of the command line: ``budget``, ``preset``, ``jobs``, and overrides of ``experiment=table``.

    Raises:
        UserError: a word is not understood, or the data is none for an AutoML.
    """
    began = _started()
    own, others = _sorted(words)
    if "budget" not in own:
        raise UserError("name a budget: python src/automl.py data.path=FILE data.target=COLUMN budget=60s")
    seconds = seconds_of(own["budget"])
    presets = [name for name in groups()[AUTOML] if name != "none"]
    preset = own.get("preset", "good")
    if preset not in presets:
        raise UserError(f"preset={preset}{near(preset, presets)}: it is one of {', '.join(presets)}.")
    jobs = own.get("jobs", "1")
    if not jobs.isdecimal() or int(jobs) < 1:
        raise UserError(f"jobs={jobs}: it is how many trainings run at once, a whole number of at least 1.")
    read_params()  # raises if the present one is invalid
    experiment = [] if any(word.startswith("experiment=") for word in others) else ["experiment=table"]
    configuration = compose([*experiment, *others, f"{AUTOML}={preset}", f"{AUTOML}.seconds={seconds!r}"])
    with uncollected():
        from hypermap.automl.run import Clock
    clock = Clock(seconds - EXIT_S, began, int(jobs))
    result, steps = _trained(configuration, MODELS, VALIDATION, clock)
    configuration[AUTOML]["steps"] = steps
    params = params_of(configuration, {"experiment": None})
    write_text(PARAMS, rewrite(PARAMS.read_text(encoding="utf-8"), params))
    print(
        f"{_said(result)} ({steps} steps in {time.monotonic() - began:.0f} s)\n"
        f"Model: {MODELS} (python src/predict.py input=FILE output=FILE; make export)\n"
        f"{PARAMS} has these {steps} steps. The same again, tested, with a report: dvc repro"
    )


def by_hand(configuration: Configuration, output: Path) -> Any:
    """Train as `hypermap.sweeps.cli.by_hand` does, or an AutoML if the configuration asks for one."""
    return run(lambda: _alone(configuration, output)) if chosen(configuration) else cli.by_hand(configuration, output)


def stage(configuration: Mapping[str, Any], prepared: Path, output: Path, validation: Path) -> "Result":
    """Do the steps that a stage's configuration says; return the result.

    Raises:
        UserError: as `hypermap.automl.run.train`.
    """
    with uncollected():
        from hypermap.automl.run import train
        from hypermap.experiments.run import TrainingRequest

    with stop_after_epoch() as pause:
        return train(TrainingRequest(configuration, prepared, output, validation, pause=pause))[0]


def _alone(configuration: Configuration, output: Path) -> float:
    result, steps = _trained(configuration, output, output / "validation.json", None)
    print(f"{_said(result)} ({steps} steps)\nModel and leaderboard: {output}")
    return result.objective


def _trained(
    configuration: Configuration, output: Path, validation: Path, clock: "Clock | None"
) -> "tuple[Result, int]":
    whole = {**slices(configuration)["train"], AUTOML: expanded(configuration)}  # mistakes are told before data is read
    prepared = cli.prepare(configuration)
    with uncollected():
        from hypermap.automl.run import train
        from hypermap.experiments.run import TrainingRequest

    with stop_after_epoch() as pause:
        return train(TrainingRequest(whole, prepared, output, validation, pause=pause), clock)


def _started() -> float:
    """Return when this process was started (`time.monotonic`): the time that it took to import everything counts."""
    now = time.monotonic()
    try:
        ticks = int(Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
        return now - (time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))
    except (OSError, AttributeError, ValueError):  # another system
        return now


def _said(result: "Result") -> str:
    return f"Validation {result.monitor} {result.objective:.4f}"


def _sorted(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return the words of this command by key, and the others.

    Raises:
        UserError: one is given twice.
    """
    own: dict[str, str] = {}
    others = []
    for word in filter(None, words):
        key, equals, value = word.partition("=")
        if key not in OWN or not equals:
            others.append(word)
        elif key in own:
            raise UserError(f"{key} is given twice: {shlex.join([f'{key}={own[key]}', word])}.")
        else:
            own[key] = value
    return own, others
