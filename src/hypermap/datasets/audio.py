"""Recordings of your own and their classes: a folder for each class, names that say it, or a CSV file."""

import csv
import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from hypermap.core import memory
from hypermap.core.errors import UserError, near
from hypermap.core.files import files_below
from hypermap.core.hashing import checksum_of
from hypermap.core.typing import Array
from hypermap.data.manifest import Manifest
from hypermap.data.preprocessors.audio import AudioPreprocessor, AudioSettings
from hypermap.datasets.images import Raw, RawRows

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff", ".au")
INSTALL = "pip install soundfile"
LABEL = "label"  # the column that a folder for each class has
PEOPLE = ("speaker", "subject", "person", "singer", "patient", "client_id", "speaker_id", "user")
"""Names of columns whose recordings are alike: a voice, or a microphone."""

SHOWN = 5  # files in a message
COPIES = 4  # of all recordings, at the peak of reading and splitting them
BATCH = 256  # recordings that are read at once to be predicted
FULL = 32767  # of int16
ENDLESS = 0xFFFFFFF0  # sizes from here on, and 0, stand in a WAV file whose length was not known when it was begun

Where = Mapping[str, Any]


def audio(
    path: str | None = None,
    *,
    test_path: str | None = None,
    pattern: str | None = None,
    target: str | None = None,
    group: str | None = None,
    test_where: Where | None = None,
    validation_where: Where | None = None,
    broken: str = "stop",
    root: str | None = None,
    max_seconds: float = 10.0,
    rate: int = 16_000,
    features: str = "spectrogram",
    seconds: float | None = None,
    window_ms: float = 25.0,
    hop_ms: float = 10.0,
    mels: int = 40,
    lowest_hz: float = 50.0,
    highest_hz: float | None = None,
    range_db: float = 60.0,
    loudness: bool = False,
) -> Raw:
    """Return recordings as samples of one rate, mono, int16 ``(rows, longest)`` with zeros behind each, and classes.

    Args:
        path: a folder that has a folder for each class, with recordings at any depth; with `pattern`, one whose names
            say it; or a CSV file with a header and a line for each recording: its path, beside the file, in the first
            column, and its label in the last.
        test_path: likewise, with the test recordings, where they stand apart.
        pattern: of the files' names without their endings, such as ``{label}_{speaker}_{number}``. With slashes, it is
            of the folders as well: ``{speaker}/{label}_{number}``.
        target: the part of the pattern, or the column, that is the class; None: ``label``, or the last column.
        group: that whose recordings stay together in every split, such as the speaker.
        test_where: which of the recordings are the test set: values by part or column, as in ``{number: [0, 1]}``.
        validation_where: likewise, of the others, the validation set.
        broken: ``stop`` at a file that cannot be read, or ``skip`` it and say so.
        root: the folder that relative paths start from.
        max_seconds: longer recordings are cut there, with a note.
        rate: to which all are resampled; like all that follows a field of `AudioSettings`.
        features: see there.
        seconds: see there.
        window_ms: see there.
        hop_ms: see there.
        mels: see there.
        lowest_hz: see there.
        highest_hz: see there.
        range_db: see there.
        loudness: see there.

    Raises:
        UserError: the package soundfile is not installed; a file is missing or broken, or has no class; there are no
            recordings, or they are of one class, or do not fit into memory.
    """
    AudioSettings(rate, features, seconds, window_ms, hop_ms, mels, lowest_hz, highest_hz, range_db, loudness)
    if broken not in ("stop", "skip"):
        raise UserError(f"data.broken is {broken!r}; it is stop, or skip.")
    if isinstance(max_seconds, bool) or not isinstance(max_seconds, int | float) or not 0 < max_seconds < math.inf:
        raise UserError(f"data.max_seconds is {max_seconds!r}; it is a number above 0.")
    _soundfile()
    listed = _Listed.of(_located(path, "path", root), "path", pattern)
    parts = {"train": listed}
    if test_path is not None:
        if test_where:
            raise UserError("data.test_path and data.test_where are both given: set one of them to null.")
        parts["test"] = _Listed.of(_located(test_path, "test_path", root), "test_path", pattern)
    key = target or listed.target
    for own in parts.values():
        own.check(key, "data.target")
    if group is not None:
        listed.check(group, "data.group")
    read = {name: _Read.of(own, rate, max_seconds, broken) for name, own in parts.items()}
    labels = {name: own.column(key) for name, own in read.items()}
    classes = tuple(sorted({*labels["train"]}))
    if len(classes) < 2:
        raise UserError(f"{listed.origin} has recordings of one class, {classes[0]!r}: there is nothing to tell apart.")
    if unknown := sorted({*labels.get("test", [])} - {*classes}):
        raise UserError(f"{parts['test'].origin} has classes that {listed.origin} lacks: {_shown(unknown)}.")
    index = {name: k for k, name in enumerate(classes)}
    longest = max(len(sound) for own in read.values() for sound in own.sounds)
    rows = {name: own.rows(longest) for name, own in read.items()}
    targets = {name: np.array([index[label] for label in own], np.int64) for name, own in labels.items()}
    groups = None if group is None else np.unique(read["train"].column(group), return_inverse=True)[1]
    held = _chosen(read["train"], validation_where, "data.validation_where")
    tested = _chosen(read["train"], test_where, "data.test_where")
    notes = [note for own in read.values() for note in own.notes]
    notes += _notes_of_rate(read["train"], rate)
    notes += _notes_of_people(read["train"], key, group, tested)
    notes += _notes_of_copies(rows, targets)
    if tested is not None:
        rows = {"train": rows["train"][~tested], "test": rows["train"][tested]}
        targets = {"train": targets["train"][~tested], "test": targets["train"][tested]}
        groups = None if groups is None else groups[~tested]
        held = None if held is None else held[~tested]
        if held is not None and not held.any():
            raise UserError("data.validation_where chooses no recording that is not test (data.test_where).")
    return Raw.of(
        rows["train"],
        targets["train"],
        classes,
        test_inputs=rows.get("test"),
        test_targets=targets.get("test"),
        validation_rows=held,
        groups=groups,
        preprocessor=AudioPreprocessor,
        notes=tuple(notes),
    )


