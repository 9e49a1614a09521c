"""Networks for texts: rows of token ids, in which 0 is padding.

They take int32 or int64 ``(batch, tokens)``. In the first `sequence_length` columns are a text's tokens in order, which
are below `sequence_vocabulary`; the others, where there are some, are ids of n-grams, in any order. Columns that are
padding in the whole batch are cut off first, and what is padding in a row has no part in its output.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hypermap.core.errors import UserError
from hypermap.models.layers import Activation, Dropout, activation, initialize, positive

PORTION = 256  # rows of a forward pass in evaluation, which are sorted by length first, to have little padding


class TextNetwork(nn.Module, ABC):
    """A network that computes long batches in evaluation in portions of similar length."""

    @abstractmethod
    def logits(self, ids: Tensor) -> Tensor:
        """Map ids ``(batch, tokens)`` to logits or values ``(batch, outputs)``."""

    def forward(self, ids: Tensor) -> Tensor:
        """Map ids ``(batch, tokens)`` to logits or values ``(batch, outputs)``."""
        if self.training or len(ids) <= PORTION:
            return self.logits(ids)
        order = torch.argsort((ids != 0).sum(1), stable=True)
        outputs = torch.cat([self.logits(ids[portion]) for portion in order.split(PORTION)])
        return outputs[torch.argsort(order)]


class TextBag(TextNetwork):
    """The sum of the vectors of a text's tokens and n-grams, over the square root of their number, and dense layers.

    After fastText (Joulin et al. 2017, https://arxiv.org/abs/1607.01759), which takes the mean: the sum over the root
    varies as much for long texts as for short ones.

    Args:
        input_shape: ``(tokens,)``.
        outputs: width of the output.
        vocabulary_size: ids are below it.
        sequence_length: columns of tokens; n-grams are in the others.
        width: of a vector.
        hidden: widths of the hidden layers; often none are the best.
        dropout: of the units.
        token_dropout: share of the tokens and n-grams left out in training: what is rare and alone is learned less.
        spread: standard deviation of the first vectors. From small ones, rare tokens begin by saying little.
        activation: of the hidden layers.

    Raises:
        UserError: a width below 1, or a dropout outside [0, 1).
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int,
        vocabulary_size: int,
        sequence_length: int,
        width: int = 64,
        hidden: Sequence[int] = (),
        dropout: float = 0.3,
        token_dropout: float = 0.5,
        spread: float = 0.02,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        positive("width", width, *hidden)
        self.length = sequence_length
        self.vectors = _embedding(vocabulary_size, width, spread)
        self.choose = Dropout(token_dropout)
        self.drop = Dropout(dropout)
        self.hidden = nn.Sequential(
            *(layer for pair in pairwise([width, *hidden]) for layer in _dense(*pair, activation, dropout))
        )
        self.output = initialize(nn.Linear([width, *hidden][-1], outputs), "glorot_uniform")

    def logits(self, ids: Tensor) -> Tensor:
        """See `TextNetwork`."""
        kept = torch.cat([trimmed(ids[:, : self.length]), trimmed(ids[:, self.length :])], 1)
        there = (kept != 0).to(self.vectors.weight.dtype)
        shares = self.choose(there / there.sum(1, keepdim=True).clamp(min=1).sqrt())
        summed = F.embedding_bag(kept, self.vectors.weight, mode="sum", per_sample_weights=shares)
        outputs: Tensor = self.output(self.hidden(self.drop(summed)))
        return outputs


class TextCNN(TextNetwork):
    """Convolutions of several sizes over the tokens, the largest value of each along the text, and a linear layer.

    Kim 2014, https://arxiv.org/abs/1408.5882.

    Args:
        input_shape: ``(tokens,)``.
        outputs: width of the output.
        sequence_vocabulary: ids of tokens are below it.
        sequence_length: columns of tokens.
        width: of a token's vector.
        filters: of each size.
        kernel_sizes: tokens that a convolution sees at once, one convolution for each; odd ones see as many on either
            side.
        dropout: of the vectors and of the convolutions' values.
        token_dropout: share of the tokens whose vector is 0 in training.

    Raises:
        UserError: a size below 1, or a dropout outside [0, 1).
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int,
        sequence_vocabulary: int,
        sequence_length: int,
        width: int = 128,
        filters: int = 100,
        kernel_sizes: Sequence[int] = (3, 4, 5),
        dropout: float = 0.5,
        token_dropout: float = 0.2,
    ) -> None:
        super().__init__()
        positive("kernel_sizes", width, filters, *kernel_sizes, *([0] if not kernel_sizes else []))
        self.vectors = _Sequence(sequence_vocabulary, sequence_length, width, dropout, token_dropout)
        self.convolutions = nn.ModuleList(nn.Conv1d(width, filters, size, padding=size // 2) for size in kernel_sizes)
        self.drop = Dropout(dropout)
        self.output = initialize(nn.Linear(filters * len(kernel_sizes), outputs), "glorot_uniform")

    def logits(self, ids: Tensor) -> Tensor:
        """See `TextNetwork`."""
        vectors, there = self.vectors(ids)
        columns, places = vectors.transpose(1, 2), there[:, None, :]
        # A convolution of even size gives a value more than there are tokens.
        values = (F.relu(convolve(columns)[:, :, : places.shape[2]]) for convolve in self.convolutions)
        largest = [value.masked_fill(~places, 0.0).amax(2) for value in values]
        outputs: Tensor = self.output(self.drop(torch.cat(largest, 1)))
        return outputs


class TextRNN(TextNetwork):
    """A recurrent network in both directions, and the largest value of each unit along the text.

    LSTM: Hochreiter and Schmidhuber 1997, https://doi.org/10.1162/neco.1997.9.8.1735; GRU: Cho et al. 2014,
    https://arxiv.org/abs/1406.1078.

    Args:
        input_shape: ``(tokens,)``.
        outputs: width of the output.
        sequence_vocabulary: ids of tokens are below it.
        sequence_length: columns of tokens.
        cell: ``lstm`` or ``gru``.
        width: of a token's vector.
        units: of each direction.
        layers: on top of each other.
        dropout: of the vectors, and of what each layer gives.
        token_dropout: share of the tokens whose vector is 0 in training.

    Raises:
        UserError: a size below 1, another cell, or a dropout outside [0, 1).
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int,
        sequence_vocabulary: int,
        sequence_length: int,
        cell: Literal["lstm", "gru"] = "gru",
        width: int = 128,
        units: int = 64,
        layers: int = 1,
        dropout: float = 0.5,
        token_dropout: float = 0.2,
    ) -> None:
        super().__init__()
        positive("layers", width, units, layers)
        if cell not in ("lstm", "gru"):
            raise UserError(f"model.cell is {cell!r}; it is lstm or gru.")
        kind = nn.LSTM if cell == "lstm" else nn.GRU
        self.vectors = _Sequence(sequence_vocabulary, sequence_length, width, dropout, token_dropout)
        widths = [width, *[2 * units] * layers]
        # One at a time, since torch's own dropout between layers draws from the generator of the whole process.
        self.layers = nn.ModuleList(kind(taken, units, batch_first=True, bidirectional=True) for taken in widths[:-1])
        self.drop = Dropout(dropout)
        self.output = initialize(nn.Linear(2 * units, outputs), "glorot_uniform")

    def logits(self, ids: Tensor) -> Tensor:
        """See `TextNetwork`."""
        values, there = self.vectors(ids)
        lengths = there.sum(1).clamp(min=1).cpu()
        for layer in self.layers:
            packed = nn.utils.rnn.pack_padded_sequence(values, lengths, batch_first=True, enforce_sorted=False)
            values, _ = nn.utils.rnn.pad_packed_sequence(layer(packed)[0], batch_first=True)
            values = self.drop(values)
        largest = values.masked_fill(~_not_empty(there)[:, :, None], -torch.inf).amax(1)
        outputs: Tensor = self.output(largest)
        return outputs


