"""Was the search in the right place, and long enough: each check on a study that triggers it and one that does not."""

import json
import math
from dataclasses import replace

import hydra
import numpy as np
import optuna
import pytest
from hydra import initialize_config_dir
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from hypermap.core.paths import CONF
from hypermap.reports.study import space_checks
from hypermap.reports.study.importance import Importances
from hypermap.reports.study.reading import read
from hypermap.reports.study.score_checks import luck, winner
from hypermap.reports.study.space_checks import edge, enough, failures, goal, importance, scientific
from hypermap.reports.study.verdict import Thresholds
from hypermap.reports.study.view import Parameter, Provenance
from hypermap.search.scales import mapping
from hypermap.search.study import RESULT
from hypermap.sweeps.space import ConfigGroups, read_space

optuna.logging.set_verbosity(optuna.logging.WARNING)
USUAL = Thresholds()
CHECKS = (goal, edge, enough, failures, importance, scientific)
KNOWN = Provenance(program="src/train.py", command=("+space=default",), sampler="Auto")
LR = FloatDistribution(1e-4, 1e-1, log=True)
DROPOUT = FloatDistribution(0.0, 0.5)


def view_of(space, rows, direction="maximize", origin=KNOWN, **more):
    """A study of trials: (parameters, score), or (parameters, how it ended)."""
    study = optuna.create_study(direction=direction, study_name="a-study")
    for params, value in rows:
        how = value if isinstance(value, str) else "complete"
        state = {"pruned": TrialState.PRUNED, "complete": TrialState.COMPLETE}.get(how, TrialState.FAIL)
        error = {"error": f"{how}:\n too much at step 3"} if state == TrialState.FAIL else {}
        study.add_trial(
            create_trial(
                state=state,
                value=value if how == "complete" else None,
                params=params,
                distributions={name: space[name] for name in params},
                intermediate_values={1: 0.1} if how == "pruned" else {},
                user_attrs={RESULT: {"outcome": how, **error}},
            )
        )
    return replace(read(study), origin=origin, **more)


def spread(low, high, count):
    return [float(x) for x in np.geomspace(low, high, count)]


def peaked(peak, count=40):
    """Trials over the learning rate, the best ones about a peak."""
    return view_of(
        {"optimizer.lr": LR}, [({"optimizer.lr": x}, -abs(math.log(x / peak))) for x in spread(1e-4, 1e-1, count)]
    )


# Goal.


def test_a_study_without_a_purpose_asks_for_one():
    found = goal(peaked(0.01), USUAL)
    assert found.level == "look"
    assert found.command == "python src/report.py study=a-study 'goal=…' 'scientific=[optimizer.lr]'"
    stored = replace(peaked(0.01), origin=Provenance(storage="sqlite:///a b.db"))
    assert "'storage=sqlite:///a b.db'" in goal(stored, USUAL).command


def test_a_purpose_is_told_with_what_it_holds_for():
    fixed = {
        "model.name": "mlp",
        "model._target_": "x",
        "augment.name": "none",
        "trainer.epochs": 5,
        "data.name": "digits",
    }
    space = {"optimizer.lr": LR, "model.dropout": DROPOUT}
    view = view_of(space, [({"optimizer.lr": 0.01, "model.dropout": 0.1}, 0.9)], fixed=fixed, goal="Is dropout of use?")
    found = goal(replace(view, scientific=("model.dropout",)), USUAL)
    assert (found.level, found.evidence) == ("ok", "1 scientific, 1 nuisance, 4 fixed")
    assert found.advice == (
        "“Is dropout of use?”: it compares model.dropout, with optimizer.lr tuned so that the comparison is fair; what "
        "it found holds for model mlp, data digits."
    )
    assert goal(view, USUAL).advice.startswith("“Is dropout of use?”: it has optimizer.lr and model.dropout tuned so")


def test_a_scientific_parameter_that_was_not_searched_is_told():
    found = goal(replace(peaked(0.01), scientific=("optimizer.lrr",)), USUAL)
    assert (found.level, found.evidence) == ("look", "optimizer.lrr not searched")
    assert "did you mean 'optimizer.lr'?" in found.advice
    fixed = goal(replace(peaked(0.01), scientific=("model.hidden",), fixed={"model.hidden": 8}), USUAL)
    assert "not searched but fixed at 8" in fixed.advice


# Edge.