def fingerprint(arguments: Mapping[str, Any]) -> str:
    """Return the sha256 of the files that `audio` would read with these arguments.

    Raises:
        UserError: there are none.
    """
    root, files = arguments.get("root"), []
    for key in ("path", "test_path"):
        if arguments.get(key) is not None or key == "path":
            place = _located(arguments.get(key), key, root)
            files += [place] if place.is_dir() else [place, *_Listed.of(place, key, None).files]
    if absent := [str(file) for file in files if not file.exists()]:
        raise UserError(f"{files[0]} names {len(absent):,} files that are not there: {_shown(absent)}.")
    return checksum_of(files)


def read_rows(paths: Sequence[Path], manifest: Manifest) -> Iterator[RawRows]:
    """Yield the recordings of files and folders as those that a model was trained on, with their paths."""
    _soundfile()
    rate, most = AudioSettings.of(manifest.arguments).rate, float(manifest.arguments.get("max_seconds", 10.0))
    files = [file for path in paths for file in (_below(path) if path.is_dir() else [path])]
    if not files:
        raise UserError(f"input={paths[0]} has no recordings. They end with {', '.join(SUFFIXES)}.")
    for first in range(0, len(files), BATCH):
        listed = _Listed(paths[0], files[first : first + BATCH], {})
        read = _Read.of(listed, rate, most, "stop", quiet=True)
        yield RawRows(read.rows(max(map(len, read.sounds))), {"file": [str(file) for file in listed.files]})


