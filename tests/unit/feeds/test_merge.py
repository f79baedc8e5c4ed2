"""Recordings of several markets on one time line, against a plain sort of lists of events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from velox.cli.main import main
from velox.core.instrument import Instrument
from velox.core.records import TRANSACTION_DTYPE, Flags, Kind
from velox.errors import ConfigError
from velox.feeds import KNOWN_DTYPE, Recording, load, merge, save
from velox.feeds.okx_checksum import OkxChecksum
from velox.runtime.checks import ChecksumChecks, DepthChecks

# Each event: its time, and how many records of which market it has.
Events = list[tuple[int, int, int]]
events = st.lists(
    st.tuples(st.integers(0, 6), st.integers(1, 3), st.integers(0, 2)), min_size=1, max_size=8
)


def recording(source: int, given_events: Events, *, whole: bool = True) -> Recording:
    rows: list[tuple[int, ...]] = []
    ends = []
    for time, count, market in given_events:
        for _ in range(count):
            rows.append((source * 1000 + len(rows), 10, 1, 0, Kind.SET, 0, 5 * market, time))
        rows[-1] = (*rows[-1][:5], int(Flags.LAST), *rows[-1][6:])
        ends.append((len(rows), market))
    if not whole:
        rows[-1] = (*rows[-1][:5], 0, *rows[-1][6:])
    count = len(ends)
    return Recording(
        np.array(rows, TRANSACTION_DTYPE),
        tuple(Instrument(name=f"{source}-{n}", market=5 * n) for n in range(3)),
        DepthChecks(
            position=np.array([end for end, _ in ends], np.int64),
            market=np.array([5 * market for _, market in ends], np.uint8),
            prices=np.array([[[end], [source]] for end, _ in ends], np.int64),
            quantities=np.ones((count, 2, 1), np.int64),
        ),
        1,
        (f"problem {source}",),
        (Path(str(source)),),
        ignored={"x": 2},
        gaps=3,
        known=np.array(
            [(end - 1, 5 * market, end, source, 0) for end, market in ends], KNOWN_DTYPE
        ),
        venue_ts_ns=np.arange(source * 1000, source * 1000 + len(rows), dtype=np.uint64),
    )


@settings(max_examples=200, deadline=None)
@given(st.lists(events, min_size=1, max_size=4))
def test_merging_is_a_plain_stable_sort_of_whole_events(sources: list[Events]) -> None:
    recordings = [recording(source, each) for source, each in enumerate(sources)]
    merged = merge(*recordings)

    plain: list[tuple[int, int, int]] = []
    for source, each in enumerate(sources):
        newest, first = 0, 0
        for time, count, _ in each:
            newest = max(newest, time)
            plain.append((newest, source, first))
            first += count
    expected = []
    for _, source, first in sorted(plain):
        rows = recordings[source].transactions
        end = first + 1 + int(np.argmax(rows["flags"][first:] & Flags.LAST > 0))
        expected += [
            (*row[:6], row[6] // 5 + 3 * source, row[7]) for row in rows[first:end].tolist()
        ]
    assert merged.transactions.tolist() == expected
    # The venue's times, the checks and the known depth follow their records.
    assert merged.venue_ts_ns.tolist() == merged.transactions["id"].tolist()
    place = {identity: at for at, identity in enumerate(merged.transactions["id"].tolist())}
    assert isinstance(merged.checks, DepthChecks)
    found = []
    for position, market, prices in zip(
        merged.checks.position.tolist(),
        merged.checks.market.tolist(),
        merged.checks.prices,
        strict=True,
    ):
        (end,), (source,) = prices.tolist()
        assert position == place[source * 1000 + end - 1] + 1
        assert market == merged.transactions["market"][position - 1]
        found.append((source, end))
    assert len(set(found)) == sum(map(len, sources))
    for position, market, end, source, _ in merged.known.tolist():
        assert position == place[source * 1000 + end - 1]
        assert market == merged.transactions["market"][position]
    assert (np.diff(merged.known["position"]) >= 0).all()
    assert [each.name for each in merged.instruments] == [
        f"{source}-{n}" for source in range(len(sources)) for n in range(3)
    ]
    assert [each.market for each in merged.instruments] == list(range(3 * len(sources)))
    assert (merged.gaps, merged.skipped, merged.ignored) == (
        *(3 * len(sources), len(sources), {"x": 2 * len(sources)}),
    )
    assert len(merged.problems) == len(merged.source) == len(sources)


def test_an_event_without_an_end_stays_whole() -> None:
    first = recording(0, [(1, 2, 0), (5, 3, 0)], whole=False)
    merged = merge(first, recording(1, [(5, 1, 0), (0, 1, 0)]))
    assert merged.transactions["id"].tolist() == [0, 1, 2, 3, 4, 1000, 1001]


def test_checks_of_different_kinds_are_left_out_and_counted() -> None:
    first, second = recording(0, [(1, 1, 0)]), recording(1, [(1, 1, 0)])
    checksum = ChecksumChecks(
        position=np.array([1]),
        market=np.array([0], np.uint8),
        checksum=np.array([5], np.int32),
        algorithm=OkxChecksum(),
    )
    other = Recording(second.transactions, second.instruments, checksum, 0, (), ())
    merged = merge(first, other)
    assert merged.checks is None
    assert merged.ignored["check that cannot be merged"] == 2
    bare = Recording(first.transactions, first.instruments, None, 0, (), ())
    kept = merge(bare, other).checks
    assert isinstance(kept, ChecksumChecks)
    assert (kept.position.tolist(), kept.market.tolist()) == ([2], [3])


def test_nothing_and_too_many_markets_are_refused() -> None:
    with pytest.raises(ConfigError):
        merge()
    markets = tuple(Instrument(market=n) for n in range(200))
    many = Recording(np.zeros(1, TRANSACTION_DTYPE), markets, None, 0, (), ())
    with pytest.raises(ConfigError, match="256"):
        merge(many, many)
    assert len(merge(many).instruments) == 200


def lobster(tmp_path: Path, name: str, *times: float) -> Path:
    path = tmp_path / f"{name}_message.csv"
    path.write_text("".join(f"{time},1,17,200,308700,1\n" for time in times))
    return path


def test_the_command_line_merges(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = lobster(tmp_path, "A", 1.5, 3.5), lobster(tmp_path, "B", 2.5)
    save(load(second), tmp_path / "b.npy")
    paths = [str(first), str(tmp_path / "b.npy")]
    output = tmp_path / "both.npy"
    assert main(["convert", *paths, "--merge", "--tick-size", "50", "-o", str(output)]) == 0
    both = load(output)
    assert [(each.name, each.tick_size) for each in both.instruments] == [("A", 50), ("B", 100)]
    assert both.transactions["market"].tolist() == [0, 0, 0, 1, 1, 1, 0]
    run = ["--placement", "invoker", "--hiccups", "0", "--quiet"]
    assert main(["replay", *paths, "--merge", *run]) == 0
    assert "format lobster + npy" in capsys.readouterr().out
    assert main(["replay", *paths, "--merge", "--channel", "books", *run]) == 2
    assert main(["convert", *paths, "-o", str(output)]) == 2


def test_a_merged_recording_can_be_saved(tmp_path: Path) -> None:
    merged = merge(recording(0, [(1, 2, 0)]), recording(1, [(0, 1, 1)]))
    save(merged, tmp_path / "a.npy")
    again: Any = load(tmp_path / "a.npy")
    for name in ("transactions", "venue_ts_ns", "known"):
        assert getattr(again, name).tobytes() == getattr(merged, name).tobytes()
    assert [each.name for each in again.instruments] == [each.name for each in merged.instruments]
