"""Checks a study's record of its start (conf/, params.yaml, command) as untrusted data before a sweep resumes."""

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, QuotedString, Sweep
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hypermap.core.errors import UserError
from hypermap.core.hashing import checksum_of
from hypermap.core.instantiate import TRUST, check_part, check_plain, check_record
from hypermap.core.paths import CONF
from hypermap.search.place import folder_of
from hypermap.search.study import RECORD, SNAPSHOT, find

STRATEGIES = re.compile(
    r"optuna\.(samplers|pruners)\.[A-Z]\w*|hypermap\.search\.(auto|auto_pruner|gradient|numbered)\.[A-Z]\w*"
)
"""The samplers and pruners that a record may name."""
OF_HYDRA = ("sweeper", "sweep", "run", "job", "help", "mode", "output_subdir")
"""The settings of Hydra that a record may have: others start programs, or call what they name."""
HARMLESS = re.compile(r"\$\{(?:[\w.]+|(?:hydra|now):[^${}]*)\}")
"""An interpolation of a key, of ``hydra:`` or of ``now:``; others read the environment, or evaluate text."""


def begun(name: str, *, trust: bool = False) -> tuple[dict[str, Any], Path]:
    """Return the record of a study, and the folder of the configuration that it started from.

    Raises:
        UserError: there is no such study, another program made it, the folder is gone; or they name code outside this
            project without `trust`.
    """
    study, _ = find(name)
    record: dict[str, Any] | None = study.user_attrs.get(RECORD)
    if record is None:
        raise UserError(f"{name} was made by another program, and does not tell what its trials were trained with.")
    if "base" not in record:
        program = record.get("program", "PROGRAM")
        raise UserError(
            f"{name} was not searched by src/train.py. Give its command once more with hydra.sweeper.confirm=true "
            f"(python {program} -m …)."
        )
    conf = folder_of(name) / SNAPSHOT
    if not conf.is_dir():
        raise UserError(f"{conf}, the configuration that {name} began from, is gone: nothing can be trained as it was.")
    renew_hydra(conf, CONF)
    if not trust:
        check_conf(conf, TRUST)
        check_begun(study, [*record["command"], *record.get("hydra", []), *record.get("fixed", [])], record)
    return record, conf


def renew_hydra(folder: Path, options: Path) -> None:
    """Replace the groups of Hydra itself in a copy of conf/ by the present ones.

    They say how workers are launched, which is no part of a study and may start any program.
    """
    own, copied = options / "hydra", folder / "hydra"
    if options == folder or (own.is_dir() and copied.is_dir() and checksum_of([own]) == checksum_of([copied])):
        return
    shutil.rmtree(copied, ignore_errors=True)
    if own.is_dir():
        shutil.copytree(own, copied)


def check_conf(folder: Path, remedy: str) -> None:
    """Refuse a copy of conf/ with files that differ from those in conf/ and name code that is not a part.

    Raises:
        UserError: with the file, and what it names.
    """
    for file in sorted(folder.rglob("*.yaml")):
        own = CONF / file.relative_to(folder)
        content = file.read_bytes()
        if own.is_file() and own.read_bytes() == content:
            continue
        try:
            settings = yaml.safe_load(content)
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(f"{file} is not readable YAML: {error}") from None
        _check(settings, str(file), remedy)
        _check_hydra(settings, own, file, remedy)


