"""Captures: complete after every stop, and recovered after every kind of crash."""

from __future__ import annotations

import errno
import gc
import io
import os
import resource
import signal
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import assert_adds_up, compiled, inside, numbered_bundles, orders, refused
from velox import (
    BUNDLE_DTYPE,
    CaptureOutput,
    Pipeline,
    PipelineConfig,
    PushIngress,
    ReplayIngress,
    recover_capture,
)
from velox.errors import CaptureError, VeloxError
from velox.runtime.capture import HEADER_BYTES, begin_capture, finish_capture, header

BUNDLE_BYTES = BUNDLE_DTYPE.itemsize
INVOKER = PipelineConfig(placement="invoker")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="there is no /dev/full elsewhere")


def captured(path: Path, count: int) -> Path:
    """A finished capture of bundles that differ."""
    file = begin_capture(path)
    file.write(numbered_bundles(count).tobytes())
    finish_capture(file, path, count)
    return path


@contextmanager
def files_no_longer_than(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# A run in order


def test_a_capture_is_a_npy_file_that_numpy_maps(tmp_path: Path) -> None:
    path = tmp_path / "run.npy"
    report = Pipeline(ReplayIngress(orders(100)), CaptureOutput(path), config=INVOKER).run()
    for bundles in (np.load(path), np.load(path, mmap_mode="r")):
        assert bundles.dtype == BUNDLE_DTYPE
        assert inside(bundles)["id"].tolist() == list(range(1, 101))
        assert len(bundles) == report.ledger.delivered_bundles == 7
    assert path.stat().st_size == HEADER_BYTES + 7 * BUNDLE_BYTES


def test_the_data_begins_where_numpy_wants_it_aligned() -> None:
    assert HEADER_BYTES % np.lib.format.ARRAY_ALIGN == 0
    for count in (0, 1, 10**6, 2**63 - 1):
        text = header(count)
        assert len(text) == HEADER_BYTES
        stream = io.BytesIO(text)
        assert np.lib.format.read_magic(stream) == (1, 0)
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
        assert (shape, fortran, dtype) == ((count,), False, BUNDLE_DTYPE)


def test_a_run_of_nothing_is_an_empty_capture(tmp_path: Path) -> None:
    path = tmp_path / "none.npy"
    Pipeline(ReplayIngress(orders(0)), CaptureOutput(path), config=INVOKER).run()
    assert np.load(path).shape == (0,)
    assert recover_capture(path) == 0


def test_an_older_capture_is_replaced(tmp_path: Path) -> None:
    path = captured(tmp_path / "run.npy", 50)
    Pipeline(ReplayIngress(orders(16)), CaptureOutput(str(path)), config=INVOKER).run()
    assert len(np.load(path)) == 1


def test_a_capture_of_a_pipeline_that_never_starts_touches_nothing(tmp_path: Path) -> None:
    path = captured(tmp_path / "run.npy", 5)
    before = path.read_bytes()
    Pipeline(ReplayIngress(orders(16)), CaptureOutput(path), config=INVOKER)
    assert path.read_bytes() == before


# Recovery


@pytest.mark.parametrize("promised", [0, 3, 10**9])
@pytest.mark.parametrize("cut", [0, 1, 7, 8, 511, 512, 515, 520, 527])
@pytest.mark.parametrize("whole", [0, 1, 2])
def test_a_capture_that_was_cut_anywhere_keeps_its_whole_bundles(
    tmp_path: Path, promised: int, cut: int, whole: int
) -> None:
    path = tmp_path / "cut.npy"
    data = header(promised) + numbered_bundles(3).tobytes()
    path.write_bytes(data[: HEADER_BYTES + whole * BUNDLE_BYTES + cut])
    assert recover_capture(path) == whole
    assert np.load(path).tobytes() == numbered_bundles(whole).tobytes()
    assert path.stat().st_size == HEADER_BYTES + whole * BUNDLE_BYTES
    assert recover_capture(path) == whole


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(length=st.integers(0, HEADER_BYTES + 3 * BUNDLE_BYTES))
def test_a_capture_cut_at_any_byte_is_recovered_or_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "cut.npy"
    data = (header(0) + numbered_bundles(3).tobytes())[:length]
    path.write_bytes(data)
    if length < HEADER_BYTES:
        with refused(CaptureError, path=str(path), errno=None):
            recover_capture(path)
        assert path.read_bytes() == data
        return
    whole = (length - HEADER_BYTES) // BUNDLE_BYTES
    assert recover_capture(path) == whole
    assert np.load(path).tobytes() == numbered_bundles(whole).tobytes()


def test_a_whole_capture_stays_as_it_is(tmp_path: Path) -> None:
    path = captured(tmp_path / "run.npy", 20)
    before, modified = path.read_bytes(), path.stat().st_mtime_ns
    assert recover_capture(path) == 20
    assert path.read_bytes() == before
    assert path.stat().st_mtime_ns == modified


@pytest.mark.parametrize("field", ["count", "reason"])
def test_what_a_crash_left_unwritten_is_cut_off(tmp_path: Path, field: str) -> None:
    path = tmp_path / "crash.npy"
    bundles = numbered_bundles(8)
    if field == "count":
        bundles[5:] = np.zeros(3, BUNDLE_DTYPE)
    else:
        bundles["reason"][5] = 77
    path.write_bytes(header(0) + bundles.tobytes())
    assert recover_capture(path) == 5
    assert np.load(path).tobytes() == numbered_bundles(5).tobytes()


def test_a_killed_run_loses_at_most_the_bundle_that_was_being_written(tmp_path: Path) -> None:
    path = tmp_path / "killed.npy"
    program = textwrap.dedent("""
        import sys, velox
        pipeline = velox.Pipeline(
            velox.PoissonIngress(rate="max", seed=3), velox.CaptureOutput(sys.argv[1]),
            config=velox.PipelineConfig(placement="shared", idle="yield"))
        pipeline.start()
        while pipeline.statistics().delivered_bundles < 200:
            pass
        print(pipeline.statistics().delivered_bundles, flush=True)
        sys.stdin.read()
    """)
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout is not None
        delivered = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    assert np.load(path).shape == (0,)
    assert recover_capture(path) >= delivered >= 200
    bundles = np.load(path, mmap_mode="r")
    ids = inside(bundles)["id"]
    assert np.array_equal(ids, np.arange(ids[0], ids[0] + len(ids)))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        b"not a capture" * 200,
        header(0)[:-1],
        b"\0" * HEADER_BYTES,
        header(0).replace(b"'count'", b"'COUNT'"),
        header(0).replace(b"(0,)", b"(-1,)").replace(b" \n", b"\n", 1),
        header(0).replace(b"(0,)", b"(\xb2,)"),
        header(0).replace(b"(0,)", b"( ,)"),
        header(0).replace(b"(0,)", b"(0,) # ")[:HEADER_BYTES],
    ],
)
def test_what_is_no_capture_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.npy"
    path.write_bytes(content)
    with refused(CaptureError, path=str(path), errno=None):
        recover_capture(path)
    assert path.read_bytes() == content


