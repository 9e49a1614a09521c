"""Fitted objects as bytes."""

import io
import zipfile

import numpy as np
from sklearn.ensemble import RandomForestClassifier

from hypermap.core import skops_io


def test_what_lies_between_the_fields_of_a_forests_nodes_is_not_written():
    """It is whatever was in memory before: two equal forests would differ."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 4)).astype(np.float32)
    forest = RandomForestClassifier(3, random_state=0).fit(rows, rows[:, 0] > 0)
    content = skops_io.dumps(forest)
    gaps = 0
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in archive.namelist():
            if name.endswith(".npy"):
                array = np.load(io.BytesIO(stored := archive.read(name)))
                if array.dtype.names:
                    whole = np.frombuffer(stored[-array.nbytes :], np.uint8).reshape(len(array), -1)
                    used = np.zeros(array.dtype.itemsize, bool)
                    for field, start in array.dtype.fields.values():
                        used[start : start + field.itemsize] = True
                    gaps += (~used).sum()
                    assert not whole[:, ~used].any()
    assert gaps, "a node has no gaps any more"
    again = skops_io.loads(content, "here", "", ("sklearn.tree._tree.Tree",))
    np.testing.assert_array_equal(again.predict_proba(rows), forest.predict_proba(rows))
