"""The contracts of ratings and rankings, and their metrics beside other formulas."""

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import f1_score, ndcg_score, precision_score, recall_score

from hypermap.core import ids
from hypermap.core.errors import UserError
from hypermap.tasks.metrics import higher_is_better
from hypermap.tasks.ratings import LIST, RANK, WHO, Ranking, RatingPrediction
from support.contracts import TaskContract

ROWS, ITEMS, K = 60, 40, 5


def info(task, **entries):
    usual = {"classes": (), "target_transform": None, "target_shift": None, "target_scale": None, "target": {}}
    return SimpleNamespace(**{"task": task, "target_columns": (), "arguments": {"k": K}, **usual, **entries})


class TestRatingPrediction(TaskContract):
    def task(self):
        about = info("hypermap.tasks.ratings.RatingPrediction")
        return RatingPrediction(SimpleNamespace(**{**vars(about), **RatingPrediction.fit(self.targets(), about)}))

    def targets(self):
        return np.random.default_rng(0).integers(1, 11, ROWS) / 2

    def predictions(self):
        return np.clip(self.targets() + np.random.default_rng(1).normal(size=ROWS), 0.5, 5)

    def outputs(self):
        return np.random.default_rng(2).normal(size=ROWS) * 2

    def test_liked_is_what_scikit_learn_measures(self):
        true, said = self.targets() >= 4, self.predictions() >= 4
        measured = self.task().measure(self.targets(), self.predictions())
        for name, score in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
            assert measured[name] == pytest.approx(score(true, said))
        assert measured["accuracy"] == pytest.approx((true == said).mean())

    def test_no_rating_is_predicted_outside_of_those_of_training(self):
        predicted = self.task().predictions(np.array([-90.0, 90.0]))
        assert predicted.tolist() == [0.5, 5.0]

    def test_a_threshold_that_tells_nothing_apart_is_refused(self):
        with pytest.raises(UserError, match=r"data.liked is 9, and the training ratings go from 0.5 to 5"):
            RatingPrediction.fit(self.targets(), info("own", arguments={"liked": 9}))


class TestRanking(TaskContract):
    def task(self):
        about = info("hypermap.tasks.ratings.Ranking")
        every = ids.packed([str(k) for k in range(ITEMS)])
        return Ranking(SimpleNamespace(**{**vars(about), **Ranking.fit(every, about)}))

    def targets(self):
        return ids.packed([str(k) for k in np.random.default_rng(0).integers(0, ITEMS, ROWS)])

    def predictions(self):
        draw = np.random.default_rng(1)
        lists = np.argsort(draw.random((ROWS, ITEMS)), axis=1)[:, :K] + 1
        columns = (draw.integers(1, 12, ROWS), draw.integers(1, 9, ROWS), 9 * draw.random(ROWS), np.arange(ROWS) // 2)
        return np.column_stack([*columns, lists]).astype(np.float64)

    def outputs(self):
        return self.predictions()

    def test_ndcg_is_scikit_learns_of_one_relevant_item(self):
        ranks = self.predictions()[:, RANK].astype(int)
        relevant, scores = np.zeros((ROWS, ITEMS)), -np.tile(np.arange(ITEMS, dtype=float), (ROWS, 1))
        relevant[np.arange(ROWS), ranks - 1] = 1
        measured = self.task().measure(self.targets(), self.predictions())
        assert measured["ndcg"] == pytest.approx(ndcg_score(relevant, scores, k=K))
        assert measured["mrr"] == pytest.approx(np.where(ranks <= K, 1 / ranks, 0).mean())
        users = self.predictions()[:, WHO]
        assert measured["hr"] == pytest.approx(np.mean([(ranks[users == who] <= K).any() for who in np.unique(users)]))
        assert measured["recall"] == pytest.approx((ranks <= K).mean())
        assert measured["coverage"] == len(np.unique(self.predictions()[:, LIST:])) / ITEMS

    def test_lists_name_the_items(self):
        table = self.task().table(self.predictions())
        assert table["prediction_1"].to_list() == [str(int(place) - 1) for place in self.predictions()[:, LIST]]

    def test_metrics_know_their_direction(self):
        assert higher_is_better("ndcg")
        assert not higher_is_better("popularity")
