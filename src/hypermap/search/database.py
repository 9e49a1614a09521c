"""A database as a study's storage: it may be away for a while, and is written to as rarely as possible."""

import copy
import json
import random
import sys
import threading
import time
import uuid
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from datetime import datetime
from typing import Any, TypeVar

from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState

from hypermap.core.errors import MachineFault, UserError
from hypermap.core.hashing import fingerprint
from hypermap.core.passwords import shown

PATIENCE_S = 300.0  # for a database that does not answer
TOLD_S = 2.0  # of silence after which a person is told
AGE_S = 0.1  # for which what was read of other processes' trials is used again
LATE_S = 0.2  # by which reports may reach the database later, where they follow each other fast
HELD_S = 120  # after which the server takes the mutex from a process that does nothing with it
DIALECTS = ("postgresql", "mysql", "mariadb", "sqlite")  # whose upserts are known
TOKEN = "token"  # system attribute of a trial: of the call that created it
# Of the attributes of a trial, of which kind one is.
USER, SYSTEM, STEP, PARAM = "user", "system", "step", "param"

SERVICE = "hypermap.Mutex"  # beside Optuna's in a gRPC proxy (`hypermap.search.serve`)

T = TypeVar("T")
Row = tuple[str, int, Any]  # kind, trial, and name or step
Rows = dict[Row, tuple[Any, ...]]  # with the values