def test_another_npy_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "transactions.npy"
    np.save(path, orders(100))
    before = path.read_bytes()
    with refused(CaptureError, path=str(path), errno=None):
        recover_capture(path)
    assert path.read_bytes() == before


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, HEADER_BYTES - 1), value=st.integers(0, 255))
def test_a_damaged_header_never_ends_in_anything_but_a_capture_error(
    tmp_path: Path, position: int, value: int
) -> None:
    path = tmp_path / "damaged.npy"
    head = bytearray(header(2))
    head[position] = value
    path.write_bytes(bytes(head) + numbered_bundles(2).tobytes())
    try:
        assert recover_capture(path) == 2
    except CaptureError:
        return
    assert np.load(path).tobytes() == numbered_bundles(2).tobytes()


def test_a_capture_that_is_not_there_is_an_error_with_its_number(tmp_path: Path) -> None:
    with pytest.raises(CaptureError) as raised:
        recover_capture(tmp_path / "absent.npy")
    assert raised.value.errno == errno.ENOENT
    assert isinstance(raised.value.__cause__, FileNotFoundError)
    assert isinstance(raised.value, VeloxError)
    with pytest.raises(CaptureError) as raised:
        recover_capture(tmp_path)
    assert raised.value.errno == errno.EISDIR


# What the system refuses


def test_a_path_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    pipeline = Pipeline(
        PushIngress(),
        CaptureOutput(tmp_path / "no such folder" / "run.npy"),
        config=PipelineConfig(placement="shared"),
    )
    with pytest.raises(CaptureError, match="no such folder") as raised:
        pipeline.start()
    assert raised.value.errno == errno.ENOENT
    assert pipeline.state == "stopped"
    pipeline.stop()


def test_a_failed_start_leaves_the_books_free(tmp_path: Path) -> None:
    pipeline = Pipeline(ReplayIngress(orders(1)), CaptureOutput(tmp_path), config=INVOKER)
    with pytest.raises(CaptureError):
        pipeline.start()
    assert pipeline.books[0].apply(orders(3)).applied == 3


@LINUX
def test_a_full_disk_is_refused_at_the_start_where_not_even_the_header_fits() -> None:
    pipeline = Pipeline(ReplayIngress(orders(1)), CaptureOutput("/dev/full"), config=INVOKER)
    with pytest.raises(CaptureError) as raised:
        pipeline.start()
    assert raised.value.errno == errno.ENOSPC


@LINUX
def test_a_refused_start_leaves_no_file_open() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with suppress(CaptureError):
            begin_capture("/dev/full")
        gc.collect()
    assert [str(each.message) for each in caught] == []


