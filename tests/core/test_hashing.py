"""What names content: the same for equal content, whatever else differs."""

import hashlib

from hypermap.core import hashing
from hypermap.core.hashing import own_code


def test_a_fingerprint_ignores_the_order_of_keys_and_nothing_else():
    value = {"a": 1, "b": {"c": [1, 2], "d": None}}
    name = hashing.fingerprint(value)
    assert name == hashing.fingerprint({"b": {"d": None, "c": [1, 2]}, "a": 1})
    others = [
        {"a": 2, "b": {"c": [1, 2], "d": None}},
        {"a": 1, "b": {"c": [2, 1], "d": None}},
        {"a": 1, "b": {"c": [1, 2], "d": 0}},
        {"a": "1", "b": {"c": [1, 2], "d": None}},
        {"a": 1, "b": {"c": [1, 2]}},
    ]
    assert len({name, *map(hashing.fingerprint, others)}) == 6
    assert len(name) == 16
    assert set(name) <= set("0123456789abcdef")


def test_a_fingerprint_is_the_same_in_every_process():
    assert hashing.fingerprint({"lr": 0.1, "hidden": [128]}) == "2aa495597c9b58e0"


def test_code_is_read_once_for_it_is_imported_once(tmp_path):
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "one.py").write_text("1\n")
    (tmp_path / "its.py").write_text("2\n")
    both = hashlib.sha256(b"2\n1\n").hexdigest()  # in the order of their paths
    first = hashing.fingerprint_of_code(("room",), frozenset([tmp_path / "its.py"]), tmp_path)
    assert first == both
    (tmp_path / "room" / "one.py").write_text("3\n")
    assert hashing.fingerprint_of_code(("room",), frozenset([tmp_path / "its.py"]), tmp_path) == first
    assert hashing.fingerprint_of_code(("room",), package=tmp_path) == hashlib.sha256(b"3\n").hexdigest()


def test_a_kernels_code_is_code_and_what_is_made_of_it_is_none(tmp_path):
    for name in ("kernel.cpp", "matrix.h", "module.py", "module.pyc", "table.csv"):
        (tmp_path / name).write_text(f"{name}\n")
    code = b"kernel.cpp\nmatrix.h\nmodule.py\n"
    assert hashing.fingerprint_of_code((".",), package=tmp_path) == hashlib.sha256(code).hexdigest()


def test_own_modules_are_named_with_all_that_they_import(tmp_path, monkeypatch):
    monkeypatch.setattr("hypermap.core.instantiate.SOURCES", tmp_path)
    files = {
        "net.py": "import layers.dense\nfrom torch import nn\n",
        "layers/__init__.py": "",
        "layers/dense.py": "from . import init\nimport losses  # there is none\n",
        "layers/init.py": "import net\n",
        "other.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    configuration = {"model": {"_target_": "net.Net"}, "loss": {"_target_": "hypermap.tasks.losses.Auto"}}
    expected = {"net": "net.py", "layers": "layers/__init__.py", "layers.dense": "layers/dense.py"}
    expected["layers.init"] = "layers/init.py"
    assert own_code(configuration) == {
        name: hashlib.sha256((tmp_path / file).read_bytes()).hexdigest() for name, file in expected.items()
    }
    assert own_code({"model": {"_target_": "torch.nn.ReLU"}}) == {}
