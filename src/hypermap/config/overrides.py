"""Hydra's override grammar: parse arguments, write them back, and quote them if the user left out the quotes."""

import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser, create_functions
from hydra.core.override_parser.types import Override, Quote, QuotedString, Sweep
from hydra.errors import HydraException

from hypermap.core.errors import UserError
from hypermap.core.paths import PARAMS

OPEN, CLOSE = "([{", ")]}"


def parse_override(word: str, loader: ConfigLoader | None = None) -> Override:
    """Parse an argument; `loader` resolves the options that a ``glob(…)`` matches.

    Raises:
        UserError: it is not valid in Hydra's grammar; the message says how to write it.
    """
    return parse_overrides([word], loader)[0]


def parse_overrides(words: Sequence[str], loader: ConfigLoader | None = None) -> list[Override]:
    """Parse each of the arguments.

    Raises:
        UserError: as `parse_override`.
    """
    parser = OverridesParser.create()
    parsed: list[Override] = []
    for place, word in enumerate(words):
        try:
            parsed.append(parser.parse_override(word))
            parsed[-1].config_loader = loader
        except HydraException as error:
            remedy = _remedy(word, error)
            if joined := None if word.startswith("-") else _rejoined(words, place):
                remedy = f"The shell splits arguments at spaces; as one argument: {shlex.quote(joined)}"
            raise UserError(f"{word} is not understood. {remedy}") from error
    return parsed


def written(value: Any) -> str:
    """Return a value in Hydra's grammar so that it reads back unchanged: text is in quotes."""
    if isinstance(value, str):
        return QuotedString(value, Quote.double).with_quotes()
    if isinstance(value, list):
        return f"[{','.join(map(written, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{_element(key)}:{written(inner)}' for key, inner in value.items())}}}"
    return _element(value)


def word(key: str, text: str) -> str:
    """Return ``key=text``, with quotes if Hydra would not read `text` back unchanged without them."""
    plain = f"{key}={text}"
    return plain if _parses(plain) and parse_override(plain).value() == text else f"{key}={written(text)}"


def is_sweep(value: Any) -> bool:
    """Return whether a parsed value is a sweep, or contains one."""
    if isinstance(value, dict):
        return any(map(is_sweep, value.values()))
    return any(map(is_sweep, value)) if isinstance(value, list) else isinstance(value, Sweep)


def quoted(word: str) -> list[str]:
    """Return ways to write ``key=value`` that Hydra accepts, ready to paste into a shell; text gets quotes.

    If there are commas, the first is a single value and the second several values.
    """
    key, _, text = word.partition("=")
    whole, parts = written(text.strip()), ",".join(_quoted(part) for part in _split(text))
    values = [parts] if text[:1] in ("[", "{") or _function(text) else [whole, parts]
    return [shlex.quote(way) for way in dict.fromkeys(f"{key}={value}" for value in values) if _parses(way)]


def _element(value: Any) -> str:
    text: str = Override._get_value_element_as_str(value)
    return text


def _rejoined(words: Sequence[str], place: int) -> str | None:
    """Return the argument that the shell split at its spaces, of which `place` is a part; None if it was not split."""
    others = (k for k in range(place + 1, len(words)) if _parses(words[k]) and not words[k].startswith("="))
    end = next(others, len(words))
    for start in [place] if "=" in words[place] else [place, place - 1]:
        if start >= 0 and end - start > 1:
            joined = re.sub(r"\s*=\s*", "=", " ".join(words[start:end]), count=1)
            if _parses(joined):
                return joined
    return None


def _remedy(word: str, error: HydraException) -> str:
    key, equals, text = word.partition("=")
    if word.startswith("-"):
        return "Only values (key=value) are allowed here, no flags."
    if not equals:
        return "Write key=value, without spaces around the equals sign."
    if not _parses(f"{key}=1"):
        return f"Keys have ASCII letters, digits, '_' and '-' here, and {key!r} has others; {PARAMS} takes any."
    if text[:1] in ("[", "{") and any(text.count(one) != text.count(end) for one, end in zip(OPEN, CLOSE, strict=True)):
        return "One of its brackets has no other half."
    if ways := quoted(word):
        return f"Quote it: {', or for several values '.join(ways)}"
    says = f"Hydra says: {' '.join(str(error).split())}."
    return f"{says} A mapping's keys cannot be quoted here; {PARAMS} takes any." if "{" in text else says


def _quoted(text: str) -> str:
    """Return an element with quotes around each text in it that Hydra would not accept without them."""
    text = text.strip()
    if text[:1] == "[" and text[-1:] == "]":
        return f"[{','.join(map(_quoted, _split(text[1:-1])))}]"
    if text[:1] == "{" and text[-1:] == "}":
        pairs = [part.partition(":") for part in _split(text[1:-1])]
        return f"{{{', '.join(f'{key.strip()}: {_quoted(value)}' for key, _, value in pairs)}}}"
    if (call := _function(text)) is not None:
        name, arguments = call
        return f"{name}({','.join(map(_quoted, _split(arguments)))})"
    return text if _parses(f"key={text}") else written(text)


def _function(text: str) -> tuple[str, str] | None:
    """Return the name and the arguments of a call of one of Hydra's functions; None if `text` is not one."""
    found = re.fullmatch(r"(\w+)\s*\((.*)\)", text, re.DOTALL)
    return (found[1], found[2]) if found and found[1] in create_functions().functions else None


def _split(text: str) -> Iterator[str]:
    """Yield the elements of a list; commas inside brackets or quotes do not separate."""
    depth, start, quote = 0, 0, ""
    for place, character in enumerate(text):
        begins = not text[start:place].strip(" \t:[{(") or text[place - 1] in " ,:[{("
        if quote:
            quote = "" if character == quote and text[place - 1] != "\\" else quote
        elif character in "\"'" and begins and character in text[place + 1 :]:
            quote = character
        elif character in OPEN:
            depth += 1
        elif character in CLOSE:
            depth -= 1
        elif character == "," and depth == 0:
            yield text[start:place]
            start = place + 1
    if text[start:].strip() or start:
        yield text[start:]


def _parses(word: str) -> bool:
    try:
        OverridesParser.create().parse_override(word)
    except HydraException:
        return False
    return True
