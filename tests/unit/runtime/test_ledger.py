"""The ledger: its equations, and the message if one fails."""

import doctest
import json
from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from velox.errors import LedgerError, PipelineError
from velox.runtime import ledger as module
from velox.runtime.ledger import Ledger

BALANCED = Ledger(
    generated=1_000,
    pushed=990,
    dropped=10,
    applied=980,
    rejected={"off_tick": 7, "price": 3},
    emitted=980,
    bundles={"size": 60, "timeout": 2, "idle": 0, "drain": 1},
    sealed_transactions=980,
    delivered_bundles=61,
    delivered_transactions=960,
    undelivered_bundles=2,
    undelivered_transactions=20,
)

counts = st.integers(min_value=0, max_value=2**64)


@st.composite
def balanced_ledgers(draw):
    """A ledger as a pipeline would fill it: the left sides are made of the right ones."""
    applied, dropped = draw(counts), draw(counts)
    rejected = draw(st.dictionaries(st.sampled_from(["price", "size", "side"]), counts))
    blocked = draw(st.dictionaries(st.sampled_from(["price", "size", "kind"]), counts))
    pushed = applied + sum(rejected.values())
    delivered, undelivered = draw(counts), draw(counts)
    reasons = draw(st.lists(counts, min_size=4, max_size=4))
    undelivered_bundles = draw(st.integers(min_value=0, max_value=sum(reasons)))
    return Ledger(
        generated=pushed + dropped,
        pushed=pushed,
        dropped=dropped,
        applied=applied,
        rejected=rejected,
        emitted=delivered + undelivered + sum(blocked.values()),
        blocked=blocked,
        passed=delivered + undelivered,
        bundles=dict(zip(("size", "timeout", "idle", "drain"), reasons, strict=True)),
        sealed_transactions=delivered + undelivered,
        delivered_bundles=sum(reasons) - undelivered_bundles,
        delivered_transactions=delivered,
        undelivered_bundles=undelivered_bundles,
        undelivered_transactions=undelivered,
    )


def test_an_empty_ledger_balances():
    assert Ledger().balanced
    Ledger().check(forwarding=True)


def test_a_run_that_lost_nothing_balances():
    assert BALANCED.balanced
    BALANCED.check(forwarding=True)


@given(balanced_ledgers())
def test_every_ledger_filled_as_a_pipeline_does_balances(ledger):
    assert ledger.balanced


@given(
    balanced_ledgers(),
    st.sampled_from(
        [
            "generated",
            "pushed",
            "dropped",
            "applied",
            "emitted",
            "passed",
            "sealed_transactions",
            "delivered_bundles",
            "delivered_transactions",
            "undelivered_bundles",
            "undelivered_transactions",
        ]
    ),
    st.integers(min_value=1),
)
def test_one_count_that_is_off_unbalances_the_ledger(ledger, name, excess):
    wrong = replace(ledger, **{name: getattr(ledger, name) + excess})
    assert not wrong.balanced
    with pytest.raises(LedgerError, match=name):
        wrong.check()


@pytest.mark.parametrize("reason", ["size", "timeout", "idle", "drain"])
def test_a_bundle_that_no_one_received_unbalances_the_ledger(reason):
    bundles = {**BALANCED.bundles, reason: BALANCED.bundles[reason] + 1}
    failing = [each for each in replace(BALANCED, bundles=bundles).equations() if not each.holds]
    assert [each.name for each in failing] == ["bundles = delivered_bundles + undelivered_bundles"]
    assert (failing[0].left, failing[0].right) == (64, 63)


def test_a_rejection_that_is_not_counted_unbalances_the_ledger():
    with pytest.raises(LedgerError, match=r"pushed = applied \+ rejected: 990 ≠ 983"):
        replace(BALANCED, rejected={"price": 3}).check()


def test_check_lists_each_failing_equation_with_both_numbers_and_no_other():
    with pytest.raises(LedgerError) as caught:
        replace(BALANCED, dropped=11, delivered_transactions=961).check()
    assert str(caught.value) == (
        "the ledger does not balance: generated = pushed + dropped: 1,000 ≠ 1,001; "
        "sealed_transactions = delivered_transactions + undelivered_transactions: 980 ≠ 981"
    )
    assert isinstance(caught.value, PipelineError)


def test_a_strategy_of_the_users_need_not_emit_what_was_applied():
    quiet = replace(
        BALANCED,
        emitted=0,
        passed=0,
        sealed_transactions=0,
        delivered_transactions=0,
        undelivered_transactions=0,
    )
    quiet.check()
    with pytest.raises(LedgerError, match="applied = emitted: 980 ≠ 0"):
        quiet.check(forwarding=True)


