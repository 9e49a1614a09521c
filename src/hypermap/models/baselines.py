"""Baselines: models of scikit-learn and LightGBM to compare with the one in use, fitted once on the same training rows.

They show whether a network is worth it on a table, or on texts. There are none for images, which they are not good at.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hypermap.core.errors import UserError
from hypermap.core.files import write_json
from hypermap.core.instantiate import check_record
from hypermap.data.fold_data import Folds
from hypermap.data.manifest import Manifest
from hypermap.data.preprocessor import Transform
from hypermap.models import sklearn_fit

RECORD = "baselines.json"
REMEDY = "Fit them again: dvc repro --force baselines"


def fit(configuration: Mapping[str, Any], prepared: Path, folder: Path) -> list[str]:
    """Fit each of ``configuration["models"]``, options of the group `model`, printing which; return their names.

    `folder` gets ``NAME.skops`` for each, and ``baselines.json`` with the options, the data's fingerprint and the seed.
    The seed is the split's, so that they do not change when the model in use is trained with another seed.

    Raises:
        UserError: an option is a network, or refuses the data.
    """
    manifest = Manifest.read(prepared)
    tables = len(manifest.shape) == 1  # with a schema or plain
    suit = tables and sklearn_fit.predicts(manifest)
    models, seed = [_family(option) for option in configuration["models"]] if suit else [], manifest.split_seed
    models = [option for option in models if sklearn_fit.suits(option, manifest)]
    if models:
        folds = Folds(prepared)
        rows = folds.of(folds.development.holdout)
    for option in models:
        print(f"Baseline {option['name']}: fitting on {len(rows.train.rows):,} rows", flush=True)
        try:
            threads = sklearn_fit.choose_threads(option, manifest)
            model = sklearn_fit.fit(option, rows.train, rows.validation, rows.transform, seed=seed, threads=threads)
        except UserError as error:
            raise UserError(f"{error} It is a baseline: it can be left out of evaluation.baselines.") from error
        sklearn_fit.save(folder / _file(option), model)
    write_json(folder / RECORD, {"models": models, "seed": seed, "data": _data(manifest)})
    return [option["name"] for option in models]


def read(folder: Path, transform: Transform, *, trust: bool = False) -> list[tuple[dict[str, Any], sklearn_fit.Model]]:
    """Return each option and the model that `fit` wrote for it; `transform` is that of the prepared data.

    Raises:
        UserError: a file is missing or damaged, the models were fitted to other data, or the record names code that is
            not a part (`hypermap.core.instantiate.check_record`) without `trust`.
    """
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        options, data = list(record["models"]), record["data"]
        files = [folder / _file(option) for option in options]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / RECORD} cannot be read ({error!r}). {REMEDY}") from None
    check_record(options, str(folder / RECORD), trust=trust)
    if data != _data(transform.manifest):
        raise UserError(f"The baselines in {folder} were fitted to other data than are prepared now. {REMEDY}")
    return [
        (option, sklearn_fit.load(file, option, transform, REMEDY)) for option, file in zip(options, files, strict=True)
    ]


def _family(option: dict[str, Any]) -> dict[str, Any]:
    if not sklearn_fit.is_family(option):
        raise UserError(
            f"evaluation.baselines names {option['name']}, a network; baselines are models that are fitted in one go, "
            "such as dummy, linear, random_forest or lightgbm."
        )
    return option


def _data(manifest: Manifest) -> dict[str, str]:
    return {key: getattr(manifest, key) for key in ("fingerprint", "raw_sha256")}


def _file(option: Mapping[str, Any]) -> str:
    return f"{option['name']}.skops"
