"""Texts of one's own, in every kind of file, and files that cannot be read."""

import csv
import json

import numpy as np
import polars as pl
import pytest

from hypermap.core.errors import UserError
from hypermap.data.manifest import Manifest
from hypermap.data.preprocessors.text import decoded
from hypermap.datasets.prepare import prepare_settings
from hypermap.datasets.texts import fingerprint, read_rows, texts
from support.own_texts import sentences, write_table

ROWS = [("so good", "yes"), ('a "quoted", one', "no"), ("two\nlines", "yes"), ("none", "no")]


def contents(raw):
    return list(decoded(raw.inputs))


def written(path, rows=ROWS, header=("text", "label"), delimiter=",", encoding="utf-8"):
    with path.open("w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=delimiter).writerows([header, *rows] if header else rows)
    return str(path)


def of_folder(path):
    for k, (text, label) in enumerate(ROWS):
        (path / label).mkdir(parents=True, exist_ok=True)
        (path / label / f"{k}.txt").write_text(text)
    (path / "yes/picture.png").write_bytes(b"no text")
    return str(path)


def as_json(path, lines=False):
    records = [{"text": text, "label": label} for text, label in ROWS]
    path.write_text("\n".join(map(json.dumps, records)) if lines else json.dumps(records))
    return str(path)


def test_every_kind_of_file_gives_the_same(tmp_path):
    pl.DataFrame(ROWS, schema=["text", "label"], orient="row").write_parquet(tmp_path / "a.parquet")
    (tmp_path / "keyed.json").write_text(json.dumps({"train": [list(row) for row in ROWS], "other": []}))
    files = [
        (written(tmp_path / "a.csv"), "label"),
        (written(tmp_path / "a.tsv", delimiter="\t"), "label"),
        (written(tmp_path / "semicolons.csv", delimiter=";"), -1),
        (str(tmp_path / "a.parquet"), "label"),
        (as_json(tmp_path / "a.json"), "label"),
        (as_json(tmp_path / "a.jsonl", lines=True), "label"),
        (f"{tmp_path}/keyed.json#train", 2),
    ]
    for path, target in files:
        raw = texts(path, target=target)
        assert contents(raw) == [text for text, _ in ROWS], path
        assert raw.classes == ("no", "yes")
        assert raw.targets.tolist() == [1, 0, 1, 0]
        assert raw.inputs.dtype == np.uint8
    raw = texts(of_folder(tmp_path / "folder"))
    assert sorted(contents(raw)) == sorted(text for text, _ in ROWS)
    assert raw.targets.tolist() == [0, 0, 1, 1]
    assert raw.notes == (f"1 files of {tmp_path}/folder are no texts by their names, or of no class; left out.",)


def test_columns_are_joined_and_files_too(tmp_path):
    rows = [("1", "Title", "body"), ("10", "Other", ""), ("2", "Third", "more")]
    path = written(tmp_path / "a.csv", rows, header=None)
    raw = texts([path, path], text=[2, 3], target=1, header=False)
    assert contents(raw) == ["Title body", "Other", "Third more"] * 2
    assert raw.classes == ("1", "2", "10")  # in the order of numbers


def test_emoji_and_letters_from_right_to_left_come_through_and_other_encodings_too(tmp_path):
    rows = [("שלום עולם", "he"), ("مرحبا 👋🏽", "ar"), ("e\u0301t\u00e9 \u202eabc", "fr"), ("日本語", "ja")]
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        raw = texts(written(tmp_path / f"{encoding}.csv", rows, encoding=encoding), target="label")
        assert contents(raw) == [text for text, _ in rows]
    raw = texts(written(tmp_path / "old.csv", [("été", "a"), ("œuf", "b")], encoding="cp1252"), target="label")
    assert contents(raw) == ["été", "œuf"]
    assert "was read as Windows-1252" in raw.notes[0]
    (tmp_path / "set/a").mkdir(parents=True)
    (tmp_path / "set/b").mkdir()
    (tmp_path / "set/a/1.txt").write_bytes("été".encode("cp1252"))
    (tmp_path / "set/b/1.txt").write_bytes("œuf".encode("utf-16"))
    assert contents(texts(str(tmp_path / "set"))) == ["été", "œuf"]
    broken = tmp_path / "set/b/2.json"
    broken.write_text('[["\\ud83d", "a"], ["b", "c"]]')  # half of an emoji
    assert contents(texts(str(broken), target=2)) == ["?", "b"]


def test_a_text_of_a_megabyte_is_cut_between_letters(tmp_path):
    long = 'é, "' * 250_000
    raw = texts(written(tmp_path / "a.csv", [(long, "a"), ("short", "b"), ("x", "a")]), target="label", max_bytes=100)
    assert raw.inputs.shape == (3, 100)
    assert contents(raw)[0] == ('é, "' * 20)
    assert raw.notes == (f"{tmp_path}/a.csv: 1 text is longer than data.max_bytes=100, and cut there.",)
    assert csv.field_size_limit() == 131_072  # as it was
    (tmp_path / "b.jsonl").write_text("\n".join(json.dumps({"t": text, "c": text[0]}) for text in (long, "x")))
    assert contents(texts(f"{tmp_path}/b.jsonl", target="c", max_bytes=7)) == ['é, "é', "x"]


def test_published_splits(tmp_path):
    for name, rows, seed in (("train", 40, 0), ("dev", 10, 1), ("test", 12, 2)):
        write_table(tmp_path / f"{name}.csv", rows, seed)
    settings = {"_target_": "hypermap.datasets.texts.texts", "root": str(tmp_path), "target": "class"}
    settings |= {"path": "train.csv", "validation_path": "dev.csv", "test_path": "test.csv", "validation": None}
    manifest = prepare_settings(tmp_path / "made", settings)
    assert manifest.rows == {"train": 40, "validation": 10, "test": 12}
    assert manifest.fitted_on["rows"] == 40
    with pytest.raises(UserError, match=r"data\.validation is 0\.2, and the validation rows are given"):
        prepare_settings(tmp_path / "made", {**settings, "validation": 0.2})
    del settings["validation_path"]
    with pytest.raises(UserError, match=r"texts publishes no validation set: give data\.validation"):
        prepare_settings(tmp_path / "made", settings)


@pytest.mark.parametrize(
    ("rows", "settings", "told"),
    [
        ([], {}, "holds no texts"),
        ([("a", "x"), ("b", "x")], {}, "has texts of one class, 'x': there is nothing to tell apart"),
        ([("a", "x"), ("b", ""), ("c", "y")], {}, r"1 text has no class in data\.target=label \(row 2\)"),
        ([("a", "x"), ("b", "y")], {"target": "lable"}, "no such column; did you mean 'label'|did you mean"),
        ([("a", "x"), ("b", "y")], {"target": None}, r"data\.target is null: name the column .* it has: text, label"),
        ([("a", "x"), ("b", "y")], {"text": "label"}, r"data\.text and data\.target are both 'label'"),
        ([("a", "x"), ("b", "y")], {"text": 3}, r"data\.text is 3; .* has no such column; it has: text, label"),
        ([("", "x"), ("", "y")], {}, "all 2 texts are empty"),
        ([(str(k), f"{k}b") for k in range(20)], {}, "has 20 classes in 20 rows, so that hardly two texts share one"),
        ([("a", "x"), ("b", "y")], {"max_bytes": 0}, r"data\.max_bytes is 0; it is a whole number of bytes"),
        ([("a", "x"), ("b", "y")], {"tokens": "word"}, r"data\.tokens is 'word'; it is words, characters, bpe"),
        ([("a", "x"), ("b", "y")], {"character_ngrams": [5, 3]}, "the shortest is longer than the longest"),
        ([("a", "x"), ("b", "y")], {"character_ngrams": 3}, r"character_ngrams is 3; it is \[shortest, longest\]"),
        ([("a", "x"), ("b", "y")], {"path": "lost.csv"}, r"data\.path is lost\.csv: there is no .*lost\.csv"),
        ([("a", "x"), ("b", "y")], {"path": "a.csv#train"}, "what follows # is a key of a file in JSON"),
        ([("a", "x"), ("b", "y")], {"path": None}, r"data\.path is null: name a table"),
        ([("a", "x"), ("b", "y")], {"encoding": "utf-9"}, "'utf-9', which Python does not know"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told(tmp_path, rows, settings, told):
    written(tmp_path / "a.csv", rows)
    with pytest.raises(UserError, match=told):
        texts(**{"path": "a.csv", "root": str(tmp_path), "target": "label", **settings})


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.csv", "", "is empty"),
        ("a.json", "", "is empty"),
        ("a.json", "{", "is not in JSON"),
        ("a.jsonl", '{"text": "a", "label": "b"}\nno', "is not in JSON"),
        ("a.json", '{"train": []}', r"name the key of the list of texts, as in .*a\.json#KEY\. Its keys are: train"),
        ("a.json", "[]", "holds no list of texts"),
        ("a.json", '[["a", "b"], ["c"]]', "some of its 2 rows are neither objects nor lists of one length"),
        ("a.json", '[{"text": ["a"], "label": "b"}]', "has a list or an object in a row"),
        ("a.json", "[" * 100_000, "is not in JSON"),
    ],
)
def test_files_that_cannot_be_read_are_told(tmp_path, name, content, told):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=told):
        texts(str(tmp_path / name), target="label")


def test_classes_that_only_test_or_validation_texts_have_are_told(tmp_path):
    train, other = written(tmp_path / "a.csv", ROWS * 2), written(tmp_path / "b.csv", [("x", "maybe")])
    for key in ("test_path", "validation_path"):
        with pytest.raises(UserError, match=r"b\.csv has classes that .*a\.csv lacks: maybe"):
            texts(train, target="label", **{key: other})


def test_a_folder_without_texts_is_told(tmp_path):
    (tmp_path / "set/a").mkdir(parents=True)
    with pytest.raises(UserError, match="it has no folders with texts"):
        texts(str(tmp_path / "set"))


def test_another_letter_is_another_fingerprint_and_another_place_is_not(tmp_path):
    path = written(tmp_path / "a.csv")
    before = fingerprint({"path": path})
    assert fingerprint({"path": "a.csv", "root": str(tmp_path)}) == before
    written(tmp_path / "a.csv", [("So good", "yes"), *ROWS[1:]])
    assert fingerprint({"path": path}) != before


def test_what_is_predicted_is_read_as_in_training(tmp_path):
    write_table(tmp_path / "a.csv", 60)
    settings = {"_target_": "hypermap.datasets.texts.texts", "path": str(tmp_path / "a.csv"), "target": "class"}
    manifest = prepare_settings(tmp_path / "made", {**settings, "max_bytes": 20, "test": 0.2})
    assert manifest == Manifest.read(tmp_path / "made")
    said, _ = sentences(5, seed=1)
    wanted = [text[:20] for text in said]
    (tmp_path / "new.csv").write_text("\n".join(["text", *said]))  # without the target
    write_table(tmp_path / "labelled.csv", 5, seed=1)
    (tmp_path / "new.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in said))
    for name in ("new.csv", "labelled.csv", "new.jsonl"):
        (rows,) = read_rows([tmp_path / name], manifest)
        assert list(decoded(rows.inputs)) == wanted
        assert list(rows.columns["row"]) == [1, 2, 3, 4, 5]
    (tmp_path / "set").mkdir()
    with pytest.raises(UserError, match=r"has no texts: files that end with \.txt"):
        list(read_rows([tmp_path / "set"], manifest))
    (tmp_path / "set/1.txt").write_text(said[0])
    for path in (tmp_path / "set", tmp_path / "set/1.txt"):
        (rows,) = read_rows([path], manifest)
        assert list(decoded(rows.inputs)) == wanted[:1]
        assert rows.columns == {"file": [str(tmp_path / "set/1.txt")]}


def test_more_than_the_memory_holds_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("hypermap.core.memory.free", lambda: 100)
    with pytest.raises(UserError, match=r"4 texts of up to 15 bytes take about .* Take a smaller data\.max_bytes"):
        texts(written(tmp_path / "a.csv"), target="label")
