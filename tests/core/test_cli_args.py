import shlex
import subprocess

import pytest

from hypermap.config.compose import compose
from hypermap.core.cli_args import check_none, override, read_words
from hypermap.core.errors import UserError


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


def test_a_stage_takes_no_words_and_says_where_they_belong():
    check_none([""])
    with pytest.raises(
        UserError, match=r"'a=1 2' is not understood: .* takes no arguments, .*: dvc exp run -S 'a=1 2' -S b=x"
    ):
        check_none(["a=1 2", "b=x"])
    with pytest.raises(
        UserError, match=r"'fast' is not understood: .* beside --config, .* params\.yaml .* dvc repro\.$"
    ):
        check_none(["fast", "b=x"], " beside --config")


@pytest.mark.parametrize(
    "name",
    [
        "age", "size, cm", "Preis (€)", "it's", 'say "x"', "back\\", '\\"', "a\nb", "${x}", "\\${x}", "a${", "null",
        "3", "true", " blank ", "[x]", "{y: 1}", "=z", "#1", "*", "$HOME", "`ls`", "a;b|c&d", "Größe", "%d/%m/%Y",
    ],
)  # fmt: skip
def test_a_word_that_is_advised_comes_back_through_shell_and_hydra(name):
    advised = {"drop": [name, 3], "kinds": [(name, "category")], "time": name}
    words = [override(f"data.{key}", value) for key, value in advised.items()]
    split = subprocess.run(["bash", "-c", f"printf '%s\\0' {' '.join(words)}"], capture_output=True, check=True)
    data = compose(["data=table", "data.path=x.csv", "data.target=y", *split.stdout.decode().split("\0")[:-1]])["data"]
    assert (data["drop"], data["kinds"], data["time"]) == ([name, 3], [[name, "category"]], name)


def test_a_word_for_a_command_that_is_no_hydra_application_is_as_it_is_read_there():
    assert read_words(shlex.split(override("decimal", ",")), ["decimal"]) == {"decimal": ","}
