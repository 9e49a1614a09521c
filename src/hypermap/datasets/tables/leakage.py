"""Leakage checks, for test scores that are too good: columns that contain the target, groups and times."""

from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hypermap.core.cli_args import override
from hypermap.core.typing import Floats
from hypermap.datasets.tables.answers import answers, listed, r2
from hypermap.datasets.tables.column_types import NOTHING, Given
from hypermap.datasets.tables.schema import Matrix, Schema

ROWS = 10_000  # maximum that are checked
LEAST_ROWS = 50
FOLDS = 3
DEPTH = 6
SCORE = 0.99  # balanced accuracy or R² of a single column
PROMISING = 0.9  # on the first fold; below this the others are skipped
MISSING = -2.0  # the code of a missing word
LEAST_OF_SIGN = 5  # minimum rows with it
EXACT = 1e-9  # share of the target's variance: rounding errors of a sum
SURPRISE = 13.8  # minus the logarithm of one in a million: not by chance


def target_leaks(
    schema: Schema, matrix: Matrix, targets: NDArray[np.float64], seed: int = 0, given: Given = NOTHING
) -> list[str]:
    """Return a sentence for each column of the file that leaks the target, by itself or together with others.

    For each column, a shallow tree on its numbers (all parts of a date), or for words the most frequent class of the
    word (relative to the class's size) or their mean, is fitted and scored on held-out rows, over a few folds: balanced
    accuracy for classification, R² for regression. A column is reported from `SCORE` on; so are columns of two values
    each that are the target in another form, see `_spread`, and another model's `answers`. With fewer than `LEAST_ROWS`
    rows nothing is reported.

    Args:
        matrix: ``(rows, columns)`` before any split, including test rows unless they have a separate file.
        targets: ``(rows,)``, class indices or numbers.
        seed: for drawing the `ROWS` checked rows, which also defines the folds.
        given: the user's settings of columns, for advice.
    """
    if len(targets) < LEAST_ROWS:
        return []
    rows = np.random.default_rng(seed).permutation(len(targets))[:ROWS]
    sentences, alone, first = [], [], 0
    pairs: dict[str, Floats] = {}  # columns of two values
    for column in schema.columns:
        part = matrix[rows, first : first + len(column.matrix_names)]
        first += len(column.matrix_names)
        words = column.kind in ("category", "boolean")
        score = _score(part, targets[rows], words=words, classes=bool(schema.target.classes), seed=seed)
        if score >= SCORE:
            alone.append(column.name)
            measure = "balanced accuracy" if schema.target.classes else "R²"
            sentences.append(
                f"Column {column.name!r} alone predicts {schema.target.name!r} with {measure} {score:.3f} on rows not "
                "seen: it seems to give the target away. If it is not known when predictions are made, leave it out: "
                f"{given.and_drop(column.name)}."
            )
        elif part.shape[1] == 1 and len(np.unique(part)) == 2:
            pairs[column.name] = part[:, 0]
    if not schema.target.classes and not sentences and (names := _summed(schema, matrix[rows], targets[rows])):
        sentences.append(
            f"{schema.target.name!r} is a weighted sum of {listed(names)}, without any rest, on rows not seen. If "
            f"they are not known when predictions are made, leave them out: {given.and_drop(*names)}."
        )
    if schema.target.classes and (names := _spread(pairs, targets[rows])):
        sentences.append(
            f"Columns {listed(names)} together say {schema.target.name!r} on rows not seen: a value of each goes with "
            "one class, as where the target was spread over columns, or is one of several. If they are not known when "
            f"predictions are made, leave them out: {given.and_drop(*names)}."
        )
    return sentences + answers(schema, matrix[rows], targets[rows], alone, given)


def shared_groups(group: str, members: pl.Series, test_members: pl.Series | None, tested: int) -> list[str]:
    """Return a sentence if rows of a separate test file belong, or may belong, to groups of the training rows.

    Args:
        group: the column.
        members: the groups of the training rows.
        test_members: the groups of the test rows; None if their file has no such column.
    """
    if test_members is None:
        return [
            f"The test rows have no column {group!r} (data.group), so that nobody knows whether they are of groups "
            "that are learned from."
        ]
    known = members.cast(pl.String).unique().implode()
    shared = int(test_members.cast(pl.String).is_in(known).sum())
    if not shared:
        return []
    said = override("data.group", group)
    return [
        f"{shared:,} of {tested:,} test rows are of groups that are learned from ({said}), so that the "
        "test score is not that of new groups. Remove such rows from one of the files, if it should be."
    ]


