"""Recordings of one's own, beside what was written into them, and files that are none."""

import csv
import sys

import numpy as np
import pytest
import soundfile

from hypermap.core.errors import UserError
from hypermap.data.manifest import Manifest
from hypermap.data.prepared import load_raw
from hypermap.datasets.audio import audio, fingerprint, read_rows
from hypermap.datasets.prepare import prepare_settings
from support.contracts import ReaderContract
from support.own_audio import RATE, SPEAKERS, tone, write_recordings

PATTERN = "{label}_{speaker}_{number}"


@pytest.fixture
def folder(tmp_path):
    return write_recordings(tmp_path / "set")


def read(folder, **arguments):
    return audio(str(folder), **{"pattern": PATTERN, "rate": RATE, **arguments})


def sounds(raw):
    return [np.trim_zeros(row, "b") / 32767 for row in raw.inputs]


class TestRecordings(ReaderContract):
    target = "hypermap.datasets.audio.audio"

    def settings(self, folder):
        write_recordings(folder)
        return {"path": str(folder), "pattern": PATTERN, "rate": RATE, "test": 0.25}


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_names_say_class_and_speaker(tmp_path, suffix):
    raw = read(write_recordings(tmp_path, 2, suffix=suffix), group="speaker")
    files = sorted(tmp_path.iterdir())
    assert raw.classes == ("down", "up")
    assert [raw.classes[k] for k in raw.targets] == [file.name.split("_")[0] for file in files]
    assert [SPEAKERS[k] for k in raw.groups] == [file.name.split("_")[1] for file in files]
    for row, file in zip(sounds(raw), files, strict=True):
        np.testing.assert_allclose(row, soundfile.read(file)[0][: len(row)], atol=1e-4)


def test_folders_and_a_list_give_the_same(folder, tmp_path):
    for file in folder.iterdir():
        label, speaker, number = file.stem.split("_")
        place = tmp_path / f"tree/{label}/{speaker}/{number}.wav"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.read_bytes())
    names = sorted(folder.iterdir())
    with (tmp_path / "list.csv").open("w", newline="") as file:
        parts = [path.stem.split("_") for path in names]
        rows = [[f"set/{path.name}", own[1], own[0]] for path, own in zip(names, parts, strict=True)]
        csv.writer(file).writerows([["file", "speaker", "digit"], *rows])
    wanted = read(folder, group="speaker")
    listed = audio(str(tmp_path / "list.csv"), rate=RATE, group="speaker")
    tree = audio(str(tmp_path / "tree"), rate=RATE)
    deep = read(tmp_path / "tree", pattern="{label}/{speaker}/{number}", group="speaker")
    for one in (listed, tree, deep):
        assert one.classes == ("down", "up")
        assert one.targets.sum() == wanted.targets.sum() == 24
    np.testing.assert_array_equal(listed.inputs, wanted.inputs)
    np.testing.assert_array_equal(listed.groups, wanted.groups)
    assert sorted(row.tobytes() for row in deep.inputs) == sorted(row.tobytes() for row in wanted.inputs)
    assert np.unique(deep.groups).size == 4
    by_speaker = audio(str(tmp_path / "list.csv"), rate=RATE, target="speaker")
    assert by_speaker.classes == SPEAKERS


def test_rates_are_mixed_and_channels_joined(tmp_path):
    """A sine of 440 Hz stays one, whatever the rate of its file."""
    for label, rate in (("a", 44_100), ("b", 8000)):
        (tmp_path / label).mkdir()
        wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
        for k, channels in enumerate(([wave, wave], [wave, 0 * wave])):
            soundfile.write(tmp_path / label / f"{k}.wav", np.stack(channels, 1), rate, subtype="PCM_24")
    raw = audio(str(tmp_path), rate=16_000)
    wanted = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    for row, loud in zip(raw.inputs / 32767, (1, 0.5, 1, 0.5), strict=True):
        np.testing.assert_allclose(row[200:-200], loud * wanted[200:-200], atol=2e-3)
    assert "4 recordings have several channels, whose mean is taken." in raw.notes
    assert "resampled to data.rate=16000: 2 at 44,100 Hz, 2 at 8,000 Hz." in " ".join(raw.notes)