class Database(BaseStorage):
    """Optuna's database, or its gRPC proxy, for a worker that may lose the connection.

    - A call that fails because the connection is gone, or the server restarts, is made again until it answers. It takes
      effect once: a trial carries a token of the call that created it.
    - The trials that this process owns (`own`) are kept in memory and read from there. What is written to them in a
      `batching` block reaches the database at its end, in one transaction; reports up to `LATE_S` later. A training
      that goes on after its process was killed reports its epochs again, so none is missed.
    - What was read of others' trials is used again for `AGE_S`, except at the start of a `mutex` block.

    Args:
        inner: the storage, with a cache.
        place: its URL, for messages.
        mutex: returns a context in which no other process is in one of the same name.
        write: writes the rows of a batch, where they do not go straight into Optuna's tables.
        patience_s: for which a call is repeated; 0: its error is raised at once.

    Raises:
        MachineFault: the database has not answered for that long.
    """

    def __init__(
        self,
        inner: BaseStorage,
        place: str,
        mutex: Callable[[str], AbstractContextManager[None]],
        patience_s: float = PATIENCE_S,
        write: Callable[[Rows], None] | None = None,
    ) -> None:
        self.inner = inner
        self.place = place
        self.patience_s = patience_s
        self.age_s = AGE_S
        self.worker: dict[str, Any] = {}  # user attributes of a trial that is created here
        self._mutex = mutex
        self._lock = threading.RLock()
        self._own: dict[int, tuple[int, FrozenTrial]] = {}  # with the study's id
        self._ended: FrozenTrial | None = None  # the last own trial that was finished, which Optuna reads once more
        self._rows: Rows = {}  # not in the database yet
        self._flushed = 0.0  # when
        self._depth = 0  # of batching blocks
        self._read: dict[int, tuple[float, list[FrozenTrial]]] = {}  # by study: when, and what
        if write is None and self.engine is not None and self.engine.name in DIALECTS:
            write = Writer(self.engine).write
        self._write = write or self._write_singly
        self.answered_again = 0.0  # when (time.monotonic), after it had not

    @property
    def served(self) -> bool:
        """Whether processes that share no locks may use it: it is on a server."""
        return self.patience_s > 0

    @property
    def engine(self) -> Any:
        """SQLAlchemy's engine; None behind a proxy."""
        return getattr(getattr(self.inner, "_backend", None), "engine", None)

    # Blocks

    @contextmanager
    def batching(self) -> Iterator[None]:
        """Write what is written to own trials at the end, in one transaction."""
        with self._lock:
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                if self._depth == 0 and not self._can_wait():
                    self.flush()

    @contextmanager
    def mutex(self, name: str) -> Iterator[None]:
        """Exclude all other processes that enter a mutex of the same name; reading starts afresh."""
        with ExitStack() as held:
            self.flush()
            self.call(lambda: held.enter_context(_released(self._mutex(name))))
            self._read.clear()
            yield
            self.flush()

    def own(self, study_id: int, trial_id: int) -> None:
        """Note that no other process writes to a running trial until `disown`."""
        with self._lock:
            self._own[trial_id] = study_id, _copied(self.call(lambda: self.inner.get_trial(trial_id)))

    def sign(self, trial_id: int) -> None:
        """Write this worker's name into an own trial that it has not created."""
        for key, value in self.worker.items():
            self.set_trial_user_attr(trial_id, key, f"{value}:0")

    def taken(self, trial_id: int) -> bool:
        """Return whether another worker has gone on with an own trial, since this one was not heard of for a while."""
        trial = self.call(lambda: self.inner.get_trial(trial_id))
        signed = {key: str(trial.user_attrs.get(key)).rpartition(":")[0] for key in self.worker}
        return trial.state.is_finished() or signed != self.worker

    def disown(self, trial_id: int) -> None:
        """Note that another process may write to a trial from now on."""
        with self._lock:
            self.flush()
            self._own.pop(trial_id, None)
            self._read.clear()

    def flush(self) -> None:
        """Write what is not in the database yet."""
        with self._lock:
            if rows := dict(self._rows):
                self.call(lambda: self._write(rows))
                for row in rows:
                    self._rows.pop(row, None)
                self._flushed = time.monotonic()

    # Calls

    def call(self, do: Callable[[], T], settled: Callable[[], T | None] = lambda: None) -> T:
        """Return what a call returns; if the connection is lost, repeat it.

        Args:
            do: the call.
            settled: returns the result of a call that failed if it took effect nevertheless; None if it did not.

        Raises:
            MachineFault: the database has not answered for `patience_s`.
        """
        began, told, pause, failed = time.monotonic(), False, 0.05, False
        while True:
            try:
                result = settled() if failed else None
                if result is None:
                    result = do()
            except Exception as error:
                if not self.served or (reason := lost(error)) is None:
                    raise
                failed, waited = True, time.monotonic() - began
                if waited > self.patience_s:
                    raise MachineFault(
                        f"{shown(self.place)}, in which the study is kept, has not answered for {waited:.0f} s "
                        f"({reason}). Start it, and run the same command to resume."
                    ) from error
                if waited > TOLD_S and not told:
                    told = True
                    again = f"trying again for {self.patience_s / 60:g} minutes"
                    print(f"{shown(self.place)} does not answer ({reason}); {again}.", file=sys.stderr, flush=True)
                time.sleep(pause)
                pause = min(2 * pause, 2.0)
            else:
                if told:
                    print(f"{shown(self.place)} answers again.", file=sys.stderr, flush=True)
                if failed:
                    self.answered_again = time.monotonic()
                return result

    def write(self, rows: Rows) -> None:
        """Write rows, for another process."""
        with self._lock:
            self.call(lambda: self._write(rows))
            self._read.clear()

    def _write_singly(self, rows: Rows) -> None:
        for (kind, trial_id, key), values in rows.items():
            if kind == USER:
                self.inner.set_trial_user_attr(trial_id, key, *values)
            elif kind == SYSTEM:
                self.inner.set_trial_system_attr(trial_id, key, *values)
            elif kind == STEP:
                self.inner.set_trial_intermediate_value(trial_id, key, *values)
            else:
                self.inner.set_trial_param(trial_id, key, *values)

    def _put(self, row: Row, *values: Any) -> bool:
        """Buffer a row of an own trial, and note it in memory; return whether the trial is one."""
        kind, trial_id, key = row
        with self._lock:
            if trial_id not in self._own:
                self._read.clear()
                return False
            _, trial = self._own[trial_id]
            if kind == PARAM:
                internal, distribution = values
                trial.distributions[key] = distribution
                trial.params[key] = distribution.to_external_repr(internal)
            else:
                kept: Any = {USER: trial.user_attrs, SYSTEM: trial.system_attrs, STEP: trial.intermediate_values}
                kept[kind][key] = values[0] if kind == STEP else json.loads(json.dumps(values[0]))  # as if it were read
            self._rows[row] = values
            if self._depth == 0 and not self._can_wait():
                self.flush()
            return True

    def _can_wait(self) -> bool:
        """Return whether what is not written yet are reports, of which the database has just got some."""
        recent = self.served and time.monotonic() - self._flushed < LATE_S
        return recent and all(kind == STEP for kind, _, _ in self._rows)

    # Optuna's interface: trials

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Create a trial; a running one is this process's own."""
        mine = template_trial is None
        template = _new() if template_trial is None else copy.copy(template_trial)
        token = uuid.uuid4().hex
        if mine and self.worker:  # a token beside the worker's name, which an earlier process may have had, too
            template.user_attrs = {name: f"{value}:{token[:12]}" for name, value in self.worker.items()}
            marks, kind = dict(template.user_attrs), "user_attrs"
        else:
            marks, kind = {TOKEN: token}, "system_attrs"
            template.system_attrs = {**template.system_attrs, **marks}

        def settled() -> int | None:
            trials = self.inner.get_all_trials(study_id, deepcopy=False)
            return next((trial._trial_id for trial in trials if marks.items() <= getattr(trial, kind).items()), None)

        trial_id = self.call(lambda: self.inner.create_new_trial(study_id, template), settled)
        self._read.clear()
        if mine:
            known = getattr(self.inner, "_trial_id_to_study_id_and_number", {}).get(trial_id)
            if known is None:
                self.own(study_id, trial_id)
            else:  # the cache knows its number: it need not be read
                template.number, template._trial_id = known[1], trial_id
                with self._lock:
                    self._own[trial_id] = study_id, _copied(template)
        return trial_id

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        """Set a parameter."""
        if not self._put((PARAM, trial_id, param_name), param_value_internal, distribution):
            self.call(lambda: self.inner.set_trial_param(trial_id, param_name, param_value_internal, distribution))

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """Set a reported value."""
        if not self._put((STEP, trial_id, step), intermediate_value):
            self.call(lambda: self.inner.set_trial_intermediate_value(trial_id, step, intermediate_value))

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set a user attribute."""
        if not self._put((USER, trial_id, key), value):
            self.call(lambda: self.inner.set_trial_user_attr(trial_id, key, value))

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set a system attribute."""
        if not self._put((SYSTEM, trial_id, key), value):
            self.call(lambda: self.inner.set_trial_system_attr(trial_id, key, value))

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Set the state, after everything else has been written; a finished trial is no longer this process's own."""
        with self._lock:
            self.flush()
            begins = state == TrialState.RUNNING  # an enqueued one

            def settled() -> bool | None:
                trial = self.inner.get_trial(trial_id)
                others = begins and self.worker.keys() & trial.user_attrs.keys()
                return True if trial.state == state and not others else None

            studies = [study_id for study_id, (_, trials) in self._read.items() if _has(trials, trial_id)]
            try:
                done = self.call(lambda: self.inner.set_trial_state_values(trial_id, state, values), settled)
            finally:
                self._read.clear()
            if state.is_finished() and trial_id in self._own:
                _, trial = self._own.pop(trial_id)
                trial.state, trial.datetime_complete = state, datetime.now()
                trial.values = None if values is None else list(values)
                self._ended = trial
            elif begins and done and studies:
                self.own(studies[0], trial_id)
                self.sign(trial_id)
            return done

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Return a trial: an own one as it will be in the database."""
        with self._lock:
            if trial_id in self._own:
                return _copied(self._own[trial_id][1])
            if self._ended is not None and self._ended._trial_id == trial_id:
                return _copied(self._ended)
        return self.call(lambda: self.inner.get_trial(trial_id))

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Return the trials of a study; those of other processes may be up to `AGE_S` old."""
        with self._lock:
            when, trials = self._read.get(study_id, (0.0, []))
            if not trials or (time.monotonic() - when >= self.age_s and not self._depth):
                trials = self.call(lambda: self.inner.get_all_trials(study_id, deepcopy=False))
                self._read[study_id] = time.monotonic(), trials
            own = {trial.number: _copied(trial) for of, trial in self._own.values() if of == study_id}
        if own:
            trials = [own.get(trial.number, trial) for trial in trials]
        if states is not None:
            trials = [trial for trial in trials if trial.state in states]
        return copy.deepcopy(trials) if deepcopy else list(trials)

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        """Return a trial's id."""
        return self.call(lambda: self.inner.get_trial_id_from_study_id_trial_number(study_id, trial_number))

    # Studies

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        """Create a study."""
        return self.call(lambda: self.inner.create_new_study(directions, study_name))

    def delete_study(self, study_id: int) -> None:
        """Delete a study."""
        self.call(lambda: self.inner.delete_study(study_id))

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """Set a user attribute of a study."""
        self.call(lambda: self.inner.set_study_user_attr(study_id, key, value))

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """Set a system attribute of a study."""
        self.call(lambda: self.inner.set_study_system_attr(study_id, key, value))

    def get_study_id_from_name(self, study_name: str) -> int:
        """Return a study's id."""
        return self.call(lambda: self.inner.get_study_id_from_name(study_name))

    def get_study_name_from_id(self, study_id: int) -> str:
        """Return a study's name."""
        return self.call(lambda: self.inner.get_study_name_from_id(study_id))

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        """Return a study's directions."""
        return self.call(lambda: self.inner.get_study_directions(study_id))

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """Return a study's user attributes."""
        return self.call(lambda: self.inner.get_study_user_attrs(study_id))

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Return a study's system attributes."""
        return self.call(lambda: self.inner.get_study_system_attrs(study_id))

    def get_all_studies(self) -> list[FrozenStudy]:
        """Return all studies."""
        return self.call(self.inner.get_all_studies)

    def remove_session(self) -> None:
        """Close this thread's connection."""
        self.inner.remove_session()