def test_what_cannot_be_cut_to_length_is_a_capture_error() -> None:
    with pytest.raises(CaptureError):
        Pipeline(ReplayIngress(orders(99)), CaptureOutput(os.devnull), config=INVOKER).run()


@pytest.mark.parametrize("size", [100, HEADER_BYTES - 1])
def test_a_disk_that_fills_within_the_header_is_refused_at_the_start(
    tmp_path: Path, size: int
) -> None:
    output = CaptureOutput(tmp_path / "run.npy")
    pipeline = Pipeline(ReplayIngress(orders(100)), output, config=INVOKER)
    with files_no_longer_than(size), pytest.raises(CaptureError) as raised:
        pipeline.start()
    assert raised.value.errno == errno.EFBIG
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("whole", [0, 1, 5])
@pytest.mark.parametrize("extra", [0, 1, 527])
@pytest.mark.parametrize("placement", ["invoker", "shared"])
def test_a_disk_that_fills_keeps_the_whole_bundles_and_counts_the_rest(
    tmp_path: Path, whole: int, extra: int, placement: str
) -> None:
    path = tmp_path / "run.npy"
    config = PipelineConfig(placement=placement, idle="yield", transaction_capacity=1024)
    pipeline = Pipeline(ReplayIngress(orders(50_000)), CaptureOutput(path), config=config)
    with (
        files_no_longer_than(HEADER_BYTES + whole * BUNDLE_BYTES + extra),
        refused(CaptureError, bundles=whole, number=errno.EFBIG) as raised,
    ):
        pipeline.run()
    assert raised.value.errno == errno.EFBIG
    assert_adds_up(pipeline)
    ledger = pipeline.report().ledger
    assert ledger.delivered_bundles == whole
    assert ledger.undelivered_bundles > 0
    assert ledger.undelivered_transactions > 0
    # The failure stops the flow, long before its end.
    assert ledger.generated < 50_000
    bundles = np.load(path)
    assert len(bundles) == recover_capture(path) == whole
    assert inside(bundles)["id"].tolist() == list(range(1, 16 * whole + 1))


WRITES_NOTHING = """\
#define _DEFAULT_SOURCE
#include <sys/types.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Takes everything but bundles, and says of these that none of it was written. */
ssize_t write(int descriptor, const void *bytes, size_t size)
{
    return size % 528 == 0 ? 0 : syscall(SYS_write, descriptor, bytes, size);
}
"""
RUNS_INTO_IT = """\
import errno, sys
from velox import CaptureOutput, MarketFlow, Pipeline, PipelineConfig, ReplayIngress
from velox.errors import CaptureError

invoker = PipelineConfig(placement="invoker")
replay = ReplayIngress(MarketFlow(1).generate(100))
pipeline = Pipeline(replay, CaptureOutput(sys.argv[1]), config=invoker)
try:
    pipeline.run()
except CaptureError as error:
    assert error.errno == errno.EIO, error
    print("EIO", pipeline.ledger().delivered_bundles)
"""


@LINUX
def test_a_write_that_writes_nothing_is_a_failure_and_not_tried_for_ever(tmp_path: Path) -> None:
    source = tmp_path / "nothing.c"
    source.write_text(WRITES_NOTHING)
    compiled(source, tmp_path)
    ran = subprocess.run(
        [sys.executable, "-c", RUNS_INTO_IT, str(tmp_path / "flow.npy")],
        env={**os.environ, "LD_PRELOAD": str(tmp_path / "nothing.so")},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert ran.stdout == "EIO 0\n", ran.stderr


def test_a_capture_that_failed_carries_the_systems_error_as_its_cause(tmp_path: Path) -> None:
    pipeline = Pipeline(
        ReplayIngress(orders(100)), CaptureOutput(tmp_path / "run.npy"), config=INVOKER
    )
    with files_no_longer_than(HEADER_BYTES), pytest.raises(CaptureError) as raised:
        pipeline.run()
    assert isinstance(raised.value.__cause__, OSError)
    assert raised.value.__cause__.errno == errno.EFBIG


def test_a_capture_is_whole_though_the_block_was_left_by_an_exception(tmp_path: Path) -> None:
    path = tmp_path / "run.npy"
    ingress = PushIngress()
    config = PipelineConfig(placement="shared", idle="yield")
    with (
        suppress(ZeroDivisionError),
        Pipeline(ingress, CaptureOutput(path), config=config),
    ):
        ingress.push(orders(40))
        raise ZeroDivisionError
    assert inside(np.load(path))["id"].tolist() == list(range(1, 41))


def test_a_path_is_text_or_a_path() -> None:
    assert CaptureOutput(Path("a.npy")).path == os.fspath(Path("a.npy"))
    with pytest.raises(TypeError):
        CaptureOutput(5)  # type: ignore[arg-type]
