"""A study as its report sees it, from Optuna's own objects."""

import math
import shlex
from dataclasses import replace
from datetime import datetime, timedelta

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from hypermap.core.errors import UserError
from hypermap.core.files import write_json
from hypermap.core.paths import CONF
from hypermap.reports.study import noise
from hypermap.reports.study.reading import read
from hypermap.reports.study.verdict import Thresholds, read_thresholds
from hypermap.reports.study.view import BASELINE, Parameter
from hypermap.search.auto import PROPOSED
from hypermap.search.schedule import SCHEDULE, SIZE, Allowed
from hypermap.search.study import BUDGET, PURPOSE, RECORD, RESULT, TRAININGS

LOG = FloatDistribution(1e-4, 1e-1, log=True)
BEGAN = datetime(2026, 1, 1)


def trial(value=None, how="complete", params=None, space=None, reports=(), **result):
    states = {"pruned": TrialState.PRUNED, "failed": TrialState.FAIL, "running": TrialState.RUNNING}
    made = create_trial(
        state=states.get(how, TrialState.COMPLETE),
        values=None if how in states else ([value] if isinstance(value, float) else value),
        params=params or {"lr": 0.01},
        distributions=space or {"lr": LOG},
        intermediate_values=dict(enumerate(reports, 1)),
        user_attrs={RESULT: {"outcome": how, **result}} if result else {},
    )
    made.datetime_start = BEGAN
    made.datetime_complete = None if how == "running" else BEGAN + timedelta(seconds=3)
    return made


def study(*trials, direction="maximize", record=None):
    made = optuna.create_study(
        study_name="mine", **({"directions": direction} if isinstance(direction, list) else {"direction": direction})
    )
    made.add_trials(trials)
    if record is not None:
        made.set_user_attr(RECORD, record)
    return made


RECORDED = {
    "identity": {
        "space": {"lr": {"key": "optimizer.lr", "space": "tag(log,interval(1e-4,1e-1))", "mapping": None, "where": {}}},
        "configuration": {"trainer.epochs": 10, "model.name": "mlp"},
        "data": {"files": "abc"},
        "code": {"src/": "def"},
    },
    "objectives": ["accuracy"],
    "horizon": 10,
    "seed": 7,
    "sampler": {"_target_": "hypermap.search.counter_samplers.Random"},
    "pruner": {"_target_": "optuna.pruners.NopPruner"},
    "program": "src/train.py",
    "command": ["+sweep=quick", "optimizer.lr=tag(log,interval(1e-4,1e-1))"],
    "hydra": ["hydra.sweeper.n_trials=40"],
    "snapshot": {"commit": "0123456789", "tree": "t", "dirty": True},
}


def test_a_study_of_plain_optuna_is_read_as_it_is():
    view = read(study(trial(0.5), trial(0.7, reports=(0.6, 0.7)), trial(how="failed"), trial(how="running")))
    assert (view.objective, view.directions, view.maximizes) == ("objective", ("maximize",), True)
    assert [tried.outcome for tried in view.trials] == ["complete", "complete", "failed", "running"]
    assert view.best.number == 1
    assert view.best.seconds == 3
    assert view.best.epochs == 2
    assert view.command({"lr": "0.1"}) is None
    assert view.histories == {}


def test_a_study_of_ours_says_where_it_comes_from():
    ours = study(trial(0.5, seed=3, seconds=1.5, epochs=10, best_epoch=8), record=RECORDED)
    ours.set_user_attr(PURPOSE, {"goal": "the best", "scientific": ["lr"]})
    view = read(ours, "studies/mine/journal.log")
    assert (view.objectives, view.goal, view.scientific, view.horizon) == (("accuracy",), "the best", ("lr",), 10)
    assert (view.origin.sampler, view.origin.pruner, view.origin.commit[:4]) == ("Random", "NopPruner", "0123")
    assert view.origin.dirty
    assert (view.best.seed, view.best.seconds, view.best.epochs, view.best.best_epoch) == (3, 1.5, 10, 8)
    assert view.axis("lr").key == "optimizer.lr"


def test_a_command_is_the_sweeps_with_what_changes():
    view = read(study(trial(0.5), record=RECORDED))
    assert view.command({}) == (
        "python src/train.py -m +sweep=quick 'optimizer.lr=tag(log,interval(1e-4,1e-1))' hydra.sweeper.n_trials=40"
    )
    assert view.command({"optimizer.lr": "interval(0.1,1)"}, "hydra.sweeper.n_trials=80") == (
        "python src/train.py -m +sweep=quick 'optimizer.lr=interval(0.1,1)' hydra.sweeper.n_trials=80"
    )
    named = read(study(trial(0.5), record={**RECORDED, "hydra": ["hydra.sweeper.study_name=mine"]}))
    assert "study_name=mine" in named.command({}, "hydra.sweeper.n_trials=80")
    assert "study_name" not in named.command({"optimizer.lr": "interval(0.1,1)"}), "another space, another study"


