"""What a person is told."""

from collections.abc import Callable
from typing import Any

import pytest

from hypermap.core.errors import UserError


def refusal(function: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    """What a call that has to be refused says to the person."""
    with pytest.raises(UserError) as told:
        function(*args, **kwargs)
    return str(told.value)
