import itertools
import math

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial
from scipy import integrate, stats

from hypermap.reports.study.noise import chance, noise
from hypermap.reports.study.reading import read
from hypermap.reports.study.statistics import best_of_n, difference, estimate, optimism
from hypermap.reports.study.view import BASELINE, Confirmed, Parameter, StudyData, TrialData
from hypermap.search.study import RESULT

FEW, MORE = [0.91, 0.93, 0.90], [0.88, 0.90, 0.87, 0.895, 0.89]


def view(trials=(), direction="maximize", axes=(), **others):
    return StudyData("study", ("score",), (direction,), tuple(axes), tuple(trials), optuna.create_study(), **others)


def tried(number, value, **others):
    return TrialData(number=number, outcome="complete", values=(value,), **others)


def lucky(n):
    """The expected maximum of n independent standard normals."""
    return integrate.quad(lambda x: x * n * stats.norm.pdf(x) * stats.norm.cdf(x) ** (n - 1), -10, 10)[0]


# Means and differences


@pytest.mark.parametrize("confidence", [0.5, 0.95])
def test_a_mean_has_scipys_interval(confidence):
    found = estimate(MORE, confidence)
    expected = stats.t.interval(confidence, 4, loc=np.mean(MORE), scale=stats.sem(MORE))
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-12)
    assert (found.mean, found.sd, found.n) == pytest.approx((np.mean(MORE), np.std(MORE, ddof=1), 5))


def test_one_score_has_a_mean_and_nothing_else():
    found = estimate([0.5], 0.95)
    assert (found.mean, found.sd, found.n, found.low, found.high) == (0.5, None, 1, None, None)


def test_equal_scores_have_an_interval_without_width():
    found = estimate([0.5, 0.5, 0.5], 0.95)
    assert (found.sd, found.low, found.high) == (0, 0.5, 0.5)


def test_no_scores_have_no_mean():
    with pytest.raises(ValueError, match="no scores"):
        estimate([], 0.95)


def test_a_difference_is_welchs():
    found, expected = difference(FEW, MORE, 1, 0.9), stats.ttest_ind(FEW, MORE, equal_var=False)
    interval = expected.confidence_interval(0.9)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-12)
    assert found.mean == pytest.approx(np.mean(FEW) - np.mean(MORE))
    less = stats.ttest_ind(FEW, MORE, equal_var=False, alternative="greater")
    assert found.probability == pytest.approx(1 - less.pvalue, rel=1e-12)


def test_of_losses_the_smaller_is_probably_better():
    more, less = difference(FEW, MORE, 1, 0.9), difference(FEW, MORE, -1, 0.9)
    assert less.mean == more.mean
    assert less.probability == pytest.approx(1 - more.probability)


@pytest.mark.parametrize(("one", "other", "sign", "probability"), [
    ([1, 1], [1, 1, 1], 1, 0.5),
    ([2, 2], [1, 1], 1, 1.0),
    ([2, 2], [1, 1], -1, 0.0),
])  # fmt: skip
def test_constants_are_equal_or_surely_not(one, other, sign, probability):
    found = difference(one, other, sign, 0.95)
    assert (found.low, found.high, found.probability) == (found.mean, found.mean, probability)


def test_of_one_score_no_more_than_the_difference_is_known():
    found = difference([0.9], MORE, 1, 0.95)
    assert (found.low, found.high, found.probability) == (None, None, None)


# Best of n


def test_the_best_of_n_is_the_mean_over_all_sets_of_n():
    scores = [3.0, 1.0, 4.0, 1.0, 5.0]
    for row in best_of_n(scores, range(1, 6), 1, 0.95, 100, 0):
        assert row.mean == pytest.approx(np.mean([max(few) for few in itertools.combinations(scores, row.n)]))


def test_the_best_of_n_of_the_numbers_to_1000_is_known():
    rows = best_of_n(range(1, 1001), [1, 10, 250, 1000], 1, 0.95, 100, 0)
    assert [row.mean for row in rows] == pytest.approx([n * 1001 / (n + 1) for n in (1, 10, 250, 1000)])


