"""Images of one's own, beside what Pillow itself makes of them, and files that are none."""

import csv
import struct

import numpy as np
import pytest
from PIL import Image

from hypermap.core.errors import UserError
from hypermap.data.manifest import Manifest
from hypermap.datasets.image_folder import fingerprint, images, read_rows
from hypermap.datasets.prepare import prepare_settings

DRAW = np.random.default_rng(0)


def pixels(height=9, width=7, channels=3):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return DRAW.integers(0, 256, shape).astype(np.uint8)


def saved(path, array, **settings):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **settings)
    return path


@pytest.fixture
def folder(tmp_path):
    """Two classes, of other sizes and formats, at some depth."""
    for k in range(6):
        saved(tmp_path / "set/cat" / f"{k}.png", pixels(8 + k, 10))
        saved(tmp_path / "set/dog/more" / f"{k}.bmp", pixels(12, 6 + k))
    return tmp_path / "set"


def expected(path, height, width, mode="RGB"):
    with Image.open(path) as image:
        made = image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR).convert(mode)
    return np.asarray(made).reshape(height, width, -1).transpose(2, 0, 1)


def test_a_folder_for_each_class_is_resized_as_pillow_does(folder):
    raw = images(str(folder), size=[5, 4])
    files = sorted(folder.rglob("*.*"))
    assert raw.classes == ("cat", "dog")
    assert raw.targets.tolist() == [0] * 6 + [1] * 6
    assert raw.inputs.dtype == np.uint8
    np.testing.assert_array_equal(raw.inputs, [expected(file, 5, 4) for file in files])


