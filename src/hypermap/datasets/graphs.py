"""Graphs whose nodes have classes: a table of nodes and one of edges, or LINQS' or Planetoid's files."""

import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.sparse import csr_array, eye_array, vstack

from hypermap.core.errors import UserError, near
from hypermap.core.files import files_below
from hypermap.core.hashing import checksum_of
from hypermap.core.typing import Array
from hypermap.data.manifest import Manifest
from hypermap.data.preprocessors.graph import GraphPreprocessor, check_normalize, shared_arrays
from hypermap.data.preprocessors.text import encoded, stacked
from hypermap.datasets import planetoid
from hypermap.datasets.images import Raw, RawRows
from hypermap.datasets.prepare import DataSettings
from hypermap.datasets.split import split as split_rows
from hypermap.datasets.tables.csv_format import Format
from hypermap.datasets.tables.readers import open_table
from hypermap.datasets.tables.target import column_of

ARCHIVES = (".tgz", ".tar", ".gz", ".zip")
LARGEST = 2 << 30  # bytes of all files in an archive
NAME = 256  # bytes of a node's name
WORDS = 100  # different words of a column of features
SHOWN = 5  # names in a message
BATCH = 65_536  # nodes that are predicted at once
PARTS = ("train", "validation", "test")
PLANETOID = re.compile(r"ind\.(.+)\.graph")

Column = str | int


def graph(
    path: str | None = None,
    *,
    nodes: str | None = None,
    edges: str | None = None,
    id: Column = 1,
    target: Column | None = None,
    features: Sequence[Column] | None = None,
    source: Column = 1,
    destination: Column = 2,
    split: Column | None = None,
    directed: bool = False,
    inductive: bool = False,
    normalize: str = "auto",
    labels_per_class: int | None = None,
    validation_nodes: int = 500,
    test_nodes: int | None = 1000,
    test: float | None = 0.2,
    validation: float | None = 0.2,
    split_seed: int = 0,
    root: str | None = None,
) -> Raw:
    """Return the nodes of a graph that have a class, by name, as UTF-8 in uint8 ``(rows, longest)``.

    Nodes without a class are no rows, but in the graph. Loops, repeated edges, and edges to nodes that there are not
    are left out, with a note.

    Args:
        path: a folder, or an archive of one, with LINQS' ``NAME.content`` and ``NAME.cites``, Planetoid's
            ``ind.NAME.x`` and so on, or a table of nodes and one of edges.
        nodes: the table of nodes in the folder; None: ``nodes.csv``, or any other table of that name.
        edges: that of edges; None: likewise.
        id: the column of a node's name, by name or place (from 1; -1: the last).
        target: that of its class; None: ``label``, ``class``, ``target`` or ``y``. An empty cell: it is unknown.
        features: those of its features; None: all others. A column of words is one-hot.
        source: that of an edge's first node.
        destination: that of its second.
        split: that which says ``train``, ``validation`` or ``test`` of a node.
        directed: whether messages go from source to destination alone.
        inductive: whether nodes that are held out are unknown in training; see `GraphPreprocessor`.
        normalize: ``rows`` divides the features of a node by their sum, ``standard`` scales each feature to mean 0 and
            deviation 1 of the training nodes; ``auto`` is the former for counts, mostly 0.
        labels_per_class: so many nodes of each class are learned from, `validation_nodes` and `test_nodes` of the rest
            are held out, all drawn by `split_seed`; None: the published split, or else shares.
        validation_nodes: see there.
        test_nodes: see there; None: all that are left.
        test: share of the nodes with a class that are held out for the test, by class, if there is no other split.
        validation: share of the others, likewise.
        split_seed: see there.
        root: the folder that a relative path starts from.

    Raises:
        UserError: a file or a column is missing or unreadable, two nodes have one name, there is no node with a class,
            or too few for the split.
    """
    check_normalize(normalize)
    for name, given in (("directed", directed), ("inductive", inductive)):
        if not isinstance(given, bool):
            raise UserError(f"data.{name} is {given!r}; it is true or false.")
    tables = _Tables(nodes, edges, id, target, features, source, destination, split)
    found = tables.read(_located(path, root))
    if not found.features.shape[1]:
        if inductive:
            raise UserError(
                f"{found.origin}: nodes have no features, and data.inductive is true: what is learned of a node by its "
                "name alone says nothing of others. Give columns of features, or set data.inductive=false."
            )
        found.features = csr_array(eye_array(len(found.names), dtype=np.float32))
        found.notes.append(f"{found.origin}: nodes have no features; each is told apart by its name (one-hot).")
    joined, notes = _joined(found, directed=directed)
    classes = sorted({label for label in found.labels if label}, key=_order)
    if len(classes) < 2:
        held = f"all nodes are of the class {classes[0]!r}" if classes else "no node has a class"
        raise UserError(f"{found.origin}: {held}; there should be two classes or more.")
    index = {name: k for k, name in enumerate(classes)}
    targets = np.array([index.get(label, -1) for label in found.labels], np.int64)
    parts = found.parts
    if labels_per_class is not None:
        parts = _drawn(targets, classes, labels_per_class, validation_nodes, test_nodes, split_seed)
    elif parts is None:
        parts = _shares(targets, classes, DataSettings(validation=validation, test=test, split_seed=split_seed))
    else:
        notes.append(f"{found.origin}: the split is the published one; data.labels_per_class draws another.")
    names = stacked([encoded(name, NAME)[0] for name in found.names])
    rows, tested = np.concatenate([parts["train"], parts["validation"]]), parts["test"]
    stages = np.zeros(len(names), np.uint8)
    stages[rows], stages[tested] = 1, 2
    if unlabelled := int((stages == 0).sum()):
        which = "1 node is" if unlabelled == 1 else f"{unlabelled:,} nodes are"
        notes.append(f"{found.origin}: {which} in the graph without a class to learn from or to be tested by.")
    return Raw.of(
        names[rows],
        targets[rows],
        classes,
        test_inputs=names[tested],
        test_targets=targets[tested],
        validation_rows=np.arange(len(rows)) >= len(parts["train"]),
        numbers=rows + 1,
        test_numbers=tested + 1,
        preprocessor=GraphPreprocessor,
        shared=shared_arrays(names, joined, stages, found.features),
        notes=(*found.notes, *notes),
    )