def lost(error: BaseException) -> str | None:
    """Return why the connection to a server is gone, if that is what an error says; else None."""
    from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, PendingRollbackError
    from sqlalchemy.exc import TimeoutError as PoolTimeout

    if type(error).__module__.startswith("grpc"):
        code = getattr(getattr(error, "code", lambda: None)(), "name", "")
        return str(getattr(error, "details", lambda: code)())[:200] if code in ("UNAVAILABLE", "CANCELLED") else None
    if isinstance(error, StorageInternalError) and error.__cause__ is not None:
        return lost(error.__cause__)
    if isinstance(error, PendingRollbackError):  # Optuna read trials once more in a session whose read had failed
        return "the session was lost"
    if isinstance(error, OperationalError | InterfaceError | PoolTimeout) or (
        isinstance(error, DBAPIError) and error.connection_invalidated
    ):
        return " ".join(str(getattr(error, "orig", error)).split())[:200]
    return None


@contextmanager
def _released(mutex: AbstractContextManager[None]) -> Iterator[None]:
    """Enter a mutex; where the connection was lost in it, the server has released it."""
    held = ExitStack()
    held.enter_context(mutex)
    try:
        yield
    finally:
        try:
            held.close()
        except Exception as error:
            if lost(error) is None:
                raise


def _has(trials: Sequence[FrozenTrial], trial_id: int) -> bool:
    return any(trial._trial_id == trial_id for trial in trials)


