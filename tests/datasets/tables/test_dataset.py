"""Every table that a person may bring: it is read as they would expect, or a message says what to do."""

import re
import shlex
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from hypermap.core.errors import UserError
from hypermap.core.paths import ROOT
from hypermap.data.prepared import load_raw
from hypermap.datasets.images import Raw
from hypermap.datasets.prepare import prepare_settings
from hypermap.datasets.split import split
from hypermap.datasets.tables import arrays
from hypermap.datasets.tables.csv_format import CsvFormat
from hypermap.datasets.tables.dataset import SHIPPED, fingerprint, table
from hypermap.datasets.tables.number_format import Decimals

WORDS = ("red", "green", "blue")


def lines(count: int = 12, **columns: Callable[[int], object]) -> str:
    """A table with a number, a word and a target of two classes, and more columns or others."""
    made: dict[str, Callable[[int], object]] = {
        "size": lambda k: 10 * k + 0.5,
        "color": lambda k: WORDS[k % 3],
        "y": lambda k: "yes" if k % 4 == 0 else "no",
        **columns,
    }
    text = [",".join(made), *(",".join(str(cell(k)) for cell in made.values()) for k in range(count))]
    return "\n".join(text) + "\n"


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Raw]:
    """Writes a file and reads it."""

    def write_and_read(content: str | bytes, **arguments: Any) -> Raw:
        path = tmp_path / "my.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return table(str(path), **{"target": "y", **arguments})

    return write_and_read


def test_what_is_read(read: Callable[..., Raw]) -> None:
    raw = read(lines())
    assert raw.table is not None
    assert raw.inputs.dtype == np.float64
    np.testing.assert_array_equal(raw.inputs[:3], [[0.5, 2], [10.5, 1], [20.5, 0]])  # blue, green, red
    np.testing.assert_array_equal(raw.targets, [k % 4 == 0 for k in range(12)])
    assert (raw.classes, raw.targets.dtype) == (("no", "yes"), np.int64)
    assert (raw.table.matrix_names, raw.table.roles) == (["size", "color"], ["number", "category"])
    assert raw.notes == ()


def test_regression(read: Callable[..., Raw]) -> None:
    raw = read(lines(y=lambda k: k + 0.25))
    assert (raw.classes, raw.targets.dtype) == ((), np.float64)
    np.testing.assert_array_equal(raw.targets, np.arange(12) + 0.25)


def test_parquet_gives_the_same(read: Callable[..., Raw], tmp_path: Path) -> None:
    raw = read(lines())
    pl.read_csv(tmp_path / "my.csv").write_parquet(tmp_path / "my.parquet")
    other = table(str(tmp_path / "my.parquet"), "y")
    assert raw.table is not None
    assert raw.table.spelling.decimals == Decimals(".", separator=",")  # which Parquet does not have
    assert (other.checksum, other.table) == (raw.checksum, replace(raw.table, spelling=CsvFormat()))


def test_numbers_of_parquet_that_are_infinite(tmp_path: Path) -> None:
    pl.DataFrame({"x": [1.5, float("inf"), 2.5] * 4, "y": ["a", "b", "a"] * 4}).write_parquet(tmp_path / "my.parquet")
    with pytest.raises(UserError, match=r"column 'x': 4 of 12 cells are no finite numbers, such as 'inf'"):
        table(str(tmp_path / "my.parquet"), "y")


