"""Made-up ratings: users of two tastes, and items of two kinds."""

import csv

import numpy as np

USERS, ITEMS = 40, 30
HEADER = ("userId", "movieId", "rating", "timestamp")


def interactions(seed=0, users=USERS, items=ITEMS):
    """Return rows of user, item, rating and time: users rate mostly what is of their taste, and rate it higher."""
    draw = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        own = np.flatnonzero(np.arange(items) % 2 == user % 2)
        others = np.flatnonzero(np.arange(items) % 2 != user % 2)
        taken = draw.permutation([*draw.choice(own, 10, replace=False), *draw.choice(others, 3, replace=False)])
        for item in taken:
            likes = item % 2 == user % 2
            rating = float(np.clip(round(draw.normal(4.3 if likes else 2.2, 0.5) * 2) / 2, 0.5, 5))
            rows.append((f"u{user}", 100 + int(item), rating, 1_000_000 + len(rows) * 60))
    return rows


def write_ratings(path, rows=None, header=HEADER):
    """Write them as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *(interactions() if rows is None else rows)])
    return path
