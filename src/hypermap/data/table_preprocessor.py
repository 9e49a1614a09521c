"""Tables with a schema: preprocessed by scikit-learn (`hypermap.data.preparation`), saved without pickle."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hypermap.core.errors import UserError
from hypermap.core.hashing import fingerprint
from hypermap.core.typing import Array, Floats
from hypermap.data.arithmetic import Arithmetic, pick, with_arithmetic
from hypermap.data.manifest import Manifest
from hypermap.data.preparation import Preparation, Settings
from hypermap.data.preprocessor import Fitted, Preprocessor
from hypermap.data.table_rows import matrix_of, texts_of
from hypermap.data.text_columns import TextColumnSettings, TextEncoder
from hypermap.tasks.regression import LOGS

if TYPE_CHECKING:  # preparing data needs no torch
    from torch import Tensor, nn

PREPARATION = "preparation.skops"


class TablePreprocessor(Preprocessor):
    """Handles missing values, scales and categories according to ``data.missing``, ``data.scaling``, …, and texts.

    Its file holds scikit-learn's transformer alone, or with texts a mapping of ``transformer`` and ``texts``.
    """

    file = PREPARATION

    @classmethod
    def fit(cls, inputs: Array, info: Manifest, targets: Array | None = None) -> Fitted:
        """Return the layout of a row, and the fitted transformer and encoders of texts.

        Raises:
            UserError: the settings do not fit these rows, or need targets.
        """
        from hypermap.core import skops_io

        names, settings = text_names(info), TextColumnSettings.of(info.arguments)
        matrix, texts = _parts(inputs, info)
        encoders = [TextEncoder.fit(name, texts, settings) for name, texts in zip(names, texts, strict=True)]
        learned = None if targets is None else _learned(targets, info)
        arithmetic = [] if learned is None else _picked(matrix, learned, info)
        roles = [*(info.roles or []), *("text" for encoder in encoders for _ in range(encoder.width))]
        preparation = Preparation.fit(
            with_arithmetic(_with_components(matrix, encoders, texts), arithmetic),
            [*roles, *("arithmetic" for _ in arithmetic)],
            Settings(**info.preparation),
            learned,
            info.split_seed,
        )
        layout, stored = preparation.layout, preparation.transformer
        if encoders:
            stored = {"transformer": stored, "texts": [encoder.as_entry() for encoder in encoders]}
        made = [feature.as_entry(_matrix_names(info)) for feature in arithmetic]
        entries = {"shape": [layout.width], "layout": layout.as_entry(), "arithmetic": made}
        return Fitted(entries, skops_io.dumps(stored))

    @classmethod
    def fit_to(cls, inputs: Array, targets: Array, info: Manifest, **shared: Any) -> Fitted:
        """Return the same with targets, as ``data.categories=target`` needs them."""
        return cls.fit(inputs, info, targets)

    @property
    def preparation(self) -> Preparation:
        """The fitted transformer.

        Raises:
            UserError: its file is damaged.
        """
        return self._fitted[0]

    @property
    def encoders(self) -> list[TextEncoder]:
        """The fitted encoders, one for each column of text.

        Raises:
            UserError: their file is damaged.
        """
        return self._fitted[1]

    @cached_property
    def _fitted(self) -> tuple[Preparation, list[TextEncoder]]:
        from hypermap.core import skops_io

        assert self.stored is not None
        stored = skops_io.loads(self.stored, self.origin, "Prepare the data and train again: dvc repro --force")
        if not isinstance(stored, dict):
            return Preparation(stored), []
        return Preparation(stored["transformer"]), [TextEncoder.of(entry) for entry in stored["texts"]]

    def features(self, inputs: Array) -> NDArray[np.float32]:
        """Return rows ``(rows, layout.width)`` of the rows of a table (`hypermap.data.table_rows`)."""
        return self.preparation.transform(self._matrix(inputs))

    def training_features(self, inputs: Array, targets: Array) -> NDArray[np.float32]:
        """Return the same of the rows that this was fitted to, as a model learns from them."""
        return self.preparation.training_rows(self._matrix(inputs), _learned(targets, self.manifest))

    @property
    def arithmetic(self) -> list[Arithmetic]:
        """The features of two numbers."""
        return [Arithmetic.of(entry) for entry in self.manifest.arithmetic]

    def _matrix(self, inputs: Array) -> Floats:
        matrix, texts = _parts(inputs, self.manifest)
        return with_arithmetic(_with_components(matrix, self.encoders, texts), self.arithmetic)

    def __call__(self, inputs: "Tensor") -> "Tensor":
        """Return the `features` of rows, float32."""
        import torch

        return torch.from_numpy(self.features(inputs.cpu().numpy())).to(inputs.device)

    def training_rows(self, inputs: "Tensor", targets: "Tensor") -> "Tensor":
        """Return the `training_features` of rows, float32."""
        import torch

        features = self.training_features(inputs.cpu().numpy(), targets.cpu().numpy())
        return torch.from_numpy(features).to(inputs.device)

    def words(self, inputs: Array) -> list[str] | None:
        """Return the texts of each row; None if the table has none."""
        columns = _parts(inputs, self.manifest)[1]
        return [" / ".join(filter(None, texts)) for texts in zip(*columns, strict=True)] if columns else None

    def module(self) -> "nn.Module":
        """Return the same in torch.

        Raises:
            UserError: a part of the preprocessing is not supported there.
        """
        if self.encoders:
            raise UserError(
                f"the model learned from texts ({', '.join(map(repr, text_names(self.manifest)))}), and torch does not "
                "count their n-grams: it cannot be exported. Use it with python src/predict.py, or train one without "
                "data.text."
            )
        from hypermap.data.preparation_module import Prepare

        return Prepare(self.preparation, self.arithmetic)


def text_names(manifest: Manifest) -> list[str]:
    """Return the columns of text that a model of a table learns from."""
    return [str(column["name"]) for column in manifest.table.get("texts", [])]


def without_texts(manifest: Manifest) -> Manifest:
    """Return the manifest of the same rows without their texts, as if `data.text` named none."""
    table = {key: value for key, value in manifest.table.items() if key != "texts"}
    left_out = dict.fromkeys(text_names(manifest), "the model beside learns from it")
    return replace(
        manifest,
        table={**table, "dropped": {**table["dropped"], **left_out}},
        fingerprint=fingerprint([manifest.fingerprint, "without texts"]),
    )


def _parts(inputs: Array, manifest: Manifest) -> tuple[Floats, list[list[str]]]:
    """Return the matrix of a table's rows, and the texts of each column."""
    columns, count = len(manifest.roles or []), len(text_names(manifest))
    return matrix_of(inputs, columns), texts_of(inputs, columns, count) if count else []


def _picked(matrix: Floats, learned: Array, info: Manifest) -> list[Arithmetic]:
    """Return the arithmetic features of training rows, if ``data.arithmetic`` asks for some."""
    count = Settings(**info.preparation).arithmetic
    columns = [column["classes"] for column in info.target_columns] or [info.classes]
    return (
        pick(matrix, info.roles or [], learned, [bool(own) for own in columns], count, info.split_seed) if count else []
    )


def _matrix_names(info: Manifest) -> list[str]:
    """Return the names of the columns of a table's matrix."""
    return [
        name
        for column in info.table["columns"]
        for name in ([f"{column['name']}.{part}" for part in column["parts"]] or [column["name"]])
    ]


def _learned(targets: Array, info: Manifest) -> Array:
    """Return targets on the scale that a model learns them: class indices, or numbers or their logarithms."""
    return LOGS[info.target_transform][0](targets.astype(np.float64)) if info.target_transform else targets


def _with_components(matrix: Floats, encoders: Sequence[TextEncoder], texts: Sequence[Sequence[str]]) -> Floats:
    """Return the matrix with the components of texts behind it."""
    if not encoders:
        return matrix
    return np.hstack([matrix, *(encoder(column) for encoder, column in zip(encoders, texts, strict=True))])
