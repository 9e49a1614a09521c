"""A training by hand says which command gives what it does not."""

import shlex

import pytest

from hypermap.config.compose import params_for
from hypermap.sweeps.cli import pipeline_command


@pytest.mark.parametrize(
    ("words", "experiment", "command"),
    [
        ([], None, "dvc repro"),
        (["optimizer.lr=0.01", "seed=1"], None, "dvc exp run -S optimizer.lr=0.01 -S seed=1"),
        (["experiment=table"], "table", "python src/order.py table && dvc repro"),
        (["data.path=a.csv"], "table", "dvc exp run -S data.path=a.csv"),  # of the order, which names it
    ],
)
def test_the_pipelines_command(words, experiment, command):
    assert pipeline_command(words, experiment) == command


def test_a_table_with_odd_names_is_ordered_as_the_command_says():
    words = ["experiment=table", 'data.path="a b.csv"', "data.target=-1", 'data.drop=["Größe (cm)", 3]']
    python, _, experiment, *given, _, dvc, repro = shlex.split(pipeline_command(words, "table"))
    assert (python, dvc, repro) == ("python", "dvc", "repro")
    data = params_for(experiment, given)["data"]
    assert (data["path"], data["target"], data["drop"]) == ("a b.csv", -1, ["Größe (cm)", 3])
