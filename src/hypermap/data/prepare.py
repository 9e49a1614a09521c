"""Preparation of a data set: from raw arrays to a folder of three splits and a manifest, and on to tensors.

The folder holds ``train.safetensors``, ``validation.safetensors`` and ``test.safetensors``, each with `inputs` as
published, `targets` and `rows` (int64: the index within the raw array), and ``manifest.json``. What a network sees
is ``(inputs - shift) / scale`` with the manifest's `shift` and `scale`, one number a channel or feature.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hypermap import files
from hypermap.build import LABELS, check_arguments, locate
from hypermap.data import folder as folders
from hypermap.data.scale import SCALINGS, fit, statistics
from hypermap.data.sources import Array, Raw
from hypermap.data.split import Part, split
from hypermap.errors import UserError, near

if TYPE_CHECKING:  # preparing needs no torch, and a script's --help should not wait for it
    import torch

Reader = Callable[..., Raw]

FORMAT = 2
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Split:
    """Rows ready for a network, or as published; `rows` are the indices within the raw array."""

    inputs: "torch.Tensor"  # (rows, *shape) float32, scaled; or of the published type
    targets: "torch.Tensor"  # (rows,) int64 class index, or float32 standardised (regression); or in their own unit
    rows: "torch.Tensor"  # (rows,) int64


@dataclass(frozen=True)
class Choice:
    """How a data set is split and scaled; construction checks the values."""

    validation: float = 0.2  # share of the rows that are not test
    test: float | None = None  # share of all rows; None where a test set is published
    split_seed: int = 0
    scaling: str = "unit"
    rows: int | None = None  # how many rows training and validation have together; None: all

    def __post_init__(self) -> None:
        _check_share("validation", self.validation)
        if self.test is not None:
            _check_share("test", self.test)
        _check_whole("split_seed", self.split_seed, 0)
        if self.rows is not None:
            _check_whole("rows", self.rows, 2)
        if self.scaling not in SCALINGS:
            hint = near(str(self.scaling), SCALINGS)
            raise UserError(f"data.scaling is {self.scaling!r}; it is one of {', '.join(SCALINGS)}{hint}.")


def prepare(
    folder: Path,
    *,
    reader: Reader,
    validation: float = 0.2,
    test: float | None = None,
    split_seed: int = 0,
    scaling: str = "unit",
    rows: int | None = None,
    **arguments: Any,
) -> dict[str, Any]:
    """Read, split and write a data set; the folder appears whole, or not at all. Returns the manifest.

    Same settings and same raw files give the same bytes. Two processes may prepare the same folder at once.

    Args:
        folder: replaced if it is a prepared data set; any other folder with content is refused.
        reader: a function that returns the raw arrays, see `hypermap.data.sources`.
        validation: share of the rows that are not test, held out stratified by class.
        test: share of all rows, for sets that publish no test set.
        split_seed: seed of the splits and of nothing else.
        scaling: ``unit`` divides by the largest possible value (tables: the training rows' range becomes 0..1),
            ``standard`` takes the training rows' mean to 0 and standard deviation to 1, ``none``.
        rows: keep only so many rows, a stratified subset, for training and validation together.
        **arguments: given to `reader`.

    Raises:
        UserError: a value out of range, a split that cannot be made, or whatever `reader` finds wrong.
        OSError: the disk is full, or the folder cannot be written to.
    """
    choice = Choice(validation, test, split_seed, scaling, rows)
    raw = reader(**arguments)
    parts = split(raw, reader.__name__, validation=validation, test=test, seed=split_seed, row_limit=rows)
    manifest = _describe(raw, parts, choice, _identity(reader, choice, arguments))
    contents = {_file_name(name): _serialised(part) for name, part in parts.items()}
    contents[MANIFEST] = (json.dumps(manifest, indent=2, allow_nan=False) + "\n").encode()
    folders.write(folder, contents)
    return manifest


def prepare_settings(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """`prepare`, from the data group of a configuration: `_target_` is the reader's dotted path.

    Raises:
        UserError: the reader cannot be imported, the keys do not fit it, or as `prepare`.
    """
    reader, choice, arguments = _understood(settings)
    return prepare(folder, reader=reader, **asdict(choice), **arguments)


def settings_fingerprint(settings: Mapping[str, Any]) -> str:
    """The name of what `prepare_settings` would make; where the raw files lie (`root`) has no part in it.

    Raises:
        UserError: the reader cannot be imported, the keys do not fit it, or a value is out of range.
    """
    return files.fingerprint(_identity(*_understood(settings)))


def find_or_prepare(settings: Mapping[str, Any], candidates: Sequence[Path], cache: Path) -> Path:
    """A folder prepared with these settings: a candidate, else ``cache/<fingerprint>``, made if it is not there.

    Raises:
        UserError: as `prepare_settings`.
    """
    fingerprint = settings_fingerprint(settings)
    cached = cache / fingerprint
    for folder in [*candidates, cached]:
        if _fingerprint_of(folder) == fingerprint:
            return folder
    prepare_settings(cached, settings)
    return cached


def load(folder: Path, split: str, device: "torch.device | str" = "cpu") -> Split:
    """One split as tensors on `device`, scaled; no other split's file is opened.

    Raises:
        UserError: the folder or the split's file is missing or unreadable.
    """
    manifest = read_manifest(folder)
    return scaled(load_published(folder, split, device), manifest)


def load_published(folder: Path, split: str, device: "torch.device | str" = "cpu") -> Split:
    """As `load`, but as published."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / _file_name(split)
    try:
        stored = load_file(path, device=str(device))
    except (FileNotFoundError, SafetensorError) as error:
        raise UserError(f"{path} is missing or unreadable ({error}). {_advice(folder)}") from error
    return Split(**stored)


def scaled(published: Split, manifest: Mapping[str, Any]) -> Split:
    """Rows as a network sees them, by the manifest's shift and scale."""
    inputs, targets = _scaled(published.inputs, manifest["shift"], manifest["scale"]), published.targets
    if manifest["task"] == "regression":
        targets = _scaled(targets[:, None], [manifest["target_shift"]], [manifest["target_scale"]]).squeeze(1)
    return Split(inputs, targets, published.rows)


def fitted_on(train: Split, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest with every shift and scale fitted anew, on these published rows."""
    inputs, targets = train.inputs.cpu().numpy(), train.targets.cpu().numpy()
    regression = manifest["task"] == "regression"
    return {**manifest, **_fitted(inputs, targets, manifest["scaling"], manifest["maximum"], regression=regression)}


def read_manifest(folder: Path) -> dict[str, Any]:
    """What ``manifest.json`` of a prepared folder says.

    Raises:
        UserError: it is missing, unreadable, or of another version of the format.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{folder} holds no prepared data: no {MANIFEST}. {_advice(folder)}") from error
    except ValueError as error:
        raise UserError(f"{path} is unreadable ({error}). {_advice(folder)}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise UserError(f"{path} was written by another version. {_advice(folder)}")
    return manifest


def _describe(raw: Raw, parts: Mapping[str, Part], choice: Choice, identity: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest. All that is fitted is fitted on the training rows."""
    train = parts["train"]
    return {
        "format": FORMAT,
        "fingerprint": files.fingerprint(identity),
        "reader": identity["reader"],
        "arguments": identity["arguments"],
        "task": "classification" if raw.classes else "regression",
        "classes": list(raw.classes),
        "shape": list(raw.inputs.shape[1:]),
        "rows": {name: len(part.rows) for name, part in parts.items()},
        "class_counts": {name: _class_counts(raw, part) for name, part in parts.items()},
        "raw_sha256": raw.checksum,
        "test_published": raw.test_inputs is not None,
        "split_seed": choice.split_seed,
        "validation": choice.validation,
        "test": choice.test,
        "row_limit": choice.rows,
        "scaling": choice.scaling,
        "maximum": None if raw.maximum is None else float(raw.maximum),
        **_fitted(train.inputs, train.targets, choice.scaling, raw.maximum, regression=not raw.classes),
        "versions": _versions(),
    }


def _fitted(inputs: Array, targets: Array, scaling: str, maximum: float | None, *, regression: bool) -> dict[str, Any]:
    """The manifest's entries that follow from the training rows."""
    train = statistics(inputs)
    shift, scale = fit(scaling, train, maximum)
    return {
        "shift": shift.tolist(),
        "scale": scale.tolist(),
        **_target_scale(targets, regression=regression),
        "fitted_on": {"split": "train", "rows": len(inputs)},
        "input_mean": ((train.mean - shift) / scale).tolist(),
        "input_std": (train.std / scale).tolist(),
    }


def _class_counts(raw: Raw, part: Part) -> list[int]:
    """Rows a class, in the order of the classes; empty for regression."""
    return [int(np.sum(part.targets == index)) for index in range(len(raw.classes))]


def _target_scale(targets: Array, *, regression: bool) -> dict[str, float | None]:
    if not regression:
        return {"target_shift": None, "target_scale": None}
    shift, scale = fit("standard", statistics(targets[:, np.newaxis]), None)
    return {"target_shift": float(shift[0]), "target_scale": float(scale[0])}


def _versions() -> dict[str, str]:
    import sklearn

    return {"numpy": np.__version__, "scikit-learn": sklearn.__version__}


def _serialised(part: Part) -> bytes:
    from safetensors.numpy import save

    content: bytes = save({name: np.ascontiguousarray(array) for name, array in part._asdict().items()})
    return content


def _file_name(split: str) -> str:
    return f"{split}.safetensors"


def _scaled(stored: "torch.Tensor", shift: Sequence[float], scale: Sequence[float]) -> "torch.Tensor":
    """``(stored - shift) * (1 / scale)`` in float32, along dimension 1."""
    import torch

    def along_channels(values: Sequence[float]) -> torch.Tensor:
        tensor = torch.tensor(values, dtype=torch.float32, device=stored.device)
        return tensor.view(1, -1, *[1] * (stored.ndim - 2))

    factor = along_channels([1 / value for value in scale])
    return (stored.to(torch.float32) - along_channels(shift)).mul_(factor)


def _advice(folder: Path) -> str:
    return f"Run `dvc repro` or `python src/preprocess.py`; if {folder} is damaged, delete it first."


def _fingerprint_of(folder: Path) -> str | None:
    """The fingerprint of a prepared folder; None if it is none, or not whole."""
    try:
        manifest = read_manifest(folder)
        whole = all((folder / _file_name(name)).is_file() for name in manifest["rows"])
        return str(manifest["fingerprint"]) if whole else None
    except (UserError, KeyError):
        return None


def _identity(reader: Reader, choice: Choice, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What names a prepared data set: all that decides its content, but not where the raw files lie."""
    named = {key: value for key, value in arguments.items() if key != "root"}
    dotted = f"{reader.__module__}.{reader.__qualname__}"
    return {"format": FORMAT, "reader": dotted, **asdict(choice), "arguments": named}


def _understood(settings: Mapping[str, Any]) -> tuple[Reader, Choice, dict[str, Any]]:
    """The reader that `_target_` names, how to split and scale, and the reader's own arguments."""
    own = asdict(Choice()).keys()
    choice = Choice(**{key: value for key, value in settings.items() if key in own})
    arguments = {key: value for key, value in settings.items() if key not in {*LABELS, *own}}
    target = settings.get("_target_")
    check_arguments({"_target_": target, **arguments})
    return locate(target), choice, arguments


def _check_share(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise UserError(f"data.{name} is {value!r}; it is a share between 0 and 1, for instance 0.2.")


def _check_whole(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"data.{name} is {value!r}; it must be a whole number, {least} or more.")
