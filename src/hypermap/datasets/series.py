"""Series of your own, in a table with a column of times, as windows: the steps before a forecast, and those to come."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hypermap.core import memory
from hypermap.core.errors import UserError, near
from hypermap.core.hashing import checksum_of
from hypermap.core.typing import Array, Floats
from hypermap.data.manifest import Manifest
from hypermap.data.preprocessors.series import CYCLES, HEAD, Head, SeriesPreprocessor
from hypermap.datasets.images import Raw, RawRows
from hypermap.datasets.tables import dates
from hypermap.datasets.tables.csv_format import Format
from hypermap.datasets.tables.readers import open_table
from hypermap.datasets.tables.target import column_of

Column = str | int
Gaps = Literal["previous", "linear", "zero", "skip", "refuse"]
Repeated = Literal["refuse", "first", "last", "mean", "sum"]

DAY, HOUR = 86_400, 3600
PERIODS = {60: 60, 600: 144, 900: 96, 1800: 48, HOUR: 24, DAY: 7, 7 * DAY: 52}
"""Steps of a season by the seconds of a step: an hour of minutes, a day of anything longer, a week of days, a year."""

NAMES = {1: "second", 60: "minute", HOUR: "hour", DAY: "day", 7 * DAY: "week"}
COPIES = 4  # of all windows, at the peak of reading, splitting and preparing them
SHOWN = 5  # names in a message
SPELLED_ALIKE = 0.5  # share of the times that have one form; others are read if they cannot be mistaken
EARLIEST = 1e8  # seconds since 1970, from which a number may be a time


def series(
    path: str | Sequence[str] | None = None,
    *,
    time: Column | None = None,
    target: Column | Sequence[Column] | None = None,
    group: Column | None = None,
    past: Sequence[Column] = (),
    known: Sequence[Column] = (),
    lookback: int = 96,
    horizon: int = 24,
    period: int | None = None,
    gaps: Gaps = "previous",
    repeated: Repeated = "refuse",
    until: str | int | None = None,
    test_steps: float = 0.2,
    validation_steps: float = 0.2,
    gap: int = 0,
    stride: int = 1,
    calendar: Sequence[str] = (),
    moving_averages: Sequence[int] = (),
    quantiles: Sequence[float] | None = None,
    separator: str | None = None,
    header: bool | None = None,
    quote: str | None = '"',
    encoding: str | None = None,
    decimal: str | None = None,
    root: str | None = None,
) -> Raw:
    """Return every window of the series, float32 as `hypermap.data.preprocessors.series` has them, and their targets.

    Targets are float32 ``(rows, 1 + horizon * columns)``: the number of the series, from 1, and the values to come,
    step by step. Windows are split in time: what test windows forecast comes after all that the others see or forecast,
    and likewise for validation windows, whose lookback may reach back into the steps before.

    Args:
        path: a table (whatever `open_table` reads), or several with the same columns.
        time: the column of times: dates in any usual form, or numbers. None: rows are steps in order.
        target: the column to forecast, or several. None: the only one beside the others named here.
        group: the column that tells several series apart.
        past: further columns, which are known until the forecast begins.
        known: further columns, which are known ahead, such as holidays or prices.
        lookback: steps that a forecast sees.
        horizon: steps that it forecasts.
        period: steps of a season. None: what is usual for the times' frequency.
        gaps: what a missing step or value becomes: the ``previous`` one, on the line to the next (``linear``), 0
            (``zero``), or an error (``refuse``); ``skip``: the times that there are are the steps.
        repeated: what several rows of one time become.
        until: the last time to use, or how many steps, if it is a whole number.
        test_steps: steps that test windows forecast, the last ones: a share, or how many.
        validation_steps: likewise, before these.
        gap: steps left out before validation steps, and before test steps.
        stride: steps from a training window to the next.
        calendar: what the calendar tells a network: turns of the hour, day, week, year.
        moving_averages: means of the last so many steps of each column to forecast, as further columns of the past.
        quantiles: to forecast instead of a single value, 0.5 among them.
        separator: of a table's cells; like the next ones, None: it is found.
        header: whether a table's first line has the names of its columns.
        quote: the character around cells; None: there is none.
        encoding: of the file, as Python names it.
        decimal: the decimal mark.
        root: the folder that relative paths start from.

    Raises:
        UserError: a file or column is missing, times cannot be read, repeat or are irregular, values are no numbers, or
            the series are too short for the windows and splits.
    """
    settings = _Settings(
        time, target, group, tuple(past), tuple(known), lookback, horizon, period, gaps, repeated, tuple(calendar),
        tuple(moving_averages), Format(separator, header, quote, encoding, decimal),
    )  # fmt: skip
    _check(settings, gap, stride, quantiles, {"test_steps": test_steps, "validation_steps": validation_steps})
    notes: list[str] = []
    found = settings.read(_located(path, root), notes, until)
    total = max(one.first + len(one.values) for one in found.series)
    borders = _Borders.of(total, _steps("test_steps", test_steps, total, horizon),
                          _steps("validation_steps", validation_steps, total, horizon), gap)  # fmt: skip
    _check_lengths(found, borders, settings)
    _check_memory(found, settings, stride)
    train = found.windows(settings, 0, borders.train_end, stride)
    held = found.windows(settings, borders.validation_start, borders.validation_end)
    test = found.windows(settings, borders.test_start, total)
    for name, part in (("to learn from", train), ("of data.validation_steps", held), ("of data.test_steps", test)):
        if not len(part.inputs):
            raise UserError(
                f"{found.name}: {total:,} steps leave no window {name}: a window has {lookback} steps (data.lookback) "
                f"and {horizon} to forecast (data.horizon), after a test of {total - borders.test_start:,} steps and a "
                f"validation of {borders.validation_end - borders.validation_start:,}. Take fewer of any of these."
            )
    inputs, targets = (np.concatenate(pair) for pair in zip(train[:2], held[:2], strict=True))
    notes.append(
        f"Windows: {len(train.inputs):,} to learn from, {len(held.inputs):,} for validation, {len(test.inputs):,} for "
        f"the test, which forecast the steps {found.told(0, borders.train_end, lookback)}, "
        f"{found.told(borders.validation_start, borders.validation_end)} and {found.told(borders.test_start, total)}."
    )
    return Raw.of(
        inputs,
        targets,
        test_inputs=test.inputs,
        test_targets=test.targets,
        times=inputs[:, 1].astype(np.float64),
        validation_rows=np.arange(len(inputs)) >= len(train.inputs),
        task="forecast",
        preprocessor=SeriesPreprocessor,
        notes=tuple(notes),
    )


def fingerprint(arguments: Mapping[str, Any]) -> str:
    """Return the sha256 of the files that `series` would read with these arguments.

    Raises:
        UserError: one is missing.
    """
    return checksum_of(_located(arguments.get("path"), arguments.get("root")))


def read_rows(paths: Sequence[Path], manifest: Manifest) -> Iterator[RawRows]:
    """Yield the last window of each series in these files, whose forecast begins after the last known value.

    Rows behind it may have what is known ahead; `columns` has the times to come of each window, as a list.
    """
    given, target = manifest.arguments, manifest.target
    table = Format(given.get("separator"), given.get("header"), given.get("quote", '"'), given.get("encoding"),
                   given.get("decimal"), prefix="")  # fmt: skip
    settings = _Settings(
        given.get("time"), given.get("target"), given.get("group"), tuple(given.get("past") or ()),
        tuple(given.get("known") or ()), target["lookback"], target["horizon"], target["period"],
        given.get("gaps", "previous"), given.get("repeated", "refuse"), tuple(given.get("calendar") or ()),
        tuple(given.get("moving_averages") or ()), table,
    )  # fmt: skip
    found = settings.read(list(paths), [], None, ahead=True)
    step = [found.clock.months, found.clock.seconds]
    if step != target["step"] and settings.gaps != "skip":
        raise UserError(
            f"{found.name}: a step is {found.clock.words}, and in training it was {_words(*target['step'])}: give a "
            "file with steps like those, and more than one of them."
        )
    for one in found.series:
        if len(one.values) < settings.lookback:
            raise UserError(
                f"{found.name}{one.named}: {len(one.values):,} steps, and a forecast looks back on "
                f"{settings.lookback} (data.lookback of the training): give a longer file."
            )
        if one.ahead is not None and len(one.ahead) < settings.horizon and settings.known:
            raise UserError(
                f"{found.name}{one.named}: {_listed(settings.known)} must be given for all {settings.horizon} steps to "
                f"come, and {len(one.ahead)} rows follow the last known value. Add rows whose target is empty."
            )
        start = len(one.values) - settings.lookback
        come = np.full((settings.horizon, one.values.shape[1]), np.nan)
        if settings.known and one.ahead is not None:
            come[:, -len(settings.known) :] = one.ahead[: settings.horizon, -len(settings.known) :]
        values = np.concatenate([one.values[start:], come])
        row = np.concatenate([found.head(one, start, settings), values.ravel()])[np.newaxis].astype(np.float32)
        end = one.first + len(one.values)
        columns: dict[str, Sequence[Any]] = {"series": [one.label]} if settings.group is not None else {}
        yield RawRows(row, columns | {"time": [[found.clock.at(end + k) for k in range(settings.horizon)]]})


@dataclass(frozen=True)
class _Clock:
    """The times of steps.

    Attributes:
        origin: of step 0: seconds since 1970, or a number; of steps in months, months since 1970.
        months: of a step; 0 if it is `seconds` long.
        seconds: of a step; 0 if times are numbers, or rows in order.
        number: of a step, where times are numbers.
        day: of the month that steps in months stand on.
        counts: whether rows are steps whatever their times: times to come then have numbers.
    """

    origin: float
    months: int = 0
    seconds: int = 0
    number: float = 1.0
    day: int = 1
    counts: bool = False

    @property
    def dated(self) -> bool:
        """Whether steps have dates."""
        return bool(self.months or self.seconds) and not self.counts

    @property
    def words(self) -> str:
        """How long a step is."""
        return _words(self.months, self.seconds) if self.dated else f"{self.number:g}"

    def seconds_at(self, step: int) -> int:
        """Return the seconds since 1970 of a step; 0 if it has no date."""
        if not self.dated:
            return 0
        if self.months:
            first = np.datetime64("1970-01", "M") + int(self.origin + step * self.months)
            following = (first + 1).astype("datetime64[D]")
            day = min(first.astype("datetime64[D]") + (self.day - 1), following - 1)
            return int(day.astype("datetime64[s]").astype(np.int64))
        return int(self.origin) + step * self.seconds

    def at(self, step: int) -> str:
        """Return a step's time as a person writes it."""
        if not self.dated:
            return f"{self.origin + step * self.number:.12g}"
        when = str(np.datetime64(self.seconds_at(step), "s")).replace("T", " ")
        return when.removesuffix(" 00:00:00") if self.months or self.seconds % DAY == 0 else when