def test_a_list_of_paths_and_labels_gives_the_same(folder, tmp_path):
    files = sorted(folder.rglob("*.*"))
    with (tmp_path / "list.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "taken", "label"])
        writer.writerows([str(path.relative_to(tmp_path)), "2020", path.relative_to(folder).parts[0]] for path in files)
    raw, same = images(str(tmp_path / "list.csv"), size=6), images("set", size=6, root=str(tmp_path))
    np.testing.assert_array_equal(raw.inputs, same.inputs)
    np.testing.assert_array_equal(raw.targets, same.targets)


@pytest.mark.parametrize("channels", [None, "grey"])
def test_grey_images_have_one_channel(tmp_path, channels):
    for k in range(4):
        array = pixels(channels=1) if channels is None else pixels()
        saved(tmp_path / f"{'ab'[k % 2]}/{k}.png", array)
    raw = images(str(tmp_path), size=6, channels=channels)
    files = sorted(tmp_path.rglob("*.png"))
    np.testing.assert_array_equal(raw.inputs, [expected(file, 6, 6, "L") for file in files])


def test_one_image_with_colours_gives_all_three_channels(tmp_path):
    for k in range(3):
        saved(tmp_path / f"{'ab'[k % 2]}/{k}.png", pixels(channels=1))
    saved(tmp_path / "b/colour.png", pixels())
    assert images(str(tmp_path), size=4).inputs.shape == (4, 3, 4, 4)
    assert images(str(tmp_path), size=4, channels="grey").inputs.shape == (4, 1, 4, 4)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_as_its_exif_says(tmp_path, orientation):
    upright = pixels(6, 4)
    stored = {  # the stored rows and columns from which each orientation comes, by the Exif standard
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.transpose(1, 0, 2), 6: np.rot90(upright), 7: np.rot90(upright.transpose(1, 0, 2), 2),
        8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    saved(tmp_path / "a/turned.png", np.ascontiguousarray(stored), exif=exif.tobytes())
    saved(tmp_path / "b/upright.png", upright)
    turned, straight = images(str(tmp_path), size=[6, 4]).inputs
    np.testing.assert_array_equal(turned, straight)


def test_sixteen_bits_and_what_is_transparent(tmp_path):
    deep = DRAW.integers(0, 65536, (5, 5)).astype(np.uint16)
    saved(tmp_path / "a/deep.png", deep)
    clear = np.dstack([pixels(5, 5), np.zeros((5, 5), np.uint8)])
    saved(tmp_path / "b/clear.png", clear)
    first, second = images(str(tmp_path), size=5).inputs.reshape(2, -1, 5, 5)
    np.testing.assert_allclose(first[0], deep / 257, atol=0.51)
    assert (second == 255).all()


def broken(folder):
    """Files of no bytes, of text, and an image whose end is missing."""
    (folder / "cat/empty.png").write_bytes(b"")
    (folder / "cat/text.jpg").write_text("no image")
    whole = saved(folder / "dog/whole.png", pixels(40, 40)).read_bytes()
    (folder / "dog/cut.png").write_bytes(whole[: len(whole) // 2])


def test_broken_files_are_named_and_may_be_skipped(folder):
    broken(folder)
    with pytest.raises(UserError) as told:
        images(str(folder))
    for words in (
        "3 files that cannot be read as images",
        "empty.png (empty)",
        "text.jpg (cannot identify",
        "cut.png",
        "data.broken=skip",
    ):
        assert words in str(told.value)
    raw = images(str(folder), broken="skip")
    assert len(raw.inputs) == 13
    assert raw.targets.tolist() == [0] * 6 + [1] * 7
    assert "Left out of" in raw.notes[0]


def test_an_image_that_claims_to_be_enormous_is_broken(tmp_path):
    saved(tmp_path / "b/small.png", pixels())
    path = saved(tmp_path / "a/bomb.png", pixels())
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", 60_000, 60_000)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"bomb.png"):
        images(str(tmp_path))


@pytest.mark.parametrize(
    ("make", "settings", "told"),
    [
        (lambda place: None, {"path": "nowhere"}, "data.path is nowhere: there is no"),
        (lambda place: None, {}, "it has no folders with images. There should be one for each class"),
        (lambda place: saved(place / "1.png", pixels()), {}, "those in the folder itself are of no class"),
        (lambda place: saved(place / "a/1.png", pixels()), {}, "has images of one class, 'a': there is nothing"),
        (lambda place: None, {"size": [0, 3]}, r"data.size is \[0, 3\]; it is a number of pixels, or "),
        (lambda place: None, {"channels": "cmyk"}, "data.channels is 'cmyk'; it is grey, rgb or null"),
        (lambda place: None, {"broken": "mend"}, "data.broken is 'mend'; it is stop, or skip"),
        (lambda place: None, {"path": None}, "data.path is null: name a folder"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told(tmp_path, make, settings, told):
    (tmp_path / "set").mkdir()
    make(tmp_path / "set")
    with pytest.raises(UserError, match=told):
        images(**{"path": "set", "root": str(tmp_path), **settings})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("file,label\n", "it should have a header, and lines of at least two columns"),
        ("file\na.png\n", "it should have a header, and lines of at least two columns"),
        ("file,label\na.png,\nb.png,x\n", "1 images have no label"),
        ("file,label\na.png,x\nb.png,y\n", r"a.png \(there is no such file\)"),
    ],
)
def test_lists_that_cannot_be_are_told(tmp_path, text, told):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(UserError, match=told):
        images(str(tmp_path / "list.csv"))


def test_test_images_that_stand_apart(folder, tmp_path):
    saved(tmp_path / "test/dog/1.png", pixels())
    raw = images(str(folder), test_path=str(tmp_path / "test"), size=8)
    assert raw.test_targets.tolist() == [1]
    saved(tmp_path / "test/fox/1.png", pixels())
    with pytest.raises(UserError, match=r"has classes that .* lacks: 'fox'"):
        images(str(folder), test_path=str(tmp_path / "test"))


def test_another_pixel_is_another_fingerprint_and_another_place_is_not(folder, tmp_path):
    before = fingerprint({"path": str(folder)})
    assert fingerprint({"path": "set", "root": str(tmp_path)}) == before
    saved(folder / "cat/0.png", pixels())
    assert fingerprint({"path": str(folder)}) != before


def test_what_is_predicted_is_read_as_in_training(folder, tmp_path):
    settings = {
        "_target_": "hypermap.datasets.image_folder.images",
        "path": str(folder),
        "size": 6,
        "test": 0.2,
        "validation": 0.3,
    }
    manifest = prepare_settings(tmp_path / "prepared", settings)
    assert manifest == Manifest.read(tmp_path / "prepared")
    raw = images(str(folder), size=6)
    (rows,) = read_rows([folder / "cat", folder / "dog"], manifest)
    np.testing.assert_array_equal(rows.inputs, raw.inputs)
    assert rows.columns["file"] == [str(file) for file in sorted(folder.rglob("*.*"))]
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UserError, match=r"has no images\. They end with .png"):
        list(read_rows([tmp_path / "nothing"], manifest))


def test_more_than_the_memory_holds_is_refused(folder, monkeypatch):
    monkeypatch.setattr("hypermap.core.memory.free", lambda: 1000)
    with pytest.raises(
        UserError, match=r"12 images of 32x32 take about .* GB to prepare, and .* Take a smaller data.size"
    ):
        images(str(folder))
