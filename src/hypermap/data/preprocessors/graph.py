"""Nodes of a graph: a row is a node's name, a network is given the node's place in the graph, and the graph itself.

All nodes are in the graph, with their features and edges, those of the test rows too (transductive), but never their
classes. With ``data.inductive=true`` nothing flows from the nodes that are held out to those that are learned from.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from scipy.sparse import csr_array

from hypermap.core.errors import UserError, near
from hypermap.core.typing import Array
from hypermap.data.manifest import Manifest
from hypermap.data.preprocessor import Facts, Fitted, Preprocessor
from hypermap.data.preprocessors.text import decoded

if TYPE_CHECKING:  # preparing data needs no torch
    from torch import Tensor

NORMALIZATIONS = ("auto", "rows", "standard", "none")
SPARSE = 0.25
"""Share of the features that are not 0, below which they are kept and multiplied as a sparse matrix."""

DEGREES = (0, 1, 2, 3, 5, 9)
"""The lowest number of neighbors of each line of the report."""

SHARED = ("names", "edges", "stages", "features", "starts", "columns", "values", "width")
"""The arrays that the rows of a graph share; of features either the fourth, or the next three and their width."""


@dataclass(frozen=True, eq=False)
class Graph:
    """A graph as networks are given it.

    Attributes:
        edges: int64 ``(2, edges)``: where messages come from, and where they go to. Each undirected edge is there
            twice; none is a loop.
        features: of the nodes, ``(nodes, features)``: float32, or a `csr_array` of it.
    """

    edges: Array
    features: Array | csr_array

    @property
    def nodes(self) -> int:
        """The number of nodes."""
        return int(self.features.shape[0])

    @property
    def width(self) -> int:
        """The number of features of a node."""
        return int(self.features.shape[1])

    def adjacency(self) -> csr_array:
        """Return float32 ``(nodes, nodes)``, 1 where a row's node gets messages from the column's."""
        sources, targets = self.edges
        ones = np.ones(len(sources), np.float32)
        return csr_array((ones, (targets, sources)), shape=(self.nodes, self.nodes))


class GraphPreprocessor(Preprocessor):
    """From nodes' names, UTF-8 in uint8 ``(rows, longest)``, to their places in the graph, int64 ``(rows, 1)``.

    The extra is ``graph``, a `Graph`: its features are scaled by ``data.normalize``, with statistics of the training
    rows alone; its edges are all, or in the inductive case those that do not lead from a row that is held out to a node
    that is not, nor from a test row to any other.
    """

    file: ClassVar[str] = "graph.safetensors"

    @classmethod
    def fit(cls, inputs: Array, info: Manifest, shared: Mapping[str, Array] | None = None) -> Fitted:
        """Fit the scale of the features, and when each node is known: 0 in training, 1 in validation, 2 in the test.

        Raises:
            UserError: the settings do not fit.
        """
        from safetensors.numpy import save

        assert shared is not None
        places = _places(shared["names"], inputs)
        stages = shared["stages"].copy()
        stages[places] = 0
        scaling, shift, scale = _statistics(features_of(shared), places, info.arguments.get("normalize", "auto"))
        fitted = {"known": stages, "shift": shift, "scale": scale}
        content = save({name: np.ascontiguousarray(array) for name, array in {**shared, **fitted}.items()})
        return Fitted({"shape": [1], "dtype": "int64", "scaling": scaling}, content)

    @cached_property
    def arrays(self) -> Mapping[str, Array]:
        """The stored arrays.

        Raises:
            UserError: the file is damaged.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            found: Mapping[str, Array] = load(self.stored or b"")
        except SafetensorError as error:
            raise UserError(f"{self.origin} is damaged ({error}). Prepare the data and train again.") from None
        return found

    @property
    def shared(self) -> Mapping[str, Array]:
        """See `Preprocessor`."""
        return {name: array for name, array in self.arrays.items() if name in SHARED}

    @property
    def extras(self) -> Mapping[str, Any]:
        """See `Preprocessor`."""
        return {"graph": self.graph}

    @cached_property
    def graph(self) -> Graph:
        """The graph as networks are given it."""
        edges = self.arrays["edges"]
        if self.manifest.arguments.get("inductive"):
            sources, targets = self.arrays["known"][edges]
            edges = edges[:, sources <= targets]
        shift, scale = self.arrays["shift"], self.arrays["scale"]
        return Graph(edges, _normalized(features_of(self.arrays), self.manifest.scaling, shift, scale))

    def __call__(self, inputs: "Tensor") -> "Tensor":
        """Return the places of nodes, int64 ``(rows, 1)``.

        Raises:
            UserError: one is not in the graph.
        """
        from torch import from_numpy

        places = from_numpy(_places(self.arrays["names"], inputs.cpu().numpy()))
        return places[:, None].to(inputs.device)

    def words(self, inputs: Array) -> Sequence[str]:
        """Return the name of each node, and its number of neighbors."""
        degrees = self._degrees[_places(self.arrays["names"], inputs)]
        return [f"{name} (degree {degree})" for name, degree in zip(decoded(inputs), degrees, strict=True)]

    def points(self, features: "Tensor") -> Array:
        """Return the two leading singular vectors of the features of nodes, which need no edges, for a map."""
        from scipy.sparse.linalg import svds

        rows = self.graph.features[features.flatten().cpu().numpy()]
        if min(rows.shape) <= 2 or not abs(rows).sum():
            return _dense(rows)
        left, sizes, _ = svds(rows.astype(np.float64), k=2, v0=np.ones(min(rows.shape)))
        found: Array = (left * sizes)[:, ::-1]
        return found

    def facts(self, inputs: Array, targets: Array) -> Facts:
        """Return degrees, components and homophily of the graph, and the degree of each node."""
        from scipy.sparse.csgraph import connected_components

        places, edges, degrees = _places(self.arrays["names"], inputs), self.arrays["edges"], self._degrees
        nodes, directed = len(degrees), bool(self.manifest.arguments.get("directed"))
        count, component = connected_components(self._adjacency, directed=False)
        largest = np.bincount(component).max()
        whole = (
            f"The largest of {count:,} connected components has {largest:,} nodes." if count > 1 else "It is connected."
        )
        joined = f"{edges.shape[1]:,} directed edges" if directed else f"{edges.shape[1] // 2:,} edges"
        sentences = [
            f"{nodes:,} nodes with {joined}. A node has {degrees.mean():.2f} neighbors on average (median "
            f"{np.median(degrees):g}, at most {degrees.max():,}); {int((degrees == 0).sum()):,} have none. {whole}",
            _homophily(edges, places, targets, nodes),
            self._way,
        ]
        lowest = [degree for degree in DEGREES if degree <= degrees[places].max()]
        names = [
            f"{low}" if high - low == 1 else f"{low} to {high - 1}" if math.isfinite(high) else f"{low} and more"
            for low, high in zip(lowest, [*lowest[1:], math.inf], strict=True)
        ]
        of_rows = np.searchsorted(lowest, degrees[places], side="right") - 1
        return Facts("The graph", sentences, "neighbors", names, of_rows)

    @property
    def _way(self) -> str:
        if self.manifest.arguments.get("inductive"):
            return (
                "Inductive: no message goes from a validation or test node to one that is learned from, nor from a "
                "test node to one for validation, so that features, edges and classes of the former are unknown until "
                "then."
            )
        return (
            "Transductive: the features and edges of validation and test nodes are known in training, their classes "
            "are not (`data.inductive=true` leaves out the former as well)."
        )

    @cached_property
    def _degrees(self) -> Array:
        """The number of neighbors of each node, by edges in either direction."""
        adjacency = self._adjacency
        found: Array = np.diff((adjacency + adjacency.T).indptr)
        return found

    @cached_property
    def _adjacency(self) -> csr_array:
        edges, nodes = self.arrays["edges"], len(self.arrays["names"])
        return csr_array((np.ones(edges.shape[1]), tuple(edges)), shape=(nodes, nodes))


