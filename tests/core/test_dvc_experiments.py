"""Trials as DVC experiments: published without touching anything, shown, applied and trained again by DVC itself."""

import json
import shutil
import subprocess
import sys
import threading
import time

import pytest
import yaml

from hypermap.config.params_file import rewrite
from hypermap.core import dvc_experiments
from hypermap.core.dvc_experiments import Snapshot, experiment_name, forget, keep, order_of, publish, snapshot
from hypermap.core.errors import UserError

PUBLISHER = """
import json, sys, time
from pathlib import Path
from hypermap.core.dvc_experiments import Snapshot, experiment_name, publish

worker, begins, of = int(sys.argv[1]), float(sys.argv[2]), Snapshot(**json.loads(sys.argv[3]))
time.sleep(max(0.0, begins - time.time()))
for number in range(10):
    publish(Path(), of, experiment_name("many", 10 * worker + number), f"seed: {worker}{number}\\n", "{}")
    publish(Path(), of, "wanted-by-all", f"seed: {worker}\\n", "{}")
"""


def state(project):
    """Whatever of a user's work Git could tell."""
    words = (["status", "--porcelain"], ["diff"], ["diff", "--cached"], ["stash", "list"], ["log", "--oneline", "-1"])
    return [project.ok("git", *w).out for w in words], (project.path / ".git" / "index").read_bytes()


def make_dirty(project):
    """An edit that is staged, edits that are not, one of them in use, and a new choice."""
    project.append("README.md", "A staged edit.\n")
    project.ok("git", "add", "README.md")
    project.append("README.md", "And one that is not.\n")
    project.append("conf/optimizer/adam.yaml", "# edited\n")
    project.append("src/hypermap/tasks/losses.py", "# edited\n")
    (project.path / "conf" / "optimizer" / "mine.yaml").write_text("_target_: torch.optim.SGD\nlr: 0.1\n")
    (project.path / "notes.txt").write_text("not a source\n")


def trained(project, **order):
    """The order and the metrics of a training by hand."""
    words = [f"{group}.{k}={v}" for group, values in order.items() for k, v in values.items() if k != "name"]
    project.ok("python", "src/train.py", *words, "hydra.run.dir=outputs/trial")
    text = (project.path / "params.yaml").read_text()
    merged = {group: {**project.yaml("params.yaml")[group], **values} for group, values in order.items()}
    return rewrite(text, merged), (project.path / "outputs" / "trial" / "validation.json").read_text()


def taken(project, study="study"):
    of = snapshot(project.path)
    assert isinstance(of, Snapshot), of
    keep(project.path, of, study)
    return of


def shown(project):
    """What `dvc exp show` has of each experiment."""
    baselines = json.loads(project.ok("dvc", "exp", "show", "--json").out)
    return {
        experiment["name"]: experiment["revs"][0]["data"]
        for baseline in baselines
        for experiment in baseline["experiments"] or ()
    }


def test_a_trial_of_a_dirty_tree_is_shown_and_applied_and_comes_to_the_same_bits(clone):
    project = clone()
    make_dirty(project)
    order, metrics = trained(project, optimizer={"lr": 0.02}, trainer={"threads": 1})
    before = state(project)
    of = taken(project, "tune")
    publish(project.path, of, "tune-0000", rewrite(order, {"seed": 9}), '{"validation_accuracy": 0.5}\n')
    publish(project.path, of, "tune-0042", order, metrics)
    assert state(project) == before
    assert of.dirty

    trial = shown(project)["tune-0042"]
    assert trial["params"]["params.yaml"]["data"] == yaml.safe_load(order)
    assert trial["metrics"] == {
        "reports/validation.json": {"data": json.loads(metrics)},
        "reports/test.json": {"data": {}},  # an error, where there is no file, and not kept in DVC's cache
    }
    difference = json.loads(project.ok("dvc", "exp", "diff", "tune-0042", "tune-0000", "--json").out)
    assert difference["params"]["params.yaml"] == {"seed": {"old": 0, "new": 9, "diff": 9}}
    accuracy = json.loads(metrics)["validation_accuracy"]
    assert difference["metrics"]["reports/validation.json"]["validation_accuracy"]["diff"] == 0.5 - accuracy

    project.ok("dvc", "exp", "apply", "tune-0042")
    touched = ["compose", "preprocess", "train", "baselines", "evaluate"]  # which depend on tasks: losses.py was edited
    assert project.ok("dvc", "repro").stages == touched
    assert (project.path / "reports" / "validation.json").read_text() == metrics
    assert project.json("reports/test.json")["test_accuracy"] > 0.5
    assert project.yaml("reports/config/train.yaml")["optimizer"]["lr"] == 0.02
    assert project.ok("git", "log", "--oneline", "-1").out == before[0][4]
    assert (project.path / "README.md").read_text().endswith("A staged edit.\nAnd one that is not.\n")

    project.ok("dvc", "exp", "remove", "tune-0042")
    references = project.ok("git", "for-each-ref", "--format=%(refname:lstrip=4)", f"refs/exps/{of.commit[:2]}").out
    assert references == "tune-0000\n"