def test_a_command_of_another_study_leaves_the_folder_of_this_one():
    folder, by_name = "hydra.sweep.dir='/x (1)'", "hydra.sweep.dir=/x/${hydra.sweeper.study_name}"
    for word, kept in ((folder, False), (by_name, True)):
        view = read(study(trial(0.5), record={**RECORDED, "hydra": [word]}))
        assert word in shlex.split(view.command({}))
        assert (word in shlex.split(view.command({"trainer.epochs": "60"}))) == kept


def test_a_pruned_trial_counts_with_what_it_had_reached():
    pruned = trial(how="pruned", reports=(0.5, 0.8, 0.7))
    assert read(study(pruned)).score(read(study(pruned)).trials[0]) == 0.8
    view = read(study(pruned, direction="minimize"))
    assert view.score(view.trials[0]) == 0.5
    folds = replace(view, fixed={"validation.name": "kfold"})
    assert folds.score(folds.trials[0]) == pytest.approx(2 / 3)
    assert replace(view, fixed={"validation.name": "time_series"}).score(view.trials[0]) == pytest.approx(2 / 3)
    assert view.best is None


def test_reports_of_another_figure_are_no_score():
    view = replace(read(study(trial(how="pruned", reports=(0.5,)))), objectives=("f1",))
    assert view.score(view.trials[0]) == 0.5
    assert replace(view, fixed={"trainer.monitor": None}).score(view.trials[0]) is None
    assert replace(view, fixed={"trainer.monitor": None}, objectives=("accuracy",)).score(view.trials[0]) == 0.5
    assert replace(view, fixed={"trainer.monitor": "loss"}, objectives=("loss",)).score(view.trials[0]) == 0.5


def test_complete_trials_rank_before_pruned_ones():
    view = read(study(trial(how="pruned", reports=(0.9,)), trial(0.5), trial(0.7), trial(0.7), trial(how="failed")))
    assert [tried.number for tried in view.ranking] == [2, 3, 1, 0]


def test_values_that_are_no_number_are_divergence():
    view = read(study(trial(math.inf), trial(0.5), direction="minimize"))
    assert [tried.outcome for tried in view.trials] == ["diverged", "complete"]
    assert view.trials[0].values == ()
    assert [tried.number for tried in view.ranking] == [1]


def paused(reports, *, told=False, until=2, stacked=1):
    """A trial that is paused after two seconds of its own; `told`: as pruned, an hour later."""
    made = trial(how="pruned" if told else "running", reports=reports)
    made.user_attrs = {
        SCHEDULE: Allowed(until, paused=True).record(),
        RESULT: {"outcome": "pruned" if told else "paused", "seconds": 2.0, "stacked": stacked},
    }
    made.datetime_complete = BEGAN + timedelta(hours=1) if told else None
    return made


@pytest.mark.parametrize("told", [False, True])
def test_a_paused_trial_counts_as_pruned_for_as_long_as_it_was_trained(told):
    view = read(study(trial(0.7), paused((0.5, 0.6), told=told), trial(how="running")))
    assert [tried.outcome for tried in view.trials] == ["complete", "pruned", "running"]
    one = view.trials[1]
    assert (view.score(one), one.epochs, one.seconds, one.paused) == (0.6, 2, 2.0, not told)
    assert one.ended == BEGAN + timedelta(seconds=2)
    assert len(view.ended) == 2
    assert [tried.number for tried in view.ranking] == [0, 1]
    assert read(study(paused((0.5,), told=told, stacked=4))).trials[0].busy_s == 8.0


def test_a_trial_that_was_taken_up_again_ends_when_it_did():
    again = trial(0.7, seconds=1.5, epochs=10)
    again.user_attrs[SCHEDULE] = Allowed().record()
    one = read(study(again)).trials[0]
    assert (one.outcome, one.ended, one.busy_s) == ("complete", BEGAN + timedelta(seconds=3), 1.5)
    running = trial(how="running", reports=(0.5,), seconds=1.5)
    running.user_attrs[SCHEDULE] = Allowed(4).record()
    one = read(study(running)).trials[0]
    assert (one.outcome, one.ended, one.paused) == ("running", None, False)


