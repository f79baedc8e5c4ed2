"""Transactions: a patched template is byte for byte a full build, and a real SVM executes it."""

import gc
import hashlib
import resource
import sys
import tracemalloc
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.litesvm import LiteSVM
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction
from solders.transaction_metadata import FailedTransactionMetadata, TransactionMetadata

from tests.support import Array, orders
from velox.errors import (
    RecordError,
    SpendRefusedError,
    TransactionTooLargeError,
    UnrepresentableError,
)
from velox.solana.tx.carrier import Cancel, Carrier
from velox.solana.tx.instructions import (
    DONT_FRONT,
    MEMO_PROGRAM,
    create_account,
    memo,
    tip_transfer,
)
from velox.solana.tx.limits import MAX_TRANSACTION_BYTES
from velox.solana.tx.signer import KeypairSigner
from velox.solana.tx.spend import SignerPolicy, SpendSummary
from velox.solana.tx.template import (
    MessageTemplate,
    TransactionBuilder,
    WireTransaction,
    build_transaction,
    bundle_id,
)
from velox.solana.venues.manifest.carrier import ManifestCarrier
from velox.solana.venues.manifest.instructions import MANIFEST_PROGRAM
from velox.solana.venues.manifest.market import MarketSpec
from velox.solana.venues.memo import MemoCarrier, decode_memo, memos_in

KEYPAIR = Keypair.from_seed(bytes(range(32)))
PAYER = KEYPAIR.pubkey()
MARKET, BASE, QUOTE, TIP = (Pubkey(bytes([each]) * 32) for each in range(201, 205))
SOL = 1_000_000_000
POLICY = SignerPolicy(
    programs=frozenset({MANIFEST_PROGRAM, MEMO_PROGRAM}),
    max_tip_lamports=SOL,
    max_spend_lamports_per_minute=10**18,
)
SIGNER = KeypairSigner(KEYPAIR, POLICY)
SPEC = MarketSpec(
    market=MARKET,
    base_mint=BASE,
    quote_mint=QUOTE,
    base_decimals=9,
    quote_decimals=6,
    lot_atoms=1_000_000,
    tick_size=100,
)
MANIFEST, MEMO = ManifestCarrier(SPEC), MemoCarrier()
BLOCKHASH = Hash(b"\x99" * 32)


def full_build(
    carrier: Carrier,
    batch: Array,
    cancels: Sequence[Cancel],
    *,
    blockhash: Hash,
    tip_account: Pubkey | None,
    tip_lamports: int,
    last_valid_slot: int,
    unit_price: int,
    dont_front: bool,
    payer: Keypair = KEYPAIR,
) -> bytes:
    """The same transaction, built with solders alone."""
    instructions = [
        set_compute_unit_limit(carrier.compute_units(len(batch), len(cancels))),
        set_compute_unit_price(unit_price),
    ]
    if tip_account is not None:
        tip = transfer(
            TransferParams(from_pubkey=payer.pubkey(), to_pubkey=tip_account, lamports=tip_lamports)
        )
        extra = [AccountMeta(DONT_FRONT, False, False)] if dont_front else []
        instructions.append(Instruction(tip.program_id, tip.data, [*tip.accounts, *extra]))
    payload = carrier.payload(batch, cancels, last_valid_slot)
    instructions.append(carrier.instruction(payer.pubkey(), payload))
    message = MessageV0.try_compile(payer.pubkey(), instructions, [], blockhash)
    return bytes(VersionedTransaction(message, [payer]))


# The same bytes

