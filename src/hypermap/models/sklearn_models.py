"""Model families of scikit-learn: forests, boosting, support vector machines, linear models, neighbors, and a dummy.

A family is a class of settings with one method, `SklearnModel.fit`; its option file is in conf/model/ with those of the
networks. `hypermap.models.sklearn_fit` fits, saves and loads them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from hypermap.core.errors import UserError
from hypermap.core.typing import Array
from hypermap.data.layout import ColumnLayout

ClassWeight = Literal["balanced"] | None


@dataclass(frozen=True)
class TrainingData:
    """The data that a family is fitted to.

    Attributes:
        classifies: whether the targets are classes.
        train: features (rows, width) float32, and class indices int64 or standardized values float32 (rows,). Trees and
            neighbors do not need standardized values; they are so because networks are trained on the same rows.
        validation: likewise; networks select their epoch on it, and a family may use it for early stopping. None for a
            fit to all rows, in which `decided` stands for what earlier fits have found on theirs.
        seed: for all random draws.
        threads: CPU threads.
        decided: what `SklearnModel.decided` has returned, the mean over several fits.
    """

    classifies: bool
    train: tuple[Array, Array]
    validation: tuple[Array, Array] | None
    seed: int
    threads: int
    decided: Mapping[str, float] = field(default_factory=dict)


class SklearnModel(ABC):
    """Settings of a family; a user's own needs no more than `fit`.

    A constructor that takes a `layout` gets categories as codes (`ColumnLayout`), any other gets them one-hot; and one
    that takes any of a preprocessor's extras by name gets these.

    Attributes:
        inputs: what it can be fitted to: rows of ``numbers``, of ``ids`` (`Manifest.dtype` is an integer's), or
            ``windows`` of series.
        predicts: the tasks that it is for (`hypermap.tasks.base.Task.estimator`).
        trusted: the types in its estimators, beside scikit-learn's, that may be loaded from a file.
    """

    inputs: ClassVar[frozenset[str]] = frozenset({"numbers"})
    predicts: ClassVar[frozenset[str]] = frozenset({"classifier", "regressor"})
    trusted: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def fit(self, problem: TrainingData) -> Any:
        """Return a fitted estimator, with `predict_proba` and `classes_` (classification) or `predict` (regression)."""

    def decided(self, estimator: Any) -> dict[str, float]:
        """Return the numbers that validation rows have decided of an estimator, such as how many trees it has."""
        return {}


class Forest(SklearnModel):
    """Many trees, averaged; see `RandomForest` and `ExtraTrees`.

    `max_features` is the share of the columns considered at each split; None for the usual: the square root of their
    number for classification, all of them for regression.
    """

    def __init__(
        self,
        n_estimators: int = 100,
        max_depth: int | None = None,
        min_samples_leaf: int = 2,
        max_features: float | None = None,
        class_weight: ClassWeight = None,
    ) -> None:
        self.values = {"n_estimators": n_estimators, "max_depth": max_depth, "min_samples_leaf": min_samples_leaf}
        self.max_features = max_features
        self.class_weight = class_weight

    @abstractmethod
    def of(self, problem: TrainingData) -> Callable[..., Any]:
        """Return scikit-learn's classifier or regressor."""

    def fit(self, problem: TrainingData) -> Any:
        """Return a fitted forest."""
        values: dict[str, Any] = {**self.values, "random_state": problem.seed, "n_jobs": problem.threads}
        if problem.classifies:
            values["class_weight"] = self.class_weight
        usual = "sqrt" if problem.classifies else 1.0
        features = usual if self.max_features is None else self.max_features
        fitted = self.of(problem)(**values, max_features=features).fit(*problem.train)
        for estimator in fitted.estimators_:
            slim(estimator.tree_)
        return fitted


def slim(tree: Any) -> None:
    """Zero what predictions do not depend on in a tree of scikit-learn, so that its file is half as large.

    Thresholds are rounded down to float32: a float32 feature is at most the one if and only if it is at most the other.
    """
    state = tree.__getstate__()
    nodes, values = state["nodes"].copy(), state["values"].copy()
    inner = nodes["left_child"] >= 0
    for name in ("impurity", "n_node_samples", "weighted_n_node_samples"):
        nodes[name] = 0
    rounded = nodes["threshold"].astype(np.float32)
    above = rounded > nodes["threshold"]
    rounded[above] = np.nextafter(rounded[above], np.float32(-np.inf))
    nodes["threshold"] = np.where(inner, rounded, 0)
    nodes["feature"][~inner] = 0
    values[inner] = 0
    tree.__setstate__({**state, "nodes": nodes, "values": values})


class RandomForest(Forest):
    """Trees on resampled rows (Breiman 2001, https://doi.org/10.1023/A:1010933404324)."""

    def of(self, problem: TrainingData) -> Callable[..., Any]:
        """Return RandomForestClassifier or -Regressor."""
        from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

        forest: Callable[..., Any] = RandomForestClassifier if problem.classifies else RandomForestRegressor
        return forest


class ExtraTrees(Forest):
    """Trees on all rows, which take the best of random thresholds (Geurts et al. 2006,
    https://doi.org/10.1007/s10994-006-6226-1).
    """

    def of(self, problem: TrainingData) -> Callable[..., Any]:
        """Return ExtraTreesClassifier or -Regressor."""
        from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor

        forest: Callable[..., Any] = ExtraTreesClassifier if problem.classifies else ExtraTreesRegressor
        return forest


class GradientBoosting(SklearnModel):
    """Gradient-boosted trees on binned numbers (HistGradientBoosting, after LightGBM, 2017).

    Trees are added until the loss on the validation rows has not improved for `n_iter_no_change` trees; a network's
    epoch is selected on the same rows. A split divides categories into two sets; a column with more categories than
    bins is split by the order of its codes.
    """

    BINS = 255

    def __init__(
        self,
        layout: ColumnLayout | None = None,
        learning_rate: float = 0.1,
        max_iter: int = 1000,
        max_leaf_nodes: int = 31,
        max_depth: int | None = None,
        min_samples_leaf: int = 20,
        l2_regularization: float = 0.0,
        max_features: float = 1.0,
        n_iter_no_change: int = 20,
        class_weight: ClassWeight = None,
    ) -> None:
        self.layout = layout or ColumnLayout(0)
        self.values = {
            "learning_rate": learning_rate,
            "max_iter": max_iter,
            "max_leaf_nodes": max_leaf_nodes,
            "max_depth": max_depth,
            "min_samples_leaf": min_samples_leaf,
            "l2_regularization": l2_regularization,
            "max_features": max_features,
            "n_iter_no_change": n_iter_no_change,
        }
        self.class_weight = class_weight

    def fit(self, problem: TrainingData) -> Any:
        """Return a HistGradientBoostingClassifier or -Regressor."""
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        categories = [
            self.layout.plain + k for k, size in enumerate(self.layout.cardinalities) if size < self.BINS
        ]  # codes are 0 to size
        values = {
            **self.values,
            "categorical_features": categories or None,
            "early_stopping": problem.validation is not None,
            "random_state": problem.seed,
        }
        if "max_iter" in problem.decided:
            values["max_iter"] = max(1, round(problem.decided["max_iter"]))
        if problem.classifies:
            estimator = HistGradientBoostingClassifier(**values, class_weight=self.class_weight)
        else:
            estimator = HistGradientBoostingRegressor(**values)
        inputs, targets = (None, None) if problem.validation is None else of_known_classes(problem)
        return estimator.fit(*problem.train, X_val=inputs, y_val=targets)

    def decided(self, estimator: Any) -> dict[str, float]:
        """Return the number of trees (of each class, where there are more than two)."""
        return {"max_iter": float(estimator.n_iter_)}


class SupportVector(SklearnModel):
    """Support vector machine with a kernel (libsvm, Chang and Lin 2011).

    Its time grows with the square of the rows. `gamma` is the kernel coefficient; None for 1 / (columns * variance). In
    regression, errors up to `epsilon`, in standard deviations of the target, cost nothing. Probabilities are those of
    `Calibrated`.
    """

    def __init__(
        self,
        C: float = 1.0,  # noqa: N803, scikit-learn's name and the literature's
        kernel: Literal["rbf", "linear", "poly", "sigmoid"] = "rbf",
        gamma: float | None = None,
        epsilon: float = 0.1,
        class_weight: ClassWeight = None,
    ) -> None:
        self.values = {"C": C, "kernel": kernel, "gamma": "scale" if gamma is None else gamma, "cache_size": 500}
        self.epsilon = epsilon
        self.class_weight = class_weight

    def fit(self, problem: TrainingData) -> Any:
        """Return a calibrated SVC, or an SVR."""
        from sklearn.svm import SVC, SVR

        if not problem.classifies:
            return SVR(**self.values, epsilon=self.epsilon).fit(*problem.train)
        estimator = SVC(**self.values, class_weight=self.class_weight).fit(*problem.train)
        if problem.validation is None:
            return Calibrated(estimator, problem.decided["temperature"])
        return Calibrated.on(estimator, *problem.validation)

    def decided(self, estimator: Any) -> dict[str, float]:
        """Return the temperature of a classifier."""
        return {"temperature": estimator.temperature} if isinstance(estimator, Calibrated) else {}


class Linear(SklearnModel):
    """Logistic or ridge regression; a small `C` keeps the weights small."""

    def __init__(self, C: float = 1.0, max_iter: int = 1000, class_weight: ClassWeight = None) -> None:  # noqa: N803
        self.inverse_strength = C
        self.max_iter = max_iter
        self.class_weight = class_weight

    def fit(self, problem: TrainingData) -> Any:
        """Return a LogisticRegression, or a Ridge whose ``alpha`` is 1 / (2 C): the same balance of loss and
        weights.
        """
        from sklearn.linear_model import LogisticRegression, Ridge

        if not problem.classifies:
            return Ridge(alpha=1 / (2 * self.inverse_strength)).fit(*problem.train)
        return LogisticRegression(C=self.inverse_strength, max_iter=self.max_iter, class_weight=self.class_weight).fit(
            *problem.train
        )


class NearestNeighbors(SklearnModel):
    """The nearest training rows vote, or are averaged; `p` is 2 for Euclidean, 1 for Manhattan distance."""

    def __init__(
        self, n_neighbors: int = 15, weights: Literal["uniform", "distance"] = "uniform", p: Literal[1, 2] = 2
    ) -> None:
        self.n_neighbors = n_neighbors
        self.values = {"n_neighbors": n_neighbors, "weights": weights, "p": p}

    def fit(self, problem: TrainingData) -> Any:
        """Return a KNeighborsClassifier or -Regressor."""
        from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

        if self.n_neighbors > (rows := len(problem.train[1])):
            raise UserError(f"model.n_neighbors is {self.n_neighbors}, and there are {rows} training rows: lower it.")
        return (KNeighborsClassifier if problem.classifies else KNeighborsRegressor)(**self.values).fit(*problem.train)


class Dummy(SklearnModel):
    """Class frequencies or the mean of the training rows, whatever the features: every model has to beat it."""

    inputs = frozenset({"numbers", "ids"})

    def fit(self, problem: TrainingData) -> Any:
        """Return a DummyClassifier or -Regressor."""
        from sklearn.dummy import DummyClassifier, DummyRegressor

        return (DummyClassifier(strategy="prior") if problem.classifies else DummyRegressor()).fit(*problem.train)


class Calibrated:
    """A classifier with decision values only, which gets probabilities by temperature scaling.

    They are the softmax of the values divided by one temperature (Guo et al. 2017, https://arxiv.org/abs/1706.04599),
    which maximizes the likelihood of the validation rows. It changes no predicted class. (libsvm's own probabilities,
    which may, are deprecated in scikit-learn, and cost five more fits.)
    """

    def __init__(self, estimator: Any, temperature: float) -> None:
        self.estimator = estimator
        self.temperature = temperature

    @classmethod
    def on(cls, estimator: Any, inputs: Array, targets: Array) -> "Calibrated":
        """Return a classifier with a temperature fitted on these rows, except those of classes unknown to it."""
        from scipy.optimize import minimize_scalar
        from scipy.special import log_softmax

        known = np.isin(targets, estimator.classes_)
        columns = np.searchsorted(estimator.classes_, targets[known])
        values = _decisions(estimator, inputs[known]) if known.any() else np.zeros((0, len(estimator.classes_)))

        def loss(log_temperature: float) -> float:
            likely = log_softmax(values / np.exp(log_temperature), axis=1)
            return float(-likely[np.arange(len(columns)), columns].sum())

        found = minimize_scalar(loss, bounds=(-10.0, 10.0), options={"xatol": 1e-9})
        return cls(estimator, float(np.exp(found.x)))

    @property
    def classes_(self) -> Array:
        """The classes of the columns of `predict_proba`."""
        classes: Array = self.estimator.classes_
        return classes

    def predict_proba(self, inputs: Array) -> Array:
        """Return probabilities (rows, classes)."""
        from scipy.special import softmax

        probabilities: Array = softmax(_decisions(self.estimator, inputs) / self.temperature, axis=1)
        return probabilities


def of_known_classes(problem: TrainingData) -> tuple[Array, Array]:
    """Return the validation rows, in classification those of classes that training rows have."""
    assert problem.validation is not None
    inputs, targets = problem.validation
    if not problem.classifies:
        return inputs, targets
    known = np.isin(targets, problem.train[1])
    return inputs[known], targets[known]


def _decisions(estimator: Any, inputs: Array) -> Array:
    """Return decision values, a column for each class; with two classes the first column is 0."""
    values: Array = estimator.decision_function(inputs)
    return np.stack([np.zeros(len(values)), values], 1) if values.ndim == 1 else values
