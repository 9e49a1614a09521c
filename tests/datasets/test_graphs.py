"""Graphs from files: three formats, splits, and what is wrong with them."""

import io
import pickle
import tarfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from hypermap.core.errors import UserError
from hypermap.data.manifest import Manifest
from hypermap.data.preprocessors.graph import features_of
from hypermap.data.preprocessors.text import decoded
from hypermap.datasets import planetoid
from hypermap.datasets.graphs import graph, read_rows
from support.own_graphs import made_up, write_made_up, write_tables

CORA = Path("../shared/data/cora")
THIRDS = {"test": 1 / 3, "validation": 0.5}


def names(rows):
    return list(decoded(rows))


def neighbors(raw):
    """Return the neighbors of each node, by name."""
    known, found = names(raw.shared["names"]), defaultdict(set)
    for one, two in raw.shared["edges"].T:
        found[known[two]].add(known[one])
    return dict(found)


def simple(folder, edges, labels=("x", "x", "y", "y", "x", "y")):
    """Write six nodes a to f with these edges."""
    return write_tables(
        folder,
        names=list("abcdef"),
        numbers=np.arange(18).reshape(6, 3),
        labels=labels,
        edges=[tuple(e) for e in edges],
    )


def test_tables_of_nodes_and_edges(tmp_path):
    raw = graph(str(simple(tmp_path, ["ab", "bc", "de", "ef"])), **THIRDS)
    every = dict(zip([*names(raw.inputs), *names(raw.test_inputs)], [*raw.targets, *raw.test_targets], strict=True))
    assert every == {"a": 0, "b": 0, "c": 1, "d": 1, "e": 0, "f": 1}
    assert raw.classes == ("x", "y")
    assert (len(raw.test_inputs), raw.validation_rows.tolist()) == (2, [False, False, True, True])
    assert neighbors(raw) == {"a": {"b"}, "b": {"a", "c"}, "c": {"b"}, "d": {"e"}, "e": {"d", "f"}, "f": {"e"}}
    np.testing.assert_allclose(features_of(raw.shared), np.arange(18).reshape(6, 3))
    assert raw.notes == ()
    directed = graph(str(tmp_path), directed=True, **THIRDS)
    assert neighbors(directed) == {"b": {"a"}, "c": {"b"}, "e": {"d"}, "f": {"e"}}


def test_columns_may_stand_anywhere_and_words_are_one_hot(tmp_path):
    kinds = ["x", "y", "", "y", "x", "x", "y"]
    topics = ["red", "blue", "red", "green", "red", "red", "red"]
    ages = ["3", "", "5", "1", "0", "0", "0"]
    lines = [f"{kind},{k},{topics[k]},{ages[k]}" for k, kind in enumerate(kinds)]
    (tmp_path / "people.csv").write_text("\n".join(["kind,who,topic,age", *lines]))
    (tmp_path / "ties.csv").write_text("weight,to,from\n5,0,1\n5,2,1\n1,3,0\n")
    raw = graph(
        str(tmp_path), nodes="people.csv", edges="ties.csv", id="who", target="kind", source="from", destination="to",
        **THIRDS,
    )  # fmt: skip
    assert {*names(raw.inputs), *names(raw.test_inputs)} == {"0", "1", "3", "4", "5", "6"}  # 2 is in the graph alone
    assert neighbors(raw) == {"0": {"1", "3"}, "1": {"0", "2"}, "2": {"1"}, "3": {"0"}}
    np.testing.assert_array_equal(
        features_of(raw.shared)[:4], [[0, 0, 1, 3], [1, 0, 0, np.nan], [0, 0, 1, 5], [0, 1, 0, 1]]
    )
    assert any("1 node is in the graph without a class" in note for note in raw.notes)


def test_what_is_wrong_with_edges_is_told_and_left_out(tmp_path):
    raw = graph(str(simple(tmp_path, ["ab", "ba", "ab", "cc", "cz", "qd", "cd"])), **THIRDS)
    assert neighbors(raw) == {"a": {"b"}, "b": {"a"}, "c": {"d"}, "d": {"c"}}
    told = " ".join(raw.notes)
    assert "2 edges lead to nodes that there are not, such as 'z'; left out" in told
    assert "1 edge joins a node to itself; left out" in told
    assert "2 edges are there more than once, in either direction; kept once" in told
    assert "2 nodes have no edge, and nothing but their own features" in told


