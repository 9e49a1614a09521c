"""The target: detection of classes or numbers from the cells of the target column."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import polars as pl

from hypermap.core.cli_args import override
from hypermap.core.errors import UserError, near
from hypermap.datasets.tables import dates, numbers
from hypermap.datasets.tables.column_types import has_compact_dates, is_boolean, is_mixed, missing_advice, spelled_alike
from hypermap.datasets.tables.columns import TRUE, Target, listed
from hypermap.datasets.tables.readers import Table
from hypermap.datasets.tables.statistics import Statistics
from hypermap.tasks.names import NUMBER, TableTask

TASKS = get_args(TableTask)
FEW = 10  # up to this many distinct integers are classes
MANY = 1000  # this many distinct words are not classes


def find_name(target: object, columns: Sequence[str], prefix: str, *, headed: bool = True) -> str:
    """Return the target column's name, from a name or a position: 1 is the first column, -1 the last.

    Args:
        headed: whether the file has the columns' names.

    Raises:
        UserError: there is no such column, or none was given.
    """
    if (name := column_of(target, columns)) is not None:
        return name
    unheaded = "" if headed else f". Its first line reads as data; if it names the columns, say {prefix}header=true"
    there = f"the table has: {', '.join(columns)}{unheaded}"
    if len(columns) == 1:
        there += f". If that should be several columns, say what stands between cells, with {prefix}separator"
    if target is None:
        raise UserError(f"{prefix}target is not set: name the column to predict; {there}.")
    if isinstance(target, int) and not isinstance(target, bool):
        raise UserError(
            f"{prefix}target is {target}; positions go from 1 to {len(columns)}, or from -1, the last, down{unheaded}."
        )
    raise UserError(f"{prefix}target is {target!r}; there is no such column{near(target, columns)}; {there}.")


def column_of(given: object, columns: Sequence[str]) -> str | None:
    """Return the column of this name or position, 1 for the first and -1 for the last; None if there is none."""
    if str(given) in columns:  # a column's name may be a number
        return str(given)
    if isinstance(given, int) and not isinstance(given, bool) and 1 <= abs(given) <= len(columns):
        return columns[given - 1 if given > 0 else given]
    return None


@dataclass(frozen=True)
class Requested:
    """The columns that a person wants predicted, by name or position, and what is said of them.

    Attributes:
        columns: at least one.
        tasks: one of `TASKS` for each column; empty if that is not said.
        labels: whether they are labels of which a row may have any number.
    """

    columns: tuple[str | int | None, ...]
    tasks: tuple[str, ...] = ()
    labels: bool = False

    @classmethod
    def of(cls, target: object, separator: str | None, prefix: str) -> "Requested":
        """Return what ``data.target`` says: a column, a list of labels, or columns with their tasks.

        Args:
            target: a name or position; a list of them; a mapping of them to tasks, or pairs.
            separator: between the labels that one column lists.
            prefix: of keys in messages.

        Raises:
            UserError: it is something else, or names a column twice.
        """
        pairs = dict(target) if isinstance(target, Mapping) or _are_pairs(target) else {}  # type: ignore[call-overload]
        columns = tuple(pairs) if pairs else tuple(target) if isinstance(target, list | tuple) else (target,)
        if separator is not None and (len(columns) > 1 or pairs):
            raise UserError(
                f"{prefix}label_separator is {separator!r}, for one column that lists labels; {prefix}target names "
                f"{len(columns)}: leave it out, or name one."
            )
        if wrong := [f"{column}: {task}" for column, task in pairs.items() if task not in TASKS]:
            raise UserError(
                f"{prefix}target says {', '.join(wrong)}; it says of each column one of {', '.join(TASKS)}."
            )
        if len(columns) == 1 or not columns:
            return cls((columns[0] if columns else None,), tuple(pairs.values()), separator is not None)
        return cls(columns, tuple(pairs.values()), not pairs)

    def names(self, columns: Sequence[str], prefix: str, *, headed: bool = True) -> tuple[str, ...]:
        """Return the columns' names in a table of these `columns`.

        Raises:
            UserError: there are no such columns, or one is named twice.
        """
        found = tuple(find_name(column, columns, prefix, headed=headed) for column in self.columns)
        if twice := sorted({name for name in found if found.count(name) > 1}):
            raise UserError(f"{prefix}target names {', '.join(map(repr, twice))} twice: leave one out.")
        return found


def _are_pairs(target: object) -> bool:
    return isinstance(target, list | tuple) and bool(target) and all(isinstance(one, list | tuple) for one in target)


def understand_label(statistics: Statistics, others: Sequence[Statistics], prefix: str) -> Target:
    """Return one of several labels, which is yes or no in each row.

    Args:
        statistics: of the label's column.
        others: of all the labels' columns, for advice.
        prefix: of keys in messages.

    Raises:
        UserError: it is neither.
    """
    if not statistics.present:
        raise UserError(f"column {statistics.name!r}, a label, has no values. Leave it out of {prefix}target.")
    words = statistics.words()
    if statistics.are_exact:
        words = [f"{number:.17g}" for number in statistics.different_numbers()]
    if len(words) == 1:
        raise UserError(
            f"The label {statistics.name!r} is {words[0]!r} in every row that has one, so there is nothing to learn of "
            f"it. Leave it out of {prefix}target, or name a file with rows of both kinds."
        )
    if len(words) > 2 or not is_boolean(words):
        said = override(f"{prefix}target", [(other.name, _likely(other)) for other in others])
        raise UserError(
            f"{prefix}target names several columns, which are labels then: yes or no, or 1 or 0, in each row. "
            f"{statistics.name!r} has {len(words):,} values: {', '.join(map(repr, words[:5]))}"
            f"{' and others' * (len(words) > 5)}. For targets of several kinds, say of each what it is: {said}."
        )
    return Target(statistics.name, "binary", tuple(_in_order(words)), {}, statistics.are_exact)


def understand_labels(table: Table, column: str, separator: str, prefix: str) -> tuple[Target, ...]:
    """Return the labels that the cells of a column list.

    Raises:
        UserError: there are fewer than two, or more than `MANY`.
    """
    labels = labels_of(table, column, separator)
    if len(labels) > MANY:
        raise UserError(
            f"The column {column!r} lists {len(labels):,} labels, with {prefix}label_separator={separator!r}; {MANY:,} "
            "are allowed. Leave the rare ones out of the file, or name another column."
        )
    if len(labels) < 2:
        raise UserError(
            f"The column {column!r} lists {len(labels)} labels{''.join(f', {one!r}' for one in labels)}, with "
            f"{prefix}label_separator={separator!r}: there should be two at least. Say what stands between them."
        )
    return tuple(Target(label, "binary", ("no", "yes"), {}, False, column, separator) for label in sorted(labels))


def labels_of(table: Table, column: str, separator: str) -> set[str]:
    """Return the labels that the cells of a column list."""
    labels: set[str] = set()
    for batch in table.batches():
        cells = batch.select(listed(pl.col(column), batch.schema[column], separator).alias("word"))
        labels |= set(cells["word"].explode().drop_nulls().unique().to_list())
    return labels


def unknown_labels(table: Table, target: Target, known: Sequence[Target]) -> list[str]:
    """Return a sentence if the cells of another table list labels that are none of the `known`."""
    if target.separator is None:
        return []
    unknown = sorted(labels_of(table, target.column, target.separator) - {one.name for one in known})
    if not unknown:
        return []
    shown = ", ".join(map(repr, unknown[:5])) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
    return [f"{table.name} lists labels that the rows to learn from lack, which are not predicted: {shown}."]


def _likely(statistics: Statistics) -> str:
    """Return the task that a target's values suggest."""
    if not _has_classes(statistics):
        return NUMBER
    return "binary" if len(statistics.values) == 2 else "multiclass"


