"""Limits from a file: what it means, and every fault with its line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from velox import Limits, MarketLimits
from velox.errors import LimitsError
from velox.runtime.limits_file import load_limits

GOOD = """\
# What the desk allows.
[total]
max_open_orders = 20
orders_per_second = 100
order_burst = 10

[each]
max_order_lots = 10          # lots

[market.3]
collar = 500
self_trade = true

[market.255]
"""


def saved(folder: Path, text: str) -> Path:
    path = folder / "limits.toml"
    path.write_text(text, encoding="utf-8")
    return path


def faults(folder: Path, text: str) -> list[tuple[int | None, str]]:
    with pytest.raises(LimitsError) as caught:
        load_limits(saved(folder, text))
    assert all(why for _, _, why in caught.value.faults)
    return [(line, key) for line, key, _ in caught.value.faults]


def test_a_file_says_what_limits_say(tmp_path: Path) -> None:
    assert load_limits(saved(tmp_path, GOOD)) == Limits(
        max_open_orders=20,
        orders_per_second=100,
        order_burst=10,
        each=MarketLimits(max_order_lots=10),
        markets={3: MarketLimits(collar=500, self_trade=True), 255: MarketLimits()},
    )


def test_without_a_table_for_each_market_only_named_markets_take_orders(tmp_path: Path) -> None:
    assert load_limits(saved(tmp_path, "[market.1]\n")).of(0) is None
    assert load_limits(saved(tmp_path, "[each]\n")).of(0) == MarketLimits()


def test_all_faults_are_told_at_once_each_with_its_line_and_key(tmp_path: Path) -> None:
    text = (
        "[total]\nmax_oder = 1\nmax_loss = -5\n\n[each]\nmax_order_lots = 1.5\n"
        "max_position = 9\nself_trade = 1\n[market.256]\n[market.7]\nlot_step = 0\n"
        "order_burst = 3\n[markets]\n"
    )
    assert faults(tmp_path, text) == [
        (2, "total.max_oder"),
        (3, "total.max_loss"),
        (6, "each.max_order_lots"),
        (8, "each.self_trade"),
        (9, "market.256"),
        (11, "market.7.lot_step"),
        (12, "market.7.order_burst"),
        (13, "markets"),
    ]


def test_the_message_has_file_line_key_and_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(LimitsError) as caught:
        load_limits(saved(tmp_path, "[each]\nmax_order_lot = 3\n"))
    path = tmp_path / "limits.toml"
    assert str(caught.value) == (
        f"{path}:2: each.max_order_lot: unknown; did you mean 'max_order_lots'?"
    )


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("[each\n", 1, ""),
        ("[each]\nmax_position = \n", 2, ""),
        ("total = 3\n", 1, "total"),
        ("market = 3\n", 1, "market"),
        ("[each]\nmax_position = 1\nmax_position = 2\n", 3, ""),
        ("market.1 = 5\n", None, "market.1"),
        ("each = { collar = -1 }\n", 1, "each.collar"),
        ("[market.x]\n", 1, "market.x"),
        ("[market.1.2]\n", 1, "market.1.2"),
    ],
)
def test_what_is_not_a_file_of_limits_is_refused(
    tmp_path: Path, text: str, line: int | None, key: str
) -> None:
    assert faults(tmp_path, text) == [(line, key)]


def test_bytes_that_are_not_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "limits.toml"
    path.write_bytes(b"[each]\ncollar = 1\n# \xff\n")
    with pytest.raises(LimitsError) as caught:
        load_limits(path)
    assert caught.value.faults == [(3, "", "is not UTF-8")]


def test_a_file_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_limits(tmp_path / "none.toml")
