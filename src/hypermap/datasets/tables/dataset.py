"""The reader of tables: from files and settings to the arrays of a data set."""

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from hypermap.core.errors import UserError, near
from hypermap.core.typing import Array
from hypermap.data.table_rows import identities, packed
from hypermap.data.text_columns import TextColumnSettings
from hypermap.datasets import download
from hypermap.datasets.images import Raw
from hypermap.datasets.tables import dates
from hypermap.datasets.tables.arrays import TableArrays, read_columns, read_rows
from hypermap.datasets.tables.column_types import (
    Given,
    check_kinds,
    how_to_keep,
    scattered,
    spelled_alike,
    understand,
    understand_text,
)
from hypermap.datasets.tables.columns import Column, Target
from hypermap.datasets.tables.csv_format import Expected, Format
from hypermap.datasets.tables.duplicates import (
    Duplicates,
    duplicate_rows,
    first_of_equal,
    groups_of_equal,
    shared_rows,
)
from hypermap.datasets.tables.leakage import earlier_rows, shared_groups, target_leaks
from hypermap.datasets.tables.readers import Table, checked, open_table
from hypermap.datasets.tables.schema import Schema
from hypermap.datasets.tables.sentinels import sentinels
from hypermap.datasets.tables.statistics import Statistics, gather
from hypermap.datasets.tables.target import (
    Requested,
    column_of,
    spelled_in_vain,
    understand_label,
    understand_labels,
    understand_target,
    unknown_labels,
)
from hypermap.datasets.tables.time_order import rows_in_order
from hypermap.tasks.names import TargetColumn, several_targets

PREFIX = "data."
UNHEADED = f"Its first line reads as data; if it names the columns, say {PREFIX}header=true."
UNNAMED = "it has no name, like the index that pandas writes"

SHIPPED = ("adult", "bank_marketing", "california_housing", "german_credit", "titanic", "wine_quality")

Paths = str | Sequence[str]


