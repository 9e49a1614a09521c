"""python src/study.py: a study is looked at, stopped, gone on with and fetched, also from another clone."""

import re
import shutil

import pytest

from hypermap.search.storage import open_storage
from support import postgres

SWEEP = (
    "python", "src/train.py", "-m", "optimizer.lr=interval(0.001,0.1)", "hydra/sweeper/sampler=random",
    "hydra/sweeper/pruner=none", "hydra.sweeper.study_name=s", "hydra.sweeper.report=false",
)  # fmt: skip
STUDY = ("python", "src/study.py")


def experiments(project) -> list[str]:
    return re.findall(r"\[(s-\d+)\]", project.ok("dvc", "exp", "list").out)


def test_a_study_is_watched_stopped_and_gone_on_with(clone):
    project = clone()
    out = project.ok(*SWEEP, "hydra.sweeper.n_trials=40", "hydra.sweeper.detach=true").out
    for verb in ("watch", "stop", "resume"):
        assert f"\n  python src/study.py {verb} s" in out
    log = project.path / "studies/s/log.txt"
    project.until(lambda: "trial 0" in log.read_text())
    assert "The workers of s stop after their running epochs" in project.ok(*STUDY, "stop", "s").out
    project.until(lambda: "Stopped: it was asked to. Run the same command to resume." in log.read_text())
    status = project.ok(*STUDY, "status", "s").out
    done = int(re.search(r"(\d+) of 40 trials", status)[1])
    assert 0 < done < 40
    assert re.search(r"best: trial \d+, accuracy 0\.\d+: optimizer\.lr=", status)

    out = project.ok(*STUDY, "resume", "s", f"hydra.sweeper.n_trials={done + 2}").out
    assert f"{done + 2} of {done + 2} trials" in out
    assert project.ok(*STUDY, "watch", "s", "every=0.1").out.count("Study s: maximize accuracy") == 1  # it is finished
    assert f"{done + 2} complete trials in " in project.ok(*STUDY, "fetch", "s").out


@pytest.mark.skipif(postgres.why_not() is not None, reason=postgres.why_not() or "")
def test_a_study_in_a_database_is_that_of_every_clone(clone):
    with postgres.postgres() as url:
        storage = f"hydra.sweeper.storage={url}"
        one, other, third = clone(), clone(), clone()
        one.ok(*SWEEP, storage, "hydra.sweeper.n_trials=2")
        shutil.rmtree(other.path / "conf/sweep")  # the study has the configuration that it began with
        assert "4 of 4 trials: 4 complete" in other.ok(*SWEEP, storage, "hydra.sweeper.n_trials=4").out
        assert (other.path / "studies/s/.conf/sweep/quick.yaml").exists()
        names = [f"s-{number:04d}" for number in range(4)]
        assert experiments(one) == names[:2]
        assert experiments(other) == names

        told = third.fails(*STUDY, "fetch", "s")
        assert "No study 's' here" in told
        assert "holds no study 'a'. It has: s." in third.fails(*STUDY, "fetch", "a", f"storage={url}")
        assert "4 of 4 trials" in third.ok(*STUDY, "status", "s", f"storage={url}").out
        assert not (third.path / "studies/s").exists()
        assert "4 complete trials in " in third.ok(*STUDY, "fetch", "s", f"storage={url}").out
        assert experiments(third) == names
        for number in range(4):
            texts = {(p.path / f"studies/s/{number}/params.yaml").read_text() for p in (other, third)}
            assert len(texts) == 1
        number = int(re.search(r"has trial (\d) of s", third.ok("python", "src/promote.py", "s").out)[1])
        params = open_storage(url).get_all_trials(1)[number].params
        assert third.yaml("params.yaml")["optimizer"]["lr"] == pytest.approx(params["optimizer.lr"])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "'' is no verb: python src/study.py status|watch|stop|resume|fetch|serve STUDY"),
        (["staus", "s"], "'staus' is no verb (did you mean 'status'?)"),
        (["status"], "name a study: python src/study.py status STUDY"),
        (["status", "s"], "No study 's' here"),
        (["status", "s", "storage=sqlite:///absent.db"], "storage=sqlite:///absent.db: there is no such file"),
        (["resume", "s", "n_jobs=2"], "'n_jobs=2' is not understood"),
        (["serve"], "give the database: python src/study.py serve storage=postgresql://USER@HOST/NAME"),
        (["serve", "storage=journal.log"], "storage=journal.log is no database"),
        (["serve", "storage=sqlite:///a.db", "port=many"], "port=many: it is a whole number"),
    ],
)
def test_mistakes_are_told(clone, words, told):
    assert told in clone.shared.fails(*STUDY, *words)
