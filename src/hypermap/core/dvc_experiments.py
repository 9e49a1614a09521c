"""Trials as DVC experiments: the one module that works with Git and with DVC's experiments.

A trial is one commit. Its parent is the commit that the sweep started from; its tree is the code and conf/ at that
time, with the trial's own params.yaml and metrics; its name is a ref under ``refs/exps/``, where DVC looks.

Git itself takes the snapshot, once per sweep: only Git handles line endings, filters and sparse checkouts. pygit2, a
dependency of DVC, writes the trials: about a millisecond in this process, where starting git five times takes 20 ms.
"""

import os
import posixpath
import random
import re
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, cast

import pygit2
import yaml
from pygit2.enums import FileMode

from hypermap.core.errors import UserError

SOURCES = ("conf", "src", "dvc.yaml", "dvc.lock", "params.yaml")  # included even if not tracked yet
ORDER = "params.yaml"
METRICS = "reports/validation.json"
STUDIES = "reports/studies/"  # what a search writes there does not affect the next one
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"  # Git stores only files: empty folders are left out
PLACES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")  # set by a hook, perhaps for another repository
PATIENCE_S = 3.0  # how long a reference may stay locked by another process
# DVC's object for an empty folder.
EMPTY_OBJECT = b"[]"
EMPTY_MD5 = "d751713988987e9331980363e24189ce.dir"
EMPTY_FOLDER = {"hash": "md5", "md5": EMPTY_MD5, "size": 0, "nfiles": 0}
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # eight times as fast, if available


@dataclass(frozen=True)
class Snapshot:
    """What a sweep started from; plain data that can be stored in its study."""

    commit: str  # the baseline, under which DVC lists the trials
    tree: str  # the base of every trial's tree
    dirty: bool  # whether anything except study reports had uncommitted changes


@dataclass(frozen=True)
class Output:
    """One entry of a stage's ``outs``, ``metrics`` or ``plots``."""

    path: str  # as in dvc.yaml and dvc.lock, relative to the stage's folder
    place: str  # relative to the project's root
    is_cached: bool
    is_metric: bool


def snapshot(root: Path) -> Snapshot | str:
    """Return a snapshot of the project at `root`, including uncommitted edits; or the reason why there can be none.

    The work tree and the index are only read. Outputs of stages are left out, since they belong to the baseline:
    metrics other than the trial's own become empty (DVC shows absent ones as errors, and reads them again each time).
    """
    try:
        if not (root / ".dvc").is_dir():
            return f"{root} is no DVC project (dvc init makes one)"
        folder = _git(root, "rev-parse", "--show-prefix")
        repository = _repository(root)
        if repository.head_is_unborn:
            return "the Git repository has no commit yet"
        commit, committed = _git(root, "rev-parse", "HEAD^{commit}", "HEAD^{tree}").split()
        tree = _work_tree(root)
        start = _Pipeline(root).unrun(repository, tree, folder)
        return Snapshot(commit, start, dirty=_differ(repository, tree, committed, folder + STUDIES))
    except FileNotFoundError as error:
        return f"{error.filename} was not found"
    except subprocess.CalledProcessError as error:
        return str(error.stderr).strip().removeprefix("fatal: ").splitlines()[0]
    except (pygit2.GitError, sqlite3.Error, yaml.YAMLError, OSError, ValueError) as error:
        return " ".join(str(error).split())


def keep(root: Path, of: Snapshot, study: str) -> None:
    """Keep a snapshot while its study needs it, under ``refs/hypermap/``: `git gc` removes what no ref points to.

    Raises:
        UserError: the repository cannot be written to.
    """
    check_study_name(study)
    with _explaining(f"refs/hypermap/{study}"):
        repository = _repository(root)
        if not all(sha in repository for sha in (of.tree, of.commit)):
            raise UserError(f"This clone does not have what {study} began from, in commit {of.commit[:7]}.")
        commit = _commit(repository, of, of.tree, f"What study {study} began from")
        _refer(repository, f"refs/hypermap/{study}", commit)


