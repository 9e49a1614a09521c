"""Scikit-learn models, selected like a network: fit, predict, save and load.

A model belongs to a family (`hypermap.models.sklearn_models`) and is fitted in one call on the features that a network
would see. So the config groups of network training (`IGNORED_GROUPS`) do not apply.
"""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from hypermap.core import files, skops_io
from hypermap.core.errors import UserError
from hypermap.core.instantiate import check_arguments, instantiate, locate
from hypermap.core.typing import Array
from hypermap.data.manifest import Manifest
from hypermap.data.preprocessor import TensorSplit, Transform
from hypermap.data.raw_inputs import RawInputs
from hypermap.models.inputs import InputSpec, resolve_input_spec
from hypermap.models.sklearn_models import Dummy, Forest, SklearnModel, TrainingData
from hypermap.tasks.base import make_task

if TYPE_CHECKING:  # predictions do not need torch
    from torch import Tensor

ESTIMATOR = "model.skops"
IGNORED_GROUPS = ("optimizer", "scheduler", "loss", "regularizer", "augment", "trainer")  # except monitor and threads
LARGE = 2_000_000  # number of training values from which several threads pay off
PREDICTED_ROWS = 8192  # rows per call: limits memory with one-hot categories, and does not change results

TRUSTED = (
    "functools.partial",  # of check_array only: what a partial calls must be listed as well
    "hypermap.models.sklearn_models.Calibrated",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.metrics._dist_metrics.ManhattanDistance64",
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.tree._tree.Tree",
    "sklearn.utils.validation.check_array",
)
"""Types in fitted estimators of the families here that are not on skops's own list."""


@dataclass(frozen=True)
class Model:
    """Fitted estimators, one for each column of the targets, as a predictor on prepared features.

    Attributes:
        estimators: of classes, with `predict_proba` and `classes_`, or of numbers, with `predict`.
        tuned: what the task has tuned on validation rows, where the targets are several columns.
    """

    estimators: tuple[Any, ...]
    transform: Transform
    inputs: InputSpec
    threads: int
    tuned: Mapping[str, Any] = field(default_factory=dict)

    @property
    def estimator(self) -> Any:
        """The only estimator."""
        (alone,) = self.estimators
        return alone

    @property
    def transforms(self) -> tuple[Transform, ...]:
        """The transform alone."""
        return (self.transform,)

    @property
    def untuned(self) -> Self:
        """The model itself: what it has tuned belongs to its fit."""
        return self

    def predict(self, rows: RawInputs) -> Array:
        """Return the task's predictions for raw rows."""
        return self(rows.features(self.transform))

    def __call__(self, features: "Tensor | Array") -> Array:
        """Return the task's predictions, such as probabilities ``(rows, classes)``, float64."""
        task = self.transform.task
        each = zip(task.columns(), self.standardised(features), strict=True)
        return task.joined([own if part.info.classes else part.decode(own) for part, own in each], **self.tuned)

    def standardised(self, features: "Tensor | Array") -> list[Array]:
        """Return what the estimators predict: probabilities, or values standardized, as they were fitted to them."""
        rows = _array(features)
        blocks = [rows[first : first + PREDICTED_ROWS] for first in range(0, max(1, len(rows)), PREDICTED_ROWS)]
        if len(blocks) < 2 or self.threads < 2:
            found = [self._predict(block) for block in blocks]
        else:
            with ThreadPoolExecutor(self.threads) as pool:
                found = list(pool.map(self._predict, blocks))
        return [np.concatenate(parts) for parts in zip(*found, strict=True)]

    def _predict(self, features: Array) -> list[Array]:
        """Predict in parallel blocks of rows, each on a single thread, since OpenMP's threads wait for one another.

        Besides, a forest that sums its trees in the order in which its threads finish differs in the last digits.
        """
        inputs, tasks = flat(self.inputs, features), self.transform.task.columns()
        with _pools().limit(limits=1, user_api="openmp"):
            return [
                _answers(estimator, inputs, len(task.info.classes))
                for estimator, task in zip(self.estimators, tasks, strict=True)
            ]


def _answers(estimator: Any, inputs: Array, classes: int) -> Array:
    """Return an estimator's probabilities ``(rows, classes)``, or its values if there are no classes."""
    if not classes:
        return np.asarray(estimator.predict(inputs), np.float64)
    probabilities = np.zeros((len(inputs), classes))
    probabilities[:, estimator.classes_] = estimator.predict_proba(inputs)  # a fold may lack a class
    return probabilities


def is_family(option: Mapping[str, Any]) -> bool:
    """Return whether a model's option names a family rather than a network.

    Raises:
        UserError: its path cannot be imported.
    """
    target = locate(option.get("_target_"))
    return isinstance(target, type) and issubclass(target, SklearnModel)


