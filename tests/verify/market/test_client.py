"""Manifest's own TypeScript client on the market program: its readers and core builders.

``VELOX_MANIFEST_CLIENT`` names a folder with ``@cks-systems/manifest-sdk``; it needs Node.js. Where
``VELOX_MANIFEST_SO`` names the real program, the same is asked of it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from solders.account import Account
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey
from solders.token import associated

from velox.testing.market import market_program

from . import walker
from .wire import EVENTS, HEADER_BYTES, IMMEDIATE_OR_CANCEL, LIMIT, PROGRAM, REVERSE, vault
from .world import MarketWorld, Outcome, address

CLIENT = os.environ.get("VELOX_MANIFEST_CLIENT")
REAL = os.environ.get("VELOX_MANIFEST_SO")
SCRIPT = Path(__file__).with_name("market_client.cjs")

pytestmark = pytest.mark.skipif(
    CLIENT is None or shutil.which("node") is None,
    reason="needs VELOX_MANIFEST_CLIENT, a folder with @cks-systems/manifest-sdk, and Node.js",
)
PROGRAMS = {"ours": market_program}
if REAL is not None:
    PROGRAMS["real"] = Path(REAL).read_bytes


class Client:
    """One process of the client, which answers questions."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ["node", str(SCRIPT), str(CLIENT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **question: Any) -> Any:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        print(json.dumps(question), file=process.stdin, flush=True)
        answer = process.stdout.readline()
        assert answer, f"the client ended with {process.wait()} at {question['ask']}"
        return json.loads(answer)

    def close(self) -> None:
        self._process.communicate(timeout=60)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    made = Client()
    yield made
    made.close()


class ClientWorld(MarketWorld):
    """A world whose instructions come from the client, on a market that it creates."""

    def __init__(self, program: bytes, client: Client) -> None:
        super().__init__(program, deposits=0)
        self.client = client
        self.market = address("the client's market")
        self.vaults = tuple(vault(self.market, each) for each in self.mints)
        self.svm.set_account(self.market, Account(10**7, bytes(HEADER_BYTES), PROGRAM))
        # The client swaps from associated token accounts.
        for number, trader in enumerate(self.traders):
            keys = [associated.get_associated_token_address(trader, each) for each in self.mints]
            for key, old in zip(keys, self.wallets[number], strict=True):
                self.svm.set_account(key, self.svm.get_account(old))
            self.wallets[number] = tuple(keys)

    def keys(self, number: int) -> dict[str, Any]:
        names = {
            "payer": self.traders[number],
            "address": self.market,
            "base": self.mints[0],
            "quote": self.mints[1],
        }
        return {name: bytes(each).hex() for name, each in names.items()} | {
            "data": self.market_data().hex(),
            "slot": self.slot,
        }

    def does(self, number: int, **question: Any) -> list[Outcome]:
        """Run the instructions that the client builds; all must succeed."""
        told = self.client.ask(**self.keys(number), **question)
        outcomes = []
        for made in told if isinstance(told, list) else [told]:
            accounts = [
                AccountMeta(Pubkey(bytes.fromhex(key)), signs, writes)
                for key, signs, writes in made["accounts"]
            ]
            instruction = Instruction(
                Pubkey(bytes.fromhex(made["program"])), bytes.fromhex(made["data"]), accounts
            )
            done = self.run(number, instruction)
            assert done.error is None, (question, done.error, done.logs)
            outcomes.append(done)
        return outcomes

    def read(self) -> Any:
        return self.client.ask(**self.keys(0), ask="read")


def play(world: ClientWorld) -> list[Any]:
    """Create, claim, place, swap, cancel and expand; returns the client's readings in between."""
    read = []
    world.does(0, ask="create")
    for number in range(2):
        world.does(number, ask="seat")
        for side in range(2):
            world.move(2, number, side, 10**12)
    ladder = [[str(10**9), 20 + each, -3, False, 0, LIMIT] for each in range(5)]
    ladder += [[str(10**9), 15 - each, -3, True, 0, LIMIT] for each in range(5)]
    ladder += [[str(10**9), 10, -3, True, 500, REVERSE], [str(7), 9, -3, True, 1_001, LIMIT]]
    (placed,) = world.does(0, ask="batch", cancels=[], places=ladder)
    read.append(world.read())
    first, at = placed.placed[0]
    world.does(0, ask="batch", cancels=[[str(first), at]], places=[])
    taken = [str(25 * 10**8), 2**32 - 1, 0, True, 0, IMMEDIATE_OR_CANCEL]
    (done,) = world.does(1, ask="batch", cancels=[], places=[taken])
    assert [EVENTS[each[:8]] for each in done.events] == ["fill"] * 3 + ["place"]
    world.does(0, ask="expand")
    world.does(0, ask="expand")
    swapped = {"in": str(10**9), "out": "0", "baseIn": True, "exactIn": True}
    (done,) = world.does(2, ask="swap", **swapped)
    assert [EVENTS[each[:8]] for each in done.events] == ["fill", "place_v2"]
    world.enter_slot(1_002)
    read.append(world.read())
    assert world.does(0, ask="cancelBids")
    assert world.does(0, ask="cancelAll")
    read.append(world.read())
    return read


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_client_builds_and_reads_on_this_program(name: str, client: Client) -> None:
    world = ClientWorld(PROGRAMS[name](), client)
    first, second, last = play(world)
    assert first["mints"] == [bytes(each).hex() for each in world.mints]
    assert first["decimals"] == [9, 6]
    assert len(first["bids"]) == 7
    # It reckons in doubles.
    prices = sorted(each["price"] for each in first["asks"])
    assert prices == pytest.approx([20, 21, 22, 23, 24])
    assert first["best"] == pytest.approx([15, 20])
    # The client leaves out what has expired.
    assert len(second["bids"]) == 5
    assert second["volume"] == str(21 * 10**6 + 22 * 10**6 + 23 * 10**6 // 2 + 15 * 10**6)
    assert (last["bids"], last["asks"]) == ([], [])
    book = walker.read(world.market_data())
    seats = {bytes.fromhex(key): (int(base), int(quote)) for key, base, quote in last["seats"]}
    assert seats == {each.trader: (each.base, each.quote) for each in book.seats.values()}
    assert [len(each) for each in (book.bids, book.asks)] == [1, 0]


@pytest.mark.skipif(REAL is None, reason="needs VELOX_MANIFEST_SO")
def test_the_client_sees_the_same_on_both(client: Client) -> None:
    worlds = [ClientWorld(made(), client) for made in PROGRAMS.values()]
    assert play(worlds[0]) == play(worlds[1])
    assert worlds[0].market_data() == worlds[1].market_data()
