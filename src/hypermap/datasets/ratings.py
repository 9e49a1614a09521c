"""Ratings of items by users, or what they bought, read or saw: a table with a row for each interaction."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hypermap.core import ids
from hypermap.core.errors import UserError, near
from hypermap.core.hashing import checksum_of
from hypermap.core.typing import Array
from hypermap.data.manifest import Manifest
from hypermap.data.preprocessors.ratings import FIRST, ITEM, ORDER, USER, VALUES, Columns, RatingsPreprocessor
from hypermap.datasets.images import Raw, RawRows
from hypermap.datasets.tables.csv_format import Format
from hypermap.datasets.tables.readers import checked, open_table
from hypermap.datasets.tables.target import column_of
from hypermap.tasks.ratings import Ranking, RatingPrediction

USUAL = {
    "user": ("user", "userid", "customer", "customerid", "reviewerid", "visitorid", "member", "reader"),
    "item": ("item", "itemid", "movieid", "movie", "product", "productid", "asin", "book", "bookid", "isbn", "songid"),
    "rating": ("rating", "score", "stars", "overall", "value"),
    "time": ("timestamp", "time", "date", "datetime", "unixreviewtime"),
}
"""Names of columns, without case and signs, that need not be named."""

GOALS, SPLITS = ("rating", "ranking"), ("random", "time", "last", "users")
FAR = 2.0  # spans of the middle ratings: one so far outside is a mistake
SEEN = 64  # items of a user's validation rows that are told beside a test row
BATCH = 2048  # rows that are predicted at once
SHOWN = 5  # names in a message

Column = str | int


def ratings(
    path: str | Sequence[str] | None = None,
    *,
    goal: str = "rating",
    split: str = "random",
    latest: float = 0.1,
    user: Column | None = None,
    item: Column | None = None,
    rating: Column | None = None,
    time: Column | None = None,
    scale: Sequence[float] | None = None,
    liked: float = 4.0,
    positive: float | None = None,
    k: int = 10,
    items: str | None = None,
    item_features: Sequence[str] = (),
    users: str | None = None,
    user_features: Sequence[str] = (),
    value_separator: str = "|",
    separator: str | None = None,
    header: bool | None = None,
    encoding: str | None = None,
    root: str | None = None,
) -> Raw:
    """Return interactions as ids, int64 (`RatingsPreprocessor`), with ratings as targets, or the items themselves.

    Of several rows of a user and an item the latest is kept, with a note.

    Args:
        path: a table (whatever `open_table` reads) with a row for each interaction, or several with the same columns.
        goal: ``rating``: predict the rating of a pair; ``ranking``: rank the items for a user.
        split: ``random``; ``time``: the latest `latest` of the rows are for the test, and as many before them for
            validation; ``last``: each user's last row is, and the one before; ``users``: those of whole users.
        latest: share of the rows, for ``time``.
        user: the column of users, by name or place (from 1; -1: the last); like the next three, None: found by its
            usual names.
        item: the column of items.
        rating: the column of ratings.
        time: the column of times: numbers, or dates. Without one, rows are in the order of the file.
        scale: the lowest and the highest rating that there may be.
        liked: from which rating on a user likes an item, for accuracy, precision, recall and F1.
        positive: for ``ranking``: from which rating on a row counts as an interaction; None: every row does.
        k: the length of a list of recommendations.
        items: a table with a row for each item, and the item's column of the same name.
        item_features: columns of that which hold categories, of one or several values each.
        users: the same for users.
        user_features: likewise.
        value_separator: what stands between several values.
        separator: of the tables' cells; like the next two, None: found.
        header: whether the tables' first lines have the names of the columns.
        encoding: of the tables.
        root: the folder that relative paths start from.

    Raises:
        UserError: a file is missing or unreadable, a column is not there, ids are missing, a rating is none, out of
            its range or far outside of the others, or no rows are left.
    """
    _check(goal, split, latest, k, scale)
    source = _Source(Format(separator, header, '"', encoding, ".", missing_values=()), root)
    table = source.table(path, "path", {"user": user, "item": item, "rating": rating, "time": time})
    notes = list(table.notes)
    told = _numbers(table, goal, scale)
    if goal == "rating" and told is None:
        raise UserError(
            f"{table.origin} has no column of ratings that is known by its name: name it (data.rating=…), or rank the "
            f"items instead: experiment=ratings_ranking. It has: {_named(table.names)}."
        )
    if goal == "ranking" and positive is not None:
        if told is None:
            raise UserError(f"data.positive is {positive}, and {table.origin} has no ratings: set it to null.")
        table, told = table.only(told >= positive), told[told >= positive]
        if not len(table.users):
            raise UserError(f"data.positive is {positive}, and no rating is as high: lower it, or set it to null.")
    order = _order(table, split)
    kept = _latest_of_pairs(table, order)
    if repeated := len(order) - len(kept):
        which = "row repeats the user and item of a later one and is" if repeated == 1 else (
            "rows repeat the user and item of a later one and are"
        )  # fmt: skip
        notes.append(f"{repeated:,} {which} left out.")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    table, numbers = table.only(kept), kept + 1
    place, told = place[kept], None if told is None else told[kept]
    of_users, of_items = (
        source.features(where, key, named, name, names, value_separator)
        for where, key, named, name, names in (
            (users, "users", user_features, table.user_column, table.users),
            (items, "items", item_features, table.item_column, table.items),
        )
    )
    parts = _parts(table, place, split, latest, notes)
    seen = _seen(table, place, parts, notes) if goal == "ranking" else np.zeros((len(place), 0), np.int64)
    who, what = ids.packed(table.users), ids.packed(table.items)
    rows = _rows(who, what, place, seen, np.hstack([of_users, of_items]))
    targets = np.asarray(told, np.float64) if goal == "rating" else what
    if goal == "ranking" and parts is None:
        raise UserError(f"data.split is {split}; a ranking is tested on the last items of users, or the latest: take "
                        "data.split=last or data.split=time.")  # fmt: skip
    tested = np.zeros(len(rows), np.bool_) if parts is None else parts == 2
    return Raw.of(
        rows[~tested],
        targets[~tested],
        test_inputs=rows[tested] if parts is not None else None,
        test_targets=targets[tested] if parts is not None else None,
        validation_rows=None if parts is None else parts[~tested] == 1,
        groups=np.unique(who, axis=0, return_inverse=True)[1].reshape(-1) if split == "users" else None,
        numbers=numbers[~tested],
        test_numbers=numbers[tested] if parts is not None else None,
        task=RatingPrediction if goal == "rating" else Ranking,
        preprocessor=RatingsPreprocessor,
        notes=tuple(notes),
    )


def fingerprint(arguments: Mapping[str, Any]) -> str:
    """Return the sha256 of the files that `ratings` would read with these arguments.

    Raises:
        UserError: one is missing.
    """
    root, files = arguments.get("root"), []
    for key in ("path", "items", "users"):
        if arguments.get(key) is not None or key == "path":
            files += [_located(path, key, root) for path in _listed(arguments.get(key), key)]
    return checksum_of(files)


def read_rows(paths: Sequence[Path], manifest: Manifest) -> Iterator[RawRows]:
    """Yield pairs whose rating is to be predicted, or users who are to get a list of items, each once.

    Raises:
        UserError: a file has no column of users, or of items where ratings are predicted.
    """
    given = manifest.arguments
    spelled = {key: given.get(key) for key in ("separator", "header", "encoding")}
    source = _Source(Format(**spelled, quote='"', decimal=".", missing_values=(), prefix=""), None)
    ranks = manifest.task.endswith(Ranking.__name__)
    columns = Columns.of(given, manifest.shape[0])
    for path in paths:
        wanted = {"user": given.get("user"), "item": given.get("item")}
        table = source.table(str(path), "input", wanted, alone=ranks)
        if ranks:
            table = table.only(np.unique(table.users, return_index=True)[1], in_order=True)
        for first in range(0, len(table.users), BATCH):
            who = table.users[first : first + BATCH]
            what = [] if ranks else table.items[first : first + BATCH]
            features = [
                source.features(given.get(key), key, given.get(names) or (), name, own, given["value_separator"])
                for key, names, name, own in (
                    ("users", "user_features", table.user_column, who),
                    ("items", "item_features", table.item_column, what),
                )[: 1 if ranks else 2]
            ]
            if ranks:
                features.append(np.full((len(who), columns.item_features), ids.NOTHING))
            nothing = np.full((len(who), columns.seen), ids.NOTHING)
            what_ids = np.full((len(who), 1), ids.NOTHING) if ranks else ids.packed(what)
            told = {"user": who} if ranks else {"user": who, "item": what}
            rows = _rows(ids.packed(who), what_ids, np.full(len(who), ids.NOTHING), nothing, np.hstack(features))
            yield RawRows(rows, told)


@dataclass(frozen=True)
class _Table:
    """The columns of a table of interactions, as text; empty lists of those that it has not."""

    origin: str
    names: tuple[str, ...]
    found: Mapping[str, str]
    columns: Mapping[str, list[str]]
    notes: tuple[str, ...] = ()
    moments: Array | None = field(default=None, repr=False)  # of the column of times

    @property
    def users(self) -> list[str]:
        """The users."""
        return self.columns["user"]

    @property
    def items(self) -> list[str]:
        """The items."""
        return self.columns["item"]

    @property
    def user_column(self) -> str:
        """The name of the column of users."""
        return self.found["user"]

    @property
    def item_column(self) -> str:
        """The name of the column of items."""
        return self.found.get("item", "")

    @cached_property
    def times(self) -> Array | None:
        """Each row's time in seconds, or None without such a column.

        Raises:
            UserError: a cell is none.
        """
        if "time" not in self.columns:
            return None
        text = pl.Series(self.columns["time"], dtype=pl.String)
        made = text.cast(pl.Float64, strict=False)
        if made.null_count():
            dates = _dates(text)
            if dates.null_count() > made.null_count():
                raise _wrong(self, "time", made.is_null().to_list(), "neither a number nor a date")
            made = dates
        if made.null_count():
            raise _wrong(self, "time", made.is_null().to_list(), "neither a number nor a date")
        return made.to_numpy()

    def only(self, rows: Array, *, in_order: bool = False) -> "_Table":
        """Return these rows, by place or by a mask."""
        places = np.flatnonzero(rows) if rows.dtype == np.bool_ else np.sort(rows) if in_order else rows
        return replace(self, columns={key: [cells[k] for k in places] for key, cells in self.columns.items()})


def _dates(text: pl.Series) -> pl.Series:
    """Return dates and times in the usual order, as seconds; null where a cell is none."""
    try:
        return text.str.to_datetime(strict=False, time_unit="us").dt.epoch("us") / 1e6
    except pl.exceptions.ComputeError:  # no format fits the first cells
        dates = text.str.to_date("%Y-%m-%d", strict=False)
        return dates.cast(pl.Datetime("us")).dt.epoch("us") / 1e6


@dataclass(frozen=True)
class _Source:
    """How tables are read, and where relative paths start."""

    format: Format
    root: str | None

    def table(self, path: Any, key: str, wanted: Mapping[str, Column | None], *, alone: bool = False) -> _Table:
        """Return the columns of a table that are named, or found by their usual names.

        Args:
            path: of the table, or several.
            key: that names it, in errors.
            wanted: the columns by what they are.
            alone: whether users alone are needed.

        Raises:
            UserError: a column is not there, or ids are missing in it.
        """
        files = [_located(own, key, self.root) for own in _listed(path, key)]
        table = open_table([checked(file, key if key == "input" else f"data.{key}") for file in files], self.format)
        names, origin = table.columns, ", ".join(map(str, files))
        found = {what: _column(what, given, names, origin, key) for what, given in wanted.items()}
        if alone and found["user"] is None and len(names) == 1:
            found["user"] = names[0]
        for what in ("user",) if alone else ("user", "item"):
            if found[what] is None:
                raise UserError(
                    f"{origin} has no column of {what}s that is known by its name: name it (data.{what}=…). It has: "
                    f"{_named(names)}."
                )
        known = {what: name for what, name in found.items() if name is not None and not (alone and what != "user")}
        frame = pl.concat(table.batches()).select(pl.col(list(dict.fromkeys(known.values()))).cast(pl.String))
        if not frame.height:
            raise UserError(f"{origin} has no rows.")
        made = _Table(
            origin, tuple(names), known,
            {what: frame[name].fill_null("").str.strip_chars().to_list() for what, name in known.items()},
            tuple(table.notes),
        )  # fmt: skip
        for what in ("user", "item"):
            if what in known:
                missing = [not cell for cell in made.columns[what]]
                if any(missing):
                    raise _wrong(made, what, missing, "empty")
        return made

    def features(
        self,
        path: str | None,
        key: str,
        columns: Sequence[str],
        name: str,
        wanted: Sequence[str],
        value_separator: str,
    ) -> Array:
        """Return the values of features of ids, int64 ``(ids, columns * VALUES)``.

        Raises:
            UserError: the table, or a column, is not there.
        """
        if not columns or path is None:
            if columns or path is not None:
                given, lacking = (f"{key[:-1]}_features", key) if columns else (key, f"{key[:-1]}_features")
                raise UserError(f"data.{given} is given, and data.{lacking} is not: name both, or neither.")
            return np.zeros((len(wanted), 0), np.int64)
        file = _located(path, key, self.root)
        table = open_table([checked(file, f"data.{key}")], self.format)
        places = {own: column_of(own, table.columns) for own in (name, *columns)}
        if absent := [own for own, found in places.items() if found is None]:
            raise UserError(
                f"{file} has no column {absent[0]!r}{near(absent[0], list(table.columns))}; it has: "
                f"{_named(table.columns)}."
            )
        frame = pl.concat(table.batches()).select(pl.col(list(places.values())).cast(pl.String))  # type: ignore[arg-type]
        values = [frame[str(places[own])].fill_null("").to_list() for own in columns]
        words: dict[str, list[int]] = {}
        for row, known in enumerate(frame[str(places[name])].fill_null("").str.strip_chars().to_list()):
            words[known] = []
            for own, cells in zip(columns, values, strict=True):
                each = [part.strip() for part in cells[row].split(value_separator) if part.strip()][:VALUES]
                words[known] += [_value(own, part) for part in each] + [ids.NOTHING] * (VALUES - len(each))
        nothing = [ids.NOTHING] * (VALUES * len(columns))
        return np.array([words.get(own, nothing) for own in wanted], np.int64).reshape(len(wanted), -1)


def _value(column: str, value: str) -> int:
    """Return the number that stands for a value of a column."""
    return int.from_bytes(hashlib.blake2b(f"{column}={value}".encode(), digest_size=7).digest(), "big")


def _check(goal: str, split: str, latest: float, k: int, scale: Sequence[float] | None) -> None:
    for name, value, allowed in (("goal", goal, GOALS), ("split", split, SPLITS)):
        if value not in allowed:
            raise UserError(f"data.{name} is {value!r}; it is {', '.join(allowed)}{near(str(value), allowed)}.")
    if not 0 < latest < 0.5:
        raise UserError(f"data.latest is {latest}; it is a share of the rows above 0 and below 0.5.")
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise UserError(f"data.k is {k!r}; it is how many items a list has, a whole number from 1.")
    if scale is not None and (len(scale) != 2 or not scale[0] < scale[1]):
        raise UserError(f"data.scale is {list(scale)}; it is [lowest, highest], as in [1, 5].")


def _column(what: str, given: Column | None, names: Sequence[str], origin: str, key: str) -> str | None:
    """Return the name of a column that is named, or known by its usual name."""
    if given is None:
        plain = {"".join(filter(str.isalnum, name.lower())): name for name in reversed(names)}
        return next((plain[name] for name in USUAL[what] if name in plain), None)
    found = column_of(given, names)
    if found is None and key != "input":
        raise UserError(
            f"data.{what} is {given!r}; {origin} has no such column{near(str(given), list(names))}; it has: "
            f"{_named(names)}."
        )
    return found


def _numbers(table: _Table, goal: str, scale: Sequence[float] | None) -> Array | None:
    """Return a column's ratings, within their range; None if there is none."""
    what = "rating"
    if what not in table.columns:
        return None
    made = pl.Series(table.columns[what], dtype=pl.String).cast(pl.Float64, strict=False)
    values = made.fill_null(np.nan).to_numpy()
    if not np.isfinite(values).all():
        raise _wrong(table, what, (~np.isfinite(values)).tolist(), "no number")
    if scale is None:
        low, high = np.quantile(values, [0.05, 0.95], method="nearest")
        margin = FAR * max(high - low, 1e-12) if high > low else np.inf
        low, high, said = low - margin, high + margin, "far outside of the others: if it is right, set data.scale"
    else:
        (low, high), said = scale, f"outside of data.scale={list(scale)}"
    if (wrong := (values < low) | (values > high)).any():
        raise _wrong(table, what, wrong.tolist(), said)
    if goal == "rating" and values.min() == values.max():
        raise UserError(
            f"{table.origin}: all ratings are {values[0]:g}, so that there is nothing to predict. Rank the items "
            "instead: experiment=ratings_ranking."
        )
    return values


