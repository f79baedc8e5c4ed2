"""A taker with a timer: each period it buys where the ask is about to run out.

``python examples/taker.py``. Needs numba: ``pip install -e '.[numba]'``.
"""

import numpy as np

import velox
from velox import strategy

state = strategy.state(lots=1, ratio=4, next_id=np.uint64(1), filled=0)


@strategy.compile(state=state)
def take(record, view, out, state):
    """Buy when the bid is much larger than the ask."""
    if record.kind == strategy.FILLED:
        state.filled += record.size
    if record.kind != strategy.TIMER or view.ask_quantity == 0:
        return 0
    if view.bid_quantity < state.ratio * view.ask_quantity:
        return 0
    n = strategy.add(out, 0, state.next_id, strategy.BID, view.ask_price, state.lots, record.market)
    state.next_id += np.uint64(1)
    return n


def main() -> None:
    from gateway import PaperGateway  # noqa: PLC0415 - it lies beside this file

    output = velox.PullOutput()
    config = velox.PipelineConfig(timer_ns=1_000_000)
    pipeline = velox.Pipeline(
        velox.PoissonIngress(seed=1), output, strategy=take, risk=velox.Limits(), config=config
    )
    gateway = PaperGateway(pipeline, output)
    with pipeline:
        while pipeline.statistics().elapsed_s < 1:
            gateway.step()
        pipeline.stop()
    while not output.exhausted or gateway.step() or gateway.waiting:
        gateway.step()
        pipeline.settle()
    print(f"{state['next_id'][0] - 1} orders, {state['filled'][0]} lots filled")
    print("\n".join(pipeline.report().order_lines()))


if __name__ == "__main__":
    main()