def test_labels_of_each_class_are_drawn_by_the_seed(tmp_path):
    write_made_up(tmp_path, nodes=90, classes=3)
    keys = {"labels_per_class": 4, "validation_nodes": 20, "test_nodes": 30}
    first, again, other = (graph(str(tmp_path), **keys, split_seed=seed) for seed in (0, 0, 1))
    held = first.validation_rows
    assert np.bincount(first.targets[~held]).tolist() == [4, 4, 4]
    assert (held.sum(), len(first.test_inputs)) == (20, 30)
    assert not {*names(first.inputs)} & {*names(first.test_inputs)}
    np.testing.assert_array_equal(first.inputs, again.inputs)
    assert names(first.inputs) != names(other.inputs)
    assert len(graph(str(tmp_path), **{**keys, "test_nodes": None}).test_inputs) == 90 - 12 - 20


def test_a_column_may_say_which_split_a_node_is_in(tmp_path):
    of_graph = dict(zip(("names", "numbers", "labels", "edges"), made_up(12), strict=True))
    parts = ["train"] * 6 + ["val"] * 2 + ["test"] * 3 + [""]
    raw = graph(str(write_tables(tmp_path, **of_graph, split=parts)), split="split")
    assert names(raw.inputs) == [f"n{k}" for k in range(8)]
    assert raw.validation_rows.tolist() == [False] * 6 + [True] * 2
    assert names(raw.test_inputs) == ["n8", "n9", "n10"]


def linqs(folder):
    folder.mkdir(exist_ok=True)
    nodes = [
        (31, "1\t0", "A"),
        (7, "0\t1", "B"),
        (9, "1\t1", "A"),
        (2, "0\t0", "B"),
        (4, "1\t0", "A"),
        (5, "0\t1", "B"),
    ]
    (folder / "papers.content").write_text("\n".join("\t".join(map(str, node)) for node in nodes))
    (folder / "papers.cites").write_text("31\t7\n7\t9\n")
    return folder


def test_linqs_files_in_a_folder_or_an_archive(tmp_path):
    raw = graph(str(linqs(tmp_path / "papers")), **THIRDS)
    every = dict(zip([*names(raw.inputs), *names(raw.test_inputs)], [*raw.targets, *raw.test_targets], strict=True))
    assert every == {"31": 0, "7": 1, "9": 0, "2": 1, "4": 0, "5": 1}
    np.testing.assert_array_equal(features_of(raw.shared)[:3], [[1, 0], [0, 1], [1, 1]])
    assert neighbors(raw) == {"31": {"7"}, "7": {"31", "9"}, "9": {"7"}}
    (tmp_path / "packed").mkdir()
    with tarfile.open(tmp_path / "packed/papers.tgz", "w:gz") as archive:
        archive.add(tmp_path / "papers", "papers")
    for place in ("packed", "packed/papers.tgz"):
        assert graph(str(tmp_path / place), **THIRDS).checksum == raw.checksum


def test_linqs_tables_of_named_features(tmp_path):
    nodes = ["11\tlabel=1\tw-b=0.5\tsummary=w-b", "12\tlabel=2\tw-a=0.25\tw-b=1\tsummary=w-a,w-b"]
    nodes += [f"{k}\tlabel={k % 2 + 1}\tw-a=1\tsummary=w-a" for k in range(13, 17)]
    header = ["NODE\tpaper", "cat=1,2:label\tnumeric:w-a:0.0\tnumeric:w-b:0.0\tsummary"]
    (tmp_path / "P.NODE.paper.tab").write_text("\n".join([*header, *nodes]))
    (tmp_path / "P.DIRECTED.cites.tab").write_text("DIRECTED\tcites\nNO_FEATURES\n5\tpaper:11\t|\tpaper:12\n")
    raw = graph(str(tmp_path), **THIRDS)
    assert raw.classes == ("1", "2")
    np.testing.assert_allclose(features_of(raw.shared)[:3], [[0, 0.5], [0.25, 1], [1, 0]])
    assert neighbors(raw) == {"11": {"12"}, "12": {"11"}}


