"""The contract of ratings as places, and what becomes of the unknown."""

import numpy as np
import torch

from hypermap.core import ids
from hypermap.data.manifest import Manifest
from hypermap.data.preprocessors.ratings import FIRST, VALUES
from support.contracts import PreprocessorContract

NAMES = ["7", "8", "Zoë Ångström of Uppsala", "b", "c", "d"]


class TestRatings(PreprocessorContract):
    def manifest(self):
        return Manifest(
            task="regression", classes=[], shape=[FIRST + 2 + VALUES],
            preprocessor="hypermap.data.preprocessors.ratings.RatingsPreprocessor",
            arguments={"item_features": ["genres"], "user_features": []},
        )  # fmt: skip

    def rows(self):
        made = []
        for rows, known in ((40, 4), (10, 6)):
            draw = np.random.default_rng(rows)
            packed = ids.packed(NAMES)
            inputs = packed[draw.integers(0, known, (rows, FIRST + 2 + VALUES))]
            inputs[:, 2] = ids.NOTHING
            inputs[:, 2, 0] = draw.permutation(rows)
            inputs[draw.random((rows, FIRST + 2 + VALUES)) < 0.2] = ids.NOTHING
            inputs[:, :2] = packed[draw.integers(0, known, (rows, 2))]
            made.append(inputs)
        return tuple(made)

    def test_ids_are_their_places_among_those_of_training_whatever_their_width(self):
        transform, (train, _) = self.fitted(), self.rows()
        known = {ids.name_of(words): k for k, words in enumerate(np.unique(train[:, 1], axis=0).tolist(), 1)}
        for name in [*NAMES, "", "7 "]:
            own = ids.packed([name])
            row = np.full((1, train.shape[1], own.shape[1]), ids.NOTHING)
            row[0, 1] = own
            assert transform.preprocessor(torch.from_numpy(row))[0, 1] == known.get(name, 0)
        said = transform.preprocessor.words(train[:1])[0]
        assert said.startswith("user ")
        assert "new" not in said
