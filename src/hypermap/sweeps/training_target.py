"""What Hypermap's own training tells a sweep: its objective, what a study must match, and each trial's version."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from filelock import FileLock

from hypermap.config.compose import group_defaults
from hypermap.config.groups import Configuration
from hypermap.config.params_file import params_text
from hypermap.config.rules import validate
from hypermap.core import dvc_experiments
from hypermap.core.errors import UserError, disk_fault, near
from hypermap.core.files import write_text
from hypermap.core.hashing import fingerprint_of_code, own_files
from hypermap.core.instantiate import named_in_conf
from hypermap.core.paths import CONF, PARAMS, STUDY_REPORTS
from hypermap.core.preload import uncollected
from hypermap.data.manifest import Manifest
from hypermap.datasets.prepare import Pinned, file_checksum
from hypermap.reports.study.verdict import read_thresholds
from hypermap.search.application import Job, OnFinish, StudySpec, SweepTarget, without
from hypermap.search.schedule import Size
from hypermap.search.storage import lock_folder
from hypermap.search.study import RECORD, STATE
from hypermap.search.trial import RunningTrial, report_all

if TYPE_CHECKING:  # torch takes seconds
    from hypermap.experiments.run import Result, TrainingRequest

METRICS = "validation.json"
ROOMS = (  # whose code decides what a sweep comes to
    "config", "core", "data", "datasets", "experiments", "models", "search", "sweeps", "tasks", "training",
)  # fmt: skip
TABLE = "hypermap.datasets.tables.dataset.table"
DECIDE_FILES = {"path", "test_path", "dataset", "root"}  # of a table's keys
# What is searched of these makes some trials longer than others.
SIZES = {
    "model", "trainer", "trainer.epochs", "trainer.reports_per_epoch", "trainer.repeats", "validation", "validation.k",
    "validation.repeats",
}  # fmt: skip
IRRELEVANT = ("experiment", "seed", "evaluation", "trainer.threads", "trainer.device", "trainer.backend", "data.root")


class TrainingTarget(SweepTarget):
    """Sweeps of `hypermap.experiments.run.train`.

    Args:
        prepare: from a configuration, and what its files are to be, to the folder of its prepared data, made first
            where it is not there (`hypermap.sweeps.cli.prepare`).
        base: the text of the params.yaml that trials' own start from.
    """

    stacks = True
    pauses = True
    listed = True

    def __init__(self, prepare: Callable[..., Path], base: str) -> None:
        self.prepare = prepare
        self.base = base
        self.study = ""
        self.conf = CONF
        self.snapshot: dvc_experiments.Snapshot | None = None
        self.said: set[str] = set()  # why trials train by themselves

    def check(self, configuration: Mapping[str, Any]) -> None:
        """Hold a configuration to the rules of a single run."""
        validate(configuration)

    def ignored_groups(self, group: str, option: str) -> Collection[str]:
        """Return how a network is trained, where the model is none."""
        if group != "model":
            return ()
        with uncollected():
            from hypermap.models.sklearn_fit import IGNORED_GROUPS, is_family  # brings torch

        return IGNORED_GROUPS if is_family(group_defaults(f"model={option}", self.conf)["model"]) else ()

    def study_spec(
        self, configuration: Mapping[str, Any], searched: Sequence[str], objectives: Sequence[str] | None
    ) -> StudySpec:
        """Return what a study of these trainings is.

        The objective is what the best epoch is picked by, unless the sweep asks for other metrics.
        """
        from hypermap.tasks.base import directions, locate_task

        manifest = Manifest.read(self.prepare(dict(configuration)))
        task = locate_task(manifest.task)
        usual, known = configuration["trainer"]["monitor"] or task.monitor, directions(task)
        names = tuple(objectives or (usual,))
        if wrong := [name for name in names if name not in known]:
            raise UserError(
                f"hydra.sweeper.objective: no {wrong[0]} of a {manifest.task}{near(wrong[0], known)}. There are: "
                f"{', '.join(sorted(known))}."
            )
        fixed = without(configuration, [*searched, *IRRELEVANT])
        data = _data(configuration, searched, manifest)
        identity = {"configuration": fixed, "data": data, "code": {"src/": _code(configuration)[:16]}}
        seed = int(configuration["seed"])
        return StudySpec(
            names,
            tuple("maximize" if known[name] else "minimize" for name in names),
            seed,
            _horizon(configuration, searched),
            minimizes_reports=usual == "loss",
            reports_fits=_fits(configuration) > 1,
            sizes_differ=bool(SIZES & set(searched)),
            identity=identity,
        )

    def size(self, configuration: Mapping[str, Any], baseline: Mapping[str, Any]) -> Size:
        """Return a network's epochs beside the baseline's; a fold or a repeat is a part of a training, whatever the
        model.
        """
        from hypermap.models.sklearn_fit import is_family

        if (fits := _fits(configuration)) > 1:
            return Size(fits)
        if is_family(configuration["model"]):
            return Size()
        own, usual = (int(one["trainer"]["epochs"]) for one in (configuration, baseline))
        return Size(own * int(configuration["trainer"]["reports_per_epoch"]), own / usual)

    def stack_size(self, configuration: Mapping[str, Any]) -> int:
        """Return how many trainings like this are best done at once, by a measurement of a moment; 1 where a stack is
        slow.
        """
        from hypermap.core import device
        from hypermap.experiments.cross_validator import CrossValidator
        from hypermap.experiments.scheduler import stack_size

        device.make_repeatable()
        return stack_size(CrossValidator(configuration, self.prepare(dict(configuration))))

    def together(self, jobs: Sequence[Job], on_finish: OnFinish) -> None:
        """Train trials, those that fit together as stacks."""
        with uncollected():
            from hypermap.experiments.run import Result, TrainingRequest, train_together

        jobs[0].trial.pause()
        of = {job.trial: job for job in jobs}
        requests: dict[RunningTrial, TrainingRequest] = {}
        for job in jobs:
            try:
                prepared = self.prepare(job.configuration, files_of(job.trial))
            except UserError as error:
                on_finish(job, error)
            else:
                requests[job.trial] = _asked(job.configuration, prepared, job.trial)

        def finish(trial: RunningTrial, result: Result | Exception) -> None:
            objectives: Any = result
            if not isinstance(result, Exception):
                try:
                    objectives = _objectives(requests[trial].configuration, result, trial)
                except Exception as error:
                    objectives = error
            on_finish(of[trial], objectives)

        def say(trial: RunningTrial, reason: str) -> None:
            if reason not in self.said:  # by this worker
                self.said.add(reason)
                print(f"Trial {trial.number} trains by itself, as others may: {reason}", flush=True)

        train_together(requests, report_all, finish, say)

    def begin(self, study: str, *, publish: bool) -> dict[str, Any]:
        """Keep the code and conf/ as they are now, as a Git tree."""
        dvc_experiments.check_study_name(study)
        taken = dvc_experiments.snapshot(Path.cwd()) if publish else "hydra.sweeper.dvc=false"
        return {"snapshot": taken if isinstance(taken, str) else asdict(taken), "base": self.base}

    def resume(self, study: str, kept: Mapping[str, Any], conf: Path) -> None:
        """Go on from what `begin` kept."""
        self.study, self.base, self.conf, taken = study, str(kept["base"]), conf, kept["snapshot"]
        self.snapshot = None
        if isinstance(taken, str):
            if taken != "hydra.sweeper.dvc=false":
                print(f"No DVC experiments: {taken}.", flush=True)
            return
        self.snapshot = dvc_experiments.Snapshot(**taken)
        try:
            dvc_experiments.keep(Path.cwd(), self.snapshot, study)
        except UserError as error:  # another machine's clone, which does not hold what the sweep began from
            print(f"{error} This machine's trials start from its own files.", flush=True)
            own = dvc_experiments.snapshot(Path.cwd())
            self.snapshot = None if isinstance(own, str) else own

    def report(self, study: optuna.Study, storage: str) -> str:
        """Write the study's report, and say what it comes to; where that fails the search counts all the same."""
        with uncollected():
            from hypermap.reports.study.command import report  # brings matplotlib, which workers have no use for

        try:
            with FileLock(lock_folder(storage, study.study_name) / "report"):  # several commands may end it at once
                return report(
                    study, storage, STUDY_REPORTS, read_thresholds(), trust=True
                )  # its space was given just now
        except (UserError, OSError) as error:
            again = f"python src/report.py study={study.study_name}"
            return f"No report: {error}\nOnce that is mended: {again}"

    def before_tell(self, trial: RunningTrial) -> None:
        """Leave the trial's params.yaml in its folder, and make it a DVC experiment.

        A process that dies between this and telling the study does both again, to the same end.
        """
        if trial.configuration is None:
            return
        params = params_text(trial.configuration, self.base, self.conf)
        write_text(trial.folder / PARAMS, params)
        if self.snapshot is not None:
            metrics = (trial.folder / METRICS).read_text(encoding="utf-8")
            name = dvc_experiments.experiment_name(self.study, trial.number)
            try:
                dvc_experiments.publish(Path.cwd(), self.snapshot, name, params, metrics)
            except UserError as error:  # the trial counts all the same, and its params.yaml is in its folder
                if disk_fault(error) is not None:
                    raise
                print(f"Trial {trial.number} is no DVC experiment: {error}", flush=True)