def _wrong(table: _Table, what: str, wrong: Sequence[bool], said: str) -> UserError:
    rows = [row for row, is_wrong in enumerate(wrong, 1) if is_wrong]
    cell = table.columns[what][rows[0] - 1]
    more = f" (and {len(rows) - 1:,} more rows)" if len(rows) > 1 else ""
    shown = f" {cell!r}," if cell else ""
    return UserError(
        f"{table.origin}: {what}{shown} in row {rows[0]:,}{more} is {said}. Mend the file, or leave such rows out."
    )


def _order(table: _Table, split: str) -> Array:
    """Return the rows in the order of time; rows of equal time in that of the file."""
    if table.times is not None:
        order: Array = np.argsort(table.times, kind="stable")
        return order
    if split == "time":
        raise UserError(f"data.split is time, and {table.origin} has no column of times: name it (data.time=…).")
    return np.arange(len(table.users))


def _latest_of_pairs(table: _Table, order: Array) -> Array:
    """Return the rows in the order of the file, of each pair of user and item the latest alone."""
    last: dict[tuple[str, str], int] = {}
    for row in order.tolist():
        last[table.users[row], table.items[row]] = row
    return np.sort(np.fromiter(last.values(), np.int64, len(last)))


def _parts(table: _Table, place: Array, split: str, latest: float, notes: list[str]) -> Array | None:
    """Return which part each row belongs to: 0 for training, 1 validation, 2 test; None where shares are drawn."""
    if split not in ("last", "time"):
        return None
    parts, order = np.zeros(len(place), np.int64), np.argsort(place)
    if split == "time":
        count = max(1, round(latest * len(order)))
        moments = table.times
        assert moments is not None
        for part, first in ((1, len(order) - 2 * count), (2, len(order) - count)):
            if first <= 0:
                raise UserError(f"data.latest is {latest}: {len(order)} rows are too few for it.")
            parts[moments >= moments[order[first]]] = part  # rows of one moment stay together
        if not ((parts == 0).any() and (parts == 1).any()):
            raise UserError(f"{table.origin}: too many rows have the same time to split by it: take data.split=last.")
        return parts
    of_user: dict[str, list[int]] = {}
    for row in order.tolist():
        of_user.setdefault(table.users[row], []).append(row)
    long = [rows for rows in of_user.values() if len(rows) > 2]
    if not long:
        raise UserError(f"{table.origin}: no user has three rows or more, so that none can be held out. "
                        "Take data.split=time.")  # fmt: skip
    for rows in long:
        parts[rows[-2]], parts[rows[-1]] = 1, 2
    if few := len(of_user) - len(long):
        which = "user has" if few == 1 else "users have"
        notes.append(f"{few:,} {which} fewer than three rows, which are learned from and not tested on.")
    for part, name in ((1, "validation"), (2, "test")):
        held = np.flatnonzero(parts == part)
        known = {table.items[row] for row in np.flatnonzero(parts == 0)}
        if unknown := sum(table.items[row] not in known for row in held):
            notes.append(
                f"{unknown:,} of {len(held):,} {name} rows are of items that no training row has: they are ranked last."
            )
    return parts