def table(
    path: Paths | None = None,
    target: str | int | Sequence[Any] | Mapping[str, str] | None = None,
    *,
    test_path: Paths | None = None,
    task: str | None = None,
    label_separator: str | None = None,
    drop: Sequence[str | int] = (),
    kinds: Mapping[str | int, str] | Sequence[Sequence[Any]] | None = None,
    classes: Mapping[Any, str] | Sequence[Sequence[Any]] | None = None,
    columns: Sequence[str] | None = None,
    separator: str | None = None,
    header: bool | None = None,
    quote: str | None = '"',
    encoding: str | None = None,
    decimal: str | None = None,
    comment: str | None = None,
    missing_values: Sequence[str] | None = None,
    group: str | int | None = None,
    time: str | int | None = None,
    duplicates: Duplicates = "keep",
    root: str | None = None,
    dataset: str | None = None,
    text: str | int | Sequence[str | int] | None = None,
    text_components: int = 30,
    text_ngrams: str = "characters",
    text_max_bytes: int = 4096,
    text_gain: bool = False,
) -> Raw:
    """Return a user's table: CSV with any separator, TSV or Parquet.

    Args:
        path: a file, or a list of files with the same columns.
        target: the column to predict, by name or by position, where 1 is the first and -1 the last; so are the columns
            below. Several are labels, yes or no each; or a mapping of columns to their tasks, or pairs of both.
        test_path: files with the test rows, if separate.
        task: ``binary``, ``multiclass`` or ``regression``; None: words and up to ten integers are classes.
        label_separator: what stands between the labels that a cell of the target lists, if it lists any number.
        drop: columns to leave out.
        kinds: column types to override: number, category, boolean, date, text, identifier, or a date format such as
            ``%d/%m/%Y``; a mapping, or pairs.
        classes: class names for values of the target with several spellings; a mapping, or pairs.
        columns: names for all columns, in order.
        separator, header, quote, encoding, decimal, comment, missing_values: see `Format`.
        group: a column; rows with equal values stay together in every split. It is not an input.
        time: a column, date or number, that orders the splits.
        duplicates: ``drop`` leaves out rows of `path` that repeat another's inputs and target; ``group`` keeps rows
            with the same inputs together in every split.
        root: the base folder of relative paths; for a `dataset` the folder with its files, where None is
            ``HYPERMAP_DATA``, else a download.
        dataset: an included data set; `path` then names its files.
        text: columns of free text to learn from, by name or position.
        text_components: like the next two a field of `TextColumnSettings`, by which texts are preprocessed.
        text_ngrams: see there.
        text_max_bytes: see there.
        text_gain: whether training also trains a model without the texts, for the report (see
            `hypermap.experiments.run.train_without_texts`); the rows do not depend on it.

    Raises:
        UserError: the files or the settings are invalid.
    """
    given = Format(separator, header, quote, encoding, decimal, comment, missing_values, columns, PREFIX)
    of_kind = dict(kinds or {})  # type: ignore[arg-type]  # of a mapping or of pairs
    check_kinds(of_kind, PREFIX)
    if duplicates not in (allowed := get_args(Duplicates)):
        raise UserError(f"{PREFIX}duplicates is {duplicates!r}; it is {', '.join(allowed)}{near(duplicates, allowed)}.")
    if duplicates == "group" and time is not None:
        raise UserError(
            f"{PREFIX}duplicates is group, and {PREFIX}time orders the splits, which cannot keep equal rows together: "
            f"take {PREFIX}duplicates=drop or keep."
        )
    drop = [drop] if isinstance(drop, str) else drop
    texts = [] if text is None else [text] if isinstance(text, str | int) else text
    limit = TextColumnSettings(text_components, text_ngrams, text_max_bytes).text_max_bytes  # type: ignore[arg-type]
    requested = Requested.of(target, label_separator, PREFIX)
    hints = [name for name in (*requested.columns, group, time, *drop, *of_kind, *texts) if isinstance(name, str)]
    train = open_table(_located(_paths(path), dataset, root), given, Expected(tuple(hints)))
    if not train.size:
        raise UserError(f"{train.name} has a header and no rows. Export it again.")
    names = requested.names(train.columns, PREFIX, headed=train.headed)
    roles = _Roles.of(train, names, group, time, drop, of_kind, texts)
    statistics = gather(train)
    spelled = dict(classes or {})  # type: ignore[arg-type]  # of a mapping or of pairs
    targets, notes = _targets(train, statistics, roles, requested, task, label_separator, spelled)
    schema, more = _understood(train, statistics, roles, targets)
    notes += more
    if test_path is None and (absent := spelled_in_vain(statistics[names[0]], spelled)):
        notes = [*notes, f"{PREFIX}classes names {', '.join(absent)}, which the target {names[0]!r} never is."]
    order = None if roles.time is None else _order(statistics[roles.time], roles.kinds.get(roles.time))
    rows = read_rows(train, schema, order, text_limit=limit)
    notes = [*train.notes, *notes, *rows.notes, *sentinels(schema, rows, statistics, PREFIX)]
    notes += _serial(train, schema, statistics, rows)
    if test_path is None:
        return _raw(schema, rows, None, notes, roles.given, duplicates, labels=requested.labels)
    test_paths = [checked(path, f"{PREFIX}test_path") for path in _located(test_path, dataset, root)]
    test = open_table(test_paths, given, schema.expected)
    notes += [*test.notes, *schema.check(test)]
    test_rows = read_rows(test, schema, order, text_limit=limit, apart=True)
    notes += unknown_labels(test, schema.target, schema.targets)
    return _raw(schema, rows, test_rows, [*notes, *test_rows.notes], roles.given, duplicates, labels=requested.labels)


def fingerprint(arguments: Mapping[str, Any]) -> str:
    """Return the sha256 of the files that `table` would read with these arguments, to detect changes.

    Files with a published checksum are not opened for this.

    Raises:
        UserError: a file is missing, or there is no such dataset.
    """
    digest = hashlib.sha256()
    for key in ("path", "test_path"):
        if arguments.get(key) is not None:
            if dataset := arguments.get("dataset"):
                _check_dataset(dataset)
                digest.update(f"{arguments[key]} {sorted(download.MD5[dataset].items())}".encode())
                continue
            for path in _located(arguments[key], None, arguments.get("root")):
                checked(path, f"{PREFIX}{key}")
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


