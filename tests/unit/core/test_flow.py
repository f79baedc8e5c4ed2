"""MarketFlow: it generates a valid, reproducible market that an exact book accepts."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import refused
from velox.core.flow import MarketFlow
from velox.core.records import TRANSACTION_DTYPE, Flags, Kind, Side, validate
from velox.errors import ConfigError

FIRST_FIVE = [
    (1, 999_800, 1, 0, 0, 41),
    (2, 1_000_800, 9, 1, 0, 108),
    (3, 994_500, 2, 0, 0, 1_641),
    (4, 1_011_500, 24, 1, 0, 1_890),
    (5, 1_000_700, 55, 0, 0, 1_935),
]


class Book:
    """A simple exact book. It fails at an invalid event."""

    def __init__(self) -> None:
        self.levels: tuple[dict[int, int], dict[int, int]] = ({}, {})

    def apply(self, event: np.void) -> None:
        _, price, size, side, kind, _, _, _ = event.item()
        levels = self.levels[side]
        assert size > 0
        if kind == Kind.ADD:
            levels[price] = levels.get(price, 0) + size
            opposite = self.best(1 - side)
            if opposite is not None:
                assert price < opposite if side == Side.BID else price > opposite, "crossed"
            return
        assert kind in (Kind.CANCEL, Kind.EXECUTE)
        if kind == Kind.EXECUTE:
            assert price == self.best(side), "not executed at the best"
        left = levels[price] - size
        assert left >= 0, "underflow"
        if left:
            levels[price] = left
        else:
            del levels[price]

    def best(self, side: int) -> int | None:
        levels = self.levels[side]
        if not levels:
            return None
        return max(levels) if side == Side.BID else min(levels)

    def assert_is_what_rests_in(self, flow: MarketFlow) -> None:
        snapshot = flow.snapshot()
        statistics = flow.statistics()
        assert (self.best(Side.BID), self.best(Side.ASK)) == (
            statistics.best_bid,
            statistics.best_ask,
        )
        assert [len(levels) for levels in self.levels] == [
            statistics.bid_levels,
            statistics.ask_levels,
        ]
        assert [sum(levels.values()) for levels in self.levels] == [
            statistics.bid_quantity,
            statistics.ask_quantity,
        ]
        for side in Side:
            of_side = snapshot[snapshot["side"] == side]
            outward = sorted(self.levels[side].items(), reverse=side == Side.BID)
            assert list(zip(of_side["price"], of_side["size"], strict=True)) == outward


def replay(flow: MarketFlow, count: int, *, look_every: int) -> Book:
    book = Book()
    for _ in range(count // look_every):
        for event in flow.generate(look_every):
            book.apply(event)
        book.assert_is_what_rests_in(flow)
    return book


def test_the_same_seed_gives_the_same_bytes() -> None:
    first = MarketFlow(7).generate(20_000)
    assert first.tobytes() == MarketFlow(7).generate(20_000).tobytes()
    assert first.tobytes() != MarketFlow(8).generate(20_000).tobytes()


def test_the_bytes_of_a_seed_do_not_change_between_releases_or_platforms() -> None:
    events = MarketFlow(2026, rate=3e6).generate(5)
    assert events[["id", "price", "size", "side", "kind", "ingress_ts_ns"]].tolist() == FIRST_FIVE


def test_the_bytes_do_not_depend_on_how_the_events_are_asked_for() -> None:
    whole = MarketFlow(7, rate=1e7).generate(10_000)
    flow = MarketFlow(7, rate=1e7)
    parts = [flow.generate(count) for count in (0, 1, 2, 61, 64, 65, 807, 9_000)]
    assert np.concatenate(parts).tobytes() == whole.tobytes()


def test_asking_for_gaps_leaves_the_events_as_they_are() -> None:
    flow = MarketFlow(7)
    first = flow.generate(500)
    gaps = flow.gaps(100)
    second = flow.generate(500)
    expected = MarketFlow(7).generate(1_000)
    arrivals = MarketFlow(7).generate(1_100)["ingress_ts_ns"]
    for field in ("id", "price", "size", "side", "kind"):
        assert np.array_equal(np.concatenate([first, second])[field], expected[field])
    assert np.array_equal(first["ingress_ts_ns"][-1] + gaps.cumsum(), arrivals[500:600])
    assert np.array_equal(second["ingress_ts_ns"], arrivals[600:])


@pytest.mark.parametrize("name", ["MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"])
def test_every_bit_generator_of_numpy_serves(name: str) -> None:
    by_name = MarketFlow(3, bit_generator=name)
    by_object = MarketFlow(bit_generator=getattr(np.random, name)(3))
    assert type(by_name.bit_generator).__name__ == name
    assert by_name.generate(1_000).tobytes() == by_object.generate(1_000).tobytes()


def test_a_seed_sequence_seeds_like_the_integer_that_it_holds() -> None:
    sequence = np.random.SeedSequence(11)
    assert MarketFlow(sequence).generate(99).tobytes() == MarketFlow(11).generate(99).tobytes()


def test_an_exact_book_takes_every_event_and_ends_as_the_shadow_says() -> None:
    flow = MarketFlow(1)
    replay(flow, 200_000, look_every=1_000)
    statistics = flow.statistics()
    assert statistics.added + statistics.cancelled + statistics.executed == 200_000


def test_the_shadow_agrees_after_every_single_event_from_the_empty_book_on() -> None:
    replay(MarketFlow(2), 3_000, look_every=1)


def test_a_book_too_wide_for_its_window_withdraws_what_lies_furthest() -> None:
    flow = MarketFlow(3, half_width=None, reach=255)
    book = Book()
    widest = 0
    for _ in range(300):
        for event in flow.generate(500):
            book.apply(event)
        book.assert_is_what_rests_in(flow)
        bids, asks = book.levels
        widest = max(widest, (max(asks) - min(bids)) // 100)
    # Two orders placed at their reach are 510 apart, and the mid wanders besides.
    assert 505 <= widest < 512


def test_a_free_walk_goes_further_than_any_bound_would_let_it() -> None:
    events = MarketFlow(3, half_width=None).generate(3_000_000)
    assert np.ptp(events["price"]) > 2 * 384 * 100


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    tick_size=st.sampled_from([1, 7, 100, 10_000, 2**40]),
    base=st.integers(302, 2**20),
    half_width=st.one_of(st.none(), st.integers(1, 300)),
    reach=st.integers(1, 255),
    drift=st.booleans(),
)
def test_whatever_the_parameters_the_book_holds_and_prices_stay_in_bounds(
    *, seed: int, tick_size: int, base: int, half_width: int | None, reach: int, drift: bool
) -> None:
    flow = MarketFlow(
        seed,
        tick_size=tick_size,
        base_price=base * tick_size,
        half_width=half_width,
        reach=reach,
        drift=drift,
    )
    book = Book()
    for _ in range(4):
        events = flow.generate(500)
        validate(events)
        for event in events:
            book.apply(event)
        book.assert_is_what_rests_in(flow)
        assert (events["price"] % tick_size == 0).all()
        ticks = events["price"] // tick_size
        if half_width is not None:
            assert abs(ticks - base).max() <= half_width
        if not drift:
            assert ((ticks < base) == (events["side"] == Side.BID)).all()


def test_a_market_at_the_lowest_prices_stays_positive() -> None:
    flow = MarketFlow(5, tick_size=1, base_price=2, half_width=None)
    events = flow.generate(300_000)
    assert events["price"].min() == 1
    assert flow.statistics().best_ask is not None


def test_a_market_at_the_highest_prices_does_not_overflow() -> None:
    base = 2**62 - 1 - 300
    events = MarketFlow(5, tick_size=1, base_price=base, half_width=300).generate(100_000)
    assert abs(events["price"] - base).max() <= 300


def test_the_market_is_stationary_and_its_mid_moves() -> None:
    flow = MarketFlow(12)
    flow.generate(50_000)
    looks = []
    for _ in range(300):
        flow.generate(10_000)
        looks.append(flow.statistics())
    for levels in ([look.bid_levels for look in looks], [look.ask_levels for look in looks]):
        assert 85 < np.mean(levels) < 115
        assert min(levels) > 60
        assert max(levels) < 150
    quantities = np.array([[look.bid_quantity, look.ask_quantity] for look in looks])
    assert (abs(quantities.mean(axis=0) - 9_100) < 1_000).all()
    assert quantities.min() > 2_000
    assert quantities.max() < 30_000
    # No trend: the second half is what the first was.
    halves = quantities.reshape(2, 150, 2).mean(axis=(1, 2))
    assert abs(halves[0] / halves[1] - 1) < 0.1
    orders = [look.orders for look in looks]
    assert 390 < np.mean(orders) < 406
    bids = np.array([look.best_bid for look in looks])
    asks = np.array([look.best_ask for look in looks])
    mids = (bids + asks) / 2
    assert 20 * 100 < mids.std() < 50 * 100
    assert len(np.unique(mids)) > 50
    assert (asks - bids).min() >= 100
    assert 300 < (asks - bids).mean() < 450


def test_each_side_depletes_and_improves() -> None:
    flow = MarketFlow(6)
    flow.generate(10_000)
    bests = []
    for _ in range(5_000):
        flow.generate(1)
        statistics = flow.statistics()
        bests.append((statistics.best_bid, statistics.best_ask))
    moves = np.sign(np.diff(np.array(bests, np.int64), axis=0))
    for side in Side:
        assert (moves[:, side] > 0).sum() > 100
        assert (moves[:, side] < 0).sum() > 100


def test_prices_stay_within_half_width_and_positive() -> None:
    events = MarketFlow(9).generate(3_000_000)
    assert abs(events["price"] - 1_000_000).max() <= 384 * 100
    # The pull toward the base, not the bound, is what keeps them there.
    assert not np.isin(events["price"], (1_000_000 - 38_400, 1_000_000 + 38_400)).any()


def test_the_kinds_come_in_their_proportions() -> None:
    flow = MarketFlow(10)
    flow.generate(10_000)
    events = flow.generate(1_000_000)
    shares = {Kind(kind): n / 1e6 for kind, n in Counter(events["kind"].tolist()).items()}
    # A share i of the traders has no order. 18 % of those who act take, and fill f orders each; in
    # balance 0.82 i = (1 - i) + 0.18 i f. The market makes f 1.03, so that i is 0.612.
    assert shares.keys() == {Kind.ADD, Kind.CANCEL, Kind.EXECUTE}
    assert shares[Kind.ADD] == pytest.approx(0.502, abs=0.005)
    assert shares[Kind.CANCEL] == pytest.approx(0.388, abs=0.005)
    assert shares[Kind.EXECUTE] == pytest.approx(0.110, abs=0.005)
    assert (events["side"] == Side.BID).mean() == pytest.approx(0.5, abs=0.01)


def test_sizes_and_distances_have_heavy_tails() -> None:
    events = MarketFlow(4, drift=False).generate(1_000_000)
    adds = events[events["kind"] == Kind.ADD]
    assert np.median(adds["size"]) == pytest.approx(15, abs=1)
    assert adds["size"].mean() == pytest.approx(45, abs=2)
    assert adds["size"].max() > 1_000
    bids = adds["price"][adds["side"] == Side.BID]
    distances = (1_000_000 - bids) // 100
    assert distances.min() == 1
    assert distances.max() == 200
    # (1 + x / 24)^(-2/3), given x < 200
    cut = (1 + 200 / 24) ** (-2 / 3)
    for beyond in (1, 10, 50, 150):
        expected = ((1 + beyond / 24) ** (-2 / 3) - cut) / (1 - cut)
        assert (distances > beyond).mean() == pytest.approx(expected, abs=0.005)


def test_ids_are_a_sequence_and_every_record_is_whole() -> None:
    events = MarketFlow(1, first_id=2**64 - 3, market=255).generate(6)
    assert events["id"].tolist() == [2**64 - 3, 2**64 - 2, 2**64 - 1, 0, 1, 2]
    assert (events["flags"] == Flags.LAST).all()
    assert (events["market"] == 255).all()
    assert events.dtype == TRANSACTION_DTYPE


def test_with_order_ids_a_cancel_names_the_order_that_it_withdraws() -> None:
    plain, named = (MarketFlow(4, order_ids=each).generate(100_000) for each in (False, True))
    resting: dict[int, tuple[int, int]] = {}
    for number, event in enumerate(named.tolist()):
        id, price, _, side, kind = event[:5]
        if kind == Kind.ADD:
            assert id == number + 1
            resting[id] = price, side
        elif kind == Kind.CANCEL:
            assert resting.pop(id) == (price, side)
        else:
            assert id == number + 1
    # But for these ids it is the same flow.
    cancels = named["kind"] == Kind.CANCEL
    assert cancels.sum() > 10_000
    named["id"][cancels] = plain["id"][cancels]
    assert named.tobytes() == plain.tobytes()


@pytest.mark.parametrize("name", ["drift", "order_ids"])
def test_what_is_neither_true_nor_false_is_refused(name: str) -> None:
    with refused(ConfigError, field=name, value=1):
        MarketFlow(1, **{name: 1})  # type: ignore[arg-type]


def test_flows_that_do_not_drift_share_a_book_in_any_order() -> None:
    flows = [MarketFlow(seed, drift=False, half_width=100) for seed in range(4)]
    waiting = [iter(flow.generate(15_000)) for flow in flows]
    order = np.random.default_rng(1).permutation(np.repeat(np.arange(4), 15_000))
    levels: dict[tuple[int, int], int] = {}
    for lane in order:
        event = next(waiting[lane])
        key = int(event["side"]), int(event["price"])
        sign = 1 if event["kind"] == Kind.ADD else -1
        levels[key] = levels.get(key, 0) + sign * int(event["size"])
        assert levels[key] >= 0
        assert (key[1] < 1_000_000) == (key[0] == Side.BID)
    expected: Counter[tuple[int, int]] = Counter()
    for flow in flows:
        for level in flow.snapshot():
            expected[int(level["side"]), int(level["price"])] += int(level["size"])
    assert {key: quantity for key, quantity in levels.items() if quantity} == expected


def test_a_snapshot_is_a_venue_event_of_its_own() -> None:
    flow = MarketFlow(1, market=3)
    assert flow.snapshot().shape == (0,)
    flow.generate(1_000)
    snapshot = flow.snapshot()
    assert (snapshot["kind"] == Kind.SET).all()
    assert (snapshot["market"] == 3).all()
    assert (snapshot["flags"][:-1] == Flags.SNAPSHOT).all()
    assert snapshot["flags"][-1] == Flags.SNAPSHOT | Flags.LAST


@pytest.mark.parametrize("rate", [1.0, 1e3, 12_345.678, 1e5, 2.5e7, 1e9])
def test_gaps_add_up_to_the_rate(rate: float) -> None:
    count = 1_000_000
    gaps = MarketFlow(21, rate=rate).gaps(count)
    # The mean of n exponentials is off by 1 / sqrt(n) of itself.
    assert gaps.sum() * rate / 1e9 == pytest.approx(count, rel=4 / math.sqrt(count))


def test_what_gaps_have_under_a_nanosecond_is_not_lost() -> None:
    slow = MarketFlow(21, rate=1e3).gaps(100_000).cumsum()
    fast = MarketFlow(21, rate=1e9).gaps(100_000).cumsum()
    # The same stream a million times as fast: each sum is the same instant, to the nanosecond.
    assert abs(slow / 1e6 - fast).max() < 1.001


def test_gaps_are_exponential() -> None:
    gaps = MarketFlow(22, rate=1e3).gaps(1_000_000) / 1e6
    below = 1 - np.exp(-np.sort(gaps))
    steps = np.arange(1, gaps.size + 1) / gaps.size
    statistic = max((steps - below).max(), (below - steps + 1 / gaps.size).max())
    assert statistic < 1.63 / math.sqrt(gaps.size)  # Kolmogorov and Smirnov at 1 %
    assert gaps.std() == pytest.approx(1, abs=0.01)
    assert np.corrcoef(gaps[:-1], gaps[1:])[0, 1] == pytest.approx(0, abs=0.005)


def test_gaps_are_independent_of_the_events() -> None:
    events = MarketFlow(23, rate=1e4).generate(200_000)
    gaps = np.diff(events["ingress_ts_ns"].astype(np.int64), prepend=0)
    for kind in (Kind.ADD, Kind.CANCEL, Kind.EXECUTE):
        of_kind = gaps[events["kind"] == kind]
        assert of_kind.mean() / 1e5 == pytest.approx(1, abs=4 / math.sqrt(of_kind.size))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rate", 0.0),
        ("rate", -1.0),
        ("rate", math.nan),
        ("rate", math.inf),
        ("rate", 1.1e9),
        ("rate", "fast"),
        ("tick_size", 0),
        ("tick_size", 2**62),
        ("tick_size", 1.5),
        ("base_price", 0),
        ("base_price", 1_000_050),
        ("base_price", 38_400),
        ("base_price", 2**62 // 100 * 100),
        ("market", 256),
        ("market", -1),
        ("half_width", 0),
        ("half_width", 2**33),
        ("reach", 0),
        ("reach", 256),
        ("first_id", -1),
        ("first_id", 2**64),
        ("bit_generator", "pcg"),
        ("bit_generator", None),
        ("seed", -1),
        ("seed", "seven"),
    ],
)
def test_a_parameter_that_cannot_be_is_named_with_its_value(field: str, value: object) -> None:
    parameters: dict[str, object] = {"seed": 1, field: value}
    with pytest.raises(ConfigError) as caught:
        MarketFlow(**parameters)  # type: ignore[arg-type]
    assert str(caught.value).startswith(f"{field} = {value!r}: ")


def test_a_bit_generator_and_a_seed_are_one_too_many() -> None:
    with refused(ConfigError, field="seed", value=1):
        MarketFlow(1, bit_generator=np.random.PCG64(2))


@pytest.mark.parametrize("count", [-1, 1.5, "many"])
def test_a_count_that_cannot_be_is_refused(count: object) -> None:
    flow = MarketFlow(1)
    for method in (flow.generate, flow.gaps):
        with refused(ConfigError, field="count"):
            method(count)  # type: ignore[arg-type]
    assert flow.generate(1)["id"].tolist() == [1]