@dataclass(frozen=True)
class _Series:
    """A series without gaps: its first step on the clock, ``(steps, columns)``, and the rows behind the last value."""

    number: int
    label: str
    first: int
    values: Floats
    ahead: Floats | None = None

    @property
    def named(self) -> str:
        """How messages name it, if there are several."""
        return f", series {self.label!r}" if self.label else ""


class _Part(tuple[Array, Array]):
    """Windows and their targets."""

    @property
    def inputs(self) -> Array:
        return self[0]

    @property
    def targets(self) -> Array:
        return self[1]


@dataclass(frozen=True)
class _Borders:
    """Steps: training windows forecast those before `train_end`, validation and test windows those of their parts."""

    train_end: int
    validation_start: int
    validation_end: int
    test_start: int

    @classmethod
    def of(cls, total: int, test: int, validation: int, gap: int) -> "_Borders":
        test_start = total - test
        validation_end = test_start - gap
        return cls(validation_end - validation - gap, validation_end - validation, validation_end, test_start)


@dataclass(frozen=True)
class _Found:
    """The series of a file."""

    name: str
    clock: _Clock
    period: int
    series: list[_Series]
    targets: int
    past: int
    known: int

    def head(self, one: _Series, start: int, settings: "_Settings") -> list[int]:
        """Return what the row of the window begins with that starts at a step of a series (`Head`)."""
        days, second = divmod(self.clock.seconds_at(one.first + start), DAY)
        dated = self.clock.dated
        head = Head(
            one.number, one.first + start + settings.lookback, days, second, self.clock.months if dated else 0,
            self.clock.seconds if dated else 0, self.period, settings.lookback, settings.horizon, self.targets,
            self.past, self.known,
        )  # fmt: skip
        return list(vars(head).values())

    def windows(self, settings: "_Settings", first: int, end: int, stride: int = 1) -> _Part:
        """Return the windows that forecast steps from `first` to before `end`, in time order."""
        lookback, horizon, width = settings.lookback, settings.horizon, self.targets + self.past + self.known
        steps, parts = lookback + horizon, []
        for one in self.series:
            begin = max(0, first - lookback - one.first)
            last = min(len(one.values), end - one.first) - steps
            starts = np.arange(last, begin - 1, -stride)[::-1] if last >= begin else np.zeros(0, np.int64)
            cut = np.lib.stride_tricks.sliding_window_view(one.values, steps, axis=0)[starts] if len(starts) else None
            inputs = np.empty((len(starts), HEAD + steps * width), np.float32)
            targets = np.empty((len(starts), 1 + horizon * self.targets), np.float32)
            if cut is not None:
                whole = cut.transpose(0, 2, 1)
                inputs[:, :HEAD] = [self.head(one, int(start), settings) for start in starts]
                inputs[:, HEAD:] = whole.reshape(len(starts), -1)
                targets[:, 0] = one.number
                targets[:, 1:] = whole[:, lookback:, : self.targets].reshape(len(starts), -1)
            parts.append((inputs, targets))
        made = [np.concatenate(pair) for pair in zip(*parts, strict=True)]
        order = np.argsort(made[0][:, 1], kind="stable")
        return _Part((made[0][order], made[1][order]))

    def told(self, first: int, end: int, lookback: int = 0) -> str:
        """Return the times from one step to before another."""
        return f"{self.clock.at(first + lookback)} to {self.clock.at(end - 1)}"


