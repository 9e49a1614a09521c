"""Pictures of the search space: small PNGs, the same for the same study, and none where there is nothing to draw."""

import io
import math
from dataclasses import replace

import optuna
import pytest
import torch
from matplotlib.figure import Figure
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial
from PIL import Image

from hypermap.reports.run.pictures import LIMIT
from hypermap.reports.study import space_pictures
from hypermap.reports.study.importance import Importances, importances
from hypermap.reports.study.isolation import isolate
from hypermap.reports.study.reading import read
from hypermap.reports.study.space_checks import edge
from hypermap.reports.study.ticks import beside, clipped, mark, plain, tail, ticks, wrapped
from hypermap.reports.study.verdict import Thresholds
from hypermap.reports.study.view import Parameter
from hypermap.search.scales import mapping

SPACE = {
    "optimizer.lr": FloatDistribution(1e-5, 1, log=True),
    "layers": IntDistribution(1, 6),
    "act": CategoricalDistribution(("relu", "gelu", None)),
}
USUAL = Thresholds()
PICTURES = ("importance", "slices", "contour", "isolation", "parallel_coordinates")


def params(k, names=tuple(SPACE)):
    steps = (0.8191725134, 0.6710436067, 0.5497004779)
    first, second, third = ((k + 1) * step % 1 for step in steps)
    values = (10 ** (5 * first - 5), 1 + int(6 * second), ("relu", "gelu", None)[int(3 * third)])
    return {name: value for name, value in zip(SPACE, values, strict=True) if name in names}


def trial(k, value=None, state=TrialState.COMPLETE, names=tuple(SPACE), reports=None):
    score = (math.log10(params(k)["optimizer.lr"]) + 3) ** 2 if value is None else value
    return create_trial(
        state=state,
        params=params(k, names),
        distributions={name: SPACE[name] for name in names},
        value=score if state == TrialState.COMPLETE else None,
        intermediate_values=reports or {},
    )


def view(trials, directions=("minimize",)):
    study = optuna.create_study(directions=list(directions))
    study.add_trials(trials)
    return read(study)


def shares(seen):
    """Importances as they may be, without the time that finding them takes."""
    names = [axis.name for axis in seen.axes]
    each = dict.fromkeys(names, 1 / max(len(names), 1))
    pair = (names[0], names[1]) if len(names) > 1 else None
    return Importances("fANOVA", each, dict.fromkeys(names, 0.0), each, len(seen.trials), pair=pair)


def drawn(seen):
    found = shares(seen)
    return {
        "importance": space_pictures.importance(seen, found),
        "slices": space_pictures.slices(seen, found, USUAL),
        "contour": space_pictures.contour(seen, found),
        "isolation": space_pictures.isolation(seen, [isolate(seen, axis, 0.01) for axis in seen.axes]),
        "parallel_coordinates": space_pictures.parallel_coordinates(seen, found, USUAL),
    }


def check(content):
    """A PNG that fits into Git, wide enough to read."""
    assert content is not None
    assert len(content) < LIMIT
    with Image.open(io.BytesIO(content)) as image:
        assert image.format == "PNG"
        assert image.width > 700


FAILED, PRUNED = TrialState.FAIL, TrialState.PRUNED
ORDINARY = [
    *(trial(k) for k in range(24)),
    *(trial(k, state=PRUNED, reports={1: 4.0, 2: 3.0}) for k in range(24, 34)),
    *(trial(k, state=FAILED) for k in range(34, 40)),
]


def test_an_ordinary_study_has_every_picture_and_each_is_small_and_always_the_same():
    first, again = drawn(view(ORDINARY)), drawn(view(ORDINARY))
    for content in first.values():
        check(content)
    assert first == again


def test_pictures_are_drawn_from_what_was_really_found():
    seen = view(ORDINARY[:8])
    found = importances(seen, USUAL)
    assert found is not None
    check(space_pictures.importance(seen, found))
    check(space_pictures.contour(seen, found))


def test_failures_are_in_the_slices():
    without = [one for one in ORDINARY[20:] if one.state != FAILED]
    assert space_pictures.slices(view(ORDINARY[20:]), None, USUAL) != space_pictures.slices(view(without), None, USUAL)


