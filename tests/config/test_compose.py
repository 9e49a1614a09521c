"""From choices to a configuration, compared with the choice files read as plain YAML."""

import inspect
import shutil
from dataclasses import fields

import pytest
import yaml
from dvc.utils.hydra import apply_overrides
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_automatic_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf, open_dict

from hypermap.config import compose as module
from hypermap.config import groups as groups_module
from hypermap.config.compose import compose, composed_once, params_for, slices
from hypermap.config.groups import SEARCHES, TUNED, groups, read_params
from hypermap.config.rules import validate
from hypermap.core.errors import UserError
from hypermap.core.instantiate import check_arguments, locate
from hypermap.core.paths import CONF
from hypermap.datasets.prepare import OF_TABLES, DataSettings
from hypermap.datasets.tables.dataset import table
from hypermap.models.sklearn_fit import is_family

FILES = sorted(CONF.rglob("*.yaml"))
CHOICES = [
    tuple(file.relative_to(CONF).with_suffix("").parts)
    for file in FILES
    if file.parent != CONF and not file.is_relative_to(CONF / "hydra")
]
RUNTIME = {"model": {"input_shape", "outputs"}, "optimizer": {"params"}}
ORDER = {"optimizer": {"name": "adam", "lr": 0.02}, "model": {"name": "mlp", "hidden": [7]}, "seed": 5}
TABLE = ["data.path=my.csv", "data.target=target"]
# What the program gives to those that take it: what is known of the targets, and a preprocessor's extras.
EXTRAS = {
    "info", "vocabulary_size", "sequence_length", "sequence_vocabulary", "window", "graph", "users", "items", "seen",
    "k", "user_features", "item_features", "values",
}  # fmt: skip
GIVEN = {
    "table": TABLE,
    "auto": TABLE,
    "images": ["data.path=pictures"],
}  # which no option, and no experiment, can know


def values(words):
    """What ``data.key=value`` words set."""
    return dict(word.removeprefix("data.").split("=") for word in words)


def plain(group, choice):
    """A choice file's own values, with those of the choices it builds on."""
    content = yaml.safe_load((CONF / group / f"{choice}.yaml").read_text()) or {}
    bases = [base for base in content.pop("defaults", []) if base != "_self_"]
    return {k: v for base in bases for k, v in plain(group, base).items()} | content


def binds(group, choice):
    """Bind a group's values, and what the program adds, to the signature of what they are for."""
    target = locate(choice["_target_"])
    given = {key: value for key, value in choice.items() if key not in ("name", "_target_")}
    runtime = {*RUNTIME.get(group, ())} if not is_family(choice) else set()
    runtime |= (EXTRAS & inspect.signature(target).parameters.keys()) - given.keys()
    if group == "data":
        own = {field.name for field in fields(DataSettings)} | (OF_TABLES if target is table else set())
        given = {key: value for key, value in given.items() if key not in own}
    check_arguments({"_target_": choice["_target_"], **given}, *runtime)
    inspect.signature(target).bind(**given, **dict.fromkeys(runtime))


def test_every_file_of_the_menu_is_a_choice_of_a_known_group():
    assert len(CHOICES) >= 30
    assert {choice[0] for choice in CHOICES} == {*TUNED, *SEARCHES, "experiment"}
    assert [file.name for file in FILES if file.parent == CONF] == ["config.yaml", "report.yaml"]
    listed = {(group, name) for group, names in groups().items() for name in names}
    assert listed == {(group, "/".join(rest)) for group, *rest in CHOICES}
    assert [file for file in CONF.rglob("*") if file.is_file() and file.suffix != ".yaml"] == []


def mixtures():
    """Options of all groups, in which each comes up: backwards, so that early stopping meets the long trainer."""
    options = {group: groups()[group][::-1] for group in TUNED}
    for turn in range(max(map(len, options.values()))):
        yield {group: names[min(turn, len(names) - 1)] for group, names in options.items()}


@pytest.mark.parametrize("chosen", list(mixtures()), ids=lambda chosen: chosen["data"])
def test_every_choice_composes_and_binds_to_what_it_calls(chosen):
    given = GIVEN.get(chosen["data"], [])
    configuration = compose([*(f"{group}={choice}" for group, choice in chosen.items()), *given])
    for group, choice in chosen.items():
        own = {"name": choice} | plain(group, choice)
        assert configuration[group] == own | (values(given) if group == "data" else {})
        binds(group, configuration[group])


