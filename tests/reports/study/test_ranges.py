"""New ranges are read back by the sweeper's own reader: they hold the old ones, by the same scale."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from hypermap.reports.study.ranges import between, extended, limit, moved, ordered, overrides, typed, without, written
from hypermap.reports.study.view import Parameter
from hypermap.search.scales import mapping
from hypermap.sweeps.space import ConfigGroups, read_space

MENU = ConfigGroups(choices=lambda group: (), has=lambda *words: False, chosen={})


def axis(expression, key="optimizer.lr"):
    """What is searched by an expression, as a report sees it."""
    (parameter,) = read_space([f"{key}={expression}"], {}, {}, MENU)[0].parameters
    return Parameter(key, key, parameter.distribution, parameter.expression, parameter.mapping)


def unwritten(found):
    """The same of a study that does not say how its ranges were written."""
    return Parameter(found.name, found.key, found.distribution, "", found.bijection)


@pytest.mark.parametrize(
    ("key", "expression", "side", "longer"),
    [
        ("optimizer.lr", "tag(log,interval(1e-4,3e-2))", "high", "tag(log,interval(1e-4,0.3))"),
        ("optimizer.lr", "tag(log,interval(1e-4,3e-2))", "low", "tag(log,interval(1e-5,3e-2))"),
        ("optimizer.lr", "tag(log,interval(1e-3,1.0))", "high", "tag(log,interval(1e-3,10))"),
        ("optimizer.lr", "tag(log,interval(0.01,0.04))", "high", "tag(log,interval(0.01,0.08))"),
        ("model.dropout", "interval(0.0,0.5)", "high", "interval(0.0,0.8)"),
        ("model.dropout", "interval(0.2,0.9)", "high", "interval(0.2,0.95)"),
        ("model.dropout", "interval(0.2,0.5)", "low", "interval(0.05,0.5)"),
        ("model.dropout", "interval(0.1,0.5)", "low", "interval(0,0.5)"),
        ("optimizer.lr", "interval(0.1,0.5)", "low", "interval(0.01,0.5)"),
        ("optimizer.lr", "interval(0.1,0.9)", "high", "interval(0.1,1.3)"),
        ("x", "interval(-1,1)", "low", "interval(-2,1)"),
        ("x", "interval(-5,5)", "high", "interval(-5,10)"),
        ("trainer.epochs", "int(interval(5,27))", "high", "int(interval(5,40))"),
        ("trainer.epochs", "int(interval(5,27))", "low", "int(interval(1,27))"),
        ("model.width", "tag(log,int(interval(8,64)))", "high", "tag(log,int(interval(8,200)))"),
        ("trainer.batch_size", "tag(pow2,interval(16,256))", "high", "tag(pow2,interval(16,1024))"),
        ("trainer.batch_size", "tag(pow2,interval(16,256))", "low", "tag(pow2,interval(4,256))"),
        ("trainer.batch_size", "tag(pow2,interval(16,32))", "high", "tag(pow2,interval(16,64))"),
        ("optimizer.momentum", "tag(one_minus_log,interval(0.5,0.99))", "high",
         "tag(one_minus_log,interval(0.5,0.999))"),
        ("optimizer.betas.0", "tag(one_minus_log,interval(0.7,0.98))", "low", "tag(one_minus_log,interval(0,0.98))"),
        ("optimizer.betas.0", "tag(one_minus_log,interval(0.9,0.999))", "low", "tag(one_minus_log,interval(0,0.999))"),
        ("x", "tag(logit,interval(0.1,0.9))", "high", "tag(logit,interval(0.1,0.99))"),
        ("x", "tag(sqrt,interval(1,100))", "high", "tag(sqrt,interval(1,200))"),
        ("x", "tag(identity,interval(2,4))", "high", "tag(identity,interval(2,5))"),
        ("model.layers", "range(1,9,2)", "high", "range(1,13,2)"),
        ("x", "range(0.1,0.9,0.2)", "low", "range(-0.1,0.9,0.2)"),
        ("optimizer.lr", "0.1,0.01,0.001", "low", "0.1,0.01,0.001,1e-4"),
        ("optimizer.lr", "0.1,0.01,0.001", "high", "1,0.1,0.01,0.001"),
        ("trainer.batch_size", "32,64,128", "high", "32,64,128,256"),
        ("model.layers", "1,2,3", "high", "1,2,3,4"),
        ("trainer.epochs", "10,20", "high", "10,20,40"),
        ("model.dropout", "0.1,0.2,0.3", "high", "0.1,0.2,0.3,0.4"),
        ("model.dropout", "0.1,0.2,0.3", "low", "0,0.1,0.2,0.3"),
        ("model.dropout", "0.5,0.9", "high", "0.5,0.9,0.95"),
    ],
)  # fmt: skip
def test_a_range_gains_about_half_of_its_width(key, expression, side, longer):
    assert extended(axis(expression, key), side) == longer


def test_a_range_that_was_widened_since_it_was_written_is_written_anew():
    wider = Parameter(
        "optimizer.lr", "optimizer.lr", FloatDistribution(1e-5, 1e-2, log=True), "tag(log,interval(1e-4,1e-2))"
    )
    assert extended(wider, "high") == "tag(log,interval(1e-5,0.1))"


@pytest.mark.parametrize(
    ("key", "expression", "side", "why"),
    [
        ("model.dropout", "interval(0.0,0.5)", "low", "it cannot be below 0"),
        ("optimizer.momentum", "tag(one_minus_log,interval(0.0,0.9))", "low", "it cannot be below 0"),
        ("optimizer.betas.0", "interval(0.5,1)", "high", "it cannot be above 1"),
        ("x", "interval(0,5)", "low", "0 is likely to be its least"),
        ("x", "interval(0.5,1.0)", "high", "1 is likely to be its most"),
        ("x", "tag(sqrt,interval(0.5,1.0))", "high", "1 is likely to be its most"),
        ("model.layers", "int(interval(1,4))", "low", "a count cannot be below 1"),
        ("model.layers", "1,2,3", "low", "a count cannot be below 1"),
        ("model.dropout", "0,0.1,0.2", "low", "it cannot be below 0"),
        ("model.dropout", "0.5,0.2,0.0", "low", "it cannot be below 0"),
    ],
)
def test_what_cannot_go_further_is_not_extended(key, expression, side, why):
    found = axis(expression, key)
    assert limit(found, side) == why
    assert extended(found, side) is None


def test_what_only_looks_like_a_limit_is_extended():
    assert limit(axis("interval(0.1,1.0)", "optimizer.lr"), "high") == ""
    assert limit(axis("tag(log,interval(0.001,1.0))", "loss.weight"), "high") == ""
    assert limit(axis("int(interval(0,1))", "model.layers"), "high") == ""


def test_unordered_choices_and_single_values_have_no_more():
    for expression in ("relu,tanh", "true,false", "1,3,2", "[64],[128]", "7", "1,1"):
        found = Parameter("a", "a", CategoricalDistribution(tuple(expression.split(","))), expression)
        assert ordered(found) is None
        assert extended(found, "high") is None
    assert ordered(axis("1,3,2")) is None
    assert ordered(axis("true,false")) is None
    assert extended(Parameter("a", "a", FloatDistribution(1.0, 1.0)), "high") is None
    assert extended(Parameter("a", "a", FloatDistribution(-1.7e308, 1.7e308)), "high") is None


class Cube:
    """A bijection of somebody's own."""

    @staticmethod
    def forward(x):
        return x**3

    @staticmethod
    def inverse(y):
        return math.copysign(abs(y) ** (1 / 3), y)