def understand_target(
    statistics: Statistics, task: str | None, classes: Mapping[Any, str] | None, prefix: str, key: str = ""
) -> tuple[Target, list[str]]:
    """Return the target, and notes on how it was detected.

    Args:
        task: one of `TASKS`; None: detect it.
        classes: class names for values of the file, to merge spellings or to name numbers.
        prefix: of keys in messages.
        key: of the task there, if it is not ``{prefix}task``.

    Raises:
        UserError: there is nothing to learn, or the values do not fit the task.
    """
    key = key or f"{prefix}task"
    if task is not None and task not in TASKS:
        raise UserError(f"{key} is {task!r}; it is one of {', '.join(TASKS)}, or null{near(task, TASKS)}.")
    if not statistics.present:
        raise UserError(f"column {statistics.name!r}, the target, has no values. Name another with {prefix}target.")
    if statistics.typed == "date":
        raise UserError(f"column {statistics.name!r}, the target, holds dates; predict a number or a class instead.")
    if task is None and not classes:
        _refuse_mixed(statistics, prefix)
    found = task or ("multiclass" if _has_classes(statistics) or classes else NUMBER)
    if found == NUMBER:
        return _number(statistics, classes, prefix, key), []
    target = _classified(statistics, task, classes, prefix, key)
    if groups := spelled_alike(target.classes):
        return target, [_joins(target, classes or {}, groups, prefix)]
    if task is None and not classes and statistics.all_numbers:
        return target, [
            f"The target {target.name!r} has {len(target.classes)} different whole numbers, which were taken for "
            f"classes; {prefix}task=regression takes them for numbers."
        ]
    return target, []


