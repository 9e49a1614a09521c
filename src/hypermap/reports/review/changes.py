"""What changed between two states of the project, as Markdown for a pull request; nothing here runs Git or DVC."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from hypermap.reports.review.metric_diff import (
    EVALUATE,
    PREPROCESS,
    Differences,
    MetricDiff,
    MetricDiffs,
    Side,
    is_number,
    read_json,
    stem,
)
from hypermap.reports.run import wording
from hypermap.reports.run.render import render

MARKER = "<!-- hypermap review -->"
"""First line of every review, hidden where Markdown is rendered; by it a comment is found again."""

STUDIES = "reports/studies/"
PARAMETERS = ("params.yaml", PREPROCESS, "reports/config/train.yaml", EVALUATE)
"""The order, and the slices of the configuration that follow from it and from the menu."""

SEQUENTIAL = ("epoch", "step")
PICTURES = (".png", ".svg", ".jpg", ".jpeg")
LONGEST = 60  # lines of a table; a comment on GitHub holds 65,536 characters
WIDEST = 300  # characters of a value
ABSENT = "–"


@dataclass(frozen=True)
class Changes:
    """All that a review tells.

    Attributes:
        params: what ``dvc params diff --json`` prints, for the files in `PARAMETERS`.
        metrics: what ``dvc metrics diff --json --all`` prints.
        plots: what ``dvc plots diff --json --split`` prints.
        status: what ``dvc status --json`` prints.
        files: the letter that Git gives to each changed file of ``reports/``: ``A``, ``M`` or ``D``.
        studies: the names of all studies that have a report now, changed or not.
    """

    before: Side
    now: Side
    params: Differences = field(default_factory=dict)
    metrics: Differences = field(default_factory=dict)
    plots: Mapping[str, Any] = field(default_factory=dict)
    status: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    studies: Sequence[str] = ()


def review(changes: Changes) -> str:
    """Return the review in Markdown, without HTML but for the `MARKER`; a single line says so where nothing changed."""
    metrics = MetricDiffs(changes.before, changes.now, changes.metrics, changes.params)
    text = render(
        "review/templates/review.md.jinja",
        marker=MARKER,
        before=changes.before.name,
        headline=_headline(metrics),
        stale=[_code(name) for name in _stale(changes.status)],
        **_parameters(changes.params),
        **_metrics(metrics),
        retraining=_retraining(changes),
        **_plots(changes),
        studies=_studies(changes),
    )
    return f"{text}\n"


def _headline(metrics: MetricDiffs) -> str:
    metric = metrics.leading
    if metric is None or metric.change is None:
        return "**No metric that both sides have.**"
    name = wording.words(metric.name.replace("_", " "))
    if metric.change == 0:
        return f"**{name[0].upper()}{name[1:]} {_number(metric, metric.now)}, as it was.**"
    moved = f"{_number(metric, metric.before)} → {_number(metric, metric.now)} ({_signed(metric)})"
    return f"**{name[0].upper()}{name[1:]} {moved}{_conclusion(metrics, metric)}**"


def _conclusion(metrics: MetricDiffs, metric: MetricDiff) -> str:
    direction = "better" if metric.is_better else "worse"
    if not metrics.is_comparable(metric.name):
        return ": not comparable, see below."
    if metric.margin is None:
        return f": {direction}, by what noise is not known."
    noise = f"the noise of ±{metric.margin:.2g}"
    return (
        f", beyond {noise}: {direction}."
        if metric.is_beyond
        else f", within {noise}: no evidence that it is {direction}."
    )


def _stale(status: Mapping[str, Any]) -> list[str]:
    """Return what a stage depends on and was changed after the stage ran; files that are only absent say nothing."""
    entries = [entry for of_stage in status.values() if isinstance(of_stage, list) for entry in of_stage]
    changed = [entry.get("changed deps") or {} for entry in entries if isinstance(entry, dict)]
    return sorted({name for deps in changed for name, how in deps.items() if how == "modified"})


def _parameters(params: Differences) -> dict[str, Any]:
    """Return a table of the order's, and then of what only the resolved configuration tells."""
    lines: dict[str, tuple[str, str, str, str]] = {}
    for path in sorted(params, key=lambda path: (path != PARAMETERS[0], path)):
        for key, pair in sorted(params[path].items()):
            where = "" if path == PARAMETERS[0] else "menu"
            lines.setdefault(key, (_code(key), _value(pair.get("old")), _value(pair.get("new")), where))
    ordered = any(path == PARAMETERS[0] for path in params)
    from_menu = ordered and any(where for *_, where in lines.values())
    header = ("parameter", "base", "now", "from") if from_menu else ("parameter", "base", "now")
    rows = [line[: len(header)] for line in lines.values()]
    return {"parameters": _table(header, rows) if rows else "", "from_menu": from_menu}