def suits(option: Mapping[str, Any], manifest: Manifest) -> bool:
    """Return whether the family of an option can be fitted to data like this: to its numbers or ids, and its task."""
    family = _class(option)
    return _kind(manifest) in family.inputs and {part.estimator for part in make_task(manifest).columns()} <= {
        *family.predicts
    }


def _class(option: Mapping[str, Any]) -> type[SklearnModel]:
    found = locate(option.get("_target_"))
    assert isinstance(found, type)
    assert issubclass(found, SklearnModel)
    return found


def _kind(manifest: Manifest) -> str:
    if make_task(manifest).estimator == "forecaster":
        return "windows"
    return "ids" if (manifest.dtype or "").startswith("int") else "numbers"


def make(option: Mapping[str, Any], transform: Transform) -> tuple[SklearnModel, InputSpec]:
    """Return the family of an option, and its input spec for data behind this transform.

    Raises:
        UserError: a value that the signature does not take, or that does not fit the data.
    """
    manifest = transform.manifest
    if not predicts(manifest):
        raise UserError(
            f"model={option.get('name')} is no network: it predicts a class or a number; the task is "
            f"{manifest.task}: take a network."
        )
    if not suits(option, manifest):
        kinds = " or ".join(sorted(_class(option).inputs))
        of_task = "" if _kind(manifest) not in _class(option).inputs else f" of the task {manifest.task}"
        raise UserError(
            f"model={option.get('name')} is fitted to {kinds}, and the rows of this data are {_kind(manifest)}"
            f"{of_task}: take another."
        )
    inputs = resolve_input_spec(option, manifest, transform.preprocessor.extras)
    runtime = {name: value for name, value in inputs.runtime.items() if name != "input_shape"}
    check_arguments(option, *runtime)
    family: SklearnModel = instantiate(option, **runtime)
    weight = getattr(family, "class_weight", None)
    if weight not in (None, "balanced"):
        raise UserError(f"model.class_weight is {weight!r}; it is balanced, or null.")
    if weight and not any(part.info.classes for part in make_task(manifest).columns()):
        raise UserError(
            "model.class_weight is balanced; it evens out classes, and the target is a number: set it to null."
        )
    return family, inputs


def choose_threads(option: Mapping[str, Any], manifest: Manifest) -> int:
    """Return the number of CPU threads for a fit: all for a forest (independent trees) or for many rows, else one."""
    from hypermap.core import device

    forest = issubclass(_class(option), Forest)
    return device.CORES if forest or manifest.rows["train"] * prod(manifest.shape) >= LARGE else 1


def fit(
    option: Mapping[str, Any],
    train: TensorSplit,
    validation: TensorSplit,
    transform: Transform,
    seed: int,
    threads: int,
) -> Model:
    """Fit the family of `option` to rows preprocessed by `transform` (`hypermap.data.prepared.load`), on the CPU.

    Raises:
        UserError: the family refuses the values or the rows.
    """
    family, inputs = make(option, transform)
    (rows, held), task = (_columns(inputs, split) for split in (train, validation)), transform.task
    estimators = []
    with _explaining(option), _pools().limit(limits=threads):
        for k, part in enumerate(task.columns()):
            classifies = bool(part.info.classes)
            own, others = _column(rows, k, classifies), _column(held, k, classifies)
            problem = TrainingData(classifies, own, others, seed, threads)
            alone = len(rows[1].T) > 1 and classifies and len(np.unique(own[1])) < 2
            estimators.append(Dummy().fit(problem) if alone else family.fit(problem))
    model = _quietly(estimators, transform, inputs, threads)
    if len(estimators) == 1:
        return model
    tuned = task.tune(model(validation.inputs), task.decode(validation.targets.double().cpu().numpy()))
    return replace(model, tuned=tuned)


def decided(option: Mapping[str, Any], model: Model) -> list[dict[str, float]]:
    """Return what validation rows have decided of each estimator (`SklearnModel.decided`)."""
    family, _ = make(option, model.transform)
    return [{} if is_dummy(estimator) else family.decided(estimator) for estimator in model.estimators]


