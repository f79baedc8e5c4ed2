"""The shipped market program: its behaviour, which equals that of the real program."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from solders.instruction import AccountMeta, Instruction

from tests.verify.market import walker
from tests.verify.market.extensions import EXTENSIONS, play
from tests.verify.market.recorded import SEEDS, first_difference, too_far
from tests.verify.market.wire import (
    EVENTS,
    IMMEDIATE_OR_CANCEL,
    LIMIT,
    POST_ONLY,
    REVERSE,
    REVERSE_TIGHT,
    TOKEN_2022,
    Cancel,
    Place,
    batch,
    claim_seat,
)
from tests.verify.market.world import MarketWorld
from velox.testing.market import MARKET_ADDRESS, MARKET_PROGRAM, market_program

from .checks import CHECKS, book, builtin, check_session, custom, fills, place

PROGRAM = market_program()


def test_the_program_is_an_elf_file_of_some_tens_of_kilobytes() -> None:
    assert MARKET_PROGRAM.read_bytes()[:4] == b"\x7fELF"
    assert 20_000 < len(PROGRAM) < 80_000
    assert str(MARKET_ADDRESS).startswith("MNFST")


@pytest.mark.parametrize("name", CHECKS)
def test_the_program_passes(name: str) -> None:
    CHECKS[name](PROGRAM)


@pytest.mark.parametrize("part", range(6))
def test_random_instructions_do_what_they_did_on_the_real_program(part: int) -> None:
    assert first_difference(PROGRAM, SEEDS[part::6]) is None


def test_each_kind_of_instruction_costs_what_it_does_on_the_real_program() -> None:
    assert too_far(PROGRAM, (0, 50, 2_000)) == []


@pytest.mark.parametrize("seed", [f"conservation/{number}" for number in range(12)])
def test_accounts_are_whole_and_funded_after_each_random_instruction(seed: str) -> None:
    check_session(PROGRAM, seed, 250)


def test_a_swap_into_the_vault_itself_leaves_its_tokens_there() -> None:
    """Only the one who names the vault as the own token account loses them. No other can."""
    world = MarketWorld(PROGRAM, deposits=100)
    assert place(world, 0, Place(7, 1, 0, False)).error is None
    paid = world.swap(1, 7, 7, base_in=False, exact_in=True)
    accounts = list(paid.accounts)
    assert accounts[3].pubkey == world.wallets[1][0]
    accounts[3] = AccountMeta(world.vaults[0], is_signer=False, is_writable=True)
    done = world.run(1, Instruction(paid.program_id, bytes(paid.data), accounts))
    assert done.error is None
    read = walker.read(world.market_data())
    assert (read.base, read.quote) == (3 * 100 - 7, 3 * 100 + 7)
    assert [world.balance(each) for each in world.vaults] == [3 * 100, 3 * 100 + 7]
    withdraw = world.transfer(3, 0, 0, 7)
    accounts = [*withdraw.accounts[:2], accounts[3], *withdraw.accounts[3:]]
    done = world.run(0, Instruction(withdraw.program_id, bytes(withdraw.data), accounts))
    assert done.error == builtin("IllegalOwner")


prices = st.tuples(st.sampled_from([1, 2, 3, 15, 999, 2**32 - 1]), st.integers(-18, 8))
orders = st.builds(
    lambda atoms, price, bid, last, kind: Place(atoms, *price, bid, last, kind),
    st.one_of(st.integers(1, 30), st.integers(0, 2**64 - 1)),
    prices,
    st.booleans(),
    st.sampled_from([0, 1, 1_001, 1_003, 60_000]),
    st.sampled_from([LIMIT, IMMEDIATE_OR_CANCEL, POST_ONLY, REVERSE, REVERSE_TIGHT]),
)
batches = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.lists(st.integers(0, 12), max_size=3),
        st.lists(orders, max_size=4),
        st.integers(0, 2),
    ),
    max_size=12,
)


@settings(max_examples=60)
@given(batches)
def test_no_sequence_of_batches_breaks_a_market(
    some: list[tuple[int, list[int], list[Place], int]],
) -> None:
    world = MarketWorld(PROGRAM, deposits=10**9)
    for number, cancels, places, slots in some:
        world.enter_slot(world.slot + slots)
        before = world.market_data()
        done = place(world, number, *places, cancels=tuple(Cancel(each) for each in cancels))
        read = walker.read(world.market_data())
        if done.error is not None:
            assert world.market_data() == before
        base, quote = (world.balance(each) for each in world.vaults)
        assert base == read.base == 3 * 10**9
        assert abs(quote - read.quote) <= sum(len(each[2]) for each in some) * 8
        assert quote == 3 * 10**9


def test_what_a_batch_may_not_place() -> None:
    world = MarketWorld(PROGRAM)
    place(world, 0, Place(5, 3, 0, False))
    assert place(world, 1, Place(5, 3, 0, True, 0, POST_ONLY)).error == custom(6)
    assert place(world, 1, Place(5, 3, 9, True)).error == custom(103)
    assert place(world, 1, Place(5, 3, -19, True)).error == custom(102)
    assert place(world, 1, Place(10**16, 3, 0, True)).error == builtin("InsufficientFunds")
    assert place(world, 1, Place(2**64 - 1, 2**32 - 1, 8, True)).error == custom(108)
    assert place(world, 1, Place(2**64 - 1, 2, 0, True)).error == custom(109)
    assert place(world, 1, Place(5, 3, 0, True, 0, 3)).error == builtin("ProgramFailedToComplete")
    assert place(world, 1, Place(5, 3, 0, True, 0, 6)).error == builtin("BorshIoError")
    stranger = world.fund(world.creator)
    done = world.send(batch(stranger, world.market, (), [Place(5, 3, 0, True)]), payer=stranger)
    assert done.error == custom(5)
    again = world.run(0, claim_seat(world.traders[0], world.market))
    assert again.error == custom(5)


def test_an_answer_tells_sequence_and_index_of_each_place() -> None:
    world = MarketWorld(PROGRAM)
    done = place(
        world,
        0,
        Place(5, 3, 0, False),
        Place(5, 3, 0, True, 0, IMMEDIATE_OR_CANCEL),
        Place(5, 2, 0, True),
    )
    (first, at), (second, nowhere), (third, other) = done.placed
    assert (first, second, third, nowhere) == (0, 1, 2, 2**32 - 1)
    read = book(world)
    assert read.bids[0].index == other
    assert (read.bids[0].sequence, read.asks) == (2, [])
    assert at != other or read.free


def test_a_log_that_is_cut_off_at_30_fills_leaves_the_answer() -> None:
    """The chain keeps 10 000 bytes of log a transaction; the return data is apart from that."""
    world = MarketWorld(PROGRAM)
    world.svm = world.svm.with_log_bytes_limit(10_000)
    for first in range(0, 60, 20):
        places = [Place(1, 10 + first + step, 0, False) for step in range(20)]
        assert place(world, 0, *places).error is None
    done = place(world, 1, Place(60, 1_000, 0, True, 0, IMMEDIATE_OR_CANCEL))
    assert done.error is None
    assert "Log truncated" in done.logs
    assert len(fills(done)) == 30
    assert [EVENTS[each[:8]] for each in done.events] == ["fill"] * 30
    assert done.placed == [(60, 2**32 - 1)]
    assert book(world).asks == []


@pytest.mark.parametrize(("base_in", "exact_in"), [(a, b) for a in (0, 1) for b in (0, 1)])
@pytest.mark.parametrize("has_seat", [True, False])
@pytest.mark.parametrize("v2", [True, False])
def test_a_swap_moves_what_it_traded(base_in: int, exact_in: int, has_seat: bool, v2: bool) -> None:
    world = MarketWorld(PROGRAM, traders=3, deposits=0)
    for number in (0, 1) if has_seat else (0,):
        world.seat(number)
    for side in range(2):
        world.move(2, 0, side, 10**6)
    place(world, 0, Place(100, 2, 0, False), Place(100, 1, 0, True))
    before = [world.balance(each) for each in world.wallets[1]]
    seats = len(book(world).seats)
    wanted = (10, 0) if exact_in else (1_000, 4)
    done = world.run(
        1, world.swap(1, *wanted, base_in=bool(base_in), exact_in=bool(exact_in), v2=v2)
    )
    assert done.error is None
    moved = [world.balance(each) - old for each, old in zip(world.wallets[1], before, strict=True)]
    # Asks are at 2, bids at 1.
    assert (
        moved
        == {
            (1, 1): [-10, 10],
            (0, 1): [5, -10],
            (1, 0): [-4, 4],
            (0, 0): [4, -8],
        }[base_in, exact_in]
    )
    after = book(world)
    assert len(after.seats) == seats
    assert after.free
    too_much = world.run(
        1,
        world.swap(
            1,
            10 if exact_in else 3,
            11 if exact_in else 4,
            base_in=bool(base_in),
            exact_in=bool(exact_in),
        ),
    )
    refused = {custom(8), builtin("InsufficientFunds")}
    assert too_much.error in refused


def test_a_deposit_of_token_2022_counts_what_arrives() -> None:
    world = MarketWorld(
        PROGRAM,
        traders=1,
        deposits=0,
        base_program=TOKEN_2022,
        extensions=(EXTENSIONS["transfer fee"], (b"", b"")),
    )
    world.seat(0)
    done = world.move(2, 0, 0, 10_000)
    # 2.5 % stay behind.
    assert int.from_bytes(done.events[0][104:112], "little") == 9_750
    assert book(world).seat_of(world.traders[0]).base == 9_750
    assert world.move(3, 0, 0, 9_750).error is None
    assert book(world).base == 0


@pytest.mark.parametrize("name", EXTENSIONS)
def test_markets_of_extended_mints_stay_funded(name: str) -> None:
    told = play(PROGRAM, name)
    if name in ("unknown", "cut off"):
        assert told[0][0] == builtin("InvalidAccountData")
        return
    assert told[0][0] is None
    market, base, quote, *_ = told[-1]
    read = walker.read(market)
    vaults = tuple(int.from_bytes(each[64:72], "little") for each in (base, quote))
    if name == "transfer fee":
        # A swap of exact output pays the fee of all that it might have sent.
        assert vaults[0] > read.base
        assert vaults[1] == read.quote
    elif name != "transfer fee, the older one":
        # There the program reckons with the newer fee, and Token-2022 takes the older one.
        assert vaults == (read.base, read.quote)