def _metrics(metrics: MetricDiffs) -> dict[str, Any]:
    """Return the metrics that changed, and what has to be said of their noise."""
    changed = [metric for metric in metrics.all if metric.change != 0 and metric.before != metric.now]
    return {
        "metrics": metrics,
        "changed": changed,
        "metrics_table": _metrics_table,
        "other_rows": [_code(name) for name in metrics.other_rows],
        "all_comparable": all(metrics.is_comparable(metric.name) for metric in changed),
        "noisy": any(metric.margin is not None for metric in changed),
        "of_several": any(metrics.fits(metric.name)[1] is not None for metric in changed),
    }


def _metrics_table(metrics: MetricDiffs, changed: Sequence[MetricDiff]) -> str:
    lines = [
        (
            wording.words(metric.name),
            _number(metric, metric.before),
            _number(metric, metric.now),
            _signed(metric),
            ABSENT if metric.margin is None else f"±{metric.margin:.2g}",
            _verdict(metrics, metric),
        )
        for metric in changed
    ]
    return _table(("metric", "base", "now", "change", "noise", "verdict"), lines)


def _verdict(metrics: MetricDiffs, metric: MetricDiff) -> str:
    if metric.change is None:
        return "new" if metric.before is None else "gone" if metric.now is None else ""
    if not metrics.is_comparable(metric.name):
        return "not comparable"
    if metric.is_better is None:
        return ""
    direction = "better" if metric.is_better else "worse"
    if metric.is_beyond is None:
        return f"{direction}, noise not known"
    return f"**{direction}, beyond the noise**" if metric.is_beyond else f"{direction}, within the noise"


def _retraining(changes: Changes) -> list[str]:
    """Return what the studies' confirmations say of the noise of training again."""
    spread = []
    for name in changes.studies:
        entries = _dicts(_record(changes.now, name).get("confirmed"))
        spreads = [f"±{e['sd']:.2g} ({_confirmed_by(e)})" for e in entries if is_number(e.get("sd"))]
        spread += [f"{_code(name)} {', '.join(spreads[:3])}"] if spreads else []
    return spread


def _confirmed_by(entry: Mapping[str, Any]) -> str:
    return f"{wording.words(entry.get('label', 'a configuration'))}, {wording.words(entry.get('n', '?'))} seeds"


def _plots(changes: Changes) -> dict[str, Any]:
    """Return the ends of the curves over epochs, the names of other plots that changed, and the changed pictures."""
    ends, others = [], []
    for title, entries in sorted((changes.plots.get("data") or {}).items()):
        for name, x, before, now in _series(title, entries):
            if before == now:
                continue
            if x in SEQUENTIAL:
                ends.append((name, _end(x, before), _end(x, now)))
            else:
                others.append(name)
    pictures = [path for path in sorted(changes.files) if path.endswith(PICTURES) and not path.startswith(STUDIES)]
    return {
        "plots": bool(ends or others or pictures),
        "ends": _table(("at its end", "base", "now"), ends) if ends else "",
        "other_plots": sorted(set(others)),
        "pictures": [_both(changes, path) for path in pictures],
    }


Points = list[tuple[Any, Any]]


def _series(title: str, entries: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str, Points, Points]]:
    """Yield each curve of a plot: its name, that of its x, and its points at the base and now."""
    for entry in entries:
        definitions = entry.get("anchor_definitions") or {}
        x, y = (str(definitions.get(f"<DVC_METRIC_{axis}_LABEL>", "")) for axis in "XY")
        curves: dict[str, tuple[Points, Points]] = {}
        for row in definitions.get("<DVC_METRIC_DATA>") or ():
            name = wording.words(f"{title}: {row['field']}" if "field" in row else title)
            sides = curves.setdefault(name, ([], []))
            sides[row.get("rev") == "workspace"].append((row.get(x), row.get("dvc_inferred_y_value", row.get(y))))
        yield from ((name, x, *sides) for name, sides in curves.items())


def _end(x: str, points: Points) -> str:
    if not points:
        return ABSENT
    try:
        return f"{wording.significant(float(points[-1][1]))} ({x} {wording.words(points[-1][0])})"
    except (TypeError, ValueError):
        return wording.words(f"{points[-1][1]} ({x} {points[-1][0]})")


def _both(changes: Changes, path: str) -> str:
    """Return a changed file by its name, with links to both of its versions where they can be linked to."""
    letter, name = changes.files[path], PurePosixPath(path).stem
    known = [{"A": "new", "D": "removed"}.get(letter)]
    known += [_link(changes.before, "base", path)] if letter != "A" and changes.before.address is not None else []
    notes = "; ".join(note for note in known if note)
    return f"{wording.words(name) if letter == 'D' else _link(changes.now, name, path)}{f' ({notes})' if notes else ''}"


def _studies(changes: Changes) -> str:
    inside = [path.removeprefix(STUDIES) for path in changes.files if path.startswith(STUDIES)]
    names = sorted({path.partition("/")[0] for path in inside if "/" in path})
    lines = [line for name in names for line in _study(changes, name)]
    return "\n\n".join(["\n".join(lines[:LONGEST]), *_rest(lines)])


