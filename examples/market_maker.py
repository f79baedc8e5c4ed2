"""A market maker: keeps one bid and one ask a tick outside the best prices, at the flow's speed.

The strategy is a Python function that numba compiles; it runs on the book's thread, without the
GIL. `state` is its memory: what it quotes now. Needs numba: ``pip install -e '.[numba]'``.
"""

import numpy as np

import velox

DELETE, ADD, LOTS = int(velox.Kind.DELETE), int(velox.Kind.ADD), 10
QUOTES = 2  # state: the price of the bid, that of the ask, and how many quotes were made

state = np.zeros(3, np.int64)


@velox.numba_strategy(state=state)
def quote(record, book, out, state):
    """Replace each quote whose price is no longer a tick outside the best."""
    emitted = 0
    for side in range(2):
        best = book.bid_price if side == 0 else book.ask_price
        wanted = best - book.tick_size if side == 0 else best + book.tick_size
        resting = state[side]
        if best == 0 or wanted == resting:
            continue
        for price, kind in ((resting, DELETE), (wanted, ADD)):
            if price != 0:
                order = out[emitted]
                order.id = state[QUOTES]
                order.price = price
                order.size = LOTS
                order.side = side
                order.kind = kind
                order.flags = 0
                order.market = record.market
                order.ingress_ts_ns = 0  # taken from the record that caused it
                emitted += 1
        state[side] = wanted
        state[QUOTES] += 1
    return emitted


def main() -> None:
    market = velox.PoissonIngress(rate=100_000, seed=42)
    report = velox.Pipeline(market, strategy=quote).run(duration=1.0)
    print(f"{state[QUOTES]} quotes on {report.ledger.applied} updates")
    print(f"tick to trade, p50: {report.latency['transit'].percentile(50)} ns")


if __name__ == "__main__":
    main()