@dataclass(frozen=True)
class _Roles:
    """The user's settings of columns, all by name."""

    targets: tuple[str, ...]
    group: str | None
    time: str | None
    drop: tuple[str, ...]
    kinds: Mapping[str, str]
    text: tuple[str, ...]

    @classmethod
    def of(
        cls,
        table: Table,
        targets: tuple[str, ...],
        group: str | int | None,
        time: str | int | None,
        drop: Sequence[str | int],
        kinds: Mapping[str | int, str],
        text: Sequence[str | int],
    ) -> "_Roles":
        """Return the settings, with columns given by name or position resolved.

        Raises:
            UserError: there are no such columns, or their settings are impossible.
        """
        given = {"drop": drop, "kinds": kinds, "group": [group], "time": [time], "text": text}
        problems = [
            f"{PREFIX}{key} names {name!r}{near(name, table.columns) if isinstance(name, str) else ''}"
            for key, names in given.items()
            for name in names
            if name is not None and column_of(name, table.columns) is None
        ]
        if problems:
            raise UserError(
                f"{'; '.join(problems)}; {table.name} has: {', '.join(table.columns)} (or 1 to {len(table.columns)} by "
                f"position, -1 for the last).{'' if table.headed else f' {UNHEADED}'}"
            )
        for first, second in itertools.combinations(kinds.items(), 2):
            if column_of(first[0], table.columns) == column_of(second[0], table.columns) and first[1] != second[1]:
                raise UserError(
                    f"{PREFIX}kinds says of one column, {first[0]!r} or {second[0]!r}, that it is {first[1]} and "
                    f"{second[1]}: leave one out."
                )
        found = {name: str(column_of(name, table.columns)) for names in given.values() for name in names}
        roles = cls(
            targets,
            None if group is None else found[group],
            None if time is None else found[time],
            tuple(dict.fromkeys(found[name] for name in drop)),
            {found[name]: kind for name, kind in kinds.items()},
            tuple(dict.fromkeys(found[name] for name in text)),
        )
        roles._check(table)
        return roles

    @property
    def given(self) -> Given:
        """Return the settings for advice."""
        return Given(self.kinds, self.drop, self.text, PREFIX)

    def _check(self, table: Table) -> None:
        """Refuse columns whose settings are impossible."""
        given = [("target", name) for name in self.targets]
        for key, name in (*given, ("group", self.group), ("time", self.time), *(("text", name) for name in self.text)):
            if name in table.unsupported:
                raise UserError(f"{PREFIX}{key} is {name!r}, which holds {table.unsupported[name]}: it cannot be used.")
        others = {"drop": self.drop, "kinds": self.kinds, "group": [self.group], "time": [self.time], "text": self.text}
        for key, names in others.items():
            if both := [target for target in self.targets if target in names]:
                remedy = f"use {PREFIX}task to say what it is" if key == "kinds" else "name another"
                raise UserError(f"{PREFIX}{key} names {both[0]!r}, which is the target: {remedy}.")
        for name in self.text:
            if name in (*self.drop, self.group, self.time) or self.kinds.get(name, "text") != "text":
                keys = [key for key, names in others.items() if name in names and key != "text"]
                raise UserError(
                    f"{PREFIX}text names {name!r}, and so does {PREFIX}{keys[0]}: leave it out of one of them."
                )


def _targets(
    table: Table,
    statistics: Mapping[str, Statistics],
    roles: _Roles,
    requested: Requested,
    task: str | None,
    separator: str | None,
    classes: Mapping[Any, str],
) -> tuple[tuple[Target, ...], list[str]]:
    """Return the targets, and notes on how they were detected."""
    several = len(roles.targets) > 1 or separator is not None
    if several and (task is not None or classes):
        key = "task" if task is not None else "classes"
        raise UserError(
            f"{PREFIX}{key} is of one target, and there are several: leave it out"
            + (
                f"; {PREFIX}target can say of each column what it is: {{price: regression, sold: binary}}."
                if task
                else "."
            )
        )
    if separator is not None:
        return understand_labels(table, roles.targets[0], separator, PREFIX), []
    if requested.labels:
        columns = [statistics[name] for name in roles.targets]
        return tuple(understand_label(column, columns, PREFIX) for column in columns), []
    if len(roles.targets) > 1:
        pairs = zip(roles.targets, requested.tasks, strict=True)
        keys = {name: f"{PREFIX}target.{name}" for name in roles.targets}
        return tuple(understand_target(statistics[name], its, None, PREFIX, keys[name])[0] for name, its in pairs), []
    if requested.tasks and task not in (None, *requested.tasks):
        raise UserError(f"{PREFIX}target says {requested.tasks[0]}, and {PREFIX}task {task}: leave one out.")
    target, notes = understand_target(
        statistics[roles.targets[0]], task or next(iter(requested.tasks), None), classes, PREFIX
    )
    return (target,), notes


