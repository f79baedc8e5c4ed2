"""Which CPUs this process may use, and in which order to fill them.

A process may often use fewer CPUs than the machine has. An affinity mask (``taskset``, a cpuset, a
container) may allow only CPUs 6 and 7 of 64. A cgroup quota may allow all 64, but only two CPUs'
worth of time. This module therefore decides how many threads spin and where they are pinned;
`os.cpu_count` is never used for that.

Every function takes `root`, the folder under which ``/proc`` and ``/sys`` are looked for, and
ignores a file that is absent or unreadable.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from math import floor
from pathlib import Path, PurePosixPath

__all__ = [
    "CpuLimit",
    "UsableCpus",
    "cgroup_limits",
    "cpu_order",
    "describe_machine",
    "format_cpus",
    "parse_cpus",
    "read_if_possible",
    "usable_cpus",
]

CPU_FOLDER = "sys/devices/system/cpu"


@dataclass(frozen=True, slots=True)
class UsableCpus:
    """What this process may use.

    Attributes
    ----------
    allowed : tuple of int
        The CPUs on which its threads may run, ascending.
    quota : float or None
        How many CPUs' worth of time its cgroups grant; None where they set no limit.
    count : int
        Whole CPUs that it can keep busy: the smaller of the two above, at least 1.
    why : str
        A text that explains `count`.
    order : tuple of int
        `allowed` in the order in which to fill them (see `cpu_order`); `allowed` itself if not
        given.
    can_pin : bool
        Whether a thread can be pinned to one of them; macOS cannot.
    """

    allowed: tuple[int, ...]
    quota: float | None
    count: int
    why: str
    order: tuple[int, ...] = ()
    can_pin: bool = True

    def __post_init__(self) -> None:
        if not self.order:
            object.__setattr__(self, "order", self.allowed)


@dataclass(frozen=True, slots=True)
class CpuLimit:
    """A cgroup of this process, and the CPU time that it grants.

    Attributes
    ----------
    folder : Path
        The cgroup's folder.
    quota : float or None
        CPUs' worth of time; None where this cgroup sets no limit.
    """

    folder: Path
    quota: float | None


def usable_cpus(
    root: str | os.PathLike[str] = "/", *, allowed: Collection[int] | None = None
) -> UsableCpus:
    """Find out which CPUs this process may use.

    Parameters
    ----------
    root : path
        Where ``/proc`` and ``/sys`` are.
    allowed : collection of int, optional
        The CPUs to start from. By default the affinity mask of the calling thread, which new
        threads inherit; where the system has none (macOS), every CPU.

    Returns
    -------
    UsableCpus

    Notes
    -----
    The quota is the tightest one among the process's own cgroup and all its ancestors: ``cpu.max``
    of cgroup v2, ``cpu.cfs_quota_us`` and ``cpu.cfs_period_us`` of v1, as described in the Linux
    kernel's ``admin-guide/cgroup-v2`` and ``scheduler/sched-bwc``.

    Examples
    --------
    >>> usable = usable_cpus()
    >>> 1 <= usable.count <= len(usable.allowed)
    True
    """
    can_pin = hasattr(os, "sched_setaffinity")
    if allowed is None:
        allowed = os.sched_getaffinity(0) if can_pin else range(os.cpu_count() or 1)
    cpus = tuple(sorted(allowed))
    limits = [each.quota for each in cgroup_limits(root) if each.quota is not None]
    quota = min(limits, default=None)
    count = len(cpus) if quota is None else max(1, min(len(cpus), floor(quota)))
    limit = "no CPU quota" if quota is None else f"a cgroup quota of {quota:g}"
    return UsableCpus(
        allowed=cpus,
        quota=quota,
        count=count,
        why=f"{count} usable: CPUs {format_cpus(cpus)} allowed, {limit}",
        order=cpu_order(cpus, root),
        can_pin=can_pin,
    )


def cpu_order(allowed: Iterable[int], root: str | os.PathLike[str] = "/") -> tuple[int, ...]:
    """Order CPUs so that one thread of each physical core comes first, SMT siblings last.

    Two threads that spin on the siblings of one core share that core. Within each rank the CPUs of
    one package stay together, since a cache line that crosses packages costs several times as much.

    Parameters
    ----------
    allowed : iterable of int
        The CPUs to order.
    root : path
        Where ``/sys`` is; a CPU of which it says nothing counts as a core of its own.

    Returns
    -------
    tuple of int
        The same CPUs, each once.
    """
    members = sorted(set(allowed))
    folder = Path(root) / CPU_FOLDER
    keys: dict[int, tuple[int, int, int]] = {}
    for cpu in members:
        topology = folder / f"cpu{cpu}" / "topology"
        siblings = parse_cpus(read_if_possible(topology / "thread_siblings_list"))
        # Counted among the allowed alone: a mask may leave out a core's first thread.
        rank = sum(1 for other in members if other < cpu and other in siblings)
        package = _integer(read_if_possible(topology / "physical_package_id"))
        keys[cpu] = (rank, package if package is not None else 0, cpu)
    return tuple(sorted(members, key=keys.__getitem__))


def describe_machine(root: str | os.PathLike[str] = "/") -> str:
    """Describe the machine in one line, to print beside measured numbers.

    Returns
    -------
    str
        Such as ``"AMD EPYC, 2 of 2 CPUs usable, Linux x86-64, Python 3.11.7"``.
    """
    machine = {"x86_64": "x86-64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
    found = re.search(
        r"^model name\s*:\s*(.+?)\s*$", read_if_possible(Path(root) / "proc/cpuinfo"), re.M
    )
    model = found[1] if found else platform.processor() or machine
    online = (
        len(parse_cpus(read_if_possible(Path(root) / CPU_FOLDER / "online"))) or os.cpu_count() or 1
    )
    system = {"Darwin": "macOS"}.get(platform.system(), platform.system())
    return (
        f"{model}, {usable_cpus(root).count} of {online} CPUs usable, "
        f"{system} {machine}, Python {platform.python_version()}"
    )


def format_cpus(cpus: Iterable[int]) -> str:
    """Write CPUs the way the kernel does.

    Examples
    --------
    >>> format_cpus([0, 1, 2, 3, 8])
    '0-3,8'
    """
    runs: list[list[int]] = []
    for cpu in sorted(set(cpus)):
        if runs and cpu == runs[-1][-1] + 1:
            runs[-1][1:] = [cpu]
        else:
            runs.append([cpu])
    return ",".join("-".join(map(str, run)) for run in runs)


def parse_cpus(text: str) -> frozenset[int]:
    """Parse a list such as ``0-3,8``. A text of another form gives an empty set."""
    cpus: set[int] = set()
    for part in text.strip().split(","):
        found = re.fullmatch(r"(\d+)(?:-(\d+))?", part, re.ASCII)
        if found is None:
            return frozenset()
        cpus.update(range(int(found[1]), int(found[2] or found[1]) + 1))
    return frozenset(cpus)


def cgroup_limits(root: str | os.PathLike[str] = "/") -> Iterator[CpuLimit]:
    """Find the cgroups that can limit this process's CPU time: its own and their ancestors.

    Parameters
    ----------
    root : path
        Where ``/proc`` and ``/sys`` are.

    Yields
    ------
    CpuLimit
        From the innermost cgroup outwards. None at all: the system does not show its cgroups.
    """
    root = Path(root)
    mounts = list(_cgroup_mounts(root))
    for line in read_if_possible(root / "proc/self/cgroup").splitlines():
        hierarchy, controllers, own = [*line.split(":", 2), "", ""][:3]
        if hierarchy == "0" and not controllers:
            kind = "cgroup2"
        elif "cpu" in controllers.split(","):
            kind = "cgroup"
        else:
            continue
        for mount_kind, mount_root, mount_point in mounts:
            if mount_kind == kind:
                for folder in _own_and_ancestors(root, mount_root, mount_point, own):
                    quota = _quota_v2(folder) if kind == "cgroup2" else _quota_v1(folder)
                    yield CpuLimit(folder, quota)


def _cgroup_mounts(root: Path) -> Iterator[tuple[str, str, str]]:
    """Type, root and mount point of each cgroup hierarchy that can limit CPU time.

    A line of mountinfo: ``id parent major:minor ROOT POINT options [tags…] - TYPE source SUPER``.
    """
    for line in read_if_possible(root / "proc/self/mountinfo").splitlines():
        before, separator, after = line.partition(" - ")
        front, back = before.split(), after.split()
        if not separator or len(front) < 5 or len(back) < 3:
            continue
        if back[0] == "cgroup2" or (back[0] == "cgroup" and "cpu" in back[2].split(",")):
            yield back[0], _unescape(front[3]), _unescape(front[4])


def _own_and_ancestors(root: Path, mount_root: str, mount_point: str, own: str) -> list[Path]:
    """Folders of the cgroup `own` and of its ancestors, as far up as the mount shows them."""
    top = root / mount_point.lstrip("/")
    try:
        parts = PurePosixPath(own).relative_to(mount_root).parts
    except ValueError:
        # Without a cgroup namespace, a container may see a path that its mount does not contain.
        # The root of the mount is then its own cgroup.
        return [top]
    if ".." in parts:
        return [top]
    return [top.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]


def _quota_v2(folder: Path) -> float | None:
    words = read_if_possible(folder / "cpu.max").split()
    return _ratio(words[0], words[1]) if len(words) == 2 else None


def _quota_v1(folder: Path) -> float | None:
    return _ratio(
        read_if_possible(folder / "cpu.cfs_quota_us"),
        read_if_possible(folder / "cpu.cfs_period_us"),
    )


def _ratio(quota_us: str, period_us: str) -> float | None:
    """Return time divided by period; None for v2's ``max``, v1's ``-1`` and other text."""
    quota, period = _integer(quota_us), _integer(period_us)
    if quota is None or period is None or quota <= 0 or period <= 0:
        return None
    return quota / period


def _integer(text: str) -> int | None:
    found = re.fullmatch(r"\s*(-?\d+)\s*", text, re.ASCII)
    return int(found[1]) if found else None


def _unescape(path: str) -> str:
    r"""Undo mountinfo's octal escapes: ``\040`` is a space."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), path)


def read_if_possible(path: Path) -> str:
    """Return a file's text, or nothing if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
