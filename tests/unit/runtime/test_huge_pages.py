"""Huge pages: the blocks that ask for them, the kernel's figures, and the report."""

from __future__ import annotations

import doctest
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import velox
from tests.support import Array, inside, orders
from velox import BundleRing, OrderBook, Pipeline, PipelineConfig, ReportRing, TransactionRing
from velox.errors import BookError, ConfigError, RingError
from velox.runtime import huge_pages as module
from velox.runtime.huge_pages import HugePages, granted_bytes, look

MIB = 1 << 20
HUGE_PAGE = 2 * MIB
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="huge pages are asked for on Linux")
every_ring = pytest.mark.parametrize("ring_type", [TransactionRing, BundleRing, ReportRing])

# Two mappings that hold blocks, and one that holds other memory.
SMAPS = """\
7f0000000000-7f0000800000 rw-p 00000000 00:00 0
Size:               8192 kB
AnonHugePages:      6144 kB
VmFlags: rd wr mr mw me ac sd hg
7f0001000000-7f0001200000 rw-p 00000000 00:00 0
AnonHugePages:         0 kB
7f0002000000-7f0002200000 rw-p 00000000 00:00 0
AnonHugePages:      2048 kB
"""


def write(root: Path, path: str, text: str) -> None:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")


def machine(root: Path, *, enabled: str | None, smaps: str = SMAPS, status: str = "") -> Path:
    if enabled is not None:
        write(root, "sys/kernel/mm/transparent_hugepage/enabled", enabled + "\n")
    write(root, "proc/self/smaps", smaps)
    write(root, "proc/self/status", status)
    return root


def huge_memory(value: Any) -> list[tuple[int, int]]:
    blocks: list[tuple[int, int]] = value.huge_blocks
    return blocks


# Which blocks ask


@ON_LINUX
@every_ring
def test_a_ring_asks_from_two_mebibytes_on_unless_told(ring_type: Any) -> None:
    assert huge_memory(ring_type()) == []
    large = ring_type(1 << 16)
    ((address, size),) = huge_memory(large)
    assert address % HUGE_PAGE == 0
    assert size == large.memory_bytes >= HUGE_PAGE


@ON_LINUX
@every_ring
def test_a_ring_that_always_asks_takes_whole_huge_pages(ring_type: Any) -> None:
    ring = ring_type(huge_pages="always")
    ((address, size),) = huge_memory(ring)
    assert (address % HUGE_PAGE, size, ring.memory_bytes) == (0, HUGE_PAGE, HUGE_PAGE)


@every_ring
def test_a_ring_that_never_asks_is_as_large_as_its_slots(ring_type: Any) -> None:
    ring = ring_type(1 << 16, huge_pages="never")
    assert huge_memory(ring) == []
    slots = ring_type(1 << 16).memory_bytes
    assert slots <= ring.memory_bytes < slots + (1 << 16)


@ON_LINUX
@pytest.mark.parametrize("options", [{}, {"writers": "n", "base_price": 1000}])
def test_a_book_that_always_asks_does_so_for_each_block_over_a_page(options: Any) -> None:
    plain = OrderBook(4096, **options)
    book = OrderBook(4096, huge_pages="always", **options)
    blocks = huge_memory(book)
    assert blocks
    assert len({address for address, _ in blocks}) == len(blocks)
    assert all(address % HUGE_PAGE == 0 and size % HUGE_PAGE == 0 for address, size in blocks)
    total = sum(size for _, size in blocks)
    # What is left fits a page each: the bitmap's upper words, the top, the rows of a letter.
    assert total < book.memory_bytes <= total + 16 * 4096
    assert huge_memory(plain) == []
    assert plain.memory_bytes < book.memory_bytes


@ON_LINUX
def test_a_large_book_asks_unless_it_never_shall() -> None:
    assert [size for _, size in huge_memory(OrderBook(1 << 18))] == [HUGE_PAGE] * 2
    assert huge_memory(OrderBook(1 << 18, huge_pages="never")) == []


@pytest.mark.parametrize("when", ["auto", "always", "never"])
@pytest.mark.parametrize("options", [{}, {"writers": "n", "base_price": 100, "levels": 4096}])
def test_a_book_is_the_same_on_any_pages(when: Any, options: Any) -> None:
    book, plain = (OrderBook(huge_pages=each, **options) for each in (when, "auto"))
    generator = np.random.default_rng(3)
    flow = orders(3000)
    flow["side"] = generator.integers(0, 2, len(flow))
    flow["price"] = generator.integers(100, 4000, len(flow))
    assert book.apply(flow) == plain.apply(flow)
    assert book.snapshot().tobytes() == plain.snapshot().tobytes()


@every_ring
def test_memory_that_was_used_before_comes_zeroed(ring_type: Any) -> None:
    # A freed block comes back with its old contents; no slot may show them.
    for when in ("always", "never", "auto") * 3:
        ring = ring_type(1024, huge_pages=when)
        items = np.zeros(1024, ring.pop().dtype)
        items.view(np.uint8)[:] = 0xFF
        assert (len(ring), ring.statistics()) == (0, (0, 0, 0))
        assert ring.push(items) == 1024
        assert ring.pop().tobytes() == items.tobytes()


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: TransactionRing(huge_pages="yes"), RingError),  # type: ignore[arg-type]
        (lambda: BundleRing(huge_pages=["always"]), RingError),  # type: ignore[arg-type]
        (lambda: OrderBook(huge_pages=True), BookError),  # type: ignore[arg-type]
        (lambda: PipelineConfig(huge_pages="on"), ConfigError),  # type: ignore[arg-type]
    ],
)
def test_a_choice_that_there_is_not_names_itself(make: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"huge_pages = .*: must be one of 'auto', 'always', 'never'"):
        make()