def _understood(
    table: Table,
    statistics: Mapping[str, Statistics],
    roles: _Roles,
    targets: tuple[Target, ...],
) -> tuple[Schema, list[str]]:
    """Return the schema, and notes on how it was detected."""
    notes: list[str] = []
    dropped = {name: UNNAMED for name in table.unnamed if name not in (roles.time, *roles.kinds, *roles.text)}
    dropped |= {name: f"it holds {held}" for name, held in table.unsupported.items()}
    dropped |= dict.fromkeys(roles.drop, f"{PREFIX}drop names it")
    if roles.group is not None:
        dropped[roles.group] = "it is the group"
    columns: list[Column] = []
    texts: list[Column] = []
    for name in table.columns:
        if name not in roles.targets and name not in dropped:
            if name in roles.text:
                column = understand_text(statistics[name])
            else:
                column = understand(statistics[name], roles.kinds.get(name), PREFIX, roles.given)
            if isinstance(column, Column):
                (texts if column.kind == "text" else columns).append(column)
            else:
                dropped[name] = column
    found = {name: reason for name, reason in dropped.items() if name not in (*roles.drop, roles.group)}
    advice = how_to_keep([statistics[name] for name in found if name not in table.unsupported], roles.given)
    if not columns and not texts:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in dropped.items())
        raise UserError(
            " ".join([f"{table.name} has no columns to learn from{': ' if reasons else ''}{reasons}.", *advice])
        )
    if found:
        reasons = "; ".join(f"{name!r} ({reason})" for name, reason in found.items())
        notes.append(" ".join([f"Nothing is learned from {reasons}.", *advice]))
    notes += scattered([statistics[column.name] for column in columns if column.kind == "category"])
    notes += [
        f"Column {column.name!r} has numbers that begin with zeros, which were taken for categories."
        for column in columns
        if column.kind == "category" and statistics[column.name].all_numbers and statistics[column.name].codes
    ]
    notes += [note for column in columns for note in _spelled_oddly(column, statistics[column.name], roles.given)]
    return Schema(
        tuple(columns),
        targets,
        table.columns,
        table.headed,
        roles.group,
        roles.time,
        dropped,
        table.spelling,
        tuple(texts),
    ), notes


def _spelled_oddly(column: Column, statistics: Statistics, given: Given) -> list[str]:
    """Return a sentence if the interpretation of cells may be unexpected."""
    if column.name in given.kinds:
        return []
    values = statistics.values
    if column.kind == "date" and column.form in dates.COMPACT:
        return [
            f"Column {column.name!r} has whole numbers that are dates by their digits, such as "
            f"{min(statistics.words())}, and was taken for dates ({given.and_kind(column.name, 'number')} otherwise)."
        ]
    if column.kind == "category" and (groups := spelled_alike(column.categories)):
        shown = "; ".join(" and ".join(map(repr, group)) for group in groups[:3])
        return [
            f"Column {column.name!r} has categories that differ only in case or blanks: {shown}"
            f"{f' and {len(groups) - 3} more' * (len(groups) > 3)}. If these are one, write them alike in the file."
        ]
    if column.kind == "number" and statistics.typed is None:
        bracketed = values.filter(values.str.starts_with("("))
        return [
            f"Column {column.name!r} has numbers in brackets, such as {bracketed.min()!r}, which were taken for "
            "negative ones, as in accounts."
        ] * bool(len(bracketed))
    return []


def _order(statistics: Statistics, kind: str | None) -> Column:
    """Return the column that orders the splits, as one number: itself, or the days since 1970."""
    name = statistics.name
    if statistics.missing:
        raise UserError(
            f"{PREFIX}time is {name!r}, which has no value in {statistics.missing:,} of {statistics.rows:,} rows: "
            "these have no place in the order of time. Fill them in or remove them."
        )
    number = statistics.all_numbers and not (kind == "date" or "%" in str(kind))
    column = understand(statistics, "number" if number else kind if "%" in str(kind) else "date", PREFIX)
    if not isinstance(column, Column):
        raise UserError(f"{PREFIX}time is {name!r}; {column}.")
    return column if number else replace(column, parts=("days",))