@pytest.mark.parametrize("experiment", [rest[0] for g, *rest in CHOICES if g == "experiment"])
def test_every_experiment_composes_and_binds_to_what_it_calls(experiment):
    body = yaml.safe_load((CONF / "experiment" / f"{experiment}.yaml").read_text())
    given = next((GIVEN[own] for own in GIVEN if {"override /data": own} in body["defaults"]), [])
    configuration = compose([f"experiment={experiment}", *given])
    chosen = {k.split("/")[-1]: v for entry in body.pop("defaults") if entry != "_self_" for k, v in entry.items()}
    assert configuration["experiment"] == experiment
    for group in TUNED:
        name = chosen.get(group, configuration[group]["name"])
        own = {"name": name} | plain(group, name) | body.get(group, {})
        assert configuration[group] == own | (values(given) if group == "data" else {})
        binds(group, configuration[group])
    assert compose(params=params_for(experiment, given)) == configuration


def test_a_last_fit_that_is_not_said_is_the_experiments():
    given = GIVEN["table"]
    assert compose(given[:0])["final"] is None
    assert compose(["experiment=table", *given])["final"] == "refit"
    named = {"experiment": "table", "data": {"name": "table", "path": "a.csv", "target": "b"}, "final": None}
    assert compose(params=named)["final"] == "refit"
    assert compose(params=named | {"final": "holdout"})["final"] == "holdout"
    assert compose(["final=bag", "validation=kfold"], named)["final"] == "bag"
    assert params_for("table", given)["final"] == "refit"


@pytest.mark.parametrize("sweep", [rest[0] for g, *rest in CHOICES if g == "sweep"])
def test_every_sweep_composes_and_leaves_its_search_out(sweep):
    configuration = compose([f"+sweep={sweep}", *GIVEN.get(sweep, [])])
    assert not {*SEARCHES, "hydra"} & configuration.keys()
    validate(configuration)
    for group in TUNED:
        binds(group, configuration[group])


# What wins over what.


def test_the_command_line_wins_over_the_order_and_the_order_over_the_menu():
    assert plain("optimizer", "adam")["lr"] == 0.001
    assert compose()["optimizer"]["lr"] == 0.001
    assert compose(params=ORDER)["optimizer"]["lr"] == 0.02
    assert compose(["optimizer.lr=0.5"], ORDER)["optimizer"]["lr"] == 0.5
    assert [compose(params=ORDER)["seed"], compose(["seed=6"], ORDER)["seed"], compose()["seed"]] == [5, 6, 0]
    assert compose(params=ORDER)["model"]["hidden"] == [7]


@pytest.mark.parametrize("choice", ["sgd", "adam"])
def test_a_choice_on_the_command_line_drops_the_orders_values_for_it(choice):
    configuration = compose([f"optimizer={choice}"], ORDER)
    assert configuration["optimizer"] == {"name": choice} | plain("optimizer", choice)
    assert configuration["model"]["hidden"] == [7], "other groups keep theirs"


def test_a_value_beside_the_choice_is_kept():
    assert compose(["optimizer=sgd", "optimizer.lr=0.3"], ORDER)["optimizer"]["lr"] == 0.3


def test_an_order_without_values_is_the_menu():
    assert compose(params={"optimizer": "adam", "experiment": None}) == compose()
    assert compose(params={}) == compose()


def test_evaluation_can_be_ordered_in_part():
    ordered = compose(params={"evaluation": {"confidence": 0.9}})["evaluation"]
    assert ordered == compose()["evaluation"] | {"confidence": 0.9}


def test_composing_leaves_nothing_behind():
    compose(["optimizer=sgd"], ORDER)
    assert compose(params=ORDER)["optimizer"]["lr"] == 0.02
    assert compose() == compose()


def test_interpolations_are_resolved():
    assert compose(["data.split_seed=${seed}", "seed=3"])["data"]["split_seed"] == 3


# Experiments in the order.


