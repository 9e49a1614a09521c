"""Spoken digits (FSDD): the official test recordings, and each speaker left out; test accuracy with intervals.

HYPERMAP_DATA=FOLDER python benchmarks/audio.py [--seeds 2] [--models audio_cnn …] [--parts official speakers] […]
python benchmarks/audio.py --quick    does it run at all: made-up tones, one seed, two epochs

FOLDER/fsdd has fsdd_recordings.tar.gz, or recordings/ with its files, such as 3_jackson_17.wav. Official: recordings
0 to 4 of each speaker and digit are the test. Speakers: each of the six in turn is the test, and the training and the
validation rows (a tenth) are of the other five. The epoch is picked on validation rows; a test is scored once for each
training. An interval resamples test recordings, the same for all seeds; that of the mean over speakers resamples each
speaker's. Nothing here was tuned on the official test.
"""

import argparse
import os
import platform
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import numpy as np
import soundfile
import torch

from hypermap.config.compose import compose
from hypermap.core import device
from hypermap.data.prepared import load_raw
from hypermap.data.preprocessor import read_transform
from hypermap.datasets.prepare import prepare_settings
from hypermap.experiments import run
from hypermap.tasks import metrics
from hypermap.training import artifacts

SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
PARTS = ("official", "speakers")
MODELS = ("audio_cnn",)
SETTINGS = ["data.rate=8000", "data.mels=24", "data.hop_ms=16"]
OF_WAVES = ["data.features=waveform", "augment=audio_wave"]
REPEATS = 1000


@dataclass(frozen=True)
class Scores:
    """Test accuracies of a model's trainings, one a seed, and their mean in each resample of the rows."""

    values: list[float]
    resampled: np.ndarray
    seconds: float  # of a training
    processor: float  # seconds of all cores together, whatever else the machine does

    @property
    def shown(self) -> str:
        """The mean and the middle 95 %."""
        low, high = np.percentile(self.resampled, [2.5, 97.5])
        return f"{np.mean(self.values):.3f} ({low:.3f} to {high:.3f})"


def trained(words: Sequence[str], folder: Path, seeds: int) -> Scores:
    """Prepare, train with each seed, and score the test rows."""
    prepared = folder / "prepared"
    prepare_settings(prepared, compose(words)["data"])
    transform, raw = read_transform(prepared), load_raw(prepared, "test")
    targets = artifacts.targets(transform(raw), transform)
    values, resampled, seconds, processor = [], [], [], []
    for seed in range(seeds):
        request = run.TrainingRequest(
            compose([*words, f"seed={seed}"]), prepared, folder, folder / "validation.json", states=folder / "states"
        )
        started, used = time.perf_counter(), time.process_time()
        run.train(request)
        seconds.append(time.perf_counter() - started)
        processor.append(time.process_time() - used)
        predictions = artifacts.read_trained(folder).predict(raw.inputs)
        values.append(transform.task.measure(targets, predictions)["accuracy"])
        drawn = metrics.resamples(transform.task.resampled(targets, predictions), len(targets), repeats=REPEATS)
        resampled.append(drawn["accuracy"])
    return Scores(values, np.mean(resampled, axis=0), float(np.mean(seconds)), float(np.mean(processor)))