def test_a_search_goes_on_until_its_trainings_are_spent():
    made = study(trial(0.7, reports=[0.7] * 10), paused((0.5, 0.6)), record=RECORDED)
    made.set_user_attr(TRAININGS, 2.0)
    view = read(made)
    assert (view.budget, view.n_trials, view.spent, view.goes_on) == (2.0, None, pytest.approx(1.2), True)
    over = study(trial(0.7, reports=[0.7] * 10), paused((0.5, 0.6), told=True), record=RECORDED)
    over.set_user_attr(TRAININGS, 1.2)
    assert not read(over).goes_on
    over.set_user_attr(TRAININGS, 1.3)  # a tenth is an epoch
    assert read(over).goes_on
    over.set_user_attr(BUDGET, 2)
    assert not read(over).goes_on, "no trial more may begin"


def test_a_search_of_so_many_trials_goes_on_while_some_are_paused():
    for told in (False, True):
        made = study(trial(0.7), paused((0.5,), told=told))
        made.set_user_attr(BUDGET, 2)
        assert read(made).goes_on != told
    assert not read(study(trial(0.7))).goes_on, "how many it is to have is not known"


def test_a_trial_of_another_size_says_so():
    small = trial(0.7)
    small.user_attrs[SIZE] = {"steps": 5, "trainings": 0.5}
    made = study(small, record=RECORDED)
    made.set_user_attr(TRAININGS, 2.0)
    view = read(made)
    assert (view.trials[0].steps, view.spent) == (5, 0.5)


def test_the_first_trial_is_the_baseline_where_the_search_says_so():
    first = trial(0.7)
    assert read(study(first)).first is None
    first.user_attrs[PROPOSED] = "baseline"
    view = read(study(first, trial(0.8), record=RECORDED | {"baseline": {"params": {"lr": 0.01}, "moved": []}}))
    assert (view.first.number, view.moved) == (0, ())
    assert [view.is_baseline(number) for number in (BASELINE, 0, 1)] == [True, True, False]
    moved = read(study(first, record=RECORDED | {"baseline": {"params": {"lr": 0.01}, "moved": ["lr"]}}))
    assert moved.moved == ("lr",)
    assert not moved.is_baseline(0)


def test_several_objectives_have_no_one_best():
    view = read(study(trial([0.5, 3.0]), direction=["maximize", "minimize"]))
    assert view.best is None
    assert view.objectives == ("objective 0", "objective 1")


def test_positions_are_on_the_scale_of_the_search():
    log = Parameter("lr", "lr", LOG)
    assert log.unit(1e-4) == 0
    assert log.unit(1e-1) == 1
    assert log.unit(math.sqrt(1e-5)) == pytest.approx(0.5)
    assert Parameter("x", "x", IntDistribution(0, 10)).unit(3) == pytest.approx(0.3)
    assert Parameter("c", "c", CategoricalDistribution(["a", "b", "c"])).unit("b") == 0.5
    assert Parameter("c", "c", CategoricalDistribution(["a"])).unit("a") == 0.5
    space = {"mapping": "one_minus_log"}
    record = {"identity": {"space": {"lr": space}}}
    momentum = trial(0.5, params={"lr": 0.9}, space={"lr": FloatDistribution(0.0, 0.99)})
    axis = read(study(momentum, record=record)).axis("lr")
    assert axis.scale == "one_minus_log"
    assert axis.unit(0.9) == pytest.approx(0.5)  # 1 - x: 1, 0.1, 0.01


@pytest.mark.filterwarnings("ignore:Choices for a categorical distribution")
def test_values_that_are_lists_are_their_text():
    """Optuna takes them with a warning; JSON makes a list of a tuple."""
    given = CategoricalDistribution(([64], [64, 32], {"deep": True}, "none", None, 2))
    space = {"hidden": given}
    made = [trial(0.1 * k, params={"hidden": choice}, space=space) for k, choice in enumerate(given.choices)]
    view = read(study(*made, trial(how="running", params={"hidden": [64]}, space=space)))
    texts = ["[64]", "[64,32]", '{"deep":true}', "none", None, 2]
    assert [t.params["hidden"] for t in view.trials] == [*texts, "[64]"]
    assert [t.params["hidden"] for t in view.study.trials] == [*texts, "[64]"]
    assert view.axis("hidden").choices == tuple(texts)
    assert [view.axis("hidden").image(text) for text in texts] == [0, 1, 2, 3, 4, 5]
    assert [t.outcome for t in view.trials] == ["complete"] * 6 + ["running"]
    assert view.best.params == {"hidden": 2}