def earlier_rows(
    time: str, times: NDArray[np.float64], test_times: NDArray[np.float64] | None, tested: int
) -> list[str]:
    """Return a sentence if rows of a separate test file are not later than all training rows.

    Args:
        time: the column.
        times: of the training rows.
        test_times: of the test rows, NaN if missing; None if their file has no such column.
    """
    if test_times is None:
        return [
            f"The test rows have no column {time!r} (data.time), so that nobody knows whether they are later than "
            "those that are learned from."
        ]
    early = int((~(test_times > times.max())).sum())
    if not early:
        return []
    said = override("data.time", time)
    return [
        f"{early:,} of {tested:,} test rows are not later than all rows that are learned from ({said}), or "
        "have no time, so that the test score is not that of the future."
    ]


def _summed(schema: Schema, matrix: Matrix, targets: Floats) -> list[str]:
    """Return the numeric columns whose weighted sum is the target, such as the parts of a total."""
    roles = zip(schema.matrix_names, schema.roles, strict=True)
    places = [k for k, (_, role) in enumerate(roles) if role == "number" and np.isfinite(matrix[:, k]).all()]
    columns = np.column_stack([matrix[:, places], np.ones(len(targets))])
    if not places or len(targets) < FOLDS * columns.shape[1]:
        return []
    scale = np.maximum(np.abs(columns).max(axis=0), np.finfo(float).tiny)
    seen = np.arange(len(targets)) % FOLDS != 0
    weights = np.linalg.lstsq(columns[seen] / scale, targets[seen], rcond=None)[0]
    parts = columns / scale * weights
    if ((parts.sum(axis=1) - targets)[~seen] ** 2).mean() > EXACT * targets[~seen].var():
        return []
    heavy = {
        schema.matrix_names[k] for k, part in zip(places, parts.T, strict=False) if part.var() > EXACT * targets.var()
    }
    return [c.name for c in schema.columns if heavy & {*c.matrix_names}]


def _spread(columns: Mapping[str, Floats], targets: Floats) -> list[str]:
    """Return the columns of two values that together are the target in another form, if there are any.

    One value of such a column implies one class. Either at most one of them has that value in a row (one column per
    class), or several may and they are never wrong (the target says whether there is any of several labels).
    """
    whole = np.ones(len(targets), np.bool_)
    for apart in (True, False):
        signs = _signs(columns, targets, apart)
        if len(signs) < 2 or _balanced_accuracy(_said(columns, signs, targets, whole), targets) < (
            SCORE if apart else 1
        ):
            continue
        scores = []
        for k in range(FOLDS):
            seen = np.arange(len(targets)) % FOLDS != k  # the rows are in random order
            known = _signs({name: column[seen] for name, column in columns.items()}, targets[seen], apart)
            scores.append(_balanced_accuracy(_said(columns, known, targets, seen)[~seen], targets[~seen]))
        if np.mean(scores) >= SCORE:
            return _needed(columns, signs, targets)
    return []


Signs = dict[str, tuple[float, float]]  # by column: a value, and the class that it implies


def _signs(columns: Mapping[str, Floats], targets: Floats, apart: bool) -> Signs:
    """Return columns with a value that implies a class; if `apart`, no two in one row, those with more rows first."""
    found: list[tuple[int, str, float, float]] = []
    for name, column in columns.items():
        for value in np.unique(column):
            rows = _is(column, value)
            classes = np.unique_counts(targets[rows])
            if not rows.all() and classes.counts.max() >= max(SCORE * rows.sum(), LEAST_OF_SIGN):
                found.append((int(rows.sum()), name, float(value), float(classes.values[classes.counts.argmax()])))
    signs: Signs = {}
    taken = np.zeros(len(targets), np.bool_)
    for size, name, value, which in sorted(found, key=lambda sign: -sign[0]):
        rows = _is(columns[name], value)
        if name not in signs and not (apart and (rows & taken).sum() > (1 - SCORE) * size):
            signs[name] = (value, which)
            taken |= rows
    return {name: signs[name] for name in columns if name in signs}


