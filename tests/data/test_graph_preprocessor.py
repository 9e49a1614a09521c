"""Nodes' names to places, and what of a graph is known in training."""

import networkx
import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from hypermap.core.errors import UserError
from hypermap.data.manifest import Manifest
from hypermap.data.preprocessor import TensorSplit, Transform
from hypermap.data.preprocessors.graph import GraphPreprocessor, shared_arrays
from hypermap.data.preprocessors.text import stacked
from support.contracts import PreprocessorContract

NODES = 12
NAMES = stacked([f"n{k}".encode() for k in range(NODES)])
RING = np.array([(k, (k + step) % NODES) for k in range(NODES) for step in (1, NODES - 1)]).T
NUMBERS = np.random.default_rng(0).normal(5, 3, (NODES, 4)).astype(np.float32)


def about(**arguments):
    path = f"{GraphPreprocessor.__module__}.GraphPreprocessor"
    return Manifest(task="classification", classes=["a", "b"], shape=[1], preprocessor=path, arguments=arguments)


def fitted(train, features=NUMBERS, stages=None, **arguments):
    """Fit to nodes at these places."""
    shared = shared_arrays(NAMES, RING, np.ones(NODES) if stages is None else stages, features)
    return Transform.fitted(NAMES[train], np.zeros(len(train), np.int64), about(**arguments), shared)


class TestNodes(PreprocessorContract):
    def manifest(self):
        return about()

    def rows(self):
        return NAMES[:6], NAMES[6:]

    def fitted(self):
        return fitted(np.arange(6))

    def test_what_is_fitted_follows_from_the_training_rows_alone(self):
        assert fitted([0, 1, 2]).contents() == fitted([0, 1, 2]).contents()
        assert fitted([0, 1]).contents() != fitted([0, 1, 2]).contents()

    def test_refitting_takes_other_rows_and_the_same_settings(self):
        transform = fitted(np.arange(6), inductive=True)
        again = Transform.fitted(NAMES[:3], np.zeros(3, np.int64), transform.manifest, transform.preprocessor.shared)
        assert again.contents() == fitted(np.arange(3), inductive=True).contents()

    def test_the_module_gives_the_same(self):
        with pytest.raises(UserError, match="GraphPreprocessor has no module, so that no network behind it can be"):
            super().test_the_module_gives_the_same()


def test_numbers_are_scaled_by_the_training_nodes_alone():
    changed = NUMBERS.copy()
    changed[4:] *= 100
    changed[5, 1] = np.nan
    one, other = (fitted([0, 1, 2, 3], features).preprocessor for features in (NUMBERS, changed))
    for name in ("shift", "scale"):
        np.testing.assert_array_equal(one.arrays[name], other.arrays[name])
    scaled = one.graph.features[:4]
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(scaled.std(0), 1, rtol=1e-5)
    assert other.graph.features[5, 1] == 0  # a missing one is the mean


def test_counts_are_divided_by_the_sum_of_their_row():
    counts = np.zeros((NODES, 40), np.float32)
    counts[np.arange(NODES), np.arange(NODES)] = 3
    counts[:6, 39] = 1
    graph = fitted([0, 1], counts).preprocessor.graph
    assert isinstance(graph.features, csr_array)
    np.testing.assert_allclose(graph.features.toarray(), counts / counts.sum(1, keepdims=True))
    as_is = fitted([0, 1], counts, normalize="none").preprocessor.graph.features
    np.testing.assert_array_equal(as_is.toarray(), counts)
    np.testing.assert_array_equal(fitted([0, 1], NUMBERS, normalize="none").preprocessor.graph.features, NUMBERS)
    rows = fitted([0, 1], NUMBERS, normalize="rows").preprocessor.graph.features
    np.testing.assert_allclose(np.abs(rows).sum(1), 1, rtol=1e-6)


def test_inductive_edges_never_lead_from_later_nodes_to_earlier_ones():
    stages = np.array([1] * 6 + [2] * 2 + [0] * 4)  # four that are no rows
    everything = {tuple(edge) for edge in RING.T}
    assert {tuple(edge) for edge in fitted([0, 1, 2, 3], stages=stages).preprocessor.graph.edges.T} == everything
    transform = fitted([0, 1, 2, 3], stages=stages, inductive=True)
    known = [0] * 4 + [1] * 2 + [2] * 2 + [0] * 4
    wanted = {(a, b) for a, b in everything if known[a] <= known[b]}
    assert {tuple(edge) for edge in transform.preprocessor.graph.edges.T} == wanted != everything
    split = TensorSplit(torch.from_numpy(NAMES[:6]), torch.zeros(6).long(), torch.arange(6))
    refitted = {tuple(edge) for edge in transform.refit(split).preprocessor.graph.edges.T}
    assert everything - refitted == {(6, 5), (7, 8)}  # from a test node to another


def test_a_node_that_is_not_there_is_told():
    ask = fitted([0, 1]).preprocessor
    with pytest.raises(UserError, match=r"Node 'n99' and 1 more.*not in the graph of 12 nodes"):
        ask(torch.from_numpy(stacked([b"n99", b"n1", b"m"])))


def test_facts_are_those_of_networkx():
    draw = np.random.default_rng(1)
    drawn = networkx.gnm_random_graph(NODES, 9, seed=3)
    edges = np.array([pair for a, b in drawn.edges for pair in ((a, b), (b, a))]).T
    shared = shared_arrays(NAMES, edges, np.ones(NODES), NUMBERS)
    ask = Transform.fitted(NAMES[:2], np.zeros(2, np.int64), about(), shared).preprocessor
    targets = draw.integers(0, 2, NODES)
    facts = ask.facts(NAMES, targets)
    told = " ".join(facts.sentences)
    count = networkx.number_connected_components(drawn)
    assert f"12 nodes with 9 edges. A node has {18 / 12:.2f} neighbors on average" in told
    assert f"The largest of {count} connected components has" in told
    same = np.mean([targets[a] == targets[b] for a, b in drawn.edges])
    assert f"Homophily: {same:.3f} of the edges between test nodes" in told
    lowest = [int(facts.names[place].split()[0]) for place in facts.places]
    assert all(low <= drawn.degree[k] for k, low in enumerate(lowest))
    assert ask.words(NAMES[:1]) == [f"n0 (degree {drawn.degree[0]})"]
