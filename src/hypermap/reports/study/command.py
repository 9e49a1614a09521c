"""What `python src/report.py` was asked for: which studies, where they are, and with which thresholds."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Self

import optuna
import yaml
from omegaconf import OmegaConf

from hypermap.core.cli_args import read_trust
from hypermap.core.errors import UserError, near
from hypermap.core.passwords import shown
from hypermap.core.paths import STUDIES, THRESHOLDS
from hypermap.reports.study.checks import is_answered
from hypermap.reports.study.early_scores import early_scores, judged
from hypermap.reports.study.reading import read
from hypermap.reports.study.verdict import LEVELS, Thresholds, Verdict, read_thresholds
from hypermap.reports.study.view import CONFIRMATION, StudyData
from hypermap.reports.study.write import folder_of, write_report
from hypermap.search.storage import file_of, open_storage
from hypermap.search.study import PURPOSE, WHERE, find, mask_passwords

KEYS = ("study", "storage", "goal", "scientific", "trust")


@dataclass(frozen=True)
class ReportArgs:
    """One command.

    Attributes:
        studies: names; with ``*`` those here that match.
        storage: a path or URL; None for studies that were made here.
        purpose: what the study was for, ``goal`` and ``scientific``, where that is said anew.
        trust: whether what the studies name may be any code.
    """

    studies: tuple[str, ...]
    storage: str | None
    purpose: Mapping[str, Any]
    thresholds: Thresholds
    trust: bool = False

    @classmethod
    def of(cls, words: Sequence[str], thresholds: Path = THRESHOLDS) -> Self:
        """Return what the words of a command line say, ``key=value``; the file has the thresholds that are not given.

        Raises:
            UserError: a word that is not understood, or a threshold that is none or out of range.
        """
        given: dict[str, Any] = {}
        known = [*KEYS, *(field.name for field in fields(Thresholds))]
        for word in words:
            key, equals, text = word.partition("=")
            if not equals or key not in known:
                raise UserError(
                    f"{word!r} is not understood{near(key, known)}. Write key=value; keys: {', '.join(known)}."
                )
            as_written = key in ("goal", "storage", "trust")
            given[key] = text if as_written else _names(word, text) if key in KEYS else _parsed(word, text)
        numbers = {key: value for key, value in given.items() if key not in KEYS}
        purpose: dict[str, Any] = {key: given[key] for key in ("goal", "scientific") if key in given}
        usual = read_thresholds(thresholds)
        return cls(
            tuple(given.get("study", ())),
            given.get("storage"),
            purpose,
            Thresholds.of({**asdict(usual), **numbers}) if numbers else usual,
            read_trust(given),
        )

    def answer(self, reports: Path) -> str:
        """Write the report, or the comparison, and say what it comes to and where it is.

        Raises:
            UserError: no such study or storage, several that cannot be compared, or a scientific parameter that was
                not searched.
        """
        if self.storage is None:
            found = [find(name) for name in self._names_here()]
        else:
            found = [(study, self.storage) for study in _open_all(self.storage, self.studies)]
        if len(found) == 1:
            return self._one(*found[0], reports)
        from hypermap.reports.study.comparison import compare

        views = [view_of(study, place, trust=self.trust) for study, place in found]
        return compare(views, reports, self.thresholds)

    def _one(self, study: optuna.Study, place: str, reports: Path) -> str:
        if self.purpose:
            known = {name for trial in study.get_trials(deepcopy=False) for name in trial.params}
            for name in self.purpose.get("scientific", ()):
                if name not in known:
                    raise UserError(
                        f"scientific names {name!r}{near(name, known)}, which {study.study_name} did not search. "
                        f"There are: {', '.join(sorted(known)) or 'none'}."
                    )
            study.set_user_attr(PURPOSE, {**study.user_attrs.get(PURPOSE, {}), **self.purpose})
        return report(study, place, reports, self.thresholds, trust=self.trust)

    def _names_here(self) -> list[str]:
        here = sorted(path.parent.name for path in STUDIES.glob(f"*/{WHERE}"))
        there_are = f"There are: {', '.join(here) or 'none yet'}."
        if not self.studies:
            raise UserError(f"Name a study: python src/report.py study=NAME. {there_are}")
        names = []
        for name in self.studies:
            matching = [other for other in here if fnmatchcase(other, name)] if set(name) & set("*?[") else [name]
            if not matching:
                raise UserError(f"No study {name!r} here. {there_are}")
            names += matching
        return list(dict.fromkeys(names))


def report(study: optuna.Study, place: str, reports: Path, thresholds: Thresholds, *, trust: bool = False) -> str:
    """Write the report of a study that is in the storage `place`; returns what it comes to, in a few lines."""
    mask_passwords(study)
    view = view_of(study, place, thresholds.best, reports.parent, trust=trust)
    verdicts = write_report(view, reports, thresholds)
    path = folder_of(view.name, reports) / "report.md"
    lines = [_count(view, verdicts), f"Report: {path} (beside it report.html, to explore)"]
    if (early := early_scores(view)) is not None and early.automatic:
        found = judged(early)
        lines.insert(0, f"Early scores: {found.evidence}. {found.advice}")
    return "\n".join(lines)


def view_of(
    study: optuna.Study, place: str, best: int = Thresholds.best, results: Path | None = None, *, trust: bool = False
) -> StudyData:
    """Return the study as its report sees it, with the trainings that confirm it and the best one's test, if there are
    any.
    """
    storage, name, confirmation = open_storage(place), study.study_name + CONFIRMATION, None
    if name in optuna.get_all_study_names(storage):
        confirmation = optuna.load_study(study_name=name, storage=storage)
        mask_passwords(confirmation)
    return read(study, _near(place), confirmation, best, results, trust=trust)


def _count(view: StudyData, verdicts: Sequence[Verdict]) -> str:
    """Return what is not as it should be, the gravest first."""
    asking = [verdict for level in reversed(LEVELS[1:]) for verdict in verdicts if verdict.level == level]
    lines = [f"{verdict.level}: {verdict.check.replace('_', ' ')} ({verdict.evidence})" for verdict in asking]
    answered = [verdict for verdict in verdicts if is_answered(view, verdict)]
    ok = f"{sum(verdict.level == 'ok' for verdict in answered)} of {len(verdicts)} checks are ok."
    if len(answered) < len(verdicts):
        ok = f"{ok[:-1]}; {len(verdicts) - len(answered)} have nothing to judge."
    return "\n".join([*lines, ok])


def _open_all(place: str, names: Sequence[str]) -> list[optuna.Study]:
    """Return the studies in a storage, by name; where none is named, the only one."""
    if (file := file_of(place)) is not None and not file.exists():
        raise UserError(f"storage={shown(place)}: there is no such file.")
    storage = open_storage(place)
    there = sorted(optuna.get_all_study_names(storage))
    listed = ", ".join(there) or "none"
    if not names and len(there) != 1:
        raise UserError(
            f"storage={shown(place)} holds {len(there)} studies; name one with study=NAME. There are: {listed}."
        )
    for name in names:
        if name not in there:
            raise UserError(f"storage={shown(place)} holds no study {name!r}{near(name, there)}. There are: {listed}.")
    return [optuna.load_study(study_name=name, storage=storage) for name in (names or there)]


def _names(word: str, text: str) -> list[str]:
    """Return one name, or those of a list ``[a,b]``, as they are written: 007 is no number here."""
    if text.startswith("[") != text.endswith("]"):
        raise UserError(f"{word!r} is not understood; a list is written [a,b].")
    listed = text[1:-1] if text.startswith("[") else text
    return [name for each in listed.split(",") if (name := each.strip().strip("\"'"))]


def _parsed(word: str, text: str) -> Any:
    try:
        return OmegaConf.to_container(OmegaConf.create(f"value: {text}"))["value"]  # type: ignore[index, call-overload]
    except yaml.YAMLError:
        raise UserError(f"{word!r} is not understood; it is a number.") from None


def _near(place: str) -> str:
    """Return a storage as a report may show it: without a password, and a file as seen from here."""
    file = file_of(place)
    if file is None:
        return shown(place)
    path = os.path.relpath(file)
    return f"sqlite:///{path}" if "://" in place else path