def test_parts_of_the_names_choose_test_and_validation_rows(folder):
    raw = read(folder, test_where={"number": [0, 1]}, validation_where={"speaker": "bo", "label": ["up", "down"]})
    assert len(raw.test_targets) == 16
    assert len(raw.targets) == 32
    assert raw.validation_rows.sum() == 8  # of the others
    with pytest.raises(UserError, match=r"data.test_where: no recording of .* has number=9; there are: '0', '1'"):
        read(folder, test_where={"number": [0, 9]})
    with pytest.raises(UserError, match=r"data.test_where is 'nobody'; .* has no such part"):
        read(folder, test_where={"nobody": 1})
    with pytest.raises(UserError, match=r"data.validation_where chooses no recording that is not test"):
        read(folder, test_where={"speaker": "bo"}, validation_where={"speaker": "bo", "number": 1})
    with pytest.raises(UserError, match=r"data.test_where chooses every recording"):
        read(folder, test_where={"label": ["up", "down"]})


def test_no_speaker_is_in_two_splits_nor_in_a_statistic_of_training(folder, tmp_path):
    """Others' recordings are made louder, longer and of noise: what was fitted stays as it was."""
    settings = {
        "_target_": "hypermap.datasets.audio.audio", "path": str(folder), "pattern": PATTERN, "rate": RATE,
        "group": "speaker", "test": 0.25, "validation": 0.3, "loudness": True,
    }  # fmt: skip
    before = prepare_settings(tmp_path / "before", settings)
    everyone = read(folder, group="speaker").groups
    splits = {
        name: {*everyone[load_raw(tmp_path / "before", name).rows.numpy()].tolist()}
        for name in ("train", "validation", "test")
    }
    assert sum(map(len, splits.values())) == len(set().union(*splits.values())) == 4
    for file in folder.iterdir():
        if SPEAKERS.index(file.stem.split("_")[1]) not in splits["train"]:
            soundfile.write(file, np.random.default_rng(0).uniform(-1, 1, 2 * RATE), RATE)
    after = prepare_settings(tmp_path / "after", settings)
    assert after.fingerprint != before.fingerprint
    for name in ("shape", "shift", "scale", "extras"):
        assert getattr(after, name) == getattr(before, name), name


def test_leaks_are_told(folder):
    assert "on both sides of a split, so that scores are for those" in " ".join(read(folder).notes)
    assert "data.group=speaker (there are 4)" in " ".join(read(folder).notes)
    assert "so that validation scores are for" in " ".join(read(folder, test_where={"speaker": "bo"}).notes)
    assert read(folder, group="speaker").notes == ()
    known = read(folder, group="speaker", test_where={"number": 0}).notes
    assert "8 of 8 test recordings (data.test_where) are of a speaker that training" in " ".join(known)
    (folder / "down_bo_99.wav").write_bytes((folder / "up_bo_1.wav").read_bytes())
    (copies,) = read(folder, group="speaker").notes
    assert "1 recordings are there more than once" in copies
    assert "1 of them are of different classes." in copies