def test_attributes_that_another_program_or_a_later_version_has_do_no_harm():
    names = [("result", 12), ("size", "large"), ("schedule", [1]), ("schedule", {"until": 1, "later": True})]
    made = [trial(0.5) for _ in names]
    for one, (name, value) in zip(made, names, strict=True):
        one.user_attrs = {name: value}
    view = read(study(*made))
    assert [t.outcome for t in view.trials] == ["complete"] * 4
    assert [t.values for t in view.trials] == [(0.5,)] * 4


def test_a_range_that_changed_is_the_wider_one():
    narrow, wide = {"lr": FloatDistribution(0.1, 0.2)}, {"lr": FloatDistribution(0.0, 0.15)}
    view = read(study(trial(0.5, params={"lr": 0.1}, space=narrow), trial(0.5, params={"lr": 0.1}, space=wide)))
    assert view.axis("lr").bounds == (0.0, 0.2)
    log = {"lr": FloatDistribution(0.1, 1.0, log=True)}
    view = read(study(trial(0.5, params={"lr": 0.1}, space=wide), trial(0.5, params={"lr": 0.1}, space=log)))
    assert view.axis("lr").bounds == (0.1, 1.0), "two scales have no range that holds both"
    steps = {"lr": FloatDistribution(0.0, 1.0, step=0.25)}
    view = read(study(*[trial(0.5, params={"lr": 0.5}, space=steps)] * 2))
    assert view.axis("lr").distribution.step == 0.25


def test_what_was_trained_again_is_gathered_by_configuration():
    again = {"trial": IntDistribution(-1, 9), "seed": IntDistribution(0, 9)}
    rows = [(0.5, 0, 1), (0.6, 0, 2), (0.3, BASELINE, 1), (0.7, 1, 1)]
    confirmation = study(*(trial(value, params={"trial": n, "seed": s}, space=again) for value, n, s in rows))
    confirmation.add_trial(trial(how="failed", params={"trial": BASELINE, "seed": 2}, space=again))
    view = read(study(trial(0.5), trial(0.7)), confirmation=confirmation)
    assert [(c.label, c.scores, c.failed) for c in view.confirmed] == [
        ("trial 1", (0.7,), 0),
        ("trial 0", (0.5, 0.6), 0),
        ("baseline", (0.3,), 1),
    ]


def test_thresholds_are_those_of_the_file_that_ships():
    assert read_thresholds(CONF / "report.yaml") == Thresholds()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"egde": 0.1}, "did you mean 'edge'?"),
        ({"edge": 2}, "a share between 0 and 1"),
        ({"edge": "much"}, "it is a number"),
        ({"best": 2.5}, "a whole number"),
        ({"best": 0}, "at least 1"),
        ({"uneven": 1}, "above 1"),
    ],
)
def test_thresholds_that_are_none_are_refused(given, told):
    with pytest.raises(UserError, match=told):
        Thresholds.of(given)


def test_a_clock_that_was_set_back_tells_no_duration():
    made = trial(0.5)
    made.datetime_complete = BEGAN - timedelta(hours=1)
    assert read(study(made)).trials[0].seconds is None


def test_a_goal_is_one_line():
    made = study(trial(0.5))
    made.set_user_attr(PURPOSE, {"goal": "what\n\n# it was for"})
    assert read(made).goal == "what # it was for"


@pytest.mark.parametrize(
    ("backend", "again", "order", "known"),
    [
        ("eager", 0.5, "seed: 1", True),
        ("eager", 0.51, "seed: 1", False),
        ("vmap", 0.51, "seed: 1  # a comment", True),
        ("vmap", 0.53, "seed: 1", False),
        ("vmap", 0.51, "seed: 2", False),
        ("vmap", 0.51, "seed: [", False),  # edited by hand
    ],
)
def test_the_pipelines_test_is_the_best_trials_where_it_came_to_its_score_again(
    tmp_path, monkeypatch, backend, again, order, known
):
    monkeypatch.setattr(noise, "tolerance", lambda view: 0.02)
    files = {
        "study/0/validation.json": {"validation_accuracy": 0.5},
        "reports/validation.json": {"validation_accuracy": again},
        "reports/test.json": {"test_accuracy": 0.4},
        "reports/intervals.json": {"test": {"accuracy": [0.3, 0.5]}},
    }
    for name, content in files.items():
        write_json(tmp_path / name, content)
    (tmp_path / "study/0/params.yaml").write_text("seed: 1\n")
    (tmp_path / "params.yaml").write_text(f"{order}\n")
    record = {"objectives": ["accuracy"], "folder": str(tmp_path / "study")}
    view = read(study(trial(0.5, backend=backend), record=record), results=tmp_path / "reports")
    assert view.test == ({"accuracy": (0.4, 0.3, 0.5)} if known else {})
