"""Hypermap's training as the target of a sweep: its objective, its identity, and each trial as a DVC experiment."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from filelock import FileLock

from hypermap.config.compose import group_defaults
from hypermap.config.groups import Configuration
from hypermap.config.params_file import params_text
from hypermap.config.portfolio import chosen
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
from hypermap.search.storage import is_served, lock_folder
from hypermap.search.study import RECORD, completed
from hypermap.search.transport import files_of_trial, send_files
from hypermap.search.trial import RunningTrial, report_all
from hypermap.training.length import default_epochs

if TYPE_CHECKING:  # torch takes seconds
    from hypermap.experiments.run import Result, TrainingRequest

METRICS = "validation.json"
ROOMS = (  # whose code determines the results of a sweep
    "config", "core", "data", "datasets", "experiments", "models", "search", "sweeps", "tasks", "training",
)  # fmt: skip
TABLE = "hypermap.datasets.tables.dataset.table"
DECIDE_FILES = {"path", "test_path", "dataset", "root"}  # of a table's keys
# If one of these is searched, trials differ in length.
SIZES = {
    "model", "trainer", "trainer.epochs", "trainer.reports_per_epoch", "trainer.repeats", "validation", "validation.k",
    "validation.repeats",
}  # fmt: skip
IRRELEVANT = (
    "experiment", "seed", "final", "evaluation", "trainer.threads", "trainer.processes", "trainer.device",
    "trainer.backend", "data.root", "automl",
)  # fmt: skip


class TrainingTarget(SweepTarget):
    """Sweeps of `hypermap.experiments.run.train`.

    Args:
        prepare: returns the folder of the prepared data for a configuration and its pinned files, creating it if needed
            (`hypermap.sweeps.cli.prepare`).
        base: the text of the params.yaml that the trials' own are based on.
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
        self.said: set[str] = set()  # printed reasons why trials train by themselves

    def check(self, configuration: Mapping[str, Any]) -> None:
        """Check a configuration by the rules of a single run."""
        if chosen(configuration):
            raise UserError("automl searches by itself: leave out -m, or set automl=none.")
        validate(configuration)

    def ignored_groups(self, group: str, option: str) -> Collection[str]:
        """Return the groups of network training if the model is not a network."""
        if group != "model":
            return ()
        with uncollected():
            from hypermap.models.sklearn_fit import IGNORED_GROUPS, is_family  # imports torch

        return IGNORED_GROUPS if is_family(group_defaults(f"model={option}", self.conf)["model"]) else ()

    def study_spec(
        self, configuration: Mapping[str, Any], searched: Sequence[str], objectives: Sequence[str] | None
    ) -> StudySpec:
        """Return the spec of a study of these trainings.

        The objective is the monitored metric, unless the sweep requests other metrics.
        """
        from hypermap.tasks.base import LOSSES, REFINEMENT, directions, make_task

        if "final" in searched:
            raise UserError(
                "final is what is done with the best trial; no trial is trained by it, and so it cannot be searched."
            )
        manifest = Manifest.read(self.prepare(dict(configuration)))
        task = make_task(manifest)
        usual = configuration["trainer"]["monitor"] or task.monitor
        known = {
            name: high
            for name, high in directions(task.directions).items()
            if name in (usual, *task.directions) or name != REFINEMENT
        }
        names = tuple(objectives or (usual,))
        if wrong := [name for name in names if name not in known]:
            raise UserError(
                f"hydra.sweeper.objective: no {wrong[0]!r}{near(wrong[0], known)} of a {manifest.task}. There are: "
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
            _horizon(configuration, searched, manifest.rows["train"]),
            minimizes_reports=usual in LOSSES,
            reports_fits=_fits(configuration) > 1,
            sizes_differ=bool(SIZES & set(searched)),
            identity=identity,
        )

    def size(self, configuration: Mapping[str, Any], baseline: Mapping[str, Any]) -> Size:
        """Return a network's epochs relative to the baseline's; a fold or repeat counts as a fraction of a training."""
        from hypermap.models.sklearn_fit import is_family

        if (fits := _fits(configuration)) > 1:
            return Size(fits)
        if is_family(configuration["model"]):
            return Size()
        own, usual = (self._epochs(one) for one in (configuration, baseline))
        return Size(own * int(configuration["trainer"]["reports_per_epoch"]), own / usual)

    def _epochs(self, configuration: Mapping[str, Any]) -> int:
        """Return the epochs of a network's training, which may depend on the number of its training rows."""
        if (given := configuration["trainer"]["epochs"]) is not None:
            return int(given)
        return default_epochs(Manifest.read(self.prepare(dict(configuration))).rows["train"])

    def gpus(self, configuration: Mapping[str, Any]) -> int:
        """Return one for each process of a network's training, unless the configuration names the device itself."""
        from hypermap.models.sklearn_fit import is_family

        trainer = configuration["trainer"]
        if trainer["device"] not in ("auto", "cuda") or is_family(configuration["model"]):
            return 0
        return int(trainer.get("processes", 1))

    def stack_size(self, configuration: Mapping[str, Any]) -> int:
        """Return by a brief measurement how many trainings like this to run at once; 1 if stacks are slower."""
        from hypermap.core import device
        from hypermap.experiments.cross_validator import CrossValidator
        from hypermap.experiments.scheduler import stack_size

        device.make_repeatable()
        return stack_size(CrossValidator(configuration, self.prepare(dict(configuration))))

    def together(self, jobs: Sequence[Job], on_finish: OnFinish) -> None:
        """Train trials, stacking those that can be stacked."""
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
                requests[job.trial] = _request(job.configuration, prepared, job.trial)

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
        """Keep the present code and conf/ as a Git tree."""
        dvc_experiments.check_study_name(study)
        taken = dvc_experiments.snapshot(Path.cwd()) if publish else "hydra.sweeper.dvc=false"
        return {"snapshot": taken if isinstance(taken, str) else asdict(taken), "base": self.base}

    def resume(self, study: str, kept: Mapping[str, Any], conf: Path) -> None:
        """Restore what `begin` kept."""
        self.study, self.base, self.conf, taken = study, str(kept["base"]), conf, kept["snapshot"]
        self.snapshot = None
        if isinstance(taken, str):
            if taken != "hydra.sweeper.dvc=false":
                print(f"No DVC experiments: {taken}.", flush=True)
            return
        self.snapshot = dvc_experiments.Snapshot(**taken)
        try:
            dvc_experiments.keep(Path.cwd(), self.snapshot, study)
        except UserError as error:  # another machine's clone, without the commit that the sweep started from
            print(f"{error} This machine's trials start from its own files.", flush=True)
            own = dvc_experiments.snapshot(Path.cwd())
            self.snapshot = None if isinstance(own, str) else own

    def code(self) -> str:
        """Return a fingerprint of the package's code and of the user's modules that conf/ names."""
        return _code({})

    def move(self, moved: Callable[[Path], Path]) -> None:
        """Take the copy of conf/ to another copy of the project."""
        self.conf = moved(self.conf)

    def report(self, study: optuna.Study, storage: str) -> str:
        """Write the study's report, and return its summary; a failure does not affect the search."""
        with uncollected():
            from hypermap.reports.study.command import report  # imports matplotlib, which workers do not need

        try:
            with FileLock(lock_folder(storage, study.study_name) / "report"):  # several commands may end at once
                return report(
                    study, storage, STUDY_REPORTS, read_thresholds(), trust=True
                )  # its space was just given by the user
        except (UserError, OSError) as error:
            again = f"python src/report.py study={study.study_name}"
            return f"No report: {error}\nOnce that is mended: {again}"

    def before_tell(self, trial: RunningTrial) -> None:
        """Write the trial's params.yaml into its folder, and publish it as a DVC experiment.

        If the process dies before the study records the trial, both are repeated with the same result.
        """
        if trial.configuration is None:
            return
        params = params_text(trial.configuration, self.base, self.conf)
        metrics = (trial.folder / METRICS).read_text(encoding="utf-8")
        write_text(trial.folder / PARAMS, params)
        if is_served(trial.trial.study._storage):
            send_files(trial.trial, {PARAMS.name: params, METRICS: metrics})
        self._publish(trial.number, params, metrics)

    def _publish(self, number: int, params: str, metrics: str) -> None:
        if self.snapshot is None:
            return
        name = dvc_experiments.experiment_name(self.study, number)
        try:
            dvc_experiments.publish(Path.cwd(), self.snapshot, name, params, metrics)
        except UserError as error:  # the trial still counts, and its params.yaml is in its folder
            if disk_fault(error) is not None:
                raise
            print(f"Trial {number} is no DVC experiment: {error}", flush=True)

    def collect(self, study: optuna.Study, folder: Path) -> None:
        """Write the files of trials that ran on other machines, and publish these as DVC experiments."""
        if not is_served(study._storage):
            return
        published = dvc_experiments.names(Path.cwd()) if self.snapshot is not None else set()
        for trial in completed(study.get_trials(deepcopy=False)):
            own = folder / str(trial.number)
            texts = {name: text for name, text in files_of_trial(trial).items() if name in (PARAMS.name, METRICS)}
            for name, text in texts.items():
                if not (own / name).exists():
                    write_text(own / name, text)
            if len(texts) == 2 and dvc_experiments.experiment_name(self.study, trial.number) not in published:
                self._publish(trial.number, texts[PARAMS.name], texts[METRICS])