def fingerprint(arguments: Mapping[str, Any]) -> str:
    """Return the sha256 of the files that `graph` would read with these arguments.

    Raises:
        UserError: there are none.
    """
    return checksum_of([_located(arguments.get("path"), arguments.get("root"))])


def read_rows(paths: Sequence[Path], manifest: Manifest) -> Iterator[RawRows]:
    """Yield the names of nodes: those of a table, whose column is that of the table of nodes, or of a whole graph."""
    column = manifest.arguments.get("id", 1)
    for path in paths:
        if path.is_dir() or path.suffix.lower() in ARCHIVES:
            given = manifest.arguments
            names = _Tables(given.get("nodes"), given.get("edges"), column, given.get("target")).read(path).names
        elif path.suffix == ".content":
            names = _linqs_nodes(path.read_bytes(), str(path))[0]
        else:
            frame = _frame(path)
            names = _words(frame[_column(column, frame.columns, "id", path)])
        for first in range(0, len(names), BATCH):
            some = names[first : first + BATCH]
            yield RawRows(stacked([encoded(name, NAME)[0] for name in some]), {"node": some})


@dataclass
class _Found:
    """A graph as its files have it: nodes' names, classes (empty: unknown) and features, and edges by name."""

    origin: str
    names: list[str]
    labels: list[str]
    features: Array | csr_array
    sources: list[str]
    destinations: list[str]
    parts: dict[str, Array] | None = None  # the places of the nodes of each split, if that is published
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Tables:
    """Which tables of a folder are of nodes and edges, and what their columns are."""

    nodes: str | None = None
    edges: str | None = None
    id: Column = 1
    target: Column | None = None
    features: Sequence[Column] | None = None
    source: Column = 1
    destination: Column = 2
    split: Column | None = None

    def read(self, place: Path) -> _Found:
        """Return the graph of a folder or an archive, in whatever format."""
        if place.is_dir():
            files = {str(file.relative_to(place)): file.read_bytes for file in files_below(place)}
            packed = [name for name in files if Path(name).suffix.lower() in ARCHIVES]
            if len(files) == len(packed) == 1:
                return self.read(place / packed[0])
        elif place.suffix.lower() in ARCHIVES:
            files = _packed(place)
        else:
            raise UserError(f"data.path is {place}: name the folder of the files of a graph, or an archive of one.")
        reader = self._of_tables if self.nodes or self.edges else _known(files) or self._of_tables
        return reader(place, files)

    def _of_tables(self, place: Path, files: Mapping[str, Callable[[], bytes]]) -> _Found:
        if not place.is_dir():
            raise UserError(f"{place} has no files of LINQS or Planetoid: unpack it, and name the folder.")
        paths = [_table(place, files, name, key) for name, key in ((self.nodes, "nodes"), (self.edges, "edges"))]
        nodes, edges = (_frame(path) for path in paths)
        columns = nodes.columns
        known = _column(self.id, columns, "id", paths[0])
        target = self._target(columns, paths[0])
        split = None if self.split is None else _column(self.split, columns, "split", paths[0])
        used = {known, target, split}
        if self.features is None:
            chosen = [name for name in columns if name not in used]
        else:
            chosen = [_column(name, columns, "features", paths[0]) for name in self.features]
        labels = _words(nodes[target])
        sources = _words(edges[_column(self.source, edges.columns, "source", paths[1])])
        destinations = _words(edges[_column(self.destination, edges.columns, "destination", paths[1])])
        if empty := nodes[known].null_count():
            raise UserError(f"{paths[0]}: {empty:,} nodes have no name in column {known!r} (data.id).")
        names = _words(nodes[known])
        features = _features(nodes.select(chosen), paths[0])
        found = _Found(str(place), names, labels, features, sources, destinations)
        if split is not None:
            found.parts = _published(_words(nodes[split]), labels, split, paths[0])
        return found

    def _target(self, columns: Sequence[str], path: Path) -> str:
        if self.target is not None:
            return _column(self.target, columns, "target", path)
        usual = [name for name in columns if name.lower() in ("label", "class", "target", "y")]
        if len(usual) != 1:
            raise UserError(
                f"data.target is null: name the column of the nodes' classes in {path}; it has: {_named(columns)}."
            )
        return usual[0]


