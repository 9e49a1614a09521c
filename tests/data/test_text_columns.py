"""Texts as components: scikit-learn's own pipeline and skrub's encoder beside ours, and texts of every kind."""

import numpy as np
import pytest
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline

from hypermap.core.errors import UserError
from hypermap.data import text_columns
from hypermap.data.text_columns import TextColumnSettings, TextEncoder
from support.own_texts import sentences

TRAIN, NEW = sentences(200)[0], sentences(40, seed=1)[0]


def fitted(texts=TRAIN, **settings):
    return TextEncoder.fit("advert", texts, TextColumnSettings(**settings))


@pytest.mark.parametrize(
    ("ngrams", "counted"),
    [("characters", {"analyzer": "char_wb", "ngram_range": (3, 4)}), ("words", {"ngram_range": (1, 2)})],
)
def test_components_are_those_of_a_pipeline_of_scikit_learn(ngrams, counted):
    encoder = fitted(text_ngrams=ngrams, text_components=7)
    pipeline = make_pipeline(TfidfVectorizer(**counted), TruncatedSVD(7, random_state=0)).fit(TRAIN)
    spread = np.sqrt(pipeline.transform(TRAIN).var(axis=0).sum())
    expected = pipeline.transform(NEW) / spread
    np.testing.assert_allclose(encoder(NEW), expected, atol=1e-3)


def test_components_are_those_of_skrub():
    skrub, pl = pytest.importorskip("skrub"), pytest.importorskip("polars")
    theirs = skrub.StringEncoder(random_state=0)
    theirs.fit(pl.Series("advert", TRAIN))
    encoder, expected = fitted(), theirs.transform(pl.Series("advert", NEW)).to_numpy()
    np.testing.assert_allclose(encoder(NEW), expected[:, : encoder.width], atol=1e-4)
    np.testing.assert_allclose(expected[:, encoder.width :], 0, atol=1e-4)  # which we leave out


def test_texts_that_are_alike_are_near():
    made = fitted(["a charming house", "charming houses", "old barns", "an old barn"] * 20, text_components=4)(
        ["charming house", "charming houses", "old barn"]
    )
    between = np.linalg.norm(made[:, np.newaxis] - made, axis=-1)
    assert between[0, 1] < between[0, 2] / 2


def test_equal_texts_give_equal_bits_and_an_entry_is_read_back():
    one, other = fitted().as_entry(), fitted().as_entry()
    assert one["terms"] == other["terms"]
    assert one["axes"].tobytes() == other["axes"].tobytes()
    np.testing.assert_array_equal(TextEncoder.of(one)(NEW), fitted()(NEW))


@pytest.mark.parametrize("text", ["", "   ", "zzzz qqqq", "漢字", "🌷", "\x00", "مرحبا"])
def test_a_text_without_a_known_ngram_has_zeros(text):
    assert not fitted()([text]).any()


@pytest.mark.parametrize(
    "texts", [["🌷 and 🌹", "🌹"], ["שלום עולם", "עולם"], ["漢字かな", "漢字"], ["naïve café", "cafe"]]
)
def test_any_script_is_counted(texts):
    assert fitted(texts * 10)(texts).any(axis=1).all()


def test_a_very_long_text_is_no_trouble():
    assert np.isfinite(fitted([*TRAIN, "long " * 200_000])(["long " * 200_000])).all()


def test_components_that_are_rounding_errors_are_left_out():
    assert fitted(["the same", "the same"] * 10).width == 1
    assert fitted(["this", "that", ""] * 10, text_components=30).width == 2
    made = fitted(["the same"] * 10)(["the same", "something else", ""])
    assert np.isfinite(made).all()


def test_the_most_frequent_ngrams_are_kept(monkeypatch):
    monkeypatch.setattr(text_columns, "MOST_TERMS", 5)
    assert fitted(["aaa bbb", "aaa ccc", "aaa ddd"], text_ngrams="words", text_components=2).terms[0] == "aaa"


@pytest.mark.parametrize(
    ("texts", "settings", "said"),
    [
        (["", " "], {}, r"data.text names 'advert', which is empty in all of the 2 training rows: leave it out"),
        (["a", "?!"], {"text_ngrams": "words"}, "whose 2 texts .* have no words to count: take data.text_ngrams=chara"),
    ],
)
def test_texts_of_nothing_are_told(texts, settings, said):
    with pytest.raises(UserError, match=said):
        fitted(texts, **settings)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"text_components": 0}, "data.text_components is 0; it is a whole number, 1 or more."),
        ({"text_max_bytes": True}, "data.text_max_bytes is True; it is a whole number"),
        ({"text_ngrams": "word"}, r"data.text_ngrams is 'word'; it is one of characters, words \(did you mean 'words'"),
    ],
)
def test_settings_that_make_no_sense_are_told(settings, said):
    with pytest.raises(UserError, match=said):
        TextColumnSettings(**settings)