def test_the_band_of_the_best_of_n_is_scipys_bootstrap():
    scores = np.sort(np.random.default_rng(0).normal(size=12))

    def best_of_three(resampled):
        return np.mean([max(few) for few in itertools.combinations(resampled, 3)])

    (row,) = best_of_n(scores, [3], 1, 0.95, 200, 5)
    found = stats.bootstrap((scores,), best_of_three, n_resamples=200, rng=5, method="percentile", vectorized=False)
    assert (row.low, row.high) == pytest.approx((found.confidence_interval.low, found.confidence_interval.high))


def test_the_best_of_n_of_losses_is_the_mirror_image():
    scores = np.random.default_rng(0).normal(size=20)
    more, less = best_of_n(scores, [3, 20], 1, 0.95, 100, 0), best_of_n(-scores, [3, 20], -1, 0.95, 100, 0)
    for one, other in zip(more, less, strict=True):
        assert (other.mean, other.low, other.high) == (-one.mean, -one.high, -one.low)


@pytest.mark.parametrize(("scores", "sizes"), [([], [1]), ([1.0, 2.0], [0, 3]), ([math.inf, math.nan], [1])])
def test_what_is_no_number_of_trials_has_no_best(scores, sizes):
    assert best_of_n(scores, sizes, 1, 0.95, 100, 0) == []


# Optimism


@pytest.mark.parametrize("n", [1, 2, 10, 30])
def test_of_equal_configurations_the_best_is_nothing_but_luck(n):
    drawn = np.random.default_rng(n).normal(0.7, 0.02, (200, n))
    found = [optimism(scores, 0.02, 1, 0.95, seed) for seed, scores in enumerate(drawn)]
    expected = 0.02 * lucky(n)
    assert np.mean([each.optimism for each in found]) == pytest.approx(expected, rel=0.15)
    assert np.mean([each.low <= 0.7 <= each.high for each in found]) >= 0.9


def test_the_expected_luck_is_what_it_is_for_two_known_means():
    means, sd = np.array([0.0, 1.0]), 1.0
    drawn = means + np.random.default_rng(0).normal(0, sd, (1000, 2))
    found = np.mean([optimism(scores, sd, 1, 0.95, 0).optimism for scores in drawn])
    spread = math.sqrt(2) * sd  # the noise of the winner has mean spread * density(gap / spread), Clark (1961)
    assert found == pytest.approx(spread * stats.norm.pdf(1 / spread), rel=0.15)


def test_without_noise_the_best_is_as_good_as_it_looks():
    found = optimism([0.7, 0.9, 0.8], 0, 1, 0.95, 0)
    assert (found.raw, found.corrected, found.optimism, found.low, found.high, found.n) == (0.9, 0.9, 0, 0.9, 0.9, 3)


def test_a_best_score_far_ahead_has_the_ordinary_interval():
    found = optimism([0.9] + [0.1] * 9, 0.01, 1, 0.95, 0)
    assert (found.corrected, found.optimism) == (0.9, 0)
    assert (found.low, found.high) == pytest.approx(stats.norm.interval(0.95, 0.9, 0.01), abs=5e-4)


def test_a_noise_that_few_scores_told_widens_the_interval_as_students_t_does():
    found = optimism([0.9] + [0.1] * 9, 0.01, 1, 0.95, 0, freedom=6)
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.95, 6, 0.9, 0.01), abs=5e-4)


def test_bad_scores_make_no_difference():
    good = [0.9, 0.91, 0.89]
    alone, crowded = optimism(good, 0.01, 1, 0.95, 0), optimism([*good, *[0.1] * 500, -math.inf], 0.01, 1, 0.95, 0)
    assert crowded.optimism == alone.optimism
    assert crowded.n == 503