def test_an_order_may_change_the_values_of_its_experiment():
    configuration = compose(params={"experiment": "mnist_mlp", "optimizer": {"name": "adam", "lr": 0.5}})
    assert configuration["optimizer"]["lr"] == 0.5
    assert configuration["model"]["dropout"] == 0.2


@pytest.mark.parametrize(
    "entry", [{"model": "cnn"}, {"model": {"name": "cnn"}}, {"regularizer": "l2"}, {"data": "digits"}]
)
def test_an_order_that_contradicts_its_experiment_is_refused(entry):
    ((group, choice),) = entry.items()
    choice = choice["name"] if isinstance(choice, dict) else choice
    with pytest.raises(UserError) as told:
        compose(params={"experiment": "mnist_mlp"} | entry)
    assert "names experiment mnist_mlp" in str(told.value)
    assert f"orders {group} {choice!r}" in str(told.value)
    assert "make order EXPERIMENT=mnist_mlp" in str(told.value)


def test_the_command_line_may_leave_what_the_orders_experiment_chooses():
    order = {"experiment": "mnist_mlp", "optimizer": "adam"}
    configuration = compose(["optimizer=sgd"], order)
    assert (configuration["experiment"], configuration["optimizer"]["name"]) == ("mnist_mlp", "sgd")
    assert compose(["experiment=mnist_cnn"], order)["model"]["name"] == "cnn"


def test_an_unknown_experiment_cannot_be_ordered():
    with pytest.raises(UserError, match=r"no option 'mnist_mpl' .did you mean 'mnist_mlp'"):
        params_for("mnist_mpl")


def test_a_mapping_on_the_command_line_is_a_choice_with_values_as_in_an_order():
    words = ["seed=3", "data={name: table, path: 'my file.csv', target: -1, drop: [a, b], kinds: {zip: category}}"]
    plain = module.spelled_out(words)
    assert plain[:2] == ["seed=3", "data=table"]
    data = compose(plain)["data"]
    order = {"name": "table", "path": "my file.csv", "target": -1, "drop": ["a", "b"], "kinds": {"zip": "category"}}
    assert data == compose(params={"data": order})["data"]
    with pytest.raises(UserError, match="data is a mapping without a name"):
        module.spelled_out(["data={path: my.csv}"])


@pytest.mark.parametrize(
    "word",
    [
        """data={name: table, path: "x (1).csv", target: "Größe"}""",
        """data={name: table, path: a.csv, target: "3", drop: ["a, b", 'it"s', "a:b"], kinds: {my column: "number"}}""",
        """data={name: "table", path: 'C:\\data\\x.csv', target: -1, pca: null, fill: 1e-3}""",
    ],
)
def test_a_mapping_keeps_what_its_quotes_say_as_dvc_reads_it(tmp_path, word):
    params = tmp_path / "params.yaml"
    params.write_text("data: digits\n")
    apply_overrides(params, [word])
    assert compose(module.spelled_out([word]))["data"] == compose(params=read_params(params))["data"]


def test_a_mapping_is_one_configuration():
    for word in ("optimizer={name: sgd, lr: 0.1},adam", "optimizer={name: sgd, lr: choice(0.1,0.2)}"):
        with pytest.raises(UserError, match=r"-m optimizer=sgd,adam optimizer\.lr=0\.1,0\.01"):
            module.spelled_out([word])


def test_a_search_of_choices_lists_those_that_match():
    assert module.spelled_out(["optimizer=glob(ada*)"]) == ["optimizer=adagrad,adam,adamw"]
    assert module.spelled_out(["+sweep=glob([*_grid,q*],exclude=c*)"]) == ["+sweep=binary_grid,quick"]
    assert module.spelled_out(["optimizer=glob(sg*)"]) == ["optimizer=choice(sgd)"]
    assert module.spelled_out(["optimizer='sgd',\"adam\""]) == ["optimizer=sgd,adam"]
    with pytest.raises(UserError, match=r"no option matches. There are: adagrad, adam"):
        module.spelled_out(["optimizer=glob(zzz*)"])
    with pytest.raises(UserError, match=r"glob\(…\) is of a group's choices, and optimizer.lr is none"):
        compose(["optimizer.lr=glob(*)"])


# Slices.


