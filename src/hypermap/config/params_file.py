"""Edits params.yaml as text, only where a value changes, so that the user's layout and comments are kept."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from hypermap.config.compose import defaults_of, group_defaults
from hypermap.config.groups import TUNED, VALUES, Configuration

Edit = tuple[int, int, str]  # start and end in the text, and the replacement
OCTAL = re.compile(r"[-+]?0o[0-7_]+")
PLAIN = re.compile(r"[A-Za-z_./~][\w./~-]*")  # strings that need no quotes, unless YAML reads them as another type


def params_text(configuration: Configuration, base: str, folder: Path | None = None) -> str:
    """Return `base` edited to a params.yaml that composes to `configuration`, with the groups in `folder` or conf/.

    A group has the values that `base` gives it, if the option is the same, and those that differ from the option's
    file. An experiment is still named if the options are its own. A key that no option has (``+model.key=…`` adds one)
    cannot be expressed there, and is refused when it is composed.

    Raises:
        UserError: conf/ lacks an option of the configuration.
    """
    return rewrite(base, params_of(configuration, _outline(base)[1], folder))


def params_of(configuration: Configuration, base: Mapping[str, Any], folder: Path | None = None) -> dict[str, Any]:
    """Return what `params_text` writes, as a dictionary."""
    experiment, options = _options(configuration, folder)
    params: dict[str, Any] = {}
    if experiment or "experiment" in base:
        params["experiment"] = experiment
    for group in TUNED:
        chosen = configuration.get(group)  # which an earlier conf/ may lack
        if chosen is None or (group == "automl" and group not in base and chosen["name"] == "none"):
            continue
        params[group] = _ordered(chosen, options[group], base.get(group))
    for key in VALUES:
        value = configuration[key]
        if key in base or not _same(value, options[key]):
            params[key] = _shown(value, options[key], base.get(key) or {}) if isinstance(value, dict) else value
    return params


def rewrite(text: str, params: Mapping[str, Any], *, alone: bool = False) -> str:
    """Return the YAML `text` with these entries instead of its own; comments and unchanged values are kept.

    Other entries are kept too, unless `alone`: then they are removed. A mapping that keeps all its keys is edited value
    by value. Text with anchors, or in one pair of braces, is rewritten.
    """
    entries, present = _outline(text)
    kept = {} if alone else present
    if entries is None:
        return "".join(f"{key}: {_flow(value)}\n" for key, value in {**kept, **params}.items())
    edits: list[Edit] = []
    for key, node in entries:
        if key.value not in params:
            edits += [(_line_start(text, key), _line_end(text, _end(text, node)) + 1, "")] if alone else []
        else:
            edits += _edits(text, key, node, present[key.value], params[key.value])
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    added = [f"{key}: {_flow(value)}\n" for key, value in params.items() if key not in present]
    return text + ("" if text.endswith("\n") or not added else "\n") + "".join(added)


def _options(configuration: Configuration, folder: Path | None) -> tuple[str | None, Configuration]:
    """Return the experiment whose options these are, if any, and the values that params.yaml is compared with."""
    experiment = configuration["experiment"]
    choices = {group: configuration[group]["name"] for group in TUNED if group in configuration}
    if experiment:
        options = group_defaults(f"experiment={experiment}", folder)
        if all(options[group]["name"] == choice for group, choice in choices.items()):
            return experiment, options
    return None, _options_with(choices, folder)


def _options_with(choices: Mapping[str, str], folder: Path | None) -> Configuration:
    """Return the configuration of conf/ with these options; new ones are composed together: one takes as long as all.

    A group's values depend on its own option alone.
    """
    known = _known(folder)
    if new := {group: choice for group, choice in choices.items() if (group, choice) not in known}:
        composed = defaults_of(new, folder, resolved=False)
        known |= {(group, choice): composed[group] for group, choice in new.items()}
        known |= {(key, None): composed[key] for key in VALUES}
    return {key: known[key, choices.get(key)] for key in (*choices, *VALUES)}


@cache
def _known(folder: Path | None) -> dict[tuple[str, str | None], Any]:
    """Return the cache of the config groups for this process, by group and option, or by a key without a group."""
    return {}


def _ordered(chosen: Mapping[str, Any], options: Mapping[str, Any], base: Any) -> Any:
    """Return the entry of one group."""
    name = chosen["name"]
    stays = isinstance(base, dict) and str(base.get("name")) == name
    values = _shown({key: value for key, value in chosen.items() if key != "name"}, options, base if stays else {})
    return {"name": name, **values} if values or stays else name


def _shown(values: Mapping[str, Any], options: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that `base` has, in its order, and those that differ from the options."""
    visible = [key for key in base if key in values]
    differing = [key for key in values if key not in base and not (key in options and _same(values[key], options[key]))]
    return {key: values[key] for key in (*visible, *differing)}