def _said(columns: Mapping[str, Floats], signs: Signs, targets: Floats, seen: NDArray[np.bool_]) -> Floats:
    """Return the class by these signs; for rows without any, the most frequent class of such seen rows."""
    said = np.full(len(targets), np.nan)
    for name, (value, which) in signs.items():
        said[_is(columns[name], value)] = which
    silent = np.isnan(said)
    classes = np.unique_counts(targets[silent & seen] if (silent & seen).any() else targets)
    said[silent] = classes.values[classes.counts.argmax()]
    return said


def _needed(columns: Mapping[str, Floats], signs: Signs, targets: Floats) -> list[str]:
    """Return the columns whose signs are no coincidence, or which are needed to determine the target."""
    whole, shares = np.ones(len(targets), np.bool_), {c: float((targets == c).mean()) for c in np.unique(targets)}
    best = _balanced_accuracy(_said(columns, signs, targets, whole), targets)
    for name, (value, which) in list(signs.items()):
        others = {other: sign for other, sign in signs.items() if other != name}
        surprise = -_is(columns[name], value).sum() * np.log(shares[which])
        if surprise < SURPRISE and _balanced_accuracy(_said(columns, others, targets, whole), targets) >= best:
            signs = others
    return list(signs)


def _is(column: Floats, value: float) -> NDArray[np.bool_]:
    """Return which rows have a value, with NaN as a value."""
    return np.isnan(column) if np.isnan(value) else column == value


def _score(columns: Matrix, targets: NDArray[np.float64], *, words: bool, classes: bool, seed: int) -> float:
    """Return balanced accuracy, or R², of one column on held-out rows: the mean over folds, or a low first one."""
    scores: list[float] = []
    fold = np.arange(len(targets)) % FOLDS  # the rows are in random order
    for k in range(FOLDS):
        seen, held = fold != k, fold == k
        predict = _most_frequent if words else _tree
        guesses = predict(columns[seen], targets[seen], columns[held], classes, seed)
        scores.append(_balanced_accuracy(guesses, targets[held]) if classes else r2(guesses, targets[held]))
        if scores[-1] < PROMISING:
            break
    return float(np.mean(scores))


def _tree(
    columns: Matrix, targets: NDArray[np.float64], others: Matrix, classes: bool, seed: int
) -> NDArray[np.float64]:
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

    weights = None
    if classes:
        _, which, counts = np.unique(targets, return_inverse=True, return_counts=True)
        weights = len(targets) / counts[which]  # classes have equal weight
    tree = (DecisionTreeClassifier if classes else DecisionTreeRegressor)(max_depth=DEPTH, random_state=seed)
    guesses: NDArray[np.float64] = tree.fit(columns, targets, weights).predict(others)
    return guesses


def _most_frequent(
    columns: Matrix, targets: NDArray[np.float64], others: Matrix, classes: bool, seed: int
) -> NDArray[np.float64]:
    """Return the most frequent class of a word, relative to the class's size; or the mean of the numbers."""
    known = pl.DataFrame({"word": columns[:, 0], "target": targets}).fill_nan(MISSING)
    if classes:
        shares = (
            known.with_columns(weight=1 / pl.len().over("target"))
            .group_by("word", "target")
            .agg(pl.col("weight").sum())
        )
        best = shares.sort("weight", "target", descending=[True, False]).unique(
            "word", keep="first", maintain_order=True
        )
        usual = float(np.unique_counts(targets).values[np.unique_counts(targets).counts.argmax()])
    else:
        best = known.group_by("word").agg(pl.col("target").mean())
        usual = float(targets.mean())
    words = pl.DataFrame({"word": others[:, 0]}).fill_nan(MISSING)
    guesses: NDArray[np.float64] = (
        words.join(best, on="word", how="left", maintain_order="left")["target"].fill_null(usual).to_numpy()
    )
    return guesses


def _balanced_accuracy(guesses: NDArray[np.float64], targets: NDArray[np.float64]) -> float:
    return float(np.mean([(guesses[targets == c] == c).mean() for c in np.unique(targets)]))
