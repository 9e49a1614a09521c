"""A trained network and its preprocessing as one torch.export program, which runs without Hypermap.

torch.export instead of ONNX: torch writes and runs it by itself, with every operation in float64 where the
preprocessing is. ONNX would need three packages (onnx, onnxscript, onnxruntime) to write a file and to check that it
gives the same numbers.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from hypermap.core.cli_args import read_trust, read_words
from hypermap.core.errors import UserError
from hypermap.core.paths import CACHE, EXPORTED, MODELS, PREPARED
from hypermap.data.manifest import Manifest
from hypermap.data.prepared import load_raw
from hypermap.data.preprocessor import TensorSplit, Transform
from hypermap.data.raw_inputs import RawInputs
from hypermap.datasets import artifact as folders
from hypermap.datasets.tables.schema import Schema
from hypermap.inference.archive import packed, unpacked
from hypermap.reports.run.wording import cell, words
from hypermap.tasks.base import make_task
from hypermap.training.artifacts import Ensemble, TrainedModel, read_trained
from hypermap.training.network import Network

PROGRAM, ABOUT, README = "model.pt2", "program.json", "README.md"
ARCHIVE = "model.zip"
FILES = (PROGRAM, ABOUT, README, ARCHIVE)
TOLERANCE = 1e-5  # share of the largest prediction: rounding in float32
CHECKED_ROWS = 10_000

TEXT = f"""# An exported network

`{PROGRAM}` is a program of torch.export, written by torch {{torch}}: the preparation of the rows, the network, and
what makes answers of its outputs, in one. It needs torch, and no Hypermap:

    import torch
    program = torch.export.load("{PROGRAM}").module()
    answers = program(rows)

`rows` are {{dtype}} `({{shape}})`, any number of them, not scaled. The answers, float64, are {{given}}.
`{ABOUT}` says the same for programs to read.
"""
ARCHIVE_TEXT = f"""# An exported model

`{ARCHIVE}` holds a trained model and the preparation of its rows: every file that predictions depend on. Hypermap reads
it as it reads the model's folder:

    python src/predict.py model={ARCHIVE} input=FILE output=FILE
"""
COLUMNS = f"""
NaN stands for what is missing. A category is its place in its column's list of `categories` in `{ABOUT}`, from 0, or -1
if it is not there; of a boolean the first is 0, the second 1.

| | column | of the file's | holds |
|--:|---|---|---|
"""
HELD = {"number": "a number", "boolean": "0 or 1", "category": "a category's place"}
DATES = {
    "year": "the year",
    "month": "the month, 1 to 12",
    "day": "the day of the month",
    "weekday": "the weekday: 1 is Monday, 7 is Sunday",
    "hour": "the hour with its fraction, 0 to 24",
    "days": "days since 1970-01-01, with their fraction",
}


@dataclass(frozen=True)
class ExportArgs:
    """The arguments of the command: the model, the output folder, and whether to trust the model's record."""

    model: Path = MODELS
    output: Path = EXPORTED
    trust: bool = False

    @classmethod
    def of(cls, words: Sequence[str]) -> Self:
        """Parse command-line arguments ``key=value``.

        Raises:
            UserError: an argument is not understood.
        """
        given = read_words(words, ("model", "output", "trust"))
        return cls(Path(given.get("model", "models")), Path(given.get("output", "exported")), read_trust(given))

    def answer(self) -> str:
        """Export, and return a message on how close the program's outputs are to the network's.

        Raises:
            UserError: as for `export`.
        """
        rows, difference = export(self.model, self.output, trust=self.trust)
        if (path := self.output / ARCHIVE).exists():
            return (
                f"{path} ({path.stat().st_size / 1e6:.2f} MB) gives what {self.model} gives: the largest difference "
                f"over {rows:,} validation rows is {difference:.1e} of the largest prediction.\n"
                f"Use it: python src/predict.py model={path} input=FILE output=FILE"
            )
        return (
            f"{self.output / PROGRAM} gives what {self.model} gives: the largest difference over {rows:,} validation "
            f"rows is {difference:.1e} of the largest prediction (allowed: {TOLERANCE:.0e}).\n"
            f"How to run it: {self.output / README}"
        )


