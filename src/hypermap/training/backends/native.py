"""Dense networks trained as a stack by a C++ kernel, built if a compiler is found: one thread per member.

A member's results are bit for bit the same alone and in any stack, with any number of threads. They differ from torch's
by the rounding of sums; dropout masks are drawn by torch.
"""

import ctypes
from collections.abc import Sequence
from ctypes import Structure, c_double, c_int64, c_void_p
from typing import Any

import torch
from torch import Tensor, nn

from hypermap.core.errors import OutOfHostMemory
from hypermap.models.layers import Dropout
from hypermap.models.mlp import MLP, Logistic
from hypermap.tasks.losses import BinaryCrossEntropy, CrossEntropy, Loss, MeanSquaredError, plain
from hypermap.training.backends.backend import StepOutputs
from hypermap.training.backends.native_build import kernel
from hypermap.training.components import Components
from hypermap.training.state import TrainState

# In the order of the kernel's enumerations.
ACTIVATIONS: list[type[nn.Module]] = [nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.LeakyReLU]
LOSSES: list[type[Loss]] = [CrossEntropy, BinaryCrossEntropy, MeanSquaredError]
ADAM, ADAMW, SGD, RMSPROP, ADAGRAD = range(5)

OPTIMIZERS = (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD, torch.optim.RMSprop, torch.optim.Adagrad)
NOT_OFFERED = ("amsgrad", "maximize", "centered", "capturable", "differentiable")  # unsupported settings
WHOLE = 65536  # the unit of dropout probabilities


class _Network(Structure):
    _fields_ = [("widths", c_void_p), ("layers", c_int64), ("activation", c_int64)]


class _Data(Structure):
    _fields_ = [("inputs", c_void_p), ("classes", c_void_p), ("values", c_void_p)]


class _Member(Structure):  # same fields as in kernel/interface.h
    _fields_ = [
        ("weights", c_void_p),
        ("state", c_void_p * 2),
        ("rows", c_void_p),
        ("rates", c_void_p),
        ("outputs", c_void_p),
        ("losses", c_void_p),
        ("norms", c_void_p),
        ("generator", c_void_p),
        ("kept", c_void_p),
        ("class_weights", c_void_p),
        *((name, c_int64) for name in ("taken", "optimizer", "loss", "nesterov")),
        *((name, c_double) for name in ("momentum", "decay", "epsilon", "weight_decay", "dampening")),
        *((name, c_double) for name in ("smoothing", "positive_weight", "l1", "l2", "clip_norm")),
    ]


def why_not(parts: Components, optimizer: torch.optim.Optimizer, precision: str) -> str | None:
    """Return why the kernel cannot train this, as a message; None if it can."""
    return _why_not_model(parts.model, precision) or _why_not_rest(parts) or _why_not_optimizer(optimizer)


def _why_not_model(model: nn.Module, precision: str) -> str | None:
    if type(model) not in (MLP, Logistic):
        return f"the native kernel trains model=mlp and model=logistic, not {type(model).__name__}"
    if any(isinstance(module, nn.BatchNorm1d) for module in model.modules()):
        return "the native kernel has no batch norm"
    allowed = (MLP, Logistic, nn.Flatten, nn.Sequential, nn.Linear, Dropout, *ACTIVATIONS)
    if strange := [module for module in model.modules() if type(module) not in allowed]:
        return f"the native kernel has no {type(strange[0]).__name__}"
    if precision != "fp32":
        return f"the native kernel computes in fp32, not {precision}"
    if any(p.device.type != "cpu" or p.dtype != torch.float32 for p in model.parameters()):
        return "the native kernel trains float32 weights on the CPU"
    if not all(parameter.requires_grad for parameter in model.parameters()):
        return "the native kernel trains all of a network's weights; some of these are frozen"
    return None


def _why_not_rest(parts: Components) -> str | None:
    if parts.augment.active:
        return "the native kernel does not augment"
    if type(plain(parts.loss)) not in LOSSES:
        return f"the native kernel has no loss {type(parts.loss).__name__}"
    return None


def _why_not_optimizer(optimizer: torch.optim.Optimizer) -> str | None:
    if type(optimizer) not in OPTIMIZERS:
        return f"the native kernel has no optimizer {type(optimizer).__name__}"
    if len(optimizer.param_groups) > 1:
        return "the native kernel has one group of weights for an optimizer"
    settings = optimizer.param_groups[0]
    if found := [name for name in NOT_OFFERED if settings.get(name)]:
        return f"the native kernel has no {found[0]} in {type(optimizer).__name__}"
    if settings.get("eps", 1) <= 0:
        return "the native kernel needs an optimizer.eps above 0"
    return None