def test_slices_hold_everything_and_training_only_what_trains():
    configuration = compose(params=ORDER)
    parts = slices(configuration)
    assert set(parts) == {"preprocess", "train", "baselines", "evaluate"}
    baselines = parts.pop("baselines")
    assert [model["name"] for model in baselines["models"]] == configuration["evaluation"]["baselines"]
    assert slices(configuration | {"seed": 9})["baselines"] == baselines, "another seed refits none of them"
    assert not set(parts["preprocess"]) & set(parts["train"])
    assert set(parts["preprocess"]) | set(parts["train"]) | {"experiment", "evaluation"} == set(configuration)
    assert parts["evaluate"] == configuration
    assert all(part[key] == configuration[key] for part in parts.values() for key in part)
    assert "data" not in parts["train"]
    assert yaml.safe_load(yaml.safe_dump(configuration)) == configuration, "plain values and nothing else"


# Mistakes.


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("optimizr=adam", "no group or key 'optimizr' (did you mean 'optimizer'?)"),
        ("optimizr.lr=1", "no group or key 'optimizr' (did you mean 'optimizer'?)"),
        ("+sed=1", "no group or key 'sed' (did you mean 'seed'?)"),
        ("optimizer=adamm", "optimizer has no option 'adamm' (did you mean 'adam' or 'adamw'?)"),
        ("experiment=mnist_ccn", "experiment has no option 'mnist_ccn' (did you mean 'mnist_cnn'"),
        ("optimizer=", "optimizer names no option. There are: adagrad"),
        ("optimizer=null", "optimizer names no option. There are: adagrad"),
        ("experiment=null", "experiment names no option"),
        ("~optimizer", "optimizer cannot be left out"),
        ("~optimizer.lr", "optimizer.lr cannot be left out"),
        ("~seed", "seed cannot be left out"),
        ("optimizer=[adam,sgd]", "optimizer has no option"),
        ("optimizer.eps_=1", "optimizer=adam has no key 'eps_' (did you mean 'eps'?). It has: lr, betas, eps"),
        ("++optimizer.epz=1", "optimizer=adam has no key 'epz' (did you mean 'eps'?)"),
        ("evaluation.confidense=1", "evaluation has no key 'confidense' (did you mean 'confidence'?)"),
        ("optimizer.name=sgd", "a choice is made with optimizer=sgd"),
        ("optimizer.lr=fast", "optimizer.lr is 'fast'; it must be a number, such as 0.001"),
        ("optimizer.lr=true", "optimizer.lr is True; it must be a number"),
        ("optimizer.lr=null", "optimizer.lr is None; it must be a number above 0"),
        ("optimizer.lr=-1", "optimizer.lr is -1; it must be a number above 0"),
        ("optimizer.betas=0.9", "optimizer.betas is 0.9; it must be a list, such as [0.9, 0.999]"),
        ("trainer.epochs=2.5", "trainer.epochs is 2.5; it must be a whole number, such as 30"),
        ("trainer.epochs=0", "trainer.epochs is 0; it must be a whole number of at least 1"),
        ("model.hidden=64", "model.hidden is 64; it must be a list"),
        ("seed=[1]", "seed is [1]; it must be a whole number, such as 0"),
        ("seed=4294967296", "seed is 4294967296; it must be a whole number of at least 0 and at most 4294967295"),
        ("evaluation=3", "evaluation is 3; it must be a mapping"),
        ("optimizer.lr=0,01", "a decimal number has a point: 0.01"),
        ("lr=0.1", "no group or key 'lr' (did you mean 'optimizer.lr'?)"),
        ("hydra.searchpath=[file:///tmp]", "choices are read from conf/ alone"),
        ("optimizer.lr=${nothing}", "Interpolation key 'nothing' not found"),
        ("optimizer.lr", "is not understood. Write key=value"),
    ],
)
def test_mistakes_on_the_command_line(word, told):
    with pytest.raises(UserError) as error:
        compose([word])
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("optimizr: adam", "no group or key 'optimizr' (did you mean 'optimizer'?). There are: augment,"),
        ("3: adam", "no group or key 3"),
        ("optimizer: adan", "optimizer has no option 'adan' (did you mean 'adam' or 'adamw'?)"),
        ("optimizer: [adam]", "optimizer has no option"),
        ("optimizer: {lr: 0.1}", "optimizer is a mapping without a name"),
        ("optimizer:", "optimizer names no option. There are: adagrad"),
        ("optimizer: {name: }", "optimizer names no option. There are: adagrad"),
        ("optimizer: {name: adam, betaz: 1}", "optimizer=adam has no key 'betaz' (did you mean 'betas'?)"),
        ("optimizer: {name: adam, 3: 1}", "optimizer=adam has no key 3"),
        ("optimizer: {name: adam, lr: fast}", "optimizer.lr is 'fast'; it must be a number"),
        ("optimizer: {name: adam, lr: -1}", "optimizer.lr is -1; it must be a number above 0"),
        ("optimizer: {name: adam, _target_: }", "conf/optimizer/adam.yaml has no _target_"),
        ("data: {name: digits, root: here}", "data=digits has no key 'root'"),
        ("seed:", "seed is None; it must be a whole number"),
        ("seed: {a: 1}", "seed is {'a': 1}; it must be a whole number"),
        ("evaluation:", "evaluation is None; it must be a mapping"),
        ("evaluation: 3", "evaluation is 3; it must be a mapping"),
        ("evaluation: {repeats: 3}", "evaluation has no key 'repeats'"),
        ("evaluation: {confidence: 95}", "evaluation.confidence is 95; it must be a number above 0 and below 1"),
        ("experiment: {name: mnist_mlp}", "experiment is a name and nothing else"),
        ("experiment: mnist", "experiment has no option 'mnist' (did you mean 'mnist_"),
        ("hydra: {run: 1}", "no group or key 'hydra'"),
        ("optimizer: adam\noptimizer: sgd", "not readable YAML"),
        ("optimizer: [", "not readable YAML"),
        ("- optimizer", "must map groups to choices"),
        ("seed: ${nothing}", "Interpolation key 'nothing' not found"),
    ],
)
def test_mistakes_in_the_order(tmp_path, text, told):
    (tmp_path / "params.yaml").write_text(text + "\n")
    with pytest.raises(UserError) as error:
        compose(params=read_params(tmp_path / "params.yaml"))
    assert told in str(error.value)


