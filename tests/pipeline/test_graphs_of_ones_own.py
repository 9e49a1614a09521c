"""A graph of one's own, from tables to predictions, by the commands of a user."""

import csv

import numpy as np
import pytest

from support.own_graphs import made_up, write_made_up, write_tables

NODES = 240
SMALL = ("data.path=graph", "trainer.epochs=40", "model.hidden=[8]", "evaluation.bootstrap_repeats=100")


@pytest.fixture(scope="module")
def project(clone):
    own = clone()
    write_made_up(own.path / "graph", nodes=NODES)
    return own


def parts():
    """Return which split each node is in: a third each."""
    return [("train", "validation", "test")[k // 2 % 3] for k in range(NODES)]


def test_a_graph_is_trained_on_and_its_nodes_predicted(project):
    project.ok("python", "src/order.py", "graph", *SMALL)
    assert project.ok("dvc", "repro").stages == ["compose", "preprocess", "train", "baselines", "evaluate"]
    assert project.json("reports/test.json")["test_accuracy"] > 0.85
    assert set(project.json("reports/baselines.json")) == {"dummy", "label_propagation", "node_logistic"}
    report = (project.path / "reports/report.md").read_text()
    assert "## The graph" in report
    assert f"{NODES} nodes with" in report
    assert "Homophily: 0." in report
    assert "| neighbors | test rows | accuracy | standard error |" in report
    assert "Transductive: the features and edges of validation and test nodes are known in training" in report
    (project.path / "some.csv").write_text("name\nn5\nn4\n")
    for source in ("some.csv", "graph"):
        project.ok("python", "src/predict.py", f"input={source}", "output=out.csv")
        with (project.path / "out.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [row["node"] for row in rows][:2] == (["n5", "n4"] if source == "some.csv" else ["n0", "n1"])
    assert np.mean([row["prediction"] == f"class_{int(row['node'][1:]) % 2}" for row in rows]) > 0.85
    (project.path / "other.csv").write_text("name\nnobody\n")
    told = project.fails("python", "src/predict.py", "input=other.csv", "output=out.csv")
    assert "Node 'nobody'" in told
    assert "train again" in told
    assert "no network behind it can be exported" in project.fails("python", "src/export.py")


def test_a_killed_run_goes_on_to_the_same_model(project):
    words = (
        "python",
        "src/train.py",
        "experiment=graph",
        *SMALL[:1],
        "trainer.epochs=100",
        "hydra.run.dir=outputs/killed",
    )
    project.killed(*words, epoch=3)
    project.ok(*words)
    project.ok(*words[:-1], "hydra.run.dir=outputs/whole")
    killed, whole = ((project.path / f"outputs/{name}/model.safetensors").read_bytes() for name in ("killed", "whole"))
    assert killed == whole


def test_a_search_over_networks_prunes_and_validates_on_folds(project):
    common = ("python", "src/train.py", "-m", "experiment=graph", *SMALL[:1], "trainer.epochs=4")
    project.ok(
        *common, "model=gcn,graphsage,gat,appnp,node_mlp", "validation=kfold", "validation.k=2", "data.inductive=true",
        "hydra.sweeper.study_name=networks",
    )  # fmt: skip
    assert project.json("reports/studies/networks/study.json")["trials"] == {"complete": 5}
    done = project.ok(
        *common, "model.dropout=0.0,0.1,0.2,0.3,0.4,0.5", "hydra.sweeper.stack=6", "hydra.sweeper.study_name=dropouts",
        "hydra/sweeper/pruner=threshold", "hydra.sweeper.pruner.lower=0.6",
    )  # fmt: skip
    assert "a product with a graph's edges, or sparse features, is of one network at a time" in done.out + done.err


def test_classes_of_test_nodes_reach_no_training_and_shuffled_ones_teach_nothing(project):
    graph = dict(zip(("names", "numbers", "labels", "edges"), made_up(NODES), strict=True))
    split = parts()
    flipped = {"class_0": "class_1", "class_1": "class_0"}
    labels = {
        "right": graph["labels"],
        "wrong": [flipped[own] if part == "test" else own for own, part in zip(graph["labels"], split, strict=True)],
        "shuffled": np.random.default_rng(0).permutation(graph["labels"]).tolist(),
    }
    made, scores = {}, {}
    for name, own in labels.items():
        write_tables(project.path / name, **{**graph, "labels": own}, split=split)
        project.ok(
            "python", "src/train.py", "experiment=graph", f"data.path={name}", "data.split=split",
            "trainer.epochs=20", f"hydra.run.dir=outputs/{name}",
        )  # fmt: skip
        made[name] = (project.path / f"outputs/{name}/model.safetensors").read_bytes()
        scores[name] = project.json(f"outputs/{name}/validation.json")["validation_accuracy"]
    assert made["right"] == made["wrong"] != made["shuffled"]
    assert scores["right"] > 0.85
    assert scores["shuffled"] < 0.5 + 3 * np.sqrt(0.25 / 80)  # the best epoch of 20 on 80 nodes


def test_what_does_not_fit_is_told(project):
    told = project.fails("python", "src/train.py", "experiment=graph", *SMALL[:1], "model=mlp")
    assert "model=mlp takes numbers, and the rows of this data are ids (int64)" in told
    assert "graph" in told
    told = project.fails("python", "src/train.py", "experiment=graph", *SMALL[:1], "trainer.processes=2")
    assert "take trainer.processes=1" in told
    graph = dict(zip(("names", "numbers", "labels", "edges"), made_up(NODES), strict=True))
    split = parts()
    labels = [
        "class_9" if part == "test" and k % 5 else label
        for k, (label, part) in enumerate(zip(graph["labels"], split, strict=True))
    ]
    write_tables(project.path / "late", **{**graph, "labels": labels}, split=split)
    told = project.fails(
        "python", "src/train.py", "experiment=graph", "data.path=late", "data.split=split"
    )  # fmt: skip
    assert "classes that its other rows lack" in told
    assert "class_9" in told
