"""Networks for the nodes of a graph: each computes all nodes at once, and returns those that it is asked about.

Rows are places of nodes, int64 ``(batch, 1)``. The graph is no part of the state: a network is given it when it is
made. A product with a sparse matrix is torch's `embedding_bag`: weighted sums of a dense matrix's rows, in a fixed
order. It is faster than torch's sparse tensors, which warn that they are not finished.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array, diags_array, eye_array
from torch import Tensor, nn
from torch.nn import functional as F

from hypermap.core.errors import UserError
from hypermap.data.preprocessors.graph import Graph
from hypermap.models.layers import Dropout, initialize, positive

SLOPE = 0.2
"""Of the leaky ReLU in GAT's attention."""


class Sparse(nn.Module):
    """A constant sparse matrix to multiply with from the left; its entries may be replaced for one product.

    Buffers hold its compressed rows and those of its transpose, which the gradient is multiplied with. They are not
    saved.
    """

    rows: Tensor
    columns: Tensor
    values: Tensor
    transposed_rows: Tensor
    transposed_columns: Tensor
    order: Tensor

    def __init__(self, matrix: csr_array) -> None:
        super().__init__()
        matrix = csr_array(matrix)
        matrix.sort_indices()
        numbered = csr_array((np.arange(matrix.nnz), matrix.indices, matrix.indptr), shape=matrix.shape).T.tocsr()
        held = {
            "rows": matrix.indptr,
            "columns": matrix.indices,
            "transposed_rows": numbered.indptr,
            "transposed_columns": numbered.indices,
            "order": numbered.data,
        }
        for name, array in held.items():
            self.register_buffer(name, torch.from_numpy(array.astype(np.int64)), persistent=False)
        self.register_buffer("values", torch.from_numpy(matrix.data.astype(np.float32)), persistent=False)

    def forward(self, dense: Tensor, values: Tensor | None = None) -> Tensor:
        """Return the product with a dense matrix ``(columns, width)``: ``(rows, width)``."""
        product: Tensor = _Product.apply(dense, self.values if values is None else values, self)  # type: ignore[no-untyped-call]
        return product


