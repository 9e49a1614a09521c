"""Print changes as Markdown for a pull request: python src/review.py [BASE] (or: make review [BASE=origin/main])."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from hypermap.core.cli import run
from hypermap.core.errors import UserError, near
from hypermap.core.passwords import masked
from hypermap.core.paths import STUDY_REPORTS
from hypermap.reports.review.changes import PARAMETERS, Changes, review
from hypermap.reports.review.metric_diff import Side

MAIN = ("origin/HEAD", "origin/main", "origin/master", "main", "master")


def main() -> None:
    """Print the differences between a base and the work tree."""
    given = [word for word in sys.argv[1:] if word]
    if len(given) > 1:
        raise UserError("name one base at most: make review BASE=origin/main")
    base, name = named_base(given[0]) if given else default_base()
    if not Path(".dvc").is_dir():
        raise UserError(f"{Path.cwd()} is no DVC project (dvc init makes one); a review compares what DVC knows.")
    addresses = links(base)
    changes = Changes(
        before=Side(name, lambda path: git("show", f"{base}:./{path}"), addresses[0]),
        now=Side("now", text_here, addresses[1]),
        params=dvc("params", "diff", base, "--targets", *PARAMETERS),
        metrics=dvc("metrics", "diff", "--all", base),
        plots=dvc("plots", "diff", "--split", base),
        status=dvc("status"),
        files=changed_files(base),
        studies=sorted(path.parent.name for path in STUDY_REPORTS.glob("*/study.json")),
    )
    print(masked(review(changes)), end="")


def default_base() -> tuple[str, str]:
    """Return where this branch forked from the main one; on the main branch itself HEAD, so that edits are shown."""
    head = commit("HEAD")
    for branch in MAIN:
        parted = git("merge-base", branch, "HEAD")
        if parted and parted.strip() != head:
            return side_of(parted.strip(), (git("rev-parse", "--abbrev-ref", branch) or branch).strip())
    return side_of(head, "HEAD")


def named_base(name: str) -> tuple[str, str]:
    """Return a commit, a tag, or where this branch forked from another, as in a pull request.

    Raises:
        UserError: there is no such commit.
    """
    of = commit(name)
    if not (git("rev-parse", "--symbolic-full-name", name) or "").startswith(("refs/heads/", "refs/remotes/")):
        return side_of(of, name)
    parted = git("merge-base", of, "HEAD")
    if not parted:
        raise UserError(f"{name} and HEAD share no commit here; a shallow clone gets them by: git fetch --unshallow")
    return side_of(parted.strip(), name)


def side_of(sha: str, name: str) -> tuple[str, str]:
    """Return a commit and its name for the reader."""
    return sha, f"`{name}` (`{sha[:7]}`)"


def commit(name: str) -> str:
    """Return the commit that a name refers to.

    Raises:
        UserError: there is no such commit, no repository, or no Git.
    """
    if git("rev-parse", "--git-dir") is None:
        raise UserError(f"{Path.cwd()} is in no Git repository; a review compares with a commit.")
    if not name.startswith("-") and (sha := git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")):
        return sha.strip()
    refs = git("for-each-ref", "--format=%(refname:short)", "refs/heads", "refs/remotes", "refs/tags") or ""
    there = f"There are: {', '.join(refs.split()[:20])}." if refs else "There is no commit yet."
    remote = [ref for ref in refs.split() if ref.endswith(f"/{name}")]  # a clone has only one local branch
    hint = f" (did you mean {remote[0]!r}?)" if remote else near(name, refs.split())
    raise UserError(f"no commit, branch or tag {name!r}{hint}. {there}")


def changed_files(base: str) -> dict[str, str]:
    """Return Git's status letter for each file of reports/ that differs from the base or is untracked."""
    words = (git("diff", "--name-status", "--no-renames", "--relative", "-z", base, "--", "reports") or "").split("\0")
    new = (git("ls-files", "--others", "--exclude-standard", "-z", "--", "reports") or "").split("\0")
    return dict(zip(words[1::2], words[0::2], strict=False)) | {path: "A" for path in new if path}


def links(base: str) -> tuple[str | None, str]:
    """Return the prefixes of links to the base's version of a file and to the present one; in CI, URLs of the forge."""
    forge, head = os.environ, commit("HEAD")
    if all(forge.get(key) for key in ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_SHA")):
        pages = f"{forge['GITHUB_SERVER_URL']}/{forge['GITHUB_REPOSITORY']}/blob"
        head = forge["GITHUB_SHA"]
    elif forge.get("CI_PROJECT_URL"):
        pages = f"{forge['CI_PROJECT_URL']}/-/blob"
    else:
        return None, ""
    folder = (git("rev-parse", "--show-prefix") or "").strip()
    return f"{pages}/{base}/{folder}", f"{pages}/{head}/{folder}"


def text_here(path: str) -> str | None:
    """Return the text of a file in the work tree; None if there is none."""
    return Path(path).read_text(encoding="utf-8", errors="replace") if Path(path).is_file() else None


def git(*words: str) -> str | None:
    """Return the output of a Git command; None if it fails.

    Raises:
        UserError: Git is not installed.
    """
    try:
        done = subprocess.run(["git", *words], capture_output=True, encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise UserError("git was not found; a review compares with a commit.") from None
    return done.stdout if done.returncode == 0 else None


def dvc(*words: str) -> Any:
    """Return the JSON output of a DVC command.

    Raises:
        UserError: DVC is not installed, or fails; the message includes its output.
    """
    variables = os.environ | {"DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *words, "--json"], env=variables, capture_output=True, encoding="utf-8"
    )
    if done.returncode != 0:
        raise UserError(f"dvc {' '.join(words)} failed: {' '.join(done.stderr.split())}")
    return json.loads(done.stdout or "{}")


if __name__ == "__main__":
    run(main, __doc__)