def _seen(table: _Table, place: Array, parts: Array | None, notes: list[str]) -> Array:
    """Return the validation items of each test row's user, int64 ``(rows, most of a user, width)``, the latest last."""
    what = ids.packed(table.items)
    if parts is None:
        return np.zeros((len(place), 0, what.shape[1]), np.int64)
    of_user: dict[str, list[int]] = {}
    for row in np.argsort(place).tolist():
        if parts[row] == 1:
            of_user.setdefault(table.users[row], []).append(row)
    tested = np.flatnonzero(parts == 2)
    most = max((len(of_user.get(table.users[row], ())) for row in tested), default=0)
    if most > SEEN:
        notes.append(f"A user has {most:,} validation rows: the latest {SEEN} of each are left out of a test ranking.")
    most = min(most, SEEN)
    seen = np.full((len(place), most, what.shape[1]), ids.NOTHING)
    for row in tested if most else ():
        if before := of_user.get(table.users[row], [])[-most:]:
            seen[row, -len(before) :] = what[before]
    return seen


def _rows(who: Array, what: Array, place: Array, seen: Array, values: Array) -> Array:
    """Return rows as `RatingsPreprocessor` takes them, int64 ``(rows, columns, width)``."""
    seen = seen if seen.ndim == 3 else seen[:, :, np.newaxis]
    wide = max(who.shape[1], what.shape[1], seen.shape[2])
    rows = np.full((len(who), FIRST + seen.shape[1] + values.shape[1], wide), ids.NOTHING)
    rows[:, USER, : who.shape[1]], rows[:, ITEM, : what.shape[1]], rows[:, ORDER, 0] = who, what, place
    rows[:, FIRST : FIRST + seen.shape[1], : seen.shape[2]] = seen
    rows[:, FIRST + seen.shape[1] :, 0] = values
    return rows


def _listed(paths: Any, key: str) -> list[str]:
    if not paths:
        raise UserError(f"data.{key} is null: name a table with a row for each rating: data.{key}=ratings.csv")
    return [paths] if isinstance(paths, str) else list(paths)


def _located(path: str, key: str, root: str | None) -> Path:
    place = Path(root or "").expanduser() / Path(path).expanduser()
    if not place.exists():
        beside = [other.name for other in place.parent.iterdir()] if place.parent.is_dir() else []
        raise UserError(f"data.{key} is {path}: there is no {place}{near(place.name, beside)}.")
    return place


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(names[:SHOWN])
    return f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown
