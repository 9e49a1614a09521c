"""Networks for graphs: the contract, and each beside its formula in dense matrices."""

import networkx
import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from torch.nn import functional as F

from hypermap.core.errors import UserError
from hypermap.data.preprocessors.graph import Graph
from hypermap.models.graph import APPNP, GAT, GCN, GraphSAGE, NodeMLP, Sparse, mean, symmetric
from hypermap.models.graph_baselines import LabelPropagation, NodeLogistic
from hypermap.models.sklearn_models import TrainingData
from support.contracts import NetworkContract

NODES, FEATURES = 9, 5


def graph(*, sparse=True, directed=False):
    """A graph with a node that has no edge."""
    draw = np.random.default_rng(0)
    pairs = np.array([(a, b) for a in range(NODES - 1) for b in range(NODES - 1) if a < b and draw.random() < 0.4]).T
    edges = pairs if directed else np.concatenate([pairs, pairs[::-1]], axis=1)
    features = (draw.random((NODES, FEATURES)) * (draw.random((NODES, FEATURES)) < 0.5)).astype(np.float32)
    return Graph(edges, csr_array(features) if sparse else features)


def dense(of):
    return torch.from_numpy(of.features.toarray() if isinstance(of.features, csr_array) else of.features)


def adjacency(of):
    """Return the rows' sums of messages as a dense matrix."""
    made = torch.zeros(of.nodes, of.nodes)
    for source, target in of.edges.T:
        made[target, source] = 1
    return made


class _OfNodes(NetworkContract):
    def rows(self):
        return torch.tensor([[4], [0], [8], [2]])

    def test_dense_features_give_the_same(self):
        made = []
        for sparse in (True, False):
            torch.manual_seed(0)
            made.append(self.network(sparse=sparse).eval()(self.rows()))
        torch.testing.assert_close(made[0], made[1], rtol=1e-5, atol=1e-6)

    def test_the_graph_is_no_part_of_the_state(self):
        network = self.network()
        assert set(network.state_dict()) == {name for name, _ in network.named_parameters()}


class TestGCN(_OfNodes):
    def network(self, **keywords):
        return GCN((1,), 3, graph(**keywords), hidden=[6])

    def test_it_is_the_formula(self):
        of, network = graph(), self.network().eval()
        loops = adjacency(of) + torch.eye(NODES)
        scale = torch.diag(loops.sum(1) ** -0.5)
        mix = scale @ loops @ scale
        hidden = F.relu(mix @ dense(of) @ network.first.weight + network.biases[0])
        wanted = mix @ hidden @ network.layers[0].weight.T + network.biases[1]
        torch.testing.assert_close(network.logits(), wanted)


class TestGraphSAGE(_OfNodes):
    def network(self, **keywords):
        return GraphSAGE((1,), 3, graph(**keywords), hidden=[6])

    def test_it_is_the_formula(self):
        of, network = graph(), self.network().eval()
        matrix = adjacency(of)
        average = matrix / matrix.sum(1, keepdim=True).clamp(min=1)

        def layer(values, weight, bias):
            own, others = (values @ weight + bias).chunk(2, 1)
            return own + average @ others

        hidden = F.relu(layer(dense(of), network.first.weight, network.first.bias))
        wanted = layer(hidden, network.layers[0].weight.T, network.layers[0].bias)
        torch.testing.assert_close(network.logits(), wanted)


class TestGAT(_OfNodes):
    def network(self, **keywords):
        return GAT((1,), 3, graph(**keywords), width=4, heads=2, output_heads=2)

    def test_it_is_the_formula(self):
        of, network = graph(), self.network().eval()
        there = adjacency(of) + torch.eye(NODES) > 0

        def layer(values, attention, heads):
            split = values.view(NODES, heads, -1)
            given, taken = ((split * attention[k]).sum(2) for k in (0, 1))
            scores = F.leaky_relu(taken[:, None] + given[None], 0.2).masked_fill(~there[:, :, None], -torch.inf)
            return torch.einsum("tsh,shw->thw", scores.softmax(1), split)

        first = layer(dense(of) @ network.first.weight, network.attention[0], 2).flatten(1) + network.biases[0]
        second = layer(F.elu(first) @ network.layers[0].weight.T, network.attention[1], 2)
        torch.testing.assert_close(network.logits(), second.mean(1) + network.biases[1])

    def test_one_layer_is_refused(self):
        with pytest.raises(UserError, match=r"model\.layers is 1; a GAT has 2 or more"):
            GAT((1,), 3, graph(), layers=1)


