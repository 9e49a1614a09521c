import math
import os
import pickle
import subprocess
import sys
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from hypermap.core.errors import UserError
from hypermap.core.paths import ROOT
from hypermap.search.scales import NAMES, mapping

# Each mapping beside what numpy or scipy calls it, and an interval it may be used on.
PEERS = {
    "identity": (lambda x: x, -5.0, 5.0),
    "log": (np.log, 1e-5, 1e-1),
    "logit": (special.logit, 0.01, 0.9),
    "one_minus_log": (lambda x: -np.log10(1 - x), 0.9, 0.999),
    "pow2": (np.log2, 16.0, 512.0),
    "sqrt": (np.sqrt, 0.0, 9.0),
    "symlog": (lambda x: np.sign(x) * np.log1p(np.abs(x)), -100.0, 1000.0),
}
INVERSES = {"log": np.exp, "logit": special.expit, "pow2": np.exp2, "sqrt": np.square}
DOMAINS = {
    "identity": (-1e9, 1e9),
    "log": (1e-300, 1e300),
    "logit": (1e-300, 1 - 1e-9),
    "one_minus_log": (-1e6, 1 - 1e-9),
    "pow2": (1e-300, 1e300),
    "sqrt": (0.0, 1e300),
    "symlog": (-1e300, 1e300),
}


class Cube:
    """A mapping of somebody's own, as a class."""

    def forward(self, x):
        return x**3

    def inverse(self, y):
        return math.copysign(abs(y) ** (1 / 3), y)


class Static:
    forward = staticmethod(lambda x: 2 * x)
    inverse = staticmethod(lambda y: y / 2)


class Falling(Cube):
    def forward(self, x):
        return -x

    def inverse(self, y):
        return -y


class Wrong(Cube):
    def inverse(self, y):
        return y


class Infinite(Cube):
    def forward(self, x):
        return math.inf if x > 0.5 else x


class Raising(Cube):
    def forward(self, x):
        raise ZeroDivisionError("no")


class OneWay:
    def forward(self, x):
        return x


@pytest.fixture(autouse=True)
def own(monkeypatch):
    module = types.ModuleType("somebody")
    for kind in (Cube, Static, Falling, Wrong, Infinite, Raising, OneWay):
        setattr(module, kind.__name__, kind)
    module.cube = Cube()
    monkeypatch.setitem(sys.modules, "somebody", module)


@st.composite
def intervals(draw):
    """A mapping, bounds in its domain and two points between them."""
    name = draw(st.sampled_from(NAMES))
    inside = st.floats(*DOMAINS[name])
    low, a, b, high = sorted(draw(st.lists(inside, min_size=4, max_size=4)))
    return mapping(name, low, high), a, b


@settings(deadline=None)
@given(intervals())
def test_the_inverse_of_forward_is_the_identity(case):
    found, a, _ = case
    assert found.inverse(found.forward(a)) == pytest.approx(a, rel=1e-9, abs=1e-9 if found.name == "symlog" else 1e-15)


@settings(deadline=None)
@given(intervals())
def test_order_is_kept(case):
    found, a, b = case
    assert found.forward(found.low) <= found.forward(a) <= found.forward(b) <= found.forward(found.high)
    assert found.inverse(found.forward(a)) <= found.inverse(found.forward(b))


@settings(deadline=None)
@given(intervals(), st.floats(allow_nan=False))
def test_bounds_are_kept_to_the_last_bit(case, y):
    found, _, _ = case
    assert found.inverse(found.forward(found.low)) == found.low
    assert found.inverse(found.forward(found.high)) == found.high
    assert found.low <= found.inverse(y) <= found.high


