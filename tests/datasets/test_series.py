"""Series: windows and their splits in time, frequency, gaps and repeated times, and what is wrong with a file."""

from dataclasses import replace

import numpy as np
import pytest

from hypermap.core.errors import UserError
from hypermap.data.manifest import Manifest
from hypermap.data.preprocessors.series import Head, steps_of
from hypermap.datasets.series import read_rows, series
from support.own_series import hourly, rows_of, write_series

SIZES = {"lookback": 24, "horizon": 6, "test_steps": 48, "validation_steps": 48}


@pytest.fixture
def read(tmp_path):
    def write_and_read(rows, header=("when", "load", "temperature"), **given):
        path = write_series(tmp_path / "series.csv", rows, header)
        return series(str(path), **{"time": header[0], "target": [header[1]], **SIZES, **given})

    return write_and_read


def values_of(raw, part="inputs"):
    rows = getattr(raw, part)
    head = Head.of(rows[0])
    return head, steps_of(rows, head)


def test_windows_are_all_there_and_hold_the_steps_of_the_file(read):
    raw, load = read(rows_of(400)), hourly(400)[:, 0]
    assert [(~raw.validation_rows).sum(), raw.validation_rows.sum(), len(raw.test_inputs)] == [304 - 29, 43, 43]
    for part, targets in (("inputs", raw.targets), ("test_inputs", raw.test_targets)):
        head, steps = values_of(raw, part)
        for row in (0, len(steps) // 2, -1):
            begin = int(getattr(raw, part)[row, 1])
            np.testing.assert_allclose(steps[row, :, 0], load[begin - 24 : begin + 6], rtol=1e-6)
            np.testing.assert_allclose(targets[row, 1:], load[begin : begin + 6], rtol=1e-6)
    assert (head.period, head.seconds, head.months) == (24, 3600, 0)


def test_what_is_forecast_later_is_no_part_of_what_comes_before(read):
    raw = read(rows_of(400), gap=3)
    begin = raw.inputs[:, 1]
    train, held = begin[~raw.validation_rows], begin[raw.validation_rows]
    assert train.max() + 6 + 3 <= held.min()
    assert held.max() + 6 + 3 <= raw.test_inputs[:, 1].min()
    assert raw.test_inputs[:, 1].max() + 6 == 400


def test_other_values_in_the_future_change_no_training_window(read):
    rows = rows_of(400)
    before = read(rows)
    after = read(rows[:304] + [[when, "999", "999"] for when, *_ in rows[304:]])
    kept = ~before.validation_rows
    np.testing.assert_array_equal(before.inputs[kept], after.inputs[kept])
    np.testing.assert_array_equal(before.targets[kept], after.targets[kept])


def test_rows_out_of_order_are_sorted_and_told(read):
    rows = rows_of(400)
    mixed = read([rows[k] for k in np.random.default_rng(0).permutation(400)])
    np.testing.assert_array_equal(mixed.inputs, read(rows).inputs)
    assert any("not in the order of their times" in note for note in mixed.notes)


def test_repeated_times_are_refused_with_what_to_do_unless_they_are_the_same(read):
    rows = rows_of(400)
    assert any("2 rows have the time of another" in note for note in read([*rows, rows[7], rows[9]]).notes)
    with pytest.raises(UserError, match=r"such as 2024-01-01 03:00:00, and other values.*data\.group.*data\.repeated"):
        read([*rows, [rows[3][0], "1", "1"]])
    _, steps = values_of(read([*rows, [rows[3][0], "0", "0"]], repeated="mean"))
    assert steps[0, 3, 0] == pytest.approx(hourly(400)[3, 0] / 2, rel=1e-6)


@pytest.mark.parametrize("gaps", ["previous", "linear", "zero"])
def test_gaps_are_told_and_filled_as_asked(read, gaps):
    rows, load = rows_of(400), hourly(400)[:, 0]
    rows[11][1] = ""
    raw = read(rows[:10] + rows[11:], gaps=gaps)
    assert any("2 of 400 steps are missing" in note for note in raw.notes)
    _, steps = values_of(raw)
    wanted = {"previous": load[9], "zero": 0.0, "linear": load[9] + (load[12] - load[9]) / 3}[gaps]
    assert steps[0, 10, 0] == pytest.approx(wanted, rel=1e-6)
    with pytest.raises(UserError, match=r"are missing, and data\.gaps is refuse"):
        read(rows, gaps="refuse")


def test_times_between_steps_are_refused_unless_rows_are_steps(read):
    rows = rows_of(400)
    rows[50][0] = rows[50][0].replace(":00:00", ":17:00")
    with pytest.raises(UserError, match=r"times are irregular.*data\.gaps=skip"):
        read(rows)
    assert len(read(rows, gaps="skip").test_inputs) == 43


@pytest.mark.parametrize(
    ("times", "step", "period"),
    [
        ([f"{1949 + k // 12}-{k % 12 + 1:02d}" for k in range(300)], "a month", 12),
        ([f"{1 + k % 12}/1/{1949 + k // 12}" for k in range(300)], "a month", 12),
        ([str(np.datetime64("2024-01-01") + k) for k in range(300)], "a day", 7),
        ([str(np.datetime64("2024-01-01T00:00") + 15 * k) for k in range(300)], "15 minutes", 96),
        ([f"2024-01-{1 + k // 24:02d}T{k % 24:02d}:00:00+02:00" for k in range(300)], "an hour", 24),
    ],
)
def test_the_frequency_is_found_and_told(read, times, step, period):
    raw = read([[when, str(k)] for k, when in enumerate(times)], ("when", "load"))
    assert any(f"a step is {step}, and a season {period} of them" in note for note in raw.notes)
    if "+" in times[0]:
        assert any("are taken in UTC" in note for note in raw.notes)


def test_several_series_have_windows_of_their_own(read):
    rows = [[when, load, name] for name in "ab" for when, load, _ in rows_of(300, seed="ab".index(name))]
    raw = read([*rows, ["2024-01-01", "1", "c"]], ("when", "load", "shop"), group="shop")
    assert set(raw.inputs[:, 0]) == {1, 2}
    assert any("1 series are shorter than a window" in note for note in raw.notes)
    begin, own = raw.test_inputs[:, 1].astype(int), raw.test_inputs[:, 0] == 2
    wanted = [hourly(300, 1)[k : k + 6, 0] for k in begin[own]]
    np.testing.assert_allclose(raw.test_targets[own, 1:], wanted, rtol=1e-6)


def test_moving_averages_look_back_alone(read):
    _, steps = values_of(read(rows_of(400), moving_averages=[4]))
    np.testing.assert_allclose(steps[5, 20, 1], hourly(400)[22:26, 0].mean(), rtol=1e-6)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"target": None}, r"data\.target is null: name the columns to forecast.*when, load, temperature"),
        ({"target": ["lode"]}, r"data\.target is 'lode'.*did you mean 'load'"),
        ({"target": ["load"], "past": ["load"]}, "name load twice"),
        ({"lookback": 500}, r"the series has 400 steps, and a window takes 506: data\.lookback=500"),
        ({"lookback": 290, "test_steps": 60}, "292 steps are left to learn from.*a window takes 296"),
        ({"test_steps": 3}, r"data\.test_steps is 3: 3 steps, and a window forecasts 6"),
        ({"horizon": 0}, r"data\.horizon is 0; it is a whole number of steps"),
        ({"gaps": "prevous"}, "did you mean 'previous'"),
        ({"quantiles": [0.1, 0.9]}, "with 0.5 among them"),
        ({"until": "soon"}, r"data\.until is 'soon'"),
        ({"calendar": ["moon"]}, "it takes hour, day, week, year"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(read, given, told):
    with pytest.raises(UserError, match=told):
        read(rows_of(400), **given)


def test_a_cell_that_is_no_number_and_a_time_that_is_none_are_named(read):
    rows = rows_of(400)
    rows[4][1] = "broken"
    with pytest.raises(UserError, match="column 'load' has 'broken' in row 5"):
        read(rows)
    rows = rows_of(400)
    rows[4][0] = "yesterday"
    with pytest.raises(UserError, match="has 'yesterday' in row 5, which is no time"):
        read(rows)


def test_a_forecast_begins_after_the_last_value_with_what_is_known_ahead(tmp_path):
    lines = [[when, load, hot, "b"] for when, load, hot in rows_of(100)]
    lines += [[f"2024-01-05 {4 + k:02d}:00:00", "", str(k), "b"] for k in range(6)]
    header = ("when", "load", "temperature", "shop")
    path = write_series(tmp_path / "now.csv", [*lines, *[[*line[:3], "a"] for line in lines]], header)
    arguments = {"time": "when", "target": ["load"], "known": ["temperature"], "group": "shop"}
    target = {"lookback": 24, "horizon": 6, "period": 24, "step": [0, 3600]}
    manifest = Manifest(task="forecast", classes=(), shape=(), arguments=arguments, target=target)
    first, second = read_rows([path], manifest)
    assert (first.columns["series"], second.columns["series"]) == (["a"], ["b"])
    assert second.columns["time"] == [[f"2024-01-05 {4 + k:02d}:00:00" for k in range(6)]]
    (steps,) = steps_of(second.inputs, Head.of(second.inputs[0]))
    np.testing.assert_allclose(steps[:24], hourly(100)[76:], rtol=1e-6)
    np.testing.assert_array_equal(steps[24:, 1], np.arange(6))
    assert np.isnan(steps[24:, 0]).all()
    write_series(path, lines[:103], header)
    with pytest.raises(UserError, match="temperature must be given for all 6 steps to come, and 3 rows follow"):
        list(read_rows([path], manifest))
    daily = replace(manifest, target={**target, "step": [0, 86400]})
    with pytest.raises(UserError, match="a step is an hour, and in training it was a day"):
        list(read_rows([path], daily))
