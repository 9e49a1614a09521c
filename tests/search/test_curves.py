"""Curves read into a table: what trials come to, by what they have shown, and how far early scores can be believed."""

import math

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial
from scipy import stats

from hypermap.search import curves
from hypermap.search.curves import PRIOR_TAU, Agreement, CurveReader, Table, judged, rungs, second_half

RUNNING, PRUNED, COMPLETE = TrialState.RUNNING, TrialState.PRUNED, TrialState.COMPLETE


def trial(number: int, curve: list[float], state: TrialState = COMPLETE, value: float | None = None) -> FrozenTrial:
    """A trial that reported this curve; one that completed has its best value, unless another is given."""
    if state == COMPLETE and value is None:
        value = max(v for v in curve if math.isfinite(v))
    made = create_trial(state=state, value=value, intermediate_values=dict(enumerate(curve, 1)))
    made.number = made._trial_id = number
    return made


def read(trials: list[FrozenTrial], **settings) -> Table:
    return CurveReader(**settings).read(trials)


# What a complete trial is judged by.


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("count", [2, 5, 30])
def test_the_second_half_of_reports(sign, count):
    reports = np.random.default_rng(count).random(count)
    told = dict(reversed(list(enumerate([*reports, math.nan], 1))))
    best = reports.max() if sign > 0 else reports.min()
    assert second_half(best, told, sign) == pytest.approx(reports[count // 2 :].mean())


def test_a_value_that_is_not_the_best_of_several_reports_has_no_second_half():
    folds = {1: 0.4, 2: 0.6}
    assert second_half(0.5, folds, 1.0) is None  # the mean of two folds
    assert second_half(0.4, folds, 1.0) is None  # the worst, where more is better
    assert second_half(0.7, {}, 1.0) is None
    assert second_half(0.7, {1: 0.7}, 1.0) is None


def test_trials_are_judged_by_their_second_halves_on_the_level_of_their_values():
    curves = {0: (0.9, {1: 0.9, 2: 0.7}), 1: (0.8, {1: 0.1, 2: 0.8, 3: 0.75, 4: 0.8}), 2: (0.85, {})}
    above = (0.9 - 0.7 + 0.8 - 0.775) / 2
    assert judged(curves, 1.0) == pytest.approx({0: 0.7 + above, 1: 0.775 + above, 2: 0.85})


def test_second_halves_rank_trials_that_are_about_as_good_where_the_luckiest_epochs_do_not():
    rng = np.random.default_rng(0)
    truth = rng.normal(0.0, 1.0, 300)
    reports = truth[:, None] + rng.normal(0.0, 2.0, (300, 30))
    best = reports.max(1)
    scores = judged({number: (best[number], dict(enumerate(reports[number]))) for number in range(300)}, 1.0)
    assert stats.kendalltau(list(scores.values()), truth)[0] > stats.kendalltau(best, truth)[0] + 0.1


# Rungs.


@pytest.mark.parametrize(
    ("horizon", "expected"),
    [
        (1, [1]),
        (2, [1, 2]),
        (3, [1, 2, 3]),
        (4, [1, 2, 4]),
        (5, [1, 2, 5]),
        (10, [1, 2, 4, 10]),
        (12, [1, 2, 4, 8, 12]),
        (30, [1, 2, 4, 8, 16, 30]),
        (50, [1, 2, 4, 8, 16, 32, 50]),
    ],
)
def test_rungs_double_and_keep_away_from_the_end(horizon, expected):
    assert rungs(horizon) == expected


# Reading.


def test_a_score_is_the_best_so_far_at_each_rung_a_trial_has_reached():
    table = read([trial(0, [0.1, 0.3, 0.2, 0.25], RUNNING), trial(1, [0.5], PRUNED), trial(2, [], RUNNING)], horizon=8)
    assert table.rungs == [1, 2, 4, 8]
    assert table.last.tolist() == [4, 1, 0]
    nan = math.nan
    np.testing.assert_array_equal(table.scores, [[0.1, 0.3, 0.3, nan], [0.5, nan, nan, nan], [nan] * 4])
    assert not table.complete.any()
    assert not table.diverged.any()
    assert len(table) == 3


def test_of_folds_a_score_is_the_mean_so_far_and_not_the_best():
    folds = [0.4, 0.8, 0.6, 0.2, 0.5]
    [scores] = read([trial(0, folds, value=0.5)], horizon=5, mean=True).scores
    assert scores == pytest.approx([np.mean(folds[:1]), np.mean(folds[:2]), np.mean(folds[:5])])
    [best] = read([trial(0, folds, value=0.5)], horizon=5).scores
    assert best.tolist() == [0.4, 0.8, 0.8]


def test_where_less_is_better_signs_are_turned():
    """A report may be a loss where the objective is an accuracy, and the other way round."""
    table = read([trial(0, [0.9, 0.4], value=0.95)], sign=-1.0, final_sign=1.0, horizon=2)
    assert table.scores.tolist() == [[-0.9, -0.4]]
    assert table.finals.tolist() == [0.95]
    table = read([trial(0, [0.9, 0.4], value=0.3)], sign=1.0, final_sign=-1.0, horizon=2)
    assert table.scores.tolist() == [[0.9, 0.9]]
    assert table.finals.tolist() == [-0.3]


def test_an_early_stop_is_a_way_to_the_end():
    table = read([trial(0, [0.1, 0.7, 0.6])], horizon=16)
    assert table.scores.tolist() == [[0.1, 0.7, 0.7, 0.7, 0.7]]
    table = read([trial(0, [0.1, 0.7, 0.6], PRUNED)], horizon=16)
    np.testing.assert_array_equal(table.scores, [[0.1, 0.7, math.nan, math.nan, math.nan]])


def test_a_model_that_reports_nothing_has_its_value_alone():
    table = read([trial(0, [], value=0.8), trial(1, [0.5, 0.6])], horizon=2)
    assert table.scores.tolist() == [[0.8, 0.8], [0.5, 0.6]]
    assert table.last.tolist() == [0, 2]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_reports_that_are_not_finite_say_nothing(bad):
    [scores] = read([trial(0, [bad, 0.4, bad, 0.3], RUNNING)], horizon=4).scores
    np.testing.assert_array_equal(scores, [math.nan, 0.4, 0.4])


def test_a_trial_that_diverged_is_marked():
    trials = [trial(0, [0.4], value=-math.inf), trial(1, [0.4, 0.5]), trial(2, [0.1], PRUNED)]
    table = read(trials, horizon=2)
    assert table.diverged.tolist() == [True, False, False]
    assert table.complete.tolist() == [True, True, False]
    np.testing.assert_array_equal(table.finals, [math.nan, 0.5, math.nan])


def test_without_a_horizon_the_rungs_follow_the_longest_trial():
    reader = CurveReader()
    trials = [trial(0, [0.1, 0.2], RUNNING)]
    assert reader.read(trials).rungs == [1, 2]
    trials.append(trial(1, [0.1, 0.2, 0.3, 0.4, 0.5], RUNNING))
    table = reader.read(trials)
    assert table.rungs == [1, 2, 5]
    np.testing.assert_array_equal(table.scores, [[0.1, 0.2, math.nan], [0.1, 0.2, 0.5]])
    assert reader.read([]).rungs == [1]


def test_what_has_not_changed_is_not_read_again_and_what_has_is(monkeypatch):
    study = optuna.create_study(direction="maximize")
    running = [study.ask() for _ in range(3)]
    reader, seen = CurveReader(horizon=4), []
    scores = CurveReader._scores
    monkeypatch.setattr(CurveReader, "_scores", lambda self, t, steps: seen.append(t.number) or scores(self, t, steps))
    for number, one in enumerate(running):
        one.report(0.1 * number, 1)
    reader.read(study.get_trials(deepcopy=False))
    running[1].report(0.7, 2)
    again = reader.read(study.get_trials(deepcopy=False))
    assert seen == [0, 1, 2, 1]
    np.testing.assert_array_equal(again.scores, CurveReader(horizon=4).read(study.get_trials()).scores)


# What trials are expected to come to.


def simulated(rng: np.random.Generator, n: int = 2_000, gain: float = 3.0) -> tuple[np.ndarray, Table]:
    """Scores at two rungs, normal together, of which the second is known of the better half by the first alone."""
    first = rng.standard_normal(n)
    second = gain + 0.6 * first + 0.5 * rng.standard_normal(n)
    gone_on = first > np.median(first)
    scores = np.column_stack([first, np.where(gone_on, second, math.nan)])
    last = np.where(gone_on, 2, 1)
    table = Table(np.arange(n), [1, 2], last, gone_on, np.zeros(n, bool), scores, np.where(gone_on, second, math.nan))
    return second, table


@pytest.mark.parametrize(("gain", "columns"), [(3.0, 2), (0.5, 3)], ids=["rises", "may fall"])
def test_selection_by_the_first_score_misleads_no_expectation_of_the_last(gain, columns):
    """Those that were stopped are expected to come to what they would have; the mean of the others says otherwise."""
    second, table = simulated(np.random.default_rng(0), gain=gain)
    assert table.scaled().shape[1] == columns  # where some came to less than they had reported, they differ
    mean, variance = table.expected()
    known = table.complete & (table.finals > np.quantile(second, 0.3))
    slope, shift = np.polyfit(mean[known], second[known], 1)  # back from scaled scores, of which these are known
    expected, truth = slope * mean + shift, gain + 0.6 * table.scores[:, 0]
    stopped = ~table.complete & (expected > expected.min() + 0.1)  # of the very bad a bound is all that is said
    assert stopped.sum() > 800
    assert expected[stopped].mean() == pytest.approx(truth[stopped].mean(), abs=0.07)
    assert abs(second[table.complete].mean() - truth[stopped].mean()) > 0.8
    assert slope**2 * variance[stopped].mean() == pytest.approx(0.25, rel=0.2)
    assert np.all(variance[table.complete] == 0)


def test_of_a_complete_trial_its_own_score_is_expected():
    _, table = simulated(np.random.default_rng(1), 50)
    mean, _ = table.expected()
    known = table.complete
    order = np.argsort(table.finals[known])
    assert (np.diff(mean[known][order]) >= 0).all()
    np.testing.assert_array_equal(mean[known], table.scaled()[known, -1])


def test_uncertainty_adds_up_over_the_rungs():
    rng = np.random.default_rng(2)
    curves = np.cumsum(rng.normal(0.3, 0.2, (60, 4)), axis=1)
    steps = [1, 2, 4, 8]
    whole = [np.interp(range(1, 9), steps, curve).tolist() for curve in curves]
    trials = [trial(number, curve) for number, curve in enumerate(whole[:40])]
    trials += [trial(40 + k, whole[40 + k][: steps[k % 3]], PRUNED) for k in range(20)]
    _, variance = read(trials, horizon=8).expected()
    by_rung = [np.mean(variance[40 + k :: 3]) for k in range(3)]
    assert by_rung[0] > by_rung[1] > by_rung[2] > 0
    assert (variance[:40] == 0).all()


def test_before_anything_went_on_a_trial_is_expected_to_gain_a_little():
    table = read([trial(k, [0.1 * k], RUNNING) for k in range(6)], horizon=8)
    mean, variance = table.expected()
    gain = mean - table.scaled()[:, 0]
    assert np.all(gain > 0)
    assert np.ptp(gain) == pytest.approx(0)
    assert (variance > 0).all()
    assert np.argsort(mean).tolist() == list(range(6))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_what_diverged_or_showed_nothing_is_expected_to_be_the_worst(sign):
    trials = [trial(k, [sign * 0.1 * k, sign * (0.1 * k + 0.2)], value=sign * (0.1 * k + 0.2)) for k in range(6)]
    trials += [trial(6, [sign * 9.0], value=-sign * math.inf), trial(7, [], PRUNED), trial(8, [math.nan], PRUNED)]
    mean, variance = read(trials, sign=sign, final_sign=sign, horizon=2).expected()
    assert (mean[6:] == mean.min()).all()
    assert (variance[6:] == 0).all()
    assert mean[:6].max() > mean[6] + 0.5


def test_an_objective_that_is_no_report_is_a_rung_of_its_own():
    """Reports are losses, the objective is the accuracy, which is not a function of them."""
    rng = np.random.default_rng(3)
    losses = rng.uniform(0.1, 1.0, (30, 2))
    trials = [trial(k, loss.tolist(), value=1 - 0.5 * loss.min()) for k, loss in enumerate(losses[:20])]
    trials += [trial(20 + k, loss[:1].tolist(), PRUNED) for k, loss in enumerate(losses[20:])]
    table = read(trials, sign=-1.0, final_sign=1.0, horizon=2)
    assert table.scaled().shape == (30, 3)
    mean, _ = table.expected()
    assert np.argmax(mean[:20]) == np.argmin(losses[:20].min(1))
    assert stats.spearmanr(mean[20:], -losses[20:, 0]).statistic > 0.9


@pytest.mark.parametrize(
    "trials",
    [
        [],
        [trial(0, [], RUNNING)],
        [trial(0, [0.5], RUNNING)],
        [trial(k, [0.5, 0.5]) for k in range(5)],
        [trial(k, [], value=-math.inf) for k in range(5)],
        [trial(0, [1e300, 1e300]), trial(1, [-1e300, -1e300])],
    ],
    ids=["none", "nothing shown", "one", "equal", "all diverged", "extreme"],
)
def test_few_or_equal_trials_are_borne(trials):
    table = read(trials, horizon=2)
    mean, variance = table.expected()
    assert len(mean) == len(variance) == len(trials)
    assert np.isfinite(mean).all()
    assert np.isfinite(variance).all()
    assert len(table.agreement()) == 2


def test_one_very_bad_trial_changes_nothing_among_the_good():
    curves = [[0.1 * k, 0.2 * k] for k in range(8)]
    usual = read([trial(k, curve) for k, curve in enumerate(curves)], horizon=2).expected()[0]
    worst = read([trial(k, curve) for k, curve in enumerate([*curves[1:], [-1e6, -1e6]])], horizon=2)
    mean = worst.expected()[0]
    assert np.ptp(mean[3:7]) == pytest.approx(np.ptp(usual[4:8]), rel=0.3)


# Agreement.


@pytest.mark.parametrize("n", [2, 5, 12, 60])
def test_kendalls_tau_is_scipys(n):
    rng = np.random.default_rng(n)
    finals = rng.standard_normal(n)
    scores = finals + rng.standard_normal(n)
    found = Agreement.of(3, scores, finals)
    assert found.tau == pytest.approx(stats.kendalltau(scores, finals).statistic)
    assert (found.step, found.n) == (3, n)


def test_kendalls_tau_of_many_trials_is_that_of_all_pairs(monkeypatch):
    rng = np.random.default_rng(0)
    finals = rng.integers(0, 9, 60).astype(float)  # with ties
    scores = finals + rng.integers(0, 9, 60)
    paired = Agreement.of(3, scores, finals), Agreement.of(3, np.zeros(60), finals)
    monkeypatch.setattr(curves, "PAIRED", 0)
    many = Agreement.of(3, scores, finals), Agreement.of(3, np.zeros(60), finals)
    assert [one.tau for one in many] == pytest.approx([one.tau for one in paired], abs=1e-12)
    assert paired[1].tau == 0


def test_only_trials_that_have_both_count():
    scores, finals = np.array([1.0, math.nan, 2.0, 3.0]), np.array([1.0, 2.0, math.nan, 3.0])
    assert Agreement.of(1, scores, finals) == Agreement.of(1, np.array([1.0, 3.0]), np.array([1.0, 3.0]))


def test_the_interval_holds_the_true_rank_correlation_of_normal_scores():
    """Of a bivariate normal it is 2/π times the arcsine of the correlation (Kruskal 1958)."""
    rng, held = np.random.default_rng(0), []
    truth = 2 / math.pi * math.asin(0.7)
    for _ in range(400):
        finals = rng.standard_normal(25)
        found = Agreement.of(1, 0.7 * finals + math.sqrt(1 - 0.49) * rng.standard_normal(25), finals)
        assert found.low < found.tau < found.high
        held.append(found.low <= truth <= found.high)
    assert 0.9 < np.mean(held) < 0.99


def test_the_interval_of_few_trials_that_agree_entirely_is_in_doubt():
    """All of six in one order are not rare where the correlation is 0.9, of which Kendall's tau is 0.71."""
    six = Agreement.of(1, np.arange(6.0), np.arange(6.0))
    assert (six.tau, six.high) == (1.0, 1.0)
    assert 0.5 < six.low < 0.71
    opposed = Agreement.of(1, np.arange(6.0), -np.arange(6.0))
    assert (opposed.low, opposed.high) == (-1.0, -six.low)


def test_few_trials_say_nothing_for_certain():
    one = Agreement.of(1, np.array([1.0]), np.array([2.0]))
    assert math.isnan(one.tau)
    assert (one.low, one.high) == (-1.0, 1.0)
    four = Agreement.of(1, np.arange(4.0), np.arange(4.0))
    assert (four.tau, four.low, four.high) == (1.0, -1.0, 1.0)
    assert Agreement.of(1, np.arange(9.0), -np.arange(9.0)).tau == -1.0


def test_what_is_believed_moves_from_what_is_usual_to_what_was_seen():
    def believed(n: int, tau: float) -> float:
        return Agreement(1, n, tau, -1.0, 1.0).believed

    assert believed(0, math.nan) == believed(1, math.nan) == PRIOR_TAU
    steps = [believed(n, -0.2) for n in (2, 4, 8, 100)]
    assert steps == sorted(steps, reverse=True)
    assert steps[0] < PRIOR_TAU
    assert steps[-1] == pytest.approx(-0.2, abs=0.04)


def test_each_rung_is_held_against_the_ends_of_complete_trials_alone():
    rng = np.random.default_rng(4)
    ends = rng.standard_normal(20)
    noise = rng.standard_normal(20)
    trials = [trial(k, [float(noise[k]), float(ends[k]) - 3, float(ends[k]) + 9]) for k in range(20)]
    trials += [trial(20 + k, [float(k)], PRUNED) for k in range(5)]
    trials += [trial(25, [3.0, 2.0], value=-math.inf)]
    found = read(trials, horizon=3).agreement()
    assert [one.step for one in found] == [1, 2, 3]
    assert {one.n for one in found} == {20}
    reported = [noise, np.maximum(noise, ends - 3), ends + 9]
    for one, scores in zip(found, reported, strict=True):
        assert one.tau == pytest.approx(stats.kendalltau(scores, ends + 9).statistic)
