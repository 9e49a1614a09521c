"""What is found of a file from its first lines, and what is refused to be guessed."""

import csv
import io
from dataclasses import replace

import pytest

from hypermap.core.errors import UserError
from hypermap.datasets.tables.csv_format import CsvFormat, Dialect, Expected, Format, Lines, find_dialect, records
from hypermap.datasets.tables.number_format import Decimals, looks_like_number, merged


def found(text: str, expected: Expected | None = None, **asked: object) -> Dialect:
    return find_dialect(text, True, Format(**asked), "my.csv", expected or Expected())


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", " "])
def test_every_separator_is_found(separator: str) -> None:
    rows = [["price", "town", "size"], ["1.5", "A", "3"], ["2", "B", "4.25"]]
    dialect = found("\n".join(separator.join(row) for row in rows) + "\n")
    assert (dialect.separator, dialect.header, dialect.names) == (separator, True, ("price", "town", "size"))


def test_separators_within_quotes_are_none() -> None:
    dialect = found('name;where\n"a, b, c";x\n"d, e, f";y\n"g, h;i";z\n')
    assert dialect.separator == ";"


@pytest.mark.parametrize(
    ("text", "separator", "names"),
    [
        ("name,kind\n'a, b',x\n'c, d',y\n", ",", ("name", "kind")),
        ("name,kind\n'a, b',x\nc,y\n", ",", ("name", "kind")),
        ("'name, kind',n\n'a, b',1\n'c, d',2\n", ",", ("name, kind", "n")),
        ("name;kind\n'a; ''b''';x\n'c; d';y\n", ";", ("name", "kind")),
        ("name\n'a, b'\n'c, d'\n", ",", ("name",)),
    ],
)
def test_single_quotes_around_separators_are_found(text: str, separator: str, names: tuple[str, ...]) -> None:
    dialect = found(text)
    assert (dialect.separator, dialect.quote, dialect.names) == (separator, "'", names)
    assert "single quotes (data.quote=null" in dialect.notes[0]


@pytest.mark.parametrize(
    "text",
    [
        "name,n\nO'Brien,1\nD'Arcy,2\n",
        "text,n\n'tis so,1\n'twas so,2\n",
        "text,more,n\n'tis, it was,1\n'twas, it is,2\n",  # never closed
        "a,b\n'x','y'\n'z','w'\n",  # they hold no separator
        'name,kind\n"a, b",x\n"\'c\', d",y\n',
        "a;b\n'x, y';1\n'z, w';2\n",
    ],
)
def test_other_single_quotes_are_text(text: str) -> None:
    dialect = found(text)
    assert (dialect.quote, dialect.notes) == ('"', ())
    assert len(dialect.names) == len(text.splitlines()[0].replace(";", ",").split(","))


def test_a_quote_that_is_given_is_taken() -> None:
    text = "name,kind,n\n'a, b',1\n'c, d',2\n"
    assert found(text, quote=None).quote is None
    assert found("name,kind\n'a, b',x\n'c',y\n", quote="'").notes == ()


def test_a_sample_that_ends_within_single_quotes() -> None:
    text = "name,kind\n" + "'a, b',x\n" * 9 + "'a, "
    assert find_dialect(text, False, Format(), "my.csv", Expected()).quote == "'"


def test_a_semicolon_beside_decimal_commas() -> None:
    dialect = found("1,5;2,5\n3,5;4,25\n")
    assert (dialect.separator, dialect.decimals.mark, dialect.header) == (";", ",", False)


def test_comma_and_blank_is_the_comma() -> None:
    dialect = found("39, State-gov, 77516\n50, Private, 83311\n")  # as in UCI's adult
    assert (dialect.separator, len(dialect.names)) == (",", 3)


def test_a_column_of_sentences_is_one_column() -> None:
    assert found("text\na few words\nand some more of them\n").names == ("text",)


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("a,b\n1,2\n", True),
        ("a,b\nx,y\n", True),
        ("1,2\n3,4\n", False),
        ("red,small\nblue,large\nred,large\n", False),  # the first line's words come again
        ("x,1.5\ny,2.5\n", False),
        ("a,b\n", True),
        (",b\n0,x\n1,y\n", True),  # pandas' index has no name
        ("name,?\nx,1\n", True),
        ("0,1,2\n0.5,3,x\n", True),  # pandas counts columns that have no names
        (",0,1,2\n0,0.5,3,x\n1,1.5,4,y\n", True),
        ("1,2,3\n0.5,3,x\n", True),
        ("0,1\n1,1\n", False),
        ("0,1,2\n3,4,5\n", False),  # numbers that go on
        ("2021-03-17,a1\n2021-09-19,b2\n", False),  # a date above dates
        ("12:30,a1\n13:45,b2\n", False),
        ("2021-03-17,NA\n2021-09-19,2\n", False),  # whose number is missing
        ("country,1/22/20,1/23/20\nA,1,2\nB,3,4\n", True),  # dates as names of counts
        ("2021-03-17,x\n,y\n,z\n", True),  # nothing below it to compare
        ("true,a1\nfalse,b2\nfalse,c3\n", False),
        ("no,a1\nyes,b2\nyes,c3\n", False),
        ("y,id\nn,b2\nn,c3\n", True),  # a target's usual name
        ("€ 5.00;a1\n€ 7.50;b2\n", False),
        ("5%,25%\n1.5,2.5\n3.5,4.5\n", True),  # quantiles
    ],
)
def test_header(text: str, header: bool) -> None:
    assert found(text).header is header


