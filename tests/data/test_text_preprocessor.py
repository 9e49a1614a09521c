"""Token ids and n-grams, beside what scikit-learn's vectorizers and the package tokenizers make of the same texts."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import CountVectorizer

from hypermap.core.errors import UserError
from hypermap.data.manifest import Manifest
from hypermap.data.preprocessor import Transform
from hypermap.data.preprocessors.text import FIRST, PADDING, UNKNOWN, TextSettings, decoded, ngrams
from support.contracts import PreprocessorContract
from support.own_texts import as_bytes, sentences

TRAIN, _ = sentences(60)
OTHERS = ["", "The PLAY was zzz", "👋🏽 שלום!", *sentences(5, seed=1)[0], "play " * 300]
WORD = r"(?u)\w+|[^\w\s]"


def about(**arguments):
    path = "hypermap.data.preprocessors.text.TextPreprocessor"
    return Manifest(task="classification", classes=["a"], shape=[1], preprocessor=path, arguments=arguments)


def fitted(texts=TRAIN, **arguments):
    return Transform.fitted(as_bytes(texts), np.zeros(len(texts), np.int64), about(**arguments))


def ids(transform, texts):
    return transform.preprocessor(torch.from_numpy(as_bytes(texts))).numpy()


class _Texts(PreprocessorContract):
    arguments = {}  # noqa: RUF012

    def manifest(self):
        return about(**self.arguments)

    def rows(self):
        return as_bytes(TRAIN), as_bytes(OTHERS)

    def test_the_module_gives_the_same(self):
        with pytest.raises(UserError, match="TextPreprocessor has no module, so that no network behind it can be"):
            self.fitted().preprocessor.module()


class TestWords(_Texts):
    pass


class TestCharactersAndBuckets(_Texts):
    arguments = {"tokens": "characters", "hash_buckets": 50, "max_tokens": 20}  # noqa: RUF012


class TestBytePairs(_Texts):
    arguments = {"tokens": "bpe", "vocabulary": 300}  # noqa: RUF012

    @pytest.fixture(autouse=True)
    def _installed(self):
        pytest.importorskip("tokenizers")


def test_texts_come_back_from_their_bytes():
    assert list(decoded(as_bytes(OTHERS))) == OTHERS


@pytest.mark.parametrize(("least", "most"), [(1, 2), (2, 3)])
def test_the_vocabulary_is_that_of_a_count_vectorizer(least, most):
    """Words and their n-grams in at least `least` rows; counts of words, and which n-grams there are."""
    transform = fitted(min_rows=least, word_ngrams=most, character_ngrams=None)
    vocabulary = transform.preprocessor.vocabulary
    own = CountVectorizer(token_pattern=WORD, ngram_range=(1, most), min_df=least).fit(TRAIN)
    assert {*vocabulary.tokens, *vocabulary.ngrams} == {*own.get_feature_names_out()}
    assert not {*vocabulary.tokens} & {*vocabulary.ngrams}
    wanted = own.transform(OTHERS).toarray()
    made = ids(transform, OTHERS)
    length = transform.manifest.extras["sequence_length"]
    for name, column in own.vocabulary_.items():
        if name in vocabulary.tokens:
            counts = (made[:, :length] == vocabulary.tokens[name]).sum(1)
            np.testing.assert_array_equal(counts, np.minimum(wanted[:, column], length))
        else:
            found = (made[:, length:] == vocabulary.ngrams[name]).sum(1)
            np.testing.assert_array_equal(found, wanted[:, column] > 0)


def test_character_ngrams_are_those_of_a_count_vectorizer():
    """scikit-learn pads a word with blanks, where the ends are called < and > here."""
    analyze = CountVectorizer(analyzer="char_wb", ngram_range=(3, 5)).build_analyzer()
    settings = TextSettings(word_ngrams=1, character_ngrams=(3, 5))
    for text in TRAIN[:10]:
        wanted = {gram for gram in analyze(text) if len(gram) >= 3}
        assert {gram[1:].replace("<", " ").replace(">", " ") for gram in ngrams(text, settings)} == wanted


def test_tokens_stand_in_their_order_and_what_is_new_is_unknown():
    transform = fitted(["a b b", "b c"] * 2, character_ngrams=None)
    tokens = transform.preprocessor.vocabulary.tokens
    assert list(tokens) == ["b", "a", "c"]  # those in most rows first, and of equal ones the first by the alphabet
    made = ids(transform, ["c new A", "", "b b b b b"])
    assert made[:, :3].tolist() == [
        [tokens["c"], UNKNOWN, tokens["a"]],
        [PADDING] * 3,
        [tokens["b"]] * 3,  # as long as the longest training row
    ]
    assert transform.manifest.extras["sequence_vocabulary"] == FIRST + 3
    assert made.dtype == np.int32
    other = fitted(["a b b", "b c"] * 2, lowercase=False)
    assert ids(other, ["A"])[0, 0] == UNKNOWN


def test_all_ids_are_below_the_vocabulary_size():
    for settings in ({}, {"hash_buckets": 7}, {"max_ngrams": 20, "vocabulary": 5}):
        transform = fitted(**settings)
        extras, made = transform.manifest.extras, ids(transform, [*TRAIN, *OTHERS])
        assert made.max() == extras["vocabulary_size"] - 1
        assert made[:, : extras["sequence_length"]].max() < extras["sequence_vocabulary"]
        assert made.shape[1] == transform.manifest.shape[0]


def test_lengths_count_what_is_no_padding():
    transform = fitted()
    made = torch.from_numpy(ids(transform, OTHERS))
    assert transform.preprocessor.lengths(made).tolist() == [int(np.count_nonzero(row)) for row in made]


def test_probes_are_words_and_word_ngrams_as_texts_of_their_own():
    transform = fitted(word_ngrams=2)
    probes = transform.preprocessor.probes()
    asked = transform.preprocessor(probes.inputs)
    assert len(asked) == 1 + len(probes.names)
    assert not asked[0].any()
    assert {"play", "the"} <= {*probes.names}
    np.testing.assert_array_equal(asked[1:], ids(transform, probes.names))


def test_points_lie_where_scikit_learn_puts_them():
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfTransformer

    transform = fitted(word_ngrams=1, character_ngrams=None, min_rows=1)
    own = CountVectorizer(token_pattern=WORD).fit(TRAIN)
    weights = TfidfTransformer(sublinear_tf=True).fit_transform(own.transform(TRAIN))
    wanted = TruncatedSVD(8, algorithm="arpack", random_state=0).fit_transform(weights)
    placed = transform.preprocessor.points(torch.from_numpy(ids(transform, TRAIN)))
    np.testing.assert_allclose(np.abs(placed[:, :2]), np.abs(wanted[:, :2]), atol=1e-4)


def test_byte_pairs_are_those_of_the_package():
    tokenizers = pytest.importorskip("tokenizers")
    transform = fitted(tokens="bpe", vocabulary=300, lowercase=False)
    vocabulary = transform.preprocessor.vocabulary
    again = tokenizers.Tokenizer.from_str(vocabulary.stored["bpe"])
    for text in TRAIN[:5]:
        names = {number: name for name, number in vocabulary.tokens.items()}
        row = ids(transform, [text])[0, : transform.manifest.extras["sequence_length"]]
        assert [names[number] for number in row if number] == again.encode(text).tokens
        assert again.get_vocab_size() <= 300


def test_without_the_package_byte_pairs_are_refused():
    code = (
        "import sys; sys.modules['tokenizers'] = None\n"
        "from hypermap.data.preprocessors.text import TextSettings, _learned_pairs\n"
        "_learned_pairs(['a'], TextSettings(tokens='bpe'))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "which the package tokenizers learns, and it is not installed: pip install tokenizers" in told.stderr


def test_what_cannot_be_fitted_or_read_is_told():
    with pytest.raises(UserError, match=r"No token is in data\.min_rows=9 of the 2 training texts: lower it"):
        fitted(["a", "b"], min_rows=9)
    transform = fitted()
    broken = Transform(transform.manifest, b"{}", "models/preprocessor.json")
    with pytest.raises(UserError, match=r"models/preprocessor\.json is damaged"):
        ids(broken, TRAIN)
