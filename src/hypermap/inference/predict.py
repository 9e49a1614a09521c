"""Predictions of a trained model for the rows of a table: from file to file, in the same order, batch by batch."""

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
import yaml
from tqdm import tqdm

from hypermap.core.cli_args import read_trust, read_words
from hypermap.core.errors import UserError, near
from hypermap.core.files import csv_text
from hypermap.core.typing import Array
from hypermap.data.preparation import complete_rows
from hypermap.datasets.tables.csv_format import Format
from hypermap.inference.table_writer import SEPARATORS, check_output, writing

if TYPE_CHECKING:  # mistakes in the command are reported before torch and polars are imported
    from polars import DataFrame

    from hypermap.data.manifest import Manifest
    from hypermap.data.raw_inputs import RawInputs
    from hypermap.datasets.images import RawRows
    from hypermap.datasets.tables.readers import Table
    from hypermap.training.artifacts import TrainedModel

Item = TypeVar("Item")

FORMAT_KEYS = tuple(key.name for key in fields(Format) if key.name != "prefix")
LISTS = ("missing_values", "columns")
SAME_AS_IN_TRAINING = ("quote", "missing_values", "comment")  # unless given: they cannot always be detected in a file


@dataclass(frozen=True)
class PredictArgs:
    """One command.

    Attributes:
        inputs: files with the same columns, concatenated.
        model: the folder of a trained model, or the archive of one.
        format: of the files, if given.
        trust: whether the model's record may name any code.
    """

    inputs: tuple[Path, ...]
    output: Path
    model: Path
    format: Mapping[str, Any]
    trust: bool = False

    @classmethod
    def of(cls, words: Sequence[str]) -> Self:
        """Parse command-line arguments ``key=value``; ``input=[a.csv,b.csv]`` names several files.

        Raises:
            UserError: an argument is not understood, there is no input or output, or an input does not exist.
        """
        given = read_words(words, ("input", "output", "model", "trust", *FORMAT_KEYS))
        if not given.get("input") or not given.get("output"):
            raise UserError("Name a file to read and one to write: python src/predict.py input=FILE output=FILE")
        inputs = tuple(_there(Path(path).expanduser()) for path in _listed(given["input"]))
        output = Path(given["output"]).expanduser()
        check_output(output, *inputs)
        file_format = {key: _understood(key, text) for key, text in given.items() if key in FORMAT_KEYS}
        return cls(inputs, output, Path(given.get("model", "models")), file_format, read_trust(given))

    def answer(self) -> str:
        """Write the predictions, and return a message with their number and place; print notes to stderr first.

        Raises:
            UserError: the model was not trained on a table, the input does not fit it, or torch is needed and missing.
        """
        # Torch's threads spin while they wait, which would block the core of the thread that reads ahead.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        from hypermap.inference.archive import unpacked
        from hypermap.training.artifacts import read_trained

        began = time.perf_counter()
        try:
            with unpacked(self.model) as folder:
                predictor = Predictor(read_trained(folder, trust=self.trust), trust=self.trust)
            count = predictor.predict_files(self.inputs, self.output, self.format)
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            raise UserError(
                f"{self.model} needs torch, which is not installed, since it holds a network or is for other data than "
                "tables: pip install torch"
            ) from None
        for note in count.messages():
            print(f"Note: {note}", file=sys.stderr)
        return f"{count.rows:,} rows predicted in {time.perf_counter() - began:.1f} s: {self.output}"


@dataclass(frozen=True)
class Batch:
    """Rows of a table on their way to a model.

    Attributes:
        inputs: the complete rows, which the model's transforms have preprocessed; None if there are none.
        complete: bool ``(rows,)``: which rows the model can predict; the others have missing values.
        unseen: by column, the number of rows with a category that was not in the training data.
    """

    inputs: "RawInputs | None"
    complete: Array
    unseen: Mapping[str, int]


