"""Tables of several targets: labels, columns of several kinds, and cells that list labels."""

import numpy as np
import polars as pl
import pytest

from hypermap.core.errors import UserError
from hypermap.datasets.prepare import prepare
from hypermap.datasets.split import split
from hypermap.datasets.tables.dataset import table
from hypermap.datasets.tables.schema import Schema
from hypermap.tasks.names import TargetColumn

ROWS = 60


@pytest.fixture
def file(tmp_path):
    """A table whose targets are of every kind."""
    generator = np.random.default_rng(0)
    tags = [";".join(np.array(["a", "b", "c"])[generator.random(3) < 0.4]) for _ in range(ROWS)]
    pl.DataFrame(
        {
            "size": generator.normal(size=ROWS),
            "happy": generator.choice(["no", "yes"], ROWS),
            "sad": generator.integers(0, 2, ROWS),
            "price": generator.normal(size=ROWS),
            "colour": generator.choice(["red", "green", "blue"], ROWS),
            "tags": tags,
            "never": [0] * ROWS,
        }
    ).write_csv(tmp_path / "my.csv")
    return tmp_path / "my.csv"


def read(file, target, **settings):
    return table(str(file), target, drop=settings.pop("drop", ["tags", "never"]), **settings)


@pytest.mark.parametrize("target", [["happy", "sad"], [2, 3]])
def test_several_columns_are_labels(file, target):
    raw, frame = read(file, target), pl.read_csv(file)
    assert raw.task == "multilabel"
    assert raw.target_columns == (TargetColumn("happy", ("no", "yes")), TargetColumn("sad", ("0", "1")))
    assert raw.targets.dtype == np.int64
    np.testing.assert_array_equal(raw.targets[:, 0], frame["happy"] == "yes")
    np.testing.assert_array_equal(raw.targets[:, 1], frame["sad"])
    assert raw.table.names == ["size", "price", "colour"]


@pytest.mark.parametrize(
    "target",
    [
        {"price": "regression", "happy": "binary", "colour": "multiclass"},
        [["price", "regression"], ["happy", "binary"], ["colour", "multiclass"]],
    ],
)
def test_a_mapping_or_pairs_say_what_each_column_is(file, target):
    raw, frame = read(file, target), pl.read_csv(file)
    assert raw.task == "multitask"
    assert [column.classes for column in raw.target_columns] == [(), ("no", "yes"), ("blue", "green", "red")]
    np.testing.assert_allclose(raw.targets[:, 0], frame["price"])
    np.testing.assert_array_equal(raw.targets[:, 1], frame["happy"] == "yes")
    np.testing.assert_array_equal(raw.targets[:, 2], frame["colour"].replace_strict({"blue": 0, "green": 1, "red": 2}))


def test_a_column_that_lists_labels(file):
    raw = read(file, "tags", label_separator=";", drop=["never"])
    assert [column.name for column in raw.target_columns] == ["a", "b", "c"]
    cells = [(cell or "").split(";") for cell in pl.read_csv(file)["tags"]]
    np.testing.assert_array_equal(raw.targets, [[label in cell for label in "abc"] for cell in cells])
    assert len(raw.targets) == ROWS  # an empty cell has none of the labels


def test_blanks_around_listed_labels_do_not_count(tmp_path):
    (tmp_path / "my.csv").write_text('x,tags\n1,"a, b"\n2," b ,"\n3,\n4,"a,,c"\n5,c\n')
    raw = table(str(tmp_path / "my.csv"), "tags", label_separator=",", kinds={"x": "number"})
    np.testing.assert_array_equal(raw.targets, [[1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 0, 1], [0, 0, 1]])


def test_one_column_in_a_list_or_a_mapping_is_one_target(file):
    for target in (["colour"], {"colour": "multiclass"}):
        raw = read(file, target)
        assert raw.task is None
        assert raw.classes == ("blue", "green", "red")
        assert raw.targets.shape == (ROWS,)


def test_rows_that_lack_a_target_are_left_out(tmp_path):
    (tmp_path / "my.csv").write_text("x,a,b\n1,0,1\n2,,1\n3,1,0\n4,1,\n5,0,0\n")
    raw = table(str(tmp_path / "my.csv"), ["a", "b"], kinds={"x": "number"})
    np.testing.assert_array_equal(raw.numbers, [1, 3, 5])
    assert any("2 of 5 rows lack a target and were left out" in note for note in raw.notes)


