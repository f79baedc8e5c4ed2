"""Every fault: the client's view, and the chain's actual state."""

from __future__ import annotations

import http.client
import json
import threading
from typing import Any

import pytest

pytest.importorskip("solders", reason="needs pip install -e '.[localnet]'")

from hypothesis import given, settings
from hypothesis import strategies as st
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from websockets.sync.client import connect

from tests.unit.testing.localnet_support import (
    BUNDLES,
    TOKEN,
    Client,
    Wallet,
    executed,
    memo,
    new_mint,
    signed,
    text_of,
)
from velox.errors import LocalnetError
from velox.testing import Fault, FaultPlan, Lie, LocalCluster, Strike
from velox.testing.block_engine import WORDS

LOST = (http.client.RemoteDisconnected, ConnectionResetError)


def faulty(plan: FaultPlan) -> LocalCluster:
    return LocalCluster(faults=plan, rate_per_s=None)


def only(fault: Fault, *numbers: int, **settings: Any) -> LocalCluster:
    """A cluster with one fault, at these of its opportunities, by default the first."""
    return faulty(FaultPlan(calls={fault: numbers or (0,)}, **settings))


# Of answers


def test_response_lost_is_a_closed_connection_after_a_transaction_was_accepted() -> None:
    with only(Fault.RESPONSE_LOST) as cluster:
        wallet, client = Wallet(cluster), Client(cluster)
        transaction = wallet.memo("kept")
        with pytest.raises(LOST):
            client.send(transaction)
        cluster.tick()
        assert executed(cluster) == [str(transaction.signatures[0])]
        # A second send is answered that it landed, and it does not land again.
        again = client.send(transaction)
        assert again.error["data"]["err"] == "AlreadyProcessed"
        cluster.tick()
        assert len(cluster.executions) == 1


def test_response_lost_of_a_bundle_too() -> None:
    with only(Fault.RESPONSE_LOST) as cluster:
        wallet, client = Wallet(cluster), Client(cluster)
        transaction = wallet.tipping_memo("kept")
        with pytest.raises(LOST):
            client.send_bundle(transaction)
        # Before it lands, the same bytes are the same bundle.
        name = client.send_bundle(transaction).result
        cluster.tick()
        assert client.inflight(name) == "Landed"
        assert len(cluster.executions) == 1


def test_rate_limited_null_id_is_a_429_that_names_no_request_and_nothing_was_accepted() -> None:
    with only(Fault.RATE_LIMITED_NULL_ID) as cluster:
        wallet, client = Wallet(cluster), Client(cluster)
        transaction = wallet.tipping_memo("throttled")
        answer = client.send_bundle(transaction)
        assert answer.status == 429
        assert answer.json == {
            "jsonrpc": "2.0",
            "error": {
                "code": -32097,
                "message": "Network congested. Endpoint is globally rate limited.",
            },
            "id": None,
        }
        cluster.tick()
        assert (cluster.executions, dict(cluster.bundles)) == ((), {})
        # The same bytes, later, execute once.
        assert client.send_bundle(transaction).result
        cluster.tick()
        assert len(cluster.executions) == 1


def test_error_under_200_says_that_all_is_well_in_http_and_nothing_was_accepted() -> None:
    with only(Fault.ERROR_UNDER_200) as cluster:
        wallet, client = Wallet(cluster), Client(cluster)
        answer = client.send_bundle(wallet.tipping_memo("refused"))
        assert answer.status == 200
        assert answer.error == {"code": -32603, "message": "Internal error"}
        cluster.tick()
        assert (cluster.executions, dict(cluster.bundles)) == ((), {})


def test_expiry_during_retry_lets_150_blocks_pass_before_a_second_try() -> None:
    with only(Fault.EXPIRY_DURING_RETRY) as cluster:
        wallet, client = Wallet(cluster), Client(cluster)
        height = cluster.block_height
        transaction = wallet.tipping_memo("too late")
        with pytest.raises(LOST):
            client.send_bundle(transaction)
        assert cluster.block_height == height + 151
        assert client.send_bundle(transaction).error["message"] == WORDS["expired"][1]
        cluster.tick()
        assert cluster.executions == ()
        assert client.status(transaction, searchTransactionHistory=True) is None