def _serial(table: Table, schema: Schema, statistics: Mapping[str, Statistics], rows: TableArrays) -> list[str]:
    """Return notes on the rows' order in the file, which columns that are left out may show as well."""
    if schema.group is not None or schema.time is not None:
        return []
    dates: dict[str, Column] = {}
    counters: dict[str, Column] = {}
    for name in schema.dropped:
        if name in statistics and len(statistics[name].values) > 1:
            try:
                column = understand(statistics[name], "number" if statistics[name].all_numbers else None, PREFIX)
            except UserError:
                continue
            if isinstance(column, Column) and column.kind in ("date", "number"):
                (dates if column.kind == "date" else counters)[name] = replace(column, parts=("days",))
    values = read_columns(table, {**dates, **counters}, rows.numbers)
    first = rows.targets if rows.targets.ndim == 1 else rows.targets[:, 0]
    return rows_in_order(
        schema, rows.matrix, first, {name: values[name] for name in dates}, {n: values[n] for n in counters}
    )


def _raw(
    schema: Schema,
    train: TableArrays,
    test: TableArrays | None,
    notes: Sequence[str],
    given: Given,
    duplicates: Duplicates,
    *,
    labels: bool,
) -> Raw:
    several = len(schema.targets) > 1
    dtype = np.int64 if schema.target.classes and (labels or not several) else np.float64
    inputs = _inputs([train] if test is None else [train, test])
    seen = [identities(rows, len(schema.matrix_names)) for rows in inputs]
    warnings = []
    for alone, values in zip(schema.of_each_target, train.targets.reshape(len(train.targets), -1).T, strict=True):
        warnings += target_leaks(alone, train.matrix, values, given=given)
    kept: slice | Array = slice(None)
    if duplicates == "keep":
        warnings += duplicate_rows(seen[0], train.targets)
    elif duplicates == "drop" and (copies := int((~(first := first_of_equal(seen[0], train.targets))).sum())):
        kept = first
        warnings.append(
            f"{copies:,} of {len(first):,} rows repeat another in every column that is learned from and in the target, "
            f"and are left out ({PREFIX}duplicates=drop)."
        )
    if test is not None:
        warnings += shared_rows(seen[0], seen[1])
        if schema.group is not None and train.members is not None:
            warnings += shared_groups(schema.group, train.members, test.members, len(test.targets))
        if schema.time is not None and train.times is not None:
            warnings += earlier_rows(schema.time, train.times, test.times, len(test.targets))
    groups = groups_of_equal(seen[0], train.groups) if duplicates == "group" else train.groups
    return Raw.of(
        inputs[0][kept],
        train.targets[kept].astype(dtype),
        () if several else schema.target.classes,
        None,
        None if test is None else inputs[1],
        None if test is None else test.targets.astype(dtype),
        task=several_targets(labels=labels) if several else None,
        target_columns=tuple(TargetColumn(target.name, target.classes) for target in schema.targets * several),
        table=schema,
        groups=None if groups is None else groups[kept],
        times=None if train.times is None else train.times[kept],
        numbers=train.numbers[kept],
        test_numbers=None if test is None else test.numbers,
        notes=tuple(dict.fromkeys([*notes, *warnings])),
    )


def _inputs(parts: Sequence[TableArrays]) -> list[Array]:
    """Return the rows of each part (`hypermap.data.table_rows`), all as wide as the longest texts."""
    longest = max((len(text) for part in parts for text in part.texts), default=0)
    return [packed(part.matrix, part.texts, longest) if part.texts else part.matrix for part in parts]


def _located(path: Paths, dataset: str | None, root: str | None) -> list[Path]:
    names = [path] if isinstance(path, str) else list(path)
    if dataset is not None:
        _check_dataset(dataset)
        return download.locate(dataset, names, root)
    return [(Path(root or "").expanduser() / Path(name).expanduser()) for name in names]


def _check_dataset(dataset: str) -> None:
    if dataset not in SHIPPED:
        raise UserError(
            f"{PREFIX}dataset is {dataset!r}; there is no such set{near(dataset, SHIPPED)}. There are: "
            f"{', '.join(SHIPPED)}; or null for a file of your own, which {PREFIX}path names."
        )


def _paths(path: Paths | None) -> Paths:
    if path is None or path == "???":
        raise UserError(
            f"{PREFIX}path is not set: name a file, as in 'data={{name: table, path: my.csv, target: price}}'."
        )
    return path