def forget(root: Path, study: str) -> None:
    """Delete the ref of a study's snapshot, if there is one; its trials are kept.

    Raises:
        UserError: the repository cannot be written to.
    """
    with _explaining(f"refs/hypermap/{study}"):
        references = _repository(root).references
        if f"refs/hypermap/{study}" in references:
            references.delete(f"refs/hypermap/{study}")


def experiment_name(study: str, number: int) -> str:
    """Return the name of a trial among DVC's experiments."""
    return f"{study}-{number:04d}"


def check_study_name(study: str) -> None:
    """Refuse a name that is not valid for Git references, DVC experiments and folders alike.

    Raises:
        UserError: with the characters that a name may have.
    """
    plain = re.fullmatch(r"\w[\w.-]*", study) is not None
    if not plain or not pygit2.reference_is_valid_name(f"refs/hypermap/{study}"):
        raise UserError(
            f"{study!r} cannot name a study: its trials become Git references. Letters, digits, '_', '-' and single "
            "dots make a name, which does not begin with '-' or '.' and does not end in '.' or '.lock'."
        )


def publish(root: Path, of: Snapshot, name: str, order_text: str, metrics_text: str) -> str:
    """Publish a trial as the DVC experiment `name`, replacing any of that name and baseline, and return its commit.

    Several processes may do so at once. The work tree and the index are not read.

    Raises:
        UserError: the snapshot is not in this repository, or the repository is not writable.
    """
    with _explaining(name):
        repository = _repository(root)
        folder = _folder(repository, root)
        if not all(sha in repository for sha in (of.tree, of.commit)):
            raise UserError(f"{name}: this repository does not hold what the sweep began from ({of.tree[:7]}).")
        tree = pygit2.Oid(hex=of.tree)
        for path, text in ((ORDER, order_text), (METRICS, metrics_text)):
            tree = _put(repository, tree, folder + path, text.encode())
        commit = _commit(repository, of, str(tree), f"Trial {name}")
        _refer(repository, f"refs/exps/{of.commit[:2]}/{of.commit[2:]}/{name}", commit)
        return str(commit)


def names(root: Path) -> set[str]:
    """Return the names of all experiments.

    Raises:
        UserError: the repository cannot be read.
    """
    with _explaining("refs/exps"):
        return {name.rpartition("/")[2] for name in _repository(root).references if name.startswith("refs/exps/")}


def order_of(root: Path, name: str) -> str:
    """Return the params.yaml of the experiment `name`.

    Raises:
        UserError: there is no such experiment, or there are several.
    """
    with _explaining(name):
        repository = _repository(root)
        pattern = re.compile(rf"refs/exps/[0-9a-f]{{2}}/[0-9a-f]+/{re.escape(name)}")
        found = [reference for reference in repository.references if pattern.fullmatch(reference)]
        if len(found) != 1:
            counted = f"{len(found)} DVC experiments are" if found else "No DVC experiment is"
            raise UserError(f"{counted} called {name} (dvc exp list --all-commits lists them all).")
        blob = repository.references[found[0]].peel(pygit2.Commit).tree[_folder(repository, root) + ORDER]
        assert isinstance(blob, pygit2.Blob)
        return blob.data.decode()