def _known(
    files: Mapping[str, Callable[[], bytes]],
) -> Callable[[Path, Mapping[str, Callable[[], bytes]]], _Found] | None:
    """Return the reader of LINQS' or Planetoid's files, if they are there."""
    names = [Path(name).name for name in files]
    if any(PLANETOID.fullmatch(name) for name in names):
        return _planetoid
    if any(name.endswith(".content") for name in names) and any(name.endswith(".cites") for name in names):
        return _linqs
    if any(".NODE." in name for name in names) and any(".DIRECTED." in name for name in names):
        return _linqs_tabs
    return None


# LINQS, https://linqs.org/datasets: a line for each node, its name, features and class, and one for each edge,
# from cited to citing.


def _linqs(place: Path, files: Mapping[str, Callable[[], bytes]]) -> _Found:
    content, cites = (_only(files, rf".*\.{suffix}", place) for suffix in ("content", "cites"))
    names, features, labels = _linqs_nodes(files[content](), f"{place}/{content}")
    lines = _lines(files[cites](), f"{place}/{cites}")
    pairs = [line.split() for line in lines]
    _check_width(pairs, 2, f"{place}/{cites}")
    return _Found(f"{place}/{content}", names, labels, features, [one for one, _ in pairs], [two for _, two in pairs])


def _linqs_nodes(content: bytes, origin: str) -> tuple[list[str], csr_array, list[str]]:
    rows = [line.split("\t") if "\t" in line else line.split() for line in _lines(content, origin)]
    if not rows:
        raise UserError(f"{origin} is empty: there should be a line for each node.")
    _check_width(rows, len(rows[0]), origin)
    try:
        values = np.array([row[1:-1] for row in rows], np.float32)
    except ValueError as error:
        raise UserError(f"{origin}: a feature is no number ({error}).") from None
    return [row[0] for row in rows], csr_array(values), [row[-1].strip() for row in rows]


def _linqs_tabs(place: Path, files: Mapping[str, Callable[[], bytes]]) -> _Found:
    """Return a graph of LINQS' other format, that of Pubmed-Diabetes: features by name, and edges of typed nodes."""
    content, cites = (_only(files, rf".*\.{part}\..*", place) for part in ("NODE", "DIRECTED"))
    header, *rows = [line.split("\t") for line in _lines(files[content](), f"{place}/{content}")][1:]
    columns = [cell.split(":")[1] for cell in header if cell.startswith("numeric:")]
    index = {name: k for k, name in enumerate(columns)}
    cells = [dict(cell.partition("=")[::2] for cell in row[1:]) for row in rows]
    held = [(k, index[name], value) for k, own in enumerate(cells) for name, value in own.items() if name in index]
    try:
        values = np.array([value for *_, value in held], np.float32)
    except ValueError as error:
        raise UserError(f"{place}/{content}: a feature is no number ({error}).") from None
    names, labels = [row[0] for row in rows], [own.get("label", "") for own in cells]
    places = ([row for row, *_ in held], [column for _, column, _ in held])
    ends = [re.findall(r"\w+:(\S+)", line) for line in _lines(files[cites](), f"{place}/{cites}")[2:]]
    _check_width(ends, 2, f"{place}/{cites}")
    features = csr_array((values, places), shape=(len(names), len(columns)))
    return _Found(f"{place}/{content}", names, labels, features, [one for one, _ in ends], [two for _, two in ends])


