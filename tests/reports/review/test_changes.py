"""make review: what changed against a base, as Markdown; and the workflows that post it."""

import json
import os
import re
import runpy
import subprocess

import pytest
import yaml
from scipy.stats import norm

from hypermap.core.errors import UserError
from hypermap.core.paths import ROOT
from hypermap.reports.review.changes import LONGEST, MARKER, Changes, review
from hypermap.reports.review.metric_diff import MetricDiffs, Side

REVIEW = ("python", "src/review.py")
QUIET = {"GITHUB_SERVER_URL": "", "CI_PROJECT_URL": ""}  # these tests may run in CI themselves
VALIDATION, TEST = "reports/validation.json", "reports/test.json"
STUDY = {
    "study": "quick",
    "objectives": ["accuracy"],
    "directions": ["maximize"],
    "trials": {"complete": 3, "pruned": 5},
    "best": {"trial": 8, "accuracy": 0.98, "value": 0.98},
    "verdicts": [
        {"check": "edge", "level": "act", "figure": "lr: 0.029", "advice": "Widen <it>.", "command": "python x lr=1"},
        {"check": "cost", "level": "look", "figure": "2", "advice": "Look."},
        {"check": "noise", "level": "ok", "figure": "3", "advice": "Fine."},
    ],
    "confirmed": [
        {"label": "trial 8", "mean": 0.9712, "sd": 0.0042, "n": 5},
        {"label": "baseline", "n": 1, "sd": None},
    ],
}


def side(address=None, **files):
    """A state with these files; a keyword is a path's end, so that `quick__study` is quick/study.json."""
    names = {"intervals": "reports/intervals.json", "evaluate": "reports/config/evaluate.yaml"}
    names |= {name: f"reports/studies/{name.replace('__', '/')}.json" for name in files if "__" in name}
    texts = {names[name]: json.dumps(content) for name, content in files.items()}
    return Side("`main` (`1234567`)", texts.get, address)


def pairs(before, now):
    """What `dvc … diff` says of two flat mappings."""
    return {name: {"old": before.get(name), "new": now.get(name)} for name in [*before, *now]}


def changes(before=None, now=None, **others):
    return Changes(before or side(), now or side(), **others)


def intervals(low, high, name="accuracy"):
    return {"validation": {name: [low, high]}}


def accuracies(before, now, **others):
    """A change of the accuracy whose 95 % interval has halves of 0.01 at the base and 0.02 now: together 0.022361."""
    files = {"before": side(intervals=intervals(0.96, 0.98)), "now": side(intervals=intervals(0.95, 0.99))}
    metrics = {VALIDATION: pairs({"validation_accuracy": before}, {"validation_accuracy": now})}
    return changes(**files, metrics=metrics, **others)


def rows(text, title):
    """The lines of the table under a heading, as lists of cells."""
    section = text.split(f"### {title}\n", 1)[1].split("\n### ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def test_nothing_changed_is_one_line():
    told = review(changes(metrics={VALIDATION: pairs({"validation_accuracy": 0.9}, {"validation_accuracy": 0.9})}))
    assert told.splitlines()[0] == MARKER
    assert [line for line in told.splitlines()[1:] if line] == [
        "Nothing changed against `main` (`1234567`): no parameter, metric, plot or study."
    ]


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (0.97 + 0.0223, "0.9923 (+0.0223), within the noise of ±0.022: no evidence that it is better."),
        (0.97 + 0.0224, "0.9924 (+0.0224), beyond the noise of ±0.022: better."),
        (0.97 - 0.0223, "0.9477 (-0.0223), within the noise of ±0.022: no evidence that it is worse."),
        (0.97 - 0.0224, "0.9476 (-0.0224), beyond the noise of ±0.022: worse."),
    ],
)
def test_a_change_is_beyond_the_noise_from_two_combined_standard_errors_on(now, words):
    told = review(accuracies(0.97, now))
    assert f"**Validation accuracy 0.9700 → {words}**" in told
    assert ("beyond the noise" in rows(told, "Metrics")[0][5]) == ("beyond" in words)