class _Pipeline:
    """The stages in dvc.yaml and dvc.lock, read as plain YAML; templated names are skipped."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.stages = _stages(root / "dvc.yaml")
        self.lock = _stages(root / "dvc.lock")

    def unrun(self, repository: pygit2.Repository, tree: str, folder: str) -> str:
        """Return a tree without the stages' outputs, and with a dvc.lock that `dvc exp apply` can start from."""
        edited = pygit2.Oid(hex=tree)
        outputs = [output for stage in self.stages.values() for output in _outputs(stage)]
        locked = [output for name, entry in self.lock.items() for output in _outputs(self._locked(name, entry))]
        for output in (*outputs, *locked):
            edited = _put(repository, edited, folder + output.place, None)
        for output in outputs:
            if output.is_metric and output.place.endswith(".json"):
                edited = _put(repository, edited, folder + output.place, b"{}\n")
        if (lock := self.lock_of_a_trial()) != self.lock:
            _cache_an_empty_folder(self.root)
            text = yaml.safe_dump({"schema": "2.0", "stages": lock}, sort_keys=False)
            edited = _put(repository, edited, folder + "dvc.lock", text.encode())
        return str(edited)

    def lock_of_a_trial(self) -> dict[str, Any]:
        """Return the baseline's dvc.lock, whose hashes tell DVC what a trial changes, and thus what to run.

        `dvc exp apply` fetches every output from the cache, and fails on one that is in no lock file or not in the
        cache. A stage that has not run here gets an empty folder for each output, and no dependencies, so that it runs.
        """
        entries = dict(self.lock)
        for name, stage in self.stages.items():
            cached = [output for output in _outputs(stage) if output.is_cached]
            known = {output.path for output in _outputs(self.lock.get(name, {}))}
            if not all(output.path in known and (self.root / output.place).exists() for output in cached):
                outs = [{"path": output.path, **EMPTY_FOLDER} for output in cached]
                entries[name] = {"cmd": str(stage.get("cmd", "")), "outs": outs}
        return entries

    def _locked(self, name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Return an entry of dvc.lock, with its folder as in dvc.yaml."""
        return {**entry, "wdir": self.stages.get(name.split("@")[0], {}).get("wdir", ".")}


def _stages(path: Path) -> dict[str, dict[str, Any]]:
    content = yaml.load(path.read_text(encoding="utf-8"), LOADER) if path.exists() else None
    stages = content.get("stages") if isinstance(content, dict) else None
    return {str(name): stage for name, stage in (stages or {}).items() if isinstance(stage, dict)}


def _outputs(stage: Mapping[str, Any]) -> Iterator[Output]:
    for kind in ("outs", "metrics", "plots"):
        for entry in stage.get(kind) or ():
            path, options = _entry(entry)
            place = posixpath.normpath(posixpath.join(str(stage.get("wdir", ".")), path))
            if "${" not in place and "://" not in place and not place.startswith(("/", "..")) and place != METRICS:
                yield Output(path, place, options.get("cache", True), kind == "metrics")


def _entry(entry: Any) -> tuple[str, dict[str, Any]]:
    """Return the path and the options of an output, as written in dvc.yaml (``path: {cache: false}``) or dvc.lock."""
    if not isinstance(entry, dict):
        return str(entry), {}
    if isinstance(entry.get("path"), str):
        return entry["path"], {}
    path, options = next(iter(entry.items()))
    return str(path), options or {}


def _cache_an_empty_folder(root: Path) -> None:
    if _is_in_usual_cache(root, EMPTY_MD5):
        return
    from dvc.exceptions import DvcException  # type: ignore[import-untyped]
    from dvc.repo import Repo  # type: ignore[import-untyped]  # a third of a second, and seldom needed

    try:
        with Repo(str(root)) as repo:
            cache = repo.cache.local
            if not cache.exists(EMPTY_MD5):
                cache.add_bytes(EMPTY_MD5, EMPTY_OBJECT)
    except DvcException as error:
        raise OSError(f"DVC's cache cannot be used: {error}") from error


def _is_in_usual_cache(root: Path, md5: str) -> bool:
    """Return whether DVC's cache is in its default place and holds this object."""
    from dvc.dirs import global_config_dir, system_config_dir  # type: ignore[import-untyped]

    own = root / ".dvc"
    files = [own / "config", own / "config.local"]
    files += [Path(folder) / "config" for folder in (global_config_dir(), system_config_dir())]
    moved = any("cache" in file.read_text(encoding="utf-8").lower() for file in files if file.exists())
    return not moved and (own / "cache/files/md5" / md5[:2] / md5[2:]).exists()


def _differ(repository: pygit2.Repository, tree: str, committed: str, but_for: str) -> bool:
    """Return whether two trees differ in a file outside the folder `but_for`."""
    one, other = (cast("pygit2.Tree", repository[sha]) for sha in (tree, committed))
    return any(not delta.new_file.path.startswith(but_for) for delta in one.diff_to_tree(other).deltas)


def _work_tree(root: Path) -> str:
    """Return a Git tree of the tracked files in the work tree, and of sources that Git does not ignore."""
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "index"
        own = root / _git(root, "rev-parse", "--git-path", "index")
        if own.exists():
            shutil.copy2(own, index)  # with its timestamp, which Git uses to detect changes
        _git(root, "add", "--update", ":/", index=index)
        new = _git(root, "ls-files", "--others", "--exclude-standard", "-z", "--", *SOURCES, index=index)
        files = "".join(f"{name}\0" for name in new.split("\0") if name and not name.endswith("/"))
        _git(root, "update-index", "--add", "-z", "--stdin", index=index, given=files)
        return _git(root, "write-tree", index=index)


def _git(root: Path, *words: str, index: Path | None = None, given: str = "") -> str:
    variables = {key: value for key, value in os.environ.items() if key not in PLACES}
    if index is not None:
        variables["GIT_INDEX_FILE"] = str(index)
    done = subprocess.run(
        ["git", *words], cwd=root, env=variables, input=given, capture_output=True, text=True, check=True
    )
    return done.stdout.removesuffix("\n")


def _repository(root: Path) -> pygit2.Repository:
    found = pygit2.discover_repository(str(root))
    if found is None:
        raise pygit2.GitError(f"{root} is in no Git repository")
    return pygit2.Repository(found)


def _folder(repository: pygit2.Repository, root: Path) -> str:
    """Return the project's path in the repository: empty, or ending in a slash."""
    relative = root.resolve().relative_to(Path(repository.workdir).resolve()).as_posix()
    return "" if relative == "." else f"{relative}/"


def _put(repository: pygit2.Repository, tree: pygit2.Oid, path: str, content: bytes | None) -> pygit2.Oid:
    """Return the tree with a file replaced, or, if `content` is None, with the file or folder removed."""
    blob = None if content is None else repository.create_blob(content)
    return _insert(repository, tree, PurePosixPath(path).parts, blob)


def _insert(
    repository: pygit2.Repository, tree: pygit2.Oid | None, path: Sequence[str], blob: pygit2.Oid | None
) -> pygit2.Oid:
    builder = repository.TreeBuilder() if tree is None else repository.TreeBuilder(tree)
    name, *rest = path
    old = cast("pygit2.Object | None", builder.get(name))
    new, mode = blob, FileMode.BLOB
    if rest and (old is not None or blob is not None):
        below = old.id if old is not None and old.filemode == FileMode.TREE else None
        new, mode = _insert(repository, below, rest, blob), FileMode.TREE
    if new is not None and str(new) != EMPTY_TREE:
        builder.insert(name, new, mode)
    elif old is not None:
        builder.remove(name)
    return builder.write()


def _commit(repository: pygit2.Repository, of: Snapshot, tree: str, message: str) -> pygit2.Oid:
    author = _author(repository)
    return repository.create_commit(None, author, author, message, pygit2.Oid(hex=tree), [pygit2.Oid(hex=of.commit)])


def _author(repository: pygit2.Repository) -> pygit2.Signature:
    try:
        return repository.default_signature
    except (KeyError, ValueError, pygit2.GitError):  # no name or email address is configured
        return pygit2.Signature("Hypermap", "hypermap@localhost")


def _refer(repository: pygit2.Repository, reference: str, commit: pygit2.Oid) -> None:
    """Point a reference at a commit, waiting while another process has it locked."""
    patience = time.monotonic() + PATIENCE_S
    while True:
        try:
            repository.references.create(reference, commit, force=True)
            return
        except (pygit2.GitError, OSError):  # locked, or its empty folder has just been removed
            if time.monotonic() > patience:
                raise
            time.sleep(random.uniform(0.002, 0.02))


@contextmanager
def _explaining(what: str) -> Iterator[None]:
    """Turn errors of the repository into a `UserError`."""
    try:
        yield
    except (pygit2.GitError, sqlite3.Error, KeyError, ValueError, OSError) as error:
        raise UserError(f"{what}: Git does not take it: {' '.join(str(error).split())}.") from error
