"""What a report says of several targets of any kind."""

from dataclasses import replace
from functools import cached_property

import numpy as np

from hypermap.reports.run import classification, pictures, regression, wording
from hypermap.reports.run.run import Run
from hypermap.reports.run.task_report import TaskReport
from hypermap.tasks.base import Task, make_task
from hypermap.tasks.multitask import Multitask


class MultitaskReport(TaskReport):
    """Each target's pictures, and whether learning them together paid."""

    headline = ("mean_score",)

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        made = make_task(run.manifest)
        assert isinstance(made, Multitask)
        self.whole = made
        first = f"{made.names[0]}_{made.parts[0].monitor}"
        self.compared = ("mean_score", first)  # type: ignore[misc]  # what there is depends on the data

    @cached_property
    def each(self) -> list[tuple[str, Task, Run]]:
        """Each target's name in metrics, its task, and the run as if that were the only target."""
        run, found = self.run, []
        for (name, part, own), values in zip(self.whole.split(run.predictions), run.targets.T, strict=True):
            classes = tuple(part.info.classes)
            targets = values.astype(np.int64) if classes else values
            found.append(
                (name, part, replace(run, task=part.info.task, classes=classes, targets=targets, predictions=own))
            )
        return found

    def pictures(self) -> dict[str, bytes]:
        """Return the pictures by name: ``target_1`` is of the first target."""
        drawn = super().pictures()
        for number, (_, _, run) in enumerate(self.each, 1):
            drawn[f"target_{number}"] = (
                classification.confusion_picture(run)
                if run.classes
                else pictures.residuals(run.targets, run.predictions)
            )
        return drawn

    def sections(self) -> list[str]:
        """Return whether sharing paid, and each target's picture and worst mistakes."""
        text = ["## Learned together", *self._sharing()]
        for number, (column, (_, _, run)) in enumerate(
            zip(self.run.manifest.target_columns, self.each, strict=True), 1
        ):
            name = wording.words(column["name"])
            text += [f"## {name}", f"![{name}](pictures/target_{number}.png)", _mistakes(run)]
        return text

    def _sharing(self) -> list[str]:
        """Return how the losses were weighed, and what each target gained from the others."""
        run, alone = self.run, self.run.alone
        said = [
            "One network has a head for each target, and `mean_score` is the mean of "
            f"{wording.listed([f'`{name}_{part.monitor}`' for name, part, _ in self.each])}."
        ]
        if run.weights:
            weights = wording.listed([f"{wording.words(name)} {value:.3g}" for name, value in run.weights.items()])
            said.append(f"The losses' weights: {weights}.")
        if alone is None:
            return [
                *said,
                "Whether that paid is not known: `loss=joint loss.alone=true` also trains a network for each target by "
                "itself, with the same settings and rows, and holds them against this one here.",
            ]
        lines, verdicts = [], []
        for name, part, _ in self.each:
            metric = f"{name}_{part.monitor}"
            if metric not in alone.differences:
                continue
            value, low, high = alone.differences[metric]
            lines.append(
                (
                    f"`{metric}`",
                    wording.metric(metric, run.test[metric]),
                    wording.metric(metric, alone.test[metric]),
                    f"{value:+.4f}",
                    f"{low:+.4f} to {high:+.4f}",
                )
            )
            verdicts.append((name, alone.says(metric)))
        table = wording.table(("metric", "together", "alone", "difference", f"{run.level} interval"), lines)
        groups = [(1, "It paid for"), (-1, "It cost something for"), (0, "These rows do not tell for")]
        sentences = [
            f"{words} {wording.listed([f'`{name}`' for name, says in verdicts if says == sign])}."
            for sign, words in groups
            if any(says == sign for _, says in verdicts)
        ]
        return [
            *said,
            table,
            f"**{' '.join(sentences)}** Alone is a network for each target, trained with the same settings, seed and "
            "rows; an interval is a paired bootstrap of the test rows, and says nothing of another seed.",
        ]


def _mistakes(run: Run) -> str:
    """Return a target's worst mistakes."""
    if not run.classes:
        return regression.mistakes_table(run)
    if (run.predictions.argmax(axis=1) == run.targets).all():
        return f"There is no mistake among the {len(run.targets):,} test rows."
    return classification.mistakes_table(run)
