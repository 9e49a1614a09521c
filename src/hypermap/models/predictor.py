"""What can be asked for predictions: a network, a model of scikit-learn, or an ensemble of such."""

from collections.abc import Sequence
from typing import Protocol, Self

from hypermap.core.typing import Array
from hypermap.data.preprocessor import Transform
from hypermap.data.raw_inputs import RawInputs
from hypermap.models.inputs import InputSpec


class Predictor(Protocol):
    """A trained model, which preprocesses the rows that it is asked about by itself."""

    @property
    def transform(self) -> Transform:
        """What the predictions mean: the task, its targets, and the schema of a row. An ensemble's is its first's."""
        ...

    @property
    def transforms(self) -> Sequence[Transform]:
        """All transforms that rows are preprocessed by."""
        ...

    @property
    def inputs(self) -> InputSpec:
        """How the model receives features. An ensemble's is its first's."""
        ...

    @property
    def untuned(self) -> Self:
        """The predictor without what was tuned on validation rows, if it is a network."""
        ...

    def predict(self, rows: RawInputs) -> Array:
        """Return the task's predictions: probabilities ``(rows, classes)``, or values in the target's unit, float64."""
        ...