def planetoid_files(folder, protocol=2, moved=()):
    """Write a graph of eight nodes, of which the test's are 7 and 5, and 6 is nowhere; return its parts."""
    features, one_hot = np.eye(8, 3, dtype=np.float32) + 1, np.eye(2, dtype=np.int32)[[0, 1, 0, 1, 1, 0, 0, 1]]
    lists = defaultdict(list, {0: [1, 2], 1: [0], 2: [0, 5], 5: [2], 3: [4], 4: [3], 7: [7]})
    parts = {
        "x": csr_matrix(features[:2]), "y": one_hot[:2], "allx": csr_matrix(features[:5]), "ally": one_hot[:5],
        "tx": csr_matrix(features[[7, 5]]), "ty": one_hot[[7, 5]], "graph": lists,
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    for name, part in parts.items():
        content = pickle.dumps(part, protocol)
        for now, before in moved:
            content = content.replace(now, before)
        (folder / f"ind.tiny.{name}").write_bytes(content)
    (folder / "ind.tiny.test.index").write_text("7\n5\n")
    return features, one_hot


OF_PYTHON_2 = (
    (b"cscipy.sparse._csr\n", b"cscipy.sparse.csr\n"), (b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"),
)  # fmt: skip


@pytest.mark.parametrize(("protocol", "moved"), [(2, OF_PYTHON_2), (0, OF_PYTHON_2), (4, ())])
def test_planetoid_files_with_their_masks(tmp_path, protocol, moved):
    features, one_hot = planetoid_files(tmp_path, protocol, moved)
    raw = graph(str(tmp_path))
    assert names(raw.inputs) == ["0", "1", "2", "3", "4"]
    assert raw.validation_rows.tolist() == [False] * 2 + [True] * 3
    assert names(raw.test_inputs) == ["5", "7"]
    assert raw.test_targets.tolist() == one_hot[[5, 7]].argmax(1).tolist()
    held = features_of(raw.shared)
    np.testing.assert_array_equal(np.asarray(held)[[0, 1, 2, 3, 4, 5, 7]], features[[0, 1, 2, 3, 4, 5, 7]])
    assert not np.asarray(held)[6].any()
    assert neighbors(raw) == {"0": {"1", "2"}, "1": {"0"}, "2": {"0", "5"}, "3": {"4"}, "4": {"3"}, "5": {"2"}}


class Harmful:
    def __reduce__(self):
        return (Path.touch, (Path("harmed"),))


def test_a_pickle_of_anything_else_is_refused_and_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for harm in (Harmful(), [Harmful()], {0: Harmful()}, np.array([Harmful()], object), "words", csr_matrix):
        with pytest.raises(UserError, match=r"ind\.x is not read: .*write a table of nodes and one of edges"):
            planetoid.read(pickle.dumps(harm), "ind.x")
    for damaged in (b"", pickle.dumps(np.eye(3))[:-20], b"\x80\x02]q\x00(K\x01"):
        with pytest.raises(UserError, match="is not read"):
            planetoid.read(damaged, "ind.x")
    assert not Path("harmed").exists()


def test_arrays_of_a_pickle_are_those_that_were_written():
    for array in (
        np.arange(6).reshape(2, 3),
        np.asfortranarray(np.eye(3, 2, dtype=np.float32)),
        np.array([True, False]),
    ):
        for protocol in (0, 2, 4):
            np.testing.assert_array_equal(planetoid.read(pickle.dumps(array, protocol), "it"), array)
    wide = csr_matrix(np.arange(12).reshape(3, 4))
    np.testing.assert_array_equal(planetoid.read(pickle.dumps(wide, 2), "it").toarray(), wide.toarray())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"path": "nowhere"}, "data.path is nowhere: there is no nowhere"),
        ({"path": None}, "data.path is null: name the folder of a graph's files"),
        ({"target": "lable"}, r"data.target is 'lable' \(did you mean 'label'\?\): no column"),
        ({"nodes": "edges.csv"}, "data.target is null: name the column of the nodes' classes"),
        ({"normalize": "row"}, "data.normalize is 'row'; it is one of auto, rows, standard, none"),
        ({"inductive": "yes"}, "data.inductive is 'yes'; it is true or false"),
        ({"labels_per_class": 70}, "there are 60 nodes of class 'class_0': take 59 or fewer"),
        ({"labels_per_class": 2}, "leaves 116 nodes with a class, too few for data.validation_nodes=500"),
        ({"labels_per_class": 0}, "data.labels_per_class is 0; it is a whole number, 1 or more"),
        ({"split": "label"}, r"column 'label' \(data.split\) says class_0, class_1; it may say train"),
        ({"target": "name", "id": "label"}, "118 nodes have the name of another, such as 'class_0'"),
        ({"source": "b", "destination": "a"}, r"data.source is 'b'.*: no column of .*edges.csv; it has: from, to"),
    ],
)
def test_what_cannot_be_is_told(tmp_path, monkeypatch, change, told):
    monkeypatch.chdir(tmp_path)
    write_made_up(tmp_path / "graph")
    with pytest.raises(UserError, match=told):
        graph(**{"path": "graph", **change})