def tests(parts: Sequence[str], speakers: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Yield the name of each test, what chooses its recordings, and the share of the others to validate on."""
    if "official" in parts:
        yield "official test", "{number: [0,1,2,3,4]}", "0.1"
    if "speakers" in parts:
        for speaker in speakers:
            yield f"without {speaker}", f"{{speaker: {speaker}}}", "0.1"


def measure(
    words: Sequence[str], models: Sequence[str], parts: Sequence[str], speakers: Sequence[str], seeds: int
) -> dict[str, dict[str, Scores]]:
    """The scores of each model by test; over all speakers, the mean of those without each."""
    found: dict[str, dict[str, Scores]] = {model: {} for model in models}
    for name, chosen, share in tests(parts, speakers):
        for model in models:
            of_model = [f"model={model}", *(OF_WAVES if model == "audio_wave" else [])]
            split = [f"data.test_where={chosen}", "data.test=null", f"data.validation={share}"]
            with tempfile.TemporaryDirectory() as made:
                scores = trained([*words, *of_model, *split], Path(made), seeds)
            print(f"  {model}, {name}: {scores.shown}, {scores.seconds:.0f} s a training", flush=True)
            found[model][name] = scores
    for own in found.values() if "speakers" in parts else ():
        apart = [own[f"without {speaker}"] for speaker in speakers]
        own["speakers left out, mean"] = Scores(
            np.mean([one.values for one in apart], axis=0).tolist(),
            np.mean([np.random.default_rng(k).permutation(one.resampled) for k, one in enumerate(apart)], axis=0),
            float(np.mean([one.seconds for one in apart])),
            float(np.mean([one.processor for one in apart])),
        )
    return found


def page(results: Mapping[str, Mapping[str, Scores]]) -> str:
    """The table, in Markdown."""
    lines = ["| model | test | test accuracy | each seed | a training | of a core |", "|---|---|--:|--:|--:|--:|"]
    for model, found in results.items():
        for name, scores in found.items():
            each = ", ".join(f"{value:.3f}" for value in scores.values)
            took = f"{scores.seconds:.0f} s | {scores.processor:.0f} s"
            lines.append(f"| {model} | {name} | {scores.shown} | {each} | {took} |")
    return "\n".join(lines) + "\n"


def about(seeds: int) -> str:
    """What was measured on."""
    return (
        f"{seeds} seeds; Python {platform.python_version()}, torch {torch.__version__}, soundfile "
        f"{soundfile.__version__}, {os.cpu_count()} cores\n"
    )


def recordings(root: Path, folder: Path) -> Path:
    """Return the folder of FSDD's recordings, unpacked if need be."""
    if (root / "recordings").is_dir():
        return root / "recordings"
    with tarfile.open(root / "fsdd_recordings.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "recordings"


def made_up(folder: Path) -> Path:
    """Write tones of two digits by two speakers."""
    draw = np.random.default_rng(0)
    for number in range(12):
        for digit in range(2):
            for speaker in SPEAKERS[:2]:
                tone = np.sin(np.arange(1600) * (0.2 + 0.3 * digit)) * 0.3 + 0.05 * draw.normal(size=1600)
                soundfile.write(folder / f"{digit}_{speaker}_{number}.wav", tone, 8000)
    return folder


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--models", nargs="+", default=[*MODELS], metavar="MODEL")
    parser.add_argument("--parts", nargs="+", default=[*PARTS], choices=PARTS)
    parser.add_argument("--speakers", nargs="+", default=[*SPEAKERS], choices=SPEAKERS)
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings besides")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--quick", action="store_true", help="a smoke run: made-up tones, one seed, two epochs")
    arguments = parser.parse_args()
    device.make_repeatable()
    seeds, root = 1 if arguments.quick else arguments.seeds, os.environ.get("HYPERMAP_DATA")
    if root is None and not arguments.quick:
        parser.error("set HYPERMAP_DATA to a folder that has fsdd")
    with tempfile.TemporaryDirectory() as made:
        place = made_up(Path(made)) if arguments.quick else recordings(Path(root or "") / "fsdd", Path(made))
        words = [
            "experiment=audio", f"data.path={place}", "data.pattern='{label}_{speaker}_{number}'", *SETTINGS,
            *(["trainer.epochs=2", "trainer.threads=1"] if arguments.quick else []), *arguments.set,
        ]  # fmt: skip
        speakers = SPEAKERS[:2] if arguments.quick else arguments.speakers
        results = measure(words, arguments.models, arguments.parts, speakers, seeds)
    print(text := f"{about(seeds)}\n{page(results)}")
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
