"""The words of a command that is no Hydra application: ``key=value`` each."""

from collections.abc import Iterable, Sequence

from hypermap.errors import UserError, near


def read_words(words: Sequence[str], known: Iterable[str]) -> dict[str, str]:
    """The values by their keys, as they were written; words that are empty are left out.

    Raises:
        UserError: a word is no ``key=value``, its key is not known, or given twice.
    """
    given: dict[str, str] = {}
    keys = list(known)
    for word in filter(None, words):
        key, equals, value = word.partition("=")
        if not equals or key not in keys:
            raise UserError(f"{word!r} is not understood{near(key, keys)}. Write key=value; keys: {', '.join(keys)}.")
        if key in given:
            raise UserError(f"{key} is given twice: {key}={given[key]} and {word}.")
        given[key] = value
    return given