class Exported(nn.Module):
    """From raw rows to predictions: preprocessing, network, and probabilities or the target's unit.

    For a table with a schema it takes the matrix ``(rows, columns)`` float64, with NaN for missing values. With
    ``data.missing=drop``, rows with missing values get NaN as their prediction.
    """

    def __init__(self, predict: Network) -> None:
        super().__init__()
        transform = predict.transform
        self.prepare = transform.preprocessor.module()
        self.complete_only = (transform.manifest.preparation or {}).get("missing") == "drop"
        self.encode = predict.inputs.encode
        self.network = predict.module
        self.predictions = predict.loss.predictions
        self.answer = transform.task.module(**predict.tuned)

    def forward(self, rows: Tensor) -> Tensor:
        """Return probabilities ``(rows, classes)``, or values ``(rows,)`` in the target's unit, float64."""
        predicted: Tensor = self.answer(self.predictions(self.network(self.encode(self.prepare(rows)))).double())
        if not self.complete_only:
            return predicted
        return torch.where(rows.isnan().any(1, keepdim=predicted.ndim == 2), torch.nan, predicted)


class ExportedEnsemble(nn.Module):
    """From raw rows to the mean of several networks' predictions, each with its own preprocessing."""

    def __init__(self, predict: Ensemble, members: Sequence[Network]) -> None:
        super().__init__()
        self.members = nn.ModuleList(map(Exported, members))
        self.average = predict.transform.task.average_module(predict.weights)

    def forward(self, rows: Tensor) -> Tensor:
        """Return the same as `Exported` does."""
        averaged: Tensor = self.average(torch.stack([member(rows) for member in self.members]))
        return averaged


def _module(trained: TrainedModel) -> tuple[nn.Module, Ensemble | Network] | None:
    """Return the module to export, and the predictor that it is checked against; None if not all of it is networks."""
    of = trained.predictor
    each = [member.predictor for member in of.members] if isinstance(of, Ensemble) else [of]
    # The program's precision is fp32, even if training used bf16.
    networks = [replace(one, precision="fp32") for one in each if isinstance(one, Network)]
    if len(networks) == len(each) == 1 and not isinstance(of, Ensemble):
        return Exported(networks[0]), networks[0]
    if isinstance(of, Ensemble) and len(networks) == len(each):
        pairs = zip(of.members, networks, strict=True)
        plain = replace(of, members=[replace(member, predictor=network) for member, network in pairs])
        return ExportedEnsemble(plain, networks), plain
    return None


def export(model: Path, output: Path, *, trust: bool = False) -> tuple[int, float]:
    """Write the network in the folder `model` with its preprocessing into the folder `output`, after a check.

    Of an ensemble of networks, the program is all of them.

    Returns the number of validation rows on which the reloaded program and the network were compared, and the largest
    difference as a share of the largest prediction.

    Raises:
        UserError: there is no model, it is not a network, its data is not here, torch.export cannot trace the network,
            or the program's outputs differ.
    """
    trained = read_trained(model, trust=trust)
    exported = _module(trained)
    if exported is None:
        return _export_archive(model, output, trained, trust=trust)
    module, predict = exported
    raw = _validation(predict.transform)
    content = _program(module.eval().requires_grad_(False), raw.inputs)
    given, wanted = _run(content, raw.inputs), predict.predict(RawInputs(raw.inputs))
    difference = float(np.abs(given - wanted).max() / np.abs(wanted).max())
    if not difference <= TOLERANCE:
        raise UserError(
            f"the exported program differs from the network by {difference:.1e} of the largest prediction, more than "
            f"{TOLERANCE:.0e}; nothing was written. A model of your own may keep state that an export does not follow."
        )
    about = _about(predict.transform.manifest, raw.inputs)
    contents = {PROGRAM: content, ABOUT: (json.dumps(about, indent=2) + "\n").encode(), README: _readme(about).encode()}
    folders.write(output, contents, FILES)
    return len(raw.inputs), difference