def test_scores_more_alike_than_the_noise_allows_are_not_corrected_without_end():
    scores = np.random.default_rng(0).normal(0, 0.01, 1000)
    found = optimism(scores, 1, 1, 0.95, 0)
    assert found.low <= found.corrected
    assert found.optimism < stats.norm.isf(0.005 / 2 / 1000)  # what the noise of any of so many hardly exceeds


def test_optimism_of_losses_is_the_mirror_image():
    scores = np.random.default_rng(0).normal(size=30)
    more, less = optimism(scores, 0.5, 1, 0.95, 0), optimism(-scores, 0.5, -1, 0.95, 0)
    assert more.optimism == less.optimism > 0
    assert (less.raw, less.corrected, less.low, less.high) == (-more.raw, -more.corrected, -more.high, -more.low)
    assert more.corrected == more.raw - more.optimism
    assert more.low <= more.corrected <= more.high


def test_optimism_is_the_same_each_time():
    scores = np.random.default_rng(0).normal(size=1000).tolist()
    assert optimism(scores, 0.5, 1, 0.95, 7) == optimism(scores, 0.5, 1, 0.95, 7)


@pytest.mark.parametrize("scores", [[1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 0.9], [1.0, 1.0 - 1e-16, 0.9]])
def test_the_interval_of_few_and_of_equal_scores_is_wider_than_the_noise(scores):
    found = optimism(scores, 0.1, 1, 0.95, 0)
    assert found.low <= found.corrected <= found.high
    assert found.high - found.low > 0.1


@pytest.mark.parametrize(("scores", "sd"), [([], 1.0), ([math.inf], 1.0), ([1.0], math.nan), ([1.0], math.inf)])
def test_without_scores_or_noise_there_is_no_optimism(scores, sd):
    assert optimism(scores, sd, 1, 0.95, 0) is None


# Noise


def test_retrainings_tell_the_noise_about_each_configurations_own_mean():
    confirmed = (
        Confirmed(3, (0.90, 0.92, 0.94)),
        Confirmed(1, (0.80, 0.84)),
        Confirmed(2, (0.5,)),
        Confirmed(BASELINE, ()),
    )
    found = noise(view(confirmed=confirmed))
    assert found.sd == pytest.approx(math.sqrt((2 * 0.02**2 + 2 * 0.02**2) / 3))
    assert (found.source, found.n, found.freedom) == ("5 retrainings of 2 configurations", 5, 3)


def test_the_noise_of_a_mean_of_fits_leaves_out_what_trials_and_folds_have_in_common():
    rng = np.random.default_rng(0)
    trial, fold = rng.normal(0, 1, (60, 1)), np.array([0.0, 5.0, -3.0, 1.0])
    table = trial + fold + rng.normal(0, 0.1, (60, 4))
    trials = [tried(k, row.mean(), scores=tuple(row)) for k, row in enumerate(table)]
    best = table[np.argsort(-table.mean(axis=1))[:20]]
    frame = best - best.mean(axis=0) - best.mean(axis=1, keepdims=True) + best.mean()
    found = noise(view(trials))
    assert found.sd == pytest.approx(math.sqrt((frame**2).sum() / (19 * 3) / 4))
    assert found.sd == pytest.approx(0.1 / 2, rel=0.25)
    assert (found.source, found.n, found.freedom) == ("4 fits of each of 20 trials", 80, 19 * 3)


def test_folds_that_differ_only_between_folds_have_no_noise():
    trials = [tried(k, 1.0 + k, scores=(0.5 + k, 1.5 + k)) for k in range(4)]
    assert noise(view(trials)).sd == pytest.approx(0, abs=1e-12)


def test_equal_trials_with_other_seeds_tell_the_noise():
    axes = [Parameter("x", "x", FloatDistribution(0, 1)), Parameter("s", "seed", CategoricalDistribution([0, 1, 2]))]
    trials = [
        tried(0, 0.9, params={"x": 0.1, "s": 0}),
        tried(1, 0.8, params={"x": 0.1, "s": 1}),
        tried(2, 0.7, params={"x": 0.5, "s": 0}),
        tried(3, 0.7, params={"x": 0.5, "s": 0}),  # the same again
    ]
    found = noise(view(trials, axes=axes))
    assert found.sd == pytest.approx(np.std([0.9, 0.8], ddof=1))
    assert (found.source, found.n) == ("2 trials of 1 configuration", 2)


