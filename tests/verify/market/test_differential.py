"""Both programs side by side, where ``VELOX_MANIFEST_SO`` names the real one.

The long form is ``python -m tests.verify.market --count 1000000``.
"""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest
from solders.account import Account

from tests.unit.testing.market.checks import CHECKS, KNOWN_HOSTILE
from velox.testing.market import market_program

from . import walker
from .compute import TOLERANCE, measure
from .differential import Session, Tally
from .extensions import EXTENSIONS, play
from .hostile import KINDS, RECORD, run
from .recorded import RECORD as DIGESTS
from .recorded import SEEDS
from .recorded import play as digests
from .wire import HEADER_BYTES, LIMIT, REVERSE, Cancel, Place, batch
from .world import MarketWorld

REAL = os.environ.get("VELOX_MANIFEST_SO")
OURS = market_program()

pytestmark = pytest.mark.skipif(
    REAL is None, reason="needs VELOX_MANIFEST_SO, the path of the Manifest program's ELF file"
)


def real() -> bytes:
    assert REAL is not None
    return Path(REAL).read_bytes()


@pytest.mark.parametrize("seed", [f"pytest/{number}" for number in range(12)])
def test_random_instructions_do_the_same_on_both(seed: str) -> None:
    tally = Tally()
    difference = Session((real(), OURS), seed, 0.1).run(500, tally)
    assert difference is None, difference
    assert tally.steps == 500


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_accounts_meet_the_same_error(kind: str) -> None:
    theirs, ours = run(real(), kind), run(OURS, kind)
    assert json.loads(RECORD.read_text(encoding="utf-8"))[kind] == theirs
    differ = {(kind, name) for name in theirs if theirs[name] != ours[name]}
    assert differ <= KNOWN_HOSTILE


@pytest.mark.parametrize("name", EXTENSIONS)
def test_extended_mints_do_the_same_on_both(name: str) -> None:
    assert play(real(), name) == play(OURS, name)


def test_each_kind_of_instruction_costs_alike() -> None:
    theirs, ours = measure(real()), measure(OURS)
    off = {each: ours[each] / units - 1 for each, units in theirs.items()}
    assert {each: part for each, part in off.items() if abs(part) > TOLERANCE} == {}


def test_the_record_is_of_this_program() -> None:
    recorded = json.loads(DIGESTS.read_text(encoding="utf-8"))
    assert digests(real(), SEEDS[0]) == recorded["sessions"][SEEDS[0]]


@pytest.mark.parametrize("name", [each for each in CHECKS if each not in ("compute", "hostile")])
def test_the_checks_hold_for_the_real_program(name: str) -> None:
    CHECKS[name](real())


@pytest.mark.parametrize("count", [49, 85, 86, 90, 200])
def test_large_batches_do_the_same_on_both(count: int) -> None:
    """More than 85 orders do not fit into an answer of 1 024 bytes."""
    seen = []
    for program in (real(), OURS):
        world = MarketWorld(program, deposits=10**12)
        for free in (100, 205):
            assert world.grow(0, free).error is None
        places = [Place(1, 1 + number, 0, False) for number in range(count)]
        done = world.run(0, batch(world.traders[0], world.market, (), places))
        seen.append((done.seen, world.market_data()))
    assert seen[0] == seen[1]


MOST = 2**64 - 1
# Field of the market (offset in the header), or of a trader's seat (trader, offset in its block).
NEAR_THE_END: dict[str, int | tuple[int, int]] = {
    "market's volume": 184,
    "sequence": 144,
    "maker's volume": (0, 64),
    "maker's base": (0, 48),
    "maker's quote": (0, 56),
    "taker's volume": (1, 64),
    "taker's base": (1, 48),
    "taker's quote": (1, 56),
}


@pytest.mark.parametrize("field", NEAR_THE_END)
@pytest.mark.parametrize("act", ["buy", "sell", "cancel", "deposit"])
@pytest.mark.parametrize("kind", [LIMIT, REVERSE])
def test_sums_end_alike_at_64_bits(field: str, act: str, kind: int) -> None:
    seen = []
    for program in (real(), OURS):
        world = MarketWorld(program)
        assert world.grow(0, 10).error is None
        maker, taker = world.traders[:2]
        both = [Place(10, 2, 0, False, 0, kind), Place(10, 1, 0, True, 0, kind)]
        assert world.run(0, batch(maker, world.market, (), both)).error is None
        data, where = bytearray(world.market_data()), NEAR_THE_END[field]
        if isinstance(where, tuple):
            trader, offset = where
            index = walker.read(bytes(data)).seat_of(world.traders[trader]).index
            where = HEADER_BYTES + index + offset
        struct.pack_into("<Q", data, where, MOST - 3)
        account = world.svm.get_account(world.market)
        assert account is not None
        world.svm.set_account(world.market, Account(account.lamports, bytes(data), account.owner))
        sides = {"buy": Place(5, 3, 0, True, 0, 1), "sell": Place(5, 1, 0, False, 0, 1)}
        if act in sides:
            done = world.run(1, batch(taker, world.market, (), [sides[act]]))
        elif act == "cancel":
            done = world.run(0, batch(maker, world.market, [Cancel(0), Cancel(1)]))
        else:
            done = world.run(0, world.transfer(2, 0, 0, 10))
        seen.append((done.seen, world.market_data()))
    assert seen[0] == seen[1]