@pytest.mark.parametrize(
    ("target", "settings", "message"),
    [
        (["happy", "price"], {}, r"labels then: yes or no, or 1 or 0.*'price' has 60 values.*price,regression"),
        (["happy", "colour"], {}, r"'colour' has 3 values: 'blue', 'green', 'red'\. .*colour,multiclass"),
        (
            ["happy", "never"],
            {"drop": ["tags"]},
            r"The label 'never' is '0' in every row.*Leave it out of",
        ),
        (["happy", "happy"], {}, r"data\.target names 'happy' twice"),
        (["happy", 2], {}, r"data\.target names 'happy' twice"),
        (["happy", "sat"], {}, r"data\.target is 'sat'; there is no such column \(did you mean 'sad'\?\)"),
        (["happy", "sad"], {"task": "binary"}, r"data\.task is of one target, and there are several"),
        (["happy", "sad"], {"classes": {"yes": "y"}}, r"data\.classes is of one target"),
        ({"price": "number", "happy": "binary"}, {}, r"data\.target says price: number; it says of each column one of"),
        ({"price": "regression", "colour": "binary"}, {}, r"data\.target\.colour is binary; .*has 3 classes"),
        ({"price": "regression"}, {"task": "binary"}, r"data\.target says regression, and data\.task binary"),
        (["happy", "sad"], {"label_separator": ";"}, r"label_separator is ';', for one column .*names 2"),
        ("colour", {"label_separator": "x", "drop": ["tags", "never", "size"]}, None),
        ("never", {"label_separator": ";", "drop": ["tags"]}, r"lists 1 labels, '0', with data\.label_separator=';'"),
        (["happy", "sad"], {"drop": ["sad"]}, r"data\.drop names 'sad', which is the target"),
    ],
)
def test_what_cannot_be_is_told(file, target, settings, message):
    if message is None:
        assert read(file, target, **settings).task == "multilabel"
        return
    with pytest.raises(UserError, match=message):
        read(file, target, **settings)


def test_a_test_file_without_a_label_is_told(file, tmp_path):
    pl.read_csv(file).drop("sad").write_csv(tmp_path / "test.csv")
    with pytest.raises(UserError, match=r"has no column 'sad', which is the target"):
        read(file, ["happy", "sad"], test_path=str(tmp_path / "test.csv"))


def test_labels_that_only_the_test_rows_have_are_told(file, tmp_path):
    frame = pl.read_csv(file).with_columns(pl.col("tags").fill_null("") + ";odd")
    frame.write_csv(tmp_path / "test.csv")
    raw = read(file, "tags", label_separator=";", drop=["never"], test_path=str(tmp_path / "test.csv"))
    assert [column.name for column in raw.target_columns] == ["a", "b", "c"]
    assert any("lists labels that the rows to learn from lack, which are not predicted: 'odd'" in n for n in raw.notes)


def test_the_schema_comes_back_and_one_target_is_written_as_before(file):
    for target in (["happy", "sad"], {"price": "regression", "colour": "multiclass"}, "colour"):
        schema = read(file, target).table
        entry = schema.as_entry()
        assert Schema.of(entry) == schema
        assert ("target" in entry) == (target == "colour")
    assert list(entry["target"]) == ["name", "task", "classes", "spelled", "numeric"]
    lists = read(file, "tags", label_separator=";", drop=["never"]).table
    assert Schema.of(lists.as_entry()) == lists
    assert lists.target_columns == ["tags"]


def test_every_part_has_its_share_of_each_label(file):
    raw = read(file, ["happy", "sad"])
    parts = split(raw, "my", validation=0.25, test=0.2, seed=0, row_limit=None)
    for part, share in (("test", 0.2), ("validation", 0.2), ("train", 0.6)):
        np.testing.assert_allclose(parts[part].targets.sum(0), share * raw.targets.sum(0), atol=1.5)


def test_the_manifest_names_the_columns(file, tmp_path):
    target = {"price": "regression", "happy": "binary"}
    settings = {"reader": table, "path": str(file), "target": target, "drop": ["tags", "never"], "test": 0.2}
    manifest = prepare(tmp_path / "prepared", **settings)
    assert manifest.task == "multitask"
    assert manifest.width == 2
    assert manifest.target_columns[1] == {"name": "happy", "classes": ["no", "yes"]}
    shift = manifest.target["columns"][0]["target_shift"]
    assert shift == pytest.approx(pl.read_csv(file)["price"].mean(), abs=0.3)
    for key, value in (("target_transform", "log"), ("oversample", True)):
        with pytest.raises(UserError, match=rf"data\.{key} is .*there are several targets"):
            prepare(tmp_path / "other", **settings, **{key: value})