def test_a_known_name_makes_a_header_of_numbers() -> None:
    text = "name,2019,2020\nx,1.5,2.5\n"
    assert not found(text).header
    assert found(text, Expected(("2019",))).header
    assert found(text, header=True).names == ("name", "2019", "2020")


@pytest.mark.parametrize(
    ("text", "named", "header"),
    [
        ("5,3,17.5,a\n4,2,9.5,b\n6,1,8,a\n", "3", False),
        ("5,3,17,40\n4,2,9,70\n6,7,99,12\n", "3", False),  # numbers among those below them
        ("5,3,17,40\n4,3,9,70\n", "3", False),
        ("a,3,17,40\nb,200,9,70\na,100,3,55\n", "3", False),  # a word that comes again
        ("1.5,a,y\n2.5,b,n\n0.5,a,y\n", "y", False),
        ("2019,2020,kind\n1.5,2.5,a\n0.5,1.5,b\n", "2019", True),
        ("2019,2020\n15,25\n5,15\n", "2019", True),
        ("x,y\n1.5,y\n2.5,n\n", "y", True),  # a column called as one of its classes
        ("a,b\nc,d\na,b\ne,f\n", "a", True),  # two files one after the other
    ],
)
def test_a_known_name_makes_no_header_against_the_evidence(text: str, named: str, header: bool) -> None:
    assert found(text, Expected((named,))).header is header


def test_the_names_of_the_training_table_are_a_header_whatever_stands_below() -> None:
    assert found("0,1\n0,1\n1,0\n", Expected(("0", "1", "2"))).header


@pytest.mark.parametrize(
    ("above", "message"),
    [
        ("Sales of 2021\n\n", r"its first line reads as no part of the table \('Sales of 2021'\)\. Remove what stands"),
        ("Sales of 2021,,\nin thousands,,\n", "its first 2 lines read as no part"),
        ("# made by us\n# version 2, new\n", r"its first 2 lines .*say 'data\.comment=\"#\"'"),
        ("% made by us\n", r"say 'data\.comment=\"%\"'"),
    ],
)
def test_lines_above_the_table_are_told(above: str, message: str) -> None:
    text = "a,b,y\n1,2,x\n3,4,z\n"
    with pytest.raises(UserError, match=message):
        found(above + text)
    assert found(text).names == ("a", "b", "y")


@pytest.mark.parametrize("text", ["#chrom,start,end\n1,2,3\n", ",x\n0,1.5\n1,2.5\n", "x\n1\n2\n"])
def test_first_lines_that_are_part_of_the_table(text: str) -> None:
    assert found(text).header


def test_names_without_a_header() -> None:
    dialect = found("1,x\n2,y\n")
    assert dialect.names == ("column_1", "column_2")
    assert "no header" in dialect.notes[0]
    assert found("1,x\n2,y\n", columns=["n", "word"]).names == ("n", "word")
    orders = Expected((), (("a", "b", "c"), ("a", "b")))
    assert found("1,x\n2,y\n", orders).names == ("a", "b")


def test_names_for_a_file_that_has_some() -> None:
    dialect = found("a,b\n1,x\n", columns=["n", "word"], header=True)
    assert (dialect.names, dialect.header) == (("n", "word"), True)


def test_wrong_number_of_names() -> None:
    with pytest.raises(UserError, match=r"data\.columns has 1 names; my\.csv has 2 columns"):
        found("1,2\n", columns=["a"])


def test_duplicate_names_are_told_with_their_places() -> None:
    with pytest.raises(UserError, match=r"'a' is .*\(columns 1 and 3\).*'data\.columns=\[a,b,a_2\]' data\.header=true"):
        found("a,b,a\n1,2,3\n")
    assert found("a,b,a\n1,2,3\n", columns=["a", "b", "c"], header=True).names == ("a", "b", "c")