u64 = st.integers(0, 2**64 - 1)
patches = st.fixed_dictionaries(
    {
        "blockhash": st.binary(min_size=32, max_size=32).map(Hash),
        "last_valid_slot": st.integers(0, 2**32 - 1),
        "unit_price": st.integers(0, 2**40),
        "tip_lamports": st.integers(0, SOL),
    }
)
columns = st.lists(
    st.tuples(u64, st.integers(1, 2**32 // 100), st.integers(1, 2**32 - 1), st.integers(0, 1)),
    min_size=1,
    max_size=27,
)
# Keys sort: before and after the payer's, the programs' and each other.
keys = st.binary(min_size=32, max_size=32).map(Pubkey)


@given(
    columns=columns,
    cancels=st.lists(st.builds(Cancel, u64, st.none() | st.integers(0, 2**32 - 1)), max_size=12),
    tip_account=st.none() | keys,
    market=keys,
    seed=st.binary(min_size=32, max_size=32),
    dont_front=st.booleans(),
    many=st.lists(patches, min_size=1, max_size=3),
    in_memos=st.booleans(),
)
def test_a_patched_template_is_byte_for_byte_a_full_build(
    columns: list[tuple[int, ...]],
    cancels: list[Cancel],
    tip_account: Pubkey | None,
    market: Pubkey,
    seed: bytes,
    dont_front: bool,
    many: list[dict[str, Any]],
    in_memos: bool,
) -> None:
    payer = Keypair.from_seed(seed)
    signer = KeypairSigner(payer, POLICY)
    carrier: Carrier = MEMO
    if in_memos:
        cancels = []
    else:
        carrier = ManifestCarrier(
            MarketSpec(
                market=market,
                base_mint=BASE,
                quote_mint=QUOTE,
                base_decimals=9,
                quote_decimals=6,
                lot_atoms=1,
            )
        )
    batch = orders(len(columns))
    for name, column in zip(
        ("id", "price", "size", "side"), zip(*columns, strict=True), strict=True
    ):
        batch[name] = column
    builder = TransactionBuilder(carrier, signer, dont_front=dont_front)
    # One template, patched again and again: nothing of the last transaction stays.
    for patch in many:
        if tip_account is None:
            patch["tip_lamports"] = 0
        batch = batch[::-1].copy()
        built = builder.build(
            batch, cancels, last_valid_block_height=150, tip_account=tip_account, **patch
        )
        assert built.raw == full_build(
            carrier,
            batch,
            cancels,
            tip_account=tip_account,
            dont_front=dont_front,
            payer=payer,
            **patch,
        )
        assert built.signature == VersionedTransaction.from_bytes(built.raw).signatures[0]
        assert (built.blockhash, built.last_valid_block_height) == (patch["blockhash"], 150)
        assert len(built.raw) <= MAX_TRANSACTION_BYTES


@pytest.mark.parametrize(("dont_front", "size"), [(False, 654), (True, 687)])
def test_sixteen_orders_on_manifest_are_654_bytes(dont_front: bool, size: int) -> None:
    template = MessageTemplate(MANIFEST, PAYER, orders=16, tip_account=TIP, dont_front=dont_front)
    assert template.size == size
    template.patch(orders(16), blockhash=BLOCKHASH, last_valid_block_height=1, tip_lamports=1000)
    assert len(template.sign(SIGNER).raw) == size


@pytest.mark.parametrize("carrier", [MANIFEST, MEMO])
def test_the_most_orders_fit_a_transaction_and_one_more_is_refused(carrier: Carrier) -> None:
    builder = TransactionBuilder(carrier, SIGNER)
    arguments = {"blockhash": BLOCKHASH, "last_valid_block_height": 1, "tip_account": TIP}
    most = builder.max_orders
    assert len(builder.build(orders(most), **arguments).raw) <= MAX_TRANSACTION_BYTES
    with pytest.raises(TransactionTooLargeError) as caught:
        builder.build(orders(most + 1), **arguments)
    assert caught.value.size > caught.value.limit == MAX_TRANSACTION_BYTES


def test_more_compute_units_than_the_chain_allows_are_refused() -> None:
    with pytest.raises(TransactionTooLargeError) as caught:
        MessageTemplate(MEMO, PAYER, orders=1, compute_units=1_400_001)
    assert (caught.value.size, caught.value.what) == (1_400_001, "compute units")


# What a template refuses


def test_a_refused_patch_leaves_the_template_as_it_was() -> None:
    template = MessageTemplate(MANIFEST, PAYER, orders=2, tip_account=TIP)
    template.patch(orders(2), blockhash=BLOCKHASH, last_valid_block_height=9, tip_lamports=7)
    before = template.sign(SIGNER)
    fine: dict[str, Any] = {"blockhash": Hash.default(), "last_valid_block_height": 10}
    with pytest.raises(RecordError) as caught:
        template.patch(orders(3), **fine)
    assert caught.value.field == "orders"
    with pytest.raises(UnrepresentableError):
        template.patch(orders(2, price=[100, 101]), **fine)
    for wrong_hash, error in ((bytes(31), RecordError), (str(BLOCKHASH), TypeError)):
        with pytest.raises(error):
            template.patch(
                orders(2, size=9), blockhash=wrong_hash, last_valid_block_height=1, tip_lamports=9
            )
    for name in ("tip_lamports", "unit_price"):
        for wrong in (-1, 2**64):
            with pytest.raises(RecordError) as caught:
                template.patch(orders(2), **fine, **{name: wrong})
            assert caught.value.field == name
    assert template.sign(SIGNER) == before


def test_a_template_without_a_tip_pays_none() -> None:
    template = MessageTemplate(MEMO, PAYER, orders=1)
    with pytest.raises(RecordError) as caught:
        template.patch(orders(1), blockhash=BLOCKHASH, last_valid_block_height=1, tip_lamports=5)
    assert caught.value.field == "tip_lamports"


def test_a_template_signs_what_was_patched_for_its_payer_alone() -> None:
    template = MessageTemplate(MEMO, PAYER, orders=1)
    with pytest.raises(RecordError) as caught:
        template.sign(SIGNER)
    assert caught.value.field == "blockhash"
    template.patch(orders(1), blockhash=BLOCKHASH, last_valid_block_height=1)
    with pytest.raises(RecordError) as caught:
        template.sign(KeypairSigner.generate(POLICY))
    assert caught.value.field == "payer"


def test_a_signer_that_refuses_is_heard() -> None:
    policy = SignerPolicy(
        programs=frozenset({MEMO_PROGRAM}), max_tip_lamports=999, max_spend_lamports_per_minute=SOL
    )
    builder = TransactionBuilder(MEMO, KeypairSigner(KEYPAIR, policy))
    with pytest.raises(SpendRefusedError) as caught:
        builder.build(
            orders(1),
            blockhash=BLOCKHASH,
            last_valid_block_height=1,
            tip_account=TIP,
            tip_lamports=1000,
        )
    assert caught.value.rule == "max_tip_lamports"


def test_a_template_tells_the_signer_what_it_spends() -> None:
    told: list[SpendSummary] = []

    class Witness:
        pubkey = PAYER

        def sign(self, message: bytes, summary: SpendSummary) -> Signature:
            told.append(summary)
            assert summary == SpendSummary.of(message)
            return KEYPAIR.sign_message(message)

    template = MessageTemplate(MEMO, PAYER, orders=1, tip_account=TIP, compute_units=1_000_001)
    for price in (0, 1, 10**6):
        template.patch(
            orders(1),
            blockhash=BLOCKHASH,
            last_valid_block_height=1,
            tip_lamports=2000,
            unit_price=price,
        )
        template.sign(Witness())
    assert [each.fee_lamports for each in told] == [5000, 5002, 1_005_001]
    assert [each.tip_lamports for each in told] == [2000] * 3


# Bundles


def test_a_bundles_id_is_known_before_it_is_sent() -> None:
    signatures = [Signature(bytes([each]) * 64) for each in (1, 2)]
    text = f"{signatures[0]},{signatures[1]}".encode()
    assert bundle_id(signatures) == hashlib.sha256(text).hexdigest()
    # One signature of zeros is 64 ones in base 58.
    assert bundle_id([Signature.default()]) == hashlib.sha256(b"1" * 64).hexdigest()


# On a real SVM


@pytest.fixture(name="svm")
def fixture_svm() -> LiteSVM:
    svm = LiteSVM()
    svm.airdrop(PAYER, 10 * SOL)
    svm.airdrop(TIP, SOL)
    return svm


def execute(svm: LiteSVM, transaction: WireTransaction) -> TransactionMetadata:
    outcome = svm.send_transaction(VersionedTransaction.from_bytes(transaction.raw))
    assert isinstance(outcome, TransactionMetadata), outcome
    assert outcome.signature() == transaction.signature
    return outcome


def balances(svm: LiteSVM) -> tuple[int, int]:
    return svm.get_balance(PAYER) or 0, svm.get_balance(TIP) or 0


def test_the_chain_executes_memos_and_charges_what_the_summary_says(svm: LiteSVM) -> None:
    rng = np.random.default_rng(1)
    builder = TransactionBuilder(MEMO, SIGNER)
    for count in (1, 16, TransactionBuilder(MEMO, SIGNER).max_orders):
        batch = orders(count, price=rng.integers(1, 2**62, count), side=rng.integers(0, 2, count))
        built = builder.build(
            batch,
            blockhash=svm.latest_blockhash(),
            last_valid_block_height=150,
            tip_account=TIP,
            tip_lamports=1234,
            unit_price=777,
        )
        payer, tipped = balances(svm)
        outcome = execute(svm, built)
        assert outcome.compute_units_consumed() <= MEMO.compute_units(count)
        spent = SpendSummary.of(built.raw[65:])
        assert balances(svm) == (payer - spent.total, tipped + 1234)
        assert spent.fee_lamports == 5000 + -(-MEMO.compute_units(count) * 777 // 10**6)
        (text,) = memos_in(outcome.logs())
        np.testing.assert_array_equal(decode_memo(text), batch)


def test_a_limit_below_what_is_needed_fails_on_the_chain_and_costs_its_fee(svm: LiteSVM) -> None:
    template = MessageTemplate(MEMO, PAYER, orders=16, tip_account=TIP, compute_units=1200)
    template.patch(
        orders(16),
        blockhash=svm.latest_blockhash(),
        last_valid_block_height=150,
        tip_lamports=1234,
        unit_price=1_000_000,
    )
    payer, tipped = balances(svm)
    outcome = svm.send_transaction(VersionedTransaction.from_bytes(template.sign(SIGNER).raw))
    assert isinstance(outcome, FailedTransactionMetadata)
    assert "ComputationalBudgetExceeded" in str(outcome.err()) or "exceeded" in str(outcome.err())
    # The tip went back with the orders: they are one transaction.
    assert balances(svm) == (payer - 5000 - 1200, tipped)


def test_the_same_bytes_do_not_execute_twice(svm: LiteSVM) -> None:
    built = TransactionBuilder(MEMO, SIGNER).build(
        orders(1), blockhash=svm.latest_blockhash(), last_valid_block_height=150
    )
    execute(svm, built)
    again = svm.send_transaction(VersionedTransaction.from_bytes(built.raw))
    assert isinstance(again, FailedTransactionMetadata)
    assert "AlreadyProcessed" in str(again.err())


# Any instructions


def test_several_may_sign_what_is_built_in_full(svm: LiteSVM) -> None:
    account = KeypairSigner.generate(POLICY)
    rent = svm.minimum_balance_for_rent_exemption(256)
    built = build_transaction(
        [
            create_account(PAYER, account.pubkey, rent, 256, MANIFEST_PROGRAM),
            memo(b"by both", account.pubkey),
            tip_transfer(PAYER, TIP, 5, dont_front=False),
        ],
        SIGNER,
        account,
        blockhash=svm.latest_blockhash(),
        last_valid_block_height=150,
    )
    payer, tipped = balances(svm)
    execute(svm, built)
    assert balances(svm) == (payer - 10_000 - rent - 5, tipped + 5)
    made = svm.get_account(account.pubkey)
    assert made is not None
    assert (made.owner, len(made.data)) == (MANIFEST_PROGRAM, 256)


def test_a_full_build_refuses_wrong_signers_and_too_much() -> None:
    arguments: dict[str, Any] = {"blockhash": BLOCKHASH, "last_valid_block_height": 1}
    other = KeypairSigner.generate(POLICY)
    for cosigners, signed in (((), memo(b"x", other.pubkey)), ((other,), memo(b"x"))):
        with pytest.raises(RecordError) as caught:
            build_transaction([signed], SIGNER, *cosigners, **arguments)
        assert caught.value.field == "cosigners"
    # Unsigned by 3 bytes of header, 2 keys, a blockhash and what frames the memo: 172 in all.
    assert len(build_transaction([memo(b"x" * 1060)], SIGNER, **arguments).raw) == 1232
    with pytest.raises(TransactionTooLargeError) as too_large:
        build_transaction([memo(b"x" * 1061)], SIGNER, **arguments)
    assert (too_large.value.size, too_large.value.limit) == (1233, 1232)
    crowd = [AccountMeta(Pubkey.new_unique(), False, False) for _ in range(300)]
    with pytest.raises(TransactionTooLargeError) as too_large:
        build_transaction([Instruction(MEMO_PROGRAM, b"x", crowd)], SIGNER, **arguments)
    assert (too_large.value.size, too_large.value.what) == (302, "accounts")


# Memory


def test_ten_thousand_transactions_leave_no_memory_behind() -> None:
    builder = TransactionBuilder(MANIFEST, SIGNER, templates=8)
    batch = orders(16)

    def build(count: int) -> None:
        for number in range(count):
            # Of shapes that come and go: more than are kept.
            builder.build(
                batch[: number % 12 + 1],
                blockhash=BLOCKHASH,
                last_valid_block_height=number,
                tip_account=TIP,
                tip_lamports=number,
            )

    build(500)
    gc.collect()
    tracemalloc.start()
    try:
        build(100)
        before, _ = tracemalloc.get_traced_memory()
        build(2000)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 20_000
    # solders' own memory, which Python does not trace: a transaction each would be 6 MiB.
    before = peak_kib()
    build(10_000)
    assert peak_kib() - before < 3 * 1024


def peak_kib() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // 1024 if sys.platform == "darwin" else peak


def test_a_template_is_built_once_for_its_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[int] = []
    initialise = MessageTemplate.__init__

    def counted(self: MessageTemplate, *arguments: Any, **shape: Any) -> None:
        built.append(shape["orders"])
        initialise(self, *arguments, **shape)

    monkeypatch.setattr(MessageTemplate, "__init__", counted)
    builder = TransactionBuilder(MEMO, SIGNER, templates=2)
    for count in (1, 2, 1, 3, 1, 2):
        builder.build(orders(count), blockhash=BLOCKHASH, last_valid_block_height=1)
    assert built == [1, 2, 3, 2]
