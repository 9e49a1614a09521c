"""What a graph network has to beat: labels that spread along the edges, and features without any edges.

Both give every node of the graph its probabilities when they are fitted; predicting looks them up.
"""

from typing import Any, ClassVar

import numpy as np
from scipy.sparse import csr_array, diags_array
from sklearn.base import BaseEstimator, ClassifierMixin

from hypermap.core.errors import UserError
from hypermap.core.typing import Array
from hypermap.data.preprocessors.graph import Graph
from hypermap.models.sklearn_models import SklearnModel, TrainingData

NODES = "hypermap.models.graph_baselines.Nodes"


class LabelPropagation(SklearnModel):
    """The classes of the training nodes, spread along the edges; features are not used.

    Zhou et al. 2004, "Learning with local and global consistency": F = back Y + (1 - back) S F, where S is
    D^-1/2 A D^-1/2 and Y one-hot. A node that nothing reaches gets the shares of the training nodes.

    Args:
        graph: that of the nodes.
        back: share of a training node's own class.
        steps: of the iteration.
    """

    inputs: ClassVar = frozenset({"ids"})
    trusted: ClassVar = (NODES,)

    def __init__(self, graph: Graph, back: float = 0.1, steps: int = 50) -> None:
        if not 0 < back <= 1 or steps < 1:
            raise UserError(f"model.back is {back} and model.steps {steps}; allowed: up to 1, and 1 or more")
        self.graph, self.back, self.steps = graph, back, steps

    def fit(self, problem: TrainingData) -> Any:
        """Return the nodes' probabilities."""
        places, targets = _training(problem)
        known = np.zeros((self.graph.nodes, int(targets.max()) + 1))
        known[places, targets] = 1
        adjacency = self.graph.adjacency()
        scale = diags_array(1 / np.sqrt(np.maximum(adjacency.sum(axis=1), 1)))
        spread, found = csr_array(scale @ adjacency @ scale), known
        for _ in range(self.steps):
            found = self.back * known + (1 - self.back) * (spread @ found)
        sums = found.sum(axis=1, keepdims=True)
        usual = np.bincount(targets, minlength=known.shape[1]) / len(targets)
        shares = np.divide(found, sums, out=np.tile(usual, (len(found), 1)), where=sums > 0)
        return _nodes(shares, targets)


class NodeLogistic(SklearnModel):
    """Logistic regression on the features of each node alone, without the edges.

    Args:
        graph: that of the nodes.
        C: inverse regularization strength: smaller values keep the weights smaller.
        max_iter: of the solver.
    """

    inputs: ClassVar = frozenset({"ids"})
    trusted: ClassVar = (NODES,)

    def __init__(self, graph: Graph, C: float = 10.0, max_iter: int = 500) -> None:  # noqa: N803, scikit-learn's name
        self.graph, self.values = graph, {"C": C, "max_iter": max_iter}

    def fit(self, problem: TrainingData) -> Any:
        """Return the nodes' probabilities."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import MaxAbsScaler

        places, targets = _training(problem)
        rows = MaxAbsScaler().fit(self.graph.features[places])
        fitted = LogisticRegression(**self.values).fit(rows.transform(self.graph.features[places]), targets)
        shares = np.zeros((self.graph.nodes, int(targets.max()) + 1))
        shares[:, fitted.classes_] = fitted.predict_proba(rows.transform(self.graph.features))
        return _nodes(shares, targets)


class Nodes(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Probabilities ``(nodes, classes)``, to look up by a node's place."""

    def __init__(self, classes: Array | None = None, shares: Array | None = None) -> None:
        self.classes = classes
        self.shares = shares

    @property
    def classes_(self) -> Array:
        """The classes of the columns."""
        assert self.classes is not None
        return self.classes

    def __sklearn_is_fitted__(self) -> bool:
        return self.shares is not None

    def predict_proba(self, places: Array) -> Array:
        """Return the probabilities of nodes at these places, int64 ``(rows, 1)``."""
        assert self.shares is not None
        found: Array = self.shares[np.asarray(places).ravel().astype(np.int64)]
        return found


def _nodes(shares: Array, targets: Array) -> Nodes:
    return Nodes(np.unique(targets), shares[:, np.unique(targets)])


def _training(problem: TrainingData) -> tuple[Array, Array]:
    places, targets = problem.train
    return places.ravel().astype(np.int64), targets
