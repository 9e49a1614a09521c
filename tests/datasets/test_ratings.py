"""Ratings of one's own: splits, what must not leak, and files that cannot be read."""

import itertools

import numpy as np
import pytest

from hypermap.core import ids
from hypermap.core.errors import UserError
from hypermap.data.prepared import load, load_raw
from hypermap.data.preprocessor import read_transform
from hypermap.data.preprocessors.ratings import FIRST, ITEM, USER
from hypermap.datasets.prepare import prepare_settings
from hypermap.datasets.ratings import ratings
from support.contracts import ReaderContract
from support.own_ratings import HEADER, interactions, write_ratings

READER = "hypermap.datasets.ratings.ratings"
RANKING = {"_target_": READER, "goal": "ranking", "split": "last", "k": 3, "validation": None}


class TestRatings(ReaderContract):
    target = READER

    def settings(self, folder):
        return {"path": str(write_ratings(folder / "ratings.csv")), "test": 0.2}


class TestRatingsOfNewUsers(TestRatings):
    def settings(self, folder):
        return super().settings(folder) | {"split": "users"}


def read(path, rows, header=HEADER, **keywords):
    return ratings(str(write_ratings(path / "ratings.csv", rows, header)), **keywords)


def names(inputs, column):
    return [ids.name_of(words) for words in inputs[:, column].tolist()]


def test_ids_come_back_as_they_were_written():
    given = ["0", "17", "007", "-3", "a", "Zoë Ångström", "x" * 50, str(2**60)]
    assert [ids.name_of(words) for words in ids.packed(given).tolist()] == given
    assert len(ids.distinct(ids.packed([*given, *given]))) == len(given)


def test_the_last_row_of_each_user_is_tested_on_and_the_one_before_validated_on(tmp_path):
    rows = interactions()
    raw = read(
        tmp_path, [rows[k] for k in np.random.default_rng(0).permutation(len(rows))], goal="ranking", split="last"
    )
    last = {user: (item, before) for (user, before, *_), (_, item, *_) in itertools.pairwise(rows)}
    for user, item, seen in zip(*(names(raw.test_inputs, k) for k in (USER, ITEM, FIRST)), strict=True):
        ordered = [str(other) for who, other, *_ in rows if who == user]
        assert [seen, item] == ordered[-2:]
    assert len(raw.test_inputs) == raw.validation_rows.sum() == len(last)
    assert (raw.inputs[:, FIRST] == ids.NOTHING).all()  # rows to learn from and to validate on know nothing later


def test_the_latest_rows_are_tested_on(tmp_path):
    raw = read(tmp_path, interactions(), split="time", latest=0.2)
    times = {(user, str(item)): time for user, item, _, time in interactions()}
    moments = [
        [times[pair] for pair in zip(names(part, USER), names(part, ITEM), strict=True)]
        for part in (raw.inputs[~raw.validation_rows], raw.inputs[raw.validation_rows], raw.test_inputs)
    ]
    assert max(moments[0]) < min(moments[1])
    assert max(moments[1]) < min(moments[2])
    assert len(moments[2]) == round(0.2 * len(times))


@pytest.mark.parametrize("goal", ["rating", "ranking"])
def test_nothing_fitted_depends_on_rows_that_are_held_out(tmp_path, goal):
    """The last two rows of each user are of other items, with other ratings."""
    rows = interactions()
    ends = {k for k in range(len(rows)) if [row[0] for row in rows[k : k + 3]].count(rows[k][0]) < 3}
    changed = [(user, item + 500, 1.0, time) if k in ends else (user, item, rating, time)
               for k, (user, item, rating, time) in enumerate(rows)]  # fmt: skip
    made = []
    for name, own in (("one", rows), ("two", changed)):
        wanted = RANKING | {"goal": goal, "path": str(write_ratings(tmp_path / f"{name}.csv", own))}
        prepare_settings(tmp_path / name, wanted)
        transform, train = read_transform(tmp_path / name), load(tmp_path / name, "train")
        fitted = transform.manifest
        made.append((fitted.target, fitted.extras, fitted.target_shift, transform.stored, train.inputs.tolist()))
    assert made[0] == made[1]
    assert (load(tmp_path / "two", "test").inputs[:, ITEM] == 0).all()  # unknown


def test_of_repeated_pairs_the_latest_counts(tmp_path):
    rows = interactions()
    again = [(*rows[0][:2], 1.5, rows[-1][3] + 60)]
    raw = read(tmp_path, [*again, *rows])
    assert len(raw.inputs) == len(rows)
    pairs = list(zip(names(raw.inputs, USER), names(raw.inputs, ITEM), strict=True))
    assert raw.targets[pairs.index((rows[0][0], str(rows[0][1])))] == 1.5
    assert "1 row repeats the user and item of a later one" in raw.notes[-1]