def _export_archive(model: Path, output: Path, trained: TrainedModel, *, trust: bool) -> tuple[int, float]:
    """Write a model that torch.export cannot hold as an archive of its files, after a check."""
    raw, content = _validation(trained.transform), packed(model)
    with TemporaryDirectory() as made:
        path = Path(made) / ARCHIVE
        path.write_bytes(content)
        with unpacked(path) as folder:
            given = read_trained(folder, trust=trust).predict(raw.inputs)
    wanted = trained.predict(raw.inputs)
    difference = float(np.abs(given - wanted).max() / np.abs(wanted).max())
    if not difference <= TOLERANCE:
        raise UserError(f"the archive of {model} gives other predictions, by {difference:.1e}; nothing was written.")
    folders.write(output, {ARCHIVE: content, README: ARCHIVE_TEXT.encode()}, FILES)
    return len(raw.inputs), difference


def _program(module: nn.Module, rows: Tensor) -> bytes:
    """Return the program of a module for any number of rows such as these, as the bytes of a ``.pt2`` file."""
    example = torch.zeros_like(rows[:1]).expand(2, *rows.shape[1:]).clone()  # the file should not contain any data row
    try:
        program = torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim("rows")},))
        for node in program.graph.nodes:  # source locations: local paths should not be in the file
            node.meta.pop("stack_trace", None)
        buffer = io.BytesIO()
        torch.export.save(program, buffer)
    except Exception as error:  # torch's various errors for a network that it cannot trace
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"torch.export cannot follow this network: {reason}. Use it with src/predict.py.") from error
    return buffer.getvalue()


def _run(content: bytes, rows: Tensor) -> np.ndarray:
    """Return a program's outputs for these rows: for the first one alone, and for the others together."""
    program = torch.export.load(io.BytesIO(content)).module()
    with torch.no_grad():
        parts = [program(part) for part in (rows[:1], rows[1:]) if len(part)]
    return torch.cat(parts).numpy()


def _validation(transform: Transform) -> TensorSplit:
    """Return raw validation rows of the data that a model was trained on, `CHECKED_ROWS` at most.

    Raises:
        UserError: that data is neither in data/prepared nor in the cache.
    """
    wanted = transform.manifest.fingerprint
    for folder in (PREPARED, CACHE / wanted):
        if folder.is_dir() and Manifest.read(folder).fingerprint == wanted:
            stored = load_raw(folder, "validation")
            return TensorSplit(*(part[:CHECKED_ROWS] for part in (stored.inputs, stored.targets, stored.rows)))
    raise UserError(
        f"The data that the model was trained on is neither in {PREPARED} nor in {CACHE / wanted}, and an export is "
        "checked on its validation rows. Train again, or: dvc repro"
    )


def _about(manifest: Manifest, rows: Tensor) -> dict[str, Any]:
    """Return a JSON description of a program's inputs and outputs."""
    task = make_task(manifest)
    said, names = task.legend
    return {
        "torch": torch.__version__,
        "input": {"dtype": str(rows.dtype).removeprefix("torch."), "shape": ["rows", *rows.shape[1:]]},
        "task": manifest.task,
        "classes": manifest.classes,
        "predictions": {"are": said, "of": list(names), "shape": ["rows", *task.shape]},
        "table": manifest.table,
    }


def _readme(about: dict[str, Any]) -> str:
    """Return the README of a program: how to run it, and the columns of its rows."""
    made = about["predictions"]
    shape = ", ".join(map(str, made["shape"]))
    given = f"{made['are']} `({shape})` of: {', '.join(map(words, made['of']))}" if made["of"] else made["are"]
    shape = ", ".join(map(str, about["input"]["shape"]))
    text = TEXT.format(torch=about["torch"], dtype=about["input"]["dtype"], shape=shape, given=given)
    return text + _columns(Schema.of(about["table"])) if about["table"] else text


def _columns(schema: Schema) -> str:
    """Return a description of the columns of a table's rows."""
    columns = [
        (name, column.name, DATES[name.removeprefix(f"{column.name}.")] if column.kind == "date" else HELD[column.kind])
        for column in schema.columns
        for name in column.matrix_names
    ]
    return COLUMNS + "".join(
        f"| {k} | {' | '.join(cell(words(held)) for held in cells)} |\n" for k, cells in enumerate(columns)
    )
