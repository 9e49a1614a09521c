"""What two scores say of a model that is not trained by epochs: one on training rows, one on validation rows."""

from collections.abc import Mapping

from hypermap.reports.run import wording
from hypermap.reports.run.diagnosis import GAP, STANDARD_ERRORS, Finding
from hypermap.tasks.base import Task

SIMPLER = {
    "RandomForest": "`model.min_samples_leaf=10` or `model.max_depth=10`",
    "ExtraTrees": "`model.min_samples_leaf=10` or `model.max_depth=10`",
    "GradientBoosting": "`model.learning_rate=0.03` or `model.max_leaf_nodes=15`",
    "LightGBM": "`model.num_leaves=15` or `model.lambda_l2=1`",
    "SupportVector": "`model.C=0.1`",
    "Linear": "`model.C=0.1`",
    "NearestNeighbors": "`model.n_neighbors=50`",
}
RICHER = {
    "RandomForest": "`model.min_samples_leaf=1`, or `model=lightgbm`",
    "ExtraTrees": "`model.min_samples_leaf=1`, or `model=lightgbm`",
    "GradientBoosting": "`model.max_leaf_nodes=63`",
    "LightGBM": "`model.num_leaves=255`",
    "SupportVector": "`model.C=10`",
    "Linear": "a model that can bend, such as `model=lightgbm`",
    "NearestNeighbors": "`model.n_neighbors=5`, or `model=lightgbm`",
}
"""What to try, by the last part of a model's `_target_`."""

MEMORIES = ("RandomForest", "ExtraTrees", "NearestNeighbors")
"""Families that keep their training rows, and so know them better than others whatever their settings."""


def diagnose_scores(
    target: str, train: Mapping[str, float], validation: Mapping[str, float], task: type[Task], rows: int
) -> list[Finding]:
    """Return what the metrics on training rows and on so many validation rows say of the model of `target`, a dotted
    path.
    """
    name, words = task.monitor, task.score_name
    family = target.rpartition(".")[2]
    if name not in train or name not in validation:
        return [Finding("healthy", f"There are too few rows for {words}, and nothing to be said.")]
    learned, held = train[name], validation[name]
    error = task.standard_error(held, rows)
    scores = (
        f"{words} {wording.metric(name, learned)} on training rows and {wording.metric(name, held)} on {rows:,} "
        f"validation rows (standard error {error:.2g})"
    )
    if family == "Dummy":
        return [Finding("underfitting", f"The dummy does not look at the inputs: {scores}. It is there to be beaten.")]
    if learned - held > max(GAP, STANDARD_ERRORS * error) and family not in MEMORIES:
        return [Finding("overfitting", f"It has {scores}: try {SIMPLER.get(family, 'a simpler model')}.")]
    if learned < task.low_score:
        remedy = RICHER.get(family, "a model that can say more")
        return [Finding("underfitting", f"It has {scores}: unless the data hold no more, try {remedy}.")]
    memory = " Such a model keeps its training rows: the score on them says little." if family in MEMORIES else ""
    return [Finding("healthy", f"It has {scores}: neither too simple nor too free, as far as these say.{memory}")]