@dataclass(frozen=True)
class _Settings:
    """How files are read."""

    time: Column | None
    target: Column | Sequence[Column] | None
    group: Column | None
    past: tuple[Column, ...]
    known: tuple[Column, ...]
    lookback: int
    horizon: int
    period: int | None
    gaps: str
    repeated: str
    calendar: tuple[str, ...]
    moving_averages: tuple[int, ...]
    format: Format

    def read(self, paths: Sequence[Path], notes: list[str], until: str | int | None, ahead: bool = False) -> _Found:
        """Return the series of these files.

        Args:
            paths: of tables with the same columns.
            notes: for the user; are added to.
            until: see `series`.
            ahead: whether rows behind a series' last value are kept, as `_Series.ahead`.
        """
        table = open_table(paths, self.format)
        frame = pl.concat(list(table.batches()))
        notes.extend(table.notes)
        columns = self._columns(frame.columns, table.name)
        times, form = self._times(frame, columns["time"], table.name, notes)
        labels = _labels(frame, columns["group"])
        names = [*columns["target"], *columns["past"], *columns["known"]]
        values = np.stack([_numbers(frame[name], name, table.name) for name in names], axis=1)
        clock, steps = self._clock(times, form is not None, table.name)
        if until is not None:
            last = _until(until, clock, form, table.name, self.format.prefix)
            kept = steps <= last
            if not kept.any():
                raise UserError(f"data.until is {until!r}: {table.name} begins after that, at {clock.at(0)}.")
            steps, values, labels = steps[kept], values[kept], labels[kept]
        told: list[str] = []
        found = [
            self._one(
                number,
                str(label) if columns["group"] else "",
                steps[labels == label],
                values[labels == label],
                len(columns["target"]),
                clock,
                table.name,
                told,
                ahead,
            )
            for number, label in enumerate(sorted(set(labels.tolist())), 1)
        ]
        notes.extend(told[:SHOWN])
        if len(told) > SHOWN:
            notes.append(f"{table.name}: {len(told) - SHOWN:,} more notes like these, on other series.")
        if not ahead:
            found = self._long_enough(found, table.name, notes)
        period = self.period or _period(clock)
        if columns["time"] is not None and self.gaps != "skip":
            notes.append(f"{table.name}: a step is {clock.words}, and a season {period} of them (data.period).")
        past = len(columns["past"]) + len(columns["target"]) * len(self.moving_averages)
        return _Found(table.name, clock, period, found, len(columns["target"]), past, len(columns["known"]))

    def _columns(self, names: Sequence[str], origin: str) -> dict[str, Any]:
        """Return the names of the columns of each role."""
        prefix = self.format.prefix

        def named(key: str, given: Column) -> str:
            if (found := column_of(given, names)) is None:
                raise UserError(
                    f"{prefix}{key} is {given!r}; {origin} has no such column{near(str(given), list(names))}; it has: "
                    f"{_listed(names)}."
                )
            return found

        time = None if self.time is None else named("time", self.time)
        group = None if self.group is None else named("group", self.group)
        past, known = (
            [named(key, one) for one in given] for key, given in (("past", self.past), ("known", self.known))
        )
        if self.target is None:
            rest = [name for name in names if name not in (time, group, *past, *known)]
            if len(rest) != 1:
                raise UserError(
                    f"{prefix}target is null: name the columns to forecast, such as '{prefix}target=[{rest[-1]}]'; "
                    f"{origin} has: {_listed(names)}."
                    if rest
                    else f"{prefix}target is null, and {origin} has no column beside: {_listed(names)}."
                )
            targets = rest
        else:
            given = [self.target] if isinstance(self.target, str | int) else list(self.target)
            targets = [named("target", one) for one in given]
        every = [*filter(None, (time, group)), *targets, *past, *known]
        if twice := [name for name in dict.fromkeys(every) if every.count(name) > 1]:
            raise UserError(f"{prefix}time, group, target, past and known name {_listed(twice)} twice: name it once.")
        return {"time": time, "group": group, "target": targets, "past": past, "known": known}

    def _times(self, frame: pl.DataFrame, name: str | None, origin: str, notes: list[str]) -> tuple[Floats, str | None]:
        """Return each row's time, in seconds since 1970 or as it stands, and the form of dates; None of numbers."""
        if name is None:
            return np.arange(len(frame), dtype=np.float64), None
        column, key = frame[name], f"{self.format.prefix}time"
        if (empty := column.is_null()).any():
            raise UserError(f"{origin}: {key}={name} is empty in row {_rows(empty.to_numpy())}. Fill it in.")
        if isinstance(column.dtype, pl.Datetime | pl.Date):
            return column.cast(pl.Datetime("us")).dt.epoch("us").to_numpy() / 1e6, dates.OF_PARQUET
        words = column.cast(pl.String).str.strip_chars()
        numbers = words.cast(pl.Float64, strict=False)
        if numbers.null_count() == 0:
            if compact := dates.find_compact(words.to_list()):
                return dates.read(words, compact).dt.epoch("us").to_numpy() / 1e6, compact
            values = numbers.to_numpy()
            if values.min() >= EARLIEST:  # seconds or milliseconds since 1970
                form = dates.stamp_of(float(values.min()), float(values.max()))
                if form is not None:
                    return values / (1 if form.startswith("seconds") else 1e3), form
            return values, None
        forms = dates.find_formats(words.to_list())
        if not forms and (most := dates.find_most(words.to_list(), SPELLED_ALIKE)):
            forms = most[0][:1]
        read = {form: dates.read(words, form).dt.epoch("us") for form in forms}
        if unread := [row for when in read.values() for row in when.is_null().arg_true()] or ([0] if not forms else []):
            raise UserError(
                f"{origin}: {key}={name} has {words[unread[0]]!r} in row {unread[0] + 1}, which is no time that can be "
                "read. Write 2024-05-03 14:00, or numbers."
            )
        moments = {form: when.to_numpy() / 1e6 for form, when in read.items()}
        best = min(moments, key=lambda form: _unevenness(moments[form]))
        if len(forms) > 1:
            notes.append(f"{origin}: {key}={name} could be {_listed(forms)}; taken as {best}, whose steps are alike.")
        if "%#z" in best or "%z" in best:
            notes.append(f"{origin}: the times of {key}={name} have an offset, and are taken in UTC.")
        return moments[best], best

    def _clock(self, times: Floats, dated: bool, origin: str) -> tuple[_Clock, NDArray[np.int64]]:
        """Return the clock, and the step of each row on it."""
        moments = np.unique(times)
        key = f"{self.format.prefix}gaps"
        if len(moments) < 2:
            raise UserError(f"{origin}: all rows have the same time. A series needs several: see data.time.")
        if self.gaps == "skip" or self.time is None:
            return _Clock(0, counts=True), np.searchsorted(moments, times)
        apart = np.diff(moments)
        if dated and apart.min() >= 28 * DAY:
            return _monthly(times, origin, key)
        usual, counts = np.unique(np.round(apart, 6), return_counts=True)
        step = float(usual[counts.argmax()])
        whole = (times - moments[0]) / step
        if (off := np.abs(whole - np.round(whole)) > 1e-3).any() and float(usual[0]) < step:
            step = float(usual[0])  # more gaps than steps
            whole = (times - moments[0]) / step
            off = np.abs(whole - np.round(whole)) > 1e-3
        if off.any():
            of = _words(0, round(step)) if dated else f"{step:g}"
            raise UserError(
                f"{origin}: times are irregular: most steps are {of}, and {int(off.sum()):,} rows (row {_rows(off)}) "
                f"stand between such. Bring the rows to equal steps, or say {key}=skip: the times are then the steps."
            )
        steps = np.round(whole).astype(np.int64)
        made = _Clock(moments[0], seconds=round(step)) if dated else _Clock(moments[0], number=step)
        return made, steps

    def _one(
        self,
        number: int,
        label: str,
        steps: NDArray[np.int64],
        values: Floats,
        targets: int,
        clock: _Clock,
        origin: str,
        notes: list[str],
        ahead: bool,
    ) -> _Series:
        """Return a series in order, each step once, without gaps."""
        named = f"{origin}, series {label!r}" if label else origin
        if (np.diff(steps) < 0).any():
            notes.append(f"{named}: rows are not in the order of their times; they were sorted.")
            order = np.argsort(steps, kind="stable")
            steps, values = steps[order], values[order]
        steps, values = self._once(steps, values, clock, named, notes)
        whole = np.full((int(steps[-1] - steps[0]) + 1, values.shape[1]), np.nan)
        whole[steps - steps[0]] = values
        there = np.flatnonzero(np.isfinite(whole[:, :targets]).all(axis=1))
        if not len(there):
            raise UserError(f"{named}: no row has all values to forecast (data.target).")
        behind = whole[there[-1] + 1 :]
        first, whole = int(steps[0] + there[0]), whole[there[0] : there[-1] + 1]
        if ahead and len(self.known) and np.isnan(behind[: self.horizon, -len(self.known) :]).any():
            raise UserError(f"{named}: {_listed(self.known)} must be given for the steps to come, and a cell is empty.")
        whole = self._filled(whole, named, notes)
        averages = [_moving_average(whole[:, :targets], steps) for steps in self.moving_averages]
        end = targets + len(self.past)
        whole = np.concatenate([whole[:, :end], *averages, whole[:, end:]], axis=1)
        return _Series(number, label, first, whole, behind if ahead else None)

    def _once(
        self, steps: NDArray[np.int64], values: Floats, clock: _Clock, named: str, notes: list[str]
    ) -> tuple[NDArray[np.int64], Floats]:
        """Return a row for each step; `repeated` says what several become."""
        again = np.flatnonzero(np.diff(steps) == 0)
        if not len(again):
            return steps, values
        same = (values[again] == values[again + 1]) | (np.isnan(values[again]) & np.isnan(values[again + 1]))
        when = clock.at(int(steps[again[0]]))
        if self.repeated == "refuse" and not same.all():
            raise UserError(
                f"{named}: {len(again):,} rows have the time of another, such as {when}, and other values. Name the "
                "column that tells several series apart (data.group=…), or say what they become: data.repeated=mean, "
                "sum, first or last."
            )
        how = "first" if self.repeated == "refuse" else self.repeated
        notes.append(f"{named}: {len(again):,} rows have the time of another, such as {when}; kept: the {how}.")
        starts = np.flatnonzero(np.r_[True, np.diff(steps) != 0])
        if how in ("first", "last"):
            kept = starts if how == "first" else np.r_[starts[1:] - 1, len(steps) - 1]
            return steps[kept], values[kept]
        sums = np.add.reduceat(values, starts, axis=0)
        counts = np.diff(np.r_[starts, len(steps)])[:, np.newaxis]
        return steps[starts], sums if how == "sum" else sums / counts

    def _filled(self, values: Floats, named: str, notes: list[str]) -> Floats:
        """Return values without gaps; `gaps` says what they become."""
        lacking = np.isnan(values)
        if not lacking.any():
            return values
        steps = int(lacking.all(axis=1).sum())
        cells = int(lacking[~lacking.all(axis=1)].sum())
        said = " and ".join(
            filter(None, (f"{steps:,} of {len(values):,} steps" if steps else "", f"{cells:,} cells" if cells else ""))
        )
        if self.gaps == "refuse":
            raise UserError(
                f"{named}: {said} are missing, and data.gaps is refuse. Take previous, linear, zero or skip."
            )
        how = "previous" if self.gaps == "skip" else self.gaps
        become = {"previous": "the previous value", "linear": "a value on the line to the next", "zero": "0"}[how]
        notes.append(f"{named}: {said} are missing; each became {become} (data.gaps).")
        filled = values.copy()
        for column, own, empty in zip(filled.T, values.T, lacking.T, strict=True):
            there = np.flatnonzero(~empty)
            if how == "zero" or not len(there):
                column[empty] = 0.0
            elif how == "linear":
                column[empty] = np.interp(np.flatnonzero(empty), there, own[there])
            else:
                before = np.maximum.accumulate(np.where(empty, -1, np.arange(len(own))))
                column[:] = own[np.where(before < 0, there[0], before)]
        return filled

    def _long_enough(self, found: list[_Series], origin: str, notes: list[str]) -> list[_Series]:
        """Return the series that have a window; refuse if none has."""
        needed = self.lookback + self.horizon
        kept = [one for one in found if len(one.values) >= needed]
        if not kept:
            longest = max(len(one.values) for one in found)
            raise UserError(
                f"{origin}: the series has {longest:,} steps, and a window takes {needed:,}: data.lookback="
                f"{self.lookback} and data.horizon={self.horizon}. Take smaller ones."
            )
        if short := [one.label for one in found if len(one.values) < needed]:
            notes.append(
                f"{origin}: {len(short):,} series are shorter than a window of {needed:,} steps, and left out: "
                f"{_listed(short)}."
            )
        return [replace(one, number=number) for number, one in enumerate(kept, 1)]