@pytest.mark.parametrize(
    ("distribution", "kind", "values", "scores", "stars", "zone", "level"),
    [
        (FloatDistribution(0, 10), None, (1.0, 5.0, 9.8), (0.3, 0.2, 0.1), [0.98], 0.95, "act"),
        (FloatDistribution(0, 10), None, (1.0, 5.0, 9.8), (0.3, 0.1, 0.1), [0.5, 0.98], 0.95, "ok"),
        (CategoricalDistribution((1, 2, 4, 8)), None, (1, 4, 8), (0.3, 0.2, 0.1), [1.0], 1 - 0.5 / 4, "act"),
        (IntDistribution(1, 2**20, log=True), "pow2", (1, 2**19, 2**20), (0.3, 0.1, 0.2), [0.95], 1 - 0.25 / 20, "ok"),
        (CategoricalDistribution(("a", "b")), None, ("a", "b", "b"), (0.3, 0.1, 0.2), [1.0], None, "ok"),
    ],
    ids=["a range", "a tie", "listed numbers", "powers of two", "names"],
)
def test_the_best_lies_in_the_shaded_zone_just_where_the_report_says_so(
    distribution, kind, values, scores, stars, zone, level
):
    study = optuna.create_study()
    for value, score in zip(values, scores, strict=True):
        study.add_trial(create_trial(params={"x": value}, distributions={"x": distribution}, value=score))
    bijection = mapping(kind, distribution.low, distribution.high) if kind else None
    axis = Parameter("x", "x", distribution, bijection=bijection)
    seen = replace(read(study), axes=(axis,))
    panel = Figure().subplots()
    mark(panel, axis, USUAL.edge)
    space_pictures._draw_slice(panel, seen, axis, seen.trials, (0.1, 0.3))
    handles = dict(zip(*reversed(panel.get_legend_handles_labels()), strict=True))
    best = sorted(float(x) for x, _ in handles["best"].get_offsets())
    assert best == pytest.approx(stars, abs=0.04)  # choices are drawn beside one another
    zones = [patch.get_x() for patch in panel.patches]
    assert zones[1:] == ([pytest.approx(zone)] if zone else [])
    assert edge(seen, USUAL).level == level


def test_a_conditional_parameter_is_drawn_from_the_trials_that_have_it():
    trials = [trial(k, names=("optimizer.lr",) if k % 2 else ("layers",)) for k in range(20)]
    seen = view(trials)
    assert space_pictures.contour(seen, shares(seen)) is None  # no trial has both
    check(space_pictures.slices(seen, None, USUAL))
    check(space_pictures.parallel_coordinates(seen, None, USUAL))


def test_a_thousand_trials_of_many_parameters_stay_small_in_full_size():
    space = {f"module.parameter_{k}": FloatDistribution(0, 1) for k in range(13)}
    trials = []
    for n in range(1000):
        values = {name: (n * (k + 1) * 0.6180339887) % 1 for k, name in enumerate(space)}
        trials.append(create_trial(params=values, distributions=space, value=sum(values.values()) % 1))
    seen = view(trials)
    check(space_pictures.slices(seen, None, USUAL))
    check(space_pictures.contour(seen, shares(seen)))
    check(space_pictures.parallel_coordinates(seen, None, USUAL))


@pytest.mark.parametrize(
    ("trials", "missing"),
    [
        ([], PICTURES),
        ([trial(0)], ("contour",)),
        ([trial(k, state=FAILED) for k in range(5)], ("contour", "isolation", "parallel_coordinates")),
        ([trial(k, state=PRUNED) for k in range(5)], ("slices", "contour", "isolation", "parallel_coordinates")),
        ([trial(k, state=PRUNED, reports={1: k / 10}) for k in range(5)], ("contour",)),
        ([trial(k, value=0.5) for k in range(5)], ()),
        ([trial(1, value=k / 10) for k in range(5)], ()),
        ([trial(k, value=[1.0, math.inf, 1e308, -1e308, 0.0][k]) for k in range(5)], ()),
        ([trial(k, names=("optimizer.lr",)) for k in range(5)], ("contour",)),
        ([create_trial(params={}, distributions={}, value=0.5) for _ in range(5)], PICTURES),
        ([trial(0, state=TrialState.RUNNING)], ("slices", "contour", "isolation", "parallel_coordinates")),
    ],
    ids=["none", "one", "failed", "no reports", "pruned", "constant", "one place", "huge", "one parameter",
         "no parameter", "running"],
)  # fmt: skip
def test_a_picture_is_none_where_there_is_nothing_to_draw(trials, missing):
    for name, content in drawn(view(trials)).items():
        if name in missing:
            assert content is None, name
        else:
            check(content)


def test_what_was_pruned_looks_otherwise_than_what_came_to_its_end():
    complete = view([trial(k, value=k / 10) for k in range(10)])
    half = view(
        [
            *(trial(k, value=k / 10) for k in range(5)),
            *(trial(k, None, PRUNED, reports={1: k / 10}) for k in range(5, 10)),
        ]
    )
    assert [half.score(one) for one in half.trials] == [complete.score(one) for one in complete.trials]
    none = view([trial(k, None, PRUNED, reports={1: k / 10}) for k in range(10)])
    whole = drawn(complete)
    for seen, names in ((half, ("slices", "contour", "parallel_coordinates")), (none, ("slices", "isolation"))):
        found = drawn(seen)
        for name in names:
            check(found[name])
            assert found[name] != whole[name], name


