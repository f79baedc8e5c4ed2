"""The block engine's client: against servers that misbehave, and against a local cluster."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import logging
import traceback
from contextlib import ExitStack, contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from tests.unit.solana.fake_server import FakeServer, body, document, error, raw, result, send
from velox.errors import (
    BundleRejectedError,
    ConfigError,
    EndpointRefusedError,
    RateLimitedError,
    RpcError,
    SolanaError,
    TransactionTooLargeError,
    TransportError,
)
from velox.solana.net.address import Secret
from velox.solana.net.block_engine import (
    MAINNET_REGIONS,
    BlockEngineClient,
    BundleError,
    BundleSimulation,
    BundleStatus,
    InflightState,
    InflightStatus,
    classify,
)
from velox.solana.net.rpc import RpcClient
from velox.solana.net.rpc_types import first_signature
from velox.testing import Fault, FaultPlan, LocalCluster

SECOND = 10**9
FIRST, SECOND_ONE = (bytes([1]) + bytes([n]) * 64 + b"message" for n in (1, 2))
SIGNATURES = [first_signature(FIRST), first_signature(SECOND_ONE)]
ID = hashlib.sha256(",".join(map(str, SIGNATURES)).encode()).hexdigest()
OTHER = "0" * 64
AUTH = "3f2c-uuid-of-a-searcher"
KEYS = [Pubkey(bytes([n]) * 32) for n in range(1, 9)]


class Clock:
    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


@contextmanager
def engine_of(*regions, **settings):
    """Yield a client of regions that behave so, those regions, and its clock."""
    with ExitStack() as stack:
        fakes = [stack.enter_context(FakeServer(*behaviours)) for behaviours in regions]
        clock = Clock()
        client = BlockEngineClient(
            [fake.url for fake in fakes], clock=clock, **{"burst": 100, **settings}
        )
        yield stack.enter_context(client), fakes, clock


def methods(fake) -> list[str]:
    return [request.call["method"] for request in fake.requests]


# Sending.


def test_a_bundle_goes_out_in_base64_under_the_id_computed_before():
    with engine_of([result(ID)]) as (client, (fake,), _):
        assert client.send_bundle([FIRST, SECOND_ONE]) == ID
    (request,) = fake.requests
    assert (request.verb, request.target) == ("POST", "/api/v1/bundles")
    assert request.headers["content-type"] == "application/json"
    assert "x-jito-auth" not in request.headers
    assert request.call["method"] == "sendBundle"
    transactions, options = request.call["params"]
    assert [base64.b64decode(transaction) for transaction in transactions] == [FIRST, SECOND_ONE]
    assert options == {"encoding": "base64"}


def test_another_id_than_that_of_the_bytes_is_a_lie():
    with engine_of([result(OTHER)]) as (client, _, _):
        with pytest.raises(TransportError, match="is not the id of the bundle that was sent"):
            client.send_bundle([FIRST, SECOND_ONE])


def test_what_is_no_bundle_is_not_sent():
    with engine_of([result(ID)]) as (client, (fake,), _):
        with pytest.raises(ConfigError, match=r"^transactions: 0"):
            client.send_bundle([])
        with pytest.raises(ConfigError, match=r"^transactions: 6"):
            client.send_bundle([FIRST] * 6)
        with pytest.raises(TransactionTooLargeError) as caught:
            client.send_bundle([FIRST.ljust(1233, b"x")])
        assert (caught.value.size, caught.value.limit, caught.value.what) == (1233, 1232, "bytes")
        with pytest.raises(ConfigError, match=r"^transaction: "):
            client.send_bundle([b"short"])
        assert not fake.requests


def test_one_transaction_may_go_as_a_bundle_of_its_own():
    answers = [
        result(str(SIGNATURES[0]), x_bundle_id=OTHER),
        result(str(SIGNATURES[0])),
        result(str(SIGNATURES[0]), x_bundle_id="<script>"),
        result(str(SIGNATURES[1])),
    ]
    with engine_of(answers) as (client, (fake,), _):
        assert client.send_transaction(FIRST) == (SIGNATURES[0], OTHER)
        assert client.send_transaction(FIRST, bundle_only=False) == (SIGNATURES[0], None)
        assert client.send_transaction(FIRST) == (SIGNATURES[0], None)
        with pytest.raises(TransportError, match="is not the signature that was sent"):
            client.send_transaction(FIRST)
    targets = [request.target for request in fake.requests]
    assert targets[:2] == ["/api/v1/transactions?bundleOnly=true", "/api/v1/transactions"]
    assert fake.requests[0].call["params"][1] == {"encoding": "base64"}


# The texts are those that users of the engine have reported.
@pytest.mark.parametrize(
    ("code", "words", "reason"),
    [
        (-32602, "bundle contains an expired blockhash", BundleError.EXPIRED_BLOCKHASH),
        (-32602, "bundle contains an already processed transaction", BundleError.ALREADY_PROCESSED),
        (
            -32602,
            "Bundles must write lock at least one tip account to be eligible for the auction.",
            BundleError.NO_TIP,
        ),
        (-32602, "bundle exceeds max transaction length", BundleError.TOO_LONG),
        (-32602, "bundle contains a duplicate transaction", BundleError.DUPLICATE),
        (-32603, "transaction has too many account locks", BundleError.TOO_MANY_LOCKS),
        (-32600, "Unsupported content type", BundleError.BAD_REQUEST),
        (-32602, "something new", BundleError.UNKNOWN),
        (None, "", BundleError.UNKNOWN),
    ],
)
def test_a_refusal_is_understood_by_its_words_and_keeps_them(code, words, reason):
    assert classify(code, words.upper()) is reason
    with engine_of([error(code, words, {"more": 1}, status=400)]) as (client, _, _):
        with pytest.raises(BundleRejectedError) as caught:
            client.send_bundle([FIRST])
    assert caught.value.reason is reason
    assert (caught.value.code, caught.value.message) == (code, words)
    assert caught.value.data == {"more": 1}
    assert caught.value.method == "sendBundle"


# Rates and regions.


def test_every_region_has_a_bucket_of_its_own():
    with engine_of([result(ID)], [result(ID)], burst=1) as (client, (first, second), clock):
        for _ in range(2):
            assert client.send_bundle([FIRST, SECOND_ONE]) == ID
        assert client.wait_s == 1.0
        with pytest.raises(RateLimitedError) as caught:
            client.send_bundle([FIRST, SECOND_ONE])
        assert caught.value.retry_after_s == 1.0
        assert (len(first.requests), len(second.requests)) == (1, 1)
        clock.now += SECOND // 4
        with pytest.raises(RateLimitedError) as caught:
            client.send_bundle([FIRST, SECOND_ONE])
        assert caught.value.retry_after_s == 0.75
        clock.now = SECOND
        client.send_bundle([FIRST, SECOND_ONE])
        assert (len(first.requests), len(second.requests)) == (2, 1)  # back to the first


@pytest.mark.parametrize(
    "limited",
    [
        error(-32097, "Rate limit exceeded. Retry after 2500 ms", status=429, id=None),
        error(-32097, "Network congested. Retry after 2500 ms"),
        body(b"", status=429, retry_after="2.5"),
        error(-32603, "Network congested. Endpoint is globally rate limited."),
    ],
)
def test_a_region_that_is_limited_is_left_alone_for_so_long_and_another_gets_the_bytes(limited):
    with engine_of([limited], [result(ID)]) as (client, (first, second), clock):
        assert client.send_bundle([FIRST, SECOND_ONE]) == ID
        assert [r.call["params"] for r in first.requests] == [
            r.call["params"] for r in second.requests
        ]
        assert client.label == second.url
        clock.now = 5 * SECOND
        assert client.send_bundle([FIRST, SECOND_ONE]) == ID
        assert (len(first.requests), len(second.requests)) == (1, 2)


def test_the_wait_that_a_region_asks_for_is_kept():
    limited = error(-32097, "Rate limit exceeded. Retry after 2500 ms", status=429, id=None)
    with engine_of([limited, result(ID)]) as (client, (fake,), clock):
        for now, wait in [(0, 2.5), (SECOND, 1.5), (2 * SECOND, 0.5)]:
            clock.now = now
            with pytest.raises(RateLimitedError) as caught:
                client.send_bundle([FIRST, SECOND_ONE])
            assert caught.value.retry_after_s == wait
        assert len(fake.requests) == 1
        clock.now = 5 * SECOND // 2
        assert client.send_bundle([FIRST, SECOND_ONE]) == ID


@pytest.mark.parametrize(
    "failing",
    [
        raw(b""),
        body(b"", status=429),
        body(b"", status=429, retry_after="0"),
        error(-32097, "Rate limit exceeded. Retry after 1 ms", status=429, id=None),
        error(-32603, "Network congested. Endpoint is globally rate limited."),
    ],
)
def test_a_region_that_goes_on_failing_is_asked_less_and_less_often(failing):
    with engine_of([failing], burst=1000, rate_per_s=1000.0) as (client, (fake,), clock):
        asked = []
        while clock.now < 60 * SECOND:
            with pytest.raises((TransportError, RateLimitedError)):
                client.send_bundle([FIRST, SECOND_ONE])
            if len(fake.requests) > len(asked):
                asked.append(clock.now)
            clock.now += SECOND // 20
        waits = [(then - now) / SECOND for now, then in itertools.pairwise(asked)]
        spans = [0.5, 1, 2, 4, *[8] * len(waits)]
        assert len(waits) > 8
        assert all(span / 2 <= wait < span + 0.1 for wait, span in zip(waits, spans, strict=False))
        clock.now += 8 * SECOND
        fake.answers(result(ID))
        assert client.send_bundle([FIRST, SECOND_ONE]) == ID
        assert client.wait_s == 0


@pytest.mark.parametrize(
    "broken", [raw(b""), body(b"down", status=503), result(OTHER), body(b"", 302, location="/")]
)
def test_a_region_without_an_answer_to_believe_is_left_for_the_next(broken):
    with engine_of([broken], [result(ID)]) as (client, (first, second), _):
        assert client.send_bundle([FIRST, SECOND_ONE]) == ID
        assert client.send_bundle([FIRST, SECOND_ONE]) == ID
    assert (len(first.requests), len(second.requests)) == (1, 2)


def test_where_an_answer_was_lost_the_outcome_is_not_known_whatever_the_limits_are():
    limited = error(-32097, "Rate limit exceeded", status=429, id=None)
    with engine_of([raw(b"")], [limited]) as (client, _, _):
        with pytest.raises(TransportError, match="RemoteProtocolError"):
            client.send_bundle([FIRST])


def test_a_refusal_after_a_lost_answer_remembers_it():
    refused = error(-32602, "bundle contains an already processed transaction", status=400)
    with engine_of([raw(b"")], [refused]) as (client, (first, _), _):
        with pytest.raises(BundleRejectedError) as caught:
            client.send_bundle([FIRST])
    assert isinstance(caught.value.__cause__, TransportError)
    assert caught.value.__cause__.endpoint == first.url


def test_a_refusal_is_not_taken_to_another_region():
    refused = error(-32602, "bundle contains an expired blockhash", status=400)
    with engine_of([refused], [result(ID)]) as (client, (_, second), _):
        with pytest.raises(BundleRejectedError):
            client.send_bundle([FIRST])
        assert not second.requests


# Asking.


def landed(name=ID, **more):
    return {
        "bundle_id": name,
        "transactions": [str(signature) for signature in SIGNATURES],
        "slot": 9,
        "confirmation_status": "confirmed",
        "err": {"Ok": None},
        **more,
    }


def statuses(*values):
    return result({"context": {"slot": 9}, "value": list(values)})


LANDED = BundleStatus(ID, tuple(SIGNATURES), 9, "confirmed", None)


def test_statuses_are_read_in_either_spelling_and_in_the_order_asked():
    other = landed(OTHER, err={"Err": "X"})
    del other["confirmation_status"]
    other["confirmationStatus"] = "finalized"
    with engine_of([statuses(other, landed())]) as (client, (fake,), _):
        assert client.get_bundle_statuses([ID, OTHER]) == [
            LANDED,
            BundleStatus(OTHER, tuple(SIGNATURES), 9, "finalized", {"Err": "X"}),
        ]
    assert fake.requests[0].target == "/api/v1/getBundleStatuses"
    assert fake.requests[0].call["params"] == [[ID, OTHER]]


@pytest.mark.parametrize(
    "unknown", [result(None), statuses(), statuses(None), result({"context": {}, "value": None})]
)
def test_a_bundle_that_is_not_known_is_none_in_every_dialect(unknown):
    with engine_of([unknown]) as (client, _, _):
        assert client.get_bundle_statuses([ID]) == [None]
        assert client.get_inflight_bundle_statuses([ID]) == [None]


def test_states_on_the_way_are_told_apart():
    states = [
        {"bundle_id": ID, "status": "Landed", "landed_slot": 9},
        {"bundle_id": OTHER, "status": "Invalid", "landed_slot": None},
    ]
    with engine_of([statuses(*states)]) as (client, (fake,), _):
        assert client.get_inflight_bundle_statuses([OTHER, ID]) == [
            InflightStatus(OTHER, InflightState.INVALID, None),
            InflightStatus(ID, InflightState.LANDED, 9),
        ]
    assert fake.requests[0].target == "/api/v1/getInflightBundleStatuses"


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (landed("1" * 64), "must be one of"),
        (landed(confirmation_status=None), "has no confirmation status"),
        (landed(confirmation_status="sure"), "must be one of processed, confirmed, finalized"),
        (landed(slot=-1), r"result\.value\[0\]\.slot: must be an integer"),
        (landed(transactions=[ID]), r"transactions\[0\]: must be a signature in base58"),
        (5, "must be an object"),
    ],
)
def test_a_status_that_cannot_be_believed_is_a_transport_error(value, why):
    with engine_of([statuses(value)]) as (client, _, _):
        with pytest.raises(TransportError, match=why):
            client.get_bundle_statuses([ID])


def test_statuses_are_asked_of_the_region_in_use_alone():
    with engine_of([raw(b""), statuses(None)], [statuses(landed())]) as (client, (_, second), _):
        with pytest.raises(TransportError):
            client.get_bundle_statuses([ID])
        assert not second.requests


def test_ids_that_are_none_are_not_asked_for():
    with engine_of([statuses()]) as (client, (fake,), _):
        for ids in ([ID] * 6, ["x"], [ID.upper()]):
            with pytest.raises(ConfigError, match=r"^ids: "):
                client.get_bundle_statuses(ids)
        assert client.get_inflight_bundle_statuses([]) == []
        assert not fake.requests


def test_tip_accounts_are_keys_and_no_two_alike():
    answers = [
        result([str(key) for key in KEYS]),
        result([]),
        result([str(KEYS[0])] * 2),
        result(["not a key"]),
        result([str(KEYS[0])] * 65),
    ]
    with engine_of(answers) as (client, (fake,), _):
        assert client.get_tip_accounts() == KEYS
        for _ in answers[1:]:
            with pytest.raises(TransportError):
                client.get_tip_accounts()
    assert set(methods(fake)) == {"getTipAccounts"}
    assert fake.requests[0].call["params"] == []


def test_a_bundle_is_simulated_by_an_rpc_node():
    results = [
        {"err": None, "logs": ["a"], "unitsConsumed": 5},
        {"err": {"Custom": 1}, "logs": None},
    ]
    failed = {"failed": {"error": {"Custom": 1}, "tx_signature": str(SIGNATURES[1])}}
    good = {"summary": "succeeded", "transactionResults": results[:1]}
    bad = {"summary": failed, "transactionResults": results}
    answers = [result({"context": {"slot": 5}, "value": value}) for value in (good, bad)]
    with engine_of([raw(b"")]) as (client, _, _), FakeServer(*answers) as node:
        with RpcClient(node.url) as rpc:
            assert client.simulate_bundle([FIRST], rpc) == BundleSimulation(
                True, None, (None,), (("a",),), (5,)
            )
            simulation = client.simulate_bundle([FIRST, SECOND_ONE], rpc, skip_sig_verify=True)
            with pytest.raises(ConfigError):
                client.simulate_bundle([], rpc)
    assert not simulation.succeeded
    assert simulation.failure == failed["failed"]
    assert simulation.errs == (None, {"Custom": 1})
    transactions, options = node.requests[1].call["params"]
    assert len(transactions["encodedTransactions"]) == 2
    assert options["preExecutionAccountsConfigs"] == [None, None]
    assert options["skipSigVerify"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9) | st.just(ID),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["value", "bundle_id", "status", "slot"]), inner)
    ),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def liar():
    with engine_of([result(None)], rate_per_s=1e9, burst=10**9) as (client, (fake,), clock):
        yield client, fake, clock


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(which=st.integers(0, 4), whole=st.booleans(), value=JSON)
def test_any_json_is_read_or_refused_by_a_typed_error(liar, which, whole, value):
    client, fake, clock = liar
    clock.now += 10 * SECOND
    assert client.wait_s == 0
    ask = [
        lambda: client.send_bundle([FIRST]),
        lambda: client.send_transaction(FIRST),
        lambda: client.get_bundle_statuses([ID]),
        lambda: client.get_inflight_bundle_statuses([ID]),
        client.get_tip_accounts,
    ][which]
    fake.answers(document(value) if whole else result(value))
    try:
        answer = ask()
    except (TransportError, RpcError, RateLimitedError):
        return
    assert which in (2, 3)
    assert len(answer) == 1


# What it keeps to itself.


def shown_by(error: BaseException) -> str:
    """All that can be seen of an error and of those behind it."""
    texts = traceback.TracebackException.from_exception(error).format()
    chain, seen = error, [*texts]
    while chain is not None:
        seen += [str(chain), repr(chain), repr(chain.args), repr(vars(chain))]
        chain = chain.__cause__ or chain.__context__
    return "".join(seen)


def echo_with(make) -> object:
    def answer(handler, request):
        content, status = make(request.headers["x-jito-auth"], request.call["id"])
        send(
            handler, content if isinstance(content, bytes) else json.dumps(content).encode(), status
        )

    return answer


@pytest.mark.parametrize(
    "make",
    [
        lambda auth, _: (f"who is {auth}?".encode(), 401),
        lambda auth, _: (b"x" * 260 + auth.encode() * 3, 200),
        lambda auth, n: ({"id": n, "error": {"code": -1, "message": auth}}, 200),
        lambda auth, n: ({"id": n, "error": {"code": -1, "message": "x" * 290 + auth}}, 400),
        lambda auth, n: ({"id": n, "error": {"code": -1, "message": {auth: [auth]}}}, 400),
        lambda auth, n: ({"id": n, "error": {"message": "no", "data": {auth: [auth]}}}, 400),
        lambda auth, n: ({"id": n, "error": auth}, 200),
        lambda auth, n: ({"id": auth, "result": 5}, 200),
        lambda auth, n: ({"id": n, "result": auth}, 200),
        lambda auth, n: ({"id": n, "result": "x" * 30 + auth}, 200),
        lambda auth, n: ({"id": None, "error": {"code": -32097, "message": auth}}, 429),
    ],
)
def test_the_uuid_is_in_no_error_even_where_the_engine_repeats_it(make, caplog):
    caplog.set_level(logging.DEBUG)
    with engine_of([echo_with(make)], auth=AUTH) as (client, (fake,), _):
        with pytest.raises(SolanaError) as caught:
            client.send_bundle([FIRST])
        shown = shown_by(caught.value)
        assert fake.requests[0].headers["x-jito-auth"] == AUTH
        assert AUTH not in fake.requests[0].target
    for part in (AUTH, AUTH[:9], AUTH[-9:]):
        assert part not in shown
        assert part not in caplog.text


@pytest.mark.parametrize("broken", [raw(b""), raw(b"\x00"), body(b"", 500), body(b"", 302)])
def test_the_uuid_is_in_no_error_of_the_connection_nor_in_the_locals_of_its_traceback(
    broken, caplog
):
    caplog.set_level(logging.DEBUG)
    with engine_of([broken], auth=Secret(AUTH)) as (client, _, _):
        with pytest.raises(TransportError) as caught:
            client.send_bundle([FIRST])
        whole = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
        frames = [
            f"{frame.name} {frame.locals}" for frame in whole.stack if "velox" in frame.filename
        ]
        assert any("_ask" in frame for frame in frames)
        assert AUTH not in "".join(frames)
        assert AUTH not in shown_by(caught.value)
    assert AUTH not in caplog.text


def test_the_uuid_is_in_no_repr():
    with engine_of([result(ID)], auth=AUTH) as (client, (fake,), _):
        assert repr(client) == f"BlockEngineClient({fake.url!r})"
        assert AUTH not in repr(vars(client))


def test_a_uuid_does_not_travel_in_clear_text():
    with pytest.raises(EndpointRefusedError) as caught:
        BlockEngineClient("http://example.com", auth=AUTH, allow_mainnet=True)
    assert caught.value.endpoint == "http://example.com"
    assert AUTH not in str(caught.value)


@pytest.mark.parametrize("auth", ["", "a b", "a\r\nx-evil: 1", "ü"])
def test_a_uuid_that_no_header_holds_is_refused_without_being_shown(auth):
    with pytest.raises(ConfigError, match=r"^auth: ") as caught:
        BlockEngineClient("http://127.0.0.1:1", auth=auth)
    assert auth == "" or auth not in str(caught.value)


@pytest.mark.parametrize(
    ("regions", "settings", "expected"),
    [
        ([], {}, ConfigError),
        (["http://127.0.0.1:1"] * 2, {}, ConfigError),
        ("http://127.0.0.1:1", {"rate_per_s": 0}, ConfigError),
        ("http://127.0.0.1:1", {"burst": 0}, ConfigError),
        ("http://127.0.0.1:1", {"timeout_s": 0}, ConfigError),
        (MAINNET_REGIONS["ny"], {}, EndpointRefusedError),
        (["http://127.0.0.1:1", MAINNET_REGIONS["ny"]], {}, EndpointRefusedError),
    ],
)
def test_settings_that_cannot_be_used_are_refused(regions, settings, expected):
    with pytest.raises(expected):
        BlockEngineClient(regions, **settings)


def test_every_region_of_the_mainnet_can_be_named():
    with BlockEngineClient(list(MAINNET_REGIONS.values()), auth=AUTH, allow_mainnet=True) as client:
        assert client.label == MAINNET_REGIONS["amsterdam"]


# Against a real virtual machine.


def signed(
    cluster: LocalCluster, rpc: RpcClient, *lamports: int, tip: Pubkey | None
) -> list[bytes]:
    """Transfers of so many lamports by a new payer, each a transaction; the last pays the tip."""
    payer, blockhash = Keypair(), rpc.get_latest_blockhash().hash
    cluster.fund(payer.pubkey(), 10**9)
    transactions = []
    for i, amount in enumerate(lamports):
        moves = [(Keypair().pubkey(), amount)]
        if tip is not None and i == len(lamports) - 1:
            moves.append((tip, 10_000))
        instructions = [
            transfer(TransferParams(from_pubkey=payer.pubkey(), to_pubkey=to, lamports=each))
            for to, each in moves
        ]
        message = MessageV0.try_compile(payer.pubkey(), instructions, [], blockhash)
        transactions.append(bytes(VersionedTransaction(message, [payer])))
    return transactions


@contextmanager
def cluster_of(faults: FaultPlan | None = None, regions=("",)):
    with ExitStack() as stack:
        cluster = stack.enter_context(LocalCluster(faults=faults))
        rpc = stack.enter_context(RpcClient(cluster.url, sleep=cluster.sleep))
        urls = [cluster.region_url(name) if name else cluster.block_engine_url for name in regions]
        engine = stack.enter_context(BlockEngineClient(urls, clock=cluster.clock))
        cluster.tick(40)
        yield cluster, rpc, engine


def test_a_bundle_lands_on_a_local_cluster():
    with cluster_of() as (cluster, rpc, engine):
        tip = engine.get_tip_accounts()[0]
        transactions = signed(cluster, rpc, 2_000_000, 3_000_000, tip=tip)
        assert engine.simulate_bundle(transactions, rpc).succeeded
        cluster.sleep(engine.wait_s)
        name = engine.send_bundle(transactions)
        cluster.tick()
        cluster.sleep(engine.wait_s)
        (inflight,) = engine.get_inflight_bundle_statuses([name])
        cluster.sleep(engine.wait_s)
        (status,) = engine.get_bundle_statuses([name])
        seen = rpc.get_signature_statuses([first_signature(each) for each in transactions])
    assert inflight is not None
    assert inflight.state is InflightState.LANDED
    assert status is not None
    assert status.err is None
    assert list(status.transactions) == [first_signature(each) for each in transactions]
    assert all(each is not None and each.err is None for each in seen)
    assert seen[0].slot == status.slot == inflight.landed_slot


def test_a_local_cluster_refuses_in_the_engines_words():
    with cluster_of() as (cluster, rpc, engine):

        def refusal(transactions: list[bytes]) -> BundleError:
            cluster.sleep(engine.wait_s)
            with pytest.raises(BundleRejectedError) as caught:
                engine.send_bundle(transactions)
            return caught.value.reason

        tip = engine.get_tip_accounts()[0]
        assert refusal(signed(cluster, rpc, 2_000_000, tip=None)) is BundleError.NO_TIP
        once = signed(cluster, rpc, 2_000_000, tip=tip)
        cluster.sleep(engine.wait_s)
        engine.send_bundle(once)
        cluster.tick()
        assert refusal(once) is BundleError.ALREADY_PROCESSED
        late = signed(cluster, rpc, 2_000_000, tip=tip)
        cluster.tick(151)
        assert refusal(late) is BundleError.EXPIRED_BLOCKHASH


def test_a_local_cluster_throttles_and_the_same_bytes_go_to_the_next_region():
    with cluster_of(regions=("ny", "tokyo")) as (cluster, rpc, engine):
        tip = cluster.tip_accounts[0]
        impatient = BlockEngineClient(cluster.region_url("ny"), burst=9, clock=cluster.clock)
        transactions = signed(cluster, rpc, 2_000_000, tip=tip)
        impatient.get_tip_accounts()
        with pytest.raises(RateLimitedError) as caught:  # by the cluster, not by the bucket
            impatient.send_bundle(transactions)
        impatient.close()
        assert caught.value.retry_after_s == 1.0
        assert engine.send_bundle(transactions)  # the first is still limited, the second is not
        assert engine.region == 1
        cluster.tick()
        (status,) = rpc.get_signature_statuses([first_signature(transactions[0])])
        assert status is not None
        assert [each.signature for each in cluster.executions].count(
            first_signature(transactions[0])
        ) == 1


def test_an_answer_lost_after_acceptance_sends_the_bytes_to_the_next_region_and_they_land_once():
    lost = FaultPlan(
        0, calls={Fault.RESPONSE_LOST: {0}}, scope={Fault.RESPONSE_LOST: {"sendBundle"}}
    )
    with cluster_of(lost, ("ny", "tokyo")) as (cluster, rpc, engine):
        transactions = signed(cluster, rpc, 2_000_000, tip=cluster.tip_accounts[0])
        engine.send_bundle(transactions)
        assert [strike.fault for strike in cluster.strikes] == [Fault.RESPONSE_LOST]
        assert engine.region == 1
        cluster.tick()
        signature = first_signature(transactions[0])
        assert [each.signature for each in cluster.executions].count(signature) == 1
