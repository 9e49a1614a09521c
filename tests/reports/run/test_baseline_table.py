"""What the report says of other models: which of two is better, and by how much, on rows made so that one knows."""

from dataclasses import replace

import pytest

from hypermap.reports.run.baseline_table import BaselineTable, section, verdict
from hypermap.reports.run.classification import ClassificationReport
from hypermap.reports.run.regression import RegressionReport

COMPARED, OF_NUMBERS = ClassificationReport.compared, RegressionReport.compared

ALL = {"accuracy": 0.8, "roc_auc": 0.85, "log_loss": 0.45, "calibration_error": 0.02}


def other(name="gradient_boosting", accuracy=(0.0, -0.1, 0.1), roc_auc=None, log_loss=None, validation=0.8):
    """A model that the one in use is so much better than: the difference and the ends of its interval."""
    value, low, high = accuracy
    differences = {
        "accuracy": accuracy,
        "roc_auc": roc_auc or accuracy,
        "log_loss": log_loss or (-value, -high, -low),  # of which less is better
        "calibration_error": (0.0, -0.01, 0.01),
    }
    return BaselineTable(name, {"accuracy": validation}, ALL, dict.fromkeys(ALL, (0.7, 0.9)), differences)


BETTER, SAME, WORSE = (0.03, 0.01, 0.05), (0.01, -0.01, 0.03), (-0.03, -0.05, -0.01)
DUMMY = other("dummy", (0.3, 0.2, 0.4), validation=0.5)


@pytest.mark.parametrize(
    ("difference", "verb", "advice"),
    [
        (BETTER, "beats", "Keep it."),
        (SAME, "cannot be told apart from", "Either will do"),
        (WORSE, "is worse than", "Take that (`dvc exp run -S model=gradient_boosting`), or search"),
    ],
)
def test_the_interval_decides(difference, verb, advice):
    said = verdict(COMPARED, [DUMMY, other(accuracy=difference)], "95 %")
    value, low, high = difference
    assert said.startswith(
        f"**This run {verb} `gradient_boosting`**, the best of them on validation rows: accuracy {value:+.4f} "
        f"(95 % interval {low:+.4f} to {high:+.4f})."
    )
    assert advice in said
    assert "dummy" not in said


def test_the_best_of_the_others_is_the_best_on_validation_rows_and_never_the_dummy():
    others = [
        other("linear", BETTER, validation=0.7),
        other("random_forest", WORSE, validation=0.75),
        other("dummy", SAME, validation=0.9),
    ]
    assert "is worse than `random_forest`" in verdict(COMPARED, others, "95 %")


def test_a_second_figure_is_told_where_it_says_otherwise():
    said = verdict(COMPARED, [other(accuracy=SAME, roc_auc=WORSE)], "95 %")
    assert "By roc_auc it is worse than it: roc_auc -0.0300 (95 % interval -0.0500 to -0.0100)." in said
    assert "Take that" in said
    assert "Keep it." in verdict(COMPARED, [other(accuracy=SAME, roc_auc=BETTER)], "95 %")
    assert "Keep it." in verdict(COMPARED, [other(accuracy=BETTER, roc_auc=WORSE)], "95 %")
    assert "roc_auc" not in verdict(COMPARED, [other(accuracy=SAME, roc_auc=SAME)], "95 %")


def test_worse_probabilities_are_told_beside_equal_classes():
    said = verdict(COMPARED, [DUMMY, other(accuracy=SAME, log_loss=(0.2, 0.1, 0.3))], "95 %")
    assert "By log_loss it is worse than it: log_loss +0.2000 (95 % interval +0.1000 to +0.3000)." in said
    assert "Take that" in said
    assert "probabilities" not in said  # they are better than the dummy's


def test_probabilities_worse_than_the_class_shares_are_told_though_the_classes_are_better():
    """As wine quality has it without a temperature: accuracy 0.62 and log loss 1.59, where the dummy has 1.27."""
    dummy = other("dummy", (0.2, 0.1, 0.3), log_loss=(0.32, 0.2, 0.4), validation=0.4)
    said = verdict(COMPARED, [dummy, other(accuracy=BETTER)], "95 %")
    assert (
        "The probabilities are worse than the class shares, which `dummy` gives: log_loss +0.3200 (95 % interval "
        "+0.2000 to +0.4000)." in said
    )
    alone = verdict(COMPARED, [dummy], "95 %")
    assert "By log_loss it is worse than it" in alone
    assert "trainer.monitor=loss" in alone


