"""Who proposed a study's trials, counted by hand."""

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from hypermap.reports.study.proposers import Proposer, proposers
from hypermap.reports.study.reading import read
from hypermap.search.auto import PROPOSED


def study(*trials, directions=("maximize",)):
    """Trials: who proposed it, its score or None where it was pruned, and how many steps it reported."""
    made = optuna.create_study(directions=list(directions))
    for by, score, steps in trials:
        made.add_trial(
            create_trial(
                state=TrialState.PRUNED if score is None else TrialState.COMPLETE,
                values=None if score is None else [score] * len(directions),
                intermediate_values=dict.fromkeys(range(1, steps + 1), 0.5),
                user_attrs={PROPOSED: by} if by else {},
            )
        )
    return made


def test_each_member_has_its_trials_its_best_and_its_share_of_the_epochs():
    view = read(
        study(
            ("baseline", 0.7, 10), ("tpe", None, 1), ("model", None, 2), ("model", 0.9, 10), ("model", 0.8, 10),
            ("space-filling", None, 7),
        )
    )  # fmt: skip
    assert proposers(view) == [
        Proposer("baseline", 1, 1, 0.7, 0.25),
        Proposer("space-filling", 1, 0, None, pytest.approx(7 / 40)),
        Proposer("model", 3, 2, 0.9, pytest.approx(22 / 40)),
        Proposer("tpe", 1, 0, None, pytest.approx(1 / 40)),
    ]


def test_the_best_is_the_least_where_less_is_better():
    view = read(study(("model", 0.9, 1), ("model", 0.8, 1), directions=("minimize",)))
    assert proposers(view)[0].best == 0.8


def test_what_is_not_known_is_left_out():
    assert proposers(read(study((None, 0.5, 1), (None, 0.6, 1)))) == []
    assert proposers(read(study(("model", 0.5, 0))))[0].share is None
    several = proposers(read(study(("model", 0.5, 0), directions=("maximize", "minimize"))))
    assert (several[0].complete, several[0].best) == (1, None)
