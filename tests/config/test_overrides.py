"""Hydra's grammar: what people type is read as Hydra reads it, or they are told how to write it, ready to paste."""

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from hypermap.config.overrides import is_sweep, parse_override, parse_overrides, quoted, written
from hypermap.core.errors import UserError

TEXTS = [
    "houses (1).csv",
    "a=b.csv",
    "~/x.csv",
    "x[0]",
    "Größe",
    "it's (8\")",
    "C:\\dir (1)\\",
    "#1",
    "f(x)",
    "100 %, net (€)",
]


@pytest.mark.parametrize("text", TEXTS)
def test_text_is_proposed_in_quotes_that_a_shell_and_hydra_read_back(text):
    with pytest.raises(UserError, match=r"is not understood\. Quote it: ") as told:
        parse_override(f"data.path={text}")
    pasted = str(told.value).partition("Quote it: ")[2].partition(", or for several values ")[0]
    (word,) = shlex.split(pasted)
    override = OverridesParser.create().parse_override(word)
    assert (override.key_or_group, override.value()) == ("data.path", text)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("data.drop=[Größe, b, 'c, d', x[0]]", ["Größe", "b", "c, d", "x[0]"]),
        (
            "data={path: x (1).csv, drop: [é], rows: 3, fill: 1e-3}",
            {"path": "x (1).csv", "drop": ["é"], "rows": 3, "fill": 0.001},
        ),
    ],
)
def test_in_lists_and_mappings_only_what_needs_quotes_gets_them(word, value):
    (way,) = quoted(word)
    assert OverridesParser.create().parse_override(*shlex.split(way)).value() == value


def test_commas_are_one_value_or_several():
    one, several = (shlex.split(way)[0] for way in quoted("data.target=Price (€),area"))
    assert OverridesParser.create().parse_override(one).value() == "Price (€),area"
    parsed = OverridesParser.create().parse_override(several)
    assert list(parsed.sweep_string_iterator()) == ['"Price (€)"', "area"]
    (chosen,) = quoted("data.target=choice(Größe,area)")
    assert shlex.split(chosen) == ['data.target=choice("Größe",area)']


@pytest.mark.parametrize(
    ("words", "whole"),
    [
        (["seed=1", "optimizer.lr", "=", "0.1", "trainer.epochs=3"], "optimizer.lr=0.1"),
        (["optimizer.lr=", "0.1"], "optimizer.lr=0.1"),
        (["data.drop=[a,", "b]", "seed=1"], "data.drop=[a, b]"),
        (["data.path=my", "new", "file.csv"], "data.path=my new file.csv"),
        (["data={name:", "table,", "path:", "x.csv}"], "data={name: table, path: x.csv}"),
    ],
)
def test_what_the_shell_took_apart_is_put_together(words, whole):
    with pytest.raises(UserError, match="The shell splits arguments at spaces; as one argument: ") as told:
        parse_overrides(words)
    assert shlex.split(str(told.value).partition("as one argument: ")[2]) == [whole]


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("seed", "Write key=value"),
        ("-m", "no flags"),
        ("data.kinds.Größe=category", "Keys have ASCII letters"),
        ("data.drop=[a,b", "One of its brackets has no other half"),
        (
            "data={name: table, kinds: {Preis (€): category}}",
            "A mapping's keys cannot be quoted here; params.yaml takes any",
        ),
        ("optimizer.lr=interval(a,b)", "Hydra says: "),
    ],
)
def test_what_quotes_do_not_mend(word, told):
    with pytest.raises(UserError) as error:
        parse_override(word)
    assert told in str(error.value)
    assert "Quote it" not in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "null",
        "3",
        "1e-3",
        "true",
        "a, b",
        "\\",
        'x\\"',
        "${seed}",
        "Größe",
        None,
        True,
        3,
        0.5,
        [1, ["a b"]],
        {"a b": {"c": "d: e"}},
    ],
)
def test_written_values_are_read_back(value):
    assert OverridesParser.create().parse_override(f"key={written(value)}").value() == value


def test_a_search_is_found_wherever_it_stands():
    assert is_sweep(parse_override("x={a: {b: [1, range(3)]}}").value())
    assert not is_sweep(parse_override("x={a: {b: [1, 2]}}").value())