def test_hundreds_of_pruned_trials_stay_small():
    trials = [trial(k) if k % 40 == 0 else trial(k, state=PRUNED, reports={1: k / 10}) for k in range(400)]
    for content in drawn(view(trials)).values():
        check(content)


def test_several_objectives_are_drawn_by_the_first():
    trials = [create_trial(params=params(k), distributions=SPACE, values=[k / 10, -k]) for k in range(10)]
    seen = view(trials, ("maximize", "minimize"))
    check(space_pictures.slices(seen, None, USUAL))
    check(space_pictures.contour(seen, shares(seen)))


def test_every_scale_is_drawn():
    """As sweeps of this project leave them: the bijections are in the study's record."""
    axes = {
        "momentum": FloatDistribution(0.5, 0.99),
        "batch": IntDistribution(16, 256),
        "dropout": FloatDistribution(0.01, 0.9),
        "shift": FloatDistribution(-100, 100),
    }
    names = dict(zip(axes, ("one_minus_log", "pow2", "logit", "symlog"), strict=True))
    study = optuna.create_study()
    study.set_user_attr(
        "hypermap",
        {"identity": {"space": {name: {"mapping": kind, "key": name} for name, kind in names.items()}}},
    )
    for k in range(12):
        share = (k * 0.6180339887) % 1
        values = {n: d.low + share * (d.high - d.low) for n, d in axes.items()} | {"batch": 16 + 20 * k}
        study.add_trial(create_trial(params=values, distributions=axes, value=share))
    check(space_pictures.slices(read(study), None, USUAL))
    check(space_pictures.parallel_coordinates(read(study), None, USUAL))


@pytest.mark.parametrize(
    ("distribution", "kind", "labels"),
    [
        (FloatDistribution(1e-5, 1, log=True), None, ["1e-5", "0.0001", "0.001", "0.01", "0.1", "1"]),
        (FloatDistribution(0, 0.5), None, ["0", "0.2", "0.4"]),
        (IntDistribution(16, 256), "pow2", ["16", "32", "64", "128", "256"]),
        (FloatDistribution(0.9, 0.999), "one_minus_log", ["0.9", "0.95", "0.98", "0.99", "0.995", "0.998", "0.999"]),
        (CategoricalDistribution(("adam", None, 3)), None, ["adam", "null", "3"]),
        (FloatDistribution(2, 2), None, ["2"]),
    ],
)
def test_ticks_are_round_natural_values_on_the_scale_of_the_search(distribution, kind, labels):
    bijection = mapping(kind, distribution.low, distribution.high) if kind else None
    axis = Parameter("x", "x", distribution, bijection=bijection)
    found = ticks(axis, 0.15)
    assert [label for _, label in found] == labels
    if axis.choices is None:
        assert [at for at, _ in found] == pytest.approx([axis.unit(float(label)) for label in labels])


def test_the_ends_of_a_range_are_written_where_they_are_asked_for():
    axis = Parameter("x", "x", FloatDistribution(0.03, 0.97))
    assert [label for _, label in ticks(axis, 0.2, ends=True)][::4] == ["0.03", "0.97"]


def test_names_and_numbers_are_written_short():
    assert [plain(value) for value in (1e-5, 0.001, 1e-12, 3e7, 0.25)] == ["1e-5", "0.001", "1e-12", "3e7", "0.25"]
    assert wrapped("optimizer.sgd.weight_decay") == "optimizer.\nsgd.weight_\ndecay"
    assert tail("model.encoder.width", 7) == "…width"
    assert clipped("a long choice 12", 9) == "a lo…e 12"
    assert (tail("lr", 8), wrapped("lr"), clipped("lr", 9)) == ("lr", "lr", "lr")


def test_ranges_are_broken_into_lines_where_they_would_overlap():
    ranges = ["0 to 0.25", "0.25 to 1"]
    assert beside(ranges, 20) == (ranges, True)
    assert beside(ranges, 14) == (["0\nto 0.25", "0.25\nto 1"], True)
    assert beside(ranges, 8) == (["0\nto\n0.25", "0.25\nto\n1"], True)
    assert beside(ranges, 7) == (ranges, False)


def test_many_trials_at_a_lower_end_are_drawn_where_training_flushes_denormals():
    space = {"x": FloatDistribution(0, 1), "y": FloatDistribution(0, 1)}
    made = [
        create_trial(params={"x": max(0, k - 12) / 8, "y": k * 0.37 % 1}, distributions=space, value=float(k))
        for k in range(20)
    ]
    seen = view(made)
    torch.set_flush_denormal(True)
    try:
        check(space_pictures.contour(seen, shares(seen)))
    finally:
        torch.set_flush_denormal(False)


def test_noise_as_large_as_a_float_can_be_is_drawn():
    seen = view([trial(k, value=1e300 * (1 + k)) for k in range(12)])
    check(space_pictures.isolation(seen, [isolate(seen, axis, 1e308) for axis in seen.axes]))
