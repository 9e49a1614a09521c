"""A trained network as a predictor, and its file."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from hypermap.core import checkpoint
from hypermap.core.instantiate import instantiate
from hypermap.core.typing import Array
from hypermap.data.preprocessor import Transform
from hypermap.data.raw_inputs import RawInputs
from hypermap.models.inputs import InputSpec, resolve_input_spec
from hypermap.tasks.losses import Loss
from hypermap.training.backends.backend import EVALUATION_ROWS, forward_all
from hypermap.training.components import make_components


@dataclass(frozen=True)
class Network:
    """A trained network as a predictor on prepared features on its device."""

    module: nn.Module
    loss: Loss
    transform: Transform
    inputs: InputSpec
    precision: str
    tuned: Mapping[str, Any] = field(default_factory=dict)

    @property
    def transforms(self) -> tuple[Transform, ...]:
        """The transform alone."""
        return (self.transform,)

    @property
    def untuned(self) -> Self:
        """The network without what was tuned on validation rows."""
        return replace(self, tuned={})

    def predict(self, rows: RawInputs) -> Array:
        """Return the task's predictions for raw rows."""
        return self(torch.as_tensor(rows.features(self.transform)))

    def __call__(self, features: Tensor) -> Array:
        """Return the task's predictions, such as probabilities ``(rows, classes)``, float64."""
        return self.transform.task.predictions(self.outputs(features), **self.tuned)

    def outputs(self, features: Tensor) -> np.ndarray:
        """Return the loss's predictions ``(rows, ...)``, float64."""
        parts = (self.inputs.encode(part) for part in features.split(EVALUATION_ROWS))
        outputs = torch.cat([forward_all(self.module, part, self.precision) for part in parts])
        predicted: np.ndarray = self.loss.predictions(outputs).double().cpu().numpy()
        return predicted


def save(path: Path, network: Network) -> None:
    """Write the weights of a network; equal weights give equal bytes."""
    checkpoint.write_tensors(path, network.module.state_dict())


def load(
    path: Path, configuration: Mapping[str, Any], tuned: Mapping[str, Any], transform: Transform, remedy: str
) -> Network:
    """Return the network whose weights `save` wrote, on the CPU.

    Args:
        path: of the weights.
        configuration: that it was trained with.
        tuned: what was tuned on validation rows.
        transform: of its rows.
        remedy: what to do if the file is missing or damaged.

    Raises:
        UserError: it is, or the configuration cannot be instantiated.
        RuntimeError: the weights do not fit the network.
    """
    inputs = resolve_input_spec(configuration["model"], transform.manifest, transform.preprocessor.extras)
    parts = make_components(configuration, transform.manifest, inputs, torch.device("cpu"))
    parts.model.load_state_dict(checkpoint.read_tensors(path, remedy))
    precision = instantiate(configuration["trainer"]).precision
    return Network(parts.model, parts.loss, transform, inputs, precision, tuned)