def _joins(target: Target, classes: Mapping[Any, str], groups: Sequence[Sequence[str]], prefix: str) -> str:
    """Return the sentence on classes with several spellings, with the setting that merges them."""
    joined = {name: group[-1] for group in groups for name in group[:-1]}  # upper case sorts before lower case
    pairs = {str(word): joined.get(str(name), str(name)) for word, name in classes.items()} | joined
    order = _in_order([name for name in target.classes if name not in joined])
    of_classes = sorted(pairs.items(), key=lambda pair: order.index(pair[1]) if pair[1] in order else len(order))
    return (
        f"The target {target.name!r} has classes that differ only in case or blanks: "
        f"{'; '.join(' and '.join(map(repr, group)) for group in groups)}. If these are one, say "
        f"{override(f'{prefix}classes', of_classes)}."
    )


def _refuse_mixed(statistics: Statistics, prefix: str) -> None:
    """Refuse ambiguous targets: many numbers with a few words among them, numbers with a unit, dates."""
    if has_compact_dates(statistics):
        raise _holds_dates(statistics, prefix)
    if statistics.all_numbers:
        return
    words = statistics.words()
    if is_mixed(statistics) and len(words) > FEW:
        odd = ", ".join(map(repr, statistics.odd_words()))
        raise UserError(
            f"The target {statistics.name!r} is a number in {statistics.numbers:,} of {statistics.present:,} rows, and "
            f"{odd} in others. {missing_advice(statistics, prefix)}, which leaves such rows out; if all of them are "
            f"classes, say {prefix}task=multiclass."
        )
    if not statistics.codes and (measures := numbers.with_units(words)):
        raise UserError(
            f"The target {statistics.name!r} {_has_units(measures)}; if these are classes, say {prefix}task=multiclass."
        )
    if dates.find_formats(words) or dates.find_most(words, numbers.MOSTLY):
        raise _holds_dates(statistics, prefix)


def _holds_dates(statistics: Statistics, prefix: str) -> UserError:
    number = f", or {prefix}task=regression" if statistics.all_numbers else ""
    return UserError(
        f"The target {statistics.name!r} holds dates, such as {statistics.words()[0]!r}. Predict a number or a class "
        f"instead; if these are classes, say {prefix}task=multiclass{number}."
    )


def _has_units(measures: Sequence[str]) -> str:
    shown = ", ".join(map(repr, measures[:3]))
    return f"has numbers with a unit or with blanks, such as {shown}. Write plain numbers into the file to predict them"


def spelled_in_vain(statistics: Statistics, classes: Mapping[Any, str]) -> list[str]:
    """Return the values in `classes` that do not occur in the column, quoted."""
    words = set(statistics.words())
    known = set(statistics.different_numbers()) if statistics.all_numbers else set()
    return [repr(str(word)) for word in classes if str(word) not in words and not _is_among(str(word), known)]


