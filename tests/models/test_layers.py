"""The parts that networks share, where several processes compute a batch."""

import pytest
import torch

from hypermap.core.errors import UserError
from hypermap.models.layers import Dropout, RowShare


@pytest.mark.parametrize(("rows", "processes", "multiple"), [(64, 2, 1), (37, 3, 1), (30, 4, 4), (5, 5, 1), (33, 8, 4)])
def test_shares_are_the_batch_in_order(rows, processes, multiple):
    shares = [RowShare.of(rows, rank, processes, multiple) for rank in range(processes)]
    assert [row for share in shares for row in range(share.first, share.last)] == list(range(rows))
    assert all(share.first % multiple == 0 and len(share) for share in shares)
    assert max(map(len, shares)) - min(map(len, shares)) < 2 * multiple


def test_a_batch_that_is_too_small_is_everyones():
    assert all(RowShare.of(3, rank, 4).is_whole for rank in range(4))
    assert all(RowShare.of(7, rank, 2, multiple=8).is_whole for rank in range(2))


@pytest.mark.parametrize(
    ("shape", "multiple"), [((10, 6), 1), ((30, 2), 1), ((3, 4, 5), 4)], ids=["rows", "parts of rows", "rows by fours"]
)
def test_shares_get_the_masks_of_the_whole_batch(shape, multiple):
    layer = Dropout(0.5)

    def drop(inputs, share=None):
        layer.share, layer.generator = share, torch.Generator().manual_seed(3)
        return layer(inputs)

    rows = 10
    whole, parts = drop(torch.ones(shape)), []
    for rank in range(2):
        share = RowShare.of(rows, rank, 2, multiple)
        times = shape[0] / rows
        entries = -(-len(share) // multiple) if multiple > 1 else round(len(share) * times)
        parts.append(drop(torch.ones(entries, *shape[1:]), share))
    assert torch.equal(torch.cat(parts), whole)
    assert 0 < whole.mean() < 2


def test_entries_that_are_not_of_the_rows_are_refused():
    layer = Dropout(0.5)
    layer.share = RowShare.of(10, 0, 2)
    with pytest.raises(
        UserError, match=r"^a dropout layer is given 7 entries for the 5 rows .* trainer\.processes=1\.$"
    ):
        layer(torch.ones(7, 2))