@dataclass
class Count:
    """Counts of rows and of problems while predicting a table; initially zero."""

    rows: int = 0
    incomplete: int = 0
    unseen: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)  # about the file, from before the first row

    def add(self, batch: Batch) -> None:
        """Add a batch to the counts."""
        self.rows += len(batch.complete)
        self.incomplete += int((~batch.complete).sum())
        self.unseen.update(batch.unseen)

    def messages(self) -> list[str]:
        """Return a sentence for each problem."""
        messages = list(self.notes)
        if self.incomplete:
            messages.append(
                f"{self.incomplete:,} rows have missing values and get empty cells: the model was trained without such "
                "(data.missing=drop)."
            )
        if self.unseen:
            columns = ", ".join(f"{name} ({rows:,} rows)" for name, rows in self.unseen.items())
            messages.append(f"Categories that the training table lacks were taken for unknown ones: {columns}.")
        return messages


class Predictor:
    """A trained model as a mapping from files to tables: from tables, or whatever a reader reads.

    Such a reader's module has a function ``read_rows(paths, manifest)``, which yields `RawRows`, some at a time.

    Raises:
        UserError: the model's reader reads no rows to predict.
    """

    def __init__(self, trained: "TrainedModel", *, trust: bool = False) -> None:
        from hypermap.data.table_preprocessor import TablePreprocessor
        from hypermap.data.text_columns import TextColumnSettings
        from hypermap.datasets.tables.schema import Schema

        self.predict = trained.predict
        self.manifest = manifest = trained.transform.manifest
        self.task = trained.transform.task
        self.preprocessor = preprocessor = trained.transform.preprocessor
        if not isinstance(preprocessor, TablePreprocessor):
            self.read_rows = _read_rows(manifest.reader, trust=trust)
            return
        self.transforms = trained.predictor.transforms
        self.schema = Schema.of(manifest.table)
        self.text_limit = TextColumnSettings.of(manifest.arguments).text_max_bytes
        self.complete_only = any(own.manifest.preparation["missing"] == "drop" for own in self.transforms)

    def predict_files(self, inputs: Sequence[Path], output: Path, file_format: Mapping[str, Any]) -> Count:
        """Predict for the rows of these files, and write `output` atomically.

        Raises:
            UserError: the files cannot be read, or do not match the table that the model was trained on.
            OSError: the disk is full, or the folder cannot be written to.
        """
        from hypermap.data.table_preprocessor import TablePreprocessor
        from hypermap.datasets.tables.readers import open_table

        if not isinstance(self.preprocessor, TablePreprocessor):
            return self._predict_rows(inputs, output, file_format)
        usual = {key: getattr(self.schema.spelling, key) for key in SAME_AS_IN_TRAINING}
        table = open_table(inputs, Format(**{**usual, **file_format}, prefix=""), self.schema.expected)
        count = Count(notes=[*table.notes, *self.schema.check(table), *self.renamed(output)])
        with writing(output) as write, tqdm(total=table.size, unit=" rows", unit_scale=True, disable=None) as bar:
            write(self.answers(Batch(None, np.zeros(0, np.bool_), {})))  # at least a header
            for batch in ahead(self.batches(table)):
                write(self.answers(batch))
                count.add(batch)
                bar.update(len(batch.complete))
        return count

    def _predict_rows(self, inputs: Sequence[Path], output: Path, file_format: Mapping[str, Any]) -> Count:
        """As `predict_files`, for the rows of a reader that has `read_rows`."""
        if given := ", ".join(file_format):
            raise UserError(f"{given}: how a table is read; {self.manifest.reader} reads the files by itself.")
        count = Count(notes=self.renamed(output))
        with writing(output) as write, tqdm(unit=" rows", unit_scale=True, disable=None) as bar:
            for rows in ahead(self.read_rows(inputs, self.manifest)):
                write(self.task.answers(self.predict(rows.inputs), rows.columns))
                count.rows += len(rows.inputs)
                bar.update(len(rows.inputs))
        return count

    def renamed(self, output: Path) -> list[str]:
        """Return notes on classes that are escaped in a CSV file."""
        columns = self.manifest.target_columns
        names = [*self.manifest.classes, *(name for own in columns for name in (own["name"], *own["classes"]))]
        odd = [name for name in dict.fromkeys(names) if csv_text(name) != name]
        if not odd or output.suffix.lower() not in SEPARATORS:
            return []
        return [
            f"{', '.join(map(repr, odd))} would be a formula to a spreadsheet: in {output.name} an apostrophe stands "
            f"before it. Parquet has it as it is: output={output.with_suffix('.parquet')}"
        ]

    def batches(self, table: "Table") -> Iterator[Batch]:
        """Yield the table's rows, preprocessed.

        Raises:
            UserError: cells are not of their column's type.
        """
        from hypermap.data.raw_inputs import RawInputs
        from hypermap.data.table_rows import packed
        from hypermap.datasets.tables.columns import UNSEEN

        names = self.schema.matrix_names
        categories = [
            (k, name) for k, (name, role) in enumerate(zip(names, self.schema.roles, strict=True)) if role == "category"
        ]
        rows = 0
        for frame in table.batches():
            matrix = self.schema.encode(frame, rows)
            rows += len(matrix)
            complete = complete_rows(matrix) if self.complete_only else np.ones(len(matrix), np.bool_)
            unseen = {name: int((matrix[:, k] == UNSEEN).sum()) for k, name in categories}
            texts, _ = self.schema.rows_of_text(frame, self.text_limit)
            inputs = packed(matrix, texts) if texts else matrix
            asked = None
            if complete.any():
                asked = RawInputs(inputs[complete])
                for transform in self.transforms:  # here, ahead of the model
                    asked.features(transform)
            yield Batch(asked, complete, {name: count for name, count in unseen.items() if count})

    def answers(self, batch: Batch) -> "DataFrame":
        """Return a row of the task's table for each; null where the row is incomplete."""
        found = np.full((len(batch.complete), *self.task.shape), np.nan)
        if batch.inputs is not None:
            found[batch.complete] = self.predict(batch.inputs)
        return self.task.table(found)