def _study(changes: Changes, name: str) -> Iterator[str]:
    """Yield a line of a changed study, and one for each of its verdicts that asks for an act."""
    paths = {path: letter for path, letter in changes.files.items() if path.startswith(f"{STUDIES}{name}/")}
    if set(paths.values()) == {"D"} and not _shown(changes.now, name):
        yield f"- **{_code(name)}**: removed."
        return
    before, now = (_record(side, name) for side in (changes.before, changes.now))
    new = " (new)" if set(paths.values()) == {"A"} else ""
    facts = [fact for fact in (_best(before, now), _trials(now), _verdicts(now)) if fact]
    shown = _shown(changes.now, name)
    link = f" {_link(changes.now, PurePosixPath(shown).name, shown)}" if shown else ""
    yield f"- **{_code(name)}**{new}: {'; '.join(facts) or 'changed'}.{link}"
    for verdict in _dicts(now.get("verdicts")):
        if verdict.get("level") == "act":
            command = f" {_code(str(verdict['command']))}" if verdict.get("command") else ""
            text = ". ".join(
                wording.words(verdict[key]).rstrip(".") for key in ("figure", "advice") if verdict.get(key)
            )
            yield f"  - act, {wording.words(verdict.get('check', '?'))}: {text}.{command}"
    for entry in _dicts(now.get("confirmed")):
        if is_number(entry.get("mean")) and is_number(entry.get("sd")):
            yield f"  - trained again: {entry['mean']:.4g} ±{entry['sd']:.2g} ({_confirmed_by(entry)})"


def _best(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return what was searched for, and the best of it."""
    names, old_names = _names(now, "objectives"), _names(before, "objectives")
    text = _listed(" ".join(pair) for pair in zip(_names(now, "directions"), names, strict=False))
    value, old = (
        record["best"].get("value") if isinstance(record.get("best"), dict) else None for record in (now, before)
    )
    if not names or not is_number(value):
        return wording.words(text)
    earlier = f"{_score(names[0], old)} → " if is_number(old) and old != value and names == old_names else ""
    trial = f" (trial {wording.words(now['best']['trial'])})" if "trial" in now["best"] else ""
    return f"{wording.words(text or names[0])}, best {earlier}{_score(names[0], value)}{trial}"


def _score(name: str, value: float) -> str:
    """Return a score as a metric is written, unless that would hide it."""
    return wording.metric(name, value) if value == 0 or abs(value) >= 1e-3 else f"{value:.4g}"


def _trials(now: Mapping[str, Any]) -> str:
    trials = now.get("trials")
    counts = {how: n for how, n in trials.items() if is_number(n) and n} if isinstance(trials, dict) else {}
    return (
        f"{sum(counts.values())} trials: {_listed(f'{n} {wording.words(how)}' for how, n in counts.items())}"
        if counts
        else ""
    )


def _verdicts(now: Mapping[str, Any]) -> str:
    levels = [verdict.get("level") for verdict in _dicts(now.get("verdicts"))]
    return _listed(f"{levels.count(level)} {level}" for level in ("act", "look", "ok")) if levels else ""


def _names(record: Mapping[str, Any], key: str) -> list[str]:
    """Return the words of a list in a study's file."""
    return [str(name) for name in record[key]] if isinstance(record.get(key), list) else []


def _shown(side: Side, name: str) -> str | None:
    """Return what one opens to see a study; a comparison of studies may have a table alone."""
    paths = [f"{STUDIES}{name}/{file}" for file in ("report.md", "comparison.png", "comparison.csv", "study.json")]
    return next((path for path in paths if side.read(path) is not None), None)


def _record(side: Side, name: str) -> Mapping[str, Any]:
    return read_json(side, f"{STUDIES}{name}/study.json")


def _number(metric: MetricDiff, value: Any) -> str:
    if not is_number(value):
        return ABSENT if value is None else wording.words(value)
    return str(value) if isinstance(value, int) else wording.metric(stem(metric.name), value)


def _signed(metric: MetricDiff) -> str:
    """Return the change with its sign, and with one digit at least."""
    if metric.change is None:
        return ABSENT
    size = _number(metric, abs(metric.change))
    return f"{'-' if metric.change < 0 else '+'}{size if size.strip('0.') else f'{abs(metric.change):.1g}'}"


def _dicts(values: Any) -> list[dict[str, Any]]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def _value(value: Any) -> str:
    return ABSENT if value is None else _code(wording.value(value))


def _code(text: str) -> str:
    text = wording.line(text)
    return wording.code(text if len(text) <= WIDEST else text[:WIDEST] + "…")


def _link(side: Side, text: str, path: str) -> str:
    text = wording.words(text)
    return text if side.address is None else f"[{text}]({side.address}{quote(path)})"


def _listed(texts: Iterable[str]) -> str:
    return ", ".join(texts)


def _table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n\n".join([wording.table(header, lines[:LONGEST]), *_rest(lines)])


def _rest(lines: Sequence[Any]) -> list[str]:
    return [f"… and {len(lines) - LONGEST} lines more."] if len(lines) > LONGEST else []
