"""TF-IDF with logistic regression, held to scikit-learn's own vectorizer on the texts themselves."""

import numpy as np
import pytest
import yaml
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from hypermap.core.errors import UserError
from hypermap.core.paths import CONF
from hypermap.data.prepared import load
from hypermap.data.preprocessor import Transform, read_transform
from hypermap.datasets.prepare import prepare_settings
from hypermap.models import baselines, sklearn_fit
from hypermap.models.inputs import resolve_input_spec
from support.own_texts import sentences, write_table

LINE = r"(?u)\w+|[^\w\s]"


def option(name, **values):
    return {"name": name, **yaml.safe_load((CONF / f"model/{name}.yaml").read_text()), **values}


@pytest.fixture
def prepared(tmp_path):
    for name, rows, seed in (("train", 80, 0), ("dev", 30, 1), ("test", 20, 2)):
        write_table(tmp_path / f"{name}.csv", rows, seed)
    prepare_settings(
        tmp_path / "prepared",
        {
            "_target_": "hypermap.datasets.texts.texts", "root": str(tmp_path), "path": "train.csv",
            "validation_path": "dev.csv", "test_path": "test.csv", "validation": None, "target": "class",
            "word_ngrams": 1, "character_ngrams": None,
        },
    )  # fmt: skip
    return tmp_path / "prepared"


def test_it_gives_what_scikit_learn_gives_for_the_texts(prepared, tmp_path):
    transform, choice = read_transform(prepared), option("tfidf_logistic", tolerance=1e-8)
    train, validation = (load(prepared, name) for name in ("train", "validation"))
    model = sklearn_fit.fit(choice, train, validation, transform, seed=0, threads=1)
    vectorizer = TfidfVectorizer(token_pattern=LINE, min_df=2, sublinear_tf=True)
    own = make_pipeline(vectorizer, LogisticRegression(C=10.0, max_iter=200, tol=1e-8)).fit(*sentences(80))
    wanted = own.predict_proba(sentences(30, seed=1)[0])
    np.testing.assert_allclose(model(validation.inputs), wanted, atol=1e-5)
    sklearn_fit.save(tmp_path / "model.skops", model)
    again = sklearn_fit.load(tmp_path / "model.skops", choice, transform, "Do it again.")
    np.testing.assert_array_equal(again(validation.inputs), model(validation.inputs))


def test_models_of_numbers_are_no_baselines_of_texts_and_are_refused(prepared, tmp_path):
    choices = [option("dummy"), option("random_forest"), option("tfidf_logistic")]
    assert baselines.fit({"models": choices}, prepared, tmp_path / "baselines") == ["dummy", "tfidf_logistic"]
    manifest = read_transform(prepared).manifest
    with pytest.raises(UserError, match=r"model=linear is fitted to numbers, and the rows of this data are ids: take"):
        sklearn_fit.make(option("linear"), Transform(manifest))
    with pytest.raises(
        UserError, match=r"model=mlp takes numbers, and the rows of this data are ids \(int32\): take a"
    ):
        resolve_input_spec(option("mlp"), manifest)


def test_it_is_refused_on_numbers(tmp_path):
    source = {"_target_": "hypermap.datasets.images.breast_cancer", "test": 0.2}
    manifest = prepare_settings(tmp_path / "prepared", source)
    with pytest.raises(
        UserError, match=r"model=tfidf_logistic is fitted to ids, and the rows of this data are numbers"
    ):
        sklearn_fit.make(option("tfidf_logistic"), Transform(manifest))