def _new() -> FrozenTrial:
    return FrozenTrial(
        number=-1,
        trial_id=-1,
        state=TrialState.RUNNING,
        value=None,
        datetime_start=datetime.now(),
        datetime_complete=None,
        params={},
        distributions={},
        user_attrs={},
        system_attrs={},
        intermediate_values={},
    )


def _copied(trial: FrozenTrial) -> FrozenTrial:
    """Return a trial that can be changed without changing this one."""
    new = copy.copy(trial)
    new.user_attrs, new.system_attrs = dict(trial.user_attrs), dict(trial.system_attrs)
    new.intermediate_values, new.params = dict(trial.intermediate_values), dict(trial.params)
    new.distributions = dict(trial.distributions)
    return new


class Writer:
    """Writes rows into Optuna's tables: into several in one transaction.

    Into one it writes on a connection of its own, with a statement that commits itself: a single round trip.
    """

    def __init__(self, engine: Any) -> None:
        from optuna.storages._rdb import models

        self.engine = engine
        self.connection: Any = None
        self.step = models.TrialIntermediateValueModel
        tables: dict[str, tuple[Any, str]] = {
            USER: (models.TrialUserAttributeModel, "key"),
            SYSTEM: (models.TrialSystemAttributeModel, "key"),
            STEP: (self.step, "step"),
            PARAM: (models.TrialParamModel, "param_name"),
        }
        self.keys = {kind: key for kind, (_, key) in tables.items()}
        self.statements = {kind: _upsert(engine.name, table, key) for kind, (table, key) in tables.items()}

    def write(self, rows: Rows) -> None:
        """Insert or replace rows."""
        by_kind: dict[str, list[dict[str, Any]]] = {}
        for (kind, trial_id, key), values in rows.items():
            row = {"trial_id": trial_id, self.keys[kind]: key, **self.values(kind, values)}
            by_kind.setdefault(kind, []).append(row)
        if len(by_kind) == 1:
            ((kind, some),) = by_kind.items()
            try:
                if self.connection is None:
                    self.connection = self.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
                self.connection.execute(self.statements[kind], some if len(some) > 1 else some[0])
            except Exception:
                self.close()
                raise
            return
        with self.engine.begin() as connection:
            for kind, some in by_kind.items():
                connection.execute(self.statements[kind], some if len(some) > 1 else some[0])

    def close(self) -> None:
        """Close the connection; the next write opens another."""
        connection, self.connection = self.connection, None
        if connection is not None:
            with suppress(Exception):
                connection.invalidate()
                connection.close()

    def values(self, kind: str, values: tuple[Any, ...]) -> dict[str, Any]:
        """Return the columns beside the key."""
        if kind == STEP:
            value, value_type = self.step.intermediate_value_to_stored_repr(values[0])
            return {"intermediate_value": value, "intermediate_value_type": value_type}
        if kind == PARAM:
            return {"param_value": values[0], "distribution_json": distribution_to_json(values[1])}
        return {"value_json": json.dumps(values[0])}