def test_forwarding_adds_one_equation_and_no_more():
    plain = {each.name for each in BALANCED.equations()}
    forwarding = {each.name for each in BALANCED.equations(forwarding=True)}
    assert len(plain) == 6
    assert forwarding - plain == {"applied = emitted"}


def test_the_json_shape_is_fixed():
    values = BALANCED.to_dict()
    assert json.loads(json.dumps(values)) == values
    assert values == {
        "generated": 1_000,
        "pushed": 990,
        "dropped": 10,
        "applied": 980,
        "rejected": {"off_tick": 7, "price": 3},
        "emitted": 980,
        "blocked": {},
        "passed": 980,
        "bundles": {"size": 60, "timeout": 2, "idle": 0, "drain": 1},
        "delivered_bundles": 61,
        "delivered_transactions": 960,
        "undelivered_bundles": 2,
        "undelivered_transactions": 20,
        "balanced": True,
    }


def test_the_json_shape_says_when_a_ledger_does_not_balance():
    assert replace(BALANCED, generated=0).to_dict()["balanced"] is False


def test_the_table_is_aligned_and_leaves_out_reasons_that_never_occurred():
    table = str(replace(BALANCED, rejected={"off_tick": 10, "price": 0}))
    lines = table.splitlines()
    assert len({len(line) for line in lines}) == 1
    assert "generated            1,000" in lines
    assert "  off_tick              10" in lines
    assert "price" not in table
    assert lines[-1].split() == ["balanced", "yes"]


def test_the_table_of_a_ledger_that_does_not_balance_says_which_equation_fails():
    lines = replace(BALANCED, generated=999).format().splitlines()
    assert lines[-2].split() == ["balanced", "no"]
    assert lines[-1] == "  generated = pushed + dropped: 999 ≠ 1,000"


def test_what_was_blocked_is_in_the_table_and_the_equations():
    screened = replace(BALANCED, emitted=990, blocked={"off_tick": 8, "kind": 2, "size": 0})
    screened.check()
    lines = [line.split() for line in screened.format().splitlines()]
    first = lines.index(["emitted", "990"])
    assert lines[first + 1 : first + 5] == [
        ["blocked", "10"],
        ["kind", "2"],
        ["off_tick", "8"],
        ["passed", "980"],
    ]
    assert "blocked" not in BALANCED.format()
    with pytest.raises(LedgerError, match=r"emitted = blocked \+ passed: 990 ≠ 989"):
        replace(screened, blocked={"off_tick": 9}).check()


def test_what_is_not_given_as_passed_is_what_was_not_blocked():
    assert Ledger(emitted=10, blocked={"kind": 3}).passed == 7
    with pytest.raises(LedgerError, match="passed = -1"):
        Ledger(emitted=2, blocked={"kind": 3})


def test_the_sum_of_lanes_is_the_ledger_of_both():
    other = Ledger(generated=5, pushed=5, applied=4, rejected={"price": 1}, emitted=4)
    both = BALANCED + other
    assert both.generated == 1_005
    assert both.rejected == {"off_tick": 7, "price": 4}
    assert both.bundles == BALANCED.bundles
    assert sum([BALANCED, other], Ledger()) == both


@given(balanced_ledgers(), balanced_ledgers())
def test_balanced_ledgers_add_up_to_a_balanced_one(first, second):
    assert (first + second).balanced


def test_only_ledgers_can_be_added():
    with pytest.raises(TypeError):
        BALANCED + 1


def test_a_ledger_keeps_its_own_copy_of_the_dicts():
    rejected = {"price": 3}
    ledger = Ledger(rejected=rejected)
    rejected["price"] = 4
    assert ledger.rejected == {"price": 3}
    ledger.to_dict()["rejected"]["price"] = 5
    assert ledger.rejected == {"price": 3}


def test_a_ledger_cannot_be_edited():
    with pytest.raises(FrozenInstanceError):
        BALANCED.pushed = 1_000


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"pushed": -1}, r"pushed = -1: must be a count"),
        ({"pushed": 1.0}, r"pushed = 1\.0: must be a count"),
        ({"pushed": True}, r"pushed = True: must be a count"),
        ({"rejected": {"price": -2}}, r"rejected\['price'\] = -2: must be a count"),
        ({"rejected": [1]}, r"rejected = \[1\]: must be a dict of counts"),
        ({"bundles": {"size": 1}}, r"bundles = .*: must have exactly the keys size, timeout"),
    ],
)
def test_a_count_that_is_none_is_refused_by_name(wrong, message):
    with pytest.raises(LedgerError, match=message):
        Ledger(**wrong)


def test_the_examples_of_the_module_run():
    results = doctest.testmod(module)
    assert results.attempted > 0
    assert results.failed == 0