def _read_rows(reader: str, *, trust: bool) -> "Callable[[Sequence[Path], Manifest], Iterator[RawRows]]":
    """Return the function of a reader's module that reads rows to predict.

    Raises:
        UserError: it has none, or is none that conf/ names, and there is no `trust` in it.
    """
    from hypermap.core.instantiate import locate
    from hypermap.training.artifacts import check_code

    module, _, name = reader.rpartition(".")
    if module == "hypermap.datasets.images":
        raise UserError(
            f"the model was trained on {name}, which is no table of columns with names: there is no file to read "
            "rows from. Predictions are for models of data=table; python src/export.py exports any network."
        )
    if not module.startswith("hypermap.datasets."):
        check_code([f"{module}.read_rows"], "manifest.json", trust=trust)
    return locate(f"{module}.read_rows")


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """Yield the same items, computing the next one in a separate thread while the current one is used."""
    with ThreadPoolExecutor(1) as pool:
        upcoming = pool.submit(next, items, None)
        while (item := upcoming.result()) is not None:
            upcoming = pool.submit(next, items, None)
            yield item


def _there(path: Path) -> Path:
    if path.exists():
        return path
    beside = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    raise UserError(f"input={path}: no such file{near(path.name, beside)}.")


def _listed(text: str) -> list[str]:
    """Return one path, or the paths of a list ``[a.csv,b.csv]``."""
    return [path.strip() for path in text[1:-1].split(",")] if text.startswith("[") and text.endswith("]") else [text]


def _understood(key: str, text: str) -> Any:
    """Return the value of one of `FORMAT_KEYS`: a list of words, true or false, or literal text."""
    if text == "null":
        return None
    if key == "header":
        if text not in (allowed := {"true": True, "false": False}):
            raise UserError(f"header={text}: it is true or false.")
        return allowed[text]
    if key not in LISTS:
        return text
    try:
        words = yaml.load(text, yaml.BaseLoader)  # which does not convert words: NA, null and 0 remain strings
    except yaml.YAMLError:
        words = None
    if not isinstance(words, list):
        raise UserError(f"{key}={text} is not understood; a list is written [a,b].")
    return words