def test_the_probabilities_have_a_table_of_their_own():
    others = [other("linear", WORSE), other("random_forest", SAME)]
    others[0] = replace(others[0], test={**ALL, "log_loss": 0.5})
    _, table, *_ = section("mlp", COMPARED, ALL, {"log_loss": (0.4, 0.5)}, others, "95 %")
    lines = table.splitlines()
    level = "95 % interval"
    assert lines[0] == f"| model | test log_loss | {level} | difference | {level} | test calibration_error | {level} |"
    assert lines[2] == "| **mlp** (this run) | 0.4500 | 0.4000 – 0.5000 |  |  | 0.0200 |  |"
    assert [line.split(" | ")[0] for line in lines[3:]] == ["| random_forest", "| linear"]
    assert "| -0.0100 | -0.0300 to +0.0100 | 0.0200 |" in lines[3]


def test_less_of_an_error_is_better():
    apart = {"r2": (0.1, 0.05, 0.15), "mae": (-12.3456, -20.0, -5.0)}
    forest = BaselineTable("random_forest", {"r2": 0.5}, {"r2": 0.5, "mae": 60.0}, {}, apart)
    assert (forest.says("r2"), forest.says("mae")) == (1, 1)
    said = verdict(OF_NUMBERS, [forest], "90 %")
    assert said == (
        "**This run beats `random_forest`**, the best of them on validation rows: r2 +0.1000 (90 % interval +0.0500 "
        "to +0.1500). Keep it."
    )


def test_who_is_no_better_than_the_dummy_is_told_so():
    said = verdict(COMPARED, [other("dummy", SAME, validation=0.5), other(accuracy=WORSE)], "95 %")
    assert "Nor can it be told apart from `dummy`, which does not look at the inputs: accuracy +0.0100" in said
    worse = verdict(COMPARED, [other("dummy", WORSE, validation=0.5), other(accuracy=WORSE)], "95 %")
    assert "It is worse even than `dummy`" in worse
    alone = verdict(COMPARED, [other("dummy", SAME)], "95 %")
    assert alone.startswith("**This run cannot be told apart from `dummy`**, which does not look at the inputs")
    assert "search" in alone.lower()
    assert "model=dummy" not in alone
    assert "Keep it" in verdict(COMPARED, [DUMMY], "95 %")


def test_a_figure_that_does_not_exist_decides_nothing():
    single_row = BaselineTable("dummy", {"mae": 1.0}, {"mae": 1.0}, {"mae": (1.0, 1.0)}, {"mae": (0.0, 0.0, 0.0)})
    assert verdict(OF_NUMBERS, [single_row], "95 %").startswith("r2 does not exist")
    table, *_ = section("linear", OF_NUMBERS, {"mae": 1.0}, {"mae": (1.0, 1.0)}, [single_row], "95 %")
    assert "| **linear** (this run) |  |  |  |  | 1.000 |" in table


def test_the_table_has_this_run_first_and_then_the_best():
    others = [DUMMY, other("random_forest", WORSE), other(accuracy=BETTER)]
    table, *_ = section("mlp", COMPARED, ALL, {"accuracy": (0.7, 0.9)}, others, "95 %")
    lines = table.splitlines()
    assert lines[2] == "| **mlp** (this run) | 0.8000 | 0.7000 – 0.9000 |  |  | 0.8500 |"
    assert "| gradient_boosting | 0.8000 | 0.7000 – 0.9000 | +0.0300 | +0.0100 to +0.0500 | 0.8500 |" in lines
    assert lines[1].count("---:") == 5


@pytest.mark.parametrize(("low", "advice"), [(0.0003, "Either will do"), (0.02, "Keep it.")])
def test_an_interval_that_all_but_holds_0_keeps_no_model(low, advice):
    said = verdict(COMPARED, [DUMMY, other(accuracy=(0.05, low, 0.1))], "95 %")
    assert advice in said
    assert ("all but holds 0" in said) == (low < 0.005)