def test_a_worktree_of_a_bare_clone_in_which_nothing_has_run(clone):
    project = clone("fresh")
    shutil.rmtree(project.path)
    bare = project.path.with_suffix(".git")
    clone.shared.ok("git", "clone", "--quiet", "--bare", ".", str(bare))
    clone.shared.ok("git", "-C", str(bare), "worktree", "add", "--quiet", str(project.path))
    order, metrics = ((project.path / name).read_text() for name in ("params.yaml", "reports/validation.json"))
    report = project.path / "reports/studies/strategies/comparison.csv"
    report.write_text("of another search\n")
    assert not taken(project).dirty, "a report of a study decides nothing"
    project.ok("git", "checkout", "--quiet", ".")
    of = taken(project)
    assert not of.dirty
    publish(project.path, of, "study-0007", order, metrics)
    assert project.ok("git", "status", "--porcelain").out == ""
    project.ok("dvc", "exp", "apply", "study-0007")
    assert project.json("reports/test.json") == {}
    assert project.ok("dvc", "repro", "train").stages == ["compose", "preprocess", "train"]
    assert (project.path / "reports" / "validation.json").read_text() == metrics


def test_a_project_in_a_folder_of_a_larger_repository(clone):
    project = clone()
    inner = project.path / "deep" / "er"
    inner.mkdir(parents=True)
    for entry in project.path.iterdir():
        if entry.name not in (".git", "deep"):
            entry.rename(inner / entry.name)
    (project.path / "README.md").write_text("Of the whole.\n")
    project.ok("git", "add", "--all")
    project.ok("git", "commit", "--quiet", "--message", "Deeper")
    project.append("README.md", "Edited.\n")
    of = snapshot(inner)
    assert isinstance(of, Snapshot), of
    publish(inner, of, "deep-0000", "seed: 3\n", '{"validation_accuracy": 0.25}\n')
    changed = project.ok("git", "diff", "--name-status", "HEAD", order_reference(of, "deep-0000")).out.split("\n")
    assert {line for line in changed if not line.startswith("D\tdeep/er/reports/")} == {
        "",
        "M\tREADME.md",
        "M\tdeep/er/params.yaml",
        "M\tdeep/er/reports/test.json",
        "M\tdeep/er/reports/validation.json",
    }
    assert order_of(inner, "deep-0000") == "seed: 3\n"
    told = json.loads(project.ok("dvc", "--cd", "deep/er", "exp", "show", "--json").out)
    trial = told[1]["experiments"][0]["revs"][0]["data"]
    assert trial["metrics"]["reports/validation.json"]["data"] == {"validation_accuracy": 0.25}


def order_reference(of, name):
    return f"refs/exps/{of.commit[:2]}/{of.commit[2:]}/{name}"


def test_eight_processes_publish_at_once_and_none_is_lost(clone):
    project = clone()
    project.ok("git", "config", "--unset", "user.name")
    of = taken(project)
    given = json.dumps({"commit": of.commit, "tree": of.tree, "dirty": of.dirty})
    begins = str(time.time() + 1.5)
    variables = {"PYTHONPATH": "src", "HOME": str(project.path)}
    workers = [project.start("python", "-c", PUBLISHER, str(n), begins, given, **variables) for n in range(8)]
    for worker in workers:
        _, err = worker.communicate(timeout=60)
        assert worker.returncode == 0, err
    assert {order_of(project.path, experiment_name("many", n)) for n in range(80)} == {
        f"seed: {worker}{number}\n" for worker in range(8) for number in range(10)
    }
    assert order_of(project.path, "wanted-by-all") in {f"seed: {worker}\n" for worker in range(8)}
    assert "error" not in project.ok("git", "fsck", "--no-dangling").err
    author = project.ok("git", "log", "-1", "--format=%an <%ae>: %s", order_reference(of, "many-0042")).out
    assert author == "Hypermap <hypermap@localhost>: Trial many-0042\n"


def test_gc_leaves_a_snapshot_that_is_kept(clone):
    project = clone()
    project.append("conf/optimizer/adam.yaml", "# edited\n")
    of = taken(project)
    project.ok("git", "checkout", "--quiet", ".")
    project.ok("git", "gc", "--quiet", "--prune=now")
    publish(project.path, of, "study-0000", "seed: 1\n", "{}")
    reference = order_reference(of, "study-0000")
    assert project.ok("git", "show", f"{reference}:conf/optimizer/adam.yaml").out.endswith("# edited\n")
    assert project.ok("git", "rev-parse", f"{reference}^").out.strip() == of.commit
    project.ok("git", "update-ref", "-d", reference)
    forget(project.path, "study")
    forget(project.path, "study")
    assert project.ok("git", "for-each-ref", "refs/hypermap").out == ""
    project.ok("git", "gc", "--quiet", "--prune=now")
    with pytest.raises(UserError, match="does not hold what the sweep began from"):
        publish(project.path, of, "study-0001", "seed: 1\n", "{}")