# Planetoid, https://github.com/kimiyoung/planetoid: x and y are the labelled nodes, allx and ally all but the test's,
# tx and ty the test's, in the order of test.index; graph has the neighbors of each node, by place.


def _planetoid(place: Path, files: Mapping[str, Callable[[], bytes]]) -> _Found:
    by_name = {Path(name).name: read for name, read in files.items()}
    sets = [match[1] for name in by_name if (match := PLANETOID.fullmatch(name))]
    if len(sets) > 1:
        raise UserError(f"data.path is {place}: it has files of {', '.join(sets)}. Keep those of one set in a folder.")
    wanted = [f"ind.{sets[0]}.{part}" for part in ("x", "y", "tx", "ty", "allx", "ally", "graph", "test.index")]
    if missing := [name for name in wanted if name not in by_name]:
        raise UserError(f"data.path is {place}: of Planetoid's files, it lacks {', '.join(missing)}.")
    _, y, tx, ty, allx, ally, neighbors = (planetoid.read(by_name[name](), f"{place}/{name}") for name in wanted[:-1])
    order = np.array([int(line) for line in _lines(by_name[wanted[-1]](), f"{place}/{wanted[-1]}")])
    count = max(len(ally) + len(ty), int(order.max()) + 1, max(neighbors) + 1)
    features = vstack([csr_array(allx), csr_array((count - len(ally), allx.shape[1]), dtype=np.float32)], "lil")
    one_hot = np.zeros((count, ally.shape[1]), np.int64)
    one_hot[: len(ally)] = ally
    features[order], one_hot[order] = csr_array(tx).tolil(), ty
    labels = [str(row.argmax()) if row.any() else "" for row in one_hot]
    held = min(len(y) + 500, len(ally))
    parts = {"train": np.arange(len(y)), "validation": np.arange(len(y), held), "test": np.sort(order)}
    parts = {name: rows[one_hot[rows].any(1)] for name, rows in parts.items()}
    pairs = [(str(node), str(other)) for node, others in neighbors.items() for other in others]
    names = [str(node) for node in range(count)]
    ends = ([one for one, _ in pairs], [two for _, two in pairs])
    return _Found(f"{place}/{wanted[-2]}", names, labels, csr_array(features), *ends, parts)


