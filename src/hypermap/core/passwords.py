"""Passwords in URLs: never written to a file or printed; the environment supplies one that is masked."""

import os
import re
from urllib.parse import quote, unquote_plus

from hypermap.core.errors import UserError

MASK = "***"
VARIABLE = "HYPERMAP_STORAGE_PASSWORD"
HOW = f"`{MASK}` stands for a password, which is given by the environment variable `{VARIABLE}`."

_URL = re.compile(r"://[^\s'\"`<>|]+")  # in text, from the end of the scheme
_SECRET = re.compile(r"passw|passphrase|^pass$|pwd|secret|token|credential|api_?key|odbc_connect")  # query keys

_opened: dict[str, str] = {}
"""Maps each masked URL to the URL itself, for those that were given to this process."""


def shown(url: str) -> str:
    """Return a URL, or an argument that ends with one, that is safe to show: passwords are replaced by `MASK`."""
    head, scheme, rest = url.partition("://")
    if not scheme:
        return url
    rest, quoted, end = rest.rpartition(_quote(head)) if _quote(head) in rest else (rest, "", "")
    user, password, place = _split(rest)
    before, question, query = place.partition("?")
    query = re.sub(r"([^&;=]+)=([^&;]+)", _masked_pair, query)
    return f"{head}://{user}{MASK if password else ''}{before}{question}{query}{quoted}{end}"


def masked(text: str) -> str:
    """Return a text with the passwords of all URLs masked."""
    return _URL.sub(lambda url: shown(url[0]), text)


def secrets(url: str) -> set[str]:
    """Return what `shown` masks in a URL, both as written and decoded."""
    _, password, place = _split(url.partition("://")[2])
    pairs = re.findall(r"([^&;=]+)=([^&;]+)", place.partition("?")[2])
    written = [value for key, value in pairs if _is_secret(key)] + [password]
    return {form for value in written for form in (value, unquote_plus(value))} - {"", MASK}


def revealed(url: str) -> str:
    """Return a masked URL with its passwords restored: as given to this process, or from the environment.

    Raises:
        UserError: the password is in neither.
    """
    if "://" not in url or MASK not in url:
        _opened[shown(url)] = url
        return url
    if url in _opened:
        return _opened[url]
    if (password := os.environ.get(VARIABLE)) is None:
        raise UserError(f"The password of {url} is not written down. Give it by the environment: export {VARIABLE}=…")
    return url.replace(MASK, quote(password, safe=""))


def _quote(head: str) -> str:
    """Return the quote character around a URL in a Hydra override, given the text before it; NUL if none."""
    found = re.search(r"(['\"])[\w+.-]+$", head)
    return found[1] if found else "\0"


def _split(rest: str) -> tuple[str, str, str]:
    """Split what follows ``://`` into three: the text before the password, the password, and the rest.

    In SQLAlchemy's reading it ends at the first ``@``; if there are more before the query, the password was not
    encoded, and is assumed to extend to the last one.
    """
    found = re.match(r"([^/@:?]*:)((?:[^@]|@(?=[^?]*@))+)(@.*)", rest, re.DOTALL)
    return (found[1], found[2], found[3]) if found else ("", "", rest)


def _is_secret(key: str) -> bool:
    return _SECRET.search(unquote_plus(key).lower()) is not None


def _masked_pair(pair: re.Match[str]) -> str:
    return f"{pair[1]}={MASK}" if _is_secret(pair[1]) else pair[0]
