"""Optuna's tables, read and written in few statements: its ORM takes most of a worker's processor time."""

import json
from collections import defaultdict
from collections.abc import Container, Iterator, Sequence
from datetime import UTC, datetime
from functools import cached_property, lru_cache, partial
from typing import Any

from optuna.distributions import json_to_distribution
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

CHUNK = 1000  # trials that a statement reads the rows of
FAST = ("postgresql", "sqlite")  # dialects that return what an INSERT has inserted
distribution_of = lru_cache(maxsize=1000)(json_to_distribution)  # a study has few


class Tables(RDBStorage):
    """Optuna's storage in a database, with the same tables and rows.

    Three calls that every worker makes for every trial are written in SQLAlchemy Core, in few round trips: reading the
    trials that have changed, creating a trial, and finishing one. Everything else is Optuna's.
    """

    @cached_property
    def _reading(self) -> Any:
        """The engine without transactions, for reads: a trial's state first, so that what is finished is whole."""
        return self.engine.execution_options(isolation_level="AUTOCOMMIT")

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
        query = select(trials).where(trials.c.study_id == study_id, asked).order_by(trials.c.trial_id)
        with self._reading.connect() as connection:
            found = connection.execute(query).all()
            if not found and trial_id_greater_than < 0:
                return usual()  # which raises an error if there is no such study
            return [trial for some in batched(found, CHUNK) for trial in _complete(connection, some)]

    def _create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> FrozenTrial:
        """Create a trial, and return it; the study's row is locked meanwhile, as Optuna does."""
        new = template_trial
        if new is None or self.engine.name not in FAST or new.values or new.params or new.intermediate_values:
            return super()._create_new_trial(study_id, template_trial)
        from optuna.storages._rdb import models
        from sqlalchemy import func, insert, select
        from sqlalchemy.exc import SQLAlchemyError

        study, trials = models.StudyModel.__table__, models.TrialModel.__table__
        count = select(func.count()).select_from(trials).where(trials.c.study_id == study_id).scalar_subquery()
        row = {"study_id": study_id, "number": count, "state": new.state, "datetime_start": _utc(new.datetime_start)}
        try:
            with self.engine.begin() as connection:
                lock = select(study.c.study_id).where(study.c.study_id == study_id).with_for_update()
                if connection.execute(lock).first() is None:
                    raise KeyError(models.NOT_FOUND_MSG)
                insertion = insert(trials).values(row).returning(trials.c.trial_id, trials.c.number)
                trial_id, number = connection.execute(insertion).one()
                for model, attrs in (
                    (models.TrialUserAttributeModel, new.user_attrs),
                    (models.TrialSystemAttributeModel, new.system_attrs),
                ):
                    if attrs:
                        values = [
                            {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)}
                            for key, value in attrs.items()
                        ]
                        connection.execute(insert(model.__table__), values)
        except SQLAlchemyError as error:
            raise StorageInternalError("A trial could not be created.") from error
        made = FrozenTrial.__new__(FrozenTrial)
        made.__dict__.update(new.__dict__)
        made.number, made._trial_id = number, trial_id
        return made

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Set the state; what is not the plain end of an unfinished trial is left to Optuna."""
        usual = partial(super().set_trial_state_values, trial_id, state, values)
        if not state.is_finished():
            return usual()
        from optuna.storages._rdb import models
        from sqlalchemy import insert, update
        from sqlalchemy.exc import IntegrityError, SQLAlchemyError

        trials, own = models.TrialModel.__table__, models.TrialValueModel
        unfinished = trials.c.state.in_([TrialState.RUNNING, TrialState.WAITING])
        ending = update(trials).where(trials.c.trial_id == trial_id, unfinished)
        try:
            with self.engine.begin() as connection:
                ended = connection.execute(ending.values(state=state, datetime_complete=_utc(datetime.now())))
                if ended.rowcount == 1 and values:
                    rows = [
                        {"trial_id": trial_id, "objective": objective, "value": stored, "value_type": kind}
                        for objective, (stored, kind) in enumerate(map(own.value_to_stored_repr, values))
                    ]
                    connection.execute(insert(own.__table__), rows)
        except IntegrityError:  # it has values already
            return usual()
        except SQLAlchemyError as error:
            raise StorageInternalError("A trial could not be finished.") from error
        return ended.rowcount == 1 or usual()


def _complete(connection: Any, trials: Sequence[Any]) -> list[FrozenTrial]:
    """Return trials from their rows in the table of trials."""
    from optuna.storages._rdb import models
    from sqlalchemy import select

    ids, parts = [row.trial_id for row in trials], []
    for model in (
        models.TrialParamModel,
        models.TrialValueModel,
        models.TrialUserAttributeModel,
        models.TrialSystemAttributeModel,
        models.TrialIntermediateValueModel,
    ):
        table, by_trial = model.__table__, defaultdict(list)
        for row in connection.execute(select(table).where(table.c.trial_id.in_(ids))):
            by_trial[row.trial_id].append(row)
        parts.append(by_trial)
    return [_trial(row, *(by_trial[row.trial_id] for by_trial in parts)) for row in trials]


def _trial(
    row: Any,
    params: Sequence[Any],
    values: Sequence[Any],
    user_attrs: Sequence[Any],
    system_attrs: Sequence[Any],
    reports: Sequence[Any],
) -> FrozenTrial:
    """Return a trial from its rows."""
    from optuna.storages._rdb.models import TrialIntermediateValueModel, TrialValueModel

    values = sorted(values, key=lambda one: one.objective)
    params = sorted(params, key=lambda one: one.param_id)
    distributions = {one.param_name: distribution_of(one.distribution_json) for one in params}
    return FrozenTrial(
        number=row.number,
        state=row.state,
        value=None,
        values=[TrialValueModel.stored_repr_to_value(one.value, one.value_type) for one in values] or None,
        datetime_start=_local(row.datetime_start),
        datetime_complete=_local(row.datetime_complete),
        params={one.param_name: distributions[one.param_name].to_external_repr(one.param_value) for one in params},
        distributions=distributions,
        user_attrs={one.key: json.loads(one.value_json) for one in user_attrs},
        system_attrs={one.key: json.loads(one.value_json) for one in system_attrs},
        intermediate_values={
            one.step: TrialIntermediateValueModel.stored_repr_to_intermediate_value(
                one.intermediate_value, one.intermediate_value_type
            )
            for one in reports
        },
        trial_id=row.trial_id,
    )


def batched(rows: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Yield the rows in their order, up to `size` at a time."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _utc(local: datetime | None) -> datetime | None:
    return None if local is None else local.astimezone(UTC).replace(tzinfo=None)


def _local(utc: datetime | None) -> datetime | None:
    return None if utc is None else utc.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