def test_a_best_at_the_edge_asks_for_more_room():
    found = edge(peaked(0.1), USUAL)
    assert (found.level, found.evidence) == ("act", "optimizer.lr at its upper end")
    assert found.command == "python src/train.py -m +space=default 'optimizer.lr=tag(log,interval(1e-4,1))'"
    assert found.advice == (
        "The best trial (0.1) and the median of the best 4 lie at the upper end of optimizer.lr: better values may lie "
        "beyond, so search optimizer.lr=tag(log,interval(1e-4,1))."
    )
    low = edge(peaked(1e-4), USUAL)
    assert low.numbers["parameters"]["optimizer.lr"]["side"] == "low"
    assert low.numbers["parameters"]["optimizer.lr"]["proposed"] == "tag(log,interval(1e-5,0.1))"


def test_a_best_inside_is_left_alone():
    found = edge(peaked(0.01), USUAL)
    assert (found.level, found.evidence, found.command) == ("ok", "none of 1 range", None)


def test_the_edge_is_measured_on_the_scale_of_the_search():
    """0.004 is 4 % of the way from 1e-4 to 0.1, but 53 % of its decades."""
    assert edge(peaked(0.004), USUAL).level == "ok"
    rows = [({"x": x}, -abs(x - 0.004)) for x in spread(1e-4, 1e-1, 40)]
    assert edge(view_of({"x": FloatDistribution(1e-4, 1e-1)}, rows), USUAL).level == "act"


@pytest.mark.parametrize(("far", "level"), [(0.049, "act"), (0.051, "ok")])
def test_the_edge_is_a_twentieth_of_the_range(far, level):
    rows = [({"x": x}, -abs(x - (10 * (1 - far)))) for x in (2.0, 4.0, 6.0, 10 * (1 - far))]
    assert edge(view_of({"x": FloatDistribution(0.0, 10.0)}, rows), USUAL).level == level


def test_it_is_told_whether_the_best_or_the_median_is_at_the_edge():
    space = {"x": FloatDistribution(-10.0, 10.0)}
    inside = [({"x": -5 + k / 4}, 1 - k / 100) for k in range(40)]
    best = edge(view_of(space, [({"x": 9.9}, 2.0), *inside]), USUAL)
    assert best.advice.startswith(
        "The best trial (9.9) lies at the upper end of x (by chance perhaps: the median of the best 5 does not): "
    )
    median = edge(view_of(space, [({"x": 0.0}, 3.0), *[({"x": 9.9}, 2.0)] * 3, *inside]), USUAL)
    assert median.level == "act"
    assert median.advice.startswith("The median of the best 5 lies at the upper end of x: ")
    pruned = edge(
        view_of(space, [*[({"x": x}, 3.0 + x) for x in (-1.0, 0.0, 1.0)], *[({"x": 9.9}, "pruned")] * 30]), USUAL
    )
    assert pruned.level == "ok", "what is ahead in its first epochs need not be in its last"


def test_a_tie_at_the_edge_is_no_best_at_the_edge():
    rows = [({"optimizer.lr": 0.1}, 1.0), ({"optimizer.lr": 0.01}, 1.0), ({"optimizer.lr": 0.02}, 0.5)]
    assert edge(view_of({"optimizer.lr": LR}, rows), USUAL).level == "ok"


def test_the_best_by_its_later_epochs_is_no_tie_with_one_that_has_its_value():
    study = optuna.create_study(direction="maximize")
    for dropout, value, later in ((0.49, 0.95, 0.9), (0.2, 0.96, 0.8), (0.1, 0.95, 0.85)):
        study.add_trial(
            create_trial(
                params={"model.dropout": dropout},
                distributions={"model.dropout": DROPOUT},
                value=value,
                intermediate_values={1: 0.5, 2: value, 3: later, 4: later},
            )
        )
    found = edge(read(study), USUAL)
    assert (found.level, found.evidence) == ("act", "model.dropout at its upper end")
    assert found.advice.startswith("The best trial (0.49) lies at the upper end")


def test_a_natural_limit_is_no_edge_to_extend():
    rows = [({"model.dropout": x}, -x) for x in np.linspace(0, 0.5, 20)]
    found = edge(view_of({"model.dropout": DROPOUT}, rows), USUAL)
    assert (found.level, found.command) == ("look", None)
    assert "cannot be below 0" in found.advice