def test_the_noise_is_that_of_a_two_sided_test_with_the_confidence_of_each_side():
    before = side(intervals=intervals(0.96, 0.98), evaluate={"evaluation": {"confidence": 0.9}})
    now = side(intervals=intervals(0.95, 0.99), evaluate={"evaluation": {"confidence": 0.99}})
    metrics = {VALIDATION: pairs({"validation_accuracy": 0.9}, {"validation_accuracy": 0.95})}
    metric = MetricDiffs(before, now, metrics, {}).all[0]
    error = ((0.01 / norm.ppf(0.95)) ** 2 + (0.02 / norm.ppf(0.995)) ** 2) ** 0.5
    assert metric.margin == pytest.approx(norm.ppf(0.975) * error)
    assert 2 * norm.sf(metric.margin / error) == pytest.approx(0.05)


def test_a_mean_over_several_trainings_has_the_noise_of_its_trainings():
    def several(mean, deviation, fits):
        return {"validation_accuracy": mean, "validation_accuracy_std": deviation, "validation_fits": fits}

    metrics = {VALIDATION: pairs(several(0.9, 0.02, 5), several(0.95, 0.03, 9))}
    both = MetricDiffs(side(intervals=intervals(0.1, 0.9)), side(), metrics, {})
    assert both.leading.margin == pytest.approx(1.96 * (0.02**2 / 5 + 0.03**2 / 9) ** 0.5, rel=1e-4)
    told = review(changes(metrics={VALIDATION: pairs({"validation_accuracy": 0.9}, several(0.95, 0.03, 9))}))
    assert "(+0.0500): not comparable, see below.**" in told
    assert "One side validates by a single training" in told


def test_which_way_is_better_follows_from_the_metric_and_an_unknown_one_has_no_verdict():
    before = {
        "test_log_loss": 0.5,
        "test_rmse": 1234.0,
        "test_r2": 0.2,
        "test_zeal": 1.0,
        "mine": 1,
        "test_roc_auc": 0.5,
    }
    now = {
        "test_log_loss": 0.4,
        "test_rmse": 1300.0,
        "test_r2": 0.3,
        "test_zeal": 2.0,
        "mine": 3,
        "test_roc_auc": 0.50001,
    }
    told = {line[0]: line[1:] for line in rows(review(changes(metrics={TEST: pairs(before, now)})), "Metrics")}
    assert told == {
        "mine": ["1", "3", "+2", "–", ""],
        "test_log_loss": ["0.5000", "0.4000", "-0.1000", "–", "better, noise not known"],
        "test_r2": ["0.2000", "0.3000", "+0.1000", "–", "better, noise not known"],
        "test_rmse": ["1,234", "1,300", "+66.00", "–", "worse, noise not known"],
        "test_roc_auc": ["0.5000", "0.5000", "+1e-05", "–", "better, noise not known"],
        "test_zeal": ["1.0000", "2.0000", "+1.0000", "–", ""],
    }


def test_metrics_of_one_side_are_new_or_gone_and_what_is_no_number_does_no_harm():
    before = {"test_accuracy": 0.9, "test_f1": float("nan"), "note": "a"}
    now = {"test_r2": 0.5, "test_f1": 0.5, "note": "b"}
    told = {line[0]: line[1:] for line in rows(review(changes(metrics={TEST: pairs(before, now)})), "Metrics")}
    assert told["test_accuracy"] == ["0.9000", "–", "–", "–", "gone"]
    assert told["test_r2"] == ["–", "0.5000", "–", "–", "new"]
    assert told["test_f1"] == ["nan", "0.5000", "–", "–", ""]
    assert told["note"] == ["a", "b", "–", "–", ""]


def test_figures_of_other_rows_are_not_compared_but_another_scaling_leaves_the_rows():
    def of(**data):
        return review(accuracies(0.5, 0.9, params={"reports/config/preprocess.yaml": pairs(*data.values())}))

    told = of(before={"data.split_seed": 0}, now={"data.split_seed": 1})
    assert "not comparable, see below.**" in told
    assert "The figures are of other rows (`data.split_seed`), so not comparable." in told
    assert rows(told, "Metrics")[0][4:] == ["–", "not comparable"]
    told = of(before={"data.scaling": "unit", "data.root": "a"}, now={"data.scaling": "standard", "data.root": "b"})
    assert "beyond the noise of ±0.022: better.**" in told


