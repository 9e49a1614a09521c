"""The contract of every preprocessor."""

import numpy as np
import pytest

from hypermap.core.errors import UserError
from hypermap.data.manifest import Manifest
from hypermap.data.preparation import Settings
from hypermap.data.preprocessor import locate_preprocessor
from support.contracts import PreprocessorContract


def about(**entries):
    return Manifest(task="classification", classes=["a"], **{"shape": [4], **entries})


class TestImages(PreprocessorContract):
    scaling = "standard"

    def manifest(self):
        return about(shape=[2, 3, 3], scaling=self.scaling, maximum=255.0)

    def rows(self):
        draw = np.random.default_rng(0)
        return tuple(draw.integers(0, 256, (rows, 2, 3, 3)).astype(np.uint8) for rows in (30, 10))


class TestImagesFromZeroToOne(TestImages):
    scaling = "unit"

    def test_what_is_fitted_follows_from_the_training_rows_alone(self):
        assert self.fitted().manifest.scale == [255.0, 255.0]


class TestPlainTables(PreprocessorContract):
    def manifest(self):
        return about(scaling="standard")

    def rows(self):
        draw = np.random.default_rng(0)
        return tuple((5 + draw.normal(size=(rows, 4))).astype(np.float32) for rows in (30, 10))


class TestTables(PreprocessorContract):
    """Numbers of which some are missing, and categories of which others are new."""

    def manifest(self):
        settings = Settings(scaling="quantile")
        roles = ["number", "number", "category"]
        return about(table={"columns": []}, roles=roles, preparation=vars(settings), shape=[3])

    def rows(self):
        draw = np.random.default_rng(0)
        train = np.column_stack([draw.normal(size=(60, 2)), draw.integers(0, 4, 60)])
        train[::7, 0] = np.nan
        others = np.column_stack([draw.normal(size=(12, 2)), np.arange(12) % 6])
        others[0, :2] = np.nan
        return train, others


class TestAPreprocessorOfOnesOwn(PreprocessorContract):
    def manifest(self):
        return about(preprocessor="support.own.my_pairs.Vocabulary", shape=[6])

    def rows(self):
        draw = np.random.default_rng(0)
        return draw.integers(0, 20, (30, 6)), draw.integers(0, 30, (10, 6))


def test_what_is_no_preprocessor_is_told():
    with pytest.raises(UserError, match=r"builtins.dict is no preprocessor: one is a subclass of hypermap"):
        locate_preprocessor(about(preprocessor="builtins.dict"))