def test_listed_numbers_have_edges_and_names_have_none():
    space = {"lr": CategoricalDistribution((0.1, 0.01, 0.001)), "act": CategoricalDistribution(("relu", "tanh"))}
    rows = [({"lr": lr, "act": act}, -lr) for lr in (0.1, 0.01, 0.001) for act in ("relu", "tanh")]
    found = edge(view_of(space, rows), USUAL)
    assert found.level == "act"
    assert found.numbers["parameters"] == {
        "lr": {"side": "low", "best": True, "median": False, "proposed": "0.1,0.01,0.001,1e-4"}
    }
    middle = edge(view_of(space, [(params, -abs(math.log(params["lr"] / 0.01))) for params, _ in rows]), USUAL)
    assert (middle.level, middle.evidence) == ("ok", "none of 1 range")


def test_a_power_of_two_next_to_the_last_is_inside():
    sizes = [2**k for k in range(3, 29)]
    space = {"n": IntDistribution(8, 2**28, log=True)}
    axis = Parameter("n", "n", space["n"], "tag(pow2,interval(8,268435456))", mapping("pow2", 8, 2**28))
    for best, level in ((2**28, "act"), (2**27, "ok"), (8, "act"), (16, "ok")):
        rows = [({"n": n}, -abs(math.log2(n / best))) for n in sizes]
        assert edge(replace(view_of(space, rows), axes=(axis,)), replace(USUAL, top=0.01)).level == level


def test_a_parameter_of_one_choice_is_judged_among_the_trials_that_have_it():
    """SGD is the worse one, but might not be with a higher rate; Adam's rate has another range."""
    where = {"optimizer": ["sgd"]}
    rows = [({"optimizer": "adam"}, 1.0 + k / 100) for k in range(10)]
    rows += [({"optimizer": "sgd", "optimizer.sgd.lr": x}, math.log(x)) for x in spread(1e-4, 1e-1, 10)]
    view = view_of({"optimizer": CategoricalDistribution(("adam", "sgd")), "optimizer.sgd.lr": LR}, rows)
    axes = (view.axes[0], replace(view.axes[1], key="optimizer.lr", where=where))
    found = edge(replace(view, axes=axes), USUAL)
    assert found.level == "act"
    assert "the best trial that has it (0.1)" in found.advice.lower()
    assert """'space.optimizer.sgd.lr="tag(log,interval(1e-4,1))"'""" in found.command


def test_a_range_of_one_choice_can_be_changed_as_the_command_says():
    """Hydra composes it, and the sweeper's reader finds the new range and no other change."""
    changes = [
        'space.optimizer.sgd.lr="tag(log,interval(1e-3,10))"',
        'space.optimizer.adam={betas.0:"tag(one_minus_log,interval(0.7,0.995))"}',
    ]
    with initialize_config_dir(str(CONF)):
        spaces = [
            OmegaConf.to_container(hydra.compose("config", overrides=["+space=default", *more])["space"])
            for more in ([], changes)
        ]
    menu = ConfigGroups(choices=lambda group: list(spaces[0].get(group, ())), has=lambda *words: True, chosen={})
    before, after = (read_space(["optimizer=adam,sgd"], {}, file, menu)[0].record() for file in spaces)
    changed = {name: entry["space"] for name, entry in after.items() if entry != before[name]}
    assert changed == {
        "optimizer.sgd.lr": "tag(log,interval(1e-3,10))",
        "optimizer.adam.betas.0": "tag(one_minus_log,interval(0.7,0.995))",
    }


def test_the_front_of_several_objectives_may_lie_at_the_edge():
    study = optuna.create_study(directions=["maximize", "minimize"])
    for k, x in enumerate(spread(1e-4, 1e-1, 20)):
        front = x > 0.08 or k == 0
        study.add_trial(
            create_trial(values=[k, k if front else 99.0], params={"x": x}, distributions={"x": LR})
        )  # only the last ones and the first are on the front
    for k in range(3):
        study.add_trial(create_trial(values=[30 + k, 30 + k], params={"x": 0.1}, distributions={"x": LR}))
    found = edge(read(study), USUAL)
    assert (found.level, found.command) == ("act", None)
    assert "the median of the best" in found.advice.lower()
    assert found.numbers["parameters"]["x"]["best"] is False


# Enough.


