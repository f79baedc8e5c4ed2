"""After any crash a journal has every signed transaction, or it is refused."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from solders.hash import Hash
from solders.pubkey import Pubkey
from solders.signature import Signature

from tests.support import orders
from velox.errors import JournalError
from velox.solana.journal.file import MAGIC, SubmissionJournal, read_journal
from velox.solana.journal.records import RESTING_DTYPE, Capture, Ended, Header, pack_record
from velox.solana.journal.state import JournalState
from velox.solana.orders.in_flight import Signed
from velox.solana.orders.outcomes import Outcome

HEADER = Header(Pubkey.new_unique(), Hash.new_unique())


def signed(number: int, count: int = 3, attempt: int = 1) -> Signed:
    raw = b"\x01" + bytes(Signature.new_unique()) + bytes(range(100))
    return Signed(
        orders=orders(count),
        places=orders(count + 1),
        cancels=(7, 8),
        number=number,
        attempt=attempt,
        last_valid_block_height=1000 + number,
        blockhash=Hash.new_unique(),
        raw=raw,
    )


def rests(*sequences: int) -> Any:
    rows = np.zeros(len(sequences), RESTING_DTYPE)
    rows["sequence"], rows["market"], rows["lots"] = sequences, 2, 5
    return rows


def same(one: Signed, other: Signed) -> bool:
    return (
        pack_record(one) == pack_record(other)
        and one.signature == other.signature
        and one.orders.tolist() == other.orders.tolist()
    )


def written(path: Path) -> list[int]:
    """A journal of five commits, and the sizes that the file had after each."""
    sizes = []
    with SubmissionJournal(path) as journal:
        for record in (
            HEADER,
            signed(0),
            signed(1),
            Ended(0, Outcome.LANDED, 77, rests=rests(5, 6)),
            Ended(1, Outcome.FAILED, 78, "Custom(6)", gone=((2, 5),)),
        ):
            journal.append(record)
            journal.commit()
            sizes.append(journal.size)
    return sizes


def test_what_was_committed_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    first, second = signed(0), signed(1, attempt=2)
    with SubmissionJournal(path) as journal:
        for record in (HEADER, first, second, Ended(0, Outcome.LANDED, 9, rests=rests(4, 5))):
            journal.append(record)
        journal.commit()
        journal.append(Ended(1, Outcome.EXPIRED, gone=((2, 4), (2, 99))))
    for found in (SubmissionJournal(path).state, read_journal(path)):
        assert found.header == HEADER
        assert list(found.transactions) == [1]
        assert same(found.transactions[1], second)
        assert found.ended == {Outcome.LANDED: 1}
        assert list(found.resting) == [(2, 4), (2, 5)]
        assert found.next_number == 2


def test_a_capture_that_was_begun_is_remembered(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    first, second = Capture(b"\x01" * 32, 7), Capture(b"\x02" * 32, 2**40)
    with SubmissionJournal(path) as journal:
        for record in (HEADER, first, second, first):
            journal.append(record)
            journal.commit()
    assert read_journal(path).captures == {first.digest: 7, second.digest: 2**40}
    # This also holds through a compaction.
    with SubmissionJournal(path, compact_bytes=1000) as journal:
        for number in range(100):
            journal.append(signed(number))
            journal.append(Ended(number, Outcome.LANDED, 9))
            journal.commit()
        assert journal.size < 50_000
    assert read_journal(path).captures == {first.digest: 7, second.digest: 2**40}


def test_an_order_that_was_cancelled_no_longer_rests(tmp_path: Path) -> None:
    written(tmp_path / "journal")
    found = read_journal(tmp_path / "journal")
    assert list(found.resting) == [(2, 6)]
    assert found.ended == {Outcome.LANDED: 1, Outcome.FAILED: 1}
    assert found.transactions == {}


def test_a_journal_is_its_owners_alone(tmp_path: Path) -> None:
    SubmissionJournal(tmp_path / "journal").close()
    assert stat.S_IMODE(os.stat(tmp_path / "journal").st_mode) == 0o600


def test_a_journal_cut_anywhere_keeps_the_whole_frames(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    sizes = written(path)
    whole = path.read_bytes()
    around = {each + step for each in (0, *sizes) for step in (-1, 0, 1, 11, 12, 13)}
    for size in sorted(around.intersection(range(len(whole)))):
        path.write_bytes(whole[:size])
        with SubmissionJournal(path) as journal:
            assert journal.size == max((each for each in sizes if each <= size), default=0)
            assert journal.torn_bytes == size - journal.size
            if journal.size >= sizes[0]:
                number = journal.state.next_number
                journal.append(signed(number))
                journal.commit()
        if size >= sizes[0]:
            assert number in read_journal(path).transactions


def test_zeros_after_the_last_frame_are_a_torn_end(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    sizes = written(path)
    with path.open("ab") as file:
        file.write(bytes(4096))
    with SubmissionJournal(path) as journal:
        assert journal.size == sizes[-1]


def test_what_is_cut_off_is_kept_beside_the_journal(tmp_path: Path) -> None:
    path, link = tmp_path / "journal", tmp_path / "link"
    sizes = written(path)
    link.symlink_to(path)
    whole = path.read_bytes()
    for damaged in range(3):
        # The last frame, which may have been sent, is damaged by the disk.
        path.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1 << damaged]) + whole[-2:])
        with SubmissionJournal(link) as journal:
            torn = Path(journal.torn_path or "")
            assert torn.name == "journal.torn" + ("", ".1", ".2")[damaged]
            assert journal.torn_bytes == len(whole) - sizes[-2]
            assert path.read_bytes() + torn.read_bytes() == (
                whole[:-3] + bytes([whole[-3] ^ 1 << damaged]) + whole[-2:]
            )
            assert stat.S_IMODE(torn.stat().st_mode) == 0o600
    with SubmissionJournal(path) as journal:
        assert (journal.torn_bytes, journal.torn_path) == (0, None)


@pytest.mark.parametrize("call", ["open", "pwrite", "fsync"])
def test_what_cannot_be_kept_is_not_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "journal"
    written(path)
    damaged = path.read_bytes()[:-1]
    path.write_bytes(damaged)
    real = getattr(os, call)

    def fails(*arguments: Any, **named: Any) -> Any:
        name = arguments[0]
        if isinstance(name, int):
            name = os.readlink(f"/proc/self/fd/{name}")
        if os.fspath(name).endswith(".torn"):
            raise OSError(28, "No space left on device")
        return real(*arguments, **named)

    monkeypatch.setattr(os, call, fails)
    with pytest.raises(JournalError) as caught:
        SubmissionJournal(path)
    assert caught.value.path == str(path.with_name("journal.torn"))
    monkeypatch.undo()
    assert path.read_bytes() == damaged
    assert os.listdir(tmp_path) == ["journal"]
    with SubmissionJournal(path) as journal:
        assert journal.torn_bytes


def test_damage_before_a_good_frame_is_refused_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    sizes = written(path)
    whole = path.read_bytes()
    for at in range(sizes[0], sizes[3]):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :])
        with pytest.raises(JournalError) as caught:
            SubmissionJournal(path)
        assert caught.value.offset == max(each for each in sizes if each <= at)
        assert caught.value.path == str(path)


def test_a_file_of_something_else_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("remember the milk")
    with pytest.raises(JournalError, match="not a submission journal") as caught:
        SubmissionJournal(path)
    assert caught.value.offset == 0
    assert path.read_text() == "remember the milk"


def test_two_processes_do_not_share_a_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    program = (
        "import sys\nfrom velox.errors import JournalError\n"
        "from velox.solana.journal.file import SubmissionJournal\n"
        "try:\n    SubmissionJournal(sys.argv[1])\n"
        "except JournalError as error:\n    sys.exit(str(error))\n"
    )
    with SubmissionJournal(path):
        ran = subprocess.run(
            [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False
        )
    assert (ran.returncode, ran.stderr.strip()) == (1, f"{path}: another process has it open")
    SubmissionJournal(path).close()


def test_a_commit_of_any_length_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("velox.solana.journal.file.MAX_FRAME_BYTES", 2000)
    path = tmp_path / "journal"
    with SubmissionJournal(path) as journal:
        journal.append(HEADER)
        for number in range(20):
            journal.append(signed(number))
        journal.commit()
        assert path.stat().st_size == journal.size
    found = read_journal(path)
    assert len(found.transactions) == 20
    assert found.header == HEADER


def test_names_of_ended_transactions_are_known_while_their_bytes_could_land(tmp_path: Path) -> None:
    with SubmissionJournal(tmp_path / "journal") as journal:
        for number in range(3000):
            record = signed(number, count=1)
            journal.append(record)
            journal.append(Ended(number, Outcome.LANDED, 5))
            assert journal.state.recent[record.signature] == 1000 + number
        journal.commit()
        assert len(journal.state.recent) < 2048
    assert read_journal(tmp_path / "journal").recent == journal.state.recent


@pytest.mark.parametrize("name", ["missing/journal", "."])
def test_a_journal_that_cannot_be_opened_says_where(tmp_path: Path, name: str) -> None:
    with pytest.raises(JournalError) as caught:
        SubmissionJournal(tmp_path / name)
    assert caught.value.path == str(tmp_path / name)
    with pytest.raises(JournalError):
        read_journal(tmp_path / name)


def test_after_a_failed_write_nothing_more_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = SubmissionJournal(tmp_path / "journal")

    def fails(fd: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fails)
        journal.append(HEADER)
        with pytest.raises(JournalError) as caught:
            journal.commit()
        assert (caught.value.path, caught.value.errno) == (journal.path, errno.EIO)
    with pytest.raises(JournalError, match="an earlier write failed"):
        journal.commit()


@pytest.mark.parametrize(
    ("records", "why"),
    [
        ([HEADER, HEADER], "second header"),
        ([signed(3), signed(3)], "occurs twice"),
        ([Ended(5, Outcome.LANDED)], "not in flight"),
        ([signed(1), Ended(1, Outcome.LANDED), Ended(1, Outcome.LANDED)], "not in flight"),
    ],
)
def test_records_that_contradict_each_other_are_refused(
    tmp_path: Path, records: list[Any], why: str
) -> None:
    journal = SubmissionJournal(tmp_path / "journal")
    with pytest.raises(JournalError, match=why):
        for record in records:
            journal.append(record)


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_a_journal_or_a_typed_error(data: bytes, framed: bool) -> None:
    from velox.solana.journal.file import _FRAME, _replay  # noqa: PLC0415

    if framed and data:
        import zlib  # noqa: PLC0415

        data = _FRAME.pack(MAGIC, len(data), zlib.crc32(data)) + data
    try:
        found, good = _replay(data, "journal")
    except JournalError:
        return
    assert isinstance(found, JournalState)
    assert 0 <= good <= len(data)


# Compaction


def compacted(path: Path, count: int = 40) -> SubmissionJournal:
    """A compacted journal of `count` transactions, the last two of them in flight."""
    journal = SubmissionJournal(path, compact_bytes=4096)
    journal.append(HEADER)
    for number in range(count):
        journal.append(signed(number))
        if number < count - 2:
            gone = ((2, 100 + number - 1),)
            journal.append(Ended(number, Outcome.LANDED, 9, "", rests(100 + number), gone))
        journal.commit()
    return journal


def test_a_journal_that_grows_is_compacted_and_knows_what_it_knew(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = compacted(path, 400)
    assert journal.size == path.stat().st_size < 150_000
    known = journal.state
    journal.close()
    found = read_journal(path)
    assert found.header == HEADER
    assert list(found.transactions) == [398, 399]
    assert all(same(found.transactions[each], known.transactions[each]) for each in (398, 399))
    assert found.ended == {Outcome.LANDED: 398}
    assert list(found.resting) == [(2, 497)]
    assert found.next_number == 400
    assert set(found.recent) >= {name for name, last in known.recent.items() if last >= 1099}
    assert os.listdir(tmp_path) == ["journal"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with SubmissionJournal(path) as again:
        again.append(Ended(398, Outcome.FAILED))
        again.append(signed(400))
        again.commit()
    assert list(read_journal(path).transactions) == [399, 400]


def test_a_compacted_journal_is_as_locked_as_the_first(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with compacted(path), pytest.raises(JournalError, match="another process has it open"):
        SubmissionJournal(path)
    SubmissionJournal(path).close()


def test_a_link_stays_a_link_to_the_compacted_journal(tmp_path: Path) -> None:
    folder, link = tmp_path / "disk", tmp_path / "journal"
    folder.mkdir()
    link.symlink_to(folder / "journal")
    compacted(link).close()
    assert link.is_symlink()
    assert os.listdir(folder) == ["journal"]
    assert read_journal(folder / "journal").next_number == 40


@pytest.mark.parametrize("call", ["open", "pwrite", "fsync", "replace"])
def test_a_compaction_that_fails_leaves_the_long_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "journal"
    journal = SubmissionJournal(path, compact_bytes=4096)
    journal.append(HEADER)
    real, news = getattr(os, call), []

    def fails(*arguments: Any, **named: Any) -> Any:
        name = arguments[0]
        if isinstance(name, int):
            name = os.readlink(f"/proc/self/fd/{name}")
        if not os.fspath(name).endswith(".compact"):
            return real(*arguments, **named)
        news.append(name)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fails)
    for number in range(100):
        journal.append(signed(number))
        journal.append(Ended(number, Outcome.LANDED, 9))
        journal.commit()
    # Compaction was tried, but not at each commit.
    assert 1 <= len(news) < 10
    monkeypatch.undo()
    assert journal.size > 4096
    assert os.listdir(tmp_path) == ["journal"]
    journal.close()
    assert read_journal(path).ended == {Outcome.LANDED: 100}


def test_a_directory_that_cannot_be_synced_takes_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = SubmissionJournal(tmp_path / "journal", compact_bytes=1000)
    real = os.fsync

    def fails(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(5, "Input/output error")
        real(fd)

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(JournalError, match="an earlier write failed"):
        for number in range(100):
            journal.append(signed(number))
            journal.append(Ended(number, Outcome.LANDED, 9))
            journal.commit()
    journal.close()


def test_what_a_crash_left_of_a_compaction_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with SubmissionJournal(path) as journal:
        journal.append(HEADER)
        journal.commit()
    (tmp_path / "journal.compact").write_bytes(path.read_bytes()[:7])
    with SubmissionJournal(path) as journal:
        assert journal.state.header == HEADER
    assert os.listdir(tmp_path) == ["journal"]


@given(
    st.lists(st.sampled_from(["sign", "land", "fail", "expire"]), max_size=60),
    st.integers(200, 20_000),
)
def test_compacted_or_not_a_journal_knows_the_same(
    tmp_path_factory: Any, moves: list[str], compact_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    both = [
        SubmissionJournal(folder / "whole"),
        SubmissionJournal(folder / "short", compact_bytes=compact_bytes),
    ]
    under_way: list[int] = []
    number = 0
    for move in moves:
        if move == "sign":
            record: Any = signed(number)
            under_way.append(number)
            number += 1
        elif under_way:
            left = rests(500 + number) if move == "land" else rests()
            outcome = {"land": Outcome.LANDED, "fail": Outcome.FAILED}.get(move, Outcome.EXPIRED)
            record = Ended(under_way.pop(0), outcome, 9, "", left, ((2, 499 + number),))
        else:
            continue
        for journal in both:
            journal.append(record)
            journal.commit()
    for journal in both:
        journal.close()
    whole, short = read_journal(folder / "whole"), read_journal(folder / "short")
    assert [pack_record(each) for each in whole.transactions.values()] == [
        pack_record(each) for each in short.transactions.values()
    ]
    assert (whole.ended, whole.next_number) == (short.ended, short.next_number)
    assert list(whole.resting) == list(short.resting)
    assert whole.recent == short.recent
