"""Advice on columns can be pasted as it is printed, whatever the columns are called; columns also go by their place."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from hypermap.core.errors import UserError
from hypermap.datasets.images import Raw
from hypermap.datasets.prepare import settings_fingerprint
from hypermap.datasets.tables.dataset import table
from support.overrides import value_of

ODD = ["Preis (€)", "size, cm", "a b", "[x]", "{y: z}", "it's", 'say "x"', "Größe", "a=b", "#", "$x", "null", "7"]


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Raw]:
    """Writes columns to a file and reads it."""

    def write_and_read(columns: dict[str, list[Any]], **arguments: Any) -> Raw:
        pl.DataFrame(columns).write_csv(tmp_path / "my.csv")
        return table(str(tmp_path / "my.csv"), **{"target": "y", **arguments})

    return write_and_read


def pasted(text: object, key: str) -> Any:
    """The value of a key of `data` after the word for it that stands in a text was pasted into a command."""
    (word,) = {word.rstrip(" .;,") for word in re.findall(rf"'?data\.{key}=.*", str(text))} or {""}
    first, *_ = shlex.split(word)
    return value_of(first)


def columns(rows: int = 60, **others: list[Any]) -> dict[str, list[Any]]:
    """A table with a measure and two classes."""
    size, y = [(7 * k) % 60 + 0.5 for k in range(rows)], ["ab"[k * k % 7 % 2] for k in range(rows)]
    return {"size": size, **others, "y": y}


@pytest.mark.parametrize("name", ODD)
def test_what_a_column_is_said_to_be_can_be_pasted(read: Callable[..., Raw], name: str) -> None:
    units = {name: [f"{k % 3} €" for k in range(60)], "second": [f"{k % 4} €" for k in range(60)]}
    with pytest.raises(UserError) as error:
        read(columns(**units))
    kinds = pasted(error.value, "kinds")
    with pytest.raises(UserError, match="'second'") as error:
        read(columns(**units), kinds=kinds)
    kinds = pasted(error.value, "kinds")  # says the first one again: a list replaces the one before
    assert kinds == [[name, "category"], ["second", "category"]]
    raw = read(columns(**units), kinds=kinds).table
    assert raw is not None
    assert [column.kind for column in raw.columns] == ["number", "category", "category"]


@pytest.mark.parametrize("name", ODD)
def test_a_giveaway_can_be_dropped_as_advised(read: Callable[..., Raw], name: str) -> None:
    made = columns()
    made = {"other": made["size"][::-1], name: [ord(y) for y in made["y"]], **made}
    (note,) = read(made, drop=["other"]).notes
    drop = pasted(note, "drop")
    assert drop == ["other", name]
    assert read(made, drop=drop).notes == ()


@pytest.mark.parametrize("name", [name for name in ODD if name != "null"])  # which means missing
def test_a_class_can_be_spelled_as_advised(tmp_path: Path, read: Callable[..., Raw], name: str) -> None:
    made = columns()
    pl.DataFrame({**made, "y": [name, *made["y"][1:]]}).write_csv(tmp_path / "test.csv")
    with pytest.raises(UserError) as error:
        read(made, test_path=str(tmp_path / "test.csv"))
    classes = pasted(error.value, "classes")
    assert classes == [[name, "a"]]
    raw = read(made, test_path=str(tmp_path / "test.csv"), classes=classes)
    assert raw.test_targets is not None
    assert raw.test_targets[0] == 0


def test_columns_go_by_their_place(read: Callable[..., Raw]) -> None:
    made = columns(who=[k % 5 for k in range(60)], zip=[k % 3 for k in range(60)], when=[2000 + k for k in range(60)])
    by_name = read(made, drop=["size"], kinds={"zip": "category"}, group="who", time="when")
    by_place = read(made, drop=[1], kinds={3: "category"}, group=2, time=-2)
    pairs = read(made, drop=[-5], kinds=[[3, "category"]], group="who", time=4)
    assert by_name.table == by_place.table == pairs.table
    assert by_name.checksum == by_place.checksum == pairs.checksum


def test_a_name_comes_before_a_place(read: Callable[..., Raw]) -> None:
    raw = read(columns(**{"1": [k % 5 for k in range(60)]}), drop=[1]).table
    assert raw is not None
    assert raw.names == ["size"]


def test_a_place_that_there_is_not(read: Callable[..., Raw]) -> None:
    with pytest.raises(UserError, match=r"data\.drop names 3; data\.time names 0; .*my\.csv has: size, y \(or 1 to 2"):
        read(columns(), drop=[3], time=0)
    with pytest.raises(UserError, match=r"data\.drop names 'y', which is the target"):
        read(columns(), drop=[2])


def test_a_column_is_of_one_kind(read: Callable[..., Raw]) -> None:
    with pytest.raises(UserError, match=r"data\.kinds says of one column, 1 or 'size', that it is category and number"):
        read(columns(), kinds=[[1, "category"], ["size", "number"]])


def test_names_and_places_together_name_a_prepared_table(tmp_path: Path) -> None:
    pl.DataFrame(columns()).write_csv(tmp_path / "my.csv")
    settings = {"_target_": "hypermap.datasets.tables.dataset.table", "path": str(tmp_path / "my.csv"), "target": "y"}
    both = [{1: "number", "zip": "category"}, {"zip": "category", 1: "number"}]
    assert len({settings_fingerprint({**settings, "kinds": kinds}) for kinds in both}) == 1


LETTERS = {
    "id": [*range(60)],
    "user": [f"u{k % 55:02d}" for k in range(60)],
    "letter": [f"customer {k} wrote us about {k * k % 17} things" for k in range(60)],
    "none": [None] * 60,
}


def test_what_can_be_done_for_a_column_that_nothing_is_learned_from(read: Callable[..., Raw]) -> None:
    (note,) = read(columns(**LETTERS)).notes
    assert pasted(note.replace("Free text", "\nFree text"), "kinds") == [["id", "number"]]
    assert pasted(note.replace(" (docs/tables.md", "\n(docs"), "text") == ["letter"]
    assert "category" not in note
    assert pasted(note.replace(" keeps them", "\nkeeps them"), "group") == "user"
    (note,) = read(columns(none=LETTERS["none"])).notes
    assert note == "Nothing is learned from 'none' (it has no values)."  # for which nothing can be done


def test_a_category_of_which_each_row_has_its_own_is_told(read: Callable[..., Raw]) -> None:
    asked = {"letter": "category", "zip": "category"}
    (note,) = read(columns(letter=LETTERS["letter"], zip=[k % 9 for k in range(60)]), kinds=asked).notes
    assert note.startswith(
        "Column 'letter' is taken for a category, as data.kinds says; it has 60 different values in 60"
    )
    assert "Free text is named in 'data.text=[letter]', not in data.kinds." in note
