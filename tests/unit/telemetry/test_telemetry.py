from __future__ import annotations

import errno
import io
import json
import os
import resource
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import velox
from velox.bench import Result
from velox.core.histogram import LatencyHistogram
from velox.runtime import report_text
from velox.runtime.hardware import UsableCpus
from velox.runtime.hiccups import Hiccups
from velox.runtime.huge_pages import HugePages
from velox.runtime.ledger import Ledger
from velox.runtime.placement import Plan, plan
from velox.runtime.report import Report, Statistics
from velox.runtime.report_text import LATENCIES
from velox.telemetry import document, naming, replacing, terminal, write_document, writing


@pytest.fixture
def report() -> Report:
    ledger = Ledger(
        generated=20,
        pushed=18,
        dropped=2,
        applied=17,
        rejected={"price": 1, "size": 0},
        emitted=17,
        bundles={"size": 1, "timeout": 1, "idle": 0, "drain": 0},
        sealed_transactions=17,
        delivered_bundles=2,
        delivered_transactions=17,
    )
    histogram = LatencyHistogram()
    histogram.record_many(np.array([100, 200, 300_000], np.int64))
    return Report(
        ledger=ledger,
        latency=dict.fromkeys(LATENCIES, histogram),
        elapsed_s=2.0,
        plan=paired(),
        clock={"source": "tsc", "reason": "trusted", "resolution_ns": 1.0},
        machine="a machine",
        huge_pages=HugePages("auto"),
        late_count=3,
        full={"ingress": 7, "orderbook": 0, "bundle": 0},
    )


def paired() -> Plan:
    four = UsableCpus(allowed=(0, 1, 2, 3), quota=None, count=4, why="4 usable")
    return plan(velox.PipelineConfig(placement="paired"), four)


# The terminal


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0 ns"),
        (999, "999 ns"),
        (1_000, "1.00 µs"),
        (9_994, "9.99 µs"),
        (9_995, "10.0 µs"),
        (99_949, "99.9 µs"),
        (99_950, "100 µs"),
        (999_499, "999 µs"),
        (999_500, "1.00 ms"),
        (1_000_000_000, "1.00 s"),
        (3_600_000_000_000, "3600 s"),
    ],
)
def test_a_duration_has_three_digits_and_the_unit_that_fits(ns: int, text: str) -> None:
    assert terminal.duration(ns) == text


def test_hiccups_have_a_line_a_cpu() -> None:
    gaps = LatencyHistogram()
    gaps.record_many(np.array([300] * 10 + [2_000_000], np.uint64))
    lines = terminal.hiccup_table(
        [
            Hiccups(cpu=1, threshold_ns=160, elapsed_s=0.25, taken_s=0.01, gaps=gaps),
            Hiccups(
                cpu=None, threshold_ns=160, elapsed_s=2.0, taken_s=0.0, gaps=LatencyHistogram()
            ),
        ]
    )
    heads, pinned, unpinned = (line.split() for line in lines)
    assert heads == ["hiccups", "over", "gaps/s", "taken", "p50", "p99", "p99.9", "max"]
    assert pinned[:6] == ["CPU", "1", "160", "ns", "44", "4.00%"]
    assert pinned[6:14] == ["301", "ns", "2.01", "ms", "2.01", "ms", "2.00", "ms"]
    assert unpinned[:10] == ["any", "CPU", "160", "ns", "0", "0.00%", "-", "-", "-", "-"]
    assert terminal.hiccup_table([]) == []
    [_, crowded] = terminal.hiccup_table(
        [Hiccups(cpu=0, threshold_ns=160, elapsed_s=1.5e-7, taken_s=1.5e-7, gaps=gaps)]
    )
    assert "160 ns 73,333,333  100.00%" in crowded


def test_a_progress_line_counts_what_passed_each_stage() -> None:
    counters = Statistics(
        elapsed_s=1.0,
        generated=98_990,
        pushed=98_988,
        dropped=2,
        applied=98_987,
        rejected=1,
        emitted=98_986,
        sealed_bundles=18_283,
        delivered_bundles=18_282,
        delivered_transactions=98_980,
    )
    assert terminal.progress(1, counters) == (
        "[  1s] ingress=98,988 orderbook=98,987 bundles=18,283 output=18,282"
    )
    assert terminal.progress(1234, counters).startswith("[1234s] ")


