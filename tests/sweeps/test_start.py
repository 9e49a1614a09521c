"""What a search begins with: the configuration of the person who begins it, and the best of earlier studies."""

import json
import math
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from hypermap.core.errors import UserError
from hypermap.core.files import write_json
from hypermap.search.earlier import starts
from hypermap.search.schedule import REPEATS
from hypermap.search.space import Condition, Parameter, Space
from hypermap.search.storage import open_storage
from hypermap.search.study import RESULT
from hypermap.sweeps.start import Start
from hypermap.sweeps.start import earlier as found_by
from hypermap.sweeps.trials import Composer


def parameter(key: str, distribution, name: str | None = None, *conditions: Condition) -> Parameter:
    return Parameter(name or key, key, "…", distribution, conditions=conditions)


LR = parameter("optimizer.lr", FloatDistribution(1e-4, 1e-1, log=True))
SPACE = Space(
    (
        LR,
        parameter("model.hidden", CategoricalDistribution(("[64]", "[64,64]"))),
        parameter("trainer.batch_size", IntDistribution(16, 256)),
        parameter("optimizer.betas.0", FloatDistribution(0.5, 0.999)),
    )
)
CONFIGURATION = {
    "optimizer": {"name": "adam", "lr": 0.01, "betas": [0.9, 0.999]},
    "model": {"name": "mlp", "hidden": [64, 64], "dropout": None},
    "trainer": {"batch_size": 32, "shuffle": True},
}
parsed_value = Composer(search_path=None, config_name=None, overrides=[]).parsed_value


def start(*parameters: Parameter, **choices: str) -> Start:
    return Start.of(Space(parameters), CONFIGURATION, choices, parsed_value)


# The baseline.


def test_the_baseline_is_the_configuration_where_it_lies_in_the_space():
    found = Start.of(SPACE, CONFIGURATION, {}, parsed_value)
    assert found.params == {
        "optimizer.lr": 0.01,
        "model.hidden": "[64,64]",
        "trainer.batch_size": 32,
        "optimizer.betas.0": 0.9,
    }
    assert found.moved == ()
    assert found.configuration is CONFIGURATION
    assert found.record() == {"params": found.params, "moved": []}
    json.dumps(found.record())


@pytest.mark.parametrize(
    ("distribution", "value"),
    [
        (FloatDistribution(0.05, 0.1), 0.05),
        (FloatDistribution(1e-6, 1e-3, log=True), 1e-3),
        (FloatDistribution(0.0, 0.5, step=0.25), 0.0),
    ],
)
def test_what_lies_outside_of_its_range_is_moved_to_the_nearer_end_and_named(distribution, value):
    found = start(parameter("optimizer.lr", distribution))
    assert found.params == {"optimizer.lr": value}
    assert found.moved == ("optimizer.lr",)


def test_whole_numbers_between_the_members_are_moved_to_one():
    found = start(parameter("trainer.batch_size", IntDistribution(16, 256, step=48)))
    assert found.params == {"trainer.batch_size": 16}
    assert found.moved == ("trainer.batch_size",)


@pytest.mark.parametrize(
    ("key", "choices", "expected"),
    [
        ("model.hidden", ("[64]", "[64,64]"), "[64,64]"),
        ("model.hidden", ("[32]", "[64]"), None),
        ("model.dropout", ("null", "0.1"), "null"),
        ("model.dropout", (None, 0.1), None),
        ("trainer.shuffle", ("true", "false"), "true"),
        ("optimizer.lr", (0.1, 0.01), 0.01),
        ("optimizer.lr", ("0.1", "1e-2"), "1e-2"),
        ("optimizer.name", ("sgd", "adam"), "adam"),
    ],
)
def test_a_choice_is_what_it_stands_for(key, choices, expected):
    found = start(parameter(key, CategoricalDistribution(choices)))
    assert found.params == ({} if expected is None else {key: expected})
    inside = expected is not None or None in choices
    assert found.moved == (() if inside else (key,))