def _is_among(word: str, numbers: set[float]) -> bool:
    try:
        return float(word) in numbers
    except ValueError:
        return False


def _has_classes(statistics: Statistics) -> bool:
    if not statistics.all_numbers:
        return True
    different = len(statistics.different_numbers())
    return statistics.whole == statistics.present and different <= min(FEW, statistics.present // 2)


def _number(statistics: Statistics, classes: Mapping[Any, str] | None, prefix: str, key: str) -> Target:
    if classes:
        raise UserError(f"{prefix}classes is set, and {key} is regression, which has none: leave one out.")
    if not statistics.all_numbers and (measures := numbers.with_units(statistics.words())):
        raise UserError(f"The target {statistics.name!r} {_has_units(measures)}, or say {key}=multiclass.")
    if not statistics.all_numbers:
        odd, count = ", ".join(map(repr, statistics.odd_words())), statistics.present - statistics.numbers
        raise UserError(
            f"{key} is regression; the target {statistics.name!r} has {count:,} values that are no finite "
            f"numbers, such as {odd}. {missing_advice(statistics, prefix)}; or say {key}=multiclass."
        )
    if statistics.lowest == statistics.highest:
        raise _single(statistics, f"{statistics.lowest:g}", prefix)
    return Target(statistics.name, NUMBER)


def _classified(
    statistics: Statistics, task: str | None, classes: Mapping[Any, str] | None, prefix: str, key: str
) -> Target:
    words, numeric = statistics.words(), statistics.are_exact
    if numeric:
        words = [f"{number:.17g}" for number in statistics.different_numbers()]
    spelled = {str(word): str(name) for word, name in (classes or {}).items()}
    names = _in_order(list(dict.fromkeys(spelled.get(word, word) for word in words)))
    _check_spelled(spelled, words, names, statistics.name, prefix)
    if spelled and set(names) <= set(spelled.values()):
        names = [name for name in dict.fromkeys(spelled.values()) if name in names]  # in the user's order
    if len(names) == 1:
        raise _single(statistics, names[0], prefix)
    if not statistics.complete or len(names) > MANY or len(names) == statistics.present > 2:
        raise UserError(
            f"The target {statistics.name!r} has {len(names):,} different values in {statistics.present:,} rows, too "
            f"many for classes. Name another column with {prefix}target"
            + (
                f", or say {key}=regression."
                if statistics.all_numbers
                else f". If these are numbers, such as {names[0]!r}, take out of them what belongs to none."
            )
        )
    if task == "binary" and len(names) > 2:
        raise UserError(
            f"{key} is binary; the target {statistics.name!r} has {len(names)} classes: "
            f"{', '.join(names[:10])}. Say multiclass, or name two with {prefix}classes."
        )
    return Target(statistics.name, "binary" if len(names) == 2 else "multiclass", tuple(names), spelled, numeric)


def _in_order(words: list[str]) -> list[str]:
    """Return the sorted words, but with yes after no: it is the positive class."""
    if len(words) == 2 and is_boolean(words):
        return sorted(words, key=lambda word: word.lower() in TRUE)
    return words


def _check_spelled(spelled: Mapping[str, str], words: list[str], names: list[str], column: str, prefix: str) -> None:
    """Refuse names for values that do not occur, unless they are another spelling of an existing class."""
    lost = [word for word, name in spelled.items() if word not in words and name not in names]
    if lost:
        raise UserError(
            f"{prefix}classes names {', '.join(map(repr, lost))}, which column {column!r} has "
            f"not{near(lost[0], words)}; it has {', '.join(words[:10])}. (YAML wants quotes around yes and no.)"
        )


def _single(statistics: Statistics, value: str, prefix: str) -> UserError:
    return UserError(
        f"The target {statistics.name!r} is {value!r} in every row that has one, so there is nothing to learn. Name "
        f"another column with {prefix}target, or a file with rows of other values."
    )
