"""Search tools that have an environment of their own, run there as a process that proposes what is to be trained.

searches.py starts this by the Python of that environment, which has ``requirements-searches.txt`` installed and nothing
of the project. A message is a line of JSON on the standard input, and each is answered by one:

- ``{"search": 0, "begin": {"tool", "space", "steps", "budget", "seed", "folder"}}`` begins a search: `space` is a list
  of ``{"kind": "float" or "int", "low", "high"}`` and ``{"kind": "choice", "count"}``, each with ``"usual"``, the value
  of the baseline, where there is one; the budget is in full trainings.
- ``{"search": 0, "cost": 0.1}`` says what the training came to that was proposed last: less is better.

The answer is ``{"number", "values", "until"}``: the configuration by its number, which is the same for the same one,
its values, of a choice its place, and up to which step it is to be trained; ``{}`` from a search that has no more to
propose; ``{"error"}`` from one that failed. ``{"tools": true}`` is answered by the release of each tool that is there.
"""

import importlib.metadata
import json
import logging
import os
import random
import sys
import warnings
import zlib
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

CALLS_A_TRAINING = 5  # of Hyperband with an eta of 3, roughly: what SMAC3 is told to expect of a budget

Proposals = Generator[dict[str, Any], float, None]


def config_space(space: list[dict[str, Any]], seed: int) -> Any:
    """Return a space as ConfigSpace has it, its parameters named by their places."""
    from ConfigSpace import Categorical, ConfigurationSpace, Float, Integer

    made = ConfigurationSpace(seed=seed)
    for place, parameter in enumerate(space):
        if parameter["kind"] == "choice":
            made.add(Categorical(str(place), list(range(parameter["count"]))))
        else:
            kind = Float if parameter["kind"] == "float" else Integer
            made.add(kind(str(place), (parameter["low"], parameter["high"])))
    return made


def proposal(numbers: dict[Any, int], key: Any, config: Any, until: float) -> dict[str, Any]:
    """Return the answer for one of ConfigSpace's configurations, numbered by what tells it from others."""
    values = [config[str(place)] for place in range(len(config))]
    plain = [value.item() if hasattr(value, "item") else value for value in values]
    return {"number": numbers.setdefault(key, len(numbers)), "values": plain, "until": max(1, round(until))}


def smac(begin: dict[str, Any], fidelities: bool) -> Proposals:
    """Search by SMAC3's random forest, of full trainings or in Hyperband's brackets, with the facade's defaults."""
    from smac import HyperparameterOptimizationFacade, MultiFidelityFacade, Scenario
    from smac.runhistory.dataclasses import TrialValue

    steps, calls = begin["steps"], begin["budget"] * (CALLS_A_TRAINING if fidelities else 1)
    scenario = Scenario(
        config_space(begin["space"], begin["seed"]),
        output_directory=Path(begin["folder"]),
        deterministic=True,
        n_trials=calls,
        seed=begin["seed"],
        **({"min_budget": 1, "max_budget": steps} if fidelities else {}),
    )
    make = MultiFidelityFacade if fidelities else HyperparameterOptimizationFacade
    facade = make(scenario, lambda config, seed, budget=None: 0.0, overwrite=True, logging_level=logging.ERROR)
    numbers: dict[Any, int] = {}
    while True:
        asked = facade.ask()
        cost = yield proposal(numbers, asked.config, asked.config, asked.budget if fidelities else steps)
        facade.tell(asked, TrialValue(cost=cost), save=False)


def dehb(begin: dict[str, Any]) -> Proposals:
    """Search by DEHB's differential evolution in Hyperband's brackets, with its defaults."""
    from dehb import DEHB

    tool = DEHB(
        cs=config_space(begin["space"], begin["seed"]),
        min_fidelity=1,
        max_fidelity=begin["steps"],
        n_workers=1,
        seed=begin["seed"],
        save_freq=None,
        output_path=begin["folder"],
        log_level="ERROR",
    )
    numbers: dict[Any, int] = {}
    while True:
        asked = tool.ask()
        cost = yield proposal(numbers, asked["config_id"], asked["config"], asked["fidelity"])
        tool.tell(asked, {"fitness": cost, "cost": asked["fidelity"]})


def neps(begin: dict[str, Any]) -> Proposals:
    """Search by NePS' PriorBand: in Hyperband's brackets, near the baseline, near the best so far, and anywhere."""
    from neps import AskAndTell, Categorical, Float, Integer, SearchSpace, algorithms

    parameters: dict[str, Any] = {}
    for place, parameter in enumerate(begin["space"]):
        prior = {"prior": parameter.get("usual"), "prior_confidence": "medium"}
        if parameter["kind"] == "choice":
            parameters[str(place)] = Categorical(list(range(parameter["count"])), **prior)
        else:
            kind = Float if parameter["kind"] == "float" else Integer
            parameters[str(place)] = kind(parameter["low"], parameter["high"], **prior)
    space = SearchSpace({**parameters, "steps": Integer(1, begin["steps"], is_fidelity=True)})
    tool = AskAndTell(algorithms.priorband(space, sample_prior_first="highest_fidelity"))
    numbers: dict[Any, int] = {}
    while True:
        seed_all(f"{begin['seed']} {len(tool.trials)}")
        asked = tool.ask()
        config = {key: value for key, value in asked.config.items() if key != "steps"}
        cost = yield proposal(numbers, asked.id.split("_")[0], config, asked.config["steps"])
        tool.tell(asked, {"objective_to_minimize": cost})


def seed_all(words: str) -> None:
    """Seed the generators that belong to nobody, which another search may have drawn from meanwhile."""
    import numpy as np
    import torch

    seed = zlib.crc32(words.encode())
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class Tool(NamedTuple):
    """A tool: its package, what makes a search, and whether one with a larger budget begins as one with a smaller."""

    package: str
    begin: Callable[[dict[str, Any]], Proposals]
    anytime: bool = True


TOOLS = {
    "SMAC3": Tool("smac", partial(smac, fidelities=False), anytime=False),  # it is told its budget
    "SMAC3 + Hyperband": Tool("smac", partial(smac, fidelities=True), anytime=False),
    "DEHB": Tool("dehb", dehb),
    "NePS PriorBand": Tool("neural-pipeline-search", neps),
}


def releases() -> dict[str, str]:
    """Return the release of each tool that is installed."""
    found = {}
    for name, tool in TOOLS.items():
        try:
            found[name] = importlib.metadata.version(tool.package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def answer(message: dict[str, Any], searches: dict[int, Proposals]) -> dict[str, Any]:
    """Return what a message is answered by."""
    if message.get("tools"):
        return releases()
    number = message["search"]
    try:
        if "begin" in message:
            searches[number] = TOOLS[message["begin"]["tool"]].begin(message["begin"])
            return next(searches[number])
        return searches[number].send(message["cost"])
    except StopIteration:
        return {}
    except Exception as error:  # whatever a tool comes to: the search that asked is told
        return {"error": repr(error)}


def main() -> None:
    """Answer each message until there are no more."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    sys.stdout = sys.stderr  # where the tools may say what they like
    warnings.simplefilter("ignore")
    searches: dict[int, Proposals] = {}
    for line in sys.stdin:
        answers.write(json.dumps(answer(json.loads(line), searches)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
