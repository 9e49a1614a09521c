import collections
import sys

import pytest
import torch

from hypermap.core.errors import UserError
from hypermap.core.instantiate import check_arguments, instantiate, locate
from hypermap.models import MLP
from hypermap.training.lr_schedules import Cosine
from support.refusals import refusal


class Own:
    """A user's own part."""

    def __init__(self, size, *, rate=0.5, **others):
        self.given = {"size": size, "rate": rate, **others}


class Strict:
    def __init__(self, width: int, *, depth: int = 1):
        if width < 1:
            raise ValueError(f"width must be positive, got {width}")
        self.area = width * depth


@pytest.fixture(autouse=True)
def own_module(monkeypatch, tmp_path):
    """A package of a user's: own_parts.networks has Own and Strict, own_parts.broken needs what is not here."""
    package = tmp_path / "own_parts"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "networks.py").write_text("")
    (package / "broken.py").write_text("import no_such_module_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    import own_parts.networks

    own_parts.networks.Own, own_parts.networks.Strict = Own, Strict
    yield
    for name in [name for name in sys.modules if name.startswith("own_parts")]:
        del sys.modules[name]


OWN, STRICT = "own_parts.networks.Own", "own_parts.networks.Strict"


# Paths.


def test_paths_lead_through_packages_modules_and_classes():
    assert locate("hypermap.training.lr_schedules.Cosine") is Cosine
    assert locate("hypermap.models.MLP") is MLP  # what a package imports
    assert locate("torch.optim.Adam") is torch.optim.Adam
    assert locate("collections.OrderedDict.fromkeys") == collections.OrderedDict.fromkeys
    assert locate(OWN) is Own


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("hypermap.models.MPL", "no 'MPL' there (did you mean 'MLP'"),
        ("torch.optim.Adan", "no 'Adan' there (did you mean 'Adam'"),
        ("hypermap.training.lr_schedules.Cosine.shaer", "no 'shaer' there (did you mean 'share'"),
        ("no_such_package.models.MLP", "no such module"),
        ("MLP", "no such module"),
        ("hypermap.models", "neither a function nor a class"),
        ("hypermap.training.lr_schedules.math.pi", "neither a function nor a class"),
        ("own_parts.broken.Own", "own_parts.broken needs a module that is not here: no_such_module_anywhere"),
        ("own_parts.networks.Onw", "no 'Onw' there (did you mean 'Own'"),
    ],
)
def test_a_path_that_leads_nowhere(path, told):
    message = refusal(locate, path)
    assert message.startswith(f"_target_ {path}")
    assert told in message


@pytest.mark.parametrize("choice", [{}, {"_target_": None}, {"_target_": ""}])
def test_a_choice_that_names_nothing(choice):
    assert "has no _target_" in refusal(instantiate, choice)


def test_a_module_that_fails_when_imported(tmp_path):
    (tmp_path / "own_parts" / "wrong.py").write_text("1 / 0\n")
    message = refusal(locate, "own_parts.wrong.Own")
    assert "importing own_parts.wrong failed: ZeroDivisionError" in message


# Arguments.


def test_what_the_choice_says_and_what_the_program_adds_are_bound():
    check_arguments({"_target_": STRICT, "name": "strict", "depth": 2}, "width")
    check_arguments({"_target_": STRICT, "width": 2})


def test_an_unknown_argument_with_its_near_match_and_all_that_are_taken():
    message = refusal(check_arguments, {"_target_": "torch.optim.SGD", "momentun": 0.9}, "params")
    assert message.startswith(
        "torch.optim.SGD does not take 'momentun' (did you mean 'momentum'?). It takes: params, lr"
    )


def test_all_mismatches_are_told_together():
    message = refusal(check_arguments, {"_target_": STRICT, "dept": 1, "zzz": 2})
    assert "does not take 'dept' (did you mean 'depth'?)" in message
    assert "does not take 'zzz'" in message
    assert "needs 'width'" in message


def test_a_missing_argument():
    assert "needs 'width'. It takes: width, depth" in refusal(check_arguments, {"_target_": STRICT, "depth": 1})
    assert "needs 'input_shape' and needs 'outputs'" in refusal(check_arguments, {"_target_": "hypermap.models.MLP"})


def test_what_the_program_adds_must_be_taken_too():
    message = refusal(check_arguments, {"_target_": STRICT, "width": 1}, "outputs")
    assert "does not take 'outputs'" in message


def test_any_keywords_where_the_signature_takes_them():
    check_arguments({"_target_": OWN, "size": 1, "anything": 2})
    assert "needs 'size'" in refusal(check_arguments, {"_target_": OWN, "anything": 2})


# Building.


def test_built_from_values_and_what_the_program_adds():
    assert instantiate({"_target_": OWN, "name": "own", "rate": 0.1, "more": [1]}, size=3).given == {
        "size": 3,
        "rate": 0.1,
        "more": [1],
    }
    assert instantiate({"_target_": STRICT, "depth": 4}, width=3).area == 12
    assert instantiate({"_target_": "hypermap.training.lr_schedules.Cosine", "end": 0.5}) == Cosine(end=0.5)


def test_a_choice_is_left_as_it_is():
    choice = {"_target_": OWN, "name": "own", "size": 1}
    instantiate(choice)
    assert choice == {"_target_": OWN, "name": "own", "size": 1}


def test_a_constructor_that_refuses_is_told_in_its_own_words():
    message = refusal(instantiate, {"_target_": STRICT, "width": -1})
    assert message == f"{STRICT} refuses its settings {{'width': -1}}: width must be positive, got -1"
    message = refusal(instantiate, {"_target_": "torch.optim.SGD", "lr": -1.0}, params=[torch.zeros(1)])
    assert "torch.optim.SGD refuses its settings {'lr': -1.0}: Invalid learning rate: -1.0" in message
    assert "refuses" in refusal(instantiate, {"_target_": STRICT, "width": "a"})


def test_a_constructors_own_user_error_stays_as_it_is():
    message = refusal(instantiate, {"_target_": "hypermap.training.lr_schedules.Cosine", "end": 2.0})
    assert message == "end is 2.0; allowed: from 0 to 1, a share of the learning rate"


def test_a_value_that_the_program_gives_cannot_be_set():
    message = refusal(instantiate, {"_target_": STRICT, "width": 2}, width=3)
    assert "multiple values for keyword argument 'width'" in message


def test_the_cause_is_kept_for_the_traceback():
    with pytest.raises(UserError) as told:
        instantiate({"_target_": STRICT, "width": -1})
    assert isinstance(told.value.__cause__, ValueError)
