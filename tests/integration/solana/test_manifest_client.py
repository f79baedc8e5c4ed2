"""Velox's encoding and decoding of Manifest, compared with Manifest's own TypeScript client.

``VELOX_MANIFEST_CLIENT`` names a folder into which ``npm install @cks-systems/manifest-sdk`` has
put it; it needs Node.js. The client is other people's work and is not part of this repository.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from solders.instruction import Instruction
from solders.pubkey import Pubkey

from velox.solana.tx.carrier import Cancel
from velox.solana.tx.instructions import TOKEN_2022_PROGRAM
from velox.solana.venues.manifest.carrier import ManifestCarrier
from velox.solana.venues.manifest.events import (
    FILL_EVENT,
    PLACE_EVENT,
    FillLog,
    PlaceOrderLog,
    decode_event,
)
from velox.solana.venues.manifest.instructions import (
    OrderType,
    Place,
    claim_seat,
    create_manifest_market,
    deposit,
    manifest_batch_update,
)
from velox.solana.venues.manifest.market import MarketSpec

from .manifest_model import INVALID_CANCEL, POST_ONLY_CROSSES, Resting, market_account
from .test_numbered import SPEC

CLIENT = os.environ.get("VELOX_MANIFEST_CLIENT")
SCRIPT = Path(__file__).with_name("manifest_client.cjs")
PAYER, MARKET, BASE, QUOTE, OTHER = (Pubkey(bytes([each]) * 32) for each in range(1, 6))
TYPES = [each for each in OrderType if each is not OrderType.GLOBAL]

pytestmark = pytest.mark.skipif(
    CLIENT is None or shutil.which("node") is None,
    reason="needs VELOX_MANIFEST_CLIENT, a folder with @cks-systems/manifest-sdk, and Node.js",
)


def ask(*questions: dict[str, Any]) -> list[Any]:
    """Send all questions to the client at once: it takes a second to start."""
    done = subprocess.run(
        ["node", str(SCRIPT), str(CLIENT)],
        input=json.dumps(questions),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    answers: list[Any] = json.loads(done.stdout)
    assert len(answers) == len(questions)
    return answers


def hexed(**keys: Pubkey) -> dict[str, str]:
    return {name: bytes(each).hex() for name, each in keys.items()}


def shown(instruction: Instruction) -> dict[str, Any]:
    return {
        "program": bytes(instruction.program_id).hex(),
        "data": instruction.data.hex(),
        "accounts": [
            [bytes(each.pubkey).hex(), each.is_signer, each.is_writable]
            for each in instruction.accounts
        ],
    }


def some(rng: random.Random, bits: int) -> int:
    """An integer of up to `bits` bits, often at either end of the range."""
    return rng.choice([0, 1, 2**bits - 1, rng.getrandbits(rng.randint(1, bits))])


def test_a_batch_update_is_the_clients_to_the_byte() -> None:
    rng = random.Random(1)
    questions, ours = [], []
    for _ in range(500):
        hint = rng.choice([None, some(rng, 32)])
        cancels = [
            Cancel(some(rng, 64), rng.choice([None, some(rng, 32)]))
            for _ in range(rng.randrange(6))
        ]
        places = [
            Place(
                some(rng, 64),
                some(rng, 32),
                rng.randint(-18, 8),
                rng.random() < 0.5,
                some(rng, 32),
                rng.choice(TYPES),
            )
            for _ in range(rng.randrange(17))
        ]
        questions.append(
            {
                "ask": "batch_update",
                **hexed(payer=PAYER, market=MARKET),
                "hint": hint,
                "cancels": [[str(each.sequence), each.hint] for each in cancels],
                "places": [[str(each[0]), *each[1:]] for each in places],
            }
        )
        ours.append(shown(manifest_batch_update(PAYER, MARKET, cancels, places, trader_hint=hint)))
    assert ask(*questions) == ours


def test_the_instructions_that_create_a_market_equal_the_clients() -> None:
    keys = hexed(payer=PAYER, market=MARKET)
    assert ask(
        {"ask": "claim_seat", **keys},
        {
            "ask": "create_market",
            **keys,
            **hexed(base=BASE, quote=QUOTE, tokenProgram22=TOKEN_2022_PROGRAM),
        },
        {
            "ask": "deposit",
            **keys,
            **hexed(mint=QUOTE, token=OTHER),
            "atoms": str(2**64 - 1),
        },
    ) == [
        shown(claim_seat(PAYER, MARKET)),
        shown(create_manifest_market(PAYER, MARKET, BASE, QUOTE)),
        shown(deposit(PAYER, MARKET, QUOTE, OTHER, 2**64 - 1)),
    ]


def test_events_that_the_client_writes_are_read() -> None:
    assert ask(
        {"ask": "discriminator", "name": "manifest::logs::PlaceOrderLog"},
        {"ask": "discriminator", "name": "manifest::logs::FillLog"},
    ) == [PLACE_EVENT.hex(), FILL_EVENT.hex()]
    rng = random.Random(2)
    questions: list[dict[str, Any]] = []
    expected: list[tuple[bytes, PlaceOrderLog | FillLog]] = []
    for _ in range(100):
        price, atoms, quote, first, second = (some(rng, bits) for bits in (128, 64, 64, 64, 64))
        index, slot, flag = some(rng, 32), some(rng, 32), rng.random() < 0.5
        order_type = rng.choice(list(OrderType))
        questions.append(
            {
                "ask": "place_log",
                **hexed(market=MARKET, trader=PAYER),
                "price": str(price),
                "atoms": str(atoms),
                "sequence": str(first),
                "index": index,
                "slot": slot,
                "type": order_type,
                "bid": flag,
            }
        )
        placed = PlaceOrderLog(MARKET, PAYER, price, atoms, first, index, slot, order_type, flag)
        expected.append((PLACE_EVENT, placed))
        questions.append(
            {
                "ask": "fill_log",
                **hexed(market=MARKET, maker=OTHER, taker=PAYER, base=BASE, quote=QUOTE),
                "price": str(price),
                "atoms": str(atoms),
                "quoteAtoms": str(quote),
                "made": str(first),
                "took": str(second),
                "buyer": flag,
            }
        )
        fill = FillLog(MARKET, OTHER, PAYER, price, atoms, quote, first, second, flag)
        expected.append((FILL_EVENT, fill))
    for log, (kind, event) in zip(ask(*questions), expected, strict=True):
        assert decode_event(kind + bytes.fromhex(log)) == event


def test_the_models_errors_are_the_clients() -> None:
    assert ask(
        {"ask": "error", "code": INVALID_CANCEL}, {"ask": "error", "code": POST_ONLY_CROSSES}
    ) == ["InvalidCancel", "PostOnlyCrosses"]


def test_prices_mean_what_they_mean_to_the_client() -> None:
    rng = random.Random(3)
    questions, ours = [], []
    for base_decimals, quote_decimals in [(9, 6), (6, 6), (5, 6), (8, 9)]:
        spec = MarketSpec(
            market=MARKET,
            base_mint=BASE,
            quote_mint=QUOTE,
            base_decimals=base_decimals,
            quote_decimals=quote_decimals,
            lot_atoms=1,
        )
        for _ in range(50):
            price = rng.randint(1, 2**31)  # in 1e-4 of a quote token for a base token
            questions.append(
                {
                    "ask": "price",
                    "tokens": float(Decimal(price) / 10_000),
                    "baseDecimals": base_decimals,
                    "quoteDecimals": quote_decimals,
                }
            )
            ours.append(price * Fraction(10) ** spec.exponent)
    for (mantissa, exponent), exact in zip(ask(*questions), ours, strict=True):
        # The client reckons in doubles.
        client = mantissa * Fraction(10) ** exponent
        assert abs(client - exact) <= exact * Fraction(1, 10**8)


def test_a_markets_account_holds_what_the_client_reads_in_it() -> None:
    rng = random.Random(4)
    traders = [PAYER, OTHER, QUOTE]
    questions, ours, model = [], [], []
    for count in (0, 1, 2, 50, 300):
        orders = [
            Resting(
                rng.choice(traders), sequence, some(rng, 100), some(rng, 64), rng.random() < 0.5
            )
            for sequence in rng.sample(range(2**40), count)
        ]
        account = market_account(orders)
        questions.append({"ask": "market", "data": account.hex()})
        model.append({(each.sequence, each.atoms, each.trader, each.is_bid) for each in orders})
        ours.append(
            {
                trader: {
                    number: order.base_atoms
                    for number, order in ManifestCarrier(SPEC)
                    .read_account(account, trader)
                    .orders.items()
                }
                for trader in traders
            }
        )
    for told, made, read in zip(ask(*questions), model, ours, strict=True):
        client = {
            (int(sequence), int(atoms), Pubkey(bytes.fromhex(trader)), is_bid)
            for sequence, atoms, trader, is_bid in told
        }
        assert client == made
        for trader in traders:
            theirs = {number: atoms for number, atoms, owner, _ in client if owner == trader}
            assert read[trader] == theirs