class _Product(torch.autograd.Function):
    """The product of a `Sparse` and a dense matrix, with the gradient of the latter."""

    @staticmethod
    def forward(dense: Tensor, values: Tensor, matrix: Sparse) -> Tensor:
        """Return the product."""
        return _times(matrix.rows, matrix.columns, values, dense)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Sparse], output: Tensor) -> None:
        """Keep what the gradient needs."""
        _, values, ctx.matrix = inputs
        ctx.save_for_backward(values)

    @staticmethod
    def vmap(*_: Any) -> None:
        """Refuse a stack, and say why."""
        raise NotImplementedError("a product with a graph's edges, or sparse features, is of one network at a time")

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient of the dense matrix."""
        (slope,), matrix, (values,) = slopes, ctx.matrix, ctx.saved_tensors
        rows, columns = matrix.transposed_rows, matrix.transposed_columns
        return _times(rows, columns, values[matrix.order], slope), None, None


def _times(rows: Tensor, columns: Tensor, values: Tensor, dense: Tensor) -> Tensor:
    """Return the product of a matrix in compressed rows and a dense one."""
    return F.embedding_bag(
        columns,
        dense.contiguous(),
        rows,
        mode="sum",
        per_sample_weights=values.to(dense.dtype),
        include_last_offset=True,
    )


class NodeLinear(nn.Module):
    """A dense layer on the features of all nodes, some of which are dropped in training.

    Args:
        graph: that of the nodes.
        width: of what it gives.
        dropout: share of the features that are dropped.
        bias: whether it has one.
    """

    def __init__(self, graph: Graph, width: int, dropout: float, *, bias: bool = True) -> None:
        super().__init__()
        layer = initialize(nn.Linear(graph.width, width), "glorot_uniform")
        self.weight = nn.Parameter(layer.weight.detach().T.contiguous())
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None
        self.drop = Dropout(dropout)
        self.sparse = Sparse(graph.features) if isinstance(graph.features, csr_array) else None
        dense = None if self.sparse is not None else torch.from_numpy(graph.features)
        self.register_buffer("dense", dense, persistent=False)

    def forward(self) -> Tensor:
        """Return ``(nodes, width)``."""
        if self.sparse is not None:
            made: Tensor = self.sparse(self.weight, self.drop(self.sparse.values))
        else:
            made = self.drop(self.dense) @ self.weight
        return made if self.bias is None else made + self.bias


class GraphNetwork(nn.Module):
    """A network that computes all nodes: a subclass has `logits`."""

    def logits(self) -> Tensor:
        """Return the outputs of all nodes, ``(nodes, outputs)``."""
        raise NotImplementedError

    def forward(self, nodes: Tensor) -> Tensor:
        """Map places of nodes, int64 ``(batch, 1)``, to ``(batch, outputs)``."""
        return self.logits()[nodes.flatten()]


class GCN(GraphNetwork):
    """Layers that mix each node's features with its neighbors' (Kipf and Welling 2017,
    https://arxiv.org/abs/1609.02907).

    A layer multiplies with D^-1/2 (A + I) D^-1/2, where D are the degrees of A + I.

    Args:
        input_shape: ``(1,)``.
        outputs: logits.
        graph: that of the nodes.
        hidden: width of each hidden layer.
        dropout: share of each layer's inputs that is dropped in training.

    Raises:
        UserError: a width below 1, or a dropout outside [0, 1).
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int,
        graph: Graph,
        hidden: Sequence[int] = (64,),
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        widths = _widths(hidden, outputs)
        self.mix = Sparse(symmetric(graph))
        self.first = NodeLinear(graph, widths[0], dropout, bias=False)
        self.layers = _dense(widths)
        self.biases = nn.ParameterList(torch.zeros(width) for width in widths)
        self.drop = Dropout(dropout)

    def logits(self) -> Tensor:
        """See `GraphNetwork`."""
        values: Tensor = self.mix(self.first()) + self.biases[0]
        for layer, bias in zip(self.layers, list(self.biases)[1:], strict=True):
            values = self.mix(layer(self.drop(F.relu(values)))) + bias
        return values


class GraphSAGE(GraphNetwork):
    """Layers that add up a dense layer of each node's features, and one of the mean of its neighbors'.

    Hamilton et al. 2017, https://arxiv.org/abs/1706.02216, with the mean of all neighbors rather than of a sample.

    Args:
        input_shape: ``(1,)``.
        outputs: logits.
        graph: that of the nodes.
        hidden: width of each hidden layer.
        dropout: share of each layer's inputs that is dropped in training.

    Raises:
        UserError: a width below 1, or a dropout outside [0, 1).
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int,
        graph: Graph,
        hidden: Sequence[int] = (64,),
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        widths = _widths(hidden, outputs)
        self.mean = Sparse(mean(graph))
        # One layer for both, since they see the same features: the first half is of the node, the second of neighbors.
        self.first = NodeLinear(graph, 2 * widths[0], dropout)
        self.layers = _dense([widths[0], *(2 * width for width in widths[1:])], [*widths[:-1]], bias=True)
        self.drop = Dropout(dropout)

    def logits(self) -> Tensor:
        """See `GraphNetwork`."""
        values = self._mixed(self.first())
        for layer in self.layers:
            values = self._mixed(layer(self.drop(F.relu(values))))
        return values

    def _mixed(self, both: Tensor) -> Tensor:
        own, others = both.chunk(2, dim=1)
        mixed: Tensor = own + self.mean(others)
        return mixed


class GAT(GraphNetwork):
    """Layers in which a node attends to itself and its neighbors (Veličković et al. 2018,
    https://arxiv.org/abs/1710.10903).

    Args:
        input_shape: ``(1,)``.
        outputs: logits.
        graph: that of the nodes.
        width: of each head of a hidden layer.
        heads: of a hidden layer, side by side; the last layer has the mean of `output_heads`.
        output_heads: see there.
        layers: in all.
        dropout: share of each layer's inputs, and of the attention, that is dropped in training.

    Raises:
        UserError: a size below 1, fewer than two layers, or a dropout outside [0, 1).
    """

    edges: Tensor

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int,
        graph: Graph,
        width: int = 8,
        heads: int = 8,
        output_heads: int = 1,
        layers: int = 2,
        dropout: float = 0.6,
    ) -> None:
        super().__init__()
        positive("model", width, heads, output_heads)
        if layers < 2:
            raise UserError(f"model.layers is {layers}; a GAT has 2 or more.")
        loops = np.tile(np.arange(graph.nodes), (2, 1))
        edges = np.concatenate([graph.edges, loops], axis=1)
        ordered = np.ascontiguousarray(edges[:, np.lexsort(edges)])
        self.register_buffer("edges", torch.from_numpy(ordered), persistent=False)
        self.first = NodeLinear(graph, heads * width, dropout, bias=False)
        shapes = [(heads, width)] * (layers - 1) + [(output_heads, outputs)]
        self.layers = nn.ModuleList(
            initialize(nn.Linear(heads * width, own * each, bias=False), "glorot_uniform") for own, each in shapes[1:]
        )
        self.attention = nn.ParameterList(_glorot(2, own, each) for own, each in shapes)
        self.biases = nn.ParameterList(torch.zeros(own * each) for own, each in [*shapes[:-1], (1, outputs)])
        self.drop, self.drop_attention = Dropout(dropout), Dropout(dropout)

    def logits(self) -> Tensor:
        """See `GraphNetwork`."""
        values: Tensor = self._attended(0, self.first()).flatten(1) + self.biases[0]
        for number, layer in enumerate(self.layers, 1):
            attended = self._attended(number, layer(self.drop(F.elu(values))))
            last = number == len(self.layers)
            values = (attended.mean(1) if last else attended.flatten(1)) + self.biases[number]
        return values

    def _attended(self, number: int, values: Tensor) -> Tensor:
        """Return what each node's heads attend to, ``(nodes, heads, width)``."""
        weights, (sources, targets) = self.attention[number], self.edges
        heads = values.view(len(values), *weights.shape[1:])
        given, taken = (heads * weights[0]).sum(2), (heads * weights[1]).sum(2)
        scores = F.leaky_relu(given[sources] + taken[targets], SLOPE)
        shares = self.drop_attention(softmax_by_target(scores, targets, len(values)))
        messages = heads[sources] * shares[:, :, None]
        return torch.zeros_like(heads, dtype=messages.dtype).index_add(0, targets, messages)


class NodeMLP(GraphNetwork):
    """Dense layers on the features of each node alone: what a graph's edges are to be held against.

    Args:
        input_shape: ``(1,)``.
        outputs: logits.
        graph: whose edges are not used.
        hidden: width of each hidden layer.
        dropout: share of each layer's inputs that is dropped in training.

    Raises:
        UserError: a width below 1, or a dropout outside [0, 1).
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int,
        graph: Graph,
        hidden: Sequence[int] = (64,),
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        widths = _widths(hidden, outputs)
        self.first = NodeLinear(graph, widths[0], dropout)
        self.layers = _dense(widths, bias=True)
        self.drop = Dropout(dropout)

    def logits(self) -> Tensor:
        """See `GraphNetwork`."""
        values: Tensor = self.first()
        for layer in self.layers:
            values = layer(self.drop(F.relu(values)))
        return values


class APPNP(NodeMLP):
    """Dense layers on each node's features, whose outputs then spread along the edges (Gasteiger et al. 2019,
    https://arxiv.org/abs/1810.05997).

    Personalized PageRank by power iteration: each step mixes neighbors as `GCN` does, and returns to the node's own
    outputs with a probability.

    Args:
        input_shape: ``(1,)``.
        outputs: logits.
        graph: that of the nodes.
        hidden: width of each hidden layer.
        dropout: share of each layer's inputs that is dropped in training.
        steps: of the iteration.
        back: the probability of returning.

    Raises:
        UserError: a width or a number of steps below 1, or a share outside [0, 1).
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int,
        graph: Graph,
        hidden: Sequence[int] = (64,),
        dropout: float = 0.5,
        steps: int = 10,
        back: float = 0.1,
    ) -> None:
        super().__init__(input_shape, outputs, graph, hidden, dropout)
        positive("model.steps", steps)
        if not 0 <= back < 1:
            raise UserError(f"model.back is {back}; allowed: from 0 to less than 1")
        self.mix = Sparse(symmetric(graph))
        self.steps, self.back = steps, back

    def logits(self) -> Tensor:
        """See `GraphNetwork`."""
        own = super().logits()
        values = own
        for _ in range(self.steps):
            values = (1 - self.back) * self.mix(values) + self.back * own
        return values


def symmetric(graph: Graph) -> csr_array:
    """Return D^-1/2 (A + I) D^-1/2, with the degrees D of A + I, counted by what a node gets."""
    adjacency = graph.adjacency() + eye_array(graph.nodes, format="csr")
    scale = diags_array(1 / np.sqrt(adjacency.sum(axis=1)))
    return csr_array(scale @ adjacency @ scale)


def mean(graph: Graph) -> csr_array:
    """Return the matrix whose product is the mean over each node's neighbors; 0 of a node without any."""
    adjacency = graph.adjacency()
    degrees = adjacency.sum(axis=1)
    return csr_array(diags_array(1 / np.maximum(degrees, 1)) @ adjacency)


def softmax_by_target(scores: Tensor, targets: Tensor, nodes: int) -> Tensor:
    """Return the softmax of edges' scores ``(edges, heads)`` over those that lead to the same node."""
    index = targets[:, None].expand_as(scores)
    highest = scores.new_full((nodes, scores.shape[1]), -torch.inf).scatter_reduce(0, index, scores.detach(), "amax")
    raised = (scores - highest[targets]).exp()
    sums = torch.zeros_like(highest).index_add(0, targets, raised)
    return raised / sums[targets]


def _widths(hidden: Sequence[int], outputs: int) -> list[int]:
    positive("hidden", *hidden, 1)
    return [*hidden, outputs]


def _dense(given: Sequence[int], taken: Sequence[int] | None = None, *, bias: bool = False) -> nn.ModuleList:
    """Return dense layers between consecutive widths; `taken` are those of the inputs, if they are others."""
    pairs = zip(given[:-1] if taken is None else taken, given[1:], strict=True)
    return nn.ModuleList(initialize(nn.Linear(a, b, bias=bias), "glorot_uniform") for a, b in pairs)


def _glorot(pair: int, heads: int, width: int) -> Tensor:
    made = torch.empty(pair, heads, width)
    limit = (6 / (width + 1)) ** 0.5
    return made.uniform_(-limit, limit)
