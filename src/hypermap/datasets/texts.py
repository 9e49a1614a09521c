"""Texts of your own and their classes: a table with a column of texts, JSON, or a folder for each class."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hypermap.core import memory
from hypermap.core.errors import UserError, near
from hypermap.core.files import files_below
from hypermap.core.hashing import checksum_of
from hypermap.data.manifest import Manifest
from hypermap.data.preprocessors.text import TextPreprocessor, TextSettings, encoded, stacked
from hypermap.datasets.images import Raw, RawRows
from hypermap.datasets.tables.csv_format import Format
from hypermap.datasets.tables.readers import PARQUET, START, checked, open_table
from hypermap.datasets.tables.target import column_of

FILES = (".txt", ".text", ".md", "")  # of a folder for each class
JSON, JSON_LINES = (".json",), (".jsonl", ".ndjson")
SHOWN = 5  # names in a message
FEW = 10  # classes that are no sign of another column
LONGEST_CELL = 1 << 27  # characters; Python's csv module allows 131,072 unless it is told otherwise
COPIES = 4  # of all texts, at the peak of reading and splitting them
BATCH = 2048  # texts that are predicted at once
ENCODINGS = ("utf-8-sig", "cp1252")
MARKS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))

Column = str | int
Paths = str | Sequence[str]


def texts(
    path: Paths | None = None,
    *,
    validation_path: Paths | None = None,
    test_path: Paths | None = None,
    text: Column | Sequence[Column] | None = None,
    target: Column | None = None,
    separator: str | None = None,
    header: bool | None = None,
    quote: str | None = '"',
    encoding: str | None = None,
    max_bytes: int = 4096,
    root: str | None = None,
    tokens: str = "words",
    lowercase: bool = True,
    vocabulary: int = 30_000,
    min_rows: int = 2,
    max_tokens: int = 256,
    word_ngrams: int = 2,
    character_ngrams: Sequence[int] | None = (3, 5),
    max_ngrams: int = 60_000,
    hash_buckets: int | None = None,
) -> Raw:
    """Return texts as UTF-8, a row of bytes each, uint8 ``(rows, longest)`` with zeros behind a text, and classes.

    Args:
        path: a table (whatever `open_table` reads), JSON lines, a JSON list (``FILE.json#key``: the list at a key of
            an object), or a folder that has a folder for each class, with a text per file; or a list of such.
        validation_path: the validation texts, where they stand apart.
        test_path: the test texts, where they stand apart.
        text: the column of the texts, by name or place (from 1; -1: the last); several are joined by a blank. None:
            the one beside the target.
        target: the column of the classes.
        separator: of a table's cells; like the next three, None: it is found.
        header: whether a table's first line has the names of its columns.
        quote: the character around cells; None: there is none.
        encoding: of tables and files, as Python names it.
        max_bytes: of a text in UTF-8; longer ones are cut, with a note.
        root: the folder that relative paths start from.
        tokens: like all that follows a field of `TextSettings`, which the preprocessor is fitted by.
        lowercase: see there.
        vocabulary: see there.
        min_rows: see there.
        max_tokens: see there.
        word_ngrams: see there.
        character_ngrams: see there.
        max_ngrams: see there.
        hash_buckets: see there.

    Raises:
        UserError: a file is missing, empty or unreadable, there is no such column, a text has no class, or there are
            fewer than two classes; or they do not fit into memory.
    """
    TextSettings(
        tokens, lowercase, vocabulary, min_rows, max_tokens, word_ngrams, character_ngrams, max_ngrams, hash_buckets
    )
    if isinstance(max_bytes, bool) or not isinstance(max_bytes, int) or max_bytes < 1:
        raise UserError(f"data.max_bytes is {max_bytes!r}; it is a whole number of bytes, 1 or more.")
    source = _Source(text, target, Format(separator, header, quote, encoding, ".", missing_values=()), root)
    given = {"path": path, "validation_path": validation_path, "test_path": test_path}
    parts = {key: source.read(value, key) for key, value in given.items() if value is not None or key == "path"}
    classes = _classes(parts)
    notes = [note for part in parts.values() for note in part.notes]
    made = {key: _encoded(part.texts, max_bytes, part.origin, notes) for key, part in parts.items()}
    index = {name: k for k, name in enumerate(classes)}
    targets = {key: np.array([index[label] for label in part.labels], np.int64) for key, part in parts.items()}
    learned = [key for key in parts if key != "test_path"]
    _check_memory(parts["path"].origin, [row for rows in made.values() for row in rows], max_bytes)
    inputs = stacked([row for key in parts for row in made[key]])
    rows = len(made["path"]) + (len(made["validation_path"]) if "validation_path" in made else 0)
    return Raw.of(
        inputs[:rows],
        np.concatenate([targets[key] for key in learned]),
        classes,
        test_inputs=inputs[rows:] if "test_path" in parts else None,
        test_targets=targets.get("test_path"),
        validation_rows=np.arange(rows) >= len(made["path"]) if "validation_path" in parts else None,
        preprocessor=TextPreprocessor,
        notes=tuple(notes),
    )


def fingerprint(arguments: Mapping[str, Any]) -> str:
    """Return the sha256 of the files that `texts` would read with these arguments.

    Raises:
        UserError: one is missing.
    """
    root, files = arguments.get("root"), []
    for key in ("path", "validation_path", "test_path"):
        if arguments.get(key) is not None or key == "path":
            files += [_located(path, key, root)[0] for path in _listed(arguments.get(key), key)]
    return checksum_of(files)


def read_rows(paths: Sequence[Path], manifest: Manifest) -> Iterator[RawRows]:
    """Yield the texts of files and folders as those that a model was trained on, with their row or file."""
    given = manifest.arguments
    spelled = {key: given.get(key) for key in ("separator", "header", "encoding")}
    file_format = Format(**spelled, quote=given.get("quote", '"'), decimal=".", missing_values=(), prefix="")
    source = _Source(given.get("text"), given.get("target"), file_format)
    limit = int(manifest.arguments.get("max_bytes", 4096))
    for path in paths:
        found = source.unlabelled(path)
        for first in range(0, len(found.texts), BATCH):
            part = slice(first, first + BATCH)
            columns: dict[str, Sequence[Any]] = {"row": range(first + 1, first + 1 + len(found.texts[part]))}
            if found.files:
                columns = {"file": [str(file) for file in found.files[part]]}
            yield RawRows(stacked(_encoded(found.texts[part], limit, found.origin, [])), columns)


@dataclass
class _Part:
    """Texts and their labels, where they come from, and notes for the user."""

    origin: str
    texts: list[str]
    labels: list[str]
    notes: list[str]
    files: list[Path]

    def joined(self, other: "_Part") -> "_Part":
        return _Part(
            f"{self.origin}, {other.origin}",
            self.texts + other.texts,
            self.labels + other.labels,
            [*dict.fromkeys([*self.notes, *other.notes])],
            self.files + other.files,
        )


@dataclass(frozen=True)
class _Source:
    """How files are read: the columns of texts and classes, the format of tables, and where paths start."""

    text: Column | Sequence[Column] | None
    target: Column | None
    format: Format
    root: str | None = None

    def read(self, paths: Paths | None, key: str) -> _Part:
        """Return the texts of the files that a key names, each with its class."""
        parts = [self._labelled(path, key) for path in _listed(paths, key)]
        whole = parts[0]
        for other in parts[1:]:
            whole = whole.joined(other)
        if not whole.texts:
            raise UserError(f"data.{key} is {whole.origin}: it holds no texts. Name a file with a row for each text.")
        if unlabelled := [str(k) for k, label in enumerate(whole.labels, 1) if not label]:
            count = "1 text has" if len(unlabelled) == 1 else f"{len(unlabelled):,} texts have"
            raise UserError(
                f"{whole.origin}: {count} no class in data.target={self.target} (row {_named(unlabelled)}). Fill it "
                "in, or leave such rows out."
            )
        if empty := sum(not text.strip() for text in whole.texts):
            if empty == len(whole.texts):
                raise UserError(f"{whole.origin}: all {empty:,} texts are empty. Name another column: data.text=…")
            count = "1 text is" if empty == 1 else f"{empty:,} texts are"
            whole.notes.append(f"{whole.origin}: {count} empty, and nothing can be learned from that.")
        return whole

    def unlabelled(self, path: Path) -> _Part:
        """Return the texts of a file, a folder or one text file, whether they have a class or not."""
        if path.is_dir():
            files = _below(path)
            if not files:
                raise UserError(f"input={path} has no texts: files that end with {', '.join(filter(None, FILES))}.")
            return _Part(str(path), [self._content(file) for file in files], [], [], files)
        if path.suffix.lower() in (".txt", ".text", ".md") and not _reads_as_table(path):
            return _Part(str(path), [self._content(path)], [], [], [path])
        names, rows, notes = self._records(path, None, "input")
        columns = self._text_columns(names, str(path), "", known_target=self._place(names, self.target, strict=False))
        return _Part(str(path), [_joined(row, columns) for row in rows], [], list(notes), [])

    def _labelled(self, path: str, key: str) -> _Part:
        place, inner = _located(path, key, self.root)
        if place.is_dir():
            return self._of_folder(place, key)
        names, rows, notes = self._records(place, inner, f"data.{key}")
        origin = str(place) if inner is None else f"{place}#{inner}"
        if self.target is None:
            raise UserError(
                f"data.target is null: name the column of the classes in {origin}; it has: {_named(names)}."
            )
        target = self._place(names, self.target, strict=True, key="data.target", origin=origin)
        columns = self._text_columns(names, origin, "data.", known_target=target)
        return _Part(origin, [_joined(row, columns) for row in rows], [row[target].strip() for row in rows], notes, [])

    def _text_columns(self, names: Sequence[str], origin: str, prefix: str, known_target: int | None) -> list[int]:
        """Return the places of the columns that make a text."""
        if self.text is None:
            others = [k for k in range(len(names)) if k != known_target]
            if len(others) == 1:
                return others
            raise UserError(f"{prefix}text is null: name the column of the texts in {origin}; it has: {_named(names)}.")
        given = [self.text] if isinstance(self.text, str | int) else list(self.text)
        if not given:
            raise UserError(f"{prefix}text is an empty list: name the column of the texts in {origin}.")
        places = [self._place(names, one, strict=True, key=f"{prefix}text", origin=origin) for one in given]
        if known_target in places and prefix:
            raise UserError(f"data.text and data.target are both {self.target!r}: name two columns of {origin}.")
        return places

    def _place(
        self, names: Sequence[str], column: Column | None, *, strict: bool, key: str = "", origin: str = ""
    ) -> int:
        """Return where a column stands; -1 if it does not and need not (`strict`)."""
        if (found := column_of(column, names)) is not None:
            return names.index(found)
        if not strict:
            return -1
        hint = near(str(column), list(names))
        raise UserError(f"{key} is {column!r}; {origin} has no such column{hint}; it has: {_named(names)}.")

    def _records(self, place: Path, inner: str | None, key: str) -> tuple[list[str], list[list[str]], list[str]]:
        """Return the names of a file's columns, its rows as text, and notes."""
        suffix = place.suffix.lower()
        if suffix in JSON + JSON_LINES:
            checked(place, key)
            return (*_of_json(place, inner, self._content(place), lines=suffix in JSON_LINES), [])
        if inner is not None:
            raise UserError(f"{key} is {place}#{inner}; what follows # is a key of a file in JSON, and this is none.")
        with _long_cells():
            table = open_table([checked(place, key)], self._format_of(place))
            rows = [
                ["" if cell is None else str(cell) for cell in row] for part in table.batches() for row in part.rows()
            ]
        if table.unsupported:
            raise UserError(f"{place} has columns that are no text: {_named(list(table.unsupported))}. Leave them out.")
        return list(table.columns), rows, list(table.notes)

    def _format_of(self, place: Path) -> Format:
        """Return the format of a table; of one column where nothing in its first line separates cells: there blanks
        stand within texts.
        """
        if self.format.separator is None and place.suffix.lower() in (".csv", ".tsv", ".txt"):
            with place.open("rb") as file:
                first = file.readline(START)
            if first.strip() and not first.startswith(PARQUET) and not any(mark in first for mark in b"\t;|,"):
                return replace(self.format, separator="\x01")
        return self.format

    def _of_folder(self, place: Path, key: str) -> _Part:
        every = files_below(place)
        found = [file for file in every if file.suffix.lower() in FILES and file.parent != place]
        if not found:
            raise UserError(
                f"data.{key} is {place}: it has no folders with texts. There should be one for each class, with files "
                f"that end with {', '.join(filter(None, FILES))}."
            )
        others = len(every) - len(found)
        left_out = f"{others:,} files of {place} are no texts by their names, or of no class; left out."
        labels = [file.relative_to(place).parts[0] for file in found]
        return _Part(str(place), [self._content(file) for file in found], labels, [left_out] if others else [], found)

    def _content(self, file: Path) -> str:
        """Return a file's text; in Windows-1252, which has a letter for almost any byte, if it is no UTF-8."""
        content = file.read_bytes()
        marked = next((name for mark, name in MARKS if content.startswith(mark)), None)
        for encoding in [self.format.encoding] if self.format.encoding else [marked] if marked else ENCODINGS:
            try:
                return content.decode(str(encoding))
            except UnicodeDecodeError:
                continue
        tried = self.format.encoding or marked or "UTF-8 or Windows-1252"
        raise UserError(f"{file} is not in {tried}: give its encoding with data.encoding=…, or write it in UTF-8.")


