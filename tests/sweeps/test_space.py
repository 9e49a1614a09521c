"""What is searched: the reader of overrides, parameters and space files, conditions, and the space that ships."""

import itertools
import math
from functools import cache

import optuna
import pytest
import yaml
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from hypermap.config.compose import compose, defaults_of
from hypermap.config.groups import groups
from hypermap.config.rules import validate
from hypermap.core.errors import UserError
from hypermap.core.paths import ROOT
from hypermap.search.space import Condition, Parameter, Space, interval
from hypermap.sweeps.space import ConfigGroups, read_space
from hypermap.sweeps.sweep import _ends

SHIPPED = yaml.safe_load((ROOT / "conf/space/default.yaml").read_text())
KEYS = {
    ("optimizer", "adam"): {"lr", "betas", "betas.0", "betas.1"},
    ("optimizer", "sgd"): {"lr", "momentum", "nesterov"},
    ("optimizer", "rmsprop"): {"lr", "alpha", "momentum"},
    ("model", "mlp"): {"dropout", "hidden"},
    ("model", "logistic"): set(),
}
CHOICES = {group: [c for g, c in KEYS if g == group] for group, _ in KEYS}
MENU = ConfigGroups(
    choices=lambda group: CHOICES.get(group, ()),
    has=lambda group, choice, key: key in KEYS[group, choice],
    chosen={"optimizer": "adam", "model": "mlp"},
)
FILE = {
    "optimizer": {
        "adam": {"lr": "tag(log,interval(1e-4,1e-2))", "betas.0": "interval(0.7,0.98)"},
        "sgd": {"lr": "tag(log,interval(1e-3,1.0))", "momentum": "tag(one_minus_log,interval(0.5,0.99))"},
        "rmsprop": None,
    },
    "model": {"mlp": {"dropout": "interval(0.0,0.5)", "hidden": "[64],[128,128]"}, "logistic": {}},
}


def read(*overrides, params=None, file=None):
    return read_space(overrides, params or {}, file or {}, MENU)


def space(*overrides, **where):
    return read(*overrides, **where)[0]


def told(*overrides, **where):
    with pytest.raises(UserError) as raised:
        read(*overrides, **where)
    return str(raised.value)