def broken(folder):
    """Write files that are no recordings, and return what is wrong with each."""
    good = (folder / "up_bo_1.wav").read_bytes()
    soundfile.write(folder / "up_bo_f.wav", np.array([0.1, np.nan], np.float32), RATE, subtype="FLOAT")
    soundfile.write(folder / "up_bo_n.wav", np.zeros(0), RATE)
    (folder / "up_bo_e.wav").write_bytes(b"")
    (folder / "up_bo_t.wav").write_text("not a sound")
    (folder / "up_bo_c.wav").write_bytes(good[: len(good) // 2])
    flac = folder / "up_bo_x.flac"
    soundfile.write(flac, tone(True, 300, seconds=4), RATE)
    flac.write_bytes(flac.read_bytes()[:2000])
    return {
        "_f": "samples are missing or infinite", "_n": "it has no samples", "_e": "empty",
        "_t": "Format not recogni", "_c": "cut off: ", "_x": "",
    }  # fmt: skip


def test_files_that_are_none_are_named_with_what_is_wrong(folder):
    whole = read(folder).inputs
    for ending, reason in broken(folder).items():
        (kept,) = folder.glob(f"*{ending}.*")
        with pytest.raises(UserError, match=r"1 file that cannot be read as recordings: .*data.broken=skip") as raised:
            read_only(folder, kept)
        assert f"{kept} ({reason}" in str(raised.value)
    raw = read(folder, broken="skip")
    np.testing.assert_array_equal(raw.inputs, whole)
    assert "6 files that cannot be read as recordings" in raw.notes[0]


def read_only(folder, kept):
    """Read the whole recordings and one other."""
    names = [f for f in sorted(folder.iterdir()) if f == kept or f.stem[-1].isdigit()]
    listing = folder.parent / "list.csv"
    listing.write_text("file,label\n" + "".join(f"set/{f.name},{f.name.split('_')[0]}\n" for f in names))
    return audio(str(listing), rate=RATE)


def test_what_is_odd_is_told(folder):
    (folder / "notes.txt").write_text("no sound")
    soundfile.write(folder / "up_bo_7.wav", np.zeros(400), RATE)
    soundfile.write(folder / "up_bo_8.wav", tone(True, 300, seconds=2), RATE)
    loud = 5 * tone(True, 300, seed=3)
    soundfile.write(folder / "up_bo_9.wav", loud, RATE, subtype="FLOAT")
    raw = read(folder, group="speaker", max_seconds=1)
    assert raw.inputs.shape[1] == RATE
    told = " ".join(raw.notes)
    assert "1 files of " in told
    assert "1 recording is longer than data.max_seconds=1 and cut there" in told
    assert "1 of " in told
    assert "silent from end to end: " in told
    louder = sounds(raw)[[file.name for file in sorted(folder.glob("*.wav"))].index("up_bo_9.wav")]
    np.testing.assert_allclose(louder, loud / np.abs(loud).max(), atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"pattern": "{label}-{number}"}, r"data.pattern is '\{label\}-\{number\}', and 48 of 48 recordings .* other"),
        ({"pattern": "label"}, "it names parts of a file's name, each once"),
        ({"pattern": None}, r"no folders with recordings .*data.pattern='\{label\}_\{number\}'"),
        ({"group": "speakr"}, r"data.group is 'speakr'; .* no such part \(did you mean 'speaker'"),
        ({"target": "sound"}, r"data.target is 'sound'; .* it has: label, speaker, number"),
        ({"pattern": "{what}_{speaker}_{number}"}, "data.target is 'label'"),
        ({"rate": 0}, "data.rate is 0; it is a whole number"),
        ({"mels": 2.5}, "data.mels is 2.5"),
        ({"features": "spectogram"}, "data.features is 'spectogram'; it is spectrogram or waveform"),
        ({"highest_hz": 9000}, "at data.rate=4000 there are frequencies up to 2000 Hz"),
        ({"hop_ms": 0.01}, "a sample takes 0.25 ms"),
        ({"seconds": -1}, "data.seconds is -1; it is a number above 0"),
        ({"max_seconds": 0}, "data.max_seconds is 0"),
        ({"broken": "maybe"}, "data.broken is 'maybe'; it is stop, or skip."),
    ],
)
def test_mistakes_are_told(folder, arguments, told):
    with pytest.raises(UserError, match=told):
        read(folder, **arguments)


def test_the_package_that_is_missing_is_named_with_the_command(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(UserError, match="soundfile, which is not installed: pip install soundfile"):
        read(folder)


def test_rows_to_predict_are_read_as_those_that_were_trained_on(folder):
    manifest = Manifest(task="classification", classes=["a"], shape=[1], arguments={"rate": RATE})
    (rows,) = read_rows([folder], manifest)
    np.testing.assert_array_equal(rows.inputs, read(folder).inputs)
    assert rows.columns["file"] == [str(file) for file in sorted(folder.iterdir())]
    (folder / "bad.wav").write_bytes(b"")
    with pytest.raises(UserError, match=r"bad.wav \(empty\). Mend them."):
        list(read_rows([folder / "bad.wav"], manifest))


def test_a_changed_file_changes_the_fingerprint(folder, tmp_path):
    before = fingerprint({"path": str(folder)})
    soundfile.write(folder / "up_bo_1.wav", tone(False, 200), RATE)
    assert fingerprint({"path": str(folder)}) != before
    with pytest.raises(UserError, match=r"data.path is sett: there is no .*did you mean 'set'"):
        fingerprint({"path": "sett", "root": str(tmp_path)})