@pytest.mark.parametrize("name", NAMES)
def test_forward_equals_numpy_and_scipy(name):
    peer, low, high = PEERS[name]
    found = mapping(name, low, high)
    points = np.linspace(low, high, 101)
    assert [found.forward(x) for x in points.tolist()] == pytest.approx(peer(points).tolist(), rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("name", INVERSES)
def test_inverse_equals_numpy_and_scipy(name):
    _, low, high = PEERS[name]
    found = mapping(name, low, high)
    images = np.linspace(found.forward(low), found.forward(high), 101)
    assert [found.inverse(y) for y in images.tolist()] == pytest.approx(INVERSES[name](images).tolist(), rel=1e-12)


def test_momentum_in_its_mapped_space_counts_the_nines():
    momentum = mapping("one_minus_log", 0.9, 0.999)
    assert [momentum.forward(x) for x in (0.9, 0.99, 0.999)] == pytest.approx([1, 2, 3])


def test_powers_of_two_are_exact():
    widths = mapping("pow2", 1, 2**20)
    assert [widths.inverse(widths.forward(2**k)) for k in range(21)] == [2**k for k in range(21)]


def test_values_outside_the_bounds_count_as_the_nearer_bound():
    rate = mapping("log", 1e-4, 1e-1)
    assert rate.forward(-3.0) == rate.forward(1e-4)
    assert rate.inverse(7.0) == 1e-1


@pytest.mark.parametrize(
    ("name", "low", "high", "told"),
    [
        ("log", 0, 1, "log needs low above 0; given 0"),
        ("pow2", 0, 64, "pow2 needs low above 0; given 0"),
        ("logit", 0, 0.5, "logit needs low above 0 and high below 1; given 0 and 0.5"),
        ("logit", 0.1, 1, "high below 1; given 0.1 and 1"),
        ("one_minus_log", 0.9, 1.0, "one_minus_log needs high below 1"),
        ("sqrt", -1, 1, "sqrt needs low of at least 0"),
        ("log", 2, 1, "the lower first"),
        ("log", 1, math.inf, "finite bounds"),
        ("identity", math.nan, 1, "finite bounds"),
        ("logg", 1, 2, "did you mean 'log'"),
    ],
)
def test_what_makes_no_sense_is_told(name, low, high, told):
    with pytest.raises(UserError, match=told):
        mapping(name, low, high)


@pytest.mark.parametrize("name", ["Cube", "cube"])
def test_a_mapping_of_ones_own_is_a_class_or_an_object(name):
    found = mapping(f"somebody.{name}", -2, 2)
    assert found.forward(1.5) == 3.375
    assert found.inverse(3.375) == pytest.approx(1.5)
    assert found.inverse(1000) == 2


def test_a_mapping_of_ones_own_may_have_static_methods():
    assert mapping("somebody.Static", 0, 1).forward(0.25) == 0.5


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Falling", r"somebody.Falling must increase strictly; forward\(0"),
        ("Wrong", r"somebody.Wrong does not invert itself: inverse\(forward\(0.001\)\)"),
        ("Infinite", r"somebody.Infinite: forward\(0.5625\) is inf; it must be finite"),
        ("Raising", r"somebody.Raising: forward\(0.*failed: ZeroDivisionError"),
        ("OneWay", "no 'inverse' there"),
        ("Missing", "no 'Missing' there"),
    ],
)
def test_a_faulty_mapping_of_ones_own_is_told_with_its_point(name, told):
    with pytest.raises(UserError, match=told):
        mapping(f"somebody.{name}", 0, 1)


def test_an_unknown_module_is_told():
    with pytest.raises(UserError, match="no such module"):
        mapping("nowhere.Cube", 0, 1)


@pytest.mark.parametrize("name", NAMES)
def test_mappings_travel_to_other_processes(name):
    _, low, high = PEERS[name]
    assert pickle.loads(pickle.dumps(mapping(name, low, high))) == mapping(name, low, high)  # noqa: S301


def test_the_module_needs_nothing_heavy():
    code = "import sys, hypermap.search.scales; print(sorted({'numpy', 'optuna', 'torch', 'scipy'} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": "src"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert done.stdout.strip() == "[]"
