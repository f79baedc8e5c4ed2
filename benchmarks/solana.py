"""A bundle of 16 orders becomes a signed transaction: by a patched template, and built in full.

`time_bare_signature` is the floor under both. Before anything is timed, the template's bytes are
compared with the full build's, and its signature verified.
"""

from __future__ import annotations

import numpy as np

import velox

try:
    from solders.hash import Hash
    from solders.keypair import Keypair
    from solders.message import MessageV0
    from solders.pubkey import Pubkey
    from solders.transaction import VersionedTransaction

    from velox.solana.tx.carrier import Carrier
    from velox.solana.tx.instructions import (
        MEMO_PROGRAM,
        compute_unit_limit,
        compute_unit_price,
        tip_transfer,
    )
    from velox.solana.tx.signer import KeypairSigner
    from velox.solana.tx.spend import SignerPolicy, SpendSummary
    from velox.solana.tx.template import TransactionBuilder, WireTransaction
    from velox.solana.venues.manifest.carrier import ManifestCarrier
    from velox.solana.venues.manifest.instructions import MANIFEST_PROGRAM
    from velox.solana.venues.manifest.market import MarketSpec
    from velox.solana.venues.memo import MemoCarrier
except ImportError as missing:
    # asv leaves a class out that says so.
    MISSING: ImportError | None = missing
else:
    MISSING = None

ORDERS = 16
TIP_LAMPORTS = 1000
LAST_VALID_SLOT = 1_000
UNIT_PRICE = 5


class BuildAndSign:
    version = "1"
    param_names = ("carrier",)
    params = (["manifest", "memo"],)

    def setup(self, carrier: str) -> None:
        if MISSING is not None:
            raise NotImplementedError(MISSING)
        market, base, quote, self.tip_account = (Pubkey(bytes([each]) * 32) for each in range(1, 5))
        spec = MarketSpec(
            market=market,
            base_mint=base,
            quote_mint=quote,
            base_decimals=9,
            quote_decimals=6,
            lot_atoms=1_000_000,
            tick_size=100,
        )
        self.carrier: Carrier = ManifestCarrier(spec) if carrier == "manifest" else MemoCarrier()
        policy = SignerPolicy(
            programs=frozenset({MANIFEST_PROGRAM, MEMO_PROGRAM}),
            max_tip_lamports=TIP_LAMPORTS,
            max_spend_lamports_per_minute=2**63,
        )
        self.keypair = Keypair()
        self.signer = KeypairSigner(self.keypair, policy)
        self.builder = TransactionBuilder(self.carrier, self.signer)
        self.blockhash = Hash(b"\x05" * 32)
        self.orders = np.zeros(ORDERS, velox.TRANSACTION_DTYPE)
        self.orders["id"] = np.arange(ORDERS)
        self.orders["price"] = 1_874_300 + 100 * np.arange(ORDERS)
        self.orders["size"] = 1 + np.arange(ORDERS)
        self.orders["side"] = np.arange(ORDERS) % 2

        built = self.by_template()
        assert built.raw == self.in_full()
        self.message = built.raw[65:]
        self.summary = SpendSummary.of(self.message)
        assert built.signature.verify(self.signer.pubkey, self.message)

    def by_template(self) -> WireTransaction:
        return self.builder.build(
            self.orders,
            blockhash=self.blockhash,
            last_valid_block_height=150,
            tip_account=self.tip_account,
            tip_lamports=TIP_LAMPORTS,
            last_valid_slot=LAST_VALID_SLOT,
            unit_price=UNIT_PRICE,
        )

    def in_full(self) -> bytes:
        payer = self.keypair.pubkey()
        instructions = [
            compute_unit_limit(self.carrier.compute_units(ORDERS)),
            compute_unit_price(UNIT_PRICE),
            tip_transfer(payer, self.tip_account, TIP_LAMPORTS, dont_front=True),
            self.carrier.instruction(payer, self.carrier.payload(self.orders, (), LAST_VALID_SLOT)),
        ]
        message = MessageV0.try_compile(payer, instructions, [], self.blockhash)
        return bytes(VersionedTransaction(message, [self.keypair]))

    def time_template(self, carrier: str) -> None:
        self.by_template()

    def time_full_build(self, carrier: str) -> None:
        self.in_full()

    def time_guarded_signature(self, carrier: str) -> None:
        self.signer.sign(self.message, self.summary)

    def time_bare_signature(self, carrier: str) -> None:
        self.keypair.sign_message(self.message)
