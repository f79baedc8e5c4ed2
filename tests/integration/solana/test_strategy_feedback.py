"""A strategy on a local chain hears what became of its orders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from velox import cli

pytest.importorskip("numba")
pytest.importorskip("solders")

SOURCE = """
import numpy as np
from velox import strategy

state = strategy.state(next_id=np.uint64(1), heard=np.zeros(32, np.int64), sent=0)

@strategy.compile(state=state)
def quote(record, view, out, state):
    state.heard[record.kind] += 1
    if record.kind != strategy.TIMER or view.bid_quantity == 0:
        return 0
    n = strategy.add(out, 0, state.next_id, strategy.BID, view.bid_price, 1, record.market)
    state.next_id += np.uint64(1)
    state.sent += 1
    return n
"""


def test_the_market_maker_trades_on_a_local_chain(tmp_path: Path) -> None:
    example = Path(__file__).resolve().parents[3] / "examples" / "market_maker.py"
    document = tmp_path / "run.json"
    status = cli.main([
        *("run", "--submit", "localnet", "--duration", "1.5", "--rate", "300"),
        *("--strategy", f"{example}:quote", "--param", "half_spread=2", "--quiet"),
        *("--hiccups", "0", "--json", str(document)),
    ])  # fmt: skip
    assert status == 0
    found = json.loads(document.read_text("utf-8"))
    assert found["strategy"]["parameters"]["half_spread"] == 2
    assert found["feedback"]["balanced"]
    assert found["feedback"]["heard"] > 0
    assert found["ledger"]["chain"]["landed"] > 0
    orders = found["orders"]
    assert orders["balanced"]
    assert orders["counts"]["placed"] > 0
    # The account is the chain's own, to the atom.
    history = found["ledger"]["chain"]["market"]["history"]
    fills = [history["crowd"], history["others"]]
    account = orders["accounts"]["0"]
    assert account["inventory"] == sum(each["base_bought"] - each["base_sold"] for each in fills)
    assert account["cash"] == sum(each["quote_received"] - each["quote_paid"] for each in fills)
    assert not account["doubtful"]


@pytest.mark.parametrize("where", ["localnet", "localnet:memo"])
def test_each_order_that_lands_is_heard_of(tmp_path: Path, where: str) -> None:
    (tmp_path / "quotes.py").write_text(SOURCE, encoding="utf-8")
    document = tmp_path / "run.json"
    status = cli.main([
        *("run", "--submit", where, "--duration", "1", "--rate", "2000", "--timer-us", "50000"),
        *("--strategy", f"{tmp_path / 'quotes.py'}:quote", "--quiet", "--hiccups", "0"),
        *("--json", str(document)),
    ])  # fmt: skip
    assert status == 0
    found = json.loads(document.read_text("utf-8"))
    feedback, chain = found["feedback"], found["ledger"]["chain"]
    assert feedback["balanced"]
    assert feedback["left"] == 0
    assert feedback["timers"] > 0
    assert chain["landed"] > 0
    if where == "localnet:memo":
        assert feedback["heard"] == chain["landed"]
    else:
        # What rests or takes is placed first, and each fill is told.
        assert feedback["heard"] >= chain["landed"]