@pytest.mark.parametrize("written_down", [True, False])
def test_a_mapping_of_ones_own_keeps_its_name(written_down):
    found = axis(f'tag("{__name__}.Cube",interval(1,3))', "x")
    longer = extended(found if written_down else unwritten(found), "high")
    assert longer == f'tag("{__name__}.Cube",interval(1,3.4))'  # (27 + 13)^(1/3) is 3.42
    assert axis(longer, "x").scale == f"{__name__}.Cube"


TAGS = ("", "log", "logit", "one_minus_log", "pow2", "sqrt", "symlog")
KEYS = st.sampled_from(["optimizer.lr", "model.dropout", "optimizer.weight_decay", "x"])
BOUNDS = {
    "": st.floats(-1e6, 1e6), "symlog": st.floats(-1e6, 1e6), "sqrt": st.floats(0, 1e6), "log": st.floats(1e-9, 1e6),
    "logit": st.floats(1e-6, 0.999), "one_minus_log": st.floats(0, 0.999), "pow2": st.floats(1e-3, 1e6),
}  # fmt: skip


@st.composite
def ranges(draw):
    """An axis of each scale, written down or not, of any numbers or of whole ones."""
    tag = draw(st.sampled_from(TAGS))
    whole = tag in ("", "log", "sqrt", "symlog") and draw(st.booleans())
    bounds = st.integers(1 if tag == "log" else 0, 5000) if whole else BOUNDS[tag]
    low, high = sorted((draw(bounds), draw(bounds)))
    if not whole:
        low, high = float(f"{low:.3g}"), float(f"{high:.3g}")
    if tag == "pow2":
        low, high = 2.0 ** round(math.log2(low)), 2.0 ** round(math.log2(high))
    assume(high - low > 1e-300)  # else there is nothing beyond, as numbers go
    text = f"interval({low!r},{high!r})"
    text = f"int({text})" if whole else text
    found = axis(f"tag({tag},{text})" if tag else text, draw(KEYS))
    return found if draw(st.booleans()) else unwritten(found)


def reread(found, expression):
    return axis(expression, found.key)