@dataclass(frozen=True)
class _Listed:
    """Files, what is known of each by column, and where they come from."""

    origin: Path
    files: list[Path]
    columns: Mapping[str, list[str]]
    others: int = 0  # files that are no recordings by their names
    target: str = LABEL

    @classmethod
    def of(cls, place: Path, key: str, pattern: str | None) -> "_Listed":
        if not place.is_dir():
            return cls._of_list(place, key)
        return cls._of_folder(place, key) if pattern is None else cls._of_names(place, key, pattern)

    @classmethod
    def _of_folder(cls, place: Path, key: str) -> "_Listed":
        every = files_below(place)
        found = [file for file in every if file.suffix.lower() in SUFFIXES]
        files = [file for file in found if file.parent != place]
        if not files:
            loose = " (those in the folder itself are of no class)" if found else ""
            names = ". If the names of files say their class: data.pattern='{label}_{number}'" if found else ""
            raise UserError(
                f"data.{key} is {place}: it has no folders with recordings{loose}. There should be one for each class, "
                f"with files that end with {', '.join(SUFFIXES)}{names}."
            )
        labels = [file.relative_to(place).parts[0] for file in files]
        return cls(place, files, {LABEL: labels}, len(every) - len(files))

    @classmethod
    def _of_names(cls, place: Path, key: str, pattern: str) -> "_Listed":
        wanted, depth = _expression(pattern), pattern.count("/") + 1
        every = files_below(place)
        files = [file for file in every if file.suffix.lower() in SUFFIXES]
        if not files:
            raise UserError(f"data.{key} is {place}: it has no recordings, which end with {', '.join(SUFFIXES)}.")
        found = [wanted.fullmatch("/".join(file.relative_to(place).with_suffix("").parts[-depth:])) for file in files]
        if others := [str(file) for file, match in zip(files, found, strict=True) if match is None]:
            raise UserError(
                f"data.pattern is {pattern!r}, and {len(others):,} of {len(files):,} recordings in {place} have other "
                f"names: {_shown(others)}. Give a pattern that fits all, or a CSV file."
            )
        columns = {name: [match[name] for match in found if match] for name in wanted.groupindex}
        return cls(place, files, columns, len(every) - len(files))

    @classmethod
    def _of_list(cls, place: Path, key: str) -> "_Listed":
        try:
            with place.open(newline="", encoding="utf-8-sig") as file:
                header, *rows = [row for row in csv.reader(file) if row] or [[]]
        except (UnicodeDecodeError, csv.Error) as error:
            reason = f"which is neither a folder nor a CSV file in UTF-8 ({error})"
            raise UserError(f"data.{key} is {place}, {reason}.") from None
        if not rows or len(header) < 2 or any(len(row) != len(header) for row in rows):
            raise UserError(
                f"data.{key} is {place}: it should have a header, and lines of as many columns, at least two: the "
                "first a recording's path and the last its label."
            )
        names = [name.strip() for name in header]
        if len({*names}) < len(names):
            raise UserError(f"{place}: two columns have the same name; it has: {', '.join(names)}.")
        columns = {name: [row[k].strip() for row in rows] for k, name in enumerate(names[1:], 1)}
        return cls(place, [place.parent / row[0] for row in rows], columns, target=names[-1])

    def check(self, name: str, key: str) -> None:
        """Refuse a column that is not there, or has empty cells."""
        if name not in self.columns:
            raise UserError(
                f"{key} is {name!r}; {self.origin} has no such part{near(name, self.columns)}; it has: "
                f"{', '.join(self.columns)} (data.pattern names the parts of files' names, a CSV file its columns)."
            )
        if empty := [str(file) for file, value in zip(self.files, self.columns[name], strict=True) if not value]:
            raise UserError(f"{self.origin}: {len(empty):,} recordings have no {name} ({key}): {_shown(empty)}.")


@dataclass
class _Read:
    """Recordings that were read, int16 each, the places of their files in the list, and notes for the user."""

    listed: _Listed
    sounds: list[Array]
    places: list[int]
    rates: Counter[int] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, listed: _Listed, rate: int, most: float, broken: str, quiet: bool = False) -> "_Read":
        files = listed.files
        with (
            ThreadPoolExecutor(min(32, 2 * (os.cpu_count() or 1))) as pool,
            tqdm(total=len(files), unit=" recordings", unit_scale=True, disable=True if quiet else None) as bar,
        ):
            if not quiet:
                _check_memory(listed, [known for known in pool.map(_seconds, files) if known], rate, most)
            opened = []
            for found in pool.map(lambda file: _open(file, rate, most), files):
                opened.append(found)
                bar.update()
        problems = {file: found for file, found in zip(files, opened, strict=True) if isinstance(found, str)}
        whole = [(k, found) for k, found in enumerate(opened) if not isinstance(found, str)]
        read = cls(listed, [found.samples for _, found in whole], [k for k, _ in whole])
        read.rates.update(found.rate for _, found in whole)
        read._note_problems(problems, broken, "input" if quiet else "data")
        origin = listed.origin
        if listed.others:
            read.notes.append(f"{listed.others:,} files of {origin} are no recordings by their names, or of no class.")
        if cut := sum(found.cut for _, found in whole):
            longer = "recording is longer" if cut == 1 else "recordings are longer"
            read.notes.append(
                f"{cut:,} {longer} than data.max_seconds={most:g} and cut there. Files of several sounds are better "
                "cut into pieces first."
            )
        if mixed := sum(found.channels > 1 for _, found in whole):
            several = "recording has" if mixed == 1 else "recordings have"
            read.notes.append(f"{mixed:,} {several} several channels, whose mean is taken.")
        if silent := [str(files[k]) for k, found in whole if not found.samples.any()]:
            read.notes.append(f"{len(silent):,} of {origin} are silent from end to end: {_shown(silent)}.")
        return read

    def column(self, name: str) -> list[str]:
        """Return a column's values for these recordings."""
        return [self.listed.columns[name][k] for k in self.places]

    def rows(self, longest: int) -> Array:
        """Return an array of so many columns."""
        made = np.zeros((len(self.sounds), longest), np.int16)
        for row, sound in zip(made, self.sounds, strict=True):
            row[: len(sound)] = sound
        return made

    def _note_problems(self, problems: Mapping[Path, str], broken: str, key: str) -> None:
        """Refuse files that are no recordings, or note them."""
        if not problems:
            return
        shown = "; ".join(f"{file} ({reason})" for file, reason in list(problems.items())[:SHOWN])
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        count = f"{len(problems):,} file{'s' if len(problems) > 1 else ''}"
        origin = self.listed.origin
        if broken == "skip" and self.sounds:
            self.notes.append(f"Left out of {origin}: {count} that cannot be read as recordings: {shown}{more}.")
            return
        remedy = "" if key == "input" or broken == "skip" else ", or leave such files out: data.broken=skip"
        raise UserError(f"{origin} has {count} that cannot be read as recordings: {shown}{more}. Mend them{remedy}.")


