"""Texts as token ids: what stands in a text in its order, and behind it the n-grams of its words and characters."""

import json
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from hypermap.core.errors import UserError, near
from hypermap.core.typing import Array
from hypermap.data.manifest import Manifest, advice
from hypermap.data.preprocessor import Fitted, Preprocessor, Probes

if TYPE_CHECKING:  # preparing data needs no torch
    from torch import Tensor

PADDING, UNKNOWN, FIRST = 0, 1, 2
"""The id behind the end of a text, that of tokens which training rows lack, and the first of the vocabulary."""

TOKENS = ("words", "characters", "bpe")
WORDS = re.compile(r"\w+|[^\w\s]")
"""A run of letters and digits, or a single sign: a comma, a symbol, an emoji."""

INSTALL = "pip install tokenizers"
PROBED, PROBED_ROWS = 4000, 5
"""Words and n-grams that a model is asked about one by one, at most, and training rows that each is in, at least."""


@dataclass(frozen=True)
class TextSettings:
    """What a text is made of. Construction checks the values.

    Attributes:
        tokens: what a network reads in order: ``words`` (and signs), ``characters``, or ``bpe``: byte pairs (Sennrich
            et al. 2016, https://arxiv.org/abs/1508.07909; of bytes, so that there is no unknown letter), learned from
            the training rows by the package tokenizers.
        lowercase: whether ``A`` is ``a``.
        vocabulary: number of tokens that have an id of their own: those in the most training rows.
        min_rows: training rows that a token, or an n-gram, must be in to have one.
        max_tokens: of a text, from its beginning; n-grams are of all of it.
        word_ngrams: longest run of words that is an n-gram; 1: none.
        character_ngrams: shortest and longest run of characters within a word, whose ends count as characters
            (Bojanowski et al. 2017, https://arxiv.org/abs/1607.04606); None: none.
        max_ngrams: number of n-grams that have an id of their own, likewise.
        hash_buckets: instead, ids that n-grams share by a checksum (Weinberger et al. 2009,
            https://arxiv.org/abs/0902.2206); None: each has its own.
    """

    tokens: str = "words"
    lowercase: bool = True
    vocabulary: int = 30_000
    min_rows: int = 2
    max_tokens: int = 256
    word_ngrams: int = 2
    character_ngrams: Sequence[int] | None = (3, 5)
    max_ngrams: int = 60_000
    hash_buckets: int | None = None

    def __post_init__(self) -> None:
        if self.tokens not in TOKENS:
            hint = near(str(self.tokens), TOKENS)
            raise UserError(f"data.tokens is {self.tokens!r}; it is {', '.join(TOKENS)}{hint}.")
        if not isinstance(self.lowercase, bool):
            raise UserError(f"data.lowercase is {self.lowercase!r}; it is true or false.")
        for name in ("vocabulary", "min_rows", "max_tokens", "word_ngrams", "max_ngrams", "hash_buckets"):
            value = getattr(self, name)
            if not (_whole(value) or (name == "hash_buckets" and value is None)):
                raise UserError(f"data.{name} is {value!r}; it is a whole number, 1 or more.")
        pair = self.character_ngrams
        if pair is not None:
            if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(map(_whole, pair)):
                raise UserError(f"data.character_ngrams is {pair!r}; it is [shortest, longest], as in [3,5], or null.")
            if pair[0] > pair[1]:
                raise UserError(f"data.character_ngrams is {list(pair)}: the shortest is longer than the longest.")

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Self:
        """Return the settings among the arguments of a reader."""
        return cls(**{own.name: arguments[own.name] for own in fields(cls) if own.name in arguments})