@given(ranges(), st.sampled_from(["low", "high"]))
def test_a_longer_range_is_legal_holds_the_old_one_and_has_its_scale(found, side):
    longer = extended(found, side)
    if longer is None:
        return
    new = reread(found, longer)
    assert new.scale == found.scale
    assert type(new.distribution) is type(found.distribution)
    low, high = found.bounds
    if side == "low":
        assert new.bounds[0] < low
        assert new.bounds[1] == high
    else:
        assert new.bounds[1] > high
        assert new.bounds[0] == low
    assert low < 0 or new.bounds[0] >= 0  # nothing becomes negative that was not


@given(ranges())
def test_only_a_limit_of_the_parameter_keeps_a_range_from_growing(found):
    assert extended(found, "high") or limit(found, "high")
    assert extended(found, "low") or limit(found, "low")


@given(st.lists(st.floats(1e-6, 1e6).map(lambda x: float(f"{x:.2g}")), min_size=2, max_size=6, unique=True),
       st.booleans(), st.sampled_from(["low", "high"]))  # fmt: skip
def test_a_longer_list_has_one_value_more_at_its_side(values, falling, side):
    values = sorted(values, reverse=falling)
    longer = extended(Parameter("optimizer.lr", "optimizer.lr", CategoricalDistribution(values)), side)
    found = reread(Parameter("optimizer.lr", "optimizer.lr", CategoricalDistribution(values)), longer)
    assert ordered(found) is not None
    assert len(found.choices) == len(values) + 1
    assert set(values) < set(found.choices)
    (new,) = set(found.choices) - set(values)
    assert new > max(values) if side == "high" else 0 < new < min(values)


@given(ranges(), st.floats(0.1, 0.9), st.sampled_from(["low", "high"]))
def test_a_range_cut_anywhere_is_read_back(found, share, side):
    low, high = found.bounds
    bound = low + share * (high - low)
    if isinstance(found.distribution, IntDistribution):
        bound = round(bound)
    shorter = moved(found, side, bound)
    if not low < bound < high:
        return
    new = reread(found, shorter)
    assert new.bounds == ((bound, high) if side == "low" else (low, bound))
    assert new.scale == found.scale


@given(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))
def test_a_round_number_lies_between(one, other):
    low, high = sorted((one, other))
    assert low <= between(low, high) <= high


def test_the_number_between_has_few_digits():
    assert between(0.0234, 0.0512) == 0.03
    assert between(0.0231, 0.0242) == 0.024
    assert between(10, 17) == 10
    assert between(-0.3, 0.4) == 0.05 or abs(between(-0.3, 0.4)) <= 0.1


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers())
def test_numbers_are_typed_to_their_last_digit(value):
    assert float(written(value)) == float(value) if abs(value) < 1e300 else True


def test_numbers_are_typed_as_people_type_them():
    assert [written(x) for x in (1e-4, 0.03, 0.999, 16, 16.0, 2.5e-7, 3e8, 0.0, 0.005)] == [
        "1e-4", "0.03", "0.999", "16", "16", "2.5e-7", "3e8", "0", "0.005",
    ]  # fmt: skip
    assert [typed(x) for x in (True, None, "relu", "[64,64]", 0.1)] == ["true", "null", "relu", "[64,64]", "0.1"]


def test_choices_left_out_leave_two_at_least():
    found = axis("adam,sgd,rmsprop", "optimizer")
    assert without(found, ["sgd"]) == "adam,rmsprop"
    assert without(found, ["sgd", "adam"]) is None


def test_what_belongs_to_one_choice_is_changed_in_the_space_file():
    """On the command line optimizer.lr would be that of Adam too."""
    where = {"optimizer": ["sgd"]}
    lr = Parameter("optimizer.sgd.lr", "optimizer.lr", FloatDistribution(0.1, 1.0), where=where)
    beta = Parameter("optimizer.adam.betas.0", "optimizer.betas.0", FloatDistribution(0.5, 0.9), where=where)
    width = Parameter("model.width", "model.width", IntDistribution(1, 9))
    pairs = [(lr, "interval(0.1,2)"), (beta, "interval(0.5,0.95)"), (width, "int(interval(1,14))")]
    assert overrides(pairs) == {
        "space.optimizer.sgd.lr": '"interval(0.1,2)"',
        "model.width": "int(interval(1,14))",
        "space.optimizer.adam": '{betas.0:"interval(0.5,0.95)"}',
    }


def test_a_bijection_is_needed_where_a_range_has_none():
    """Of a study of another program, the scale is Optuna's."""
    plain = Parameter("C", "C", FloatDistribution(0.01, 100.0, log=True))
    assert extended(plain, "high") == "tag(log,interval(0.01,1000))"
    mapped = Parameter("p", "p", FloatDistribution(0.1, 0.9), bijection=mapping("logit", 0.1, 0.9))
    assert extended(mapped, "low") == "tag(logit,interval(0.01,0.9))"