@dataclass(frozen=True)
class _Opened:
    """A recording in mono at the wanted rate, int16, and what its file has."""

    samples: Array
    rate: int
    channels: int
    cut: bool


def _open(file: Path, rate: int, most: float) -> _Opened | str:
    """Return a recording, cut after so many seconds; or what is wrong with its file."""
    library = _soundfile()
    try:
        if file.stat().st_size == 0:
            return "empty"
        if (missing := _cut_off(file)) is not None:
            return missing
        with library.SoundFile(file) as opened:
            wanted = min(opened.frames, math.ceil(most * opened.samplerate))
            samples, own = opened.read(wanted, dtype="float32", always_2d=True), opened.samplerate
            cut, exact = opened.frames > wanted, opened.format != "MP3"  # whose length is an estimate
    except FileNotFoundError:
        return "there is no such file"
    except (library.LibsndfileError, OSError) as error:
        reason = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
        return str(reason).strip().rstrip(".")
    if exact and len(samples) < wanted:
        return f"cut off: {len(samples):,} of {wanted:,} samples are there"
    if not len(samples):
        return "it has no samples"
    if not np.isfinite(samples).all():
        return "samples are missing or infinite"
    mono = resampled(samples.mean(1, dtype=np.float64), own, rate)
    loudest = max(1.0, float(np.abs(mono).max()))  # files of floating-point numbers may be louder than 1
    return _Opened((mono * (FULL / loudest)).round().astype(np.int16), own, samples.shape[1], cut)


