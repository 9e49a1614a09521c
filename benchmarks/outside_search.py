"""Search strategies that are tools of others, each in a process of another Python: outside.py has that side of it."""

import json
import math
import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from hypermap.core.errors import UserError
from hypermap.search.scaled_sampler import Numerical, image, nearest
from hypermap.search.scales import Scale, mapping
from outside import TOOLS
from searching import Problem, Request, Searching, Strategy, Tried

MOST_KNOWN = 100  # proposals in a row that were trained before: a tool with nothing else to propose has ended


class Outside:
    """The process of another Python.

    Raises:
        UserError: it cannot be started.
    """

    def __init__(self, python: str) -> None:
        self.folder = tempfile.TemporaryDirectory()  # where tools leave what they like
        command = [python, str(Path(__file__).with_name("outside.py"))]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        try:
            self.process = subprocess.Popen(
                command, text=True, cwd=self.folder.name, env=os.environ | {"OMP_NUM_THREADS": "1"}, **pipes
            )  # type: ignore[call-overload]
        except OSError as error:
            raise UserError(f"{python} cannot be started ({error}). Give --python another one.") from error
        self.searches = 0

    def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a message is answered by.

        Raises:
            UserError: the tool has failed.
        """
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline() or '{"error": "the process has ended"}')
        if "error" in answer:
            raise UserError(f"outside.py: {answer['error']}.")
        return answer

    def close(self) -> None:
        """End the process."""
        self.process.communicate()
        self.folder.cleanup()


class Parameter(Protocol):
    """A parameter as a tool is shown it."""

    def record(self) -> dict[str, Any]:
        """Return what the tool is told."""

    def shown(self, natural: Any) -> float:
        """Return a value as the tool is shown it."""

    def natural(self, shown: float) -> Any:
        """Return the value that the tool proposes."""


class Choice:
    """A choice, shown by its place."""

    def __init__(self, distribution: CategoricalDistribution) -> None:
        self.choices = distribution.choices

    def record(self) -> dict[str, Any]:
        """Return what the tool is told."""
        return {"kind": "choice", "count": len(self.choices)}

    def shown(self, natural: Any) -> int:
        """Return the place of a choice."""
        return self.choices.index(natural)

    def natural(self, shown: float) -> Any:
        """Return the choice at a place."""
        return self.choices[int(shown)]


class Number:
    """A number, shown by its image where it has a mapping or is searched by its logarithm."""

    def __init__(self, distribution: Numerical, through: Scale | None) -> None:
        if through is None and isinstance(distribution, FloatDistribution) and distribution.log:
            through = mapping("log", distribution.low, distribution.high)
        self.distribution = distribution
        self.through = through or mapping("identity", distribution.low, distribution.high)
        self.image = image(self.through, distribution) if through else distribution

    def record(self) -> dict[str, Any]:
        """Return what the tool is told."""
        kind = "int" if isinstance(self.image, IntDistribution) else "float"
        return {"kind": kind, "low": self.image.low, "high": self.image.high}

    def shown(self, natural: float) -> float:
        """Return the image of a value."""
        return nearest(self.image, self.through.forward(natural))

    def natural(self, shown: float) -> float:
        """Return the value of an image."""
        return nearest(self.distribution, self.through.inverse(shown))


def parameter(problem: Problem, name: str) -> Parameter:
    """Return a parameter of a problem as tools are shown it."""
    distribution = problem.distributions[name]
    if isinstance(distribution, CategoricalDistribution):
        return Choice(distribution)
    assert isinstance(distribution, Numerical)
    return Number(distribution, problem.mappings.get(name))


def record(problem: Problem, name: str) -> dict[str, Any]:
    """Return what a tool is told of a parameter, and of the baseline's value of it where that is known."""
    own, baseline = parameter(problem, name), problem.baseline or {}
    return own.record() | ({"usual": own.shown(baseline[name])} if name in baseline else {})


def outside_search(outside: Outside, tool: str) -> Callable[[Problem, int, int], Searching]:
    """Return a search by a tool; a configuration that it wants trained further goes on from where it was."""

    def begin(problem: Problem, seed: int, budget: int) -> Searching:
        parameters = {name: parameter(problem, name) for name in problem.distributions}
        sign = -1.0 if problem.direction == "minimize" else 1.0
        number, outside.searches = outside.searches, outside.searches + 1
        start = {
            "tool": tool,
            "space": [record(problem, name) for name in parameters],
            "steps": problem.steps,
            "budget": budget // problem.steps,
            "seed": seed,
            "folder": str(Path(outside.folder.name) / str(number)),
        }
        asked = outside.ask({"search": number, "begin": start})
        tried: list[Tried] = []
        spent, known, worst = 0, 0, 1.0
        while asked and known < MOST_KNOWN:
            if asked["number"] == len(tried):
                values = zip(parameters.items(), asked["values"], strict=True)
                tried.append(Tried({name: own.natural(value) for (name, own), value in values}))
            one, before = tried[asked["number"]], len(tried[asked["number"]].scores)
            until = min(asked["until"], problem.steps, before + budget - spent)
            if until > before and all(map(math.isfinite, one.scores)):
                one.scores = up_to_divergence((yield Request(asked["number"], one.params, until)))
                one.complete = until == problem.steps and math.isfinite(one.scores[-1])
            spent += len(one.scores) - before
            known = known + 1 if len(one.scores) == before else 0
            if spent >= budget:
                break
            shown = one.scores[: asked["until"]]
            cost = -Tried({}, shown).best(sign) if all(map(math.isfinite, shown)) else worst
            worst = max(worst, cost)
            asked = outside.ask({"search": number, "cost": cost})
        return tried

    return begin


def up_to_divergence(scores: Any) -> list[float]:
    """Return the scores up to the first that is not finite."""
    bad = next((step for step, score in enumerate(scores, 1) if not math.isfinite(score)), len(scores))
    return list(scores)[:bad]


def outside_strategies(outside: Outside) -> list[Strategy]:
    """Return a strategy for each tool that is there."""
    return [
        Strategy(tool, outside_search(outside, tool), anytime=TOOLS[tool].anytime)
        for tool in outside.ask({"tools": True})
    ]
