"""Where a study's folder is: each study has one, and is found in it by its name."""

import shlex
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from hypermap.core.errors import UserError
from hypermap.core.files import write_json
from hypermap.search.place import check_place, folder_of, remember
from hypermap.search.space import Space
from hypermap.search.study import WHERE, StudyConfig


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")


def planned(name, folder):
    folder = Path(folder).absolute()
    strategy = {"sampler": {}, "pruner": {}, "n_trials": 1, "seed": 0}
    return StudyConfig(name, str(folder / "journal.log"), folder, Space(), ("maximize",), (), **strategy)


def begun(name, folder):
    """A study as a sweep leaves it."""
    plan = planned(name, folder)
    check_place(plan)
    write_json(plan.folder / WHERE, {"name": name, "storage": plan.storage})
    (plan.folder / "journal.log").touch()
    remember(plan)
    return plan


def test_a_study_is_found_by_its_name_wherever_it_is():
    begun("usual", "studies/usual")
    begun("far", "../elsewhere (1)/of mine")
    assert folder_of("usual") == Path("studies/usual").absolute()
    assert folder_of("far") == Path("../elsewhere (1)/of mine").absolute()
    begun("far", "../elsewhere (1)/of mine")  # goes on
    assert [path.name for path in Path("studies/far").iterdir()] == [WHERE]


def test_a_folder_is_one_studys():
    begun("first", "../shared (1)")
    with pytest.raises(UserError, match="is the folder of the study first, and this one is second") as told:
        begun("second", "../shared (1)")
    (way,) = shlex.split(str(told.value).partition("a folder of its own: ")[2])
    folder = OverridesParser.create().parse_override(way).value()
    assert Path(folder).resolve() == Path("../second").resolve()
    assert not Path("studies/second").exists()
    begun("second", folder)


def test_a_folder_whose_study_is_gone_is_free():
    (begun("first", "../shared").folder / "journal.log").unlink()
    begun("second", "../shared")


def test_a_name_is_one_studys():
    begun("lr", "studies/lr")
    with pytest.raises(UserError, match=r"go on with it: leave hydra\.sweep\.dir out$"):
        begun("lr", "../elsewhere")
    begun("far", "../far")
    for folder in ("studies/far", "../elsewhere"):
        with pytest.raises(UserError, match=r"go on with it: hydra\.sweep\.dir=\S+/far$"):
            begun("far", folder)
    (Path("../far") / "journal.log").unlink()
    begun("far", "../elsewhere")


def test_a_damaged_note_stops_nobody():
    Path("studies/lr").mkdir(parents=True)
    for text in ("", "[]", "{}", '{"name": "lr"}'):
        Path("studies/lr", WHERE).write_text(text)
        check_place(planned("lr", "studies/lr"))
        assert folder_of("lr") == Path("studies/lr").absolute()
