"""Optuna's tables, read and written in few statements: its ORM takes most of a worker's processor time."""

import copy
import json
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property, lru_cache, partial
from typing import Any

from optuna.distributions import json_to_distribution
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

CHUNK = 1000  # trials of which a statement reads the rows
FAST = ("postgresql", "sqlite")  # dialects that return what an INSERT has inserted
distribution_of = lru_cache(maxsize=1000)(json_to_distribution)  # a study has few
# Of what a trial's rows in other tables are.
PARAM, VALUE, USER, SYSTEM, REPORT = range(5)


class Tables(RDBStorage):
    """Optuna's storage in a database, with the same tables and rows.

    What every worker calls again and again is written in SQLAlchemy Core, in few round trips: reading the trials that
    have changed, creating a trial, finishing one, and the counters of leases. Everything else is Optuna's.
    """

    @cached_property
    def _alone(self) -> Any:
        """The engine without transactions. A trial's state is read first, so that what is finished is whole."""
        return self.engine.execution_options(isolation_level="AUTOCOMMIT")

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Return a trial."""
        from optuna.storages._rdb import models
        from sqlalchemy import select

        trials = models.TrialModel.__table__
        found = self._read(select(trials).where(trials.c.trial_id == trial_id))
        return found[0] if found else super().get_trial(trial_id)  # which raises an error

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        """Return the trials beyond one, and those of these ids, in their order; Optuna's cache calls it."""
        usual = partial(super()._get_trials, study_id, states, included_trial_ids, trial_id_greater_than)
        if states is not None:
            return usual()
        from optuna.storages._rdb import models
        from sqlalchemy import or_, select

        trials = models.TrialModel.__table__
        asked = trials.c.trial_id > trial_id_greater_than
        if among := [trial_id for trial_id in included_trial_ids if trial_id <= trial_id_greater_than]:
            asked = or_(asked, trials.c.trial_id.in_(among))
        found = self._read(select(trials).where(trials.c.study_id == study_id, asked).order_by(trials.c.trial_id))
        return found or (usual() if trial_id_greater_than < 0 else [])  # it raises an error if there is no such study

    def _read(self, query: Any) -> list[FrozenTrial]:
        """Return the trials that a query finds in the table of trials."""
        with _failing("Trials could not be read."), self._alone.connect() as connection:
            rows, read = connection.execute(query).all(), []
            for start in range(0, len(rows), CHUNK):
                some: dict[int, tuple[Any, list[list[Any]]]] = {
                    row.trial_id: (row, [[], [], [], [], []]) for row in rows[start : start + CHUNK]
                }
                for part in connection.execute(self._parts, {"ids": list(some)}).all():
                    some[part.trial_id][1][part.kind].append(part)
                read += [_trial(row, *parts) for row, parts in some.values()]
        return read

    @cached_property
    def _parts(self) -> Any:
        """The statement that reads all rows of some trials in the other tables."""
        from optuna.storages._rdb import models
        from sqlalchemy import Text, bindparam, cast, literal_column, null, select, union_all

        def part(kind: int, model: Any, place: str, name: str | None, text: str, number: str | None) -> Any:
            columns = model.__table__.c
            return select(
                literal_column(str(kind)).label("kind"),
                columns.trial_id,
                columns[place].label("place"),
                (null() if name is None else columns[name]).label("name"),
                cast(columns[text], Text).label("text"),
                (null() if number is None else columns[number]).label("number"),
            ).where(columns.trial_id.in_(bindparam("ids", expanding=True)))

        user, system = models.TrialUserAttributeModel, models.TrialSystemAttributeModel
        reports = models.TrialIntermediateValueModel
        return union_all(
            part(PARAM, models.TrialParamModel, "param_id", "param_name", "distribution_json", "param_value"),
            part(VALUE, models.TrialValueModel, "objective", None, "value_type", "value"),
            part(USER, user, "trial_user_attribute_id", "key", "value_json", None),
            part(SYSTEM, system, "trial_system_attribute_id", "key", "value_json", None),
            part(REPORT, reports, "step", None, "intermediate_value_type", "intermediate_value"),
        )

    def _create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> FrozenTrial:
        """Create a trial, and return it; the study's row is locked meanwhile, as by Optuna."""
        new = template_trial
        if new is None or self.engine.name not in FAST or new.values or new.params or new.intermediate_values:
            return super()._create_new_trial(study_id, template_trial)
        from optuna.storages._rdb import models
        from sqlalchemy import func, insert, select

        study, trials = models.StudyModel.__table__, models.TrialModel.__table__
        count = select(func.count()).select_from(trials).where(trials.c.study_id == study_id).scalar_subquery()
        row = {"study_id": study_id, "number": count, "state": new.state, "datetime_start": _utc(new.datetime_start)}
        with _failing("A trial could not be created."), self.engine.begin() as connection:
            lock = select(study.c.study_id).where(study.c.study_id == study_id).with_for_update()
            if connection.execute(lock).first() is None:
                raise KeyError(models.NOT_FOUND_MSG)
            insertion = insert(trials).values(row).returning(trials.c.trial_id, trials.c.number)
            trial_id, number = connection.execute(insertion).one()
            for model, attrs in (
                (models.TrialUserAttributeModel, new.user_attrs),
                (models.TrialSystemAttributeModel, new.system_attrs),
            ):
                rows = [{"trial_id": trial_id, "key": k, "value_json": json.dumps(v)} for k, v in attrs.items()]
                if rows:
                    connection.execute(insert(model.__table__), rows)
        made = copy.copy(new)
        made.number, made._trial_id = number, trial_id
        return made

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Set the state; what is not the plain end of an unfinished trial is left to Optuna."""
        usual = partial(super().set_trial_state_values, trial_id, state, values)
        if not state.is_finished():
            return usual()
        from optuna.storages._rdb import models
        from sqlalchemy import insert, update
        from sqlalchemy.exc import IntegrityError

        trials, own = models.TrialModel.__table__, models.TrialValueModel
        unfinished = trials.c.state.in_([TrialState.RUNNING, TrialState.WAITING])
        ending = update(trials).where(trials.c.trial_id == trial_id, unfinished)
        try:
            with _failing("A trial could not be finished."), self.engine.begin() as connection:
                ended = connection.execute(ending.values(state=state, datetime_complete=_utc(datetime.now())))
                if ended.rowcount == 1 and values:
                    rows = [
                        {"trial_id": trial_id, "objective": objective, "value": stored, "value_type": kind}
                        for objective, (stored, kind) in enumerate(map(own.value_to_stored_repr, values))
                    ]
                    connection.execute(insert(own.__table__), rows)
        except StorageInternalError as error:
            if isinstance(error.__cause__, IntegrityError):  # it has values already
                return usual()
            raise
        return ended.rowcount == 1 or usual()

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """Return the attributes of a study, among which is a counter for each worker."""
        from optuna.storages._rdb import models
        from sqlalchemy import select

        attrs = models.StudySystemAttributeModel.__table__.c
        with _failing("A study's attributes could not be read."), self._alone.connect() as connection:
            query = select(attrs.key, attrs.value_json).where(attrs.study_id == study_id)
            found = {key: json.loads(value) for key, value in connection.execute(query)}
        return found or super().get_study_system_attrs(study_id)  # it raises an error if there is no such study

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """Set an attribute of a study: in one round trip, if it has the attribute already."""
        from optuna.storages._rdb import models
        from sqlalchemy import update

        table = models.StudySystemAttributeModel.__table__
        change = update(table).where(table.c.study_id == study_id, table.c.key == key)
        with _failing("A study's attribute could not be written."), self._alone.connect() as connection:
            changed = connection.execute(change.values(value_json=json.dumps(value))).rowcount
        if not changed:
            super().set_study_system_attr(study_id, key, value)


@contextmanager
def _failing(message: str) -> Iterator[None]:
    """Raise Optuna's error for those of SQLAlchemy, as Optuna does."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except SQLAlchemyError as error:
        raise StorageInternalError(message) from error


