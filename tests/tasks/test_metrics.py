import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from hypermap.core.errors import UserError
from hypermap.tasks.metrics import (
    calibration_bins,
    calibration_error,
    classification,
    classification_of,
    higher_is_better,
    percentiles,
    regression,
    regression_of,
)
from support.tasks import intervals, resamples

NAMES = [
    "accuracy",
    "balanced_accuracy",
    "precision",
    "recall",
    "f1",
    "roc_auc",
    "log_loss",
    "calibration_error",
]


def predictions(rows, classes, seed=0, hits=2.0):
    generator = np.random.default_rng(seed)
    targets = generator.integers(classes, size=rows)
    logits = generator.normal(size=(rows, classes))
    logits[np.arange(rows), targets] += hits
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return targets, probabilities


def test_values_are_those_of_scikit_learn():
    targets, probabilities = predictions(300, 4)
    predicted = probabilities.argmax(axis=1)
    values = classification(targets, probabilities)
    assert list(values) == NAMES
    assert values["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(targets, predicted))
    assert values["roc_auc"] == pytest.approx(sk.roc_auc_score(targets, probabilities, multi_class="ovr"))
    assert values["f1"] == pytest.approx(sk.f1_score(targets, predicted, average="macro"))
    assert values["log_loss"] == pytest.approx(-np.log(probabilities[np.arange(300), targets]).mean())


def of_scikit_learn(targets, probabilities):
    """What scikit-learn says, each class by itself where there are more than two."""
    predicted = probabilities.argmax(axis=1)
    macro = {"average": "macro", "zero_division": 0.0}
    classes = probabilities.shape[1]
    ranked = [1] if classes == 2 else np.unique(targets)
    shares = probabilities / probabilities.sum(axis=1, keepdims=True)
    figures = {
        "accuracy": sk.accuracy_score(targets, predicted),
        "balanced_accuracy": sk.recall_score(targets, predicted, labels=np.unique(targets), **macro),
        "precision": sk.precision_score(targets, predicted, **macro),
        "recall": sk.recall_score(targets, predicted, **macro),
        "f1": sk.f1_score(targets, predicted, **macro),
        "log_loss": sk.log_loss(targets, shares, labels=np.arange(classes)),
    }
    if len(np.unique(targets)) > 1:
        figures["roc_auc"] = np.mean([sk.roc_auc_score(targets == k, probabilities[:, k]) for k in ranked])
    return figures


def held_to_scikit_learn(targets, probabilities):
    values, expected = classification(targets, probabilities), of_scikit_learn(targets, probabilities)
    assert values.keys() - {"calibration_error"} == expected.keys()
    assert {name: values[name] for name in expected} == pytest.approx(expected, rel=1e-12, abs=1e-14)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("digits", [0, 1, 15])
@pytest.mark.parametrize("rows", [1, 2, 7, 300])
def test_every_value_is_that_of_scikit_learn_with_ties_and_classes_without_rows_too(classes, digits, rows):
    for seed in range(3):
        targets, probabilities = predictions(rows, classes, seed, hits=1.0)
        probabilities = np.round(probabilities, digits)  # to 0 digits: certain, or a sum that is not 1
        probabilities[probabilities.sum(axis=1) == 0] = 1 / classes
        held_to_scikit_learn(targets, probabilities)


@pytest.mark.filterwarnings("error")
def test_every_value_is_that_of_scikit_learn_where_classes_are_never_right_or_never_predicted():
    targets, probabilities = predictions(90, 5)
    held_to_scikit_learn(np.where(targets == 2, 3, targets), probabilities)  # predicted, and without a row
    probabilities[:, 4] = 0.0
    held_to_scikit_learn(targets, probabilities)  # with rows, and never predicted
    held_to_scikit_learn(np.zeros(90, np.int64), probabilities)
    held_to_scikit_learn(targets, np.full((90, 5), 0.2))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("rows", [2, 3, 500])
def test_every_value_of_a_regression_is_that_of_scikit_learn(rows):
    generator = np.random.default_rng(rows)
    targets = generator.normal(1e4, 3, size=rows)
    values = targets + generator.normal(size=rows)
    constant = np.full(rows, 2.0)
    for actual, predicted in [(targets, values), (targets, targets), (constant, values), (constant, constant)]:
        expected = {
            "rmse": sk.root_mean_squared_error(actual, predicted),
            "mae": sk.mean_absolute_error(actual, predicted),
            "r2": sk.r2_score(actual, predicted),
        }
        assert regression(actual, predicted) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_predictions_that_are_not_finite_are_refused(odd):
    targets, probabilities = predictions(20, 3)
    probabilities[3, 1] = odd
    with pytest.raises(ValueError, match="not finite"):
        classification(targets, probabilities)
    with pytest.raises(ValueError, match="not finite"):
        regression(targets * 1.0, probabilities[:, 1])


def test_two_classes_have_the_area_of_class_1():
    targets, probabilities = predictions(80, 2, hits=0.5)
    expected = sk.roc_auc_score(targets, probabilities[:, 1])
    assert classification(targets, probabilities)["roc_auc"] == pytest.approx(expected)


def test_probabilities_of_32_bits_draw_no_warning(recwarn):
    targets, probabilities = predictions(50, 3)
    classification(targets, (probabilities * 1.000001).astype(np.float32))
    assert not recwarn


@pytest.mark.filterwarnings("error")
def test_a_class_without_rows_is_left_out_of_the_area():
    targets, probabilities = predictions(60, 4)
    targets[targets == 3] = 0
    values = classification(targets, probabilities)
    expected = np.mean([sk.roc_auc_score(targets == k, probabilities[:, k]) for k in range(3)])
    assert values["roc_auc"] == pytest.approx(expected)
    assert "roc_auc" not in classification(np.zeros(60, np.int64), probabilities)
    assert set(intervals(targets, probabilities, task="classification", repeats=50)) == set(NAMES)
    assert "roc_auc" not in intervals(np.zeros(60, np.int64), probabilities, task="classification", repeats=5)


def test_calibration_error_by_hand():
    # Bins of a width of 1/15: 0.9 and 0.92 share (13/15, 14/15], 0.6 ends (8/15, 9/15], 0.7 lies in (10/15, 11/15].
    confidence = np.array([0.9, 0.92, 0.6, 0.7])
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    targets = np.array([0, 1, 0, 0])
    by_hand = (2 * abs(0.5 - 0.91) + abs(1 - 0.6) + abs(1 - 0.7)) / 4
    assert calibration_error(targets, probabilities) == pytest.approx(by_hand)
    assert list(np.flatnonzero(calibration_bins(targets, probabilities)[2])) == [8, 10, 13]


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("ties", [False, True])
def test_a_resample_has_the_values_of_scikit_learn_with_weights(classes, ties):
    targets, probabilities = predictions(200, classes)
    if ties:
        probabilities = np.round(probabilities, 1) + 1e-3
        probabilities /= probabilities.sum(axis=1, keepdims=True)
    counts = np.random.default_rng(1).multinomial(200, np.full(200, 1 / 200), size=3).T.astype(float)
    resampled = classification_of(targets, probabilities)(counts)
    predicted = probabilities.argmax(axis=1)
    for k, weights in enumerate(counts.T):
        macro = {"average": "macro", "sample_weight": weights}
        scores = probabilities[:, 1] if classes == 2 else probabilities
        expected = {
            "accuracy": sk.accuracy_score(targets, predicted, sample_weight=weights),
            "balanced_accuracy": sk.balanced_accuracy_score(targets, predicted, sample_weight=weights),
            "precision": sk.precision_score(targets, predicted, **macro),
            "recall": sk.recall_score(targets, predicted, **macro),
            "f1": sk.f1_score(targets, predicted, **macro),
            "roc_auc": sk.roc_auc_score(targets, scores, multi_class="ovr", sample_weight=weights),
            "log_loss": sk.log_loss(targets, probabilities, sample_weight=weights),
        }
        assert {name: resampled[name][k] for name in expected} == pytest.approx(expected)


def test_a_resample_without_a_class_has_the_values_of_the_rows_drawn():
    targets, probabilities = predictions(40, 4)
    counts = np.random.default_rng(2).integers(3, size=40) * (targets != 2)
    drawn = np.repeat(np.arange(40), counts)
    resampled = classification_of(targets, probabilities)(counts[:, None].astype(float))
    expected = classification(targets[drawn], probabilities[drawn])
    assert {name: values[0] for name, values in resampled.items()} == pytest.approx(expected)


def test_a_resample_of_numbers_has_the_values_of_scikit_learn_with_weights():
    generator = np.random.default_rng(0)
    targets = generator.normal(1e4, 3, size=50)
    values = targets + generator.normal(size=50)
    weights = generator.multinomial(50, np.full(50, 1 / 50)).astype(float)
    resampled = {name: v[0] for name, v in regression_of(targets, values)(weights[:, None]).items()}
    assert resampled["rmse"] == pytest.approx(sk.root_mean_squared_error(targets, values, sample_weight=weights))
    assert resampled["mae"] == pytest.approx(sk.mean_absolute_error(targets, values, sample_weight=weights))
    assert resampled["r2"] == pytest.approx(sk.r2_score(targets, values, sample_weight=weights))
    assert list(regression(targets, values)) == list(resampled) == ["rmse", "mae", "r2"]


@pytest.mark.filterwarnings("error")
def test_a_single_row_has_no_r2():
    assert list(regression(np.ones(1), np.zeros(1))) == ["rmse", "mae"]
    assert list(intervals(np.ones(1), np.zeros(1), task="regression", repeats=5)) == ["rmse", "mae"]


STATISTICS = {
    "f1": lambda targets, scores: sk.f1_score(targets, scores > 0.5, average="macro"),
    "roc_auc": sk.roc_auc_score,
    "log_loss": sk.log_loss,
    "calibration_error": lambda targets, scores: calibration_error(targets, np.stack([1 - scores, scores], axis=1)),
}


@pytest.mark.parametrize("name", STATISTICS)
def test_intervals_are_those_of_scipy(name):
    targets, probabilities = predictions(80, 2, hits=1.0)
    ours = intervals(targets, probabilities, task="classification", repeats=4000)[name]
    theirs = stats.bootstrap(
        (targets, probabilities[:, 1]),
        STATISTICS[name],
        paired=True,
        vectorized=False,
        n_resamples=400,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    # The 2.5 % quantile of 400 draws has a standard error of about 0.13 of their deviation.
    assert ours == pytest.approx(theirs.confidence_interval, abs=0.5 * theirs.standard_error)


def test_regression_intervals_are_those_of_scipy():
    generator = np.random.default_rng(3)
    targets = generator.normal(size=100)
    values = targets + generator.normal(size=100)
    ours = intervals(targets, values, task="regression", repeats=5000, confidence=0.9)["r2"]
    theirs = stats.bootstrap(
        (targets, values),
        sk.r2_score,
        paired=True,
        vectorized=False,
        n_resamples=2000,
        confidence_level=0.9,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    assert ours == pytest.approx(theirs.confidence_interval, abs=0.3 * theirs.standard_error)


def test_95_percent_intervals_hold_the_truth_about_95_times_in_100():
    held = 0
    for seed in range(200):
        correct = np.random.default_rng(seed).random(200) < 0.8
        low, high = intervals(
            np.zeros(200, np.int64),
            np.stack([correct * 0.8 + 0.1, 0.9 - correct * 0.8], axis=1),
            task="classification",
            repeats=300,
            seed=seed,
        )["accuracy"]
        held += low <= 0.8 <= high
    assert 180 <= held <= 199  # binomial(200, 0.95) within four standard errors, and a little for few resamples


def test_the_seed_decides_and_the_chunk_does_not(monkeypatch):
    targets, probabilities = predictions(120, 3)
    first = intervals(targets, probabilities, task="classification", repeats=60)
    assert intervals(targets, probabilities, task="classification", repeats=60, seed=1) != first
    monkeypatch.setattr("hypermap.tasks.metrics.CHUNK", 1000)
    again = intervals(targets, probabilities, task="classification", repeats=60)
    assert again == {name: pytest.approx(bounds) for name, bounds in first.items()}


@pytest.mark.parametrize("name", ["accuracy", "balanced_accuracy", "precision", "recall", "f1", "roc_auc", "r2"])
def test_more_is_better(name):
    assert higher_is_better(name)


@pytest.mark.parametrize(
    "name", ["loss", "log_loss", "calibration_error", "rmse", "mae", "parameters", "latency_ms", "seconds"]
)
def test_less_is_better(name):
    assert not higher_is_better(name)


def test_every_metric_has_a_direction_and_an_unknown_one_is_refused():
    targets, probabilities = predictions(60, 3)
    for name in [*classification(targets, probabilities), *regression(targets * 1.0, targets + 0.5)]:
        assert isinstance(higher_is_better(name), bool)
    with pytest.raises(UserError, match=r"no metric 'acuracy' \(did you mean 'accuracy'.*There are: accuracy, "):
        higher_is_better("acuracy")


def test_equal_seeds_draw_equal_rows_so_that_differences_are_paired():
    """One prediction is off by the number of rows: each resample's error is how often that row was drawn."""
    generator = np.random.default_rng(0)
    targets, rows = generator.normal(size=40), 40
    model = targets + generator.normal(size=rows)
    other = model + np.where(np.arange(rows) == 7, 1000.0 * rows * np.sign(model - targets), 0.0)
    mine, others = (resamples(targets, values, task="regression", repeats=300) for values in (model, other))
    drawn = (others["mae"] - mine["mae"]) / 1000
    np.testing.assert_allclose(drawn, drawn.round(), atol=1e-9)
    assert drawn.mean() == pytest.approx(1, abs=0.2)
    assert drawn.min() == 0
    assert resamples(targets, model, task="regression", repeats=300, seed=1)["mae"].tolist() != mine["mae"].tolist()


def test_a_paired_interval_is_narrower_than_two_that_are_not():
    targets, probabilities = predictions(rows=400, classes=3)
    flipped = probabilities.copy()
    flipped[:8] = np.roll(flipped[:8], 1, axis=1)  # two models that differ in eight rows
    mine, others = (resamples(targets, values, task="classification") for values in (probabilities, flipped))
    low, high = percentiles({"accuracy": mine["accuracy"] - others["accuracy"]}, 0.95)["accuracy"]
    alone = intervals(targets, probabilities, task="classification")["accuracy"]
    assert high - low < 0.5 * (alone[1] - alone[0])