def _joined(found: _Found, *, directed: bool) -> tuple[Array, list[str]]:
    """Return edges by place, int64 ``(2, edges)``, each once in each of its directions, and notes on those left out."""
    index = {name: k for k, name in enumerate(found.names)}
    if len(index) < len(found.names):
        seen: set[str] = set()
        twice = next(name for name in found.names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise UserError(
            f"{found.origin}: {len(found.names) - len(index):,} nodes have the name of another, such as {twice!r}. "
            "Each node has one line, with a name of its own."
        )
    ends = np.array(
        [[index.get(name, -1) for name in names] for names in (found.sources, found.destinations)], np.int64
    )
    ends = ends.reshape(2, -1)
    unknown, loops = (ends < 0).any(0), ends[0] == ends[1]
    kept = ends[:, ~unknown & ~loops]
    once = np.unique(kept if directed else np.sort(kept, axis=0), axis=1)
    both = once if directed else np.concatenate([once, once[::-1]], axis=1)
    notes, origin = [], found.origin
    if count := int(unknown.sum()):
        first = int(np.flatnonzero(unknown)[0])
        name = next(names[first] for names in (found.sources, found.destinations) if names[first] not in index)
        which = "1 edge leads" if count == 1 else f"{count:,} edges lead"
        notes.append(f"{origin}: {which} to nodes that there are not, such as {name!r}; left out.")
    if count := int((loops & ~unknown).sum()):
        which = "1 edge joins a node" if count == 1 else f"{count:,} edges join nodes"
        notes.append(f"{origin}: {which} to itself; left out.")
    if count := kept.shape[1] - once.shape[1]:
        which = "1 edge is" if count == 1 else f"{count:,} edges are"
        notes.append(f"{origin}: {which} there more than once{'' if directed else ', in either direction'}; kept once.")
    if not once.shape[1]:
        raise UserError(
            f"{origin}: no edge joins two of its {len(index):,} nodes. Edges should name nodes as data.id does."
        )
    if count := len(index) - len(np.unique(once)):
        which = "1 node has" if count == 1 else f"{count:,} nodes have"
        notes.append(f"{origin}: {which} no edge, and nothing but their own features.")
    return both[:, np.lexsort(both)], notes


def _drawn(
    targets: Array, classes: Sequence[str], each: int, validation: int, test: int | None, seed: int
) -> dict[str, Array]:
    """Return the places of so many nodes of each class, and of others that are held out."""
    for name, value, least in (
        ("labels_per_class", each, 1), ("validation_nodes", validation, 1), ("test_nodes", test, 1),
    ):  # fmt: skip
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= least
        if not whole and not (name == "test_nodes" and value is None):
            raise UserError(f"data.{name} is {value!r}; it is a whole number, {least} or more.")
    draw = np.random.default_rng(seed)
    order = draw.permutation(np.flatnonzero(targets >= 0))
    train = np.concatenate([order[targets[order] == k][:each] for k in range(len(classes))])
    counts = np.bincount(targets[order], minlength=len(classes))
    if (counts < each).any():
        fewest = int(counts.argmin())
        raise UserError(
            f"data.labels_per_class is {each}; there are {counts[fewest]} nodes of class {classes[fewest]!r}: take "
            f"{counts[fewest] - 1} or fewer, or leave that class out."
        )
    rest = order[~np.isin(order, train)]
    if len(rest) < validation + (test or 1):
        raise UserError(
            f"data.labels_per_class={each} leaves {len(rest):,} nodes with a class, too few for "
            f"data.validation_nodes={validation} and data.test_nodes={test}: lower them."
        )
    last = None if test is None else validation + test
    return {"train": train, "validation": rest[:validation], "test": rest[validation:last]}


def _shares(targets: Array, classes: Sequence[str], settings: DataSettings) -> dict[str, Array]:
    """Return the places of the nodes of each split, drawn by class as rows of any other data are."""
    places = np.flatnonzero(targets >= 0)
    rows = Raw.of(places[:, None], targets[places], classes, preprocessor=GraphPreprocessor)
    drawn = split_rows(
        rows, "graph", validation=settings.validation, test=settings.test, seed=settings.split_seed, row_limit=None
    )
    return {name: places[part.rows] for name, part in drawn.items()}


def _published(cells: Sequence[str], labels: Sequence[str], column: str, path: Path) -> dict[str, Array]:
    """Return the places of the nodes of each split, from the column that says it."""
    said = {"val": "validation", "valid": "validation", "training": "train"}
    words = [said.get(cell.strip().lower(), cell.strip().lower()) for cell in cells]
    if unknown := sorted({word for word in words if word not in (*PARTS, "", "none")}):
        raise UserError(
            f"{path}: column {column!r} (data.split) says {_named(unknown)}; it may say {', '.join(PARTS)}, or nothing."
        )
    parts = {part: np.flatnonzero([word == part for word in words]) for part in PARTS}
    for part, rows in parts.items():
        if not len(rows):
            raise UserError(f"{path}: column {column!r} (data.split) says of no node that it is for {part}.")
        if without := sum(not labels[int(row)] for row in rows):
            raise UserError(f"{path}: {without:,} nodes are for {part}, and have no class.")
    return parts


def _features(frame: pl.DataFrame, path: Path) -> Array:
    """Return columns of numbers as they are, and of words one-hot, float32 ``(nodes, features)``, NaN where empty."""
    made = []
    for name in frame.columns:
        cells = frame[name]
        numbers = cells if cells.dtype.is_numeric() else cells.str.strip_chars().cast(pl.Float64, strict=False)
        if numbers.null_count() == cells.null_count():
            made.append(numbers.cast(pl.Float32).fill_null(np.nan).to_numpy()[:, None])
            continue
        words = cells.unique().drop_nulls().sort().to_list()
        if len(words) > WORDS:
            raise UserError(
                f"{path}: column {name!r} has {len(words):,} different words, too many for a feature. Name the columns "
                "that are features: 'data.features=[…]'."
            )
        made.append((cells.to_numpy()[:, None] == np.array(words, object)).astype(np.float32))
    return np.concatenate(made, axis=1) if made else np.zeros((frame.height, 0), np.float32)


def _frame(path: Path) -> pl.DataFrame:
    """Return a table whose cells are text, or numbers of a Parquet file, names as they stand there."""
    table = open_table([path], Format(prefix="data."))
    frame = pl.concat(list(table.batches()))
    return frame.with_columns(pl.col(pl.String).str.strip_chars())


def _words(cells: pl.Series) -> list[str]:
    """Return cells as words, empty where there are none; whole numbers as such."""
    if cells.dtype.is_float() and (cells.drop_nulls() % 1 == 0).all():
        cells = cells.cast(pl.Int64)
    return cells.cast(pl.String).fill_null("").to_list()


def _table(place: Path, files: Mapping[str, Any], name: str | None, key: str) -> Path:
    """Return the table of nodes or edges in a folder."""
    if name is not None:
        if not (place / name).is_file():
            raise UserError(f"data.{key} is {name}: there is no {place / name}{near(name, list(files))}.")
        return place / name
    found = [file for file in files if Path(file).name.lower().split(".")[0] == key]
    if len(found) != 1:
        raise UserError(
            f"data.path is {place}: it should have LINQS' .content and .cites, Planetoid's ind.NAME.graph and so on, "
            "or a table of nodes and one of edges. Name the latter: data.nodes=nodes.csv data.edges=edges.csv. It has: "
            f"{_named(sorted(files)) or 'no files'}."
        )
    return place / found[0]


def _column(given: object, columns: Sequence[str], key: str, path: Path) -> str:
    if (name := column_of(given, columns)) is None:
        raise UserError(
            f"data.{key} is {given!r}{near(str(given), columns)}: no column of {path}; it has: {_named(columns)}."
        )
    return name


def _only(files: Mapping[str, Any], pattern: str, place: Path) -> str:
    found = [name for name in files if re.fullmatch(pattern, Path(name).name)]
    if len(found) != 1:
        raise UserError(f"data.path is {place}: it has {_named(found)}. Keep the files of one graph in a folder.")
    return found[0]


def _packed(place: Path) -> dict[str, Callable[[], bytes]]:
    """Return the files of an archive, each as what gives its content; nothing is unpacked to the disk."""
    found: dict[str, bytes] = {}
    try:
        if zipfile.is_zipfile(place):
            with zipfile.ZipFile(place) as archive:
                _check_size(place, sum(info.file_size for info in archive.infolist()))
                found = {info.filename: archive.read(info) for info in archive.infolist() if not info.is_dir()}
        else:
            with tarfile.open(place) as tar:
                members = [member for member in tar.getmembers() if member.isfile()]
                _check_size(place, sum(member.size for member in members))
                found = {member.name: opened.read() for member in members if (opened := tar.extractfile(member))}
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, OSError, EOFError) as error:
        raise UserError(f"{place} is no archive that can be read ({error}). Get it again, or unpack it.") from None
    return {name: partial(bytes, held) for name, held in found.items() if not Path(name).name.startswith(".")}