def _trial(
    row: Any,
    params: Sequence[Any],
    values: Sequence[Any],
    user_attrs: Sequence[Any],
    system_attrs: Sequence[Any],
    reports: Sequence[Any],
) -> FrozenTrial:
    """Return a trial from its rows."""
    params = sorted(params, key=lambda one: one.place)
    distributions = {one.name: distribution_of(one.text) for one in params}
    return FrozenTrial(
        number=row.number,
        state=row.state,
        value=None,
        values=[_number(one) for one in sorted(values, key=lambda one: one.place)] or None,
        datetime_start=_local(row.datetime_start),
        datetime_complete=_local(row.datetime_complete),
        params={one.name: distributions[one.name].to_external_repr(one.number) for one in params},
        distributions=distributions,
        user_attrs={one.name: json.loads(one.text) for one in user_attrs},
        system_attrs={one.name: json.loads(one.text) for one in system_attrs},
        intermediate_values={one.place: _number(one) for one in reports},
        trial_id=row.trial_id,
    )


def _number(row: Any) -> float:
    """Return a value that may be infinite or NaN, which stands in a column of its own."""
    number = row.number
    return float(number if number is not None else {"INF_POS": "inf", "INF_NEG": "-inf", "NAN": "nan"}[row.text])


def _utc(local: datetime | None) -> datetime | None:
    return None if local is None else local.astimezone(UTC).replace(tzinfo=None)


def _local(utc: datetime | None) -> datetime | None:
    return None if utc is None else utc.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