def test_the_order_comes_first_and_then_what_follows_from_the_menu():
    params = {
        "reports/config/train.yaml": pairs({"optimizer.lr": 0.01, "b": [1, 2]}, {"optimizer.lr": 0.1, "b": None}),
        "params.yaml": pairs({"optimizer.lr": 0.01, "a": "x|`y`"}, {"optimizer.lr": 0.1, "seed": 0, "a": True}),
    }
    assert rows(review(changes(params=params)), "Parameters") == [
        ["`a`", "`` x\\|`y` ``", "`true`", ""],
        ["`optimizer.lr`", "`0.01`", "`0.1`", ""],
        ["`seed`", "–", "`0`", ""],
        ["`b`", "`[1, 2]`", "–", "menu"],
    ]
    assert rows(review(changes(params={"params.yaml": params["params.yaml"]})), "Parameters")[1] == [
        "`optimizer.lr`",
        "`0.01`",
        "`0.1`",
    ]


def test_results_that_are_older_than_the_order_are_told():
    deps = {"params.yaml": "modified", "data/prepared": "deleted", "src/train.py": "modified"}
    status = {"train": [{"changed deps": deps}, {"changed outs": {"models": "modified"}}, "changed command"]}
    told = review(changes(status=status))
    assert (
        "**Not reproduced:** `params.yaml`, `src/train.py` changed after these results; `dvc repro` renews them."
        in told
    )
    in_ci = {"train": [{"changed deps": {"data/prepared": "deleted"}}, {"changed outs": {"models": "not in cache"}}]}
    assert "Not reproduced" not in review(changes(status=in_ci))


def test_curves_are_told_by_their_ends_and_other_plots_by_their_names():
    def plot(x, y, before, now, **more):
        data = [{x: a, y: b, "rev": rev, **more} for rev, ps in (("1234", before), ("workspace", now)) for a, b in ps]
        labels = {"<DVC_METRIC_X_LABEL>": x, "<DVC_METRIC_Y_LABEL>": y, "<DVC_METRIC_DATA>": data}
        return [{"type": "vega", "anchor_definitions": labels}]

    several = [("1", "0.9"), ("2", "0.5")]
    plots = {
        "loss": plot("epoch", "dvc_inferred_y_value", several, [("1", "0.25")], field="train_loss"),
        "rate": plot("epoch", "lr", several, several),
        "odd": plot("epoch", "lr", [], [("1", "")]),
        "ROC": plot("fpr", "tpr", several, several[:1]),
        "image": [{"type": "image", "url": "x.png"}],
    }
    told = review(changes(plots={"data": plots}))
    assert rows(told, "Plots") == [
        ["loss: train_loss", "0.5000 (epoch 2)", "0.2500 (epoch 1)"],
        ["odd", "–", "(epoch 1)"],
    ]
    assert "Changed as well: ROC." in told
    assert "image" not in told


FILES = {
    "reports/pictures/a b.png": "M",
    "reports/pictures/new.png": "A",
    "reports/pictures/old.png": "D",
    "x.csv": "M",
}


def test_pictures_are_linked_on_both_sides_where_both_can_be_seen():
    told = review(changes(side("https://x/blob/1/"), side("https://x/blob/2/"), files=FILES))
    at = "https://x/blob/%d/reports/pictures/%s.png"
    assert (
        f"Pictures: [a b]({at % (2, 'a%20b')}) ([base]({at % (1, 'a%20b')})), [new]({at % (2, 'new')}) (new), "
        f"old (removed; [base]({at % (1, 'old')}))."
    ) in told
    told = review(changes(side(), side(""), files=FILES))
    assert "Pictures: [a b](reports/pictures/a%20b.png), [new](reports/pictures/new.png) (new), old (removed)." in told


def test_a_new_study_tells_its_best_its_verdicts_and_what_to_do():
    path = "reports/studies/quick/study.json"
    told = review(changes(now=side("", quick__study=STUDY), files={path: "A"}))
    assert (
        "- **`quick`** (new): maximize accuracy, best 0.9800 (trial 8); 8 trials: 3 complete, 5 pruned; "
        f"1 act, 1 look, 1 ok. [study.json]({path})\n"
        "  - act, edge: lr: 0.029. Widen &lt;it>. `python x lr=1`\n"
        "  - trained again: 0.9712 ±0.0042 (trial 8, 5 seeds)\n"
    ) in told