def test_an_order_that_is_not_there_names_the_project_root(tmp_path):
    with pytest.raises(UserError, match=f"run this from the project's root, {groups_module.ROOT}"):
        read_params(tmp_path / "params.yaml")


def test_an_order_in_another_encoding(tmp_path):
    (tmp_path / "params.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not readable YAML"):
        read_params(tmp_path / "params.yaml")


# Choices of one's own.


@pytest.fixture
def menu(tmp_path, monkeypatch):
    """A copy of the menu to add to."""
    import shutil

    shutil.copytree(CONF, tmp_path / "conf")
    for reader in (module, groups_module):
        monkeypatch.setattr(reader, "CONF", tmp_path / "conf")
    return tmp_path / "conf"


def test_a_choice_of_ones_own_is_held_to_the_kinds_of_its_file(menu):
    (menu / "model" / "mine.yaml").write_text("_target_: my_network.Net\nwidth: wide\nhidden: 3\n")
    assert compose(["model=mine", "model.hidden=4"])["model"]["hidden"] == 4
    with pytest.raises(UserError, match=r"model\.hidden is 'x'; it must be a whole number, such as 3"):
        compose(["model=mine", "model.hidden=x"])
    with pytest.raises(UserError, match=r"model=mine has no key 'widht' .did you mean 'width'"):
        compose(["model=mine", "model.widht=x"])


@pytest.mark.parametrize("text", ["width: 3\n", "", "_target_:\n"])
def test_a_choice_without_a_target(menu, text):
    (menu / "model" / "mine.yaml").write_text(text)
    with pytest.raises(UserError, match=r"conf/model/mine\.yaml has no _target_"):
        compose(["model=mine"])


@pytest.mark.parametrize("text", ["_target_: [\n", "- a\n", "word\n"])
def test_a_choice_that_is_no_mapping(menu, text):
    (menu / "model" / "mine.yaml").write_text(text)
    with pytest.raises(UserError, match="model"):
        compose(["model=mine"])