def test_the_opening_names_each_thread_its_stages_and_its_cpu() -> None:
    lines = terminal.opening(
        version="1.2",
        machine="a machine",
        plan=paired(),
        clock={"source": "tsc", "reason": "trusted"},
        huge_pages=HugePages("always", 20 << 20, 18 << 20),
        source="a source",
    )
    assert lines == [
        "velox 1.2",
        "machine     a machine",
        "placement   paired, idle spin (placement 'paired' was requested; 4 usable)",
        "threads     velox-ingress: ingress, orderbook, on CPU 1",
        "            velox-bundle: bundle, output, on CPU 2",
        "clock       tsc (trusted)",
        "huge pages  always: 18.0 of 20.0 MiB asked for were granted",
        "source      a source",
    ]


def test_the_opening_says_where_nothing_has_a_thread() -> None:
    alone = plan(
        velox.PipelineConfig(placement="invoker"),
        UsableCpus(allowed=(0,), quota=None, count=1, why="1 usable"),
    )
    lines = terminal.opening(
        version="1",
        machine="",
        plan=alone,
        clock={"source": "", "reason": ""},
        huge_pages=HugePages("never"),
        source="",
    )
    assert lines[3] == "threads     none of its own: the main thread calls every stage"


def test_the_latency_table_says_what_json_says(report: Report) -> None:
    heads, *rows = report_text.latency_table(report.latency)
    assert heads.split() == ["latency", "p50", "p90", "p99", "p99.9", "max"]
    assert [row.split()[0] for row in rows] == ["late", "transit", "hold", "delivery", "total"]
    for row in rows:
        figures = report.to_dict()["latency_ns"][row.split()[0]]
        assert row.split()[1:11] == [
            word
            for each in ("p50", "p90", "p99", "p99_9", "max")
            for word in report_text.duration(figures[each]).split()
        ]
    assert {len(row.partition("   d")[0]) for row in rows[:2]} == {len(heads)}


def test_a_latency_without_values_has_no_figures() -> None:
    _, row = report_text.latency_table({"late": LatencyHistogram()})
    assert row.split()[:6] == ["late", *"-----"]


def test_seals_are_shares_of_the_bundles_by_reason(report: Report) -> None:
    assert report_text.seals(report.ledger) == "size 50.0%, timeout 50.0%; 8.5 records a bundle"
    assert report_text.seals(Ledger()) == "none"


def test_the_closing_holds_ledger_throughput_and_latencies(report: Report) -> None:
    lines = terminal.closing(report)
    table = report.ledger.format(forwarding=True).splitlines()
    assert lines[1 : 1 + len(table)] == table
    assert "throughput  8/s over 2.000 s" in lines
    assert "late        3 of 18 pushed over 1 µs after they were due" in lines
    assert "ring full   ingress 7, orderbook 0, bundle 0" in lines
    assert not any(line.startswith(("verified", "book busy")) for line in lines)


def test_the_closing_ends_with_the_verification_where_there_was_one(report: Report) -> None:
    fields = {name: getattr(report, name) for name in Report.__dataclass_fields__}
    fields["verification"] = velox.runtime.verify.Verification(999, 2, "after transaction 7")
    fields["timeouts"] = 4
    lines = terminal.closing(Report(**fields))
    assert lines[-2:] == ["verified=999 mismatched=2", "first mismatch: after transaction 7"]
    assert "book busy   4 records were tried again" in lines


def test_benchmark_lines_stand_under_their_heading() -> None:
    result = Result(18.6, 17.5, 1234.5)
    line = terminal.benchmark_line("ring.two_threads.single", result)
    assert line == "ring.two_threads.single      18.60     17.50   1234.50"
    assert len(terminal.benchmark_heading()) == len(line)


# The document


def test_the_document_says_how_the_run_was_asked_for_and_ended(report: Report) -> None:
    value = document(
        report, command="run", version="1.2", interrupted=True, errors=("the disk is full",)
    )
    assert value["velox"] == "1.2"
    assert value["command"] == "run"
    assert value["interrupted"] is True
    assert value["errors"] == ["the disk is full"]
    assert value["passed"] is False
    assert value["ledger"]["balanced"] is True
    assert document(report, command="run", version="1.2")["passed"] is True


