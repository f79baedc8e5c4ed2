"""A node that lies or lags is refused or survived, and the next process on the journal goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from solders.hash import Hash

from tests.support import orders
from tests.unit.solana.orders.test_queue import ADD, CANCEL
from velox.errors import EndpointRefusedError, JournalError, RateLimitedError, RpcError
from velox.solana.journal.file import SubmissionJournal, read_journal
from velox.solana.journal.records import Ended
from velox.solana.net.address import Address, require_loopback
from velox.solana.net.answer import Peer
from velox.solana.net.transport import HttpRequest, HttpResponse
from velox.solana.orders.in_flight import Signed, reason_of
from velox.solana.orders.outcomes import Outcome
from velox.testing.transport import method_of

from .markets import PROGRAMS, TICK, Trader, market_of

PRICE = 14_000 * TICK
FAR = 10**12


def changed(method: str, change: Any, *, once: bool = False) -> Any:
    """A handler that changes the results of one method."""
    done = []

    def handler(request: HttpRequest, forward: Any) -> HttpResponse:
        response: HttpResponse = forward()
        if method_of(request) != method or (once and done):
            return response
        document = json.loads(response.content)
        if change(document.get("result")):
            done.append(True)
        return replace(response, content=json.dumps(document).encode())

    return handler


@PROGRAMS
def test_a_false_slot_of_a_status_blinds_nobody(program: str, tmp_path: Path) -> None:
    def lie(result: Any) -> bool:
        for status in result["value"]:
            if status is not None:
                status["slot"] = FAR
                return True
        return False

    with market_of(program) as cluster:
        trader = Trader(cluster, tmp_path / "journal", options={"on_exit": "leave"})
        trader.network.handler = changed("getSignatureStatuses", lie, once=True)
        trader.send((ADD, 1, PRICE, 5, 0, 0))
        assert trader.outcomes() == {Outcome.LANDED: 1}
        assert "ahead of the chain" in trader.submitter.statistics().last_error
        assert read_journal(tmp_path / "journal").slot < FAR
        trader.abandon()
        after = Trader(cluster, tmp_path / "journal", signer=trader.signer)
        after.send((CANCEL, 1, PRICE, 5, 0, 0))
        assert after.resting == []
        after.abandon()


def test_a_journal_with_a_false_slot_is_usable(tmp_path: Path) -> None:
    with market_of("box") as cluster:
        trader = Trader(cluster, tmp_path / "journal", options={"on_exit": "leave"})
        trader.send((ADD, 1, PRICE, 5, 0, 0))
        trader.abandon()
        with SubmissionJournal(tmp_path / "journal") as journal:
            number = journal.state.next_number
            journal.append(
                Signed(
                    orders=orders(1),
                    places=orders(0),
                    number=number,
                    attempt=1,
                    last_valid_block_height=1,
                    blockhash=Hash.default(),
                    raw=b"\x01" + bytes(200),
                )
            )
            journal.append(Ended(number, Outcome.LANDED, FAR))
            journal.commit()
        after = Trader(cluster, tmp_path / "journal", signer=trader.signer)
        after.send((CANCEL, 1, PRICE, 5, 0, 0))
        assert after.resting == []
        after.abandon()


@PROGRAMS
def test_statuses_that_stay_at_processed_are_looked_up_in_history(
    program: str, tmp_path: Path
) -> None:
    def lag(result: Any) -> bool:
        for status in result["value"]:
            if status is not None:
                status["confirmationStatus"] = "processed"
        return True

    with market_of(program) as cluster:
        trader = Trader(cluster, tmp_path / "journal", options={"window": 1})
        trader.network.handler = changed("getSignatureStatuses", lag)
        trader.push((ADD, 1, PRICE, 5, 0, 0))
        trader.drive(slots=400)
        assert trader.outcomes() == {Outcome.LANDED: 1}
        trader.push((ADD, 2, PRICE - TICK, 5, 0, 0))
        trader.drive(slots=400)
        assert trader.outcomes() == {Outcome.LANDED: 2}
        trader.abandon()


@pytest.mark.parametrize(
    ("method", "size"), [("getBlockHeight", 1 << 15), ("getSignatureStatuses", 1 << 18)]
)
def test_an_answer_that_is_too_long_is_not_parsed(method: str, size: int, tmp_path: Path) -> None:
    with market_of("box") as cluster:
        trader = Trader(cluster, tmp_path / "journal")
        seen: list[int] = []

        def handler(request: HttpRequest, forward: Any) -> HttpResponse:
            seen.extend([request.max_response_bytes or 0] if method_of(request) == method else [])
            return forward()  # type: ignore[no-any-return]

        trader.network.handler = handler
        trader.send((ADD, 1, PRICE, 5, 0, 0))
        assert seen
        assert set(seen) == {max(seen)}
        assert 0 < max(seen) < size
        trader.abandon()


def test_text_of_a_node_moves_no_cursor_and_begins_no_line() -> None:
    forged = "x\x1b[2J\r\nvelox: all is well\u202e"
    for err in (forged, {"InstructionError": [0, {forged: forged}]}, [forged]):
        assert reason_of(err).isprintable()


def test_other_machines_are_reached_by_https_only() -> None:
    with pytest.raises(EndpointRefusedError, match="allow_plaintext"):
        require_loopback("http://192.0.2.1/key", True)
    assert require_loopback("http://192.0.2.1/key", True, True).host == "192.0.2.1"
    assert require_loopback("https://192.0.2.1/key", True).scheme == "https"
    assert require_loopback("http://127.0.0.1:1", False).port == 1


def test_a_journal_that_others_can_write_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    SubmissionJournal(path).close()
    path.chmod(0o666)
    with pytest.raises(JournalError, match="chmod 600"):
        SubmissionJournal(path)
    path.chmod(0o600)
    SubmissionJournal(path).close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux can")
def test_a_process_with_a_key_cannot_be_dumped() -> None:
    code = (
        "from velox.solana.tx.process import protect_memory; import ctypes\n"
        "assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == 1\n"
        "assert protect_memory()\n"
        "assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == 0\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)


@pytest.mark.parametrize("commitment", ["confirmed", "finalized"])
def test_the_first_transaction_passes_a_preflight_at_its_commitment(
    commitment: str, tmp_path: Path
) -> None:
    with market_of("box") as cluster:
        cluster.tick(60)
        options = {"commitment": commitment, "skip_preflight": False, "attempts": 1}
        trader = Trader(cluster, tmp_path / "journal", options=options)
        asked: list[str] = []

        def handler(request: HttpRequest, forward: Any) -> HttpResponse:
            if method_of(request) == "getLatestBlockhash":
                asked.append(json.loads(request.content)["params"][0]["commitment"])
            return forward()  # type: ignore[no-any-return]

        trader.network.handler = handler
        trader.send((ADD, 1, PRICE, 5, 0, 0))
        assert trader.outcomes() == {Outcome.LANDED: 1}
        assert set(asked) == {commitment}
        trader.abandon()


@pytest.mark.parametrize(
    ("code", "message", "limited"),
    [
        (429, "slow down", True),
        (-32007, "50/second request limit reached", True),
        (-32007, "Slot 5 was skipped", False),
    ],
)
def test_limits_under_status_200_are_limits(code: int, message: str, limited: bool) -> None:
    peer = Peer(Address.parse("http://127.0.0.1:1"))
    document = {"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": message}}
    with pytest.raises(RateLimitedError if limited else RpcError):
        peer.result("getSlot", 1, document)
