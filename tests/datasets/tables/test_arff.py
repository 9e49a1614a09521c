"""ARFF beside scipy's reader, and what scipy does not read: sparse rows, texts and quotes."""

import csv
import gzip
import io

import numpy as np
import polars as pl
import pytest
from scipy.io import arff as scipys

from hypermap.core.errors import UserError
from hypermap.datasets.tables.dataset import table
from hypermap.datasets.tables.readers import open_table

DENSE = """% Somebody's flowers
%
@RELATION flowers

@attribute 'sepal length' REAL
@ATTRIBUTE petals {3,4,many}
@attribute\theight numeric
@attribute kind {rose, tulip}

@DATA
5.1,3,1e2,rose
% a comment between
-4.9,many,?,tulip
6.0,?,7,rose
"""
HEAD = "@relation r\n@attribute a numeric\n"


def read(text, folder, name="my.arff"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    opened = open_table([path])
    return opened, pl.concat(opened.batches())


def test_a_dense_file_holds_what_scipy_finds_in_it(tmp_path):
    opened, frame = read(DENSE, tmp_path)
    limit = csv.field_size_limit()
    data, meta = scipys.loadarff(io.StringIO(DENSE))
    csv.field_size_limit(limit)  # which scipy raises for all: a quote that is not closed would go unnoticed
    assert list(opened.columns) == meta.names() == frame.columns
    for name, kind in zip(meta.names(), meta.types(), strict=True):
        if kind == "numeric":
            found = frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
            np.testing.assert_array_equal(found, data[name])
        else:
            assert frame[name].to_list() == [None if word == b"?" else word.decode() for word in data[name]]


def test_sparse_rows_are_those_of_a_dense_file(tmp_path):
    head = HEAD + "@attribute b {no,yes}\n@attribute c string\n@attribute d integer\n@data\n"
    _, dense = read(head + "0,no,'',5\n7,yes,'x, y',0\n0,no,'',0\n?,no,'',2\n", tmp_path)
    sparse = "{3 5}\n{0 7, 1 yes, 2 'x, y'}\n{}\n{ 0 ?, 3 2 }, {2.5}\n"
    _, found = read(head + sparse, tmp_path, "sparse.arff")
    assert found.equals(dense)


def test_quotes_escapes_and_weights(tmp_path):
    head = '@relation r\n@attribute "two words" string\n@attribute b string\n@data\n'
    rows = [r"'it\'s','a, b'", r'"say \"so\"",?', r"'?','tab\there', {3}", r"plain,'\u00e9'"]
    _, frame = read(head + "\n".join(rows), tmp_path)
    assert frame["b"].to_list() == ["a, b", None, "tab\there", "é"]
    assert frame["two words"].to_list()[:2] == ["it's", 'say "so"']
    assert frame["two words"].to_list()[3] == "plain"


def test_a_compressed_one_in_another_encoding(tmp_path):
    text = "@relation r\n@attribute stadt {Köln,Bonn}\n@attribute y numeric\n@data\nKöln,1\nBonn,2\n"
    _, frame = read(gzip.compress(text.encode("latin-1")), tmp_path, "städte.arff.gz")
    assert frame["stadt"].to_list() == ["Köln", "Bonn"]


def test_it_is_a_table_to_learn_from(tmp_path):
    rows = "5,3,2,rose\n4,4,1,tulip\n" * 20
    (tmp_path / "my.arff").write_text(DENSE.replace("% a comment between\n", rows))
    raw = table(str(tmp_path / "my.arff"), "kind", kinds={"petals": "category"})
    assert raw.classes == ("rose", "tulip")
    kinds = {column.name: column.kind for column in raw.table.columns}
    assert kinds == {"sepal length": "number", "petals": "category", "height": "number"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (HEAD, "has no @data: it is cut off"),
        ("@relation r\n@data\n1\n", "@data in line 2 comes before any @attribute"),
        ("@relation r\n@attribute a\n@data\n1\n", "line 2 is '@attribute a'; an attribute is @attribute NAME TYPE"),
        ("@relation r\nx,y\n@data\n1\n", "line 2 is 'x,y'; before @data there are attributes alone"),
        (HEAD + "@data\n1,2\n", "line 4 has 2 values, and there are 1 attributes"),
        (HEAD + "@data\n{1 2}\n", "each value follows its attribute's place, 0 to 0"),
        (HEAD + "@data\n{0 2\n", "begins with a brace, as a sparse row does"),
        ("@relation r\n@attribute a relational\n@data\n1\n", "is relational, a table in each cell, which is not read"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path, text, told):
    with pytest.raises(UserError, match=told):
        read(text, tmp_path)


def test_settings_of_text_do_nothing_and_that_is_told(tmp_path):
    (tmp_path / "my.arff").write_text(DENSE)
    raw = table(
        str(tmp_path / "my.arff"), "sepal length", separator=";", task="regression", kinds={"petals": "category"}
    )
    assert any("is ARFF, which is read as it is: nothing was done with data.separator" in note for note in raw.notes)
