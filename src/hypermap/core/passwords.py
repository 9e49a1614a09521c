"""Passwords of URLs: none is written down or printed, and one that is masked is given by the environment."""

import os
import re
from urllib.parse import quote, unquote_plus

from hypermap.core.errors import UserError

MASK = "***"
VARIABLE = "HYPERMAP_STORAGE_PASSWORD"
HOW = f"`{MASK}` stands for a password, which is given by the environment variable `{VARIABLE}`."

_URL = re.compile(r"://[^\s'\"`<>|]+")  # in a text, from where its scheme ends
_SECRET = re.compile(r"passw|passphrase|^pass$|pwd|secret|token|credential|api_?key|odbc_connect")  # keys of a query

_opened: dict[str, str] = {}
"""By a URL as it is shown, the URL itself, of those that this process was given."""


def shown(url: str) -> str:
    """Return a URL, or a word that ends with one, as it may be seen by anybody: passwords are `MASK`."""
    head, scheme, rest = url.partition("://")
    if not scheme:
        return url
    rest, quoted, end = rest.rpartition(_quote(head)) if _quote(head) in rest else (rest, "", "")
    user, password, place = _split(rest)
    before, question, query = place.partition("?")
    query = re.sub(r"([^&;=]+)=([^&;]+)", _masked_pair, query)
    return f"{head}://{user}{MASK if password else ''}{before}{question}{query}{quoted}{end}"


def masked(text: str) -> str:
    """Return a text in which no URL has its password."""
    return _URL.sub(lambda url: shown(url[0]), text)


def secrets(url: str) -> set[str]:
    """Return what `shown` masks in a URL, as it is written there and decoded."""
    _, password, place = _split(url.partition("://")[2])
    pairs = re.findall(r"([^&;=]+)=([^&;]+)", place.partition("?")[2])
    written = [value for key, value in pairs if _is_secret(key)] + [password]
    return {form for value in written for form in (value, unquote_plus(value))} - {"", MASK}


def revealed(url: str) -> str:
    """Return a URL whose passwords are masked with them: as this process was given it, or by the environment.

    Raises:
        UserError: neither has it.
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
    """Return the quote in which a word of Hydra's has a URL, by what stands before it; a null character where it has
    none.
    """
    found = re.search(r"(['\"])[\w+.-]+$", head)
    return found[1] if found else "\0"


def _split(rest: str) -> tuple[str, str, str]:
    """Return what comes after ``://``, in three: up to the password, it, and what follows.

    As SQLAlchemy reads it, it ends at the first ``@``; where more of them come before the query it was not encoded, and
    is taken to go on to the last.
    """
    found = re.match(r"([^/@:?]*:)((?:[^@]|@(?=[^?]*@))+)(@.*)", rest, re.DOTALL)
    return (found[1], found[2], found[3]) if found else ("", "", rest)


def _is_secret(key: str) -> bool:
    return _SECRET.search(unquote_plus(key).lower()) is not None


def _masked_pair(pair: re.Match[str]) -> str:
    return f"{pair[1]}={MASK}" if _is_secret(pair[1]) else pair[0]