def test_a_trial_is_replaced_and_past_a_lock(clone):
    project = clone()
    of = taken(project)
    for seed in range(2):
        publish(project.path, of, "study-0000", f"seed: {seed}\n", "{}")
    lock = project.path / ".git" / f"{order_reference(of, 'study-0000')}.lock"
    lock.touch()
    threading.Timer(0.2, lock.unlink).start()
    publish(project.path, of, "study-0000", "seed: 99\n", "{}")
    assert order_of(project.path, "study-0000") == "seed: 99\n"
    project.ok("git", "commit", "--quiet", "--allow-empty", "--message", "Later")
    publish(project.path, taken(project, "again"), "study-0000", "seed: 1\n", "{}")
    with pytest.raises(UserError, match="2 DVC experiments are called study-0000"):
        order_of(project.path, "study-0000")
    with pytest.raises(UserError, match="No DVC experiment is called study-0001"):
        order_of(project.path, "study-0001")


def test_a_lock_that_stays_is_told(clone, monkeypatch):
    project = clone()
    of = taken(project)
    publish(project.path, of, "study-0000", "seed: 0\n", "{}")
    (project.path / ".git" / f"{order_reference(of, 'study-0000')}.lock").touch()
    monkeypatch.setattr(dvc_experiments, "PATIENCE_S", 0.1)
    with pytest.raises(UserError, match=r"study-0000.*lock"):
        publish(project.path, of, "study-0000", "seed: 1\n", "{}")


def test_where_there_can_be_no_experiments_the_reason_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert "is no DVC project" in snapshot(tmp_path)
    (tmp_path / ".dvc").mkdir()
    assert "not a git repository" in snapshot(tmp_path).lower()
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    assert snapshot(tmp_path) == "the Git repository has no commit yet"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert snapshot(tmp_path) == "git was not found"


def test_a_small_project_without_stages(tmp_path):
    """Nothing but params.yaml: the metrics get a folder of their own, and there is no index."""
    git = ("git", "-c", "user.name=a", "-c", "user.email=b")
    (tmp_path / ".dvc").mkdir()
    (tmp_path / "params.yaml").write_text("seed: 0\n")
    for words in (("init", "--quiet"), ("commit", "--quiet", "--allow-empty", "--message", "Nothing")):
        subprocess.run([*git, *words], cwd=tmp_path, check=True)
    (tmp_path / ".git" / "index").unlink()
    of = snapshot(tmp_path)
    assert isinstance(of, Snapshot)
    assert of.dirty, "params.yaml is not tracked yet, and counts"
    commit = publish(tmp_path, of, "small-0000", "seed: 1\n", "{}\n")
    files = subprocess.run(
        ["git", "ls-tree", "-r", "--name-only", commit], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert files.stdout.split() == ["params.yaml", "reports/validation.json"]
    assert not (tmp_path / ".git" / "index").exists()


def test_names():
    assert experiment_name("tune-lr", 42) == "tune-lr-0042"
    assert experiment_name("tune-lr", 12345) == "tune-lr-12345"
    for name in ("tune", "tune-lr_2.1", "größe"):
        dvc_experiments.check_study_name(name)


@pytest.mark.parametrize(
    "name", ["", "-tune", ".tune", "a/b", "a b", "a..b", "a.lock", "a.", "a@{b", "a~1", "a:b", "a\n"]
)
def test_a_name_that_git_or_dvc_would_refuse(name):
    with pytest.raises(UserError, match="cannot name a study"):
        dvc_experiments.check_study_name(name)


def test_the_object_of_an_empty_folder_is_put_where_dvc_has_its_cache(tmp_path, monkeypatch):
    """Once it is in the usual place nobody asks DVC, which takes long to import, unless a configuration moves it."""
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(tmp_path / "global"))
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    autostage = false\n")
    place = f"files/md5/{dvc_experiments.EMPTY_MD5[:2]}/{dvc_experiments.EMPTY_MD5[2:]}"
    dvc_experiments._cache_an_empty_folder(tmp_path)
    assert (tmp_path / ".dvc" / "cache" / place).read_bytes() == b"[]"
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "dvc.repo", None)  # importing it fails
        dvc_experiments._cache_an_empty_folder(tmp_path)

    (tmp_path / "global").mkdir()
    (tmp_path / "global" / "config").write_text(f"[Cache]\n    dir = {tmp_path}/shared\n")
    dvc_experiments._cache_an_empty_folder(tmp_path)
    assert (tmp_path / "shared" / place).read_bytes() == b"[]"
