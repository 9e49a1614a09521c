"""What ratings and rankings score when there is something to learn, and by chance when there is not."""

import numpy as np
import pytest

from hypermap.config.compose import compose
from hypermap.datasets.prepare import prepare_settings
from hypermap.experiments import run
from hypermap.training import artifacts
from support.own_ratings import ITEMS, interactions, write_ratings

K = 5


def validated(folder, rows, experiment, *words):
    """The validation metrics of a training on rows."""
    path = write_ratings(folder / "ratings.csv", rows)
    words = [f"experiment={experiment}", f"data.path={path}", f"data.k={K}", *words]
    if not {"model=rating_means", "model=ease"} & {*words}:
        words += ["model.width=8", "optimizer.lr=0.03", "trainer.batch_size=64", "trainer.threads=1"]
    configuration = compose(words)
    prepare_settings(folder / "prepared", configuration["data"])
    request = run.TrainingRequest(
        configuration, folder / "prepared", folder / "model", folder / "validation.json", states=folder / "states"
    )
    run.train(request)
    return artifacts.read_metrics(folder / "validation.json", "validation")


@pytest.mark.parametrize("words", [(), ("model=rating_means",)])
def test_shuffled_ratings_are_not_predicted(tmp_path, words):
    rows = interactions(users=80)
    ratings = np.random.default_rng(0).permutation([row[2] for row in rows])
    shuffled = [(user, item, rating, time) for (user, item, _, time), rating in zip(rows, ratings, strict=True)]
    assert validated(tmp_path / "shuffled", shuffled, "ratings", *words)["r2"] < 0.1
    if not words:  # means alone know nothing of tastes
        assert validated(tmp_path / "true", rows, "ratings")["r2"] > 0.4


@pytest.mark.parametrize("words", [("model=two_towers",), ("model=ease",)])
def test_shuffled_items_are_ranked_by_chance(tmp_path, words):
    rows, draw = interactions(users=80), np.random.default_rng(0)
    shuffled = []
    for user in dict.fromkeys(row[0] for row in rows):
        own = [row for row in rows if row[0] == user]
        items = 100 + draw.choice(ITEMS, len(own), replace=False)
        shuffled += [(user, int(item), rating, time) for item, (_, _, rating, time) in zip(items, own, strict=True)]
    gains = 1 / np.log2(np.arange(K) + 2)
    free = ITEMS - len(rows) // 80 + 2  # items that are ranked for each user
    chance, spread = gains.sum() / free, np.sqrt((gains**2).sum() / free / 80)
    found = validated(tmp_path / "shuffled", shuffled, "ratings_ranking", *words)["ndcg"]
    assert abs(found - chance) < 4 * spread
    assert validated(tmp_path / "true", rows, "ratings_ranking", *words)["ndcg"] > chance + 2 * spread