def test_a_group_is_the_choice_that_is_made():
    chooses = parameter("optimizer", CategoricalDistribution(("sgd", "adam")))
    assert start(chooses, optimizer="adam").params == {"optimizer": "adam"}
    found = start(chooses, optimizer="lion")
    assert (found.params, found.moved) == ({}, ("optimizer",))


def test_parameters_that_the_choice_leaves_idle_have_no_value():
    chooses = parameter("optimizer", CategoricalDistribution(("sgd", "adam")))
    of_adam = parameter(
        "optimizer.lr", FloatDistribution(1e-3, 1e-1), "optimizer.adam.lr", Condition("optimizer", ("adam",))
    )
    of_sgd = parameter(
        "optimizer.momentum", FloatDistribution(0, 1), "optimizer.sgd.momentum", Condition("optimizer", ("sgd",))
    )
    found = start(chooses, of_adam, of_sgd, optimizer="adam")
    assert found.params == {"optimizer": "adam", "optimizer.adam.lr": 0.01}
    assert found.moved == ()
    found = start(chooses, of_adam, of_sgd, optimizer="lion")  # nobody knows which it would have
    assert found.params == {}


def test_what_the_configuration_does_not_have_is_no_part_of_the_baseline():
    found = start(
        parameter("+optimizer.eps", FloatDistribution(0, 1)), parameter("model.hidden.5", IntDistribution(1, 9))
    )
    assert found.params == {}
    assert found.moved == ("+optimizer.eps", "model.hidden.5")
    assert start(parameter("+optimizer.lr", FloatDistribution(0, 1))).params == {"+optimizer.lr": 0.01}


@pytest.mark.parametrize("key", ["model.hidden", "optimizer.name", "model.dropout", "trainer.shuffle", "optimizer"])
def test_what_is_no_number_lies_in_no_interval(key):
    found = start(parameter(key, FloatDistribution(0, 100)))
    assert (found.params, found.moved) == ({}, (key,))


# Earlier studies.


@pytest.fixture
def studies(tmp_path, monkeypatch):
    """Makes studies of these trials, each values and a score; none: it was pruned."""
    monkeypatch.chdir(tmp_path)

    def make(name, trials, directions=("maximize",), distributions=None):
        storage = str(Path("studies", name, "journal.log").absolute())
        study = optuna.create_study(study_name=name, storage=open_storage(storage), directions=list(directions))
        space = distributions or SPACE.distributions()
        for params, score, *more in trials:
            values = score if isinstance(score, list) else [score]
            pruned = score is None
            attributes = next((one for one in more if isinstance(one, dict)), {})
            reports = next((one for one in more if isinstance(one, list)), [])
            study.add_trial(
                optuna.trial.create_trial(
                    state=TrialState.PRUNED if pruned else TrialState.COMPLETE,
                    values=None if pruned else values,
                    params=params,
                    distributions={key: space[key] for key in params},
                    user_attrs=attributes,
                    intermediate_values=dict(enumerate(reports, 1)),
                )
            )
        write_json(Path("studies", name, "study.json"), {"name": name, "storage": storage})

    return make


def earlier(sources, space, own):
    """The configurations that a search begins with."""
    return starts([found_by(source, space, own) for source in sources])


def lr(*rates):
    return [{"optimizer.lr": rate} for rate in rates]


def test_the_best_of_an_earlier_study_come_the_best_first(studies):
    studies("one", list(zip(lr(0.01, 0.02, 0.03, 0.04, 0.05), [0.5, 0.9, 0.7, None, 0.6], strict=True)))
    assert list(earlier(["one"], SPACE, "own")) == lr(0.02, 0.03, 0.05)
    studies("two", list(zip(lr(0.01, 0.02, 0.03), [0.5, 0.9, 0.7], strict=True)), directions=("minimize",))
    assert list(earlier(["two"], SPACE, "own")) == lr(0.01, 0.03, 0.02)


def test_several_studies_take_turns(studies):
    studies("one", list(zip(lr(0.01, 0.02), [0.9, 0.8], strict=True)))
    studies("two", list(zip(lr(0.03, 0.04, 0.05), [0.1, 0.2, 0.3], strict=True)))
    assert list(earlier(["one", "two"], SPACE, "own")) == lr(0.01, 0.05, 0.02, 0.04, 0.03)
    assert list(earlier([], SPACE, "own")) == []