def _code(configuration: Mapping[str, Any]) -> str:
    """Return a fingerprint of a sweep's code, including user modules that the configuration or conf/ names."""
    named = [configuration, *({"_target_": path} for path in named_in_conf())]
    return fingerprint_of_code(ROOMS, frozenset(own_files(named).values()))


def files_of(trial: RunningTrial) -> Pinned | None:
    """Return the checksums of the trial's table from the start of the study, if recorded."""
    record = trial.trial.study.user_attrs.get(RECORD, {})
    checksum = record.get("identity", {}).get("data", {}).get("files")
    return checksum and Pinned(checksum, "changed during the sweep; put it back or begin another study.")


def train_trial(configuration: Configuration, prepared: Path, trial: RunningTrial) -> list[float]:
    """Train as a trial of a sweep, in its folder, and return the sweep's objectives.

    Raises:
        Pruned: others did better at this point.
        Interrupted: a user asked to stop.
        UserError: as for `hypermap.experiments.run.train`, or if validation does not give an objective.
    """
    with uncollected():
        from hypermap.experiments.run import train  # takes seconds, in which a user may have asked to stop

    trial.pause()
    request = _request(configuration, prepared, trial)
    return _objectives(request.configuration, train(request), trial)


def _request(configuration: Configuration, prepared: Path, trial: RunningTrial) -> "TrainingRequest":
    """Return a trial's training request: with its own seed, unless that is searched."""
    from hypermap.experiments.run import TrainingRequest

    return TrainingRequest(
        configuration if "seed" in trial.values else {**configuration, "seed": trial.seed},
        prepared,
        trial.folder,
        trial.folder / METRICS,
        report=trial.report,
        pause=trial.pause,
        keep=False,
        measure_latency="latency_ms" in trial.objectives,
        states=trial.state,
    )