def _check(
    settings: _Settings, gap: int, stride: int, quantiles: Sequence[float] | None, shares: Mapping[str, float]
) -> None:
    whole = {"lookback": settings.lookback, "horizon": settings.horizon, "stride": stride, "period": settings.period}
    for key, value in whole.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise UserError(f"data.{key} is {value!r}; it is a whole number of steps, 1 or more.")
    if isinstance(gap, bool) or not isinstance(gap, int) or gap < 0:
        raise UserError(f"data.gap is {gap!r}; it is a whole number of steps, 0 or more.")
    for key, share in shares.items():
        if isinstance(share, bool) or not isinstance(share, int | float) or not share > 0:
            raise UserError(f"data.{key} is {share!r}; it is a share of the steps, such as 0.2, or how many.")
    for key, chosen, allowed in (
        ("gaps", settings.gaps, get_args(Gaps)),
        ("repeated", settings.repeated, get_args(Repeated)),
    ):
        if chosen not in allowed:
            raise UserError(f"data.{key} is {chosen!r}{near(str(chosen), allowed)}; it is {', '.join(allowed)}.")
    if odd := [name for name in settings.calendar if name not in CYCLES]:
        raise UserError(f"data.calendar names {_listed(odd)}; it takes {', '.join(CYCLES)}.")
    if settings.calendar and (settings.time is None or settings.gaps == "skip"):
        raise UserError("data.calendar needs the times of steps: give data.time, and another data.gaps than skip.")
    if any(isinstance(n, bool) or not isinstance(n, int) or n < 2 for n in settings.moving_averages):
        raise UserError(f"data.moving_averages is {list(settings.moving_averages)}; they are numbers of steps from 2.")
    levels = list(quantiles or [])
    if levels and (levels != sorted(set(levels)) or 0.5 not in levels or not 0 < levels[0] <= levels[-1] < 1):
        raise UserError(
            f"data.quantiles is {levels}; they are rising numbers between 0 and 1 with 0.5 among them: [0.1,0.5,0.9]."
        )