def test_a_curve_that_levelled_off_is_enough():
    """Scores 1 to 40: the best of 20 of them drawn at random is 41 * 20 / 21 on average."""
    found = enough(view_of({"x": LR}, [({"x": 0.01}, float(k)) for k in range(1, 41)]), USUAL)
    assert found.level == "ok"
    assert found.numbers["gain"] == pytest.approx(40 - 41 * 20 / 21)
    assert found.numbers["spread"] == pytest.approx(40 - 20.5)
    assert found.evidence == "best of 20: 39.05, of 40: 40.00"


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_a_best_far_before_the_others_is_still_rising(direction):
    """Nineteen at 0 to 0.018 and one at 1: half of the halves miss it."""
    sign = 1 if direction == "maximize" else -1
    rows = [({"x": 0.01}, sign * k / 1000) for k in range(19)] + [({"x": 0.02}, sign * 1.0)]
    found = enough(view_of({"x": LR}, rows, direction), USUAL)
    assert found.level == "look"
    assert found.numbers["gain"] == pytest.approx(0.5, abs=0.02)
    assert found.command == "python src/train.py -m +space=default hydra.sweeper.n_trials=40"


def test_seven_scores_are_too_few_to_tell():
    found = enough(view_of({"x": LR}, [({"x": 0.01}, float(k)) for k in range(7)]), USUAL)
    assert (found.level, found.evidence) == ("look", "7 scores, too few to tell")
    assert found.command.endswith("hydra.sweeper.n_trials=20")


@pytest.mark.parametrize("sampler", ["Grid", "RandomGrid"])
def test_a_grid_that_was_run_is_enough(sampler):
    space = {"a": CategoricalDistribution((1, 2)), "b": CategoricalDistribution((1, 2))}
    rows = [({"a": a, "b": b}, float(a + b)) for a in (1, 2) for b in (1, 2)]
    origin = replace(KNOWN, sampler=sampler)
    found = enough(view_of(space, rows, origin=origin), USUAL)
    assert (found.level, found.evidence) == ("ok", "all 4 cells of the grid")
    less = enough(view_of(space, rows[:3], origin=origin), USUAL)
    assert less.level == "look"
    if sampler == "Grid":
        assert less.evidence == "3 of 4 cells"
        assert less.command.endswith("n_trials=4")


def stopped_early(complete, pruned, **more):
    """A search of which few trials were trained to their end: (learning rate, width) and their score."""
    space = {"optimizer.lr": LR, "model.width": CategoricalDistribution((8, 16))}
    rates = spread(1e-4, 1e-1, complete + pruned)
    points = [{"optimizer.lr": rate, "model.width": (8, 16)[k % 2]} for k, rate in enumerate(rates)]
    rows = [(p, 0.9 + 0.001 * k if k < complete else "pruned") for k, p in enumerate(points)]
    return view_of(space, rows, scientific=("model.width",), **more)


ON_COMPLETE = (edge, enough, importance, scientific)


@pytest.mark.parametrize("check", ON_COMPLETE)
@pytest.mark.parametrize("complete", [0, 1, 2])
def test_two_complete_trials_of_forty_tell_nothing(check, complete):
    """Not that the search has levelled off, above all."""
    found = check(stopped_early(complete, 40 - complete), USUAL)
    assert (found.level, found.evidence) == ("look", f"{complete} of 40 trials complete, too few to tell")
    assert found.command == "python src/train.py -m +space=default hydra.sweeper.n_trials=80"
    assert found.advice.endswith("trained to the end, and what was pruned has no final score: run 80 trials.")
    assert check(stopped_early(complete, 40 - complete, origin=Provenance()), USUAL).command is None


@pytest.mark.parametrize("check", ON_COMPLETE)
def test_where_there_is_a_budget_more_of_it_is_asked_for(check):
    view = stopped_early(2, 38, budget=20.0, spent=20.0)
    found = check(view, USUAL)
    assert found.command == "python src/train.py -m +space=default hydra.sweeper.budget=40"
    assert found.advice.endswith(": give it a budget of 40 trainings.")
    both = check(replace(view, n_trials=40), USUAL)
    assert both.command.endswith("hydra.sweeper.budget=40 hydra.sweeper.n_trials=80")
    half = check(replace(view, spent=10.0), USUAL)
    assert (half.level, half.command) == ("look", "python src/train.py -m +space=default")
    assert half.advice.endswith(": let the search come to its end.")