def _objectives(configuration: Mapping[str, Any], result: "Result", trial: RunningTrial) -> list[float]:
    """Return the sweep's objectives from a trial's result, and store the result in the trial.

    Raises:
        UserError: validation does not give an objective.
    """
    # The number of threads and the kernel change the last digits of sums, so they are recorded with the metrics.
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


def _horizon(configuration: Mapping[str, Any], searched: Sequence[str], rows: int) -> int | None:
    """Return the number of reports of a full trial: one per fit if there are several, else as set in the trainer.

    Args:
        rows: number of training rows, which decides the epochs if the trainer does not.
    """
    trainer = configuration["trainer"]
    deciding = {"validation", "trainer", "validation.k", "validation.repeats", "trainer.repeats"}
    if (fits := _fits(configuration)) > 1:
        return None if deciding & set(searched) else fits
    deciding |= {"trainer.epochs", "trainer.reports_per_epoch"}
    return (
        None
        if deciding & set(searched)
        else int((trainer["epochs"] or default_epochs(rows)) * trainer["reports_per_epoch"])
    )


def _fits(configuration: Mapping[str, Any]) -> int:
    """Return the number of trainings of a trial."""
    trainer, validation = configuration["trainer"], configuration["validation"]
    return int(validation.get("k", 1) * validation.get("repeats", 1) * trainer["repeats"])


def _data(configuration: Mapping[str, Any], searched: Sequence[str], manifest: Manifest) -> dict[str, str]:
    """Return the data's fingerprint; empty if searched parameters change which files are read."""
    option = configuration["data"]
    keys = {key.split(".")[1] if "." in key else "" for key in searched if key.partition(".")[0] == "data"}
    checksum = file_checksum(option)
    if checksum is None or option["_target_"] != TABLE:  # for other readers it is unknown which keys those are
        return {} if keys else {"files": checksum or manifest.raw_sha256}
    return {} if keys & {"", "_target_", *DECIDE_FILES} else {"files": checksum}