def _check_lengths(found: _Found, borders: _Borders, settings: _Settings) -> None:
    if borders.train_end < settings.lookback + settings.horizon:
        raise UserError(
            f"{found.name}: {max(0, borders.train_end):,} steps are left to learn from before data.validation_steps, "
            f"data.test_steps and data.gap, and a window takes {settings.lookback + settings.horizon:,} "
            f"(data.lookback={settings.lookback}, data.horizon={settings.horizon}). Take fewer of any of these."
        )


def _check_memory(found: _Found, settings: _Settings, stride: int) -> None:
    """Refuse windows that would not fit."""
    steps = settings.lookback + settings.horizon
    rows = sum(max(0, len(one.values) - steps + 1) for one in found.series)
    needed = COPIES * 4 * rows * steps * (found.targets + found.past + found.known) / stride
    free = memory.free()
    if free is not None and needed > free:
        raise UserError(
            f"{found.name}: {rows:,} windows of {steps:,} steps take about {needed / 1e9:.1f} GB to prepare, and "
            f"{free / 1e9:.1f} GB of memory are free. Take data.stride={2 * stride}, or a smaller data.lookback."
        )


def _steps(key: str, given: float, total: int, horizon: int) -> int:
    """Return a number of steps that may be given as a share."""
    steps = given if isinstance(given, int) else max(horizon, round(given * total)) if given < 1 else round(given)
    if steps < horizon:
        raise UserError(
            f"data.{key} is {given}: {steps} steps, and a window forecasts {horizon} (data.horizon): give as many."
        )
    return int(steps)