class TextTransformer(TextNetwork):
    """Layers of attention between all tokens, and the mean of what they give.

    Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, with the norms before each part (Xiong et al. 2020,
    https://arxiv.org/abs/2002.04745), which learns without a warm-up; a token's place is a vector that is learned.

    Args:
        input_shape: ``(tokens,)``.
        outputs: width of the output.
        sequence_vocabulary: ids of tokens are below it.
        sequence_length: columns of tokens.
        width: of a token's vector, in all layers.
        heads: of attention; they share the width.
        layers: on top of each other.
        expansion: inner width of a layer's dense part, as a multiple of width.
        dropout: of the vectors, and of what each part adds.
        token_dropout: share of the tokens whose vector is 0 in training.

    Raises:
        UserError: a size below 1, heads that do not divide the width, or a dropout outside [0, 1).
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        outputs: int,
        sequence_vocabulary: int,
        sequence_length: int,
        width: int = 128,
        heads: int = 4,
        layers: int = 2,
        expansion: float = 2.0,
        dropout: float = 0.2,
        token_dropout: float = 0.2,
    ) -> None:
        super().__init__()
        positive("layers", width, heads, layers)
        if width % heads:
            raise UserError(
                f"model.heads is {heads} and model.width {width}: the heads share the width, in equal parts."
            )
        self.vectors = _Sequence(sequence_vocabulary, sequence_length, width, 0.0, token_dropout)
        self.places = nn.Parameter(torch.randn(sequence_length, width) * 0.02)
        self.drop = Dropout(dropout)
        self.layers = nn.ModuleList(
            AttentionLayer(width, heads, round(expansion * width), dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.output = initialize(nn.Linear(width, outputs), "glorot_uniform")

    def logits(self, ids: Tensor) -> Tensor:
        """See `TextNetwork`."""
        vectors, there = self.vectors(ids)
        there = _not_empty(there)
        values = self.drop(vectors + self.places[: vectors.shape[1]])
        for layer in self.layers:
            values = layer(values, there)
        values = self.norm(values).masked_fill(~there[:, :, None], 0.0)
        outputs: Tensor = self.output(values.sum(1) / there.sum(1, keepdim=True))
        return outputs


class AttentionLayer(nn.Module):
    """Attention and a dense part, each added to what it is given; `torch.nn.TransformerEncoderLayer`, norms first."""

    def __init__(self, width: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.projected = initialize(nn.Linear(width, 3 * width), "glorot_uniform")  # queries, keys and values
        self.attended = initialize(nn.Linear(width, width), "glorot_uniform")
        self.dense = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))
        self.drop = Dropout(dropout)

    def forward(self, values: Tensor, there: Tensor) -> Tensor:
        """Map (batch, tokens, width) to the same; `there` (batch, tokens) bool: which are no padding."""
        batch, tokens, width = values.shape
        split = self.projected(self.norms[0](values)).view(batch, tokens, 3, self.heads, width // self.heads)
        queries, keys, contents = split.permute(2, 0, 3, 1, 4).unbind(0)
        attended = F.scaled_dot_product_attention(queries, keys, contents, attn_mask=there[:, None, None, :])
        values = values + self.drop(self.attended(attended.transpose(1, 2).reshape(batch, tokens, width)))
        added: Tensor = values + self.drop(self.dense(self.norms[1](values)))
        return added


class _Sequence(nn.Module):
    """The vectors of a text's tokens, in order, and which of them are no padding."""

    def __init__(self, vocabulary: int, length: int, width: int, dropout: float, token_dropout: float) -> None:
        super().__init__()
        self.length = length
        self.vectors = _embedding(vocabulary, width, 1 / math.sqrt(width))
        self.choose = Dropout(token_dropout)
        self.drop = Dropout(dropout)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Map ids to vectors ``(batch, tokens, width)``, 0 where there is none, and to bool ``(batch, tokens)``."""
        tokens = trimmed(ids[:, : self.length])
        there = tokens != 0
        weights = self.choose(there.to(self.vectors.weight.dtype))
        return self.drop(self.vectors(tokens) * weights[:, :, None]), there


def trimmed(ids: Tensor) -> Tensor:
    """Return ids without the last columns that are padding in every row; at least one column, if there is any."""
    if not ids.shape[1]:
        return ids
    return ids[:, : max(1, int((ids != 0).sum(1).max()))]


def _not_empty(there: Tensor) -> Tensor:
    """Return the same with the first place of each row, so that an empty text is one of padding, not of nothing."""
    first = torch.arange(there.shape[1], device=there.device) == 0
    return there | first


def _embedding(size: int, width: int, spread: float) -> nn.Embedding:
    made = nn.Embedding(size, width, padding_idx=0)
    with torch.no_grad():
        made.weight.normal_(0, spread)
        made.weight[0] = 0
    return made


def _dense(taken: int, given: int, name: Activation, dropout: float) -> list[nn.Module]:
    return [initialize(nn.Linear(taken, given), "he_uniform"), activation(name), Dropout(dropout)]