def test_of_several_objectives_the_front_is_taken(studies):
    trials = list(zip(lr(0.01, 0.02, 0.03), [[0.9, 5.0], [0.8, 9.0], [0.5, 1.0]], strict=True))
    studies("front", trials, directions=("maximize", "minimize"))
    assert sorted(found["optimizer.lr"] for found in earlier(["front"], SPACE, "own")) == [0.01, 0.03]


def test_what_diverged_is_none_of_the_best(studies):
    diverged = {RESULT: {"outcome": "diverged"}}
    studies("one", [(lr(0.01)[0], 0.5), ({"optimizer.lr": 0.09}, math.inf, diverged)])
    assert list(earlier(["one"], SPACE, "own")) == lr(0.01)


def test_a_configuration_comes_once_however_often_it_was_measured(studies):
    again = {REPEATS: 0}
    studies("one", [(lr(0.01)[0], 0.9), (lr(0.02)[0], 0.8), (lr(0.01)[0], 0.85, again), (lr(0.03)[0], 0.1)])
    assert list(earlier(["one"], SPACE, "own")) == lr(0.01, 0.02, 0.03)


def test_values_outside_of_the_new_space_are_moved_and_others_left_out(studies):
    wide = {"optimizer.lr": FloatDistribution(1e-9, 9.0), "weight": FloatDistribution(0, 1)}
    wide |= {"model.hidden": CategoricalDistribution(("[64]", "[9]"))}
    rows = [{"optimizer.lr": 5.0, "weight": 0.5, "model.hidden": "[9]"}, {"optimizer.lr": 1e-8, "model.hidden": "[64]"}]
    studies("wide", list(zip(rows, [0.9, 0.8], strict=True)), distributions=wide)
    assert list(earlier(["wide"], SPACE, "own")) == [
        {"optimizer.lr": 0.1},
        {"optimizer.lr": 1e-4, "model.hidden": "[64]"},
    ]


def test_parameters_are_found_by_their_names_or_their_keys(studies):
    """A study of one optimizer calls its rate optimizer.lr; one of several has a name for each."""
    studies("one", [(lr(0.01)[0], 0.9)])
    of_adam = parameter("optimizer.lr", FloatDistribution(1e-3, 1e-1), "optimizer.adam.lr")
    assert list(earlier(["one"], Space((of_adam,)), "own")) == [{"optimizer.adam.lr": 0.01}]


def test_a_reports_table_is_a_prior(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("trials.csv").write_text(
        "trial,state,accuracy,optimizer.lr,model.hidden,trainer.batch_size,error\n"
        '8,complete,0.98,0.02,"[64,64]",128,\n'
        "1,pruned,0.97,0.03,[64],16,\n"
        "2,complete,0.96,0.04,[9],100.0,\n"
        "3,complete,0.95,nan,[64],,\n"
    )
    assert list(earlier(["trials.csv"], SPACE, "own")) == [
        {"optimizer.lr": 0.02, "model.hidden": "[64,64]", "trainer.batch_size": 128},
        {"optimizer.lr": 0.04, "trainer.batch_size": 100},
        {"model.hidden": "[64]"},
    ]


@pytest.mark.parametrize("content", [[{"optimizer.lr": 0.02}, {"optimizer.lr": 0.03}], {"optimizer.lr": 0.02}])
def test_configurations_may_be_listed_in_json(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    Path("mine.json").write_text(json.dumps(content))
    assert list(earlier(["mine.json"], SPACE, "own")) == (content if isinstance(content, list) else [content])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "mine.json cannot be read"),
        ("{", "mine.json cannot be read"),
        ("[1, 2]", "mine.json cannot be read"),
        ('{"weight": 1}', "nothing of it lies in this space (optimizer.lr, model.hidden, trainer.batch_size"),
        ("[]", "It has: no complete trial."),
    ],
)
def test_a_file_that_cannot_be_one_is_told(tmp_path, monkeypatch, content, told):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("mine.json").write_text(content)
    with pytest.raises(UserError) as raised:
        list(earlier(["mine.json"], SPACE, "own"))
    assert "hydra.sweeper.prior=mine.json" in str(raised.value)
    assert told in str(raised.value)


