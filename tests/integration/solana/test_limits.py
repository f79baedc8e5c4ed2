"""The limit on spending is never passed, with the rent of a market that grows."""

from __future__ import annotations

import random
from pathlib import Path

from solders.hash import Hash
from solders.pubkey import Pubkey

from tests.integration.solana.test_numbered import SPEC
from tests.unit.solana.orders.test_queue import ADD, records
from velox.errors import SpendRefusedError
from velox.solana.orders.outcomes import Outcome
from velox.solana.tx.signer import KeypairSigner
from velox.solana.tx.spend import SignerPolicy
from velox.solana.tx.template import TransactionBuilder
from velox.solana.venues.manifest.carrier import ManifestCarrier
from velox.solana.venues.manifest.instructions import BLOCK_RENT_LAMPORTS, most_rent

from .markets import PROGRAMS, TICK, Trader, market_of, trader_key

NS = 10**9
MINUTE = 60 * NS
STREAMS = 10_000
FEE = 5_000


def most_in_a_minute(costs: list[tuple[int, int]]) -> int:
    """The most that was paid in any 60 s, by the times of the payments."""
    costs.sort()
    most = first = total = 0
    for at, lamports in costs:
        total += lamports
        while costs[first][0] <= at - MINUTE:
            total -= costs[first][1]
            first += 1
        most = max(most, total)
    return most


def test_no_stream_of_orders_passes_the_limit() -> None:
    rng = random.Random(13)
    clock = [0]
    carrier = ManifestCarrier(SPEC)
    refused = signed = 0
    policy_of = {
        limit: SignerPolicy(
            programs=frozenset([carrier.program]),
            rents={carrier.program: carrier.most_rent},
            max_tip_lamports=50_000,
            max_spend_lamports_per_minute=limit,
        )
        for limit in (600_000, 2_000_000, 10_000_000)
    }
    batches = {
        count: records(*[(ADD, 1 + each, 1_000_000 + each, 1) for each in range(count)])
        for count in (1, 2, 4, 8)
    }
    for stream in range(STREAMS):
        limit = rng.choice(list(policy_of))
        signer = KeypairSigner.generate(policy_of[limit], clock=lambda: clock[0])
        builder = TransactionBuilder(carrier, signer)
        costs: list[tuple[int, int]] = []
        pending: list[tuple[int, object, int]] = []
        for number in range(6):
            clock[0] += rng.choice([0, NS // 3, 5 * NS, 40 * NS])
            now = clock[0]
            for settled, signature, paid in [each for each in pending if each[0] <= now]:
                signer.settle(signature, paid)  # type: ignore[arg-type]
                pending.remove((settled, signature, paid))
            count, tip = rng.choice([1, 2, 4, 8]), rng.choice([0, 50_000])
            try:
                built = builder.build(
                    batches[count],
                    blockhash=Hash((stream * 8 + number).to_bytes(32, "little")),
                    last_valid_block_height=1,
                    tip_account=Pubkey(b"\x01" * 32) if tip else None,
                    tip_lamports=tip,
                )
            except SpendRefusedError:
                refused += 1
                continue
            signed += 1
            fate = rng.random()
            if fate < 0.2:
                pending.append((now + 30 * NS, built.signature, 0))
                continue
            cost = FEE + tip + BLOCK_RENT_LAMPORTS * rng.randrange(count + 1)
            at = now + rng.randrange(20) * NS
            costs.append((at, cost))
            pending.append((at + rng.randrange(1, 5) * NS, built.signature, cost))
        assert most_in_a_minute(costs) <= limit
        clock[0] += 200 * NS
    assert min(refused, signed) > STREAMS // 4


@PROGRAMS
def test_a_market_that_grows_costs_no_more_than_the_limit(program: str, tmp_path: Path) -> None:
    limit = 6_000_000
    with market_of(program) as cluster:
        signer = trader_key(cluster, max_spend_lamports_per_minute=limit)
        trader = Trader(cluster, tmp_path / "journal", signer=signer, options={"on_exit": "leave"})
        first = balance = cluster.account(signer.pubkey).lamports  # type: ignore[union-attr]
        trader.push(*[(ADD, 1 + n, (14_000 - n) * TICK, 1, 0, 0) for n in range(60)])
        costs = []
        for _ in range(4000):
            trader.submitter.step()
            cluster.tick()
            left = cluster.account(signer.pubkey).lamports  # type: ignore[union-attr]
            if left != balance:
                costs.append((cluster.clock(), balance - left))
                balance = left
            if trader.submitter.idle:
                break
        assert trader.outcomes() == {Outcome.LANDED: 60}
        assert first - balance > 3 * limit
        assert most_in_a_minute(costs) <= limit
        ledger = trader.submitter.close()
        ledger.check()
        spent = ledger.fee_lamports + ledger.tip_lamports + ledger.rent_lamports
        assert spent == first - balance
        trader.close_clients()


def test_data_that_is_not_understood_may_take_all_that_can_grow() -> None:
    assert most_rent(b"") == most_rent(b"\x06garbage") == 128 * BLOCK_RENT_LAMPORTS
    assert most_rent(bytes((2,)) + bytes(9)) == 0
