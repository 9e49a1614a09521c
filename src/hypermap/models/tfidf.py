"""TF-IDF with logistic regression: what a network for texts has to beat."""

from typing import Any, ClassVar

import numpy as np
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator, TransformerMixin

from hypermap.core.typing import Array
from hypermap.data.preprocessors.text import FIRST
from hypermap.models.sklearn_models import ClassWeight, SklearnModel, TrainingData


class TfidfLogistic(SklearnModel):
    """Logistic regression on the tokens and n-grams of a text, weighted by TF-IDF.

    A count is 1 + its logarithm, times the smooth inverse document frequency, and a row's norm is 1, as scikit-learn's
    `TfidfVectorizer` does with ``sublinear_tf``.

    Args:
        vocabulary_size: ids are below it.
        C: inverse regularization strength: smaller values keep the weights smaller.
        max_iter: of the solver.
        tolerance: of the solver: the largest slope at which it stops.
        class_weight: ``balanced`` weights every class equally.
    """

    inputs: ClassVar = frozenset({"ids"})
    trusted: ClassVar = ("hypermap.models.tfidf.TokenCounts",)

    def __init__(
        self,
        vocabulary_size: int,
        C: float = 10.0,  # noqa: N803, scikit-learn's name and the literature's
        max_iter: int = 200,
        tolerance: float = 1e-4,
        class_weight: ClassWeight = None,
    ) -> None:
        self.vocabulary_size = vocabulary_size
        self.values = {"C": C, "max_iter": max_iter, "tol": tolerance}
        self.class_weight = class_weight

    def fit(self, problem: TrainingData) -> Any:
        """Return a pipeline of counts, TfidfTransformer and LogisticRegression."""
        from sklearn.feature_extraction.text import TfidfTransformer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        return make_pipeline(
            TokenCounts(self.vocabulary_size),
            TfidfTransformer(sublinear_tf=True),
            LogisticRegression(**self.values, class_weight=self.class_weight),
        ).fit(*problem.train)


class TokenCounts(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """How often each id is in a row ``(rows, tokens)``: sparse ``(rows, vocabulary_size - 2)``."""

    def __init__(self, vocabulary_size: int = FIRST) -> None:
        self.vocabulary_size = vocabulary_size

    def fit(self, ids: Array, targets: Array | None = None) -> "TokenCounts":
        """Return itself: there is nothing to fit."""
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def transform(self, ids: Array) -> csr_array:
        """Return the counts, float64."""
        ids = np.asarray(ids).astype(np.int64)
        rows, columns = np.nonzero(ids >= FIRST)
        shape = (len(ids), self.vocabulary_size - FIRST)
        counts = csr_array((np.ones(len(rows)), (rows, ids[rows, columns] - FIRST)), shape=shape)
        counts.sum_duplicates()
        return counts
