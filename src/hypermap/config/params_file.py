"""params.yaml as text: edited where a value changes, so that it stays the file that a person wrote."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from hypermap.config.compose import defaults_of, group_defaults
from hypermap.config.groups import TUNED, VALUES, Configuration

Edit = tuple[int, int, str]  # from where to where in the text, and what is to stand there
OCTAL = re.compile(r"[-+]?0o[0-7_]+")
PLAIN = re.compile(r"[A-Za-z_./~][\w./~-]*")  # strings that need no quotes, unless YAML reads them as something else


def params_text(configuration: Configuration, base: str, folder: Path | None = None) -> str:
    """Return a params.yaml that composes to `configuration`, with the config groups in `folder` or else conf/:
    `base`, changed.

    A group says what `base` says of it, where the choice is the same, and what differs from the choice's own file.
    An experiment stays named where the choices are its own. A key that no option has (``+model.key=…`` adds one)
    cannot be written there, and is refused when it is composed.

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
        params[group] = _ordered(configuration[group], options[group], base.get(group))
    for key in VALUES:
        value = configuration[key]
        if key in base or not _same(value, options[key]):
            params[key] = _shown(value, options[key], base.get(key) or {}) if isinstance(value, dict) else value
    return params


def rewrite(text: str, params: Mapping[str, Any], *, alone: bool = False) -> str:
    """Return the YAML `text` with these entries in place of its own; comments, and what does not change, stay as they
    are.

    Other entries stay too, unless `alone`: then they go. A mapping that keeps all its keys is edited value by value.
    Text with anchors, or in one pair of braces, is written anew.
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
    """Return the experiment that the options are those of, if there is one, and the values to which params.yaml adds
    its own.
    """
    experiment = configuration["experiment"]
    if experiment:
        options = group_defaults(f"experiment={experiment}", folder)
        if all(options[group]["name"] == configuration[group]["name"] for group in TUNED):
            return experiment, options
    return None, _menu_with({group: configuration[group]["name"] for group in TUNED}, folder)


def _menu_with(choices: Mapping[str, str], folder: Path | None) -> Configuration:
    """Return what conf/ has with these options; those that are new are composed together, for each takes as long as
    all.

    A group's values are those of its own choice, whatever the others are.
    """
    known = _known(folder)
    if new := {group: choice for group, choice in choices.items() if (group, choice) not in known}:
        composed = defaults_of(new, folder, resolved=False)
        known |= {(group, choice): composed[group] for group, choice in new.items()}
        known |= {(key, None): composed[key] for key in VALUES}
    return {key: known[key, choices.get(key)] for key in (*choices, *VALUES)}


@cache
def _known(folder: Path | None) -> dict[tuple[str, str | None], Any]:
    """Return what is known of the config groups, for the life of the process: by group and option, or by a key that
    is no group.
    """
    return {}


def _ordered(chosen: Mapping[str, Any], options: Mapping[str, Any], base: Any) -> Any:
    """Return the entry of one group."""
    name = chosen["name"]
    stays = isinstance(base, dict) and str(base.get("name")) == name
    values = _shown({key: value for key, value in chosen.items() if key != "name"}, options, base if stays else {})
    return {"name": name, **values} if values or stays else name


def _shown(values: Mapping[str, Any], options: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `base` tells, in its order, and what differs from the options."""
    visible = [key for key in base if key in values]
    differing = [key for key in values if key not in base and not (key in options and _same(values[key], options[key]))]
    return {key: values[key] for key in (*visible, *differing)}


def _same(one: Any, other: Any) -> bool:
    """Return whether two values are equal and of one kind: 1 is not 1.0, nor true."""
    return repr(one) == repr(other)


@lru_cache(maxsize=8)
def _outline(text: str) -> tuple[Sequence[tuple[yaml.Node, yaml.Node]] | None, dict[str, Any]]:
    """Return where in the text each entry stands (None where they cannot be edited in place), and what they say."""
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
    """Yield what turns the entry `key: node`, which says `old`, into one that says `new`."""
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
    """Return whether a value holds a word that YAML 1.2, which DVC reads, takes for a number."""
    if isinstance(node, yaml.ScalarNode):
        return node.style is None and OCTAL.fullmatch(node.value) is not None
    inner = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
    return any(map(_two_faced, inner))


def _addition(text: str, node: yaml.MappingNode, added: Mapping[str, Any]) -> Edit:
    """Return what puts further keys at the end of a mapping, in its own style."""
    entries = [f"{key}: {_flow(value)}" for key, value in added.items()]
    if not node.value:
        return node.start_mark.index + 1, node.start_mark.index + 1, ", ".join(entries)
    end = _end(text, node.value[-1][1])
    if node.flow_style:
        return end, end, "".join(f", {entry}" for entry in entries)
    indent = " " * node.value[0][0].start_mark.column
    return _line_end(text, end), _line_end(text, end), "".join(f"\n{indent}{entry}" for entry in entries)


def _end(text: str, node: yaml.Node) -> int:
    """Return where a value ends: a block's last value, for the parser counts the comments that follow it in."""
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
    """Values on one line, which YAML of either version (1.1, 1.2) reads back as they are."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    style = None if PLAIN.fullmatch(value) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Flow.add_representer(str, _represent)


def _flow(value: Any) -> str:
    """Return a value on one line; as the only one of a list, since that is where all kinds are written alike."""
    options: dict[str, Any] = {"default_flow_style": True, "width": 2**20, "sort_keys": False, "allow_unicode": True}
    text: str = yaml.dump([value], Dumper=_Flow, **options)
    return text.strip().removeprefix("[").removesuffix("]")