def features_of(arrays: Mapping[str, Array]) -> Array | csr_array:
    """Return the features among the arrays of a graph, as they were read."""
    if "features" in arrays:
        return arrays["features"]
    shape = (len(arrays["names"]), int(arrays["width"][0]))
    return csr_array((arrays["values"], arrays["columns"], arrays["starts"]), shape=shape)


def shared_arrays(names: Array, edges: Array, stages: Array, features: Array | csr_array) -> dict[str, Array]:
    """Return what the rows of a graph share, for `hypermap.datasets.images.Raw`.

    Args:
        names: of the nodes, as uint8 ``(nodes, longest)``.
        edges: int64 ``(2, edges)``.
        stages: integers ``(nodes,)``: 1 for training and validation, 2 for the test, 0 of nodes that are no rows.
        features: ``(nodes, features)``, NaN where one is missing.
    """
    made = {"names": names, "edges": edges, "stages": stages.astype(np.uint8)}
    filled = features.nnz if isinstance(features, csr_array) else np.count_nonzero(features)
    if filled > SPARSE * features.shape[0] * features.shape[1]:
        return made | {"features": _dense(features).astype(np.float32)}
    sparse = csr_array(features)
    sparse.sum_duplicates()
    return made | {
        "starts": sparse.indptr.astype(np.int64),
        "columns": sparse.indices.astype(np.int32),
        "values": sparse.data.astype(np.float32),
        "width": np.array([features.shape[1]], np.int64),
    }