class TextPreprocessor(Preprocessor):
    """From bytes of UTF-8, uint8 ``(rows, longest)``, to token ids, int32 ``(rows, sequence_length + n-grams)``.

    The first `sequence_length` columns are a text's tokens in order; behind them are its n-grams, each once. 0 stands
    behind the end of either. Lengths and vocabulary are those of the training rows. The extras are
    ``sequence_length``, ``sequence_vocabulary`` (ids of tokens are below it) and ``vocabulary_size`` (all ids are).
    """

    @classmethod
    def fit(cls, inputs: Array, info: Manifest) -> Fitted:
        """Fit the vocabulary, and how long a row is.

        Raises:
            UserError: ``tokens=bpe``, and the package tokenizers is not installed; or no token is in enough rows.
        """
        settings = TextSettings.of(info.arguments)
        contents = [_cased(text, settings) for text in decoded(inputs)]
        bpe = _learned_pairs(contents, settings) if settings.tokens == "bpe" else None
        tokenizer = None if bpe is None else _tokenizer(bpe)
        sequences = [_sequence(text, settings, tokenizer) for text in contents]
        tokens = _most_frequent(sequences, settings.vocabulary, 1 if bpe else settings.min_rows)
        if not tokens:
            raise UserError(
                f"No token is in data.min_rows={settings.min_rows} of the {len(contents):,} training texts: lower it."
            )
        kept: dict[str, int] = {}
        if settings.hash_buckets is None:
            kept = _most_frequent((ngrams(text, settings) for text in contents), settings.max_ngrams, settings.min_rows)
        probes = _most_frequent((_probes(text, settings) for text in contents), PROBED, PROBED_ROWS)
        stored = {"tokens": list(tokens), "ngrams": list(kept), "probes": list(probes), "bpe": bpe}
        vocabulary = _Vocabulary(settings, stored)
        lengths = [len(vocabulary.tokens_of(sequence)) for sequence in sequences]
        # Found once more rather than kept: there are hundreds of a text, and most are of few texts.
        widths = [len(vocabulary.ngrams_of(dict.fromkeys(ngrams(text, settings)))) for text in contents]
        longest, widest = max(1, *lengths), max(0, *widths)
        entries = {
            "shape": [longest + widest],
            "dtype": "int32",
            "extras": {
                "vocabulary_size": vocabulary.size,
                "sequence_length": longest,
                "sequence_vocabulary": FIRST + len(tokens),
            },
        }
        return Fitted(entries, json.dumps(stored, ensure_ascii=False, separators=(",", ":")).encode())

    @cached_property
    def vocabulary(self) -> "_Vocabulary":
        """The fitted vocabulary.

        Raises:
            UserError: its file is damaged, or it needs the package tokenizers, which is not installed.
        """
        try:
            return _Vocabulary(TextSettings.of(self.manifest.arguments), json.loads(self.stored or b""))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{self.origin} is damaged ({error!r}). {advice(Path(self.origin).parent)}") from None

    def __call__(self, inputs: "Tensor") -> "Tensor":
        """Return token ids, int32."""
        import torch

        length, (width,) = int(self.manifest.extras["sequence_length"]), self.manifest.shape
        ids = np.zeros((len(inputs), width), np.int32)
        for row, text in zip(ids, decoded(inputs.cpu().numpy()), strict=True):
            tokens, grams = self.vocabulary.encode(text)
            row[: min(len(tokens), length)] = tokens[:length]
            row[length : length + len(grams)] = grams[: width - length]
        return torch.from_numpy(ids).to(inputs.device)

    def lengths(self, features: "Tensor") -> "Tensor":
        """Return the number of tokens and n-grams of each row, int64 ``(rows,)``."""
        return (features != PADDING).sum(1)

    def words(self, inputs: Array) -> list[str]:
        """Return the texts themselves."""
        return list(decoded(inputs))

    def points(self, features: "Tensor") -> Array | None:
        """Return the first 50 components of TF-IDF, which are near where texts have the same rare words."""
        from scipy.sparse import csr_array
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfTransformer
        from threadpoolctl import threadpool_limits

        ids = features.cpu().numpy()
        row, column = np.nonzero(ids >= FIRST)
        size = int(self.manifest.extras["vocabulary_size"])
        counts = csr_array((np.ones(len(row)), (row, ids[row, column])), shape=(len(ids), size))
        components = min(50, min(counts.shape) - 1)
        if components < 2 or counts.nnz == 0:
            return None
        with threadpool_limits(1):  # several threads would add in any order
            weights = TfidfTransformer(sublinear_tf=True).fit_transform(counts)
            placed: Array = TruncatedSVD(components, n_iter=4, random_state=0).fit_transform(weights)
        return placed

    def probes(self) -> Probes:
        """Return the words and word n-grams in the most training rows, each as a text of its own."""
        import torch

        names = self.vocabulary.stored["probes"]
        contents = [b"", *(name.encode() for name in names)]
        longest = max(1, *map(len, contents))
        rows = b"".join(content.ljust(longest, b"\0") for content in contents)
        return Probes("n-gram", names, torch.frombuffer(bytearray(rows), dtype=torch.uint8).view(-1, longest))


def decoded(inputs: Array) -> Iterator[str]:
    """Yield the texts of rows of bytes, uint8 ``(rows, longest)``."""
    for row in np.ascontiguousarray(inputs):
        yield row.tobytes().rstrip(b"\0").decode("utf-8", "replace")


def encoded(text: str, limit: int) -> tuple[bytes, bool]:
    """Return a text in UTF-8 of `limit` bytes at most, cut between characters, and whether it was cut."""
    # Zeros stand for no byte at all, and halves of surrogates (JSON may hold them) have no UTF-8.
    whole = text[:limit].replace("\0", " ").encode("utf-8", "replace")
    if len(whole) > limit:
        return whole[:limit].decode("utf-8", "ignore").encode(), True
    return whole, len(text) > limit