def refit(
    option: Mapping[str, Any],
    train: TensorSplit,
    like: Model,
    decided: Sequence[Mapping[str, float]],
    transform: Transform,
    seed: int,
    threads: int,
) -> Model:
    """Fit the family of `option` without validation rows.

    Args:
        option: of the group model.
        train: all rows, preprocessed by `transform`.
        like: a model that was fitted with validation rows, whose tuning is taken over.
        decided: of each estimator.
        transform: of these rows.
        seed: for all random draws.
        threads: CPU threads.

    Raises:
        UserError: the family refuses the values or the rows, or cannot do without validation rows.
    """
    family, inputs = make(option, transform)
    rows, estimators = _columns(inputs, train), []
    with _explaining(option), _pools().limit(limits=threads):
        for k, (part, before) in enumerate(zip(transform.task.columns(), like.estimators, strict=True)):
            classifies = bool(part.info.classes)
            problem = TrainingData(classifies, _column(rows, k, classifies), None, seed, threads, decided[k])
            same = Dummy() if is_dummy(before) else family
            try:
                estimators.append(same.fit(problem))
            except TypeError as error:
                raise UserError(
                    f"model={option.get('name')} cannot be fitted without validation rows ({error}): set final=holdout."
                ) from error
    return replace(_quietly(estimators, transform, inputs, threads), tuned=like.tuned)


def _columns(inputs: InputSpec, split: TensorSplit) -> tuple[Array, Array]:
    """Return rows as an estimator takes them, and their targets ``(rows, columns)``."""
    return flat(inputs, split.inputs), split.targets.cpu().numpy().reshape(len(split.targets), -1)


def _column(rows: tuple[Array, Array], k: int, classifies: bool) -> tuple[Array, Array]:
    """Return rows with one column of their targets, int64 if they are classes."""
    inputs, targets = rows
    return inputs, targets[:, k].astype(np.int64) if classifies else targets[:, k]


def is_dummy(estimator: Any) -> bool:
    """Return whether an estimator is that of `Dummy`, which also stands in where a target has one class."""
    return type(estimator).__module__ == "sklearn.dummy"


def save(path: Path, model: Model) -> None:
    """Write a fitted estimator; equal estimators give equal bytes."""
    one = len(model.estimators) == 1
    held = model.estimator if one else {"estimators": list(model.estimators), "tuned": dict(model.tuned)}
    files.write_bytes(path, skops_io.dumps(held))


def load(path: Path, option: Mapping[str, Any], transform: Transform, remedy: str) -> Model:
    """Return the model whose estimator `save` wrote.

    Raises:
        UserError: the file is missing or damaged, or holds types that no family here has; `remedy` says what to do
            then.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error}). {remedy}") from None
    held = skops_io.loads(content, str(path), remedy, (*TRUSTED, *_class(option).trusted))
    several: dict[str, Any] = held if isinstance(held, dict) else {"estimators": [held], "tuned": {}}
    inputs = resolve_input_spec(option, transform.manifest)
    return replace(_quietly(several["estimators"], transform, inputs, _cores()), tuned=several["tuned"])


def flat(inputs: InputSpec, features: "Tensor | Array") -> Array:
    """Return features as an estimator takes them: encoded, and images flattened; ``(rows, width)`` float32, or ids."""
    encoded: Array = inputs.encode(_array(features))
    return encoded.reshape(len(encoded), prod(encoded.shape[1:]))


def _array(features: "Tensor | Array") -> Array:
    return features if isinstance(features, np.ndarray) else features.cpu().numpy()


def _cores() -> int:
    """Return how many threads predict: as many as OpenMP would take, OMP_NUM_THREADS or the CPUs of this process."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdecimal() and int(given):
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quietly(estimators: Sequence[Any], transform: Transform, inputs: InputSpec, threads: int) -> Model:
    """Return a model that controls the threads itself, with single-threaded estimators."""
    for estimator in estimators:
        if "n_jobs" in getattr(estimator, "get_params", dict)():
            estimator.set_params(n_jobs=None)
    return Model(tuple(estimators), transform, inputs, threads)


def predicts(manifest: Manifest) -> bool:
    """Return whether scikit-learn's estimators predict the task of this data."""
    return all(part.estimator is not None for part in make_task(manifest).columns())


@cache
def _pools() -> Any:
    """Return the controller of the thread pools under scikit-learn, cached because finding them takes milliseconds."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@contextmanager
def _explaining(option: Mapping[str, Any]) -> Iterator[None]:
    """Report scikit-learn's errors about a setting, or a fit that did not converge, in one message.

    Other warnings are issued as usual.
    """
    from sklearn.exceptions import ConvergenceWarning

    name = option.get("name", option["_target_"])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        try:
            yield
        except ValueError as error:  # among others scikit-learn's error for a value out of range
            raise UserError(f"model={name} refuses its settings or the training rows: {error}") from error
    others = [warning for warning in caught if not issubclass(warning.category, ConvergenceWarning)]
    for other in others:
        warnings.warn_explicit(other.message, other.category, other.filename, other.lineno, source=other.source)
    if len(others) < len(caught):
        print(f"model={name} did not converge: raise model.max_iter, or scale the data (data.scaling=standard).")