def draws(space, count=60):
    """What trials get, drawn at random."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [space.suggest(study.ask()) for _ in range(count)]


# Who wins.


def test_the_command_line_wins_over_params_and_both_over_the_file():
    params = {"optimizer.lr": "interval(2,3)", "model.dropout": "0.1,0.2"}
    found = {p.key: p.expression for p in space("optimizer.lr=interval(4,5)", params=params, file=FILE).parameters}
    assert found == {
        "optimizer.lr": "interval(4,5)",
        "model.dropout": "0.1,0.2",
        "optimizer.betas.0": "interval(0.7,0.98)",
        "model.hidden": "[64],[128,128]",
    }


def test_a_fixed_value_takes_a_parameter_out_of_the_search():
    found, fixed = read("optimizer.lr=0.5", params={"model.dropout": "0.1"}, file=FILE)
    assert set(found.names) == {"optimizer.betas.0", "model.hidden"}
    assert fixed == ["optimizer.lr=0.5", "model.dropout=0.1"]


def test_overrides_that_are_no_search_are_every_trials():
    found, fixed = read("seed=3", "~model.dropout", "+model.new=1", "optimizer=sgd", "+model.other=1,2")
    assert fixed == ["seed=3", "~model.dropout", "+model.new=1", "optimizer=sgd"]
    assert [(p.name, p.key, p.added) for p in found.parameters] == [("model.other", "model.other", True)]


def test_a_file_gives_the_parameters_of_the_choices_in_use():
    assert space(file=FILE).names == ["optimizer.lr", "optimizer.betas.0", "model.dropout", "model.hidden"]
    assert not space(file=FILE).conditional


def test_a_choice_that_is_fixed_brings_its_own_parameters():
    menu = ConfigGroups(MENU.choices, MENU.has, {"optimizer": "sgd", "model": "logistic"})
    found, _ = read_space(["optimizer=sgd", "model=logistic"], {}, FILE, menu)
    assert found.names == ["optimizer.lr", "optimizer.momentum"]
    assert found.parameters[0].expression == "tag(log,interval(1e-3,1.0))"


# Choices under which another group has no part.

IDLE = ConfigGroups(MENU.choices, MENU.has, MENU.chosen, lambda group, choice: ("optimizer",) * (choice == "logistic"))


def test_a_group_without_a_part_brings_no_parameters():
    menu = ConfigGroups(MENU.choices, MENU.has, {**MENU.chosen, "model": "logistic"}, IDLE.ignored_groups)
    assert read_space([], {}, FILE, menu)[0].names == []
    assert read_space(["optimizer.lr=0.1,0.2"], {}, FILE, menu)[0].names == ["optimizer.lr"]  # whoever asks for it


def test_parameters_apply_where_their_group_has_a_part():
    found = {p.name: p.conditions for p in read_space(["model=mlp,logistic"], {}, FILE, IDLE)[0].parameters}
    assert found["optimizer.lr"] == found["optimizer.betas.0"] == (Condition("model", ("mlp",)),)
    assert read_space([], {}, FILE, IDLE)[0].parameters[0].conditions == ()


def test_a_searched_group_without_a_part_brings_no_parameters_either():
    found, _ = read_space(["model=mlp,logistic", "optimizer=adam,sgd"], {}, FILE, IDLE)
    assert {p.name: p.conditions for p in found.parameters}["optimizer.adam.lr"] == (
        Condition("optimizer", ("adam",)),
        Condition("model", ("mlp",)),
    )
    assert found.record()["optimizer.adam.lr"]["where"] == {"optimizer": ["adam"], "model": ["mlp"]}
    drawn = draws(found)
    assert {"mlp", "logistic"} == {values["model"] for values in drawn}
    assert all(("optimizer.lr" in values) == (values["model"] == "mlp") for values in drawn)


def test_parameters_apply_where_their_group_has_a_part_under_every_other():
    choices = {**CHOICES, "head": ["deep", "flat"]}
    menu = ConfigGroups(
        choices=lambda group: choices.get(group, ()),
        has=MENU.has,
        chosen={**MENU.chosen, "head": "deep"},
        ignored_groups=lambda group, choice: ("optimizer",) * (choice in ("logistic", "flat")),
    )
    found, _ = read_space(["model=mlp,logistic", "head=deep,flat"], {}, {"optimizer": FILE["optimizer"]}, menu)
    rate = next(p for p in found.parameters if p.name == "optimizer.lr")
    assert rate.conditions == (Condition("model", ("mlp",)), Condition("head", ("deep",)))
    both = [values for values in draws(found) if "optimizer.lr" in values]
    assert {(values["model"], values["head"]) for values in both} == {("mlp", "deep")}


# Choices that are searched.


def test_a_choice_that_is_searched_brings_a_parameter_of_each_of_its_own():
    found = space("optimizer=adam,sgd", "model=mlp,logistic", file=FILE)
    assert found.names[:2] == ["optimizer", "model"]
    assert {p.name: (p.key, p.conditions) for p in found.parameters[2:]} == {
        "optimizer.adam.lr": ("optimizer.lr", (Condition("optimizer", ("adam",)),)),
        "optimizer.adam.betas.0": ("optimizer.betas.0", (Condition("optimizer", ("adam",)),)),
        "optimizer.sgd.lr": ("optimizer.lr", (Condition("optimizer", ("sgd",)),)),
        "optimizer.sgd.momentum": ("optimizer.momentum", (Condition("optimizer", ("sgd",)),)),
        "model.mlp.dropout": ("model.dropout", (Condition("model", ("mlp",)),)),
        "model.mlp.hidden": ("model.hidden", (Condition("model", ("mlp",)),)),
    }
    assert found.conditional


def test_a_trial_has_the_parameters_of_its_choice_and_no_others():
    found = space("optimizer=adam,sgd,rmsprop", "model=mlp,logistic", file=FILE)
    seen = set()
    for values in draws(found):
        own = {"optimizer", "model"}
        own |= {"adam": {"lr", "betas.0"}, "sgd": {"lr", "momentum"}, "rmsprop": set()}[values["optimizer"]]
        own |= {"mlp": {"dropout", "hidden"}, "logistic": set()}[values["model"]]
        assert {key.partition(".")[2] or key for key in values} == own
        seen.add((values["optimizer"], values["model"]))
        if values["optimizer"] == "sgd":
            assert 1e-3 <= values["optimizer.lr"] <= 1
            assert 0.5 <= values["optimizer.momentum"] <= 0.99
        if values["optimizer"] == "adam":
            assert 1e-4 <= values["optimizer.lr"] <= 1e-2
    assert len(seen) == 6


def test_a_parameter_of_some_choices_only_is_drawn_for_those():
    found = space("optimizer=adam,sgd,rmsprop", "optimizer.momentum=0.1,0.2", "optimizer.lr=interval(0.1,0.2)")
    by_name = {p.name: p for p in found.parameters}
    assert by_name["optimizer.momentum"].conditions == (Condition("optimizer", ("sgd", "rmsprop")),)
    assert by_name["optimizer.lr"].conditions == ()
    assert all(("optimizer.momentum" in v) == (v["optimizer"] != "adam") for v in draws(found))


def test_a_shared_range_on_the_command_line_takes_the_place_of_each_choices_own():
    found = space("optimizer=adam,sgd", "optimizer.lr=interval(0.1,0.2)", file=FILE)
    assert "optimizer.lr" in found.names
    assert not {"optimizer.adam.lr", "optimizer.sgd.lr"} & set(found.names)
    assert all(0.1 <= values["optimizer.lr"] <= 0.2 for values in draws(found))


def test_choices_are_drawn_before_what_depends_on_them():
    found = space("optimizer.momentum=interval(0.1,0.2)", "optimizer=adam,sgd")
    assert found.names == ["optimizer", "optimizer.momentum"]
    assert all(("optimizer.momentum" in values) == (values["optimizer"] == "sgd") for values in draws(found))


def test_a_parameter_that_no_choice_has():
    message = told("optimizer=adam,sgd", "optimizer.alpha=interval(0.1,0.2)")
    assert message == "optimizer.alpha: none of the choices adam, sgd has a key 'alpha'."


def test_the_values_of_a_finished_trial_are_told_by_key():
    found = space("optimizer=adam,sgd", file=FILE)
    params = {"optimizer": "sgd", "optimizer.sgd.lr": 0.1, "optimizer.sgd.momentum": 0.9, "w": 1}
    expected = {"optimizer": "sgd", "optimizer.lr": 0.1, "optimizer.momentum": 0.9, "w": 1}  # w: of a custom space
    assert found.values_of(params) == expected


def test_the_record_tells_two_spaces_apart():
    same = space("optimizer=adam,sgd", file=FILE).record()
    assert space("optimizer=adam,sgd", file=FILE).record() == same
    others = [
        space("optimizer=adam,sgd,rmsprop", file=FILE),
        space("optimizer=adam,sgd"),
        space("optimizer=adam,sgd", "optimizer.lr=interval(1,2)", file=FILE),
        space(file=FILE),
    ]
    assert all(other.record() != same for other in others)
    assert same["optimizer.sgd.momentum"] == {
        "key": "optimizer.momentum",
        "space": "tag(one_minus_log,interval(0.5,0.99))",
        "mapping": "one_minus_log",
        "where": {"optimizer": ["sgd"]},
    }


# Expressions.


@pytest.mark.parametrize(
    ("written", "mapping", "distribution"),
    [
        ("tag(log,interval(1e-4,1e-2))", None, FloatDistribution(1e-4, 1e-2, log=True)),
        ("tag(identity,interval(1,2))", None, FloatDistribution(1, 2)),
        ("tag(logit,interval(0.01,0.9))", "logit", FloatDistribution(0.01, 0.9)),
        ("tag(one_minus_log,interval(0.5,0.999))", "one_minus_log", FloatDistribution(0.5, 0.999)),
        ("tag(pow2,interval(16,512))", "pow2", IntDistribution(16, 512, log=True)),
        ("tag(pow2,int(interval(16,512)))", "pow2", IntDistribution(16, 512, log=True)),
        ("tag(pow2,interval(0.25,512))", "pow2", FloatDistribution(0.25, 512)),
        ("tag(sqrt,interval(0,9))", "sqrt", FloatDistribution(0, 9)),
        ("tag(sqrt,int(interval(0,9)))", "sqrt", IntDistribution(0, 9)),
        ("tag(symlog,interval(-10,100))", "symlog", FloatDistribution(-10, 100)),
        ("tag('my_mappings.Cube',interval(-1,1))", "my_mappings.Cube", FloatDistribution(-1, 1)),
        ("tag(my_mappings.Cube,interval(-1,1))", "my_mappings.Cube", FloatDistribution(-1, 1)),
    ],
)
def test_a_tag_is_a_mapping(written, mapping, distribution, tmp_path, monkeypatch):
    (tmp_path / "my_mappings.py").write_text(
        "import math\n"
        "class Cube:\n"
        "    def forward(self, x):\n        return x**3\n"
        "    def inverse(self, y):\n        return math.copysign(abs(y) ** (1 / 3), y)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    (parameter,) = space(f"x={written}").parameters
    assert (parameter.mapping.name if parameter.mapping else None) == mapping
    assert parameter.distribution == distribution
    assert not parameter.listed
    assert parameter.expression == written
    if mapping and mapping.startswith("my"):
        assert math.isclose(parameter.mapping.inverse(parameter.mapping.forward(0.3)), 0.3)


def test_lists_are_values_in_hydras_grammar():
    (parameter,) = space("model.hidden=[64],[128,128]").parameters
    assert parameter.distribution == CategoricalDistribution(["[64]", "[128,128]"])
    assert parameter.listed


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("interval(2,1)", "x: interval(2.0, 1.0) is empty; write the lower bound first."),
        ("interval(1,1)", "x: interval(1.0, 1.0) is empty"),
        ("int(interval(2,1))", "x: interval(2, 1) is empty"),
        ("tag(sqrt,interval(2,1))", "x: interval(2.0, 1.0) is empty"),
        ("interval(0,inf)", "has no end; bounds are finite numbers"),
        ("interval(nan,1)", "is empty"),
        ("tag(log,interval(0,1))", "a logarithmic interval starts above 0, and this one at 0"),
        ("tag(log,interval(-1,1))", "starts above 0, and this one at -1"),
        ("tag(logg,interval(1,2))", "no mapping 'logg' (did you mean 'log'"),
        ("tag(log,sqrt,interval(1,2))", "log and sqrt are two mappings; give one"),
        ("tag(log,choice(1,2))", "values given one by one need none"),
        ("tag(log,range(1,3))", "values given one by one need none"),
        ("tag(logit,interval(0,0.5))", "logit needs low above 0 and high below 1"),
        ("tag(one_minus_log,interval(0.5,1))", "one_minus_log needs high below 1"),
        ("tag(sqrt,interval(-1,1))", "sqrt needs low of at least 0"),
        ("tag(pow2,interval(0,64))", "pow2 needs low above 0"),
        ("tag(pow2,interval(20,30))", "no power of two lies from 20 to 30"),
        ("tag(nosuch.Thing,interval(1,2))", "nosuch.Thing.forward: no such module"),
        ("range(5,5)", "must contain at least one value"),
        ("range(8,4)", "must contain at least one value"),
        ("range(1.5,1.5,0.5)", "must contain at least one value"),
        ("range(1,5,0)", "x=range(1,5,0): "),
        ("choice()", "x=choice() is not understood"),
        ("interval(1)", "x=interval(1) is not understood"),
        ("interval(a,b)", "x=interval(a,b) is not understood"),
    ],
)
def test_what_is_not_to_be_searched(written, message):
    for found in (told(f"x={written}"), told(params={"x": written})):
        assert message in found
        assert "x" in found.partition(":")[0]
        assert len(found) < 300


def test_an_expression_of_a_file_is_held_to_the_same():
    broken = {"optimizer": {"adam": {"lr": "interval(2,1)"}}}
    assert told(file=broken).startswith("optimizer.lr: interval(2.0, 1.0) is empty")
    assert space(file={"optimizer": {"sgd": {"lr": "interval(2,1)"}}}).names == []  # not in use


def test_a_file_that_names_a_choice_or_group_that_is_not_there():
    message = told(file={"optimizer": {"adamm": {"lr": "interval(1,2)"}}})
    assert message == ("space: optimizer has no option 'adamm' (did you mean 'adam'?). There are: adam, sgd, rmsprop.")
    message = told(file={"optimiser": {"adam": {"lr": "interval(1,2)"}}})
    assert message == "space: no group 'optimiser' (did you mean 'optimizer'?)."
    assert "must map choices to their parameters" in told(file={"optimizer": "interval(1,2)"})


def test_a_file_that_maps_a_choice_to_no_mapping():
    message = told(file={"optimizer": {"adam": "interval(1,2)"}})
    assert message == "space: optimizer must map choices to their parameters, as in {adam: {lr: interval(…)}}."


@pytest.mark.parametrize(
    ("low", "high", "log", "expected"),
    [(1, 4, False, IntDistribution(1, 4)), (1, 4, True, IntDistribution(1, 4, log=True)),
     (1.0, 4, False, FloatDistribution(1, 4)), (0.1, 4.0, True, FloatDistribution(0.1, 4, log=True))],
)  # fmt: skip
def test_an_interval_of_whole_numbers_is_whole(low, high, log, expected):
    assert interval("x", low, high, log=log, bijection=None) == expected


def test_an_empty_space_draws_nothing():
    assert draws(Space(), 1) == [{}]
    assert Space().record() == {}


def test_a_condition_on_what_was_not_drawn_does_not_hold():
    flag = Parameter("a", "a", "1,2", CategoricalDistribution(["1"]), conditions=(Condition("absent", ("x",)),))
    assert draws(Space((flag,)), 1) == [{}]


# The space that ships.


@cache
def of_menu(group, choice):
    return defaults_of({group: choice}, resolved=False)[group]


def has(group, choice, key):
    value = of_menu(group, choice)
    for part in key.split("."):
        if isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, dict) and part in value:
            value = value[part]
        else:
            return False
    return True


SHIPPED_MENU = ConfigGroups(lambda group: groups().get(group, ()), has, dict.fromkeys(groups(), "none"))


def chosen(**choices):
    return ConfigGroups(SHIPPED_MENU.choices, has, choices)


def test_every_model_and_optimizer_has_a_space():
    for group in ("model", "optimizer"):
        assert set(SHIPPED[group]) == set(groups()[group])
    assert all(SHIPPED["optimizer"][choice] for choice in SHIPPED["optimizer"])
    assert all("lr" in SHIPPED["optimizer"][choice] for choice in SHIPPED["optimizer"])
    assert set(SHIPPED) <= set(groups())


SHIPPED_CHOICES = [(group, choice) for group, choices in SHIPPED.items() for choice in choices]


@pytest.mark.parametrize(("group", "choice"), SHIPPED_CHOICES)
def test_both_ends_of_every_shipped_range_are_valid(group, choice):
    data = {"data": "mnist"} if choice in ("cnn", "resnet") else {}
    configuration = defaults_of({group: choice, **data})
    parameters = read_space([f"{group}={choice}"], {}, {group: SHIPPED[group]}, chosen(**{group: choice}))[0].parameters
    assert [p.key for p in parameters] == [f"{group}.{key}" for key in SHIPPED[group][choice] or {}]
    for parameter in parameters:
        key = parameter.key.partition(".")[2]
        assert has(group, choice, key)
        for end in _ends(parameter):
            if isinstance(end, str):
                end = yaml.safe_load(end)
            changed = compose_with(configuration, parameter.key, end)
            validate(changed)
        default = value_of(of_menu(group, choice), key)
        if (
            isinstance(default, float)
            and default > 0
            and not isinstance(parameter.distribution, CategoricalDistribution)
        ):
            low, high = _ends(parameter)
            assert low <= default <= high, f"{parameter.key}: the default, {default}, is outside"


def value_of(value, key):
    for part in key.split("."):
        value = value[int(part) if isinstance(value, list) else part]
    return value


def compose_with(configuration, path, value):
    import copy

    changed = copy.deepcopy(configuration)
    *parents, last = path.split(".")
    at = changed
    for part in parents:
        at = at[int(part) if isinstance(at, list) else part]
    at[int(last) if isinstance(at, list) else last] = value
    return changed


def test_trials_of_the_shipped_space_compose_whatever_they_draw():
    optimizers, models = groups()["optimizer"], ["mlp", "logistic"]
    overrides = [f"optimizer={','.join(optimizers)}", f"model={','.join(models)}"]
    menu = chosen(trainer="default")
    found, _ = read_space(overrides, {}, SHIPPED, menu)
    drawn = {(v["optimizer"], v["model"]): v for v in draws(found, 120)}
    assert set(drawn) == set(itertools.product(optimizers, models))
    for (optimizer, model), values in drawn.items():
        if model != "mlp" and optimizer != "adam":
            continue
        plain = [f"{key}={value}" for key, value in values.items() if not key.endswith(".0")]
        configuration = compose(plain)  # refuses a key that a choice does not have
        for key, value in values.items():
            group, _, inner = key.partition(".")
            if inner == "betas.0":
                continue
            wanted = yaml.safe_load(value) if isinstance(value, str) and inner else value
            assert configuration[group][inner or "name"] == wanted
        assert ("optimizer.betas.0" in values) == (values["optimizer"] in ("adam", "adamw"))