def _located(path: str | Sequence[str] | None, root: str | None) -> list[Path]:
    if path is None:
        raise UserError("data.path is null: name the file of the series: data.path=FILE.csv data.time=COLUMN")
    return [
        Path(root or "").expanduser() / Path(one).expanduser() for one in ([path] if isinstance(path, str) else path)
    ]


def _monthly(times: Floats, origin: str, key: str) -> tuple[_Clock, NDArray[np.int64]]:
    """Return the clock of times that are months apart or more."""
    days = times.astype(np.int64).astype("datetime64[s]").astype("datetime64[D]")
    months = days.astype("datetime64[M]").astype(np.int64)
    step = int(np.gcd.reduce(np.diff(np.unique(months))))
    distinct = len(np.unique(months))
    if distinct != len(np.unique(times)):
        raise UserError(
            f"{origin}: times are irregular: some months have two. Say {key}=skip: the times are then the steps."
        )
    day = int(((days - days.astype("datetime64[M]")).astype(np.int64) + 1).max())
    return _Clock(int(months.min()), months=step, day=day), (months - months.min()) // step


def _until(until: str | int, clock: _Clock, form: str | None, origin: str, prefix: str) -> int:
    """Return the last step to use."""
    if isinstance(until, int) and not isinstance(until, bool):
        if until < 1:
            raise UserError(f"{prefix}until is {until}; as a whole number, it is how many steps to use, 1 or more.")
        return until - 1
    words = pl.Series([str(until)])
    forms = dates.find_formats(words.to_list()) if clock.dated else []
    if not forms:
        raise UserError(
            f"{prefix}until is {until!r}; for {origin} it is a time, such as {clock.at(1)}, or how many steps."
        )
    moment = float(dates.read(words, forms[0]).dt.epoch("us")[0]) / 1e6
    if clock.months:
        month = int(np.datetime64(int(moment), "s").astype("datetime64[M]").astype(np.int64))
        return int((month - clock.origin) // clock.months)
    return int((moment - clock.origin) // clock.seconds)


def _period(clock: _Clock) -> int:
    """Return the usual number of steps of a season."""
    if not clock.dated:
        return 1
    if clock.months:
        return max(1, 12 // clock.months)
    return PERIODS.get(clock.seconds, DAY // clock.seconds if clock.seconds < DAY and DAY % clock.seconds == 0 else 1)


def _words(months: int, seconds: int) -> str:
    """Return how long a step is."""
    if months:
        return {1: "a month", 3: "a quarter", 12: "a year"}.get(months, f"{months} months")
    if not seconds:
        return "a number"
    unit = max(unit for unit in NAMES if seconds % unit == 0)
    count = seconds // unit
    return f"{'an' if unit == HOUR else 'a'} {NAMES[unit]}" if count == 1 else f"{count} {NAMES[unit]}s"


def _labels(frame: pl.DataFrame, group: str | None) -> Array:
    if group is None:
        return np.zeros(len(frame), np.int64)
    words = frame[group].cast(pl.String)
    if (empty := words.is_null()).any():
        raise UserError(f"data.group={group} is empty in row {_rows(empty.to_numpy())}: name the series of each row.")
    return words.to_numpy().astype(str)


def _numbers(column: pl.Series, name: str, origin: str) -> Floats:
    """Return a column as float64, NaN where it is empty."""
    values = column.cast(pl.Float64, strict=False) if column.dtype != pl.String else column.str.strip_chars().cast(
        pl.Float64, strict=False)  # fmt: skip
    wrong = values.is_null() & column.is_not_null()
    if wrong.any():
        row = int(wrong.arg_true()[0])
        raise UserError(
            f"{origin}: column {name!r} has {str(column[row])!r} in row {row + 1}, which is no number. A series is of "
            "numbers: mend the cell, or leave it empty."
        )
    found = values.fill_null(np.nan).to_numpy()
    return np.where(np.isinf(found), np.nan, found)


def _moving_average(values: Floats, steps: int) -> Floats:
    """Return the mean of the last so many values, at the beginning of as many as there are."""
    sums = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - steps)
    made: Floats = (sums[ends] - sums[starts]) / (ends - starts)[:, np.newaxis]
    return made


def _unevenness(moments: Floats) -> float:
    """Return how many times longer the longest step between moments is than the shortest."""
    apart = np.diff(np.unique(moments))
    return float(apart.max() / apart.min()) if len(apart) else 1.0


def _rows(chosen: NDArray[np.bool_]) -> str:
    return _listed([str(k + 1) for k in np.flatnonzero(chosen)])


def _listed(names: Sequence[object]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(str(name) for name in names[:SHOWN]) + more