def test_what_is_judged_is_judged_on_complete_trials_alone():
    few = stopped_early(5, 60)
    assert enough(few, USUAL).evidence == "5 complete trials, too few to tell"
    assert importance(few, USUAL).evidence == "5 of 65 trials complete, too few to tell"
    assert set(edge(few, USUAL).numbers["parameters"]) == {"model.width"}, "the pruned ones lie at the upper rates"
    many = stopped_early(12, 60)
    assert enough(many, USUAL).numbers["scored"] == 12
    assert enough(many, USUAL).numbers["best_of"][-1]["mean"] == pytest.approx(0.911)
    assert importance(many, USUAL).numbers["trials"] == 12


def test_more_of_a_budget_is_asked_for_where_the_best_still_rises():
    rows = [({"x": 0.01}, k / 1000) for k in range(19)] + [({"x": 0.02}, 1.0)]
    found = enough(view_of({"x": LR}, rows, budget=8.0, spent=8.0), USUAL)
    assert found.command == "python src/train.py -m +space=default hydra.sweeper.budget=16"
    assert found.advice.endswith("so 16 trainings are likely to find better.")
    half = enough(view_of({"x": LR}, rows, budget=8.0, spent=4.0), USUAL)
    assert (half.level, half.command) == ("look", "python src/train.py -m +space=default")
    assert half.advice.endswith("so the rest of the search is likely to find better.")
    level = enough(view_of({"x": LR}, [({"x": 0.01}, float(k)) for k in range(1, 41)], budget=8.0), USUAL)
    assert level.advice.endswith("so more trainings in the same space would bring little.")


def test_a_grid_within_a_budget_is_run_to_its_end():
    space = {"a": CategoricalDistribution((1, 2)), "b": CategoricalDistribution((1, 2))}
    rows = [({"a": 1, "b": 1}, 1.0), ({"a": 1, "b": 2}, 2.0)]
    view = view_of(space, rows, origin=replace(KNOWN, sampler="Grid"), budget=2.0, spent=2.0)
    assert enough(view, USUAL).command.endswith("-m +space=default hydra.sweeper.budget=4")


# Failures.


def test_failures_above_a_learning_rate_narrow_it():
    """Twelve of forty fail, all above 0.0122; the best is far below."""
    rates = spread(1e-4, 1e-1, 40)
    rows = [({"optimizer.lr": x}, "diverged" if k >= 28 else -abs(math.log(x / 1e-3))) for k, x in enumerate(rates)]
    found = failures(view_of({"optimizer.lr": LR}, rows), USUAL)
    assert (found.level, found.evidence) == ("act", "12 of 40 (30 %): 12 diverged")
    where = found.numbers["where"]
    assert (where["parameter"], where["side"], where["failed"], where["trials"]) == ("optimizer.lr", "high", 12, 12)
    assert rates[27] <= where["bound"] < rates[28]
    assert where["bound"] == 0.013
    assert found.command == "python src/train.py -m +space=default 'optimizer.lr=tag(log,interval(1e-4,0.013))'"
    assert found.advice.endswith("; the commonest error (12) is: `diverged: too much at step 3`.")


def test_no_failure_is_ok_and_so_are_few_anywhere():
    assert failures(peaked(0.01), USUAL).evidence == "none of 40"
    rows = [({"x": x}, "failed" if k in (5, 20, 33) else 1.0) for k, x in enumerate(spread(1e-4, 1e-1, 40))]
    found = failures(view_of({"x": LR}, rows), USUAL)
    assert (found.level, found.evidence) == ("ok", "3 of 40 (8 %): 3 failed")
    assert found.numbers["where"] is None
    assert "in no one part of the space: see why" in found.advice


def test_a_best_next_to_where_all_fail_is_told():
    rates = spread(1e-4, 1e-1, 40)
    rows = [({"optimizer.lr": x}, "diverged" if k >= 35 else math.log(x)) for k, x in enumerate(rates)]
    found = failures(view_of({"optimizer.lr": LR}, rows), USUAL)
    assert found.level == "look"
    assert found.advice.startswith(
        "All 5 trials with optimizer.lr above 0.045 failed and the best, at 0.0412, is next to them"
    )
    far = [(params, "diverged" if value == "diverged" else -value) for params, value in rows]
    assert failures(view_of({"optimizer.lr": LR}, far), USUAL).level == "ok"  # two decades below


def test_a_choice_in_which_all_fail_is_left_out():
    space = {"optimizer": CategoricalDistribution(("adam", "sgd", "rmsprop"))}
    rows = [
        ({"optimizer": name}, "failed" if name == "sgd" else k) for k in range(9) for name in ("adam", "sgd", "rmsprop")
    ]
    found = failures(view_of(space, rows), USUAL)
    assert (found.level, found.numbers["where"]["bound"]) == ("act", "sgd")
    assert found.command == "python src/train.py -m +space=default optimizer=adam,rmsprop"


def test_large_batches_that_do_not_fit_are_left_out():
    space = {"batch": CategoricalDistribution((32, 64, 128)), "n": IntDistribution(1, 100)}
    rows = [({"batch": 32 * 2 ** (k % 3), "n": k + 1}, "out_of_memory" if k % 3 == 2 else k) for k in range(30)]
    found = failures(view_of(space, rows), USUAL)
    assert (found.level, found.evidence) == ("act", "10 of 30 (33 %): 10 out of memory")
    assert found.command == "python src/train.py -m +space=default batch=32,64"


def test_a_range_is_not_narrowed_away_from_the_best():
    """The best is where most fail."""
    rows = [({"x": x}, "failed" if k > 20 and k != 30 else float(k)) for k, x in enumerate(spread(1e-4, 1e-1, 40))]
    found = failures(view_of({"x": LR}, rows), USUAL)
    assert (found.level, found.command) == ("act", None)
    assert "where the best one is too" in found.advice


def test_failures_of_sixty_parameters_are_not_blamed_on_one():
    generator = np.random.default_rng(0)
    space = {f"x{k}": FloatDistribution(0.0, 1.0) for k in range(60)}
    rows = [
        ({name: float(generator.random()) for name in space}, "failed" if k in (3, 17) else float(k)) for k in range(30)
    ]
    assert failures(view_of(space, rows), USUAL).numbers["where"] is None


# Importance.


def importances(first, second, third):
    """Three parameters with (low, share, high)."""
    names = ("optimizer.lr", "model.dropout", "model.width")
    rows = dict(zip(names, (first, second, third), strict=True))
    return Importances(
        "fANOVA",
        {n: r[1] for n, r in rows.items()},
        {n: r[0] for n, r in rows.items()},
        {n: r[2] for n, r in rows.items()},
        40,
    )


@pytest.fixture(scope="module")
def three():
    space = {"optimizer.lr": LR, "model.dropout": DROPOUT, "model.width": IntDistribution(1, 64)}
    rows = [
        ({"optimizer.lr": x, "model.dropout": 0.12345 + k / 200, "model.width": 1 + k}, -abs(math.log(x / 0.01)))
        for k, x in enumerate(spread(1e-4, 1e-1, 40))
    ]
    return view_of(space, rows)


def test_what_surely_matters_little_can_be_fixed(three):
    found = importance(three, USUAL, importances((0.7, 0.9, 0.95), (0.02, 0.08, 0.2), (0.0, 0.02, 0.04)))
    assert (found.level, found.evidence) == ("ok", "optimizer.lr 90 % (70 % to 95 %), model.dropout 8 % (2 % to 20 %)")
    width = three.best.params["model.width"]
    assert found.command == f"python src/train.py -m +space=default model.width={width}"
    assert f"fix model.width={width}" in found.advice
    kept = importance(
        replace(three, scientific=("model.width",)),
        USUAL,
        importances((0.7, 0.9, 0.95), (0.02, 0.08, 0.2), (0.0, 0.02, 0.04)),
    )
    assert kept.command is None


def test_an_order_that_is_not_known_is_told(three):
    found = importance(three, USUAL, importances((0.2, 0.5, 0.8), (0.1, 0.45, 0.7), (0.0, 0.05, 0.2)))
    assert found.level == "look"
    assert "whether optimizer.lr or model.dropout matters more" in found.advice
    apart = importance(three, USUAL, importances((0.5, 0.55, 0.8), (0.1, 0.4, 0.6), (0.0, 0.05, 0.2)))
    assert apart.level == "ok"  # the second's share lies below the first's interval


def test_importance_is_asked_of_the_study_itself():
    view = view_of({"x": LR, "y": LR}, [({"x": x, "y": 1e-4 / x * 0.1}, x) for x in spread(1e-4, 1e-1, 6)])
    found = importance(view, USUAL)
    assert math.fsum(found.numbers["shares"].values()) == pytest.approx(1)