def test_a_test_file_of_its_own(read: Callable[..., Raw], tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text("y;color;size\nno.;violet;1,5\n yes ;red;2,5\n;red;3,5\n")
    raw = read(lines(), test_path=str(tmp_path / "test.csv"), classes={"no.": "no"})
    np.testing.assert_array_equal(raw.test_inputs, [[1.5, -1], [2.5, 2]])
    np.testing.assert_array_equal(raw.test_targets, [0, 1])
    assert any("test.csv: 1 of 3 rows have no target" in note for note in raw.notes)
    assert any("test.csv: numbers have decimal commas" in note for note in raw.notes)


def test_a_test_file_with_other_classes(read: Callable[..., Raw], tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text("y,color,size\nno,red,1\nperhaps,red,2\n")
    with pytest.raises(
        UserError, match=r"target 'y' is 'perhaps' in row 2, which is none of the classes no, yes.*data\.cl"
    ):
        read(lines(), test_path=str(tmp_path / "test.csv"))


def test_a_test_file_without_a_target(read: Callable[..., Raw], tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text("color,size\nred,1\nblue,2\n")
    with pytest.raises(UserError, match=r"test\.csv has no column 'y', which is the target"):
        read(lines(), test_path=str(tmp_path / "test.csv"))


def test_a_test_file_is_read_as_the_training_file_where_it_may_be_either(
    read: Callable[..., Raw], tmp_path: Path
) -> None:
    (tmp_path / "test.csv").write_text("size;y\n1.443;no\n5.392;yes\n")
    text = "size;y\n" + "".join(f"{k}.672,55;{'yes' if k % 2 else 'no'}\n" for k in range(1, 9))
    raw = read(text, test_path=str(tmp_path / "test.csv"))
    np.testing.assert_array_equal(raw.inputs[:1], [[1672.55]])
    np.testing.assert_array_equal(raw.test_inputs, [[1443], [5392]])


def test_several_files_are_read_as_the_first_where_they_may_be_either(tmp_path: Path) -> None:
    first = "size;y\n" + "".join(f"{k}.672,55;{'yes' if k % 2 else 'no'}\n" for k in range(1, 9))
    (tmp_path / "1.csv").write_text(first)
    (tmp_path / "2.csv").write_text("size;y\n1.443;no\n5.392;yes\n")
    raw = table([str(tmp_path / "1.csv"), str(tmp_path / "2.csv")], "y")
    np.testing.assert_array_equal(raw.inputs[-2:, 0], [1443, 5392])
    assert any("2.csv: numbers have decimal commas, as those of" in note and "1.csv" in note for note in raw.notes)
    other = table([str(tmp_path / "2.csv"), str(tmp_path / "1.csv")], "y")
    assert any("1.csv: numbers have decimal commas, unlike those of" in note for note in other.notes)


def test_a_share_of_test_rows_beside_a_test_file(read: Callable[..., Raw], tmp_path: Path) -> None:
    (tmp_path / "test.csv").write_text(lines())
    raw = read(lines(), test_path=str(tmp_path / "test.csv"))
    with pytest.raises(UserError, match=r"is 0\.2: set data\.test=null, since data\.test_path gives the test rows"):
        split(raw, "table", validation=0.2, test=0.2, seed=0, row_limit=None)


def test_a_matrix_of_another_type(read: Callable[..., Raw]) -> None:
    raw = read(lines())
    with pytest.raises(UserError, match=r"inputs are float32 \(12, 2\); they must be float64 and \(rows, columns"):
        replace(raw, inputs=raw.inputs.astype(np.float32))


def test_groups_of_a_test_file(read: Callable[..., Raw], tmp_path: Path) -> None:
    text = lines(patient=lambda k: f"p{k // 3}")

    def told(test: str) -> list[str]:
        (tmp_path / "test.csv").write_text(test)
        notes = read(text, group="patient", test_path=str(tmp_path / "test.csv")).notes
        return [note for note in notes if "data.group" in note]

    (note,) = told("size,color,y,patient\n1,red,no,p1\n2,red,yes,p9\n3,red,yes,\n")
    assert note.startswith("1 of 3 test rows are of groups that are learned from (data.group=patient)")
    (note,) = told("size,color,y\n1,red,no\n")
    assert note.startswith("The test rows have no column 'patient'")
    assert told("size,color,y,patient\n1,red,no,p7\n") == []


def test_times_of_a_test_file(read: Callable[..., Raw], tmp_path: Path) -> None:
    text = lines(when=lambda k: f"2020-01-{k + 1:02}")

    def told(test: str) -> list[str]:
        (tmp_path / "test.csv").write_text(test)
        notes = read(text, time="when", kinds={"when": "identifier"}, test_path=str(tmp_path / "test.csv")).notes
        return [note for note in notes if "data.time" in note]

    (note,) = told("size,color,y,when\n1,red,no,2020-01-12\n2,red,yes,2020-01-13\n3,red,yes,2020-01-02\n")
    assert note.startswith("2 of 3 test rows are not later than all rows that are learned from (data.time=when)")
    (note,) = told("size,color,y\n1,red,no\n")
    assert note.startswith("The test rows have no column 'when'")
    assert told("size,color,y,when\n1,red,no,2020-01-13\n") == []


def test_what_is_said_of_text_does_nothing_for_parquet_and_is_told(read: Callable[..., Raw], tmp_path: Path) -> None:
    read(lines())
    pl.read_csv(tmp_path / "my.csv").write_parquet(path := tmp_path / "my.parquet")
    (note,) = table(str(path), "y", separator=";", encoding="cp1252").notes
    assert note.endswith("is Parquet, which is read as it is: nothing was done with data.separator, data.encoding.")
    with pytest.raises(UserError, match=r"data\.columns gives names .* has its own: size, color, y\."):
        table(str(path), "y", columns=["a", "b", "y"])
    text = lines().split("\n", 1)[1].replace(",", ";")
    raw = read(text, separator=";", columns=["size", "color", "y"], test_path=str(path))
    assert not any("Parquet" in note for note in raw.notes)  # it was said of the other


def test_datasets_that_ship() -> None:
    choices = [yaml.safe_load(path.read_text()) for path in (ROOT / "conf/data").glob("*.yaml")]
    assert {choice["dataset"] for choice in choices if choice.get("dataset")} == set(SHIPPED)
    for use in (fingerprint, lambda arguments: table(target="y", **arguments)):
        with pytest.raises(UserError, match=r"data\.dataset is 'titanics'.*did you mean 'titanic'.*There are: adult, "):
            use({"path": "my.csv", "dataset": "titanics"})


def test_groups(read: Callable[..., Raw]) -> None:
    raw = read(lines(patient=lambda k: f"p{k // 3}"), group="patient")
    np.testing.assert_array_equal(raw.groups, np.arange(12) // 3)
    assert raw.table is not None
    assert "patient" not in raw.table.names
    with pytest.raises(UserError, match=r"data\.group is 'patient', which has no value in row 5"):
        read(lines(patient=lambda k: "" if k == 4 else k % 2), group="patient")


@pytest.mark.parametrize("cell", [lambda k: f"2020-01-{k + 1:02}", lambda k: k, lambda k: f"{k + 1}.1.2020"])
def test_times(read: Callable[..., Raw], cell: Callable[[int], object]) -> None:
    raw = read(lines(when=cell), time="when")
    np.testing.assert_array_equal(np.diff(raw.times), np.ones(11))
    with pytest.raises(UserError, match="has no value in 1 of 12 rows"):
        read(lines(when=lambda k: "" if k == 4 else cell(k)), time="when")


def test_times_that_are_none(read: Callable[..., Raw]) -> None:
    with pytest.raises(UserError, match="no form of a date was found"):
        read(lines(), time="color")


def test_columns_are_dropped_and_told(read: Callable[..., Raw]) -> None:
    extra: dict[str, Callable[[int], object]] = {
        "id": lambda k: k,
        "name": lambda k: f"the person of number {k}",
        "same": lambda _: 3,
        "none": lambda _: "",
        "when": lambda k: "2020-01-01" if k % 2 else "",
    }
    raw = read(lines(**extra), drop=["color"])
    assert raw.table is not None
    assert raw.table.names == ["size"]
    assert list(raw.table.dropped) == ["color", *extra]
    (note,) = raw.notes
    for word in (
        "'id' (an identifier",
        "'name' (free text",
        "'same' (it has the same",
        "'none' (it has no values)",
        "'when' (it has the same date",
    ):
        assert word in note
    assert "data.kinds" in note
    kept = read(lines(**extra), drop=["color"], kinds={"id": "number", "name": "category"}).table
    assert kept is not None
    assert kept.names == ["size", "id", "name"]


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "Unnamed: 0.1", "unnamed_0", "__index_level_0__", "...1"])
def test_columns_that_nobody_named_are_left_out_and_told(read: Callable[..., Raw], name: str) -> None:
    columns = {name: lambda k: k % 7 + 1.5, "size": lambda k: k % 5}  # an index may have gaps, and the same twice
    raw = read(lines(**columns))
    called = name or "column_4"
    assert raw.table is not None
    assert called not in raw.table.names
    assert any(f"'{called}' (it has no name" in note for note in raw.notes)
    kept = read(lines(**columns), kinds={called: "number"})
    assert kept.table is not None
    assert called in kept.table.names
    assert read(lines(**columns), time=called).times is not None


def test_pandas_index_in_parquet(tmp_path: Path) -> None:
    frame = pl.DataFrame({"x": [1.5, 2.5] * 6, "y": ["a", "b"] * 6, "__index_level_0__": range(5, 17)})
    frame.write_parquet(tmp_path / "my.parquet")
    schema = table(str(tmp_path / "my.parquet"), "y").table
    assert schema is not None
    assert schema.names == ["x"]


def test_names_that_a_person_gave_to_a_file_without_a_header_are_names(read: Callable[..., Raw]) -> None:
    text = lines().split("\n", 1)[1]
    schema = read(text, columns=["column_1", "Unnamed", "y"]).table
    assert schema is not None
    assert schema.names == ["column_1", "Unnamed"]


def test_what_not_everybody_would_read_so_is_told(read: Callable[..., Raw]) -> None:
    raw = read(
        lines(day=lambda k: 20210503 + k, cost=lambda k: f"({k}.5)", town=lambda k: ("Rome", "ROME", "Oslo")[k % 3])
    )
    assert raw.table is not None
    assert [column.kind for column in raw.table.columns] == ["number", "category", "date", "number", "category"]
    told = " ".join(raw.notes)
    assert "'day' has whole numbers that are dates by their digits, such as 20210503" in told
    assert "'cost' has numbers in brackets, such as '(0.5)'" in told
    assert "'town' has categories that differ only in case or blanks: 'ROME' and 'Rome'" in told
    cost = raw.table.matrix_names.index("cost")
    np.testing.assert_array_equal(raw.inputs[:, cost], [-k - 0.5 for k in range(12)])


def test_missing_values_are_ready_to_paste_with_those_that_the_file_has(read: Callable[..., Raw]) -> None:
    text = lines(
        20, size=lambda k: "-" if k % 5 == 0 else k, color=lambda k: "NA" if k == 3 else "red" if k % 2 else "blue"
    )
    with pytest.raises(UserError, match="column 'size': 4 of 20 cells are no finite numbers") as raised:
        read(text)
    (word,) = shlex.split(re.search(r"say (\S+);", str(raised.value))[1])
    raw = read(text, missing_values=OverridesParser.create().parse_override(word).value())
    assert raw.table is not None
    assert [(column.kind, column.missing) for column in raw.table.columns] == [("number", 4), ("category", 1)]


def test_a_header_of_numbers_that_was_read_as_data_is_told_with_the_way_out(read: Callable[..., Raw]) -> None:
    text = "2019,2020,2021\n" + "".join(f"{k / 7},{k % 5 / 3},{k * 1.5}\n" for k in range(9))
    with pytest.raises(
        UserError, match=r"positions go from 1 to 3.*first line reads as data; .* say data\.header=true"
    ):
        read(text, target=2021)
    assert len(read(text, target=2021, header=True).targets) == 9
    with pytest.raises(UserError, match=r"data\.drop names 2022.*reads as data; .* say data\.header=true"):
        read(text, target=1, drop=[2022])


def test_a_value_that_is_named_like_a_column_makes_no_header(read: Callable[..., Raw]) -> None:
    with pytest.raises(UserError, match=r"data\.drop names '3'"):
        read("5,3,17.5,a\n4,2,9.5,b\n6,1,8,a\n" * 4, target=-1, drop=["3"])


def test_a_giveaway_and_copies_are_told(read: Callable[..., Raw]) -> None:
    (note,) = read(lines(60, alive=lambda k: "y" if k % 4 == 0 else "n")).notes
    assert note.startswith("Column 'alive' alone predicts 'y'")
    (note,) = read(lines(72, size=lambda k: k % 60, weight=lambda k: k % 60, height=lambda k: k % 60)).notes
    assert note.startswith("12 of 72 rows have the same values as others in every column that is learned from")


# Bad input: what the issue lists.


def test_a_folder_in_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "houses").mkdir()
    with pytest.raises(
        UserError, match=r"data\.path is '.*houses'; that is a folder\. Name a file in it, of which it has"
    ):
        table(str(tmp_path / "houses"), "y")
    (tmp_path / "houses" / "a.csv").write_text(lines())
    with pytest.raises(UserError, match=r"that is a folder\. Name a file in it, such as '.*houses/a\.csv'\."):
        table(str(tmp_path / "houses"), "y")


def test_no_such_file(tmp_path: Path) -> None:
    (tmp_path / "houses.csv").write_text(lines())
    with pytest.raises(UserError, match=r"no such file \(did you mean 'houses\.csv'\?\)"):
        table(str(tmp_path / "house.csv"), "y")
    with pytest.raises(UserError, match=r"data\.path is not set"):
        table(None, "y")
    with pytest.raises(UserError, match=r"data\.test_path is '.*nope\.csv'; no such file"):
        table(str(tmp_path / "houses.csv"), "y", test_path=str(tmp_path / "nope.csv"))
    with pytest.raises(UserError, match="no such file"):
        fingerprint({"path": str(tmp_path / "house.csv")})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": "yy"}, r"data\.target is 'yy'; there is no such column.*the table has: size, color, y"),
        ({"target": None}, r"data\.target is not set"),
        ({"drop": ["colour"]}, r"data\.drop names 'colour' \(did you mean 'color'\?\)"),
        ({"group": "g", "time": "t"}, r"data\.group names 'g'; data\.time names 't'; .* has: size, color, y"),
        ({"kinds": {"Size": "number"}}, r"data\.kinds names 'Size'"),
        ({"kinds": {"y": "category"}}, r"data\.kinds names 'y', which is the target: use data\.task"),
        ({"drop": ["y"]}, r"data\.drop names 'y', which is the target"),
        ({"drop": ["size", "color"]}, "has no columns to learn from"),
    ],
)
def test_no_such_column(read: Callable[..., Raw], arguments: Mapping[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(lines(), **arguments)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("size,color,y\n", "has a header and no rows"),
        ("y\nyes\nno\n", "has no columns to learn from"),
        (lines(y=lambda _: ""), "the target, has no values"),
        (lines(y=lambda _: "no"), "is 'no' in every row that has one"),
        (
            lines(a=lambda k: k, y=lambda k: k % 2).replace("color", "size"),
            "'size' is the name of more than one column",
        ),
        (lines(size=lambda k: "?!" if k == 7 else k), r"1 of 12 cells are no finite numbers, such as '\?!'"),
        (lines() + "1,red\n", "line 14 has 2 cells"),
    ],
)
def test_nothing_to_learn(read: Callable[..., Raw], content: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(content)


def test_a_class_with_one_row_is_read(read: Callable[..., Raw]) -> None:
    """Whether that can be split is the split's matter."""
    raw = read(lines(y=lambda k: "rare" if k == 3 else "usual"))
    assert np.bincount(raw.targets).tolist() == [1, 11]


def test_targets_that_are_missing(read: Callable[..., Raw]) -> None:
    raw = read(
        lines(y=lambda k: "" if k in (2, 5) else k % 2, g=lambda k: f"g{k:02}", t=lambda k: k), group="g", time="t"
    )
    np.testing.assert_array_equal(raw.inputs[:, 0], [10 * k + 0.5 for k in range(12) if k not in (2, 5)])
    np.testing.assert_array_equal(raw.groups, range(10))
    np.testing.assert_array_equal(raw.times, [k for k in range(12) if k not in (2, 5)])
    assert any("2 of 12 rows have no target and were left out" in note for note in raw.notes)


def test_decimal_commas(read: Callable[..., Raw]) -> None:
    raw = read(lines().replace(",", ";").replace(".", ","))
    np.testing.assert_array_equal(raw.inputs[:2, 0], [0.5, 10.5])
    assert any("decimal commas" in note for note in raw.notes)


def test_a_byte_order_mark(read: Callable[..., Raw]) -> None:
    plain = read(lines())
    for encoding in ("utf-8-sig", "utf-16"):
        marked = read(lines().encode(encoding))
        assert (marked.checksum, marked.table) == (plain.checksum, plain.table)


def test_a_large_file_is_read_in_batches(read: Callable[..., Raw], monkeypatch: pytest.MonkeyPatch) -> None:
    text = lines(500, when=lambda k: f"2020-01-{k % 28 + 1}", y=lambda k: "" if k % 7 == 0 else k % 3)
    whole = read(text, time="when", group="color")
    monkeypatch.setattr("hypermap.datasets.tables.readers.ROWS", (64, 64))
    parts = read(text, time="when", group="color")
    assert (parts.checksum, parts.table, parts.notes) == (whole.checksum, whole.table, whole.notes)
    np.testing.assert_array_equal(parts.groups, whole.groups)
    np.testing.assert_array_equal(parts.times, whole.times)


def test_a_file_too_large_for_memory(read: Callable[..., Raw], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays.memory, "free", lambda: 400)
    with pytest.raises(
        UserError, match=r"12 rows of 2 columns take about .* GB of memory are free.*data\.drop.* about 3 of the rows"
    ):
        read(lines())


def test_a_file_that_changes_between_runs(tmp_path: Path) -> None:
    path = tmp_path / "my.csv"
    path.write_text(lines())
    before = fingerprint({"path": str(path), "target": "y"})
    shutil.copy(path, tmp_path / "copy.csv")
    assert fingerprint({"path": [str(tmp_path / "copy.csv")]}) == before
    assert fingerprint({"path": "my.csv", "root": str(tmp_path)}) == before
    path.write_text(lines().replace("10.5", "10.6"))
    assert fingerprint({"path": str(path)}) != before
    assert fingerprint({"path": str(path), "test_path": str(path)}) != fingerprint({"path": str(path)})


def test_a_file_that_changes_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "my.csv"
    path.write_text(lines())

    def meddle(*_: object) -> None:
        path.write_text(lines(13))

    monkeypatch.setattr(arrays, "_check_memory", meddle)
    with pytest.raises(UserError, match=r"my\.csv changed while it was being read"):
        table(str(path), "y")


def test_relative_paths_start_from_the_root(tmp_path: Path) -> None:
    (tmp_path / "my.csv").write_text(lines())
    assert len(table("my.csv", "y", root=str(tmp_path)).inputs) == 12


def test_positions_of_a_file_without_a_header(read: Callable[..., Raw]) -> None:
    raw = read(lines().split("\n", 1)[1], target=-1)
    assert raw.table is not None
    assert (raw.table.target.name, raw.table.names) == ("column_3", ["column_1", "column_2"])
    named = read(lines().split("\n", 1)[1], columns=["size", "color", "y"])
    assert named.table is not None
    assert named.table.names == ["size", "color"]


def test_one_word_in_place_of_a_list(read: Callable[..., Raw]) -> None:
    raw = read(lines(size=lambda k: "gone" if k == 3 else k / 2), drop="color", missing_values="gone")
    assert np.isnan(raw.inputs[:, 0]).tolist() == [k == 3 for k in range(12)]


def test_a_header_that_was_not_found(read: Callable[..., Raw]) -> None:
    with pytest.raises(UserError, match=r"no such column.* column_3\. Its first line reads as data.*data\.header=true"):
        read(lines().replace("color", "7"), target="Y")


def test_names_that_begin_with_zeros(read: Callable[..., Raw]) -> None:
    raw = read(lines(zip=lambda k: f"0{k % 3}"))
    assert raw.table is not None
    assert raw.table.columns[2].categories == ("00", "01", "02")
    assert any("'zip' has numbers that begin with zeros" in note for note in raw.notes)


def test_rows_are_known_by_where_they_stand_in_the_file(read: Callable[..., Raw], tmp_path: Path) -> None:
    raw = read(lines(20, y=lambda k: "" if k in (0, 7) else "no" if k % 2 else "yes"))
    np.testing.assert_array_equal(raw.numbers, [k + 1 for k in range(20) if k not in (0, 7)])
    settings = {"_target_": "hypermap.datasets.tables.dataset.table", "path": str(tmp_path / "my.csv"), "target": "y"}
    prepare_settings(tmp_path / "data", {**settings, "test": 0.2, "missing": "drop"})
    for part in ("train", "validation", "test"):
        raw = load_raw(tmp_path / "data", part)
        np.testing.assert_array_equal(raw.inputs[:, 0], 10 * (raw.rows - 1) + 0.5)


def test_classes_may_be_pairs_and_one_that_never_is_is_told(read: Callable[..., Raw]) -> None:
    raw = read(lines(), classes=[["yes", "good"], ["no", "bad"], ["gud", "good"]])
    assert raw.classes == ("good", "bad")
    assert "data.classes names 'gud', which the target 'y' never is." in raw.notes


def test_a_target_of_numbers_with_a_few_words_is_neither(read: Callable[..., Raw]) -> None:
    text = lines(40, y=lambda k: "low" if k == 3 else k / 7)
    with pytest.raises(
        UserError, match=r"is a number in 39 of 40 rows, and 'low' in others\. If that means missing, say 'data"
    ):
        read(text)
    raw = read(text, missing_values=["low"])
    assert raw.classes == ()
    assert len(raw.targets) == 39