def test_a_changed_study_tells_what_its_best_was_and_a_removed_one_is_named():
    worse = STUDY | {"best": {"trial": 2, "value": 0.97}}
    before, now = side(quick__study=worse, gone__study=STUDY), side("", quick__study=STUDY, gone__other={})
    files = {"reports/studies/quick/study.json": "M", "reports/studies/gone/study.json": "D"}
    told = review(changes(before, now, files=files))
    assert "- **`gone`**: removed.\n" in told
    assert "- **`quick`**: maximize accuracy, best 0.9700 → 0.9800 (trial 8);" in told
    other = side(quick__study=worse | {"objectives": ["loss"]})
    assert "maximize accuracy, best 0.9800 (trial 8);" in review(changes(other, now, files=files))


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({}, "changed"),
        ([], "changed"),
        ({"best": None, "verdicts": None, "trials": None, "confirmed": None}, "changed"),
        ({"best": {"value": 0.5}, "trials": {"complete": 0}, "verdicts": [3, {}]}, "0 act, 0 look, 0 ok"),
        ({"objectives": ["a"], "best": {"value": 0.5}}, "a, best 0.5000"),
        ({"objectives": ["a", "b"], "directions": ["minimize", "maximize"]}, "minimize a, maximize b"),
        ({"objectives": ["a"], "directions": ["minimize"], "trials": {"failed": 2}}, "minimize a; 2 trials: 2 failed"),
    ],
)
def test_a_study_of_which_little_is_known_is_told_as_far_as_it_goes(record, told):
    files = {"reports/studies/odd/trials.csv": "M"}
    assert f"- **`odd`**: {told}. [study.json]" in review(changes(now=side("", odd__study=record), files=files))


def test_a_damaged_study_and_a_comparison_are_named():
    texts = {"reports/studies/bad/study.json": "{", "reports/studies/two/comparison.csv": "a,b"}
    told = review(changes(now=Side("now", texts.get, ""), files=dict.fromkeys(texts, "A")))
    assert "- **`bad`** (new): changed. [study.json](reports/studies/bad/study.json)\n" in told
    assert "- **`two`** (new): changed. [comparison.csv](reports/studies/two/comparison.csv)\n" in told


def test_the_noise_of_retraining_is_told_where_a_study_has_measured_it():
    told = review(
        Changes(
            side(intervals=intervals(0.9, 0.95)),
            side(quick__study=STUDY),
            metrics={VALIDATION: pairs({"validation_accuracy": 0.9}, {"validation_accuracy": 0.91})},
            studies=["quick", "none"],
        )
    )
    assert "standard deviations of retraining in studies: `quick` ±0.0042 (trial 8, 5 seeds).\n" in told


