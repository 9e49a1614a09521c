"""Any network as a stack: `torch.func.vmap` over its parameters, buffers, inputs and dropout masks."""

import copy
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from hypermap.core import device
from hypermap.core.errors import UserError
from hypermap.models.layers import Dropout
from hypermap.training.backends.batched import views
from hypermap.training.backends.dense import masks
from hypermap.training.state import TrainState


class Vmapped:
    """A `Forward` for networks that draw random numbers only in `Dropout`.

    Args:
        members: see `Forward`.
        matrix: see there.
        compiled: whether to use `torch.compile` for the forward and backward pass.
    """

    def __init__(self, members: Sequence[TrainState], matrix: Tensor, compiled: bool = False) -> None:
        models = [member.parts.model for member in members]
        self.template = copy.deepcopy(models[0])
        self.weights = views(members, matrix)
        trained = [name for name, parameter in self.template.named_parameters() if parameter.requires_grad]
        state = dict(zip(trained, self.weights, strict=True))
        for name, _ in self.template.named_parameters():
            if name not in state:
                state[name] = torch.stack([model.get_parameter(name) for model in models]).detach()
        for name, _ in self.template.named_buffers():
            state[name] = _shared([model.get_buffer(name) for model in models], models, name)
        self.state = state
        self.dropouts = {name: own for name, own in self.template.named_modules() if isinstance(own, Dropout)}
        self.layers = {name: [model.get_submodule(name) for model in models] for name in self.dropouts}
        self.calls: dict[torch.Size, list[tuple[str, torch.Size]]] = {}
        self.learn = vmap(self._call, in_dims=(0, 0, 0))
        self.judge = vmap(self._call, in_dims=(0, None, None))
        if compiled:
            self.learn = torch.compile(self.learn, dynamic=False)

    def __call__(self, inputs: Tensor) -> Tensor:
        """See `Forward`."""
        drawn = [
            masks(self.layers[name], torch.empty((len(inputs), *shape), device=inputs.device))
            for name, shape in self._dropped(inputs)
        ]
        self.template.train()
        try:
            outputs: Tensor = self.learn(self.state, inputs, drawn)
        except (RuntimeError, NotImplementedError) as error:
            if device.wants_memory(error):
                raise
            raise UserError(
                f"torch.func.vmap cannot run this network ({str(error).strip().splitlines()[0]}). Take "
                "trainer.backend=auto or eager."
            ) from error
        return outputs

    def evaluate(self, inputs: Tensor) -> Tensor:
        """See `Forward`."""
        self.template.eval()
        outputs: Tensor = self.judge(self.state, inputs, [])
        return outputs

    def _call(self, state: dict[str, Tensor], inputs: Tensor, drawn: list[Tensor]) -> Tensor:
        self._hand(iter(drawn))  # one iterator for all layers, in the order of the calls
        outputs: Tensor = functional_call(self.template, state, (inputs,))
        self._hand(None)
        return outputs

    def _hand(self, drawn: Iterator[Tensor] | None) -> None:
        for layer in self.dropouts.values():
            layer.masks = drawn

    def _dropped(self, inputs: Tensor) -> list[tuple[str, torch.Size]]:
        """Return the dropout layers that a forward pass of this shape calls, in order, each with its input shape."""
        if not self.dropouts:
            return []
        if inputs.shape not in self.calls:
            called: list[tuple[str, torch.Size]] = []
            model = copy.deepcopy(self.template).train()
            for name in self.dropouts:
                model.get_submodule(name).register_forward_pre_hook(
                    lambda layer, given, name=name: called.append((name, given[0].shape))
                )
            with torch.no_grad(), torch.random.fork_rng([inputs.device] if inputs.is_cuda else []):
                model(inputs[0])
            self.calls[inputs.shape] = called
        return self.calls[inputs.shape]


def _shared(buffers: Sequence[Tensor], models: Sequence[nn.Module], name: str) -> Tensor:
    """Return one tensor with the members' buffers, which are views of it from now on."""
    stacked = torch.stack(list(buffers))
    path, _, leaf = name.rpartition(".")
    for model, own in zip(models, stacked, strict=True):
        model.get_submodule(path)._buffers[leaf] = own
    return stacked