def test_equal_scores_say_that_nothing_mattered():
    found = importance(view_of({"x": LR}, [({"x": x}, 1.0) for x in spread(1e-4, 1e-1, 9)]), USUAL)
    assert (found.level, found.evidence) == ("look", "all scores are equal")


# Scientific.


def widths(counts, scores, **more):
    """So many trials of each width, and the best score of each."""
    space = {"model.width": CategoricalDistribution((8, 16, 32))}
    rows = [
        ({"model.width": width}, score - k)
        for width, n, score in zip((8, 16, 32), counts, scores, strict=True)
        for k in range(n)
    ]
    return view_of(space, rows, scientific=("model.width",), **more)


def test_the_gap_of_the_best_two_values_is_told():
    found = scientific(widths((5, 6, 5), (1.0, 3.5, 3.0)), USUAL)
    assert found.level == "ok"
    assert found.evidence.startswith("model.width: 16 before 32 by 0.5")
    assert [level["trials"] for level in found.numbers["parameters"]["model.width"]["levels"]] == [5, 6, 5]
    equal = scientific(widths((5, 5, 5), (1.0, 3.0, 3.0)), USUAL)
    assert equal.evidence == "model.width: 16 and 32 are equal"


def test_the_gap_is_held_against_the_noise(monkeypatch):
    """Two scores of deviation 0.1 each differ by 1.96 * sqrt(2) * 0.1 in one of twenty pairs."""
    monkeypatch.setattr(space_checks, "noise", lambda view: space_checks.Noise(0.1, "repeats", 9))
    beyond = scientific(widths((5, 5, 5), (1.0, 3.5, 3.0)), USUAL)
    assert beyond.evidence == "model.width: 16 before 32 by 0.5 (noise 0.28)"
    assert "by 0.5, more than chance explains (0.28)" in beyond.advice
    within = scientific(widths((5, 5, 5), (1.0, 3.2, 3.0)), USUAL)
    assert "by 0.2, no more than chance explains (0.28)" in within.advice


@pytest.mark.parametrize(
    ("sampler", "words"),
    [
        ("Auto", "hydra/sweeper/sampler=random_grid"),
        ("Random", "hydra.sweeper.n_trials=42"),
        ("Grid", None),
    ],
)
def test_uneven_counts_are_balanced(sampler, words):
    found = scientific(widths((10, 4, 7), (1.0, 3.5, 3.0), origin=replace(KNOWN, sampler=sampler)), USUAL)
    assert found.level == "look"
    assert "uneven (8: 10, 16: 4, 32: 7)" in found.advice
    assert found.numbers["parameters"]["model.width"]["unevenness"] == 2.5
    assert found.command == (words and f"python src/train.py -m +space=default {words}")


def test_uneven_counts_of_a_random_search_are_balanced_within_its_budget():
    origin = replace(KNOWN, sampler="Random")
    found = scientific(widths((10, 4, 7), (1.0, 3.5, 3.0), origin=origin, budget=21.0, spent=21.0), USUAL)
    assert found.command.endswith("hydra.sweeper.budget=42")


def test_a_value_without_a_trial_is_uneven_and_no_infinity_is_written():
    found = scientific(widths((5, 0, 5), (1.0, 3.5, 3.0)), USUAL)
    assert found.level == "look"
    assert found.numbers["parameters"]["model.width"]["unevenness"] is None


def test_no_scientific_parameter_is_ok():
    assert scientific(peaked(0.01), USUAL).evidence == "none named"
    unknown = scientific(replace(peaked(0.01), scientific=("a",)), USUAL)
    assert (unknown.level, unknown.evidence) == ("ok", "a not searched")


# What must not raise.

