import pytest

from hypermap.errors import UserError
from hypermap.words import read_words


def test_values_are_what_was_written_and_may_hold_an_equals_sign():
    assert read_words(["a=1", "", "b=x=y", "c="], "abc") == {"a": "1", "b": "x=y", "c": ""}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["mdoel=x"], r"'mdoel=x' is not understood \(did you mean 'model'\?\)\. Write key=value; keys: model, output"),
        (["model"], "'model' is not understood"),
        (["model=a", "model=b"], "model is given twice: model=a and model=b"),
    ],
)
def test_a_word_that_is_not_understood_is_told_with_what_there_is(words, told):
    with pytest.raises(UserError, match=told):
        read_words(words, ["model", "output"])