# What the kernel says


def test_of_a_mapping_no_more_is_counted_than_the_blocks_take_of_it(tmp_path: Path) -> None:
    root = machine(tmp_path, enabled="always [madvise] never")
    first, second, other = 0x7F0000000000, 0x7F0001000000, 0x7F0003000000
    assert granted_bytes([(first, HUGE_PAGE)], root) == HUGE_PAGE
    assert granted_bytes([(first, 4 * MIB), (first + 4 * MIB, 4 * MIB)], root) == 6 * MIB
    assert granted_bytes([(first, HUGE_PAGE), (second, HUGE_PAGE)], root) == HUGE_PAGE
    assert granted_bytes([(other, HUGE_PAGE)], root) == 0
    assert granted_bytes([], root) == 0


@pytest.mark.parametrize("smaps", ["", "7f0000000000-7f0000800000 rw-p 0 00:00 0\nSize: 4 kB\n"])
def test_a_kernel_that_does_not_say_is_not_taken_at_its_word(tmp_path: Path, smaps: str) -> None:
    root = machine(tmp_path, enabled="[always] madvise never", smaps=smaps)
    found = look("always", [(0x7F0000000000, HUGE_PAGE)], root)
    assert found.granted_bytes is None
    assert str(found) == ("always: 2.0 MiB asked for, and the kernel does not say what it granted")
    assert found.refusal is not None
    assert "/proc/self/smaps" in found.refusal


@pytest.mark.parametrize(
    ("enabled", "status", "message"),
    [
        (None, "", "there is no /sys/kernel/mm/transparent_hugepage/enabled"),
        (
            "always madvise [never]",
            "",
            "/sys/kernel/mm/transparent_hugepage/enabled says 'always madvise [never]'",
        ),
        ("always [madvise] never", "THP_enabled:\t0\n", "THP_enabled is 0 in /proc/self/status"),
        ("always [madvise] never", "THP_enabled:\t1\n", "only 2 of 4 MiB could be had"),
    ],
)
def test_a_refusal_says_where_it_was_decided(
    tmp_path: Path, enabled: str | None, status: str, message: str
) -> None:
    root = machine(tmp_path, enabled=enabled, status=status)
    blocks = [(0x7F0000000000, HUGE_PAGE), (0x7F0001000000, HUGE_PAGE)]
    found = look("always", blocks, root)
    assert found.refusal is not None
    assert message in found.refusal
    # Who did not insist is told what came of it, not warned.
    assert look("auto", blocks, root) == HugePages("auto", 2 * HUGE_PAGE, HUGE_PAGE)


def test_what_was_granted_whole_is_no_refusal(tmp_path: Path) -> None:
    root = machine(tmp_path, enabled="always [madvise] never")
    found = look("always", [(0x7F0000000000, HUGE_PAGE)], root)
    assert found == HugePages("always", HUGE_PAGE, HUGE_PAGE)
    assert str(found) == "always: 2.0 of 2.0 MiB asked for were granted"


def test_a_system_without_huge_pages_says_so_where_they_were_insisted_on(tmp_path: Path) -> None:
    found = look("always", [], tmp_path)
    assert (found.asked_bytes, found.granted_bytes) == (0, 0)
    assert found.refusal is not None
    assert "no transparent huge pages" in found.refusal


def test_its_examples_are_true() -> None:
    assert doctest.testmod(module).failed == 0


# In a pipeline


def run(when: Any, tmp_path: Path, **settings: Any) -> tuple[Pipeline, Array]:
    path = tmp_path / f"{when}.npy"
    pipeline = Pipeline(
        velox.ReplayIngress(orders(1000)),
        velox.CaptureOutput(path),
        config=PipelineConfig(placement="invoker", huge_pages=when, **settings),
    )
    pipeline.run()
    return pipeline, inside(np.load(path))


@ON_LINUX
def test_a_pipeline_reports_what_its_rings_and_books_asked_for(tmp_path: Path) -> None:
    pipeline, delivered = run("always", tmp_path)
    parts = [*(each.ring for each in pipeline.ingresses), pipeline.output.ring]
    parts += pipeline.books.values()
    asked = sum(size for part in parts for _, size in huge_memory(part))
    report = pipeline.report()
    # And the ring between book and bundles.
    assert report.huge_pages.asked_bytes == asked + HUGE_PAGE
    found = report.to_dict()["huge_pages"]
    assert found["when"] == "always"
    granted = found["granted_bytes"]
    assert granted is None or 0 <= granted <= found["asked_bytes"]
    refusal = report.huge_pages.refusal
    assert (refusal is None) == (granted == found["asked_bytes"])
    assert (refusal in report.warnings) == (refusal is not None)
    assert np.array_equal(delivered["id"], np.arange(1, 1001, dtype=np.uint64))


@pytest.mark.parametrize("when", ["auto", "never"])
def test_a_pipeline_of_small_blocks_asks_for_none_unless_told(when: Any, tmp_path: Path) -> None:
    pipeline, delivered = run(when, tmp_path)
    assert pipeline.report().to_dict()["huge_pages"] == {
        "when": when,
        "asked_bytes": 0,
        "granted_bytes": 0,
    }
    assert pipeline.warnings == pipeline.plan.warnings
    assert len(delivered) == 1000


def test_books_that_were_given_keep_their_own_choice(tmp_path: Path) -> None:
    book = OrderBook(huge_pages="never")
    pipeline = Pipeline(
        velox.ReplayIngress(orders(1)),
        books=book,
        config=PipelineConfig(placement="invoker", huge_pages="always"),
    )
    assert huge_memory(pipeline.books[0]) == []
