"""A revision of Velox built beside the working tree, to be measured against it.

A revision is exported from git into a cache folder and built there in place, by this interpreter.
The folder's name holds the commit and a hash of everything else that shapes the build, so a
revision is built once. The cache is ``$XDG_CACHE_HOME/velox/revisions``, or
``~/.cache/velox/revisions``. It may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

__all__ = ["BASELINE", "ROOT", "RevisionError", "Tree", "build", "built_revision", "working_tree"]

# The revision that changes are measured against where no other is named. Nothing else names it.
BASELINE = "c382bcdbb0b4367be978494b3bfc3a256c1e07d2"
ROOT = Path(__file__).resolve().parents[1]
# What changes the machine code, besides the sources.
BUILD_VARIABLES = ("CC", "CFLAGS", "LDFLAGS", "VELOX_NATIVE", "VELOX_SANITIZE", "VELOX_TRACE")


class RevisionError(RuntimeError):
    """A revision cannot be found or built.

    Attributes
    ----------
    revision : str
        As it was asked for.
    reason : str
    """

    def __init__(self, revision: str, reason: str) -> None:
        super().__init__(f"revision {revision!r}: {reason}")
        self.revision = revision
        self.reason = reason


@dataclass(frozen=True)
class Tree:
    """A built source tree.

    Attributes
    ----------
    label : str
        What tables call it.
    folder : Path
        Where ``import velox`` finds it.
    commit : str or None
        None: the tree is no commit.
    """

    label: str
    folder: Path
    commit: str | None = None


def build(folder: Path, label: str) -> None:
    """Build the extension modules in place; what is up to date stays.

    Raises
    ------
    RevisionError
        The build failed; the message ends with the last lines of its output.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-15:])
        raise RevisionError(label, f"the build in {folder} failed:\n{tail}")


def working_tree() -> Tree:
    """Build the tree that this file belongs to, as it is now, and return it."""
    build(ROOT, "working tree")
    return Tree("working tree", ROOT)


def built_revision(revision: str, *, repository: Path = ROOT) -> Tree:
    """Return the built tree of a revision; build it if the cache does not have it.

    Parameters
    ----------
    revision : str
        Anything that names a commit to git.
    repository : Path

    Raises
    ------
    RevisionError
        Git does not know the commit, or it does not build.
    """
    commit = commit_of(revision, repository)
    label = commit[:7]
    folder = cache_folder() / f"{commit}-{_build_key()}"
    if not folder.exists():
        print(f"building {label} in {folder}", file=sys.stderr, flush=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Built beside, then renamed: the cache never holds a tree that is half built.
        unfinished = Path(tempfile.mkdtemp(prefix=f"{label}-", dir=folder.parent))
        try:
            _export(commit, repository, unfinished)
            build(unfinished, revision)
            # A process that built the same revision meanwhile may have been first.
            with suppress(OSError):
                unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return Tree(label, folder, commit)


def commit_of(revision: str, repository: Path = ROOT) -> str:
    """Return the full hash of the commit that a revision names.

    Raises
    ------
    RevisionError
        Git is not there, or does not know it.
    """
    done = _git(
        repository, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}", label=revision
    )
    if done.returncode:
        raise RevisionError(
            revision, f"not a commit in {repository}; a shallow clone needs 'git fetch --unshallow'"
        )
    return done.stdout.strip()


def cache_folder() -> Path:
    """Return the folder that keeps built revisions."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "velox" / "revisions"


def _git(
    repository: Path, *arguments: str, label: str, index: Path | None = None
) -> subprocess.CompletedProcess[str]:
    environment = os.environ | ({"GIT_INDEX_FILE": str(index)} if index else {})
    try:
        return subprocess.run(
            ["git", "-C", str(repository), *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
    except FileNotFoundError as missing:
        raise RevisionError(label, "git is not installed") from missing


def _export(commit: str, repository: Path, folder: Path) -> None:
    """Write the files of a commit into a folder, through an index of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        index = Path(scratch, "index")
        for arguments in (
            ["read-tree", commit],
            ["checkout-index", "--all", f"--prefix={folder}/"],
        ):
            done = _git(repository, *arguments, label=commit, index=index)
            if done.returncode:
                raise RevisionError(commit, f"git {arguments[0]} failed: {done.stderr.strip()}")


def _build_key() -> str:
    """Return a short hash of the interpreter, the compiler and the settings of a build."""
    command = [*shlex.split(os.environ.get("CC", "cc")), "--version"]
    compiler = ""
    with suppress(OSError):
        compiler = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    parts = [
        sys.executable,
        sys.version,
        platform.machine(),
        compiler,
        *(f"{name} {version(name)}" for name in ("numpy", "cython")),
        *(f"{name}={os.environ.get(name, '')}" for name in BUILD_VARIABLES),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