def test_expiry_during_retry_of_a_lost_response_hides_that_it_has_landed() -> None:
    # The trap for a client that signs again as soon as a blockhash has expired.
    plan = FaultPlan(calls={Fault.EXPIRY_DURING_RETRY: {0}, Fault.RESPONSE_LOST: {0}})
    with faulty(plan) as cluster:
        wallet, client = Wallet(cluster), Client(cluster)
        transaction = wallet.tipping_memo("landed")
        with pytest.raises(LOST):
            client.send_bundle(transaction)
        assert client.send_bundle(transaction).error["message"] == WORDS["processed"][1]
        assert len(cluster.executions) == 1
        assert client.status(transaction)["confirmationStatus"] == "finalized"


@pytest.mark.parametrize("lie", list(Lie))
def test_lying_is_an_answer_that_is_not_true_of_what_was_accepted(lie: Lie) -> None:
    with only(Fault.LYING, lies=(lie,)) as cluster:
        wallet, client = Wallet(cluster), Client(cluster)
        transaction = wallet.memo("true")
        truth = {"jsonrpc": "2.0", "result": str(transaction.signatures[0]), "id": 7}
        answer = client.send(transaction)
        assert answer.status == 200
        if lie is Lie.OTHER_VALUE:
            assert answer.json == {**truth, "result": answer.result}
            assert answer.result != truth["result"]
            assert len(answer.result) == len(truth["result"])
        elif lie is Lie.OTHER_ID:
            assert answer.json == {**truth, "id": "another"}
        elif lie is Lie.TRUNCATED:
            whole = json.dumps(truth, separators=(",", ":"))
            assert answer.text == whole[: len(whole) // 2]
        else:
            assert answer.headers["Content-Type"] == "text/html"
            assert "502 Bad Gateway" in answer.text
        cluster.tick()
        assert executed(cluster) == [str(transaction.signatures[0])]


def test_a_lying_block_engine_names_another_bundle() -> None:
    with only(Fault.LYING, lies=(Lie.OTHER_VALUE,)) as cluster:
        wallet, client = Wallet(cluster), Client(cluster)
        told = client.send_bundle(wallet.tipping_memo("true")).result
        (name,) = cluster.bundles
        assert (len(told), told != name) == (64, True)
        cluster.tick()
        assert client.inflight(name) == "Landed"


def test_a_fault_of_answers_strikes_the_methods_in_its_scope_alone() -> None:
    plan = FaultPlan(rates={Fault.LYING: 1.0}, scope={Fault.LYING: {"getSlot"}}, lies=(Lie.HTML,))
    with faulty(plan) as cluster:
        wallet, client = Wallet(cluster), Client(cluster)
        assert client.send(wallet.memo("true")).result
        assert "502" in client.call("getSlot").text
        assert client.call("getBlockHeight").result


# Of what was accepted


def test_invalid_yet_landed_is_a_bundle_that_its_engine_disowns() -> None:
    with only(Fault.INVALID_YET_LANDED) as cluster:
        wallet, client = Wallet(cluster), Client(cluster)
        transaction = wallet.tipping_memo("disowned")
        name = client.send_bundle(transaction).result
        assert client.inflight(name) == "Invalid"
        cluster.tick()
        assert client.inflight(name) == "Invalid"
        assert client.call("getBundleStatuses", [name], path=BUNDLES).value == []
        assert client.status(transaction)["err"] is None
        assert executed(cluster) == [str(transaction.signatures[0])]


def test_first_lands_alone_is_a_failed_bundle_of_which_one_transaction_landed() -> None:
    with only(Fault.FIRST_LANDS_ALONE) as cluster:
        wallet, client = Wallet(cluster), Client(cluster)
        sent = [wallet.tipping_memo("first"), wallet.memo("second"), wallet.memo("third")]
        name = client.send_bundle(*sent).result
        cluster.tick(5)
        assert client.inflight(name) == "Failed"
        assert client.call("getBundleStatuses", [name], path=BUNDLES).value == []
        statuses = [client.status(each) for each in sent]
        assert [each is not None for each in statuses] == [True, False, False]
        assert executed(cluster) == [str(sent[0].signatures[0])]
        # The others were not used up.
        assert client.send(sent[1]).result
        cluster.tick()
        assert len(cluster.executions) == 2


def test_a_bundle_of_one_is_no_opportunity_to_land_in_part() -> None:
    with only(Fault.FIRST_LANDS_ALONE) as cluster:
        wallet, client = Wallet(cluster), Client(cluster)
        name = client.send_bundle(wallet.tipping_memo("one")).result
        cluster.tick()
        assert client.inflight(name) == "Landed"
        assert cluster.strikes == ()


def test_delayed_is_accepted_and_lands_some_slots_later() -> None:
    with only(Fault.DELAYED, delay_slots=3) as cluster:
        wallet, client = Wallet(cluster), Client(cluster)
        slot, transaction = cluster.slot, wallet.memo("slow")
        assert client.send(transaction).result
        while not cluster.executions:
            assert client.status(transaction) is None
            cluster.tick()
        assert 2 <= cluster.slot - slot <= 4
        assert len(cluster.executions) == 1


def test_dropped_is_accepted_and_never_lands() -> None:
    with only(Fault.DROPPED, 0, 1) as cluster:
        wallet, client = Wallet(cluster), Client(cluster)
        transaction, bundled = wallet.memo("lost"), wallet.tipping_memo("lost too")
        assert client.send(transaction).result
        name = client.send_bundle(bundled).result
        cluster.tick(150)
        assert client.inflight(name) == "Pending"
        cluster.tick()
        assert client.inflight(name) == "Failed"
        assert [client.status(each) for each in (transaction, bundled)] == [None, None]
        assert cluster.executions == ()


def test_a_transaction_that_was_dropped_lands_when_it_is_sent_again() -> None:
    with only(Fault.DROPPED) as cluster:
        wallet, client = Wallet(cluster), Client(cluster)
        transaction = wallet.memo("lost once")
        for _ in range(2):
            assert client.send(transaction).result
            cluster.tick()
        assert len(cluster.executions) == 1


# Of what is asked


def test_empty_value_is_an_engine_that_has_forgotten_a_bundle_for_once() -> None:
    with only(Fault.EMPTY_VALUE, 0, 1) as cluster:
        wallet, client = Wallet(cluster), Client(cluster)
        name = client.send_bundle(wallet.tipping_memo("there")).result
        cluster.tick()
        for method in ("getInflightBundleStatuses", "getBundleStatuses"):
            assert client.call(method, [name], path=BUNDLES).value == []
        for method in ("getInflightBundleStatuses", "getBundleStatuses"):
            assert client.call(method, [name], path=BUNDLES).value[0]["bundle_id"] == name
        assert len(cluster.executions) == 1


def test_stale_tip_accounts_are_accounts_that_no_longer_count() -> None:
    with only(Fault.STALE_TIP_ACCOUNTS) as cluster:
        wallet, client = Wallet(cluster), Client(cluster)
        path = "/api/v1/getTipAccounts"
        stale = client.call("getTipAccounts", path=path).result
        assert len(stale) == 8
        assert set(stale).isdisjoint(map(str, cluster.tip_accounts))
        tip = wallet.pay(Pubkey.from_string(stale[0]), 10_000)
        refused = client.send_bundle(wallet.sign(tip, memo("tipped in vain")))
        assert refused.error["message"] == WORDS["no_tip"][1]
        fresh = client.call("getTipAccounts", path=path).result
        assert fresh == [str(each) for each in cluster.tip_accounts]
        cluster.tick()
        assert cluster.executions == ()


def test_missing_return_data_leaves_out_what_the_program_returned() -> None:
    # System and Memo return nothing; the token program tells an account's size.
    with only(Fault.RETURN_DATA_MISSING) as cluster:
        wallet, client, mint = Wallet(cluster), Client(cluster), Keypair.from_seed(bytes([3]) * 32)
        client.send(signed(wallet, *new_mint(wallet, mint, 1), signers=(mint,)))
        cluster.tick()
        asks = Instruction(TOKEN, bytes([21]), [AccountMeta(mint.pubkey(), False, False)])
        transaction = wallet.sign(asks)
        client.send(transaction)
        cluster.tick(2)
        config = {"commitment": "confirmed", "maxSupportedTransactionVersion": 0}
        name = str(transaction.signatures[0])
        metas = [client.call("getTransaction", name, config).result["meta"] for _ in range(2)]
        assert "returnData" not in metas[0]
        assert metas[1]["returnData"] == {
            "programId": str(TOKEN),
            "data": ["pQAAAAAAAAA=", "base64"],
        }
        assert cluster.executions[1].return_data == (TOKEN, (165).to_bytes(8, "little"))


def test_notification_lost_is_a_subscription_that_is_never_told() -> None:
    with only(Fault.NOTIFICATION_LOST) as cluster:
        wallet, client = Wallet(cluster), Client(cluster)
        lost, heard = wallet.memo("lost"), wallet.memo("heard")
        with connect(cluster.ws_url) as websocket:
            numbers = []
            for each in (lost, heard):
                params = [str(each.signatures[0]), {"commitment": "processed"}]
                call = {"jsonrpc": "2.0", "id": 1, "method": "signatureSubscribe", "params": params}
                websocket.send(json.dumps(call))
                numbers.append(json.loads(websocket.recv())["result"])
                client.send(each)
            cluster.tick()
            notice = json.loads(websocket.recv())
            assert notice["params"]["subscription"] == numbers[1]
            assert client.status(lost)["err"] is None
        assert len(cluster.executions) == 2


def test_forked_is_a_failure_that_is_taken_back_and_the_transaction_lands_after_all() -> None:
    with only(Fault.FORKED, fork_blocks=1) as cluster:
        wallet, client = Wallet(cluster), Client(cluster)
        transaction, lamports = wallet.memo("on a fork first"), wallet.lamports
        client.send(transaction)
        cluster.tick()
        status = client.status(transaction)
        assert status["err"] == {"InstructionError": [0, {"Custom": 6}]}
        assert client.send(transaction).error["data"]["err"] == "AlreadyProcessed"
        assert (cluster.executions, wallet.lamports) == ((), lamports)
        cluster.tick()
        assert client.status(transaction)["err"] is None
        assert executed(cluster) == [str(transaction.signatures[0])]


def test_forked_is_never_finalized() -> None:
    with only(Fault.FORKED) as cluster:
        wallet, client = Wallet(cluster), Client(cluster)
        transaction = wallet.memo("a long fork")
        client.send(transaction)
        seen = []
        while not cluster.executions:
            cluster.tick()
            if not cluster.executions:
                seen.append(client.status(transaction)["confirmationStatus"])
        assert "finalized" not in seen


# Of time


def test_skipped_slots_raise_the_slot_and_not_the_height() -> None:
    with only(Fault.SKIPPED_SLOTS, skip_slots=4) as cluster:
        wallet, client = Wallet(cluster), Client(cluster)
        slot, height = cluster.slot, cluster.block_height
        client.send(wallet.memo("after the gap"))
        cluster.tick()
        assert cluster.block_height == height + 1
        assert 2 <= cluster.slot - slot <= 5
        assert cluster.executions[0].slot == cluster.slot
        # A blockhash is good for as many blocks as ever.
        cluster.tick()
        assert (cluster.block_height, cluster.slot) == (height + 2, cluster.executions[0].slot + 1)


# The plan


def test_without_a_plan_nothing_strikes() -> None:
    with faulty(FaultPlan()) as cluster:
        wallet, client = Wallet(cluster), Client(cluster)
        for i in range(20):
            assert client.send_bundle(wallet.tipping_memo(str(i))).result
            cluster.tick()
        assert len(cluster.executions) == 20
        assert cluster.strikes == ()


def test_what_struck_is_on_record() -> None:
    with only(Fault.DROPPED, 1) as cluster:
        wallet, client = Wallet(cluster), Client(cluster)
        sent = [wallet.memo(str(i)) for i in range(3)]
        for each in sent:
            client.send(each)
        assert cluster.strikes == (Strike(Fault.DROPPED, 1, str(sent[1].signatures[0])),)
        cluster.tick()
        assert len(cluster.executions) == 2


@settings(max_examples=8)
@given(seed=st.integers(0, 2**32))
def test_the_same_plan_and_the_same_requests_meet_the_same_faults(seed: int) -> None:
    def history() -> list[Any]:
        plan = FaultPlan(seed, dict.fromkeys(Fault, 0.2))
        with faulty(plan) as cluster:
            wallet, client = Wallet(cluster), Client(cluster)
            seen: list[Any] = []
            for i in range(12):
                transaction = wallet.tipping_memo(str(i))
                for send in (client.send_bundle, client.send):
                    try:
                        seen.append(send(transaction).text)
                    except LOST:
                        seen.append("lost")
                cluster.tick()
            return [seen, cluster.strikes, cluster.executions, cluster.slot]

    assert history() == history()


@given(seed=st.integers(0, 2**64), rate=st.floats(0, 1), number=st.integers(0, 10**6))
def test_a_rate_is_a_threshold_that_only_lets_more_through(
    seed: int, rate: float, number: int
) -> None:
    less, more = (FaultPlan(seed, {Fault.DROPPED: each}) for each in (rate / 2, rate))
    assert less.strikes(Fault.DROPPED, number) <= more.strikes(Fault.DROPPED, number)
    assert not FaultPlan(seed).strikes(Fault.DROPPED, number)
    assert FaultPlan(seed, {Fault.DROPPED: 1.0}).strikes(Fault.DROPPED, number)


def test_a_rate_is_how_often_it_strikes() -> None:
    plan = FaultPlan(7, {Fault.DROPPED: 0.25})
    struck = sum(plan.strikes(Fault.DROPPED, number) for number in range(10_000))
    # Five standard deviations.
    assert abs(struck - 2_500) < 5 * 43.3


def test_faults_count_their_opportunities_across_threads() -> None:
    with only(Fault.RATE_LIMITED_NULL_ID, *range(10)) as cluster:
        wallet, client = Wallet(cluster), Client(cluster)
        text = text_of(wallet.tipping_memo("same"))
        statuses: list[int] = []

        def work() -> None:
            for _ in range(5):
                answer = client.call("sendBundle", [text], {"encoding": "base64"}, path=BUNDLES)
                statuses.append(answer.status)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert sorted(statuses) == [200] * 10 + [429] * 10
        assert sorted(each.number for each in cluster.strikes) == list(range(10))


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ({"rates": {"dropped?": 0.5}}, "rates: .*'dropped\\?'"),
        ({"rates": {Fault.DROPPED: 1.5}}, "rates: dropped = 1.5"),
        ({"rates": {Fault.DROPPED: "often"}}, "rates: dropped = 'often'"),
        ({"rates": {Fault.DROPPED: float("nan")}}, "rates: dropped = nan"),
        ({"calls": {Fault.DROPPED: {-1}}}, "calls: dropped = {-1}"),
        ({"calls": {Fault.DROPPED: [True]}}, "calls: dropped = \\[True\\]"),
        ({"scope": {Fault.LYING: "getSlot"}}, "scope: lying = 'getSlot'"),
        ({"scope": {Fault.DROPPED: {"getSlot"}}}, "scope: dropped"),
        ({"delay_slots": 0}, "delay_slots = 0"),
        ({"skip_slots": 1.5}, "skip_slots = 1.5"),
        ({"fork_blocks": 32}, "fork_blocks = 32: must be 1 to 31"),
        ({"lies": ()}, "lies = \\(\\)"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(setting: dict[str, Any], why: str) -> None:
    with pytest.raises(LocalnetError, match=why):
        FaultPlan(**setting)