def test_a_document_survives_json_and_text_that_is_no_utf8(report: Report) -> None:
    file = io.BytesIO()
    value = document(report, command="run", version="1", capture=os.fsdecode(b"a\xff"))
    write_document(value, file)
    assert json.loads(file.getvalue()) == value


def test_a_number_that_json_lacks_is_an_error() -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_document({"a": float("nan")}, io.BytesIO())


# Files that appear whole


def names_in(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_a_file_takes_its_name_once_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")
    with replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert names_in(tmp_path) == ["report.json"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_file_that_fails_leaves_the_old_one_and_nothing_else(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")

    def attempt() -> None:
        with replacing(path) as file:
            file.write(b"new")
            raise error

    with pytest.raises(error):
        attempt()
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["report.json"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "there" / "file")
    with replacing(link) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert (tmp_path / "there" / "file").read_bytes() == b"new"


def test_what_is_no_regular_file_is_written_directly() -> None:
    with replacing(os.devnull) as file:
        file.write(b"new")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_a_file_has_the_rights_that_any_new_file_has(tmp_path: Path) -> None:
    with replacing(tmp_path / "mine"):
        pass
    (tmp_path / "other").touch()
    assert (tmp_path / "mine").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize("name", ["missing/report.json", "."])
def test_a_name_that_cannot_be_written_is_named_as_it_was_given(tmp_path: Path, name: str) -> None:
    def attempt(path: Any) -> None:
        with replacing(path):
            pytest.fail("it was opened")

    with pytest.raises(OSError, match=r"No such file|Is a directory") as refused:
        attempt(tmp_path / name)
    assert refused.value.filename == os.fspath(tmp_path / name)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize("opened", [replacing, writing])
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_a_write_that_is_refused_names_its_own_file(tmp_path: Path, opened: Any, size: int) -> None:
    with (
        open(tmp_path / "other", "wb") as other,
        pytest.raises(OSError, match="No space") as refused,
    ):
        with opened("/dev/full") as file:
            other.write(b"fine")
            file.write(bytes(size))
    assert (refused.value.errno, refused.value.filename) == (errno.ENOSPC, "/dev/full")


@pytest.mark.parametrize("opened", [replacing, writing])
def test_what_a_full_disk_leaves_empty_is_removed_where_it_was_made(
    tmp_path: Path, opened: Any
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    (tmp_path / "older").write_bytes(b"1")
    for name in ("older", "new"):
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
            with pytest.raises(OSError, match="File too large"):
                with opened(tmp_path / name) as file:
                    file.write(b"42")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [each.name for each in tmp_path.iterdir()] == ["older"]


def test_what_is_no_file_is_written_directly(tmp_path: Path) -> None:
    # As /dev/stdout is where that is a pipe: the link's text names nothing that could be opened.
    ours, theirs = os.pipe()
    link = tmp_path / "link"
    link.symlink_to(f"/dev/fd/{theirs}")
    with replacing(link) as file:
        file.write(b"42")
    os.close(theirs)
    with open(ours, "rb") as pipe:
        assert pipe.read() == b"42"


def test_an_error_of_the_block_is_not_taken_for_the_files(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="elsewhere") as raised:
        with replacing(tmp_path / "report.json"):
            raise OSError(errno.ENOSPC, "elsewhere")
    assert raised.value.filename is None


def test_a_pipe_that_nobody_reads_stays_a_broken_pipe() -> None:
    with pytest.raises(BrokenPipeError) as broken, naming("report.json"):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")
    assert broken.value.filename == "report.json"


def test_a_disk_that_is_full_is_named_as_the_file_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    path = tmp_path / "run.json"
    with pytest.raises(OSError, match="No space left") as caught:
        with replacing(path) as file:
            file.write(b"42")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    assert list(tmp_path.iterdir()) == []


def test_an_error_that_names_its_own_file_keeps_it(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(FileNotFoundError) as caught:
        with replacing(tmp_path / "run.json"):
            missing.read_bytes()
    assert caught.value.filename == str(missing)