def resampled(samples: Array, rate: int, wanted: int) -> Array:
    """Return samples of one rate as those of another, by scipy's polyphase filter, which removes what is too high."""
    from scipy.signal import resample_poly

    if rate == wanted:
        return samples
    common = math.gcd(rate, wanted)
    made: Array = resample_poly(samples, wanted // common, rate // common)
    return made


def _cut_off(file: Path) -> str | None:
    """Return what is wrong with a WAV file that is shorter than it says; libsndfile would read what is there."""
    with file.open("rb") as opened:
        head = opened.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return None
    said, held = 8 + int.from_bytes(head[4:8], "little"), file.stat().st_size
    # One byte less is a padding byte that some programs count and do not write.
    return f"cut off: {held:,} of {said:,} bytes are there" if held + 1 < said < ENDLESS else None


def _seconds(file: Path) -> float | None:
    """Return how long a recording is, by its header; None if it cannot be read."""
    library = _soundfile()
    try:
        return float(library.info(file).duration)
    except (library.LibsndfileError, OSError):
        return None


def _check_memory(listed: _Listed, seconds: Sequence[float], rate: int, most: float) -> None:
    """Refuse recordings that would not fit; they are held in 16 bits, all as long as the longest, in a few copies."""
    longest = min(max(seconds, default=0.0), most)
    needed, free = COPIES * 2 * len(seconds) * longest * rate, memory.free()
    if free is not None and needed > free:
        raise UserError(
            f"{listed.origin}: {len(seconds):,} recordings of up to {longest:.3g} s take about {needed / 1e9:.1f} GB "
            f"to prepare, and {free / 1e9:.1f} GB of memory are free. Lower data.max_seconds or data.rate."
        )


def _chosen(read: _Read, where: Where | None, key: str) -> Array | None:
    """Return which recordings have these values, bool ``(rows,)``; None if nothing is asked for."""
    if where is None:
        return None
    if not isinstance(where, Mapping) or not where:
        raise UserError(f"{key} is {where!r}; it has values by part or column, as in '{key}={{number: [0, 1]}}'.")
    chosen = np.ones(len(read.places), np.bool_)
    for name, value in where.items():
        read.listed.check(name, key)
        held = read.column(name)
        wanted = [str(one) for one in (value if isinstance(value, list | tuple) else [value])]
        if absent := sorted({*wanted} - {*held}):
            raise UserError(
                f"{key}: no recording of {read.listed.origin} has {name}={', '.join(absent)}; there are: "
                f"{_shown(sorted({*held}))}."
            )
        chosen &= np.isin(held, wanted)
    if chosen.all() or not chosen.any():
        raise UserError(f"{key} chooses {'every' if chosen.all() else 'no'} recording of {read.listed.origin}.")
    return chosen


def _notes_of_rate(read: _Read, rate: int) -> list[str]:
    """Return what the user should know of the files' rates."""
    if {*read.rates} == {rate}:
        return []
    said = ", ".join(f"{count:,} at {own:,} Hz" for own, count in read.rates.most_common())
    highest = max(read.rates)
    advice = f" None has more than {highest:,}: data.rate={highest} is enough." if highest < rate else ""
    return [f"Recordings are resampled to data.rate={rate}: {said}.{advice}"]


def _notes_of_people(read: _Read, target: str, group: str | None, tested: Array | None) -> list[str]:
    """Return a note if recordings of one speaker are on both sides of a split."""
    if group is None:
        people = [name for name in read.listed.columns if name.lower() in PEOPLE and name != target]
        name = next((name for name in people if 1 < len({*read.column(name)}) < len(read.places)), None)
        if name is None:
            return []
        others = tested is not None and not _known(read, name, tested)
        which = "validation scores" if others else "scores"
        return [
            f"Recordings of one {name} stand on both sides of a split, so that {which} are for those that a model has "
            f"heard. For others: data.group={name} (there are {len({*read.column(name)}):,})."
        ]
    if tested is None or not (known := _known(read, group, tested)):
        return []
    return [
        f"{known:,} of {int(tested.sum()):,} test recordings (data.test_where) are of a {group} that training "
        "recordings are of, too: test scores are for those that a model has heard, validation scores for others."
    ]


def _known(read: _Read, name: str, tested: Array) -> int:
    """Return how many test recordings have a value of a column that others have, too."""
    held = np.array(read.column(name))
    return int(np.isin(held[tested], held[~tested]).sum())


def _notes_of_copies(rows: Mapping[str, Array], targets: Mapping[str, Array]) -> list[str]:
    """Return a note if recordings are there twice, sample by sample."""
    found = Counter(row.tobytes() for own in rows.values() for row in own)
    several = {content for content, count in found.items() if count > 1}
    if not several:
        return []
    labels: dict[bytes, set[int]] = {}
    for name, own in rows.items():
        for row, label in zip(own, targets[name].tolist(), strict=True):
            if (content := row.tobytes()) in several:
                labels.setdefault(content, set()).add(label)
    torn = sum(len(own) > 1 for own in labels.values())
    classes = f" {torn:,} of them are of different classes." if torn else ""
    return [
        f"{len(several):,} recordings are there more than once, sample by sample, and may stand on both sides of a "
        f"split: leave the copies out.{classes}"
    ]


def _expression(pattern: str) -> re.Pattern[str]:
    """Return a pattern such as ``{label}_{speaker}_{number}`` as a regular expression."""
    pieces = re.split(r"\{(\w*)\}", pattern)
    names = pieces[1::2]
    if not names or len({*names}) < len(names) or not all(name.isidentifier() for name in names):
        raise UserError(
            f"data.pattern is {pattern!r}; it names parts of a file's name, each once, as in "
            "'{label}_{speaker}_{number}'."
        )
    parts = [re.escape(piece) if k % 2 == 0 else f"(?P<{piece}>[^/]+?)" for k, piece in enumerate(pieces)]
    return re.compile("".join(parts))


def _located(path: str | None, key: str, root: str | None) -> Path:
    if path is None:
        raise UserError("data.path is null: name a folder that has a folder for each class, or a CSV file.")
    place = Path(root or "").expanduser() / Path(path).expanduser()
    if not place.exists():
        beside = [other.name for other in place.parent.iterdir()] if place.parent.is_dir() else []
        raise UserError(f"data.{key} is {path}: there is no {place}{near(place.name, beside)}.")
    return place


def _below(folder: Path) -> list[Path]:
    """Return the recordings in a folder, at any depth, but for hidden ones."""
    return [file for file in files_below(folder) if file.suffix.lower() in SUFFIXES]


def _soundfile() -> Any:
    try:
        import soundfile
    except ImportError:
        raise UserError(f"Recordings are read by the package soundfile, which is not installed: {INSTALL}") from None
    return soundfile


def _shown(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:SHOWN]))
    return f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown
