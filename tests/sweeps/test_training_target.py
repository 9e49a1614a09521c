"""What Hypermap's own training tells a sweep, and what it asks of each trial: the same files as at the beginning."""

import json
import shutil
from pathlib import Path

import optuna
import pytest
import yaml

from hypermap.config.compose import compose
from hypermap.core.errors import UserError
from hypermap.core.paths import CONF
from hypermap.datasets.prepare import file_checksum
from hypermap.search.study import RECORD
from hypermap.search.trial import RunningTrial, running
from hypermap.sweeps import cli
from hypermap.sweeps.training_target import TrainingTarget

FILE = Path("my.csv")


def lines(houses=10):
    """A table whose rows belong to so many houses."""
    rows = [f"{k % 9},{'ab'[k % 5 > 1]},h{k % houses},{('no', 'yes')[k % 3 == 0]}" for k in range(90)]
    return "\n".join(["x,word,house,y", *rows]) + "\n"


def configuration(*overrides):
    table = ["data=table", f"data.path={FILE}", "data.target=y", "data.group=house"]
    return compose([*table, "model=dummy", "data.scaling=none", *overrides])


def identity(*searched):
    return TrainingTarget(cli.prepare, "").study_spec(configuration(), searched, None).identity["data"]


@pytest.fixture(autouse=True)
def table(a_place_of_its_own):
    FILE.write_text(lines())


@pytest.mark.parametrize("searched", ["optimizer.lr", "data.scaling", "data.drop"])
def test_a_study_is_of_the_files_as_they_are_whatever_of_their_preparation_is_searched(searched):
    before = identity(searched)
    assert before == {"files": file_checksum(configuration()["data"])}
    FILE.write_text(lines(houses=9))  # the groups alone are others
    assert identity(searched) != before


@pytest.mark.parametrize("searched", ["data", "data.path", "data.test_path", "data.root"])
def test_a_study_that_searches_among_files_is_of_none_of_them(searched):
    assert identity(searched, "data.scaling") == {}


def test_a_study_of_published_data_is_of_what_was_read():
    def identity(*searched):
        target = TrainingTarget(cli.prepare, "")
        return target.study_spec(compose(["data=digits", "data.rows=200"]), searched, None).identity

    assert set(identity("optimizer.lr")["data"]) == {"files"}
    assert identity("data.scaling")["data"] == {}


def trial_of(data, tmp_path):
    """A trial of a study that began with this identity of its data."""
    study = optuna.create_study(direction="maximize")
    study.set_user_attr(RECORD, {"identity": {"data": data}})
    return RunningTrial(study.ask(), 0, seed=1, folder=tmp_path / "0", objectives=("accuracy",))


def test_a_trial_is_refused_where_the_file_is_another_than_when_the_study_began(tmp_path):
    with running(trial_of(identity(), tmp_path)) as trial:
        (score,) = cli.by_hand(configuration("data.scaling=min_max"), trial.folder)
    assert score == trial.record["figures"]["accuracy"]
    prepared = {path.name for path in Path("data/cache").iterdir()}
    data = identity()
    FILE.write_text(lines(houses=9))
    with (
        running(trial_of(data, tmp_path)) as trial,
        pytest.raises(UserError, match=r"^my\.csv changed during the sweep; put it back or begin another study\.$"),
    ):
        cli.by_hand(configuration(), trial.folder)
    assert {path.name for path in Path("data/cache").iterdir()} == prepared
    FILE.write_text(lines())
    with running(trial_of(data, tmp_path)) as trial:
        cli.by_hand(configuration(), trial.folder)


@pytest.mark.parametrize("final", [None, "refit"])
def test_a_trial_is_trained_once_and_keeps_the_last_fit_for_whoever_takes_it(tmp_path, final):
    chosen = configuration(*([f"final={final}"] if final else []))
    target = TrainingTarget(cli.prepare, "")
    with running(trial_of(identity(), tmp_path)) as trial:
        cli.by_hand(chosen, trial.folder)
    target.before_tell(trial)
    assert not (trial.folder / "split").exists()
    assert json.loads((trial.folder / "model.json").read_text())["final"] == "holdout"
    assert yaml.safe_load((trial.folder / "params.yaml").read_text()).get("final") == final


def test_a_last_fit_is_not_searched():
    with pytest.raises(UserError, match="no trial is trained by it, and so it cannot be searched"):
        TrainingTarget(cli.prepare, "").study_spec(configuration(), ["final"], None)


def test_a_trial_whose_study_noted_no_files_is_trained(tmp_path):
    with running(trial_of({}, tmp_path)) as trial:
        assert len(cli.by_hand(configuration(), trial.folder)) == 1


def test_what_has_no_part_is_asked_of_the_studys_own_menu(tmp_path):
    training = TrainingTarget(cli.prepare, "")
    assert training.ignored_groups("model", "mlp") == ()
    assert "optimizer" in training.ignored_groups("model", "dummy")
    training.conf = tmp_path / "conf"
    shutil.copytree(CONF, training.conf)
    shutil.copy(CONF / "model/dummy.yaml", training.conf / "model/mlp.yaml")
    assert "optimizer" in training.ignored_groups("model", "mlp")


@pytest.mark.parametrize(
    ("words", "gpus"),
    [
        ([], 1),
        (["trainer.device=cuda", "trainer.processes=2"], 2),
        (["trainer.device=cuda:1"], 0),
        (["trainer.device=cpu"], 0),
        (["model=random_forest"], 0),
    ],
)
def test_how_many_gpus_a_worker_has(words, gpus):
    assert TrainingTarget(cli.prepare, "").gpus(compose(words)) == gpus
