"""Tasks and intervals by a task's name."""

from types import SimpleNamespace

from hypermap.tasks import metrics
from hypermap.tasks.base import locate_task


def task_of(name):
    """A task whose targets are as they were encoded."""
    entries = {"classes": (), "target_transform": None, "target_shift": 0.0, "target_scale": 1.0, "target": {}}
    return locate_task(name)(SimpleNamespace(task=name, **entries))


def resamples(targets, predictions, *, task, **settings):
    return metrics.resamples(task_of(task).resampled(targets, predictions), len(targets), **settings)


def intervals(targets, predictions, *, task, confidence=0.95, **settings):
    return metrics.percentiles(resamples(targets, predictions, task=task, **settings), confidence)
