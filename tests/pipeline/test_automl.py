"""AutoML as a person uses it: a budget, the pipeline, a file to predict from."""

import json
import re
import shutil

import polars
import pytest
import yaml

from hypermap.automl.cli import within_budget
from hypermap.core.errors import UserError

PORTFOLIO = "automl.portfolio=['model=linear','model=lightgbm model.n_estimators=30','model=dummy']"


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_budget_is_repeated_by_the_pipeline_and_exported_as_one_file(clone):
    own = clone()
    place = own.path
    rows = [f"{k % 17},{(k * 7) % 23},{['a', 'b'][k % 2]},{k % 17 + 3 * (k % 2) + (k * 7) % 5 / 9}" for k in range(300)]
    (place / "houses.csv").write_text("\n".join(["size,age,kind,price", *rows]))
    words = ["data.path=houses.csv", "data.target=price", PORTFOLIO, "automl.search=[linear]", "automl.folds=3"]
    said = own.ok("python", "src/automl.py", *words, "budget=15s").out
    steps = int(re.search(r"\((\d+) steps in", said)[1])
    assert "The ensemble" in said
    first, validation = contents(place / "models"), (place / "reports/validation.json").read_bytes()
    assert json.loads(first["automl.json"])["steps"] == steps
    own.ok("dvc", "repro")
    assert "hypermap.automl" in yaml.safe_load((place / "reports/config/train.yaml").read_text())["code_sha256"]
    assert contents(place / "models") == first
    assert (place / "reports/validation.json").read_bytes() == validation
    report = (place / "reports/report.md").read_text()
    assert report.startswith("# table (houses.csv), automl\n")
    assert f"`automl.steps={steps}` does the same again" in report
    intervals = json.loads((place / "reports/intervals.json").read_text())["validation"]["rmse"]
    assert intervals[0] <= json.loads(validation)["validation_rmse"] <= intervals[1]

    said = own.ok("python", "src/export.py").out
    assert "exported/model.zip" in said
    new = ["input=houses.csv", "output=a.csv"]
    own.ok("python", "src/predict.py", *new)
    shutil.rmtree(place / "models")
    own.ok("python", "src/predict.py", new[0], "output=b.csv", "model=exported/model.zip")
    first, second = (polars.read_csv(place / name)["prediction"] for name in ("a.csv", "b.csv"))
    assert (first - second).abs().max() <= 1e-6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data=titanic"], "name a budget"),
        (["data=titanic", "budget=soon"], "budget=soon: a time is written 90, 60s, 5m or 1.5h."),
        (["data=titanic", "budget=3s"], "10 seconds at least"),
        (["data=titanic", "budget=60s", "preset=god"], "preset=god (did you mean 'good'?)"),
        (["data=titanic", "budget=60s", "jobs=0"], "jobs=0: it is how many trainings run at once"),
        (["data=titanic", "budget=60s", "budget=61s"], "budget is given twice"),
        (["data=digits", "budget=60s"], "automl is for tables, and data=digits is none"),
        (["data=titanic", "budget=60s", "automl.portfolio=['model=boosting']"], "model has no option 'boosting'"),
        (
            ["data=titanic", "budget=60s", "automl.portfolio=['data.target=age']"],
            "age: a candidate may set",
        ),
        (["data=titanic", "budget=60s", "automl.folds=1"], "automl.folds is 1"),
    ],
)
def test_a_mistake_is_a_sentence(words, message):
    with pytest.raises(UserError) as told:
        within_budget(words)
    assert message in str(told.value)