class Native:
    """The native backend, for members with equal layer widths and activation, which may differ in everything else.

    Their modules, vectors, optimizer states and generators remain authoritative: they are read at the start of a call
    and updated in place, so that a member can continue in torch after any call.

    Args:
        members: for which `why_not` returns None.
        inputs: (N, *shape) float32.
        targets: (N,) int64 or float32.
        threads: CPU threads; they do not affect results.

    Raises:
        ValueError: members of different shapes, or targets that are not class indices.
    """

    def __init__(self, members: Sequence[TrainState], inputs: Tensor, targets: Tensor, *, threads: int = 1) -> None:
        self.members = list(members)
        self.threads = threads
        shapes = [_shape(member.parts.model) for member in members]
        if any(shape != shapes[0] for shape in shapes):
            raise ValueError("the members of a stack share the layers' widths and the activation")
        widths, self._activation = shapes[0]
        self._widths = torch.tensor(widths)
        self._records = [_Record(member, widths[-1]) for member in members]
        self._inputs = inputs.reshape(len(inputs), -1).contiguous()
        if self._inputs.dtype != torch.float32 or self._inputs.shape[1] != widths[0]:
            raise ValueError(f"the inputs are {self._inputs.dtype}, {self._inputs.shape[1]} wide; needed: {widths[0]}")
        entropies = any(type(plain(member.parts.loss)) is CrossEntropy for member in members)
        if entropies and len(targets) and not 0 <= int(targets.min()) <= int(targets.max()) < widths[-1]:
            raise ValueError(f"targets are numbers of classes, from 0 to {widths[-1] - 1}")
        self._classes = targets.to(torch.int64).contiguous() if entropies else None
        self._values = targets.to(torch.float32).contiguous()

    def train_steps(self, rows: Tensor, batch: int, rates: Tensor) -> StepOutputs:
        """Train each member on its `rows` (M, n) int64 in batches of `batch`, with `rates` (M, steps) float64.

        Raises:
            ValueError: row indices out of range, or a number of rates other than the number of steps.
            OutOfHostMemory: the buffers of a batch cannot be allocated.
        """
        stack, count = rows.shape
        steps = -(-count // batch)
        if stack != len(self.members) or rates.shape != (stack, steps):
            raise ValueError(f"rows {tuple(rows.shape)}, rates {tuple(rates.shape)}: needed ({stack}, {steps})")
        if count and not 0 <= int(rows.min()) <= int(rows.max()) < len(self._inputs):
            raise ValueError(f"rows are positions in the data, from 0 to {len(self._inputs) - 1}")
        rows, rates = rows.to(torch.int64).contiguous(), rates.to(torch.float64).contiguous()
        made = StepOutputs(
            torch.empty(stack, count, int(self._widths[-1])), torch.empty(stack, steps), torch.empty(stack, steps)
        )
        if count:
            self._train(made, rows, batch, rates)
        return made

    def _train(self, made: StepOutputs, rows: Tensor, batch: int, rates: Tensor) -> None:
        table = (_Member * len(self._records))(*(record.begin() for record in self._records))
        for name, tensor in {"rows": rows, "rates": rates, **vars(made)}.items():
            for i, fields in enumerate(table):
                setattr(fields, name, tensor.data_ptr() + i * tensor.stride(0) * tensor.element_size())
        data = _Data(self._inputs.data_ptr(), _address(self._classes), self._values.data_ptr())
        train = kernel().hypermap_train
        _checked(train(self._network(), ctypes.byref(data), table, *rows.shape, batch, self.threads), batch)
        for record in self._records:
            record.finish(rates.shape[1])

    def eval_outputs(self, inputs: Tensor, members: Sequence[int]) -> Tensor:
        """Return members' outputs in evaluation mode for `inputs` (rows, *shape): (members, rows, width) float32."""
        rows = inputs.reshape(len(inputs), -1).to(torch.float32).contiguous()
        if rows.shape[1] != self._widths[0]:
            raise ValueError(f"the inputs are {rows.shape[1]} wide; needed: {int(self._widths[0])}")
        made = torch.empty(len(members), len(rows), int(self._widths[-1]))
        vectors = (c_void_p * len(members))(*(self.members[i].weights.vector.data_ptr() for i in members))
        data = _Data(rows.data_ptr(), None, None)
        sizes = (len(members), len(rows))
        evaluate = kernel().hypermap_evaluate
        _checked(
            evaluate(self._network(), ctypes.byref(data), vectors, *sizes, made.data_ptr(), self.threads), sizes[1]
        )
        return made

    def _network(self) -> Any:
        return ctypes.byref(_Network(self._widths.data_ptr(), len(self._widths) - 1, self._activation))


class _Record:
    """The kernel's record of a member, and the tensors that its addresses point to."""

    def __init__(self, member: TrainState, width: int) -> None:
        self.member = member
        parts, loss = member.parts, plain(member.parts.loss)
        weights = loss.weights if isinstance(loss, CrossEntropy) else None
        if isinstance(loss, CrossEntropy) and loss.balanced and weights is None:
            raise RuntimeError("class_weights is 'balanced': fit the loss to the training targets first")
        self.class_weights = torch.ones(width) if weights is None else weights.contiguous()
        self.kept = torch.tensor(_kept(parts.model))
        self.drops = bool((self.kept < WHOLE).any())
        clip = parts.regularizer.clip_norm
        self.fields = _Member(
            kept=self.kept.data_ptr(),
            class_weights=self.class_weights.data_ptr(),
            loss=LOSSES.index(type(loss)),
            smoothing=loss.label_smoothing if isinstance(loss, CrossEntropy) else 0,
            positive_weight=_positive_weight(loss),
            l1=parts.regularizer.l1,
            l2=parts.regularizer.l2,
            clip_norm=-1 if clip is None else clip,
            **_settings(member.optimizer),
        )

    def begin(self) -> _Member:
        """Return the fields, with updated addresses of tensors that may have moved since the last call."""
        fields, vector = self.fields, self.member.weights.vector
        self.state, fields.taken = _state(self.member.optimizer, vector)
        self.generator = self.member.dropout_rng.get_state() if self.drops else None
        fields.weights, fields.generator = vector.data_ptr(), _address(self.generator)
        fields.state = (c_void_p * 2)(*(_address(tensor) for tensor in self.state))
        return fields

    def finish(self, steps: int) -> None:
        """Copy back what is not updated in place."""
        state = self.member.optimizer.state.get(self.member.weights.vector, {})
        if "step" in state:
            state["step"] += steps
        if self.generator is not None:
            self.member.dropout_rng.set_state(self.generator)


def _settings(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return an optimizer's kind and settings, with the kernel's names."""
    group = optimizer.param_groups[0]
    if isinstance(optimizer, torch.optim.Adam):
        kind = ADAMW if group["decoupled_weight_decay"] else ADAM
        own = dict(zip(("momentum", "decay"), map(float, group["betas"]), strict=True))
    elif isinstance(optimizer, torch.optim.SGD):
        kind, own = SGD, {key: group[key] for key in ("momentum", "dampening", "nesterov")}
    elif isinstance(optimizer, torch.optim.RMSprop):
        kind, own = RMSPROP, {"momentum": group["momentum"], "decay": group["alpha"]}
    else:
        kind, own = ADAGRAD, {"decay": group["lr_decay"]}
    return {"optimizer": kind, "weight_decay": group["weight_decay"], "epsilon": group.get("eps", 0)} | own


def _state(optimizer: torch.optim.Optimizer, vector: nn.Parameter) -> tuple[list[Tensor | None], int]:
    """Return the optimizer's state tensors, created as in torch's first step, and the number of steps so far.

    SGD does not count its steps: 0 means that it has no momentum yet.
    """
    group = optimizer.param_groups[0]
    if isinstance(optimizer, torch.optim.SGD):
        if group["momentum"] == 0:
            return [None, None], 0  # and no entry in its state
        begun = optimizer.state[vector].get("momentum_buffer") is not None
        names = ["momentum_buffer"]
    elif isinstance(optimizer, torch.optim.Adam):
        names = ["exp_avg", "exp_avg_sq"]
    elif isinstance(optimizer, torch.optim.RMSprop):
        names = ["square_avg", "momentum_buffer"] if group["momentum"] > 0 else ["square_avg"]
    else:
        names = ["sum"]
    state = optimizer.state[vector]
    if not state and not isinstance(optimizer, torch.optim.SGD):
        state["step"] = torch.zeros(())
    for name in names:
        if state.get(name) is None:
            state[name] = torch.zeros_like(vector)
    taken = int(begun) if isinstance(optimizer, torch.optim.SGD) else int(state["step"])
    return [*(state[name] for name in names), None][:2], taken


def _shape(model: nn.Module) -> tuple[list[int], int]:
    """Return the widths of the layers, starting with the input's, and the activation's number."""
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    kinds = [ACTIVATIONS.index(type(module)) for module in model.modules() if type(module) in ACTIVATIONS]
    return [layers[0].in_features, *(layer.out_features for layer in layers)], kinds[0] if kinds else 0


def _kept(model: nn.Module) -> list[int]:
    """Return for each hidden layer how many of 65536 elements its dropout keeps; all without dropout."""
    kept = []
    for module in model.modules():
        if isinstance(module, nn.Linear):
            kept.append(WHOLE)
        elif isinstance(module, Dropout):
            kept[-1] = module.kept
    return kept


def _positive_weight(loss: Loss) -> float:
    weight = loss.weight if isinstance(loss, BinaryCrossEntropy) else None
    return 1.0 if weight is None else float(weight)


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _checked(code: int, rows: int) -> None:
    """Raise an error if the kernel failed, in which case it has done nothing."""
    if code:
        raise OutOfHostMemory(f"the buffers of the native kernel for {rows} rows do not fit into memory.")