def test_what_a_choice_leaves_to_the_command_line(menu):
    (menu / "data" / "mine.yaml").write_text("_target_: my_reader.read\npath: ???\nhow: fast\n")
    for path in ("scans", 3):
        assert compose(["data=mine", f"data.path={path}"])["data"]["path"] == path
    with pytest.raises(UserError, match=r"data\.path is \?\?\?, a value that must be set: data\.path=VALUE"):
        compose(["data=mine"])
    with pytest.raises(UserError, match=r"data=mine has no key 'paht' \(did you mean 'path'\?\)"):
        compose(["data=mine", "data.paht=scans"])
    with pytest.raises(UserError, match=r"data\.how is 3; it must be a word"):
        compose(["data=mine", "data.path=scans", "data.how=3"])


def test_an_added_key_is_the_persons_own_affair():
    assert compose(["+optimizer.amsgrad=true"])["optimizer"]["amsgrad"] is True


def test_choices_may_lie_in_folders(menu):
    (menu / "model" / "small").mkdir()
    (menu / "model" / "small" / "mine.yaml").write_text("_target_: my_network.Net\n")
    assert "small/mine" in groups()["model"]
    assert compose(["model=small/mine"])["model"]["name"] == "small/mine"


def test_an_order_with_a_merge_conflict_says_where(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("data: digits\n<<<<<<< HEAD\nseed: 1\n=======\nseed: 2\n>>>>>>> topic\n")
    with pytest.raises(UserError, match=r"merge conflict in line 2: .* git checkout --ours"):
        read_params(path)


# Composed once.


def test_what_was_checked_is_what_hydra_runs(monkeypatch):
    made, anew = [], ConfigLoaderImpl._load_configuration_impl

    def counting(*args, **others):
        made.append(anew(*args, **others))
        return made[-1]

    monkeypatch.setattr(ConfigLoaderImpl, "_load_configuration_impl", counting)

    def composed(*words):
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(CONF)):
            return OmegaConf.to_container(hydra_compose("config", list(words), return_hydra_config=True), resolve=False)

    with composed_once():
        first, others = composed("optimizer.lr=0.5"), composed("optimizer.lr=0.25")
        assert len(made) == 2
        assert composed("optimizer.lr=0.5") == first != others
        assert len(made) == 2  # reused
        assert composed("optimizer.lr=0.5") == first
        assert len(made) == 3  # what Hydra got it may have changed
    assert ConfigLoaderImpl._load_configuration_impl is counting
    assert composed("optimizer.lr=0.5") == first


@pytest.mark.parametrize(
    "names",
    [
        {},
        {"data": "digits", "model": "cnn", "optimizer": "sgd", "augment": "none", "regularizer": "none"},
        {"model": "random_forest"},
        {"trainer": "quick"},  # which builds on another
    ],
)
def test_what_the_menu_has_is_what_hydra_composes(names):
    expected = module._compose("config", [f"{group}={name}" for group, name in names.items()])
    assert module.defaults_of(names) == module.defaults_of(read_menu_choices() | names) == expected


def read_menu_choices():
    defaults = yaml.safe_load((CONF / "config.yaml").read_text())["defaults"]
    pairs = [pair for entry in defaults if isinstance(entry, dict) for pair in entry.items()]
    return {group: choice for group, choice in pairs if group in TUNED}


def test_a_choice_that_refers_to_another_is_composed(tmp_path, monkeypatch):
    shutil.copytree(CONF, tmp_path / "conf")
    monkeypatch.setattr(module, "CONF", tmp_path / "conf")
    (tmp_path / "conf/optimizer/adam.yaml").write_text("_target_: torch.optim.Adam\nlr: ${model.dropout}\n")
    found = module.defaults_of(read_menu_choices())
    assert found["optimizer"]["lr"] == found["model"]["dropout"]


def test_what_is_composed_once_is_nobodys_to_change_for_the_next():
    with module.composed_once():
        first, second, third = (
            module.ConfigLoaderImpl(create_automatic_config_search_path(None, None, str(CONF))).load_configuration(
                "config", ["model=mlp"], RunMode.RUN
            )
            for _ in range(3)
        )
        with open_dict(first):
            del first["hydra"]
        assert OmegaConf.to_container(second) == OmegaConf.to_container(third)  # dates as they are written
        assert "hydra" in second
        assert "hydra" not in first