def test_files_that_make_no_graph_are_told(tmp_path):
    with pytest.raises(UserError, match="no edge joins two of its 6 nodes"):
        graph(str(simple(tmp_path / "strangers", ["xy"])))
    with pytest.raises(UserError, match="all nodes are of the class 'x'"):
        graph(str(simple(tmp_path / "alike", ["ab"], labels=["x"] * 6)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        UserError, match=r"Name the latter: data.nodes=nodes.csv data.edges=edges.csv. It has: no files"
    ):
        graph(str(tmp_path / "empty"))
    (linqs(tmp_path / "torn") / "papers.content").write_text("31\t1\t0\tA\n7\t0\tB\n")
    with pytest.raises(UserError, match=r"papers.content: line 2 has 3 values, where 4 should be"):
        graph(str(tmp_path / "torn"))
    planetoid_files(tmp_path / "half")
    (tmp_path / "half/ind.tiny.tx").unlink()
    with pytest.raises(UserError, match=r"of Planetoid's files, it lacks ind\.tiny\.tx"):
        graph(str(tmp_path / "half"))
    (tmp_path / "torn.zip").write_bytes(b"PK\x03\x04 no more")
    with pytest.raises(UserError, match=r"torn.zip is no archive that can be read"):
        graph(str(tmp_path / "torn.zip"))


def test_nodes_without_features_are_told_apart_by_their_names(tmp_path):
    simple(tmp_path, ["ab", "cd"])
    (tmp_path / "nodes.csv").write_text("name,label\n" + "".join(f"{name},{name in 'ace'}\n" for name in "abcdef"))
    raw = graph(str(tmp_path), **THIRDS)
    np.testing.assert_array_equal(features_of(raw.shared).toarray(), np.eye(6))
    assert any("one-hot" in note for note in raw.notes)
    with pytest.raises(UserError, match=r"nodes have no features, and data\.inductive is true"):
        graph(str(tmp_path), inductive=True)


def test_rows_to_predict_are_names_of_a_table_or_of_a_graph(tmp_path):
    write_made_up(tmp_path / "graph", nodes=20)
    (tmp_path / "some.csv").write_text("name\nn3\nn5\n")
    about = Manifest(task="classification", classes=["a"], shape=[1], arguments={"path": "graph"})
    (some,), (every,) = (list(read_rows([tmp_path / name], about)) for name in ("some.csv", "graph"))
    assert names(some.inputs) == some.columns["node"] == ["n3", "n5"]
    assert names(every.inputs) == [f"n{k}" for k in range(20)]


@pytest.mark.skipif(not CORA.exists(), reason="Cora is not here")
def test_cora_is_as_published():
    raw = graph(str(CORA))
    assert len(raw.inputs) + len(raw.test_inputs) == 2708
    assert features_of(raw.shared).shape == (2708, 1433)
    assert features_of(raw.shared).nnz == 49216
    assert raw.shared["edges"].shape[1] == 2 * 5278
    assert len(raw.classes) == 7


def test_what_a_stream_holds_is_no_more_than_one_object():
    content = pickle.dumps(np.eye(2), 2) + pickle.dumps(Harmful(), 2)
    assert planetoid.read(io.BytesIO(content).getvalue(), "it").shape == (2, 2)