def stacked(texts: Sequence[bytes], longest: int = 0) -> Array:
    """Return rows of bytes, uint8 ``(rows, width)``, with zeros behind each; `longest` is the least width."""
    longest = max(1, longest, *map(len, texts))
    content = bytearray().join(text.ljust(longest, b"\0") for text in texts)  # which may be written to, unlike bytes
    return np.frombuffer(content, np.uint8).reshape(len(texts), longest)


def ngrams(text: str, settings: TextSettings) -> Iterator[str]:
    """Yield the n-grams of a text: of two words or more, joined by a blank, and of characters, behind a ``#``."""
    words = WORDS.findall(text)
    for count in range(2, settings.word_ngrams + 1):
        for first in range(len(words) - count + 1):
            yield " ".join(words[first : first + count])
    if settings.character_ngrams is not None:
        least, most = settings.character_ngrams
        for word in words:
            closed = f"<{word}>"
            for count in range(least, most + 1):
                for first in range(len(closed) - count + 1):
                    yield f"#{closed[first : first + count]}"


def _probes(text: str, settings: TextSettings) -> list[str]:
    """Return the words of a text, without signs, and its n-grams of words."""
    words = [word for word in WORDS.findall(text) if word[0].isalnum()]
    return words + [gram for gram in ngrams(text, replace(settings, character_ngrams=None)) if gram[0].isalnum()]


class _Vocabulary:
    """The ids of tokens and n-grams."""

    def __init__(self, settings: TextSettings, stored: Mapping[str, Any]) -> None:
        self.settings, self.stored = settings, stored
        self.tokens = {name: FIRST + k for k, name in enumerate(stored["tokens"])}
        self.first_ngram = FIRST + len(self.tokens)
        self.ngrams = {name: self.first_ngram + k for k, name in enumerate(stored["ngrams"])}
        self.tokenizer = None if stored["bpe"] is None else _tokenizer(stored["bpe"])

    @property
    def size(self) -> int:
        """One more than the largest id."""
        return self.first_ngram + (self.settings.hash_buckets or len(self.ngrams))

    def encode(self, text: str) -> tuple[list[int], list[int]]:
        """Return the ids of a text's tokens in order, and those of its n-grams."""
        cased = _cased(text, self.settings)
        sequence = _sequence(cased, self.settings, self.tokenizer)
        return self.tokens_of(sequence), self.ngrams_of(dict.fromkeys(ngrams(cased, self.settings)))

    def tokens_of(self, sequence: Sequence[str]) -> list[int]:
        return [self.tokens.get(token, UNKNOWN) for token in sequence]

    def ngrams_of(self, grams: Iterable[str]) -> list[int]:
        if (buckets := self.settings.hash_buckets) is not None:
            shared = (self.first_ngram + zlib.crc32(gram.encode()) % buckets for gram in grams)
            return list(dict.fromkeys(shared))
        return [number for gram in grams if (number := self.ngrams.get(gram)) is not None]


def _cased(text: str, settings: TextSettings) -> str:
    return text.lower() if settings.lowercase else text


def _sequence(text: str, settings: TextSettings, tokenizer: Any) -> list[str]:
    """Return what a network reads in order."""
    if settings.tokens == "bpe":
        pairs: list[str] = tokenizer.encode(text).tokens
        return pairs[: settings.max_tokens]
    if settings.tokens == "characters":
        return list(text[: settings.max_tokens])
    return WORDS.findall(text)[: settings.max_tokens]


def _most_frequent(rows: Iterable[Iterable[str]], most: int, least_rows: int) -> dict[str, int]:
    """Return the words in the most rows, and in how many each is; of equal ones the first by the alphabet."""
    counts: Counter[str] = Counter()
    for row in rows:
        counts.update(dict.fromkeys(row, 1).keys())
    ranked = sorted((-count, name) for name, count in counts.items() if count >= least_rows)
    return {name: -count for count, name in ranked[:most]}


def _tokenizers() -> Any:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # threads, and then a warning at every fork
    try:
        import tokenizers
    except ImportError:
        raise UserError(
            f"data.tokens is bpe, which the package tokenizers learns, and it is not installed: {INSTALL}. Or take "
            "data.tokens=words."
        ) from None
    return tokenizers


def _learned_pairs(contents: Sequence[str], settings: TextSettings) -> str:
    """Return a tokenizer of byte pairs in JSON, learned from these texts."""
    library = _tokenizers()
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = library.trainers.BpeTrainer(
        vocab_size=settings.vocabulary,
        min_frequency=settings.min_rows,
        initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(contents, trainer)
    learned: str = tokenizer.to_str()
    return learned


def _tokenizer(content: str) -> Any:
    return _tokenizers().Tokenizer.from_str(content)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
