"""Selection of the backend: all backends by name, what they can train, and which is the fastest here."""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from hypermap.core import device as machine
from hypermap.core.errors import UserError, near
from hypermap.training.backends.backend import Backend
from hypermap.training.backends.batched import Batched, MakeForward
from hypermap.training.backends.dense import Dense, layers_of
from hypermap.training.backends.eager import Eager
from hypermap.training.backends.native import Native
from hypermap.training.backends.native import why_not as why_not_native
from hypermap.training.backends.native_build import why_no_compiler
from hypermap.training.backends.vmapped import Vmapped
from hypermap.training.state import TrainerConfig, TrainState

BACKENDS = {
    "eager": "torch as it is, one training at a time",
    "batched": "one batched matrix product a layer, for dense networks",
    "vmap": "torch.func.vmap, for networks of any kind",
    "compiled": "torch.compile over vmap; it takes minutes to begin with",
    "native": "a kernel in C++ for dense networks on the CPU, where a compiler is found",
}
STACKING = ("native", "batched", "vmap")  # the measured ones, the likely fastest first; `compiled` only on request
PROBES = 16  # maximum number of members for measuring a backend: the time per member hardly falls beyond
CLEAR = 4  # speed-up over a single training, after which no other backend is measured
ALIKE = 1e-2  # tolerance for losses of the same steps: bf16 rounds to eight bits
WARM, TIMED, ROUNDS = 2, 6, 3  # warm-up steps, timed steps, and rounds; the fastest round counts


def check_name(name: str) -> None:
    """Refuse an unknown backend.

    Raises:
        UserError: with the existing ones.
    """
    if name != "auto" and name not in BACKENDS:
        known = ["auto", *BACKENDS]
        raise UserError(f"trainer.backend is {name!r}{near(name, known)}; it can be {', '.join(known)}.")


def make(name: str, members: Sequence[TrainState], inputs: Tensor, targets: Tensor, *, threads: int) -> Backend:
    """Return the backend of that name for these members, with this number of CPU threads.

    Raises:
        UserError: it cannot train them; with the backends that can.
    """
    if (reason := why_not(name, members)) is not None:
        usable = [other for other in BACKENDS if why_not(other, members) is None]
        raise UserError(
            f"trainer.backend is {name}, which cannot train this: {reason}. "
            f"Here it can be auto{''.join(f', {other}' for other in usable)}."
        )
    if name == "eager":
        return Eager(members, inputs, targets)
    if name == "native":
        return Native(members, inputs, targets, threads=threads)
    forwards: dict[str, MakeForward] = {"batched": Dense, "vmap": Vmapped, "compiled": partial(Vmapped, compiled=True)}
    return Batched(members, inputs, targets, forwards[name])


def why_not(name: str, members: Sequence[TrainState]) -> str | None:
    """Return why a backend cannot train these stackable members; None if it can."""
    first = members[0]
    if name == "eager":
        return f"it trains one at a time, and these are {len(members)}" if len(members) > 1 else None
    if first.settings.compile:
        return "trainer.compile=true is for one training at a time"
    if name == "native":
        reasons = (why_not_native(m.parts, m.optimizer, first.settings.precision) for m in members)
        return next((reason for reason in reasons if reason is not None), None) or why_no_compiler()
    if name == "batched":
        return None if layers_of(first.parts.model) else "it is for model=mlp without batch_norm, and model=logistic"
    if name == "compiled" and not shutil.which("c++") and not shutil.which("g++"):
        return "torch.compile finds no C++ compiler"
    return None


@dataclass(frozen=True)
class Measured:
    """The measured seconds per step and member of backends, and why others were not measured."""

    seconds: dict[str, float]
    reasons: dict[str, str]

    @property
    def fastest(self) -> str:
        """The backend to use; ``eager`` if a stack does not pay off."""
        return min(self.seconds, key=self.seconds.__getitem__, default="eager")

    @property
    def why_alone(self) -> str:
        """The reason why a stack is not the fastest."""
        stacks = {name: seconds for name, seconds in self.seconds.items() if name != "eager"}
        if not stacks:
            return self.reasons["vmap"]
        best = min(stacks, key=stacks.__getitem__)
        return f"a stack ({best}) would take {stacks[best] / self.seconds['eager']:.1f} times as long here"


def measure(
    probe: Callable[[int], Sequence[TrainState]],
    size: int,
    inputs: Tensor,
    targets: Tensor,
    *,
    alone: int,
    threads: int,
) -> Measured:
    """Time the backends on a stack of `size`, and a single training.

    Args:
        probe: identical members like those to be trained, which are trained for a few steps and discarded.
        size: of the stack.
        inputs: training rows.
        targets: of the training rows.
        alone: CPU threads of a single training.
        threads: CPU threads of a stack.
    """
    several = min(size, PROBES)
    reasons = _refusals(probe(several))
    measured = Measured({}, reasons)
    if len(reasons) == len(STACKING):
        return measured  # single anyway, where compiling may take minutes
    measured.seconds["eager"], right = _timed("eager", probe(1), inputs, targets, alone)
    for name in STACKING:
        if name in reasons:
            continue
        if CLEAR * min(measured.seconds.values()) < measured.seconds["eager"]:
            break  # no other is likely to be even faster
        try:
            seconds, losses = _timed(name, probe(several), inputs, targets, threads)
        except (RuntimeError, NotImplementedError, UserError) as error:  # such as a layer without a vmap rule
            reasons[name] = str(error).strip().splitlines()[0]
            continue
        if torch.allclose(losses, right, rtol=ALIKE, atol=ALIKE):
            measured.seconds[name] = seconds / several
        else:  # for example due to bugs of torch: some of its vmap rules are wrong for some members
            reasons[name] = f"{name} gives other losses than plain torch"
    return measured


def _refusals(members: Sequence[TrainState]) -> dict[str, str]:
    """Return why some backends cannot stack these."""
    return {name: reason for name in STACKING if (reason := why_not(name, members)) is not None}


def _timed(
    name: str, members: Sequence[TrainState], inputs: Tensor, targets: Tensor, threads: int
) -> tuple[float, Tensor]:
    """Return the seconds per step for all members together, and the losses of the first steps ``(members, steps)``."""
    settings: TrainerConfig = members[0].settings
    batch = min(settings.batch, len(targets))
    steps = max(1, min(TIMED, len(targets) // batch))
    rows = torch.arange(batch * steps).expand(len(members), -1)
    rates = torch.full((len(members), steps), 1e-6, dtype=torch.float64)
    times = []
    with machine.on_threads(threads):
        backend = make(name, members, inputs, targets, threads=threads)
        losses = backend.train_steps(rows[:, : batch * min(WARM, steps)], batch, rates[:, :WARM]).losses
        for _ in range(ROUNDS):
            _wait(inputs.device)
            started = time.perf_counter()
            backend.train_steps(rows, batch, rates)
            _wait(inputs.device)
            times.append(time.perf_counter() - started)
    return min(times) / steps, losses


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
