"""Networks for texts: the contract, and each beside the modules of torch that it is made of."""

import pytest
import torch
from torch import nn

from hypermap.core.errors import UserError
from hypermap.models.text import PORTION, AttentionLayer, TextBag, TextCNN, TextRNN, TextTransformer, trimmed
from support.contracts import NetworkContract

LENGTH, WORDS, ALL = 7, 20, 30


def texts(rows=6, seed=0):
    """Ids of texts of several lengths, one of them empty, with n-grams in five columns behind."""
    draw = torch.Generator().manual_seed(seed)
    ids = torch.zeros(rows, LENGTH + 5, dtype=torch.int32)
    for row in range(1, rows):
        length, grams = int(torch.randint(1, LENGTH + 1, (1,), generator=draw)), row % 5
        ids[row, :length] = torch.randint(1, WORDS, (length,), generator=draw)
        ids[row, LENGTH : LENGTH + grams] = torch.randint(WORDS, ALL, (grams,), generator=draw)
    return ids


def bag(**keywords):
    return TextBag((LENGTH + 5,), 3, vocabulary_size=ALL, sequence_length=LENGTH, **{"width": 8, **keywords})


def sequential(kind, **keywords):
    return kind((LENGTH + 5,), 3, sequence_vocabulary=WORDS, sequence_length=LENGTH, **{"width": 8, **keywords})


class _OfTexts(NetworkContract):
    def rows(self):
        return texts()

    def test_padding_changes_nothing(self):
        """More columns of padding, in both parts."""
        network, rows = self.network().eval(), self.rows()
        more = torch.cat([rows, torch.zeros(len(rows), 4, dtype=rows.dtype)], 1)
        torch.testing.assert_close(network(more), network(rows))

    def test_many_rows_at_once_give_what_each_gives_alone(self):
        network, rows = self.network().eval(), texts(PORTION + 9)
        with torch.no_grad():
            alone = torch.cat([network(row[None]) for row in rows[:20]])
            torch.testing.assert_close(network(rows)[:20], alone, rtol=1e-4, atol=1e-5)

    def test_what_is_dropped_is_drawn_from_the_seed(self):
        network, rows = self.network().train(), self.rows()
        made = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            made.append(network(rows))
        assert torch.equal(made[0], made[1])
        assert not torch.equal(made[0], made[2])


class TestTextBag(_OfTexts):
    def network(self):
        return bag(hidden=[6])

    def test_it_is_the_sum_over_the_root_of_the_count(self):
        network, rows = bag(spread=1.0).eval(), texts()
        reference = nn.EmbeddingBag(ALL, 8, mode="sum", padding_idx=0, _weight=network.vectors.weight.detach())
        counts = (rows != 0).sum(1, keepdim=True).clamp(min=1)
        torch.testing.assert_close(network(rows), network.output(reference(rows) / counts.sqrt()))


class TestTextCNN(_OfTexts):
    def network(self):
        return sequential(TextCNN, filters=4, kernel_sizes=[2, 3])

    def test_it_is_the_largest_value_of_a_convolution(self):
        network, rows = sequential(TextCNN, filters=4, kernel_sizes=[3]).eval(), texts()
        row = rows[3:4, : int((rows[3, :LENGTH] != 0).sum())]
        values = network.convolutions[0](network.vectors.vectors(row).transpose(1, 2)).relu()
        torch.testing.assert_close(network(rows)[3:4], network.output(values.amax(2)))


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_the_recurrent_network_is_torchs_on_a_text_alone(cell):
    network, rows = sequential(TextRNN, cell=cell, units=5).eval(), texts()
    reference = {"gru": nn.GRU, "lstm": nn.LSTM}[cell](8, 5, batch_first=True, bidirectional=True)
    reference.load_state_dict(network.layers[0].state_dict())
    for k in range(1, len(rows)):
        row = rows[k : k + 1, : int((rows[k, :LENGTH] != 0).sum())]
        values, _ = reference(network.vectors.vectors(row))
        torch.testing.assert_close(network(rows)[k : k + 1], network.output(values.amax(1)))


class TestTextRNN(_OfTexts):
    def network(self):
        return sequential(TextRNN, units=5, layers=2)


class TestTextTransformer(_OfTexts):
    def network(self):
        return sequential(TextTransformer, heads=2, layers=2)

    def test_a_layer_is_torchs(self):
        torch.manual_seed(0)
        own = AttentionLayer(8, 2, 16, 0.0)
        reference = nn.TransformerEncoderLayer(8, 2, 16, 0.0, nn.functional.gelu, batch_first=True, norm_first=True)
        attention = reference.self_attn
        attention.in_proj_weight.data, attention.in_proj_bias.data = own.projected.weight.data, own.projected.bias.data
        attention.out_proj.load_state_dict(own.attended.state_dict())
        reference.linear1.load_state_dict(own.dense[0].state_dict())
        reference.linear2.load_state_dict(own.dense[2].state_dict())
        values, there = torch.randn(3, 5, 8), torch.arange(5) < torch.tensor([[5], [2], [1]])
        wanted = reference(values, src_key_padding_mask=~there)
        torch.testing.assert_close(own(values, there)[there], wanted[there])


def test_columns_of_padding_are_cut_off():
    ids = torch.tensor([[1, 0, 0, 0], [2, 3, 0, 0]])
    assert trimmed(ids).tolist() == [[1, 0], [2, 3]]
    assert trimmed(torch.zeros(2, 3)).shape == (2, 1)
    assert trimmed(ids[:, :0]).shape == (2, 0)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: sequential(TextRNN, cell="rnn"), r"model\.cell is 'rnn'; it is lstm or gru"),
        (lambda: sequential(TextTransformer, heads=3), r"model\.heads is 3 and model\.width 8"),
        (lambda: sequential(TextCNN, kernel_sizes=[]), "kernel_sizes has 0"),
        (lambda: bag(width=0), "width has 0"),
    ],
)
def test_sizes_that_cannot_be_are_told(make, told):
    with pytest.raises(UserError, match=told):
        make()