CHOICES = {"c": CategoricalDistribution(("a", "b")), "x": FloatDistribution(0.0, 1.0), "n": IntDistribution(1, 9)}
SOME = {"c": "a", "x": 0.0, "n": 9}
OTHER = {"c": "b", "x": 1.0, "n": 1}
DEGENERATE = {
    "empty": [],
    "one": [(SOME, 1.0)],
    "two": [(SOME, 1.0), (OTHER, 2.0)],
    "failed": [(SOME, "failed")] * 5,
    "pruned": [(SOME, "pruned"), (OTHER, "pruned")] * 5,
    "constant": [(SOME, 1.0), (OTHER, 1.0)] * 5,
    "infinite": [(SOME, float("inf")), (OTHER, float("-inf")), (SOME, 1.0), (OTHER, 2.0)],
    "huge": [(SOME, 1e308), (OTHER, -1e308)] * 5,
    "absent": [({"c": "a"}, 1.0), ({"x": 0.5}, 2.0), ({}, 3.0)] * 4,
    "no parameters": [({}, float(k)) for k in range(9)],
    "one value": [({"single": 1.0}, float(k)) for k in range(9)],
    "mixed": [(SOME, "diverged"), (OTHER, 1.0), (SOME, "out_of_memory"), (OTHER, "pruned"), (SOME, 3.0)] * 3,
}


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize("name", DEGENERATE)
def test_no_study_is_too_odd(name, direction):
    origin = KNOWN if direction == "maximize" else Provenance()
    view = view_of(CHOICES | {"single": FloatDistribution(1.0, 1.0)}, DEGENERATE[name], direction, origin=origin)
    named = replace(view, scientific=("c", "x", "z"))
    for found in (*(check(view, USUAL) for check in CHECKS), goal(named, USUAL), scientific(named, USUAL)):
        assert found.level in ("ok", "look", "act")
        assert found.evidence
        assert found.advice.endswith(".")
        assert found.check == "goal" or origin is KNOWN or found.command is None
        json.dumps(found.numbers, allow_nan=False)


def test_a_space_that_changed_meanwhile_is_no_obstacle():
    rows = [({"c": "a"}, 1.0), ({"c": "z"}, 2.0)] * 5
    study = optuna.create_study()
    for (params, value), choices in zip(rows, [("a", "b"), ("y", "z")] * 5, strict=True):
        study.add_trial(create_trial(value=value, params=params, distributions={"c": CategoricalDistribution(choices)}))
    for check in CHECKS:
        assert check(replace(read(study), scientific=("c",)), USUAL).advice


def test_many_trials_of_sixty_parameters_are_judged():
    generator = np.random.default_rng(0)
    space = {f"x{k}": FloatDistribution(0.0, 1.0) for k in range(60)}
    values = generator.random((200, 60))
    rows = [
        (dict(zip(space, map(float, row), strict=True)), "diverged" if row[7] > 0.8 else float(row[0]))
        for row in values
    ]
    view = view_of(space, rows, scientific=("x1",))
    found = {check.__name__: check(view, USUAL) for check in (goal, edge, enough, failures, scientific)}
    assert found["failures"].numbers["where"]["parameter"] == "x7"
    assert found["edge"].evidence.startswith("x0 at its upper end")


def test_scores_that_differ_by_chance_tell_no_importance(three, monkeypatch):
    monkeypatch.setattr(space_checks, "chance", lambda view, scores: 0.8)
    found = importance(three, USUAL, importances((0.7, 0.9, 0.95), (0.02, 0.08, 0.2), (0.0, 0.02, 0.04)))
    assert (found.level, found.command) == ("look", None)
    assert "80 % of the variance" in found.advice
    monkeypatch.setattr(space_checks, "chance", lambda view, scores: 0.2)
    assert importance(three, USUAL, importances((0.7, 0.9, 0.95), (0.02, 0.08, 0.2), (0.0, 0.02, 0.04))).level == "ok"


SEEDS = CategoricalDistribution((0, 1, 2, 3, 4, 5))


def test_no_seed_is_better_than_another():
    """As they are, the best one is the last of the list: no room beyond is asked for, and none is promoted."""
    view = view_of({"seed": SEEDS}, [({"seed": k}, 0.9 + k / 100) for k in range(6)])
    assert edge(view, USUAL).level == "ok"
    assert importance(view, USUAL).advice == "Nothing but the seed was varied: what scores differ by is chance."
    for check in (winner, luck):
        found = check(view, USUAL)
        assert (found.level, found.command) == ("ok", None)
        assert found.evidence.startswith(
            f"0.9250 ± {np.std([0.9 + k / 100 for k in range(6)], ddof=1):.2g} over 6 seeds"
        )
        assert "take no seed for better" in found.advice
    both = {"seed": SEEDS, "optimizer.lr": LR}
    rows = [({"seed": k, "optimizer.lr": lr}, k + math.log(lr)) for k in range(6) for lr in spread(1e-4, 1e-1, 8)]
    assert edge(view_of(both, rows), USUAL).evidence == "optimizer.lr at its upper end"
    assert not view_of(both, rows).of_seeds