def _classes(parts: Mapping[str, _Part]) -> tuple[str, ...]:
    """Return the classes of the texts to learn from, whole numbers in their order."""
    found = {label for key, part in parts.items() if key != "test_path" for label in part.labels}
    origin = parts["path"].origin
    if len(found) < 2:
        raise UserError(f"{origin} has texts of one class, {next(iter(found))!r}: there is nothing to tell apart.")
    rows = len(parts["path"].texts)
    if len(found) > max(FEW, rows // 2):
        raise UserError(
            f"{origin} has {len(found):,} classes in {rows:,} rows, so that hardly two texts share one: is data.target "
            "the column of the classes?"
        )
    for key in ("validation_path", "test_path"):
        known = {*parts["path"].labels} if key == "validation_path" else found
        if key in parts and (unknown := sorted({*parts[key].labels} - known)):
            raise UserError(
                f"{parts[key].origin} has classes that {origin} lacks: {_named(unknown)}. Leave these rows out, or add "
                "texts of these classes to those to learn from."
            )
    whole = all(label.removeprefix("-").isdecimal() and len(label) < 16 for label in found)
    return tuple(sorted(found, key=(lambda label: (int(label), label)) if whole else None))


def _encoded(contents: Sequence[str], limit: int, origin: str, notes: list[str]) -> list[bytes]:
    """Return texts in UTF-8 of `limit` bytes at most, cut between characters; add a note on how many were cut."""
    made = [encoded(text, limit) for text in contents]
    if cut := sum(shortened for _, shortened in made):
        which = "text is" if cut == 1 else "texts are"
        notes.append(f"{origin}: {cut:,} {which} longer than data.max_bytes={limit:,}, and cut there.")
    return [content for content, _ in made]


def _check_memory(origin: str, rows: Sequence[bytes], limit: int) -> None:
    """Refuse texts that would not fit: each takes as many bytes as the longest, in a few copies."""
    longest = max(map(len, rows))
    needed, free = COPIES * len(rows) * longest, memory.free()
    if free is not None and needed > free:
        raise UserError(
            f"{origin}: {len(rows):,} texts of up to {longest:,} bytes take about {needed / 1e9:.1f} GB to prepare, "
            f"and {free / 1e9:.1f} GB of memory are free. Take a smaller data.max_bytes ({limit:,}), or fewer texts."
        )


def _of_json(place: Path, inner: str | None, content: str, *, lines: bool) -> tuple[list[str], list[list[str]]]:
    """Return the columns and rows of a JSON list, or of lines: objects with the same keys, or lists of one length."""
    try:
        wanted = [line for line in content.splitlines() if line.strip()] if lines else [content]
        parsed: list[Any] = [json.loads(part) for part in wanted]
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place} is not in JSON ({error}). Mend it, or export it again.") from None
    records: Any = parsed if lines else parsed[0]
    if isinstance(records, dict):
        if inner not in records:
            keys = _named(list(records)) or "none"
            which = "the list of texts" if inner is None else f"one that it has, not {inner!r}"
            raise UserError(
                f"{place} holds an object: name the key of {which}, as in {place}#KEY. Its keys are: {keys}."
            )
        records = records[inner]
    elif inner is not None:
        raise UserError(f"{place} holds no object, and so no key {inner!r}: leave #{inner} out.")
    if not isinstance(records, list) or not records:
        raise UserError(f'{place} holds no list of texts. It should be [{{"text": …, "target": …}}, …].')
    if all(isinstance(record, dict) for record in records):
        names = list(dict.fromkeys(key for record in records for key in record))
        return names, [[_cell(record.get(name), place) for name in names] for record in records]
    width = len(records[0]) if isinstance(records[0], list) else 0
    if not width or not all(isinstance(record, list) and len(record) == width for record in records):
        raise UserError(f"{place}: some of its {len(records):,} rows are neither objects nor lists of one length.")
    names = [f"column_{k}" for k in range(1, width + 1)]
    return names, [[_cell(cell, place) for cell in record] for record in records]


