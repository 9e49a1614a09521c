"""What a report is made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from hypermap.data.manifest import Manifest
from hypermap.data.preprocessor import Facts, Probes
from hypermap.reports.run.baseline_table import BaselineTable
from hypermap.reports.run.duplicates import Twins
from hypermap.reports.run.projection import Projection


@dataclass(frozen=True)
class Kept:
    """The model that is kept, where it is another than that of the prepared splits (`hypermap.experiments.run`)."""

    final: str
    """refit: trained again on all rows outside the test set; bag: the mean of the models of all fits."""
    rows: int
    """Number of distinct rows that it was trained on."""
    epochs: int
    """That it was trained for; 0 where there are none."""
    members: int
    """Number of models that it is the mean of."""
    split_test: Mapping[str, float]
    """Test metrics of the model of the prepared splits."""
    split_intervals: Mapping[str, tuple[float, float]]
    differences: Mapping[str, tuple[float, float, float]]
    """Its test metrics less those, and the ends of the paired interval."""


@dataclass(frozen=True)
class Search:
    """What an AutoML found: its best candidates, a mapping of numbers with a `verdict`, and how many rows it used."""

    leaderboard: Sequence[Mapping[str, str]]
    summary: Mapping[str, Any]
    rows: int


@dataclass(frozen=True)
class Run:
    """All that a report says of one run: what was asked for, how training went, and the test set's predictions."""

    task: str
    """classification or regression."""
    classes: tuple[str, ...]
    """Names of the classes; empty for regression."""
    config: Mapping[str, Any]
    """The resolved configuration: a mapping with the choice's `name` for each group, and `seed`."""
    history: Sequence[dict[str, Any]]
    """A row an epoch, with the columns of plots/history.csv; empty for a model that is not trained by epochs."""
    best_epoch: int
    """Epoch whose weights were kept, from 1; 0 where there are none."""
    stopped_early: bool
    monitor: str
    """What the kept epoch was picked by: loss, accuracy or r2."""
    validation: Mapping[str, float]
    validation_intervals: Mapping[str, tuple[float, float]]
    test: Mapping[str, float]
    test_intervals: Mapping[str, tuple[float, float]]
    targets: NDArray[Any]
    """(rows,) of the test set: class indices, or values in the target's own unit."""
    predictions: NDArray[Any]
    """(rows, classes) probabilities, or (rows,) values in the target's own unit."""
    inputs: NDArray[Any]
    """(rows, *shape) as stored, not scaled; images are (rows, 1 or 3, height, width) uint8, tables may have NaN."""
    rows: NDArray[Any]
    """(rows,) where each test row stands in the raw data."""
    manifest: Manifest
    """manifest.json of the prepared data."""
    environment: Mapping[str, str]
    """Versions, device and threads."""
    parameters: int | None
    """Number of weights; None of a model that has none to count."""
    fits: Mapping[str, float] = field(default_factory=dict)
    """Where validation was several trainings: the means over them by name, `fits`, their number, and the deviation
    of what the epoch was picked by, such as `accuracy_std`. `validation` is of the model that was kept."""
    train: Mapping[str, float] = field(default_factory=dict)
    """The metrics on training rows, of a model without epochs, whose history does not tell them."""
    beside: Sequence[BaselineTable] = ()
    """Other models on the same rows."""
    alone: BaselineTable | None = None
    """Of several targets: a network for each, on the same rows."""
    without_texts: BaselineTable | None = None
    """Of a table with texts: the same model without them, on the same rows."""
    twins: Twins | None = None
    """Of a table: the test rows whose inputs equal those of a row outside the test set; None if there are none."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Of several targets: those of their losses."""
    map: Projection | None = None
    """Where the test rows lie in the plane."""
    encoding: str = "one_hot"
    """Of a table: how the model is given categories, as codes, one_hot or ordinal."""

    words: Sequence[str] = ()
    """Each test row in words, where its preprocessor has any (`hypermap.data.preprocessor.Preprocessor.words`)."""
    facts: Facts | None = None
    """What only this kind of data has to say of the test rows."""
    probes: Probes | None = None
    """Inputs that the model was asked about one by one."""
    probed: NDArray[Any] | None = None
    """(1 + probes, ...) its predictions of them."""

    tuned: Mapping[str, Any] = field(default_factory=dict)
    """What was fitted on validation rows once the network was trained (`Task.tune`), such as a temperature."""
    untuned: Mapping[str, float] = field(default_factory=dict)
    """The test metrics without that; empty where there is no such thing."""
    untuned_intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    search: Search | None = None
    """Of an AutoML: its candidates, and how the ensemble does on rows outside the test set. Validation is by these."""
    kept: Kept | None = None
    """The model whose test metrics and predictions these are; None where it is that of the prepared splits. Validation,
    history and comparisons with other models are of the latter."""

    @property
    def split_test(self) -> Mapping[str, float]:
        """Return the test metrics of the model of the prepared splits."""
        return self.kept.split_test if self.kept else self.test

    @property
    def split_intervals(self) -> Mapping[str, tuple[float, float]]:
        """Return their intervals."""
        return self.kept.split_intervals if self.kept else self.test_intervals

    @property
    def images(self) -> bool:
        """Return whether the inputs can be shown as pictures."""
        return self.inputs.ndim == 4 and self.inputs.shape[1] in (1, 3)

    @property
    def table(self) -> bool:
        """Return whether the data are a table that has a schema."""
        return self.manifest.table is not None

    @property
    def level(self) -> str:
        """Return how much an interval holds, such as ``95 %``."""
        return f"{100 * self.config.get('evaluation', {}).get('confidence', 0.95):.4g} %"