def check_begun(study: optuna.Study, words: Sequence[str], record: Mapping[str, Any]) -> None:
    """Refuse a study whose command, params.yaml or values name code that is not a part, or change Hydra's startup.

    Raises:
        UserError: with what they name, or if they are unreadable.
    """
    origin, space = f"study {study.study_name}", record["identity"]["space"]
    keys = {name: str(entry["key"]) for name, entry in space.items()}
    values = {(keys.get(name, name), str(v)) for trial in study.trials for name, v in trial.params.items()}
    try:
        params: Any = OmegaConf.to_container(OmegaConf.create(str(record["base"])))
        parsed = OverridesParser.create().parse_overrides([*words, *(f"{key}={v}" for key, v in sorted(values))])
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
        raise UserError(f"{origin} keeps a command or a params.yaml that cannot be read: {error}") from None
    check_record(params, origin)
    check_plain(params, origin)
    for entry in space.values():
        if "." in str(entry.get("mapping")):
            check_part(f"{entry['mapping']}.forward", f"{origin}: a mapping")
    for override in parsed:
        key, value = str(override.key_or_group), _plain(override.value())
        first, second, third, *_ = [*re.split(r"[./@]", key), "", "", ""]
        number = second == "launcher" and ("/" in key or isinstance(value, int | float))
        if first == "hydra" and not number and (second not in OF_HYDRA or third == "env_set"):
            raise UserError(f"{origin} begins with {override.input_line!r}, which may start any program. {TRUST}")
        _check(_nested(key, value), origin, TRUST)
        if key.endswith("_target_") and isinstance(value, list):
            for path in value:
                _check(_nested(key, path), origin, TRUST)


def _check(settings: Any, origin: str, remedy: str) -> None:
    """Refuse settings that name code that is not a part, at any depth."""
    check_record(_without_strategies(settings), origin, remedy=remedy)
    for key, value in _texts(settings, ""):
        if key.endswith("custom_search_space"):
            check_part(value, f"{origin}: {key}", remedy=remedy)
        for path in re.findall(r"[A-Za-z_]\w*(?:\.\w+)+", "".join(re.findall(r"tag\(([^()]*)", value))):
            check_part(f"{path}.forward", f"{origin}: {key}", remedy=remedy)
        if "${" in HARMLESS.sub("", value):
            check_plain(value, f"{origin}: {key}")


def _check_hydra(settings: Any, own: Path, file: Path, remedy: str) -> None:
    """Refuse settings that change Hydra's startup, unless the user's own file has the same."""
    if not isinstance(settings, dict):
        return
    usual = yaml.safe_load(own.read_bytes()) if own.is_file() else None
    said, known = (part.get("hydra") if isinstance(part, dict) else None for part in (settings, usual))
    known = known if isinstance(known, dict) else {}
    said = {} if said is None else said if isinstance(said, dict) else {"": said}
    odd = [f"hydra.{key}" for key, value in said.items() if key not in OF_HYDRA and known.get(key) != value]
    odd += ["hydra.job.env_set"] if "env_set" in str(said.get("job")) else []
    odd += [str(one) for one in settings.get("defaults") or [] if re.search(r"@.*hydra", str(one))]
    odd += re.findall(r"^#\s*@package.*hydra.*", file.read_text(encoding="utf-8"), re.MULTILINE)
    odd += ["groups of Hydra's own"] if "hydra" in own.relative_to(CONF).parts[:-1] else []
    if odd:
        raise UserError(f"{file} sets {odd[0]}, which may start any program. {remedy}")


def _without_strategies(settings: Any) -> Any:
    """Return the settings without the names of samplers and pruners."""
    if isinstance(settings, Mapping):
        kept = {key: _without_strategies(value) for key, value in settings.items()}
        if STRATEGIES.fullmatch(str(kept.get("_target_"))):
            del kept["_target_"]
        return kept
    return [_without_strategies(value) for value in settings] if isinstance(settings, list) else settings


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts(inner, f"{key}.{name}".lstrip("."))
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, key)
    elif isinstance(value, str):
        yield key, value


def _nested(key: str, value: Any) -> dict[str, Any]:
    """Return a value at its dotted key, as nested mappings."""
    for part in reversed(re.split(r"[./]", key.lstrip("+~"))):
        value = {part: value}
    return dict(value)


def _plain(value: Any) -> Any:
    """Return Hydra's parsed value as plain JSON; for a sweep its values, and the names of its tags."""
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, ChoiceSweep):
        return [*map(_plain, value.list), *_tags(value)]
    if isinstance(value, Sweep):
        return _tags(value)
    if isinstance(value, dict):
        return {str(_plain(key)): _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def _tags(sweep: Sweep) -> list[str]:
    return [f"tag({tag}" for tag in sweep.tags]