def check_normalize(name: object) -> None:
    """Refuse what is none of `NORMALIZATIONS`.

    Raises:
        UserError: it is not.
    """
    if name not in NORMALIZATIONS:
        known = f"{', '.join(NORMALIZATIONS)}{near(str(name), NORMALIZATIONS)}"
        raise UserError(f"data.normalize is {name!r}; it is one of {known}.")


def _statistics(features: Array | csr_array, places: Array, normalize: str) -> tuple[str, Array, Array]:
    """Return which of `NORMALIZATIONS` is meant, and each feature's mean and deviation over the training nodes, float32
    ``(features,)``: 1 for a constant one.
    """
    check_normalize(normalize)
    rows = features[places]
    if normalize == "auto":
        counts = isinstance(rows, csr_array) and rows.data.min(initial=0) >= 0
        normalize = "rows" if counts else "standard"
    if normalize == "rows":
        return normalize, np.zeros(0, np.float32), np.zeros(0, np.float32)
    dense = _dense(rows).astype(np.float64)
    there = ~np.isnan(dense)
    held = np.maximum(there.sum(0), 1)
    mean = np.where(there, dense, 0).sum(0) / held
    deviation = np.sqrt(np.where(there, (dense - mean) ** 2, 0).sum(0) / held)
    return normalize, mean.astype(np.float32), np.where(deviation > 0, deviation, 1).astype(np.float32)


def _normalized(features: Array | csr_array, scaling: str, mean: Array, deviation: Array) -> Array | csr_array:
    """Return features as networks are given them, float32: a missing one is the training nodes' mean, or 0 of a row
    that is divided by its sum.
    """
    if isinstance(features, csr_array) and scaling == "rows":
        sums = np.repeat(np.asarray(abs(features).sum(axis=1)), np.diff(features.indptr))
        return csr_array((features.data / sums, features.indices, features.indptr), shape=features.shape)
    if isinstance(features, csr_array) and scaling == "none":
        return features
    dense = _dense(features)
    if scaling == "rows":
        dense = np.nan_to_num(dense)
        sums = np.abs(dense).sum(axis=1, keepdims=True)
        return np.divide(dense, sums, out=np.zeros_like(dense), where=sums > 0)
    filled = np.where(np.isnan(dense), mean, dense)
    made: Array = (filled - mean) / deviation if scaling == "standard" else filled
    return made.astype(np.float32)


def _dense(features: Array | csr_array) -> Array:
    dense: Array = features.toarray() if isinstance(features, csr_array) else features
    return dense


def _places(names: Array, rows: Array) -> Array:
    """Return where the rows' names stand among those of the graph, int64 ``(rows,)``.

    Raises:
        UserError: one is not there.
    """
    known = {name: place for place, name in enumerate(decoded(names))}
    wanted = list(decoded(rows))
    if unknown := [name for name in wanted if name not in known]:
        more = f" and {len(unknown) - 1:,} more" if len(unknown) > 1 else ""
        raise UserError(
            f"Node {unknown[0]!r}{more}{near(unknown[0], list(known))}: not in the graph of {len(known):,} nodes that "
            "the model was trained on. A network predicts nodes of its own graph: add new ones to the tables of nodes "
            "and edges, without a class, and train again."
        )
    return np.array([known[name] for name in wanted], np.int64)


def _homophily(edges: Array, places: Array, targets: Array, nodes: int) -> str:
    """Return the share of the edges between test nodes that join two of one class, and what chance would give."""
    classes = np.full(nodes, -1)
    classes[places] = targets
    ends = classes[edges]
    between = ends[:, (ends >= 0).all(0)]
    if not between.shape[1]:
        return "No edge joins two test nodes, so that the homophily cannot be told."
    share = float((between[0] == between[1]).mean())
    by_chance = float(((np.bincount(targets) / len(targets)) ** 2).sum())
    return (
        f"Homophily: {share:.3f} of the edges between test nodes join two of one class; by chance it would be "
        f"{by_chance:.3f}."
    )
