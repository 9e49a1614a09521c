"""The contract of every preprocessor."""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch

from hypermap.core.errors import UserError
from hypermap.data.manifest import Manifest
from hypermap.data.preparation import Settings
from hypermap.data.preprocessor import Transform, locate_preprocessor
from hypermap.data.table_preprocessor import without_texts
from hypermap.data.table_rows import SEPARATOR, matrix_of, packed
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


TEXTS = ("a red house", "blue houses", "", "a garden 🌷", "בית אדום", "red, red, red")


class TestTablesWithTexts(PreprocessorContract):
    """Numbers, a category, and two texts, of which others have n-grams that the training rows lack."""

    arguments: ClassVar = {"text_components": 3}

    def manifest(self):
        table = {"columns": [], "texts": [{"name": "advert"}, {"name": "remark"}], "dropped": {}}
        roles = ["number", "category"]
        return about(table=table, roles=roles, preparation=vars(Settings()), shape=[9], arguments=dict(self.arguments))

    def rows(self):
        draw = np.random.default_rng(0)
        train = np.column_stack([draw.normal(size=60), draw.integers(0, 4, 60)])
        train[::7, 0] = np.nan
        others = np.column_stack([draw.normal(size=12), np.arange(12) % 6])
        words = [f"{TEXTS[k % 6]}{SEPARATOR}remark {k * k % 7}".encode() for k in range(60)]
        new = [f"{TEXTS[k % 6]} unseen{k}{SEPARATOR}".encode() for k in range(12)]
        return packed(train, words), packed(others, new, 200)

    def test_the_module_gives_the_same(self):
        with pytest.raises(UserError, match=r"learned from texts \('advert', 'remark'\).*cannot be exported"):
            self.fitted().preprocessor.module()

    def test_the_rows_of_texts_beside_are_those_of_the_table_alone(self):
        transform, (train, others) = self.fitted(), self.rows()
        made = transform.preprocessor(torch.from_numpy(others)).numpy()
        table = without_texts(self.manifest())
        alone = Transform.fitted(train, np.zeros(len(train), np.int64), table)
        np.testing.assert_array_equal(
            np.delete(made, np.s_[1:7], axis=1), alone.preprocessor(torch.from_numpy(others)).numpy()
        )
        matrix = matrix_of(train, 2)
        plain = Transform.fitted(matrix, np.zeros(len(train), np.int64), table)
        assert plain.contents() == alone.contents()

    def test_a_row_in_words_is_its_texts(self):
        assert self.fitted().preprocessor.words(self.rows()[0])[1] == "blue houses / remark 1"


class TestTextsAlone(TestTablesWithTexts):
    def manifest(self):
        return replace(super().manifest(), roles=[], shape=[6])

    def rows(self):
        return tuple(packed(np.empty((len(rows), 0)), [bytes(row) for row in rows[:, 16:]]) for rows in super().rows())

    def test_the_rows_of_texts_beside_are_those_of_the_table_alone(self):
        """There are none."""


class TestAPreprocessorOfOnesOwn(PreprocessorContract):
    def manifest(self):
        return about(preprocessor="support.own.my_pairs.Vocabulary", shape=[6])

    def rows(self):
        draw = np.random.default_rng(0)
        return draw.integers(0, 20, (30, 6)), draw.integers(0, 30, (10, 6))


def test_what_is_no_preprocessor_is_told():
    with pytest.raises(UserError, match=r"builtins.dict is no preprocessor: one is a subclass of hypermap"):
        locate_preprocessor(about(preprocessor="builtins.dict"))