@pytest.mark.parametrize(
    ("cells", "mark", "grouped"),
    [
        (["1.5", "2.25"], ".", False),
        (["1,5", "2,25"], ",", False),
        (["1.234,5", "2,25"], ",", True),
        (["1,234.5", "2"], ".", True),
        (["1,234,567", "2"], ".", True),
        (["0,125", "2"], ",", False),  # no group begins with a zero
        (["1.234", "2.345"], ".", False),
        (["-1,5e3", "2"], ",", False),
        (["a,b", "c"], None, False),
        (["1", "2"], None, False),
    ],
)
def test_decimals(cells: list[str], mark: str | None, grouped: bool) -> None:
    dialect = found("word;number\n" + "".join(f"w{k};{cell}\n" for k, cell in enumerate(cells)))
    assert (dialect.decimals.mark, dialect.decimals.grouped) == (mark, grouped)
    assert any("decimal commas" in note for note in dialect.notes) == (mark == ",")


def test_decimals_beside_what_means_missing() -> None:
    text = "a;b\n" + "".join(f"{k},5;{'-' if k % 3 else f'{k},25'}\n" for k in range(9))
    assert found(text).decimals.mark == ","
    assert found(text.replace("-", "n/k")).decimals.mark == ","
    assert found("a;b\n" + "-;-\nunknown;1,5\n").decimals.mark == ","


def test_a_comma_that_may_be_either_is_asked_for() -> None:
    text = "a;b\n1,234;x\n5,678;y\n"
    with pytest.raises(UserError, match=r"""'1,234' in column 'a'.*'data\.decimal=","' or 'data\.decimal="\."'"""):
        found(text)
    assert found(text, decimal=",").decimals.mark == ","
    assert found(text, decimal=".").decimals.grouped


def test_other_columns_settle_it() -> None:
    assert found("a;b\n1,234;0.5\n5,678;1.5\n").decimals.grouped
    assert found("a;b\n1,234;0,5\n5,678;1,5\n").decimals.mark == ","


def test_contradicting_columns() -> None:
    with pytest.raises(UserError, match=r'decimal=","'):
        found("a;b\n1,5;0.5\n2,5;1.5\n")


def test_empty_file() -> None:
    with pytest.raises(UserError, match=r"my\.csv is empty"):
        found("\n\n")


def test_comments_are_left_out() -> None:
    dialect = found("# made by\na,b\n# more\n1,2\n", comment="#")
    assert (dialect.names, dialect.header) == (("a", "b"), True)


def test_only_lines_between_records_are_comments() -> None:
    lines = Lines(io.StringIO('a,b\n"x\n#y",1\n#z\nv,2\n', newline=""), "#")
    assert list(records(lines, ",", '"')) == [["a", "b"], ["x\n#y", "1"], ["v", "2"]]


def test_records_are_those_of_the_csv_module() -> None:
    text = 'a,"b ""c""",d\r\n1,"2,\n3",4\r5,6,7'
    mine = list(records(Lines(io.StringIO(text, newline=""), None), ",", '"'))
    assert mine == list(csv.reader(io.StringIO(text, newline="")))


def test_several_blanks_are_one_separator() -> None:
    lines = Lines(io.StringIO(" 1   2 3  \n4 5   6\n", newline=""), None)
    assert list(records(lines, " ", '"')) == [["1", "2", "3"], ["4", "5", "6"]]


@pytest.mark.parametrize("cell", ["1", "-1.5", ".5", "1e-3", "+2,5", "1.234,5", "1,234.5"])
def test_numbers(cell: str) -> None:
    assert looks_like_number(cell)