def _check_size(place: Path, size: int) -> None:
    if size > LARGEST:
        raise UserError(f"{place} holds {size:,} bytes: unpack it, and name the folder.")


def _lines(content: bytes, origin: str) -> list[str]:
    try:
        return [line for line in content.decode("utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise UserError(f"{origin} is no text in UTF-8 ({error}).") from None


def _check_width(rows: Sequence[Sequence[str]], width: int, origin: str) -> None:
    for k, row in enumerate(rows, 1):
        if len(row) != width:
            raise UserError(f"{origin}: line {k} has {len(row)} values, where {width} should be.")


def _located(path: object, root: str | None) -> Path:
    if not isinstance(path, str) or not path:
        raise UserError("data.path is null: name the folder of a graph's files, a table of nodes and one of edges.")
    place = Path(root or "").expanduser() / Path(path).expanduser()
    if not place.exists():
        beside = [other.name for other in place.parent.iterdir()] if place.parent.is_dir() else []
        raise UserError(f"data.path is {path}: there is no {place}{near(place.name, beside)}.")
    return place


def _order(label: str) -> tuple[int, float, str]:
    """Return what classes are sorted by: numbers by value, then words."""
    try:
        return 0, float(label), label
    except ValueError:
        return 1, 0.0, label


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(names[:SHOWN])
    return f"{shown} and {len(names) - SHOWN:,} more" if len(names) > SHOWN else shown