def test_a_study_that_is_not_there_or_has_nothing_to_say_is_told(studies):
    studies("tune", [(lr(0.01)[0], None)])
    with pytest.raises(UserError, match=r"No study 'tuen' here \(did you mean 'tune'\?\)"):
        list(earlier(["tuen"], SPACE, "own"))
    with pytest.raises(UserError, match=r"prior=tune: nothing of it lies in this space .* It has: no complete trial"):
        list(earlier(["tune"], SPACE, "own"))
    with pytest.raises(UserError, match=r"prior names tune, which is this study itself"):
        list(earlier(["tune"], SPACE, "tune"))
    other = {"weight": FloatDistribution(0, 1)}
    studies("other", [({"weight": 0.5}, 0.9)], distributions=other)
    with pytest.raises(UserError, match=r"prior=other: nothing of it lies in this space .* It has: weight\."):
        list(earlier(["other"], SPACE, "own"))


# What every trial came to, for the model.


def scored(source):
    return [(params["optimizer.lr"], score) for params, score in found_by(source, SPACE, "own").scored]


@pytest.mark.parametrize(("direction", "sign"), [("maximize", 1), ("minimize", -1)])
def test_what_every_trial_of_a_study_came_to_is_known_higher_being_better(studies, direction, sign):
    told = [(0.01, [0.5, 0.9, 0.8]), (0.02, [0.71, 0.6, 0.7]), (0.03, [0.3, 0.4])]  # of the second, epoch 3 is kept
    told = [(rate, [sign * value for value in reports]) for rate, reports in told]
    values = [sign * 0.9, sign * 0.7, None]
    trials = [(lr(rate)[0], value, reports) for (rate, reports), value in zip(told, values, strict=True)]
    studies("one", [*trials, (lr(0.04)[0], None, []), (lr(0.05)[0], None, [math.nan])], directions=(direction,))
    assert sorted(scored("one")) == [(0.01, 0.9), (0.02, 0.7), (0.03, 0.4)]  # the last two had reached nothing


def test_of_folds_a_pruned_trial_came_to_the_mean(studies):
    trials = [(0.01, 0.8, [0.7, 0.9]), (0.02, 0.5, [0.4, 0.6]), (0.03, None, [0.2])]
    studies("one", [(lr(rate)[0], value, reports) for rate, value, reports in trials])
    assert sorted(scored("one")) == [(0.01, 0.8), (0.02, 0.5), (0.03, 0.2)]


def test_reports_of_another_figure_than_the_objective_say_nothing(studies):
    studies("one", [(lr(0.01)[0], 0.9, [-0.5, -0.2]), (lr(0.02)[0], None, [-0.1])])
    assert scored("one") == [(0.01, 0.9)]


@pytest.mark.parametrize("sign", [1, -1])
def test_what_every_trial_of_a_table_came_to_is_known_higher_being_better(tmp_path, monkeypatch, sign):
    """A table does not say which way is better, but has the best first."""
    monkeypatch.chdir(tmp_path)
    reached = [("complete", 0.9), ("complete", 0.95), ("complete", 0.6), ("pruned", 0.7), ("failed", None)]
    rows = [f"{k},{state},{'' if v is None else sign * v},0.0{k}" for k, (state, v) in enumerate(reached, 1)]
    Path("trials.csv").write_text("\n".join(["trial,state,reached,optimizer.lr", *rows]) + "\n")
    assert scored("trials.csv") == [(0.01, 0.9), (0.02, 0.95), (0.03, 0.6), (0.04, 0.7)]


def test_a_table_whose_order_does_not_tell_what_is_better_has_configurations_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("trials.csv").write_text("trial,state,reached,optimizer.lr\n0,complete,0.9,0.01\n1,pruned,0.5,0.02\n")
    assert scored("trials.csv") == []
    assert list(earlier(["trials.csv"], SPACE, "own")) == lr(0.01)