def _code(configuration: Mapping[str, Any]) -> str:
    """Return what names the code of a sweep: a person's own modules count if the configuration or conf/ names them."""
    named = [configuration, *({"_target_": path} for path in named_in_conf())]
    return fingerprint_of_code(ROOMS, frozenset(own_files(named).values()))


def files_of(trial: RunningTrial) -> Pinned | None:
    """Return what the files of the trial's table must hold: what they did when the study began, where that was
    noted.
    """
    record = trial.trial.study.user_attrs.get(RECORD, {})
    checksum = record.get("identity", {}).get("data", {}).get("files")
    return checksum and Pinned(checksum, "changed during the sweep; put it back or begin another study.")


def train_trial(configuration: Configuration, prepared: Path, trial: RunningTrial) -> list[float]:
    """Train as a trial of a sweep, into its folder, and return the objectives that the sweep asks for.

    Raises:
        Pruned: others did better at this point.
        Interrupted: a person asked to stop.
        UserError: as `hypermap.experiments.run.train`, or an objective that validation does not give.
    """
    with uncollected():
        from hypermap.experiments.run import train  # seconds, in which a person may have asked to stop

    trial.pause()
    request = _asked(configuration, prepared, trial)
    return _objectives(request.configuration, train(request), trial)


def _asked(configuration: Configuration, prepared: Path, trial: RunningTrial) -> "TrainingRequest":
    """Return a trial's training: with its own seed, unless that is searched."""
    from hypermap.experiments.run import TrainingRequest

    return TrainingRequest(
        configuration if "seed" in trial.values else {**configuration, "seed": trial.seed},
        prepared,
        trial.folder,
        trial.folder / METRICS,
        report=trial.report,
        pause=trial.pause,
        refit=False,
        measure_latency="latency_ms" in trial.objectives,
        states=trial.folder / STATE,
    )


