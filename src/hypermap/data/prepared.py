"""The splits of a prepared data set, read from its folder."""

from pathlib import Path
from typing import TYPE_CHECKING

from hypermap.core.errors import UserError
from hypermap.data.manifest import advice
from hypermap.data.preprocessor import TensorSplit, read_transform

if TYPE_CHECKING:  # preprocessing does not need torch, and a script's --help should not wait for it
    import torch


def load(folder: Path, split: str, device: "torch.device | str" = "cpu") -> TensorSplit:
    """Return one split as tensors on `device`, as a model sees them; no other split's file is opened.

    Raises:
        UserError: the folder or the split's file is missing or unreadable.
    """
    return read_transform(folder)(load_raw(folder, split, device))


def load_raw(folder: Path, split: str, device: "torch.device | str" = "cpu") -> TensorSplit:
    """Return one split like `load`, but raw.

    Raises:
        UserError: the split's file is missing or unreadable.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / file_name(split)
    try:
        stored = load_file(path, device=str(device))
    except (FileNotFoundError, SafetensorError) as error:
        raise UserError(f"{path} is missing or unreadable ({error}). {advice(folder)}") from error
    return TensorSplit(**stored)


def file_name(split: str) -> str:
    """Return the name of a split's file in the folder."""
    return f"{split}.safetensors"