def _cell(value: Any, place: Path) -> str:
    if isinstance(value, dict | list):
        raise UserError(
            f"{place} has a list or an object in a row ({str(value)[:60]}): only texts and numbers are read."
        )
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def _joined(row: Sequence[str], columns: Sequence[int]) -> str:
    return " ".join(filter(None, (row[k] for k in columns)))


def _listed(paths: Any, key: str) -> list[str]:
    if not paths:
        raise UserError(
            f"data.{key} is null: name a table, a file in JSON, or a folder that has a folder for each class."
        )
    return [paths] if isinstance(paths, str) else list(paths)


def _located(path: str, key: str, root: str | None) -> tuple[Path, str | None]:
    """Return a file or folder, and the key behind ``#``, if any."""
    place = Path(root or "").expanduser() / Path(path).expanduser()
    inner = None
    if not place.exists() and "#" in path:
        before, _, inner = path.rpartition("#")
        place = Path(root or "").expanduser() / Path(before).expanduser()
    if not place.exists():
        beside = [other.name for other in place.parent.iterdir()] if place.parent.is_dir() else []
        raise UserError(f"data.{key} is {path}: there is no {place}{near(place.name, beside)}.")
    return place, inner


def _below(folder: Path) -> list[Path]:
    """Return the text files in a folder, at any depth, but for hidden ones."""
    return [file for file in files_below(folder) if file.suffix.lower() in FILES]


def _reads_as_table(path: Path) -> bool:
    """Return whether a file of text has tabs in its first line: a table, by whatever name."""
    with path.open("rb") as file:
        return b"\t" in file.readline(1 << 16)


@contextmanager
def _long_cells() -> Iterator[None]:
    """Let cells be as long as a text may be."""
    before = csv.field_size_limit(LONGEST_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(names[:SHOWN])
    return f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown
