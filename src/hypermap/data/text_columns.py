"""Columns of free text as columns of numbers: latent semantic analysis, fitted on training rows.

A text is counted as n-grams, weighed by TF-IDF, and projected to the first components of a truncated singular value
decomposition (Deerwester et al. 1990). That is what skrub's ``StringEncoder`` does, of scikit-learn's parts; with its
defaults, and fewer n-grams than `MOST_TERMS`, the numbers are the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from hypermap.core.errors import UserError, near

Ngrams = Literal["characters", "words"]

MOST_TERMS = 60_000
"""N-grams of a column at most, those that occur most often: a file of some MB with 30 components."""

LEAST_SHARE = 1e-5
"""Of the largest singular value: components below are rounding errors of float32, where texts hardly differ."""

ANALYZERS: dict[str, dict[str, Any]] = {
    "characters": {"analyzer": "char_wb", "ngram_range": (3, 4)},
    "words": {"analyzer": "word", "ngram_range": (1, 2)},
}


@dataclass(frozen=True)
class TextColumnSettings:
    """What becomes of the texts of a table. Construction checks the values.

    Attributes:
        text_components: columns of numbers that a column of text becomes, at most.
        text_ngrams: ``characters``: runs of 3 and 4 characters within words, which spelling and endings hardly
            disturb; ``words``: words, and pairs of neighbors.
        text_max_bytes: of a text in UTF-8; longer ones are cut.
    """

    text_components: int = 30
    text_ngrams: Ngrams = "characters"
    text_max_bytes: int = 4096

    def __post_init__(self) -> None:
        for name in ("text_components", "text_max_bytes"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UserError(f"data.{name} is {value!r}; it is a whole number, 1 or more.")
        if self.text_ngrams not in (allowed := get_args(Ngrams)):
            hint = near(str(self.text_ngrams), allowed)
            raise UserError(f"data.text_ngrams is {self.text_ngrams!r}; it is one of {', '.join(allowed)}{hint}.")

    @classmethod
    def of(cls, arguments: Mapping[str, Any]) -> Self:
        """Return the settings among the arguments of a reader."""
        return cls(**{own.name: arguments[own.name] for own in fields(cls) if own.name in arguments})


@dataclass(frozen=True, eq=False)
class TextEncoder:
    """A fitted encoder of one column.

    Attributes:
        ngrams: of which kind.
        terms: the n-grams.
        idf: their weights ``(terms,)`` float64.
        axes: ``(terms, components)`` float32, divided by the training rows' total standard deviation.
    """

    ngrams: str
    terms: tuple[str, ...]
    idf: NDArray[np.float64]
    axes: NDArray[np.float32]

    @classmethod
    def fit(cls, name: str, texts: Sequence[str], settings: TextColumnSettings) -> "TextEncoder":
        """Fit to the texts of training rows; the same texts give the same bits.

        Raises:
            UserError: there is no n-gram in them.
        """
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer
        from threadpoolctl import threadpool_limits

        vectorizer = TfidfVectorizer(**ANALYZERS[settings.text_ngrams], max_features=MOST_TERMS)
        try:
            weights = vectorizer.fit_transform(texts).astype(np.float32)
        except ValueError:  # an empty vocabulary
            raise UserError(_nothing_in(name, texts, settings)) from None
        # Several threads would add in any order. Texts that are all alike have no variance to explain.
        with threadpool_limits(1), np.errstate(divide="ignore", invalid="ignore"):
            svd = TruncatedSVD(min(settings.text_components, *weights.shape), random_state=0).fit(weights)
        values = svd.singular_values_
        axes = svd.components_[values > LEAST_SHARE * values[0]].T
        spread = float(np.sqrt((weights @ axes).var(axis=0, dtype=np.float64).sum()))
        scaled = axes / spread if spread > LEAST_SHARE else axes  # no spread: all texts are alike
        terms = tuple(str(term) for term in vectorizer.get_feature_names_out())
        return cls(settings.text_ngrams, terms, vectorizer.idf_, np.ascontiguousarray(scaled, np.float32))

    @property
    def width(self) -> int:
        """The number of components."""
        return int(self.axes.shape[1])

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return the components ``(rows, width)``; an empty text, or one of unknown n-grams, has zeros."""
        weights = self._vectorizer.transform(texts).astype(np.float32)
        return np.asarray(weights @ self.axes, np.float64)

    def as_entry(self) -> dict[str, Any]:
        """Return strings and arrays alone, as a file without pickle may hold them; no n-gram has a line break."""
        return {"ngrams": self.ngrams, "terms": "\n".join(self.terms), "idf": self.idf, "axes": self.axes}

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> "TextEncoder":
        """Return what `as_entry` made."""
        return cls(entry["ngrams"], tuple(entry["terms"].split("\n")), entry["idf"], entry["axes"])

    @cached_property
    def _vectorizer(self) -> Any:
        from sklearn.feature_extraction.text import TfidfVectorizer

        vectorizer = TfidfVectorizer(**ANALYZERS[self.ngrams], vocabulary=self.terms)
        vectorizer.idf_ = self.idf
        return vectorizer


def _nothing_in(name: str, texts: Sequence[str], settings: TextColumnSettings) -> str:
    filled = sum(bool(text.strip()) for text in texts)
    if not filled:
        found = f"which is empty in all of the {len(texts):,} training rows: leave it out of data.text"
    else:
        others = ": take data.text_ngrams=characters" if settings.text_ngrams == "words" else ": leave it out"
        found = f"whose {filled:,} texts in training rows have no {settings.text_ngrams} to count{others}"
    return f"data.text names {name!r}, {found}."