class TestNodeMLP(_OfNodes):
    def network(self, **keywords):
        return NodeMLP((1,), 3, graph(**keywords), hidden=[6])

    def test_edges_change_nothing(self):
        torch.manual_seed(0)
        network = self.network().eval()
        torch.manual_seed(0)
        other = NodeMLP((1,), 3, Graph(graph().edges[:, :2], graph().features), hidden=[6]).eval()
        assert torch.equal(network.logits(), other.logits())


class TestAPPNP(_OfNodes):
    def network(self, **keywords):
        return APPNP((1,), 3, graph(**keywords), hidden=[6])

    def test_many_steps_are_personalized_pagerank(self):
        torch.manual_seed(0)
        network = APPNP((1,), 3, graph(), hidden=[6], steps=200, back=0.2).eval()
        mix = torch.from_numpy(symmetric(graph()).toarray()).float()
        wanted = 0.2 * torch.linalg.inv(torch.eye(NODES) - 0.8 * mix) @ NodeMLP.logits(network)
        torch.testing.assert_close(network.logits(), wanted, rtol=1e-4, atol=1e-5)


def test_a_product_and_its_gradient_are_those_of_dense_matrices():
    matrix = csr_array(np.random.default_rng(0).random((4, 6)) * (np.random.default_rng(1).random((4, 6)) < 0.5))
    sparse = Sparse(matrix)
    right = torch.randn(6, 3, requires_grad=True)
    whole = torch.from_numpy(matrix.toarray()).float()
    torch.testing.assert_close(sparse(right), whole @ right)
    slope = torch.randn(4, 3)
    (ours,) = torch.autograd.grad(sparse(right), right, slope)
    torch.testing.assert_close(ours, whole.T @ slope)
    (twice,) = torch.autograd.grad(sparse(right, 2 * sparse.values), right, slope)
    torch.testing.assert_close(twice, 2 * whole.T @ slope)


def test_messages_go_along_directed_edges_alone():
    of = Graph(np.array([[0], [1]]), np.eye(3, dtype=np.float32))
    np.testing.assert_array_equal(mean(of).toarray(), [[0, 0, 0], [1, 0, 0], [0, 0, 0]])
    assert symmetric(of).toarray()[0, 1] == 0
    assert symmetric(of).toarray()[1, 0] > 0


def test_what_is_dropped_is_drawn_from_the_seed():
    network, rows, made = GCN((1,), 3, graph(), hidden=[6]).train(), torch.arange(NODES)[:, None], []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        made.append(network(rows))
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_labels_spread_to_what_they_reach():
    path = networkx.path_graph(5)
    edges = np.array([pair for a, b in path.edges for pair in ((a, b), (b, a))]).T
    of = Graph(edges, np.eye(6, dtype=np.float32))
    rows = (np.array([[0], [4], [4]]), np.array([0, 2, 2]))
    nodes = LabelPropagation(of, back=0.2, steps=500).fit(TrainingData(True, rows, None, 0, 1))
    shares = nodes.predict_proba(np.arange(6)[:, None])
    scaled = networkx.normalized_laplacian_matrix(networkx.compose(path, networkx.empty_graph(5))).toarray()
    known = np.zeros((5, 2))
    known[0, 0] = known[4, 1] = 1
    wanted = np.linalg.inv(np.eye(5) - 0.8 * (np.eye(5) - scaled)) @ known
    np.testing.assert_allclose(shares[:5], wanted / wanted.sum(1, keepdims=True), rtol=1e-6)
    np.testing.assert_allclose(shares[5], [1 / 3, 2 / 3])
    np.testing.assert_array_equal(nodes.classes_, [0, 2])
    with pytest.raises(UserError, match="allowed: up to 1"):
        LabelPropagation(of, back=0)


def test_features_alone_are_those_of_logistic_regression():
    draw = np.random.default_rng(0)
    targets = np.arange(40) % 2
    features = (draw.normal(size=(40, 3)) + 3 * targets[:, None]).astype(np.float32)
    of = Graph(np.array([[0], [1]]), features)
    rows = (np.arange(30)[:, None], targets[:30])
    nodes = NodeLogistic(of).fit(TrainingData(True, rows, None, 0, 1))
    assert (nodes.predict_proba(np.arange(30, 40)[:, None]).argmax(1) == targets[30:]).mean() > 0.8
