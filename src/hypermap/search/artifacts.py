"""The states of trials where all machines of a sweep find them, if these share no folder."""

import io
import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypermap.core.errors import UserError
from hypermap.core.files import files_below, whole_folder
from hypermap.core.passwords import masked, shown

EVERY_S = 60.0  # how often the state of a running trial is sent
STATE_FILE, LOG_FILES = "state.zip", ("error.txt",)


@dataclass
class Artifacts:
    """A folder or an object store for the files of a study's trials.

    A failure to reach it is told, and never the end of a trial: its state stays on this machine.

    Args:
        url: a folder that all machines see, or what fsspec understands, such as ``s3://bucket/folder``.
        study: its name.
    """

    url: str
    study: str
    sent: dict[int, float] = field(default_factory=dict)  # when each trial's state was

    def check(self) -> None:
        """Check that the place can be written to.

        Raises:
            UserError: it cannot, or fsspec lacks the library for it.
        """
        try:
            files, root = self._opened()
            files.makedirs(root, exist_ok=True)
        except Exception as error:
            raise UserError(
                f"hydra.sweeper.artifacts={shown(self.url)} cannot be used ({_told(error)}). It is a folder, or a URL "
                "of an object store that fsspec knows, such as s3://BUCKET/FOLDER (pip install 'dvc[s3]')."
            ) from error

    def push(self, number: int, state: Path, *, at_once: bool = False) -> None:
        """Send the state of a trial, if it has one and the last one is older than `EVERY_S`.

        It must not be written to meanwhile.
        """
        now = time.monotonic()
        if not at_once and now - self.sent.setdefault(number, now) < EVERY_S:
            return
        self.sent[number] = now
        content = _packed(state)
        if content is None:
            return
        try:
            files, root = self._opened()
            files.makedirs(f"{root}/{number}", exist_ok=True)
            files.pipe_file(f"{root}/{number}/.{STATE_FILE}", content)
            files.mv(f"{root}/{number}/.{STATE_FILE}", f"{root}/{number}/{STATE_FILE}")
        except Exception as error:
            print(f"The state of trial {number} was not sent to {shown(self.url)}: {_told(error)}", flush=True)

    def pull(self, number: int, state: Path) -> None:
        """Get the state of a trial, if there is none here."""
        if state.exists():
            return
        try:
            files, root = self._opened()
            path = f"{root}/{number}/{STATE_FILE}"
            if files.exists(path):
                with zipfile.ZipFile(io.BytesIO(files.cat_file(path))) as archive, whole_folder(state) as partial:
                    if any(".." in name.split("/") or name.startswith("/") for name in archive.namelist()):
                        raise ValueError("it names files elsewhere")
                    archive.extractall(partial)
        except Exception as error:
            print(f"Trial {number} starts over, for its state at {shown(self.url)}: {_told(error)}", flush=True)

    def end(self, number: int, folder: Path) -> None:
        """Send what a trial that has ended leaves in its folder, and remove its state."""
        self.sent.pop(number, None)
        try:
            files, root = self._opened()
            for path in (folder / name for name in LOG_FILES):
                if path.exists():
                    files.makedirs(f"{root}/{number}", exist_ok=True)
                    files.pipe_file(f"{root}/{number}/{path.name}", path.read_bytes())
            if files.exists(f"{root}/{number}/{STATE_FILE}"):
                files.rm(f"{root}/{number}/{STATE_FILE}")
        except Exception as error:
            print(f"The files of trial {number} at {shown(self.url)}: {_told(error)}", flush=True)

    def _opened(self) -> tuple[Any, str]:
        import fsspec  # DVC brings it

        files, root = fsspec.url_to_fs(self.url)
        return files, f"{root.rstrip('/')}/{self.study}"


def _packed(folder: Path) -> bytes | None:
    """Return a folder's files as a zip archive; None if it has none."""
    paths = [path for path in files_below(folder) if path.name != "lock"]
    if not paths:
        return None
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path in paths:
            archive.write(path, path.relative_to(folder))
    return content.getvalue()


def _told(error: Exception) -> str:
    return masked(" ".join(str(error).split())[:200] or type(error).__name__)
