"""The doctor: what of this host makes latencies long, what shows it, and what mends it.

::

    files of /proc and /sys --+
    counters, twice ----------+--> Host --> one Finding a check, worst first
    hiccups of each CPU ------+

A check is a function of a `Host`. It starts nothing and changes nothing. A fact that cannot be read
is `Severity.UNKNOWN`, never fine.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from velox.config import PipelineConfig
from velox.runtime.doctor.cpu_checks import CPU_CHECKS, delay_floor
from velox.runtime.doctor.finding import Evidence, Finding, Severity
from velox.runtime.doctor.host import Host, file_system_bytes, read_counters
from velox.runtime.doctor.system_checks import SYSTEM_CHECKS
from velox.runtime.hardware import UsableCpus, usable_cpus
from velox.runtime.hiccups import Hiccups
from velox.runtime.placement import Plan, plan

__all__ = ["CHECKS", "Evidence", "Finding", "Severity", "delay_floor", "examine"]

#: The checks, in the order in which findings of one severity are given.
CHECKS: tuple[Callable[[Host], Finding], ...] = (*CPU_CHECKS, *SYSTEM_CHECKS)


def examine(
    config: PipelineConfig | None = None,
    *,
    measure: Callable[[], Sequence[Hiccups]] | None = None,
    root: str | os.PathLike[str] = "/",
    usable: UsableCpus | None = None,
    file_system_bytes: Callable[[Path], int | None] = file_system_bytes,
) -> tuple[Finding, ...]:
    """Examine the host for a pipeline.

    Parameters
    ----------
    config : PipelineConfig, optional
        The pipeline that is to run here; its placement decides which CPUs are examined.
    measure : callable, optional
        Returns the host's hiccups, such as ``lambda: measure_hiccups(duration=1.0)``. Stolen time
        and interrupts are counted while it runs.
    root : path
        Where ``/proc``, ``/sys`` and ``/dev`` are.
    usable : UsableCpus, optional
        What the process may use; found out unless given.
    file_system_bytes : callable, optional
        Returns the size in bytes of the file system at a path, or None if there is none.

    Returns
    -------
    tuple of Finding
        One for each check, the most severe first.

    Raises
    ------
    ConfigError
        The configuration names a CPU that this process may not use.

    Notes
    -----
    Thread-safety: any thread.

    Examples
    --------
    >>> findings = examine()
    >>> findings[0].severity >= findings[-1].severity
    True
    """
    folder = Path(root)
    usable = usable_cpus(folder) if usable is None else usable
    threads = plan(PipelineConfig() if config is None else config, usable)
    before, started = read_counters(folder), time.monotonic()
    hiccups = () if measure is None else tuple(measure())
    host = Host(
        root=folder,
        plan=threads,
        cpus=_pinned(threads, usable),
        usable=usable.count,
        before=before,
        after=read_counters(folder),
        hiccups=hiccups,
        measured_s=time.monotonic() - started,
        file_system_bytes=file_system_bytes,
    )
    findings = [check(host) for check in CHECKS]
    return tuple(sorted(findings, key=lambda each: -each.severity))


def _pinned(threads: Plan, usable: UsableCpus) -> tuple[int, ...]:
    pinned = {each.cpu for each in threads.runners if each.cpu is not None}
    return tuple(sorted(pinned)) or usable.allowed