def test_users_with_few_rows_are_learned_from_and_said(tmp_path):
    rows = [*interactions(), ("once", 100, 4.0, 5), ("twice", 100, 4.0, 5), ("twice", 101, 4.0, 6)]
    raw = read(tmp_path, rows, goal="ranking", split="last")
    assert "2 users have fewer than three rows" in raw.notes[0]
    assert not {"once", "twice"} & {*names(raw.test_inputs, USER), *names(raw.inputs[raw.validation_rows], USER)}
    assert {"once", "twice"} <= {*names(raw.inputs, USER)}


def test_new_items_are_said(tmp_path):
    rows = interactions()
    raw = read(tmp_path, [*rows, (rows[-1][0], 999, 5.0, rows[-1][3] + 60)], goal="ranking", split="last")
    assert f"1 of {len(raw.test_inputs)} test rows are of items that no training row has" in raw.notes[-1]


def test_features_of_items_stand_in_each_row(tmp_path):
    movies = [("movieId", "genres"), *((100 + k, "Drama|Comedy" if k % 2 else "Drama") for k in range(29))]
    write_ratings(tmp_path / "movies.csv", movies[1:], movies[0])
    wanted = {"_target_": READER, "path": str(write_ratings(tmp_path / "ratings.csv")), "test": 0.2,
              "items": str(tmp_path / "movies.csv"), "item_features": ["genres"]}  # fmt: skip
    manifest = prepare_settings(tmp_path / "made", wanted)
    assert manifest.extras["values"] == 2
    raw, made = load_raw(tmp_path / "made", "train"), load(tmp_path / "made", "train")
    for item, places in zip(names(raw.inputs.numpy(), ITEM), made.inputs[:, FIRST:], strict=True):
        assert (places > 0).sum() == (0 if item == "129" else 1 + (int(item) % 2))


def test_dates_are_times(tmp_path):
    rows = [
        (user, item, rating, f"2024-01-{1 + k % 28:02d}") for k, (user, item, rating, _) in enumerate(interactions())
    ]
    raw = read(tmp_path, rows, split="time")
    assert len(raw.test_inputs)


ROWS = [(k % 5, k // 5, float(1 + k % 4), k) for k in range(40)]


@pytest.mark.parametrize(
    ("rows", "keywords", "said"),
    [
        ([*ROWS, (1, 99, 500.0, 7)], {}, "rating '500.0', in row 41 is far outside of the others"),
        ([*ROWS, (1, 99, 7.0, 7)], {"scale": [1, 5]}, r"rating '7.0', in row 41 is outside of data.scale=\[1, 5\]"),
        ([*ROWS, (1, 99, "good", 7)], {}, "rating 'good', in row 41 is no number"),
        ([*ROWS, ("", 99, 2.0, 7)], {}, "user in row 41 is empty"),
        ([*ROWS, (1, 99, 2.0, "soon")], {}, "time 'soon', in row 41 is neither a number nor a date"),
        ([(*row[:2], 1, row[3]) for row in ROWS], {}, "all ratings are 1, so that there is nothing to predict"),
        (ROWS, {"user": "who"}, "data.user is 'who'; .* has no such column"),
        (ROWS, {"goal": "rank"}, "data.goal is 'rank'; it is rating, ranking .did you mean 'ranking'"),
        (ROWS, {"goal": "ranking"}, "a ranking is tested on the last items of users"),
        (ROWS, {"goal": "ranking", "split": "last", "positive": 9}, "no rating is as high"),
        (ROWS[:5], {"goal": "ranking", "split": "last"}, "no user has three rows or more"),
        (ROWS, {"items": "movies.csv"}, "data.items is given, and data.item_features is not"),
        (ROWS, {"split": "time", "latest": 0.9}, "data.latest is 0.9"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_said(tmp_path, rows, keywords, said):
    with pytest.raises(UserError, match=said):
        read(tmp_path, rows, **keywords)


def test_without_times_or_ratings(tmp_path):
    pairs = [row[:2] for row in ROWS]
    raw = read(tmp_path, pairs, ("user", "item"), goal="ranking", split="last")
    assert len(raw.test_inputs) == 5
    with pytest.raises(UserError, match=r"no column of ratings .* experiment=ratings_ranking"):
        read(tmp_path, pairs, ("user", "item"))
    with pytest.raises(UserError, match=r"no column of times: name it"):
        read(tmp_path, pairs, ("user", "item"), goal="ranking", split="time")
    with pytest.raises(UserError, match=r"no column of users that is known by its name: name it \(data.user=…\)"):
        read(tmp_path, pairs, ("a", "b"))