def _objectives(configuration: Mapping[str, Any], result: "Result", trial: RunningTrial) -> list[float]:
    """Return what the sweep asks for, of a trial's result, which is noted in the trial.

    Raises:
        UserError: an objective that validation does not give.
    """
    # The number of threads and the kernel change the last digits of a sum, so they belong to what makes the figures.
    own = {"threads": result.threads} | ({"backend": "native"} if result.backend == "native" else {})
    trial.configuration = {**configuration, "trainer": {**configuration["trainer"], **own}}
    metrics = result.metrics | ({} if result.parameters is None else {"parameters": result.parameters})
    values = {**metrics, "latency_ms": result.latency_ms, "seconds": result.seconds}
    trial.record |= {
        "figures": metrics,
        "epochs": result.epochs,
        "best_epoch": result.best_epoch,
        "backend": result.backend,
        **({"scores": result.scores} if len(result.scores) > 1 else {}),
    }
    if missing := [name for name in trial.objectives if values.get(name) is None]:
        raise UserError(f"hydra.sweeper.objective: no {missing[0]} here. There are: {', '.join(sorted(values))}.")
    return [float(values[name]) for name in trial.objectives]  # type: ignore[arg-type]


def _horizon(configuration: Mapping[str, Any], searched: Sequence[str]) -> int | None:
    """Return how often a full trial reports: once a fit where there are several, else as often as the trainer is told
    to.
    """
    trainer = configuration["trainer"]
    deciding = {"validation", "trainer", "validation.k", "validation.repeats", "trainer.repeats"}
    if (fits := _fits(configuration)) > 1:
        return None if deciding & set(searched) else fits
    deciding |= {"trainer.epochs", "trainer.reports_per_epoch"}
    return None if deciding & set(searched) else int(trainer["epochs"] * trainer["reports_per_epoch"])


def _fits(configuration: Mapping[str, Any]) -> int:
    """Return how many trainings a trial is."""
    trainer, validation = configuration["trainer"], configuration["validation"]
    return int(validation.get("k", 1) * validation.get("repeats", 1) * trainer["repeats"])


def _data(configuration: Mapping[str, Any], searched: Sequence[str], manifest: Manifest) -> dict[str, str]:
    """Return what tells whether the data are those of before; nothing where what is searched changes what is read."""
    option = configuration["data"]
    keys = {key.split(".")[1] if "." in key else "" for key in searched if key.partition(".")[0] == "data"}
    checksum = file_checksum(option)
    if checksum is None or option["_target_"] != TABLE:  # of another reader, nobody knows which keys those are
        return {} if keys else {"files": checksum or manifest.raw_sha256}
    return {} if keys & {"", "_target_", *DECIDE_FILES} else {"files": checksum}
