"""The soak of the risk gate for a moment; and that it fails if a limit is passed."""

from __future__ import annotations

import pytest

from velox import Limits, MarketLimits

from .__main__ import Sum


def test_no_limit_is_passed_by_a_few_orders() -> None:
    behind = Sum(7)
    for _ in range(60):
        behind.turn()
    behind.close()
    assert behind.passed > 1_000
    assert sum(n > 0 for n in behind.gate.blocked.values()) >= 5


@pytest.mark.parametrize(
    "looser",
    [
        {"max_order_lots": 60},
        {"max_notional": 10**6, "max_order_lots": 60},
        {"collar": 100},
        {"max_position": 10**6},
        {"max_open_orders": 4096},
    ],
    ids=lambda each: next(iter(each)),
)
def test_a_gate_with_a_looser_limit_is_found_out(looser: dict[str, int]) -> None:
    strict = {
        "max_order_lots": 20,
        "max_notional": 25_000,
        "collar": 15,
        "max_position": 300,
        "max_open_orders": 40,
    }
    if "max_notional" in looser:
        # So that the lots alone do not keep the product small.
        strict["max_order_lots"] = 60
    behind = Sum(7)
    behind.new_limits = lambda: None  # type: ignore[method-assign]
    behind.limits, behind.rate = MarketLimits(**strict), 10**9
    behind.gate.set_limits(Limits(each=MarketLimits(**{**strict, **looser})))
    with pytest.raises(AssertionError):
        for _ in range(60):
            behind.turn()
            behind.tokens = 1e9
