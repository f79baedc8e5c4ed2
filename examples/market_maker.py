"""A market maker on two markets.

It quotes a bid and an ask around the microprice, moves both against its inventory, and replaces its
own quotes by their ids. The strategy is a Python function that numba compiles; it runs on the
book's thread, without the GIL. Needs numba: ``pip install -e '.[numba]'``.

::

    python examples/market_maker.py
    velox run --strategy examples/market_maker.py:quote --param half_spread=2 --duration 1
"""

import numpy as np

import velox
from velox import strategy

MARKETS = 2

state = strategy.state(
    half_spread=1,  # ticks from the fair price to a quote
    lots=2,  # of each quote
    skew=1,  # ticks by which both quotes move for each lot of inventory
    limit=20,  # lots of inventory at which one side is no longer quoted
    next_id=np.uint64(1),
    ids=np.zeros((MARKETS, 2), np.uint64),  # of the quote of each side
    prices=np.zeros((MARKETS, 2), np.int64),  # of the quote of each side; 0: there is none
)


@strategy.compile(state=state)
def quote(record, view, out, state):  # noqa: PLR0912 - compiled as one
    """Replace each quote whose price is no longer the wanted one."""
    market = record.market
    if market >= MARKETS:
        return 0
    ids, prices = state.ids[market], state.prices[market]
    if record.kind > strategy.PLACED and record.kind != strategy.TIMER:
        for side in range(2):
            if record.id == ids[side] and view.find(record.id) < 0:
                prices[side] = 0  # the quote has ended
        if record.kind == strategy.BLOCKED:
            return 0

    tick, inventory = view.tick_size, view.inventory_lots
    quantity = view.bid_quantity + view.ask_quantity
    bid = ask = 0
    if view.bid_quantity > 0 and view.ask_quantity > 0 and view.feed_state == 0:
        micro = view.bid_price * view.ask_quantity + view.ask_price * view.bid_quantity
        fair = micro // quantity - state.skew * inventory * tick
        if fair > 0:
            below, above = fair // tick, (fair + tick - 1) // tick
            bid = min((below - state.half_spread) * tick, view.ask_price - tick)
            ask = max((above + state.half_spread) * tick, view.bid_price + tick)
        if inventory >= state.limit:
            bid = 0
        if inventory <= -state.limit:
            ask = 0

    n = 0
    for side in range(2):
        wanted = max(bid if side == strategy.BID else ask, 0)
        if wanted == prices[side]:
            continue
        slot = view.find(ids[side])
        if slot >= 0 and view.order(slot).state == strategy.ORDER_SENT:
            continue  # the venue has not answered yet
        if prices[side] != 0:
            n = strategy.cancel(out, n, ids[side], side, prices[side], state.lots, market)
        if wanted != 0:
            ids[side] = state.next_id
            state.next_id += np.uint64(1)
            n = strategy.add(out, n, ids[side], side, wanted, state.lots, market)
        prices[side] = wanted
    return n


def two_markets(count: int) -> np.ndarray:
    """Return records of two synthetic markets in turns, 20 us apart."""
    records = np.zeros(MARKETS * count, velox.TRANSACTION_DTYPE)
    for market in range(MARKETS):
        records[market::MARKETS] = velox.MarketFlow(seed=market).generate(count)
        records["market"][market::MARKETS] = market
    records["ingress_ts_ns"] = 20_000 * (1 + np.arange(len(records), dtype=np.uint64))
    return records


def main() -> None:
    from gateway import PaperGateway  # noqa: PLC0415 - it lies beside this file

    output = velox.PullOutput()
    limits = velox.Limits(each=velox.MarketLimits(max_position=30, collar=1_000_000))
    pipeline = velox.Pipeline(
        velox.ReplayIngress(two_markets(20_000), speed=1.0), output, strategy=quote, risk=limits
    )
    gateway = PaperGateway(pipeline, output)
    with pipeline:
        while not output.exhausted:
            gateway.step()
    while gateway.step() or gateway.waiting:
        pipeline.settle()  # what came too late for the strategy
    pipeline.settle()
    report = pipeline.report()
    print(f"{state['next_id'][0] - 1} quotes on {report.ledger.applied} updates")
    print("\n".join(report.order_lines()))


if __name__ == "__main__":
    main()
