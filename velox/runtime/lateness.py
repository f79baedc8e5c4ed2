"""Tells why an ingress fell behind its schedule."""

from __future__ import annotations

from collections.abc import Sequence

from velox.core.histogram import LatencyHistogram
from velox.runtime.hiccups import Hiccups
from velox.runtime.report_text import duration

__all__ = ["lateness_warning"]

# A host that takes the core away once costs some ms. A rate that is too high costs more the longer
# the run takes.
LEAST_NS = 20_000_000
LEAST_SHARE = 100
# At a rate that is too high, lateness grows from 0 to its end, and half of the records are later
# than half of that. After a pause at the end, most records were on time.
STEADY_SHARE = 8
# The host's part of the time from which it is named beside the rate.
TAKEN_SHARE = 0.05


def lateness_warning(
    behind_ns: int,
    elapsed_ns: int,
    late: LatencyHistogram,
    hiccups: Sequence[Hiccups] = (),
) -> str | None:
    """Say how far an ingress ended behind its schedule, and why.

    Parameters
    ----------
    behind_ns : int
        How far, at the end.
    elapsed_ns : int
        How long the run took.
    late : LatencyHistogram
        How late each record was pushed.
    hiccups : sequence of Hiccups
        The host's, as measured after the run.

    Returns
    -------
    str or None
        None if it was not far behind.
    """
    if behind_ns <= max(LEAST_NS, elapsed_ns // LEAST_SHARE):
        return None
    median = late.percentile(50)
    text = f"the ingress ended {behind_ns / 1e6:.1f} ms behind its schedule"
    taken = max((each.taken_share for each in hiccups), default=0.0)
    if late.count and median < behind_ns // STEADY_SHARE:
        text += (
            f", but half of its records were at most {duration(median)} late: something paused its "
            "thread, such as the host"
        )
        if hiccups:
            longest = max(each.gaps.max for each in hiccups)
            text += (
                f", which after the run took {taken:.1%} of the time, {duration(longest)} at once"
            )
        return text
    text += (
        f", and half of its records were over {duration(median)} late: the rate is more than this "
        "placement carries"
    )
    if taken >= TAKEN_SHARE:
        text += f" on this host, which after the run took {taken:.1%} of the time"
    return text