def test_equal_trials_with_the_same_seed_tell_nothing():
    same = [tried(k, 0.9 - k / 10, params={"x": 0.1}, seed=5) for k in range(2)]
    assert noise(view(same)) is None
    other = [tried(k, 0.9 - k / 10, params={"x": 0.1}, seed=k) for k in range(2)]
    assert noise(view(other)).n == 2


def test_late_curves_stand_in_where_nothing_was_trained_twice():
    steps, rng = np.arange(1, 401), np.random.default_rng(0)
    reports = {int(step): 0.9 + step / 1e4 + rng.normal(0, 0.01) for step in steps}
    found = noise(view([tried(0, 0.95, reports=reports, params={"x": 0.1})]))
    assert found.sd == pytest.approx(0.01, rel=0.2)
    assert "stand-in" in found.source
    assert found.stands_in
    assert found.n == 200


def test_a_curve_that_stands_still_moves_by_a_row_at_least():
    """Of 288 rows, as under a schedule that ends at nothing."""
    reports = dict(enumerate([0.5, 0.8, 0.9, *[280 / 288] * 4, 281 / 288, *[280 / 288] * 4], 1))
    assert noise(view([tried(0, 0.95, reports=reports, params={"x": 0.1})])).sd >= 1 / 288 - 1e-9


def test_reports_of_fits_are_no_curve():
    trials = [tried(0, 0.5, reports={k: k % 3 for k in range(1, 30)}, scores=(0.5,))]
    assert noise(view(trials, fixed={"validation.name": "kfold"})) is None


@pytest.mark.parametrize("trials", [
    [],
    [tried(0, 0.5)],
    [tried(0, 0.5, scores=(0.4, 0.6))],
    [tried(0, 0.5, scores=(0.4, 0.6)), tried(1, 0.5, scores=(0.4, 0.5, 0.6))],
    [tried(k, 0.5, params={"x": 1}) for k in range(3)],
    [tried(0, 0.5, reports=dict.fromkeys(range(50), 0.5))],
    [tried(0, 0.5, reports={1: math.nan, 2: math.inf})],
    [TrialData(number=0, outcome="pruned", reports={1: 0.5}), TrialData(number=1, outcome="failed")],
])  # fmt: skip
def test_of_too_little_nothing_is_said(trials):
    assert noise(view(trials)) is None


def test_a_study_as_optuna_keeps_it_tells_its_noise():
    study = optuna.create_study(direction="minimize")
    for seed, value in enumerate([0.2, 0.4]):
        study.add_trial(
            create_trial(
                state=TrialState.COMPLETE,
                value=value,
                params={"x": 0.5},
                distributions={"x": FloatDistribution(0, 1)},
                user_attrs={RESULT: {"outcome": "complete", "seed": seed}},
            )
        )
    assert noise(read(study)).sd == pytest.approx(math.sqrt(0.02))


def test_the_share_of_chance_is_the_noises_of_the_variance():
    seen = view(confirmed=[Confirmed(0, (0.0, 2.0)), Confirmed(1, (0.0, 2.0))])  # each pair has a variance of 2
    assert chance(seen, [0.0, 4.0]) == pytest.approx(2 / 8)
    assert chance(seen, [0.0, 1.0]) == 1  # no more than all of it
    assert chance(seen, [3.0, 3.0]) is None
    assert chance(view(), [0.5, 0.6]) is None


def test_scores_whose_squares_are_no_numbers_tell_no_noise():
    reports = {k: 1e300 * (2 + (-1) ** k) for k in range(1, 11)}
    assert noise(view([tried(0, 1e300, reports=reports)])) is None
