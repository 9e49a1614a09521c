"""Allowed values, and settings that contradict each other; checked before torch is imported.

The table covers the included options. A value of a user's option file is checked against the type of its default there,
and against the signature that it will call.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from hypermap.core.errors import UserError
from hypermap.tasks.names import TableTask


@dataclass(frozen=True)
class Rule:
    """An allowed set of values, as a test and in words."""

    holds: Callable[[Any], bool]
    words: str


def number(low: float, high: float = math.inf, *, above: bool = False, below: bool = False) -> Rule:
    """Return the rule for a number from `low` to `high`; `above` and `below` exclude the bound."""

    def holds(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        return (value > low if above else value >= low) and (value < high if below else value <= high)

    lower = f"{'above' if above else 'at least'} {low:g}"
    upper = "" if high == math.inf else f" and {'below' if below else 'at most'} {high:g}"
    return Rule(holds, f"a number {lower}{upper}")


def integer(low: int, high: float = math.inf) -> Rule:
    """Return the rule for an integer from `low` to `high`."""
    return Rule(
        lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high,
        f"a whole number of at least {low}" + ("" if high == math.inf else f" and at most {high}"),
    )


def one_of(*allowed: str) -> Rule:
    """Return the rule for one of these strings."""
    return Rule(lambda value: value in allowed, f"one of {', '.join(allowed)}")


def optional(rule: Rule) -> Rule:
    """Return the rule `rule`, or null."""
    return Rule(lambda value: value is None or rule.holds(value), f"{rule.words}, or null")


def either(first: Rule, second: Rule) -> Rule:
    """Return the rule that either of two rules holds."""
    return Rule(lambda value: first.holds(value) or second.holds(value), f"{first.words}, or {second.words}")


def list_of(rule: Rule, least: int = 0) -> Rule:
    """Return the rule for a list of at least `least` values, each obeying `rule`."""
    return Rule(
        lambda value: isinstance(value, list) and len(value) >= least and all(map(rule.holds, value)),
        f"a list of at least {least}, each {rule.words}" if least else f"a list, each {rule.words}",
    )


def mapping_to(rule: Rule) -> Rule:
    """Return the rule for a mapping, possibly empty, to values that obey `rule`."""
    return Rule(
        lambda value: isinstance(value, dict) and all(map(rule.holds, value.values())), f"a mapping to {rule.words}"
    )


def pair_of(rule: Rule) -> Rule:
    """Return the rule for a list of two values, each obeying `rule`."""
    return Rule(
        lambda value: isinstance(value, list) and len(value) == 2 and all(map(rule.holds, value)),
        f"a list of two, each {rule.words}",
    )


BOOLEAN = Rule(lambda value: isinstance(value, bool), "true or false")
TEXT = Rule(lambda value: isinstance(value, str) and value != "", "a word or a path")
SHARE = number(0, 1, above=True, below=True)
RATE = number(0, above=True)
FACTOR = number(0, 1)
SEED = integer(0, 2**32 - 1)  # accepted by every generator

NUMBER = number(-math.inf)
WHOLE = integer(-(2**31))
CHARACTER = Rule(lambda value: isinstance(value, str) and len(value) == 1, 'one character, such as ";"')
PAIR = Rule(lambda value: isinstance(value, list) and len(value) == 2, "a pair [value, class]")
COLUMN = either(TEXT, WHOLE)
KIND = Rule(TEXT.holds, "a kind of column, such as category")  # or a date format
COLUMN_AND_KIND = Rule(
    lambda value: PAIR.holds(value) and COLUMN.holds(value[0]) and KIND.holds(value[1]), "a pair [column, kind]"
)
TARGET = Rule(
    lambda value: (
        COLUMN.holds(value)
        or (isinstance(value, list) and bool(value) and all(COLUMN.holds(one) or PAIR.holds(one) for one in value))
        or (isinstance(value, dict) and bool(value))
    ),
    "a column, a list of columns that are labels, or a mapping of columns to tasks, such as {price: regression}",
)
MAPPING = Rule(lambda value: isinstance(value, dict) and bool(value), "a mapping, such as {value: class}")

ACTIVATIONS = ("relu", "leaky_relu", "gelu", "silu", "tanh", "sigmoid", "selu", "mish")
INITIALIZATIONS = ("glorot_uniform", "glorot_normal", "he_uniform", "he_normal")

RULES: dict[str, Rule] = {
    "seed": SEED,
    "final": optional(one_of("holdout", "refit", "bag")),
    "evaluation.bootstrap_repeats": integer(100),
    "evaluation.confidence": SHARE,
    "data.root": optional(TEXT),
    "data.size": either(integer(1), list_of(integer(1), least=2)),
    "data.channels": optional(one_of("grey", "rgb")),
    "data.broken": one_of("stop", "skip"),
    "data.batches": list_of(Rule(lambda value: value in range(1, 6), "a number from 1 to 5"), least=1),
    "data.validation": optional(SHARE),
    "data.test": optional(SHARE),
    "data.split_seed": SEED,
    "data.scaling": one_of("unit", "standard", "none", "min_max", "robust", "robust_clip", "quantile"),
    "data.rows": optional(integer(2)),
    "data.path": optional(either(TEXT, list_of(TEXT, least=1))),
    "data.validation_path": optional(either(TEXT, list_of(TEXT, least=1))),
    "data.test_path": optional(either(TEXT, list_of(TEXT, least=1))),
    "data.target": optional(TARGET),
    "data.text": optional(either(COLUMN, list_of(COLUMN, least=1))),
    "data.text_components": integer(1),
    "data.text_ngrams": one_of("characters", "words"),
    "data.text_max_bytes": integer(1),
    "data.text_gain": BOOLEAN,
    "data.max_bytes": integer(1),
    "data.tokens": one_of("words", "characters", "bpe"),
    "data.lowercase": BOOLEAN,
    "data.vocabulary": integer(1),
    "data.min_rows": integer(1),
    "data.max_tokens": integer(1),
    "data.word_ngrams": integer(1),
    "data.character_ngrams": optional(pair_of(integer(1))),
    "data.max_ngrams": integer(1),
    "data.hash_buckets": optional(integer(1)),
    "data.past": list_of(COLUMN),
    "data.known": list_of(COLUMN),
    "data.lookback": integer(1),
    "data.horizon": integer(1),
    "data.period": optional(integer(1)),
    "data.gaps": one_of("previous", "linear", "zero", "skip", "refuse"),
    "data.repeated": one_of("refuse", "first", "last", "mean", "sum"),
    "data.test_steps": number(0, above=True),
    "data.validation_steps": number(0, above=True),
    "data.gap": integer(0),
    "data.stride": integer(1),
    "data.calendar": list_of(one_of("hour", "day", "week", "year")),
    "data.moving_averages": list_of(integer(2)),
    "data.quantiles": optional(list_of(SHARE, least=1)),
    "data.goal": one_of("rating", "ranking"),
    "data.nodes": optional(TEXT),
    "data.edges": optional(TEXT),
    "data.id": COLUMN,
    "data.source": COLUMN,
    "data.destination": COLUMN,
    "data.directed": BOOLEAN,
    "data.inductive": BOOLEAN,
    "data.features": optional(either(TEXT, list_of(COLUMN))),  # of a graph's nodes; of recordings a word
    "data.normalize": TEXT,
    "data.labels_per_class": optional(integer(1)),
    "data.validation_nodes": optional(integer(1)),
    "data.test_nodes": optional(integer(1)),
    "data.pattern": optional(TEXT),
    "data.test_where": optional(MAPPING),
    "data.validation_where": optional(MAPPING),
    "data.rate": integer(1),
    "data.seconds": optional(RATE),
    "data.max_seconds": RATE,
    "data.mels": integer(1),
    "data.window_ms": RATE,
    "data.hop_ms": RATE,
    "data.lowest_hz": number(0),
    "data.highest_hz": optional(RATE),
    "data.range_db": RATE,
    "data.loudness": BOOLEAN,
    "data.until": optional(TEXT),
    "data.split": optional(COLUMN),  # of a graph; of ratings a word, which their reader checks
    "data.latest": number(0, 0.5, above=True, below=True),
    "data.user": optional(COLUMN),
    "data.item": optional(COLUMN),
    "data.rating": optional(COLUMN),
    "data.scale": optional(pair_of(NUMBER)),
    "data.liked": NUMBER,
    "data.positive": optional(NUMBER),
    "data.k": integer(1),
    "data.items": optional(TEXT),
    "data.item_features": list_of(COLUMN),
    "data.users": optional(TEXT),
    "data.user_features": list_of(COLUMN),
    "data.value_separator": TEXT,
    "data.label_separator": optional(TEXT),
    "data.task": optional(one_of(*get_args(TableTask))),
    "data.classes": optional(either(MAPPING, list_of(PAIR, least=1))),  # Hydra cannot quote the keys of a mapping
    "data.drop": list_of(COLUMN),
    "data.dataset": TEXT,
    "data.kinds": optional(either(mapping_to(KIND), list_of(COLUMN_AND_KIND))),
    "data.group": optional(COLUMN),
    "data.time": optional(COLUMN),
    "data.duplicates": one_of("keep", "group", "drop"),
    "data.columns": optional(list_of(TEXT, least=1)),
    "data.separator": optional(TEXT),  # or a name, such as tab
    "data.header": optional(BOOLEAN),
    "data.quote": optional(CHARACTER),
    "data.encoding": optional(TEXT),
    "data.decimal": optional(one_of(".", ",")),
    "data.comment": optional(TEXT),
    "data.missing_values": optional(list_of(Rule(lambda value: isinstance(value, str), "a word in quotes"))),
    "data.missing": one_of("mean", "median", "most_frequent", "constant", "drop"),
    "data.fill": NUMBER,
    "data.missing_indicator": BOOLEAN,
    "data.missing_categories": one_of("own", "most_frequent"),
    "data.categories": one_of("auto", "one_hot", "ordinal", "embedding", "target"),
    "data.rare": integer(1),
    "data.max_categories": optional(integer(2)),
    "data.pca": optional(either(integer(1), SHARE)),
    "data.arithmetic": integer(0),
    "data.target_transform": optional(one_of("log", "log1p")),
    "data.oversample": BOOLEAN,
    "evaluation.baselines": list_of(TEXT),
    "evaluation.map": one_of("tsne", "pca", "none"),
    "model.hidden": list_of(integer(1)),
    "model.channels": list_of(integer(1), least=1),
    "model.kernel_size": integer(1),
    "model.padding": one_of("auto", "valid", "same"),
    "model.dense": list_of(integer(1)),
    "model.width": integer(1),
    "model.blocks": either(list_of(integer(1), least=1), integer(1)),  # per stage of a resnet; of a tabular_resnet
    "model.activation": one_of(*ACTIVATIONS),
    "model.initialization": one_of(*INITIALIZATIONS),
    "model.dropout": number(0, 1, below=True),
    "model.batch_norm": BOOLEAN,
    "model.members": integer(1),
    "model.category_width": optional(integer(1)),
    "model.number_width": integer(1),
    "model.frequencies": integer(1),
    "model.frequency_scale": RATE,
    "model.expansion": RATE,
    "model.inner": integer(1),
    "model.sample": number(0, 1, above=True),
    "model.n_estimators": integer(1),
    "model.max_depth": optional(integer(1)),
    "model.min_samples_leaf": integer(1),
    "model.max_features": optional(number(0, 1, above=True)),
    "model.class_weight": optional(one_of("balanced")),
    "model.learning_rate": optional(RATE),
    "model.max_iter": integer(1),
    "model.max_leaf_nodes": optional(integer(2)),
    "model.l2_regularization": number(0),
    "model.n_iter_no_change": integer(1),
    "model.num_leaves": optional(integer(2)),
    "model.min_data_in_leaf": optional(integer(1)),
    "model.min_sum_hessian_in_leaf": number(0),
    "model.bagging_fraction": optional(number(0, 1, above=True)),
    "model.feature_fraction": number(0, 1, above=True),
    "model.lambda_l1": number(0),
    "model.lambda_l2": number(0),
    "model.early_stopping_rounds": integer(1),
    "model.C": RATE,
    "model.kernel": one_of("rbf", "linear", "poly", "sigmoid"),
    "model.gamma": optional(RATE),
    "model.epsilon": number(0),
    "model.n_neighbors": integer(1),
    "model.weights": one_of("uniform", "distance"),
    "model.p": integer(1, 2),  # the distances whose saved estimators can be loaded
    "model.spread": RATE,
    "model.token_dropout": number(0, 1, below=True),
    "model.item_dropout": number(0, 1, below=True),
    "model.window": integer(1),
    "model.recency": number(0),
    "model.user_damping": number(0),
    "model.item_damping": number(0),
    "model.regularization": RATE,
    "model.filters": integer(1),
    "model.kernel_sizes": list_of(integer(1), least=1),
    "model.cell": one_of("gru", "lstm"),
    "model.units": integer(1),
    "model.heads": integer(1),
    "model.layers": integer(1),
    "model.tolerance": RATE,
    "model.back": FACTOR,
    "model.steps": integer(1),
    "model.output_heads": integer(1),
    "model.first_kernel": integer(1),
    "model.first_stride": integer(1),
    "model.normalization": one_of("none", "mean", "last", "standard", "difference", "seasonal"),
    "model.trend_steps": optional(integer(1)),
    "model.fold": optional(integer(1)),
    "model.depth": optional(integer(1)),
    "model.patch": integer(1),
    "model.patch_stride": integer(1),
    "optimizer.lr": RATE,
    "optimizer.momentum": number(0, 1, below=True),
    "optimizer.nesterov": BOOLEAN,
    "optimizer.alpha": number(0, 1, below=True),
    "optimizer.betas": pair_of(number(0, 1, below=True)),
    "optimizer.eps": RATE,
    "optimizer.lr_decay": number(0),
    "optimizer.weight_decay": number(0),
    "scheduler.warmup_epochs": number(0),
    "scheduler.every_epochs": integer(1),
    "scheduler.gamma": number(0, 1, above=True),
    "scheduler.end": FACTOR,
    "scheduler.peak_share": SHARE,
    "scheduler.start_divisor": number(1),
    "scheduler.end_divisor": number(1),
    "scheduler.decay": SHARE,
    "scheduler.patience": integer(0),
    "scheduler.minimum": FACTOR,
    "scheduler.threshold": number(0),
    "loss.label_smoothing": number(0, 1, below=True),
    "loss.class_weights": optional(either(one_of("balanced"), list_of(number(0), least=2))),
    "loss.positive_weight": optional(RATE),
    "loss.negatives": integer(1),
    "loss.alone": BOOLEAN,
    "loss.weighting": one_of("uncertainty", "fixed"),
    "loss.weights": optional(mapping_to(number(0))),
    "regularizer.l1": number(0),
    "regularizer.l2": number(0),
    "regularizer.clip_norm": optional(RATE),
    "regularizer.patience_epochs": optional(integer(1)),
    "augment.flip": BOOLEAN,
    "augment.shift": integer(0),
    "augment.rotate_degrees": number(0, 180),
    "augment.scale": number(0, 1, below=True),
    "augment.time_shift": number(0, 1, below=True),
    "augment.stretch": number(0, 1, below=True),
    "augment.pitch": number(0, 1, below=True),
    "augment.formants": number(0, 1, below=True),
    "augment.mixstyle": number(0, 1, below=True),
    "augment.filter": number(0),
    "augment.noise": number(0),
    "augment.time_masks": integer(0),
    "augment.time_mask_share": number(0, 1, below=True),
    "augment.band_masks": integer(0),
    "augment.band_mask_share": number(0, 1, below=True),
    "trainer.epochs": optional(integer(1)),
    "trainer.batch_size": optional(integer(1)),
    "trainer.monitor": optional(one_of("accuracy", "r2", "average_precision", "mean_score", "loss", "refinement")),
    "trainer.device": TEXT,
    "trainer.precision": one_of("fp32", "bf16"),
    "trainer.compile": BOOLEAN,
    "trainer.threads": optional(integer(1)),
    "trainer.processes": integer(1),
    "trainer.repeats": integer(1),
    "trainer.reports_per_epoch": integer(1),
    "trainer.calibration": optional(one_of("temperature")),
    "trainer.backend": one_of("auto", "eager", "batched", "vmap", "compiled", "native"),
    "automl.steps": optional(integer(1)),
    "automl.seconds": optional(RATE),
    "automl.folds": integer(2),
    "automl.portfolio": list_of(TEXT, least=1),
    "automl.search": list_of(TEXT),
    "automl.space": TEXT,
    "automl.features": list_of(TEXT),
    "automl.megabytes": RATE,
    "validation.k": integer(2),
    "validation.stratified": BOOLEAN,
    "validation.repeats": integer(1),
    "validation.gap_rows": integer(0),
    "validation.max_train_rows": optional(integer(1)),
}


def validate(configuration: Mapping[str, Any]) -> None:
    """Check a configuration against the table, and its settings against each other.

    Raises:
        UserError: with every value out of range and every contradiction, in one message.
    """
    mistakes = [*_out_of_range(configuration), *_contradictions(configuration)]
    if mistakes:
        raise UserError("\n       ".join(mistakes))


def check_kind(key: str, value: Any, default: Any) -> None:
    """Refuse a value of another type than its default; integers are allowed for numbers, null for anything.

    A default of ``???``, which must be set, does not determine the type.

    Raises:
        UserError: with the value and the required type.
    """
    if value is None or default in (None, "???"):
        return
    if not isinstance(value, _accepted(default)) or isinstance(value, bool) != isinstance(default, bool):
        raise UserError(f"{key} is {value!r}; it must be {_kind(default)}, such as {default!r}.")


def _accepted(default: Any) -> tuple[type, ...]:
    return (int, float) if isinstance(default, float) else (type(default),)


def _kind(value: Any) -> str:
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a word", list: "a list"}
    return names.get(type(value), "a mapping")


def _flat(configuration: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in configuration.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{inner}": v for inner, v in value.items()}
        else:
            flat[key] = value
    return flat


def _out_of_range(configuration: Mapping[str, Any]) -> list[str]:
    return [
        f"{key} is {value!r}; it must be {RULES[key].words}."
        for key, value in _flat(configuration).items()
        if key in RULES and _ships(configuration, key) and not RULES[key].holds(value)
    ]


def _ships(configuration: Mapping[str, Any], key: str) -> bool:
    """Return whether the table applies to this key: its option calls Hypermap or torch, not user code."""
    group = configuration.get(key.split(".")[0])
    target = group.get("_target_", "hypermap.") if isinstance(group, Mapping) else "hypermap."
    return str(target).startswith(("hypermap.", "torch."))


def _contradictions(configuration: Mapping[str, Any]) -> list[str]:
    """Return sentences about settings that are each allowed but make no sense together."""
    flat = _flat(configuration)
    found = _unnamed(flat)
    if flat.get("optimizer.nesterov") and not flat.get("optimizer.momentum"):
        found.append("optimizer.nesterov is true and optimizer.momentum is 0: give a momentum, such as 0.9.")
    epochs = _number(flat, "trainer.epochs", math.inf)
    warmup, patience = _number(flat, "scheduler.warmup_epochs"), _number(flat, "regularizer.patience_epochs")
    if warmup >= epochs > 0:
        found.append(
            f"scheduler.warmup_epochs is {warmup} and trainer.epochs is {epochs}: the warm-up must end before the "
            "training does."
        )
    if patience >= epochs > 0:
        found.append(
            f"regularizer.patience_epochs is {patience} and trainer.epochs is {epochs}: early stopping could never "
            "act; lower the one or raise the other."
        )
    if _number(flat, "optimizer.weight_decay") > 0 and _number(flat, "regularizer.l2") > 0:
        found.append("optimizer.weight_decay and regularizer.l2 both shrink the weights: set one of them to 0.")
    single = flat.get("validation._target_") == "hypermap.data.cross_validation.Holdout"
    if flat.get("final") == "bag" and single and _number(flat, "trainer.repeats", 1) == 1:
        found.append(
            f"final is bag, a mean of several models, and validation is {flat.get('validation.name')}, which has one: "
            "set validation=kfold (group_kfold, time_series) or trainer.repeats=5, or take final=refit."
        )
    return found + _of_processes(flat)


def _of_processes(flat: Mapping[str, Any]) -> list[str]:
    """Return complaints about settings that a training on several processes cannot have."""
    processes, batch = _number(flat, "trainer.processes", 1), _number(flat, "trainer.batch_size", math.inf)
    if processes < 2:
        return []
    found = []
    given = f"trainer.processes is {processes}"
    device, backend = str(flat.get("trainer.device", "auto")), flat.get("trainer.backend", "auto")
    if str(flat.get("model._target_")).startswith("hypermap.models.sklearn_models."):
        found.append(
            f"{given} and model is {flat.get('model.name')}, which is fitted in one process: set "
            "trainer.processes=1; trainer.threads is the number of its threads."
        )
    if batch < processes:
        found.append(
            f"{given} and trainer.batch_size is {batch}: each process computes at least one row of a batch, so take "
            f"at most trainer.processes={batch}."
        )
    if flat.get("trainer.compile"):
        found.append(f"{given} and trainer.compile is true: torch.compile is for one process; set one of them back.")
    if backend not in ("auto", "eager"):
        found.append(
            f"{given} and trainer.backend is {backend}, which trains on one process, and several networks as one stack "
            "there: take trainer.backend=auto, or trainer.processes=1."
        )
    if device == "mps" or ":" in device:
        named = "the one GPU of a Mac" if device == "mps" else "one device"
        found.append(
            f"{given} and trainer.device is {device}, {named}: take trainer.device=cuda, of which each process gets "
            "one (CUDA_VISIBLE_DEVICES says which there are), or cpu."
        )
    return found


def _unnamed(flat: Mapping[str, Any]) -> list[str]:
    """Return complaints about settings that a table, or a folder of images, needs."""
    reader = str(flat.get("data._target_"))
    if reader.startswith("hypermap.datasets.tables."):
        wanted = {
            "data.path": "name the file, as in data={name: table, path: my.csv, target: price}.",
            "data.target": "name the column to predict, or give its place (-1: the last).",
        }
    elif reader.startswith("hypermap.datasets.image_folder."):
        wanted = {"data.path": "name a folder that has a folder for each class, or a CSV file of paths and labels."}
    else:
        wanted = {}
    return [f"{key} is null: {advice}" for key, advice in wanted.items() if key in flat and flat[key] is None]


def _number(flat: Mapping[str, Any], key: str, default: float = 0.0) -> float:
    value = flat.get(key)
    return value if isinstance(value, int | float) else default
