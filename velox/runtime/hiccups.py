"""Hiccups of the host: times at which a thread that only reads the clock did not run.

No latency can be better than these. Their causes lie outside the program: interrupts, the
scheduler, a hypervisor that runs another guest. One thread a CPU reads the clock again and again. A
step between two readings that is much longer than the shortest step is a gap: the thread did not
run.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from velox.core.clock import Clock
from velox.core.histogram import LatencyHistogram
from velox.errors import ConfigError, PipelineError
from velox.runtime.gaps import shortest_step, watch
from velox.runtime.hardware import format_cpus, usable_cpus
from velox.runtime.stage import Control
from velox.runtime.threads import start_thread

__all__ = ["Hiccups", "measure_hiccups"]

# In multiples of the shortest step. The loop, a cache miss and a record all take less.
THRESHOLD_STEPS = 8


@dataclass(frozen=True, slots=True)
class Hiccups:
    """The times at which a thread that only reads the clock did not run, on one CPU.

    Attributes
    ----------
    cpu : int or None
        None where the thread was not pinned.
    threshold_ns : int
        The shortest gap that differs clearly from the loop's own steps, in ns.
    elapsed_s : float
        How long the clock was read, in seconds.
    taken_s : float
        The sum of the gaps, in seconds.
    gaps : LatencyHistogram
        Their lengths, in ns.
    """

    cpu: int | None
    threshold_ns: int
    elapsed_s: float
    taken_s: float
    gaps: LatencyHistogram

    @property
    def gaps_per_s(self) -> float:
        """float: Gaps a second."""
        return self.gaps.count / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def taken_share(self) -> float:
        """float: The part of the time that was taken away, 0 to 1."""
        return self.taken_s / self.elapsed_s if self.elapsed_s > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the figures, ready for JSON."""
        return {
            "cpu": self.cpu,
            "threshold_ns": self.threshold_ns,
            "elapsed_s": self.elapsed_s,
            "taken_share": self.taken_share,
            "gaps_per_s": self.gaps_per_s,
            "gap_ns": self.gaps.to_dict(),
        }


def measure_hiccups(
    cpus: Sequence[int | None] | None = None,
    duration: float = 0.25,
    *,
    clock: Clock | None = None,
) -> tuple[Hiccups, ...]:
    """Read the clock on several CPUs at once, and measure the gaps on each.

    Parameters
    ----------
    cpus : sequence of int or None, optional
        One thread each, pinned; None for a thread that the scheduler places. By default every CPU
        that this process may use, unpinned where the system cannot pin.
    duration : float
        Seconds of real time. The gaps of a rate of 1000 a second need 10 s for a P99.9 of them.
    clock : Clock, optional
        ``Clock()`` unless given.

    Returns
    -------
    tuple of Hiccups
        In the order of `cpus`, each once.

    Raises
    ------
    ConfigError
        This process may not use a CPU, the duration is out of range, or the clock is virtual.
    PipelineError
        A thread could not be pinned or started.

    Notes
    -----
    Thread-safety: any thread; the calling one only waits. An exception that interrupts the wait,
    such as a KeyboardInterrupt, ends the threads first.

    Examples
    --------
    >>> [found] = measure_hiccups([None], 0.01)
    >>> found.elapsed_s >= 0.01 and 0 <= found.taken_share <= 1
    True
    """
    chosen = _checked_cpus(cpus)
    duration_ns = _checked_duration(duration)
    clock = Clock() if clock is None else clock
    control = Control()
    together = threading.Barrier(len(chosen))
    found: dict[int | None, Hiccups] = {}
    errors: list[Exception] = []

    def look(cpu: int | None) -> None:
        gaps = LatencyHistogram()
        try:
            if cpu is not None:
                os.sched_setaffinity(0, {cpu})
            threshold_ns = THRESHOLD_STEPS * shortest_step(clock)
            together.wait()
            elapsed_ns, taken_ns = watch(
                clock, gaps, control, threshold_ns=threshold_ns, duration_ns=duration_ns
            )
            found[cpu] = Hiccups(cpu, threshold_ns, elapsed_ns / 1e9, taken_ns / 1e9, gaps)
        except threading.BrokenBarrierError:
            pass
        except OSError as error:
            errors.append(PipelineError(f"a thread cannot be pinned to CPU {cpu}: {error}"))
            together.abort()
        except Exception as error:
            errors.append(error)
            together.abort()

    threads = [
        threading.Thread(target=look, args=(cpu,), name=f"velox-hiccup-{cpu}", daemon=True)
        for cpu in chosen
    ]
    try:
        for thread in threads:
            start_thread(thread)
        for thread in threads:
            thread.join()
    except BaseException:
        control.stop()
        together.abort()
        raise
    if errors:
        raise errors[0]
    return tuple(found[cpu] for cpu in chosen)


def _checked_cpus(cpus: Sequence[int | None] | None) -> tuple[int | None, ...]:
    usable = usable_cpus()
    if cpus is None:
        return usable.allowed if usable.can_pin else (None,)
    chosen = tuple(dict.fromkeys(cpus))
    if not chosen:
        raise ConfigError("must name at least one", field="cpus", value=[])
    for cpu in chosen:
        if cpu is None:
            continue
        if not usable.can_pin:
            raise ConfigError(
                "this system cannot pin threads to CPUs", field="cpus", value=list(cpus)
            )
        if cpu not in usable.allowed:
            raise ConfigError(
                f"names CPU {cpu}; this process may use {format_cpus(usable.allowed)}",
                field="cpus",
                value=list(chosen),
            )
    return chosen


def _checked_duration(duration: float) -> int:
    try:
        valid = isfinite(duration) and 0 < duration <= 1e9
    except (TypeError, OverflowError):
        valid = False
    if not valid:
        raise ConfigError("must be above 0, at most 1e9 seconds", field="duration", value=duration)
    return max(1, round(duration * 1e9))
