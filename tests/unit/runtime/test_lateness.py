"""Why an ingress fell behind: a rate that is too high, or a thread that did not run."""

from __future__ import annotations

import numpy as np

from velox import LatencyHistogram
from velox.runtime.hiccups import Hiccups
from velox.runtime.lateness import lateness_warning

SECOND = 1_000_000_000


def recorded(values: object) -> LatencyHistogram:
    histogram = LatencyHistogram()
    histogram.record_many(np.asarray(values, np.uint64))
    return histogram


def host(taken_s: float) -> Hiccups:
    return Hiccups(0, 100, 1.0, taken_s, recorded([int(taken_s * SECOND)]))


GROWING = recorded(np.linspace(0, 300_000_000, 10_000))
PAUSED = recorded(np.concatenate([np.full(9_000, 800), np.linspace(0, 300_000_000, 1_000)]))


def test_what_is_hardly_behind_is_no_news() -> None:
    assert lateness_warning(20_000_000, SECOND, GROWING) is None
    assert lateness_warning(90_000_000, 10 * SECOND, GROWING) is None
    assert lateness_warning(0, 0, recorded([])) is None


def test_lateness_that_grows_from_the_start_is_the_rates_fault() -> None:
    text = lateness_warning(300_000_000, SECOND, GROWING)
    assert text is not None
    assert "300.0 ms behind" in text
    assert text.endswith("over 151 ms late: the rate is more than this placement carries")
    text = lateness_warning(300_000_000, SECOND, GROWING, [host(0.001)])
    assert text is not None
    assert text.endswith("than this placement carries")
    text = lateness_warning(300_000_000, SECOND, GROWING, [host(0.001), host(0.4)])
    assert text is not None
    assert text.endswith("on this host, which after the run took 40.0% of the time")


def test_records_that_were_mostly_on_time_are_not_the_rates_fault() -> None:
    text = lateness_warning(300_000_000, SECOND, PAUSED)
    assert text is not None
    assert "half of its records were at most 803 ns late" in text
    assert text.endswith("something paused its thread, such as the host")
    assert "the rate" not in text
    text = lateness_warning(300_000_000, SECOND, PAUSED, [host(0.02)])
    assert text is not None
    assert text.endswith("the host, which after the run took 2.0% of the time, 20.0 ms at once")


def test_an_ingress_that_pushed_nothing_names_the_rate() -> None:
    text = lateness_warning(300_000_000, SECOND, recorded([]))
    assert text is not None
    assert "the rate is more than this placement carries" in text