def _same(one: Any, other: Any) -> bool:
    """Return whether two values are equal and of the same type: 1 is not 1.0, nor true."""
    return repr(one) == repr(other)


@lru_cache(maxsize=8)
def _outline(text: str) -> tuple[Sequence[tuple[yaml.Node, yaml.Node]] | None, dict[str, Any]]:
    """Return the nodes of the entries in the text (None if they cannot be edited in place), and their values."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if root is None:
        return (), {}
    says = OmegaConf.to_container(OmegaConf.create(text))
    assert isinstance(says, dict)
    in_place = isinstance(root, yaml.MappingNode) and not root.flow_style and not _has_aliases(text)
    return root.value if in_place else None, {str(key): value for key, value in says.items()}


def _has_aliases(text: str) -> bool:
    return any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader))


def _edits(text: str, key: yaml.Node, node: yaml.Node, old: Any, new: Any) -> Iterator[Edit]:
    """Yield the edits that turn the entry `key: node` with the value `old` into one with the value `new`."""
    if _same(old, new) and not _two_faced(node):
        return
    stays = isinstance(old, dict) and isinstance(new, dict) and old.keys() <= new.keys()
    if stays and isinstance(node, yaml.MappingNode):
        for inner, value in node.value:
            yield from _edits(text, inner, value, old[inner.value], new[inner.value])
        if added := {name: value for name, value in new.items() if name not in old}:
            yield _addition(text, node, added)
    elif isinstance(node, yaml.CollectionNode) and not node.flow_style:
        line_end = _line_end(text, key.end_mark.index)
        yield key.end_mark.index + 1, key.end_mark.index + 1, f" {_flow(new)}"
        yield line_end, _line_end(text, _end(text, node)), ""
    else:
        start = node.start_mark.index
        yield start, _end(text, node), _flow(new) if text[start - 1].isspace() else f" {_flow(new)}"


def _two_faced(node: yaml.Node) -> bool:
    """Return whether a value contains a string that YAML 1.2, which DVC reads, takes for a number."""
    if isinstance(node, yaml.ScalarNode):
        return node.style is None and OCTAL.fullmatch(node.value) is not None
    inner = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
    return any(map(_two_faced, inner))


def _addition(text: str, node: yaml.MappingNode, added: Mapping[str, Any]) -> Edit:
    """Return the edit that appends keys to a mapping, in its own style."""
    entries = [f"{key}: {_flow(value)}" for key, value in added.items()]
    if not node.value:
        return node.start_mark.index + 1, node.start_mark.index + 1, ", ".join(entries)
    end = _end(text, node.value[-1][1])
    if node.flow_style:
        return end, end, "".join(f", {entry}" for entry in entries)
    indent = " " * node.value[0][0].start_mark.column
    return _line_end(text, end), _line_end(text, end), "".join(f"\n{indent}{entry}" for entry in entries)


def _end(text: str, node: yaml.Node) -> int:
    """Return where a value ends: for a block, at its last value, since the parser includes the comments after it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(text, last[1] if isinstance(node, yaml.MappingNode) else last)
    return node.start_mark.index + len(text[node.start_mark.index : node.end_mark.index].rstrip())


def _line_start(text: str, node: yaml.Node) -> int:
    return text.rfind("\n", 0, node.start_mark.index) + 1


def _line_end(text: str, index: int) -> int:
    end = text.find("\n", index)
    return len(text) if end < 0 else end


class _Flow(yaml.SafeDumper):
    """Dumps values on one line, so that YAML 1.1 and 1.2 read them back unchanged."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    style = None if PLAIN.fullmatch(value) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Flow.add_representer(str, _represent)


def _flow(value: Any) -> str:
    """Return a value on one line; dumped as the only element of a list, where all types are written in the same way."""
    options: dict[str, Any] = {"default_flow_style": True, "width": 2**20, "sort_keys": False, "allow_unicode": True}
    text: str = yaml.dump([value], Dumper=_Flow, **options)
    return text.strip().removeprefix("[").removesuffix("]")
