"""No file that a study leaves, and no message, has the password of a storage; SQLAlchemy says what it is."""

import json
from pathlib import Path

import optuna
import pytest
from sqlalchemy.engine import make_url

from hypermap.core.cli import run
from hypermap.core.errors import UserError
from hypermap.core.passwords import MASK, VARIABLE, masked, revealed, secrets, shown
from hypermap.reports.study.command import ReportArgs
from hypermap.search.storage import open_storage
from hypermap.search.study import RECORD, WHERE, find

OF_THE_AUTHORITY = [
    "postgresql://user:geheim@host/name",
    "postgresql+psycopg2://user:ge%40h%2Feim@host:5432/name?sslmode=require",
    "mysql+pymysql://user:ge/he?im@host/name?charset=utf8mb4",
    "redis://:geheim@host:6379/0",
]
IN_THE_QUERY = [
    "postgresql:///name?host=h&user=u&password=geheim",
    "mysql+pymysql://host/name?user=u&p%61sswd=geheim&x=1",
    "sqlite:///file.db?access_token=geheim",
    "mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BPWD%3Dgeheim",
]
WITHOUT = [
    "studies/a/journal.log",
    "sqlite:////tmp/a:b@c.db",
    "postgresql://user@host/name?passfile=x",
    "http://h:80/x",
]


@pytest.mark.parametrize("url", OF_THE_AUTHORITY)
def test_a_password_is_masked_and_the_rest_is_as_sqlalchemy_reads_it(url, monkeypatch):
    given = make_url(url)
    assert str(given.password) in secrets(url)
    assert make_url(shown(url)) == given.set(password=MASK)
    assert shown(shown(url)) == shown(url)
    monkeypatch.setenv(VARIABLE, str(given.password))
    assert make_url(revealed(shown(url))) == given


@pytest.mark.parametrize("url", IN_THE_QUERY)
def test_one_in_the_query_is_masked(url):
    assert "geheim" not in shown(url)
    assert shown(url).count(MASK) == 1
    assert any("geheim" in secret for secret in secrets(url))
    assert shown(url).partition("?")[0] == url.partition("?")[0]


def test_one_with_an_at_sign_that_was_not_encoded_is_masked_whole():
    assert shown("postgresql://user:ge@he@im@host/name?a=b@c") == f"postgresql://user:{MASK}@host/name?a=b@c"


@pytest.mark.parametrize("url", WITHOUT)
def test_what_has_none_stays(url):
    assert shown(url) == masked(f"see {url}").removeprefix("see ") == url
    assert secrets(url) == set()


def test_words_and_texts():
    for quote in ("", '"', "'"):
        for url in [*OF_THE_AUTHORITY[:2], *IN_THE_QUERY]:
            word = f"hydra.sweeper.storage={quote}{url}{quote}"
            assert shown(word) == f"hydra.sweeper.storage={quote}{shown(url)}{quote}"
    assert masked("`a=x://u:geheim@h/n` and 'y://h?token=geheim', see http://z.y.") == (
        f"`a=x://u:{MASK}@h/n` and 'y://h?token={MASK}', see http://z.y."
    )


def test_the_environment_gives_it_or_the_message_says_so(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(UserError, match=f"export {VARIABLE}=") as told:
        revealed(f"postgresql://someone:{MASK}@nowhere/name")
    assert "geheim" not in str(told.value)
    monkeypatch.setenv(VARIABLE, "ge@heim")
    assert revealed(f"postgresql://someone:{MASK}@nowhere/name") == "postgresql://someone:ge%40heim@nowhere/name"
    assert revealed("journal.log") == "journal.log"


def test_messages_have_none(capsys):
    def wrong():
        raise UserError("storage=postgresql://user:geheim@host/name cannot be opened")

    with pytest.raises(SystemExit):
        run(wrong)
    assert f"user:{MASK}@host" in capsys.readouterr().err
    with pytest.raises(UserError, match="cannot be opened") as told:
        open_storage("nosuch+driver://user:geheim@host/name")
    assert "geheim" not in str(told.value)


def test_a_study_of_before_is_cleaned_when_its_report_is_made(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    url = "postgresql://user:geheim@host/name"
    place = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(study_name="old", storage=open_storage(place))
    record = {
        "program": "src/train.py",
        "command": ["x=1,2", f"+y={url}"],
        "hydra": [f'hydra.sweeper.storage="{url}"'],
        "identity": {"configuration": {"data.root": url}},
    }
    study.set_user_attr(RECORD, record)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    where = Path("studies/old") / WHERE
    where.parent.mkdir(parents=True)
    where.write_text(json.dumps({"name": "old", "storage": place, "seen": url}))
    ReportArgs.of(["study=old"]).answer(tmp_path / "reports")
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert b"geheim" not in path.read_bytes() or path.suffix == ".db", path
    assert "geheim" not in json.dumps(find("old")[0].user_attrs)
    text = (tmp_path / "reports" / "old" / "report.md").read_text()
    assert f"'hydra.sweeper.storage=\"postgresql://user:{MASK}@host/name\"'" in text
    assert VARIABLE in text