def _upsert(dialect: str, table: Any, key: str) -> Any:
    """Return a statement that inserts a row or replaces the one of the same trial and key."""
    columns = {column.name for column in table.__table__.columns if not column.primary_key}
    changed = columns - {"trial_id", key}
    if dialect in ("mysql", "mariadb"):
        from sqlalchemy.dialects import mysql

        insert = mysql.insert(table)
        return insert.on_duplicate_key_update({name: insert.inserted[name] for name in changed})
    from sqlalchemy.dialects import postgresql, sqlite

    put: Any = (postgresql if dialect == "postgresql" else sqlite).insert(table)
    return put.on_conflict_do_update(
        index_elements=[table.trial_id, getattr(table, key)], set_={name: put.excluded[name] for name in changed}
    )


def server_mutex(engine: Any, name: str) -> AbstractContextManager[None]:
    """Return a mutex in a database server, released when the connection is; none where there is only one host.

    PostgreSQL has advisory locks, MySQL and MariaDB named ones.
    """
    if engine.name == "postgresql":
        return _postgresql(engine, int(fingerprint(name)[:15], 16))
    if engine.name in ("mysql", "mariadb"):
        return _mysql(engine, f"hypermap-{fingerprint(name)}")
    return nullcontext()


@contextmanager
def proxy_mutex(channel: Any, name: str) -> Iterator[None]:
    """Hold a mutex of a gRPC proxy.

    Raises:
        UserError: the proxy has none: Optuna's own was started.
    """
    import grpc

    acquire, release = (
        channel.unary_unary(f"/{SERVICE}/{method}", lambda words: json.dumps(words).encode(), json.loads)
        for method in ("Acquire", "Release")
    )
    words = [name, uuid.uuid4().hex]
    try:
        while not acquire(words):
            time.sleep(random.uniform(0.01, 0.05))
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.UNIMPLEMENTED:
            raise UserError(
                "This gRPC proxy has no mutex for several workers. Start it with: python src/study.py serve storage=URL"
            ) from None
        raise
    try:
        yield
    finally:
        release(words)


def proxy_write(channel: Any, rows: Rows) -> None:
    """Write rows through a gRPC proxy, in one call."""
    sent = [
        [*row, values[0] if row[0] != PARAM else [values[0], distribution_to_json(values[1])]]
        for row, values in rows.items()
    ]
    channel.unary_unary(f"/{SERVICE}/Write", lambda words: json.dumps(words).encode(), json.loads)([sent])


def received(sent: list[list[Any]]) -> Rows:
    """Return the rows that `proxy_write` sent."""
    return {
        (kind, trial_id, key): (value,) if kind != PARAM else (value[0], json_to_distribution(value[1]))
        for kind, trial_id, key, value in sent
    }


@contextmanager
def _postgresql(engine: Any, key: int) -> Iterator[None]:
    from sqlalchemy import text

    with engine.begin() as connection:
        limit = "set_config('idle_in_transaction_session_timeout', :limit, true)"
        connection.execute(text(f"SELECT {limit}, pg_advisory_xact_lock(:key)"), {"limit": f"{HELD_S}s", "key": key})
        yield


@contextmanager
def _mysql(engine: Any, key: str) -> Iterator[None]:
    from sqlalchemy import text

    with engine.connect() as connection:
        while not connection.execute(text("SELECT GET_LOCK(:key, 10)"), {"key": key}).scalar():
            pass
        try:
            yield
        finally:
            connection.execute(text("SELECT RELEASE_LOCK(:key)"), {"key": key})