@pytest.mark.parametrize("cell", ["", "a", "1.2.3", "12,34,5", "2020-01-01", "1 2", "nan"])
def test_no_numbers(cell: str) -> None:
    assert not looks_like_number(cell)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"separator": "::"}, r"data\.separator is '::'; it is one character"),
        ({"quote": ""}, r"data\.quote is ''"),
        ({"decimal": ";"}, r"data\.decimal is ';'"),
        ({"decimal": ",", "separator": ","}, "both a comma"),
        ({"encoding": "utf-9"}, r"data\.encoding is 'utf-9'"),
        ({"separator": "::", "prefix": ""}, r"^separator is '::'"),
    ],
)
def test_settings_that_cannot_be(asked: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Format(**asked)


@pytest.mark.parametrize(("word", "separator"), [("tab", "\t"), ("\\t", "\t"), ("blank", " "), ("semicolon", ";")])
def test_separators_have_names(word: str, separator: str) -> None:
    assert Format(separator=word).separator == separator


# What is known of the training table.

COMMAS, GROUPED_COMMAS = Decimals(","), Decimals(",", grouped=True)
POINTS, GROUPED_POINTS = Decimals("."), Decimals(".", grouped=True)
SAID_COMMAS = Decimals(",", grouped=True, given=True)


def like(decimals: Decimals) -> Expected:
    return Expected(decimals=decimals)


@pytest.mark.parametrize(
    ("cells", "known", "mark"),
    [
        (["1.443", "5.392"], GROUPED_COMMAS, ","),
        (["1.443", "5.392"], SAID_COMMAS, ","),
        (["1.443", "5.392"], POINTS, "."),
        (["1,443", "5,392"], GROUPED_POINTS, "."),
        (["1,443", "5,392"], COMMAS, ","),
        (["1", "2"], COMMAS, ","),
        (["1.5", "2"], GROUPED_COMMAS, "."),
        (["1,5", "2"], POINTS, ","),
        (["1,5", "0.5"], SAID_COMMAS, ","),  # what was said of the training table holds where nothing else could
    ],
)
def test_numbers_that_can_be_read_in_two_ways_are_read_as_in_training(
    cells: list[str], known: Decimals, mark: str
) -> None:
    dialect = found("a;b\n" + "".join(f"{cell};7\n" for cell in cells), like(known))
    assert dialect.decimals.mark == mark
    differs = mark != known.mark
    assert any("unlike those of the training table" in note for note in dialect.notes) == differs
    unsure = not differs and mark == "," and cells[0] in ("1.443", "1,443")
    assert any("as those of the training table" in note for note in dialect.notes) == unsure


@pytest.mark.parametrize(
    ("cells", "known", "message"),
    [
        (
            ["1.443"],
            COMMAS,
            r"the point in numbers may be a decimal one or part thousands .*training table does not settle",
        ),
        (["1,443"], POINTS, r"the comma in numbers may be .*Say which: 'data\.decimal=\",\"' or"),
        (["0.5"], SAID_COMMAS, r"decimal points \('0\.5' in column 'a'\), and the training table was said to .*commas"),
        (["1,5", "0.5"], GROUPED_COMMAS, "may be a decimal one"),
    ],
)
def test_numbers_that_contradict_the_training_table(cells: list[str], known: Decimals, message: str) -> None:
    text = "a;b\n" + "".join(f"{cell};7\n" for cell in cells)
    with pytest.raises(UserError, match=message):
        found(text, like(known))
    assert found(text, like(known), decimal=".").decimals.mark == "."


def test_a_comma_between_cells_makes_decimal_commas_doubtful() -> None:
    semicolons, commas = (replace(GROUPED_COMMAS, separator=separator) for separator in ";,")
    with pytest.raises(UserError, match="the point in numbers may be a decimal one"):
        found("a,b\n1.443,5\n", like(semicolons))
    assert found("a,b\n1.443,5\n", like(commas)).decimals.mark == ","
    assert found("a;b\n1.443;5\n", like(semicolons)).decimals.mark == ","


def test_what_files_have_in_common() -> None:
    assert merged([POINTS, Decimals(), GROUPED_POINTS]) == GROUPED_POINTS
    assert merged([replace(COMMAS, separator=";")] * 2) == replace(COMMAS, separator=";")
    assert merged([POINTS, COMMAS]) == merged([Decimals()]) == Decimals()


def test_columns_that_were_given_other_names() -> None:
    expected = Expected(("x", "y", "z"), spelling=CsvFormat(first_line=("a", "b", "a")))
    assert found("a,b,a\n1,2,3\n", expected).names == ("x", "y", "z")
    assert found("b,c\n1,2\n", expected).names == ("y", "c")
    assert found("a,b\n1,2\n", expected).names == ("a", "y")  # which of the two it is, nobody knows
    assert found("a,b,a\n1,2,3\n", expected, columns=["u", "v", "w"]).names == ("u", "v", "w")
    assert found("a,b\n1,2\n", columns=["u", "v"], header=True).first_line == ("a", "b")
    assert found("a,b\n1,2\n").first_line == ()


def test_a_first_line_of_words_is_a_row_where_training_had_no_header() -> None:
    text = "red,small\nblue,1\n"
    assert found(text).header
    dialect = found(text, Expected(("color", "size"), (("color", "size"),)))
    assert (dialect.header, dialect.names, dialect.notes) == (False, ("color", "size"), ())
    assert found("size,color\n1,red\n", Expected(("color", "size"), (("color", "size"),))).header


def test_a_separator_that_was_given() -> None:
    expected = Expected(spelling=CsvFormat(separator="~"))
    assert found("a~b\n1,5~2,5\n", expected).separator == "~"
    assert found("a,b\n1,2\n", expected).separator == ","