def test_there_is_no_html_and_every_table_is_whole():
    many = {f"key.{k}|<b>": k for k in range(LONGEST + 3)}
    told = review(
        changes(
            now=side("", quick__study=STUDY),
            params={"params.yaml": pairs(many, {})},
            metrics={TEST: pairs({"test_accuracy": 0.1, "odd": "<i>"}, {"test_accuracy": 0.2, "odd": "<u>"})},
            files={"reports/studies/quick/study.json": "M"},
        )
    )
    prose = re.sub(r"`[^`]*`", "", told.removeprefix(MARKER))
    assert not re.search(r"(?<!\\)<", prose)
    assert "… and 3 lines more." in told
    for table in re.findall(r"(?:^\|.*\n)+", told, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


# The script


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with a main branch and one that parted from it, and the script's functions."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)

    def git(*words):
        words = ("-c", "user.name=T", "-c", "user.email=t@example.com", *words)
        return subprocess.run(["git", *words], check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet", "--initial-branch=main")
    for words in (("first",), ("parted",)):
        git("commit", "--quiet", "--allow-empty", "-m", *words)
    git.script = runpy.run_path(str(ROOT / "src" / "review.py"))
    git.parted = git("rev-parse", "HEAD")
    return git


def test_the_base_is_where_the_branch_parted_and_on_the_main_branch_what_is_committed(repository):
    git, default_base, named_base = repository, repository.script["default_base"], repository.script["named_base"]
    assert default_base() == (git.parted, f"`HEAD` (`{git.parted[:7]}`)")
    git("checkout", "--quiet", "-b", "topic")
    git("commit", "--quiet", "--allow-empty", "-m", "mine")
    git("checkout", "--quiet", "main")
    git("commit", "--quiet", "--allow-empty", "-m", "theirs")
    git("tag", "theirs")
    git("checkout", "--quiet", "topic")
    assert default_base() == (git.parted, f"`main` (`{git.parted[:7]}`)")
    assert named_base("main") == default_base()
    assert named_base("theirs")[0] == git("rev-parse", "main") != git.parted
    assert named_base("HEAD~1")[0] == git.parted
    git("update-ref", "refs/remotes/origin/main", "main~2")
    assert default_base()[0] == git("rev-parse", "main~2")
    assert default_base()[1].startswith("`origin/main`")


def test_a_base_that_is_not_there_is_told_with_those_that_are(repository):
    with pytest.raises(UserError, match=r"no commit, branch or tag 'mian' \(did you mean 'main'\?\)\. There are: main"):
        repository.script["named_base"]("mian")
    repository("update-ref", "refs/remotes/origin/feature/rate", "main")
    with pytest.raises(UserError, match=r"'feature/rate' \(did you mean 'origin/feature/rate'\?\)"):
        repository.script["named_base"]("feature/rate")
    with pytest.raises(UserError, match="no commit, branch or tag '--all'"):
        repository.script["named_base"]("--all")
    repository("checkout", "--quiet", "--orphan", "alone")
    with pytest.raises(UserError, match="no commit, branch or tag 'HEAD'"):
        repository.script["default_base"]()
    repository("commit", "--quiet", "--allow-empty", "-m", "alone")
    with pytest.raises(UserError, match="share no commit here"):
        repository.script["named_base"]("main")


def test_without_git_or_dvc_one_message_says_so(repository, monkeypatch, tmp_path):
    main = repository.script["main"]
    monkeypatch.setattr("sys.argv", ["src/review.py"])
    with pytest.raises(UserError, match="is no DVC project"):
        main()
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is in no Git repository"):
        main()
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="git was not found"):
        main()
    monkeypatch.setattr("sys.argv", ["src/review.py", "a", "b"])
    with pytest.raises(UserError, match="one base at most"):
        main()


def test_the_script_tells_what_was_edited(clone):
    project = clone()
    project.edit("params.yaml", "lr: 0.01", "lr: 0.02")
    for name, key, value in ((VALIDATION, "validation_accuracy", 0.5), (TEST, "test_accuracy", 0.4)):
        (project.path / name).write_text(json.dumps(project.json(name) | {key: value}))
    (project.path / "reports/pictures/confusion.png").write_bytes(b"\x89PNG")
    (project.path / "reports/studies/tuned").mkdir()
    (project.path / "reports/studies/tuned/study.json").write_text(json.dumps(STUDY))
    project.edit("reports/plots/history.csv", "\n3,", "\n4,")
    github = {"GITHUB_SERVER_URL": "https://hub", "GITHUB_REPOSITORY": "a/b", "GITHUB_SHA": "feed"}
    told = project.ok(*REVIEW, **(QUIET | github)).out
    base = project.ok("git", "rev-parse", "HEAD").out.strip()
    assert told.startswith(f"{MARKER}\n\n**Validation accuracy 0.")
    assert "beyond the noise of ±" in told.splitlines()[2]
    assert f"Against `HEAD` (`{base[:7]}`)." in told
    assert "`params.yaml`" in told.split("**Not reproduced:** ")[1].splitlines()[0]
    assert rows(told, "Parameters") == [["`optimizer.lr`", "`0.01`", "`0.02`"]]
    metrics = rows(told, "Metrics")
    assert [line[0] for line in metrics] == ["validation_accuracy", "test_accuracy"]
    assert all(line[5] == "**worse, beyond the noise**" for line in metrics)
    assert [re.findall(r"epoch \d", " ".join(line)) for line in rows(told, "Plots")] == [["epoch 3", "epoch 4"]] * 5
    picture = "reports/pictures/confusion.png"
    assert f"[confusion](https://hub/a/b/blob/feed/{picture}) ([base](https://hub/a/b/blob/{base}/{picture}))" in told
    assert "- **`tuned`** (new): maximize accuracy" in told
    assert "no commit, branch or tag 'nowhere'. There are: m" in project.fails(*REVIEW, "nowhere")


# The workflows

STUB = """\
#!/bin/bash
for word in "$@"; do printf '%s ' "$word" | tr '\\n' ' '; done >> calls
echo >> calls
[ -z "$REFUSED" ] || { echo "HTTP 403" >&2; exit 1; }
case "$*" in *--paginate*|*per_page*) cat there ;; esac
"""


@pytest.fixture
def post(tmp_path):
    """Runs a step with a stub for the program that speaks to the forge; what it printed, and the stub's calls."""

    def run(text, program, there="", **variables):
        for name, content in (("review.md", f"{MARKER}\n\nnew\n"), ("there", there), (program, STUB), ("calls", "")):
            (tmp_path / name).write_text(content)
        (tmp_path / program).chmod(0o755)
        places = {
            "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
            "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
        }
        done = subprocess.run(
            ["bash", "-e", "-c", text], cwd=tmp_path, env=places | variables, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout, (tmp_path / "calls").read_text().splitlines()

    run.folder = tmp_path
    return run


HUB = {"GITHUB_REPOSITORY": "a/b", "NUMBER": "7", "REFUSED": ""}


@pytest.fixture(scope="module")
def workflow():
    return yaml.safe_load((ROOT / ".github/workflows/review.yml").read_text())


@pytest.fixture(scope="module")
def step(workflow):
    return workflow["jobs"]["review"]["steps"][-1]["run"]


def test_the_workflow_has_the_base_and_may_comment_and_no_more(workflow):
    assert workflow[True] == "pull_request"  # what YAML 1.1 makes of `on`
    assert workflow["permissions"] == {"contents": "read", "pull-requests": "write"}
    steps = workflow["jobs"]["review"]["steps"]
    assert [step["uses"].split("@")[0] for step in steps if "uses" in step] == [
        "actions/checkout",
        "actions/setup-python",
    ]
    assert steps[0]["with"]["fetch-depth"] == 0
    assert [step["run"] for step in steps if step.get("name") in ("environment", "review")] == [
        "make .venv/installed",  # before the review, which prints nothing else then
        'make review BASE="origin/$BASE_REF" > review.md',
    ]


def test_the_first_review_of_a_pull_request_is_a_new_comment(post, step):
    printed, calls = post(step, "gh", GH_TOKEN="t", **HUB)
    assert printed == ""
    assert "--paginate repos/a/b/issues/7/comments --jq" in calls[0]
    assert MARKER in calls[0]
    assert calls[1].strip() == "api --silent --method POST repos/a/b/issues/7/comments --field body=@review.md"
    assert (post.folder / "summary").read_text() == f"{MARKER}\n\nnew\n"


def test_a_later_review_replaces_the_comment(post, step):
    _, calls = post(step, "gh", there="11\n12\n", GH_TOKEN="t", **HUB)
    assert calls[1].split()[2:5] == ["--method", "PATCH", "repos/a/b/issues/comments/11"]
    assert len(calls) == 2


def test_without_a_token_the_review_is_printed(post, step):
    assert post(step, "gh", GH_TOKEN="", **HUB) == (f"{MARKER}\n\nnew\n", [])


def test_with_a_token_that_may_only_read_the_review_is_printed(post, step):
    printed, calls = post(step, "gh", GH_TOKEN="t", **(HUB | {"REFUSED": "1"}))
    assert printed.startswith("::warning::")
    assert printed.endswith(f"{MARKER}\n\nnew\n")
    assert len(calls) == 1


LAB = {"CI_API_V4_URL": "https://lab/api/v4", "CI_PROJECT_ID": "5", "CI_MERGE_REQUEST_IID": "7", "REFUSED": ""}


@pytest.fixture(scope="module")
def gitlab_step():
    page = (ROOT / "docs/review.md").read_text()
    snippet = next(text for text in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "CI_PROJECT_ID" in text)
    return yaml.safe_load(snippet)["review"]["script"][-1]


@pytest.mark.parametrize(
    ("there", "method", "address"),
    [
        ([], "POST", "merge_requests/7/notes"),
        ([{"id": 3, "body": "x"}, {"id": 4, "body": f"{MARKER}\nold"}], "PUT", "merge_requests/7/notes/4"),
    ],
)
def test_the_job_for_gitlab_posts_one_note_and_renews_it(post, gitlab_step, there, method, address):
    _, calls = post(gitlab_step, "curl", there=json.dumps(there), REVIEW_TOKEN="t", **LAB)
    assert len(calls) == 2
    assert f"--request {method} " in calls[1]
    assert calls[1].split()[-1] == f"https://lab/api/v4/projects/5/{address}"
    assert "--data-urlencode body@review.md" in calls[1]


def test_the_job_for_gitlab_prints_without_a_token(post, gitlab_step):
    assert post(gitlab_step, "curl", REVIEW_TOKEN="", **LAB) == (f"{MARKER}\n\nnew\n", [])
