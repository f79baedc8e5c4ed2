"""What tests of the local cluster need: a wallet, and a client that hides nothing.

It shares no code with `velox.solana`: what both agree on, two have understood alike.
"""

from __future__ import annotations

import base64
import http.client
import json
from dataclasses import dataclass
from typing import Any

from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.system_program import (
    CreateAccountParams,
    TransferParams,
    create_account,
    transfer,
)
from solders.transaction import VersionedTransaction

from velox.testing import LocalCluster

MEMO = Pubkey.from_string("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr")
TOKEN = Pubkey.from_string("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA")
SOL = 1_000_000_000
BUNDLES = "/api/v1/bundles"


@dataclass(frozen=True)
class Answer:
    """One HTTP answer, as it came."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def result(self) -> Any:
        assert "error" not in self.json, self.text
        return self.json["result"]

    @property
    def value(self) -> Any:
        return self.result["value"]

    @property
    def error(self) -> Any:
        assert "result" not in self.json, self.text
        return self.json["error"]


class Client:
    """Asks one cluster, a connection for each request."""

    def __init__(self, cluster: LocalCluster) -> None:
        self.cluster = cluster

    def post(self, body: bytes, path: str = "/", headers: dict[str, str] | None = None) -> Answer:
        return self._exchange(
            "POST", path, body, {"Content-Type": "application/json", **(headers or {})}
        )

    def get(self, path: str) -> Answer:
        return self._exchange("GET", path, None, {})

    def call(self, method: str, *params: Any, path: str = "/", **headers: str) -> Answer:
        document = {"jsonrpc": "2.0", "id": 7, "method": method, "params": list(params)}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.post(json.dumps(document).encode(), path, named)

    def send(self, transaction: VersionedTransaction, **config: Any) -> Answer:
        settings = {"encoding": "base64", **config}
        return self.call("sendTransaction", text_of(transaction), settings)

    def send_bundle(self, *transactions: VersionedTransaction, region: str = "") -> Answer:
        path = f"/{region}{BUNDLES}" if region else BUNDLES
        texts = [text_of(each) for each in transactions]
        return self.call("sendBundle", texts, {"encoding": "base64"}, path=path)

    def inflight(self, name: str, *, region: str = "") -> str:
        path = f"/{region}{BUNDLES}" if region else BUNDLES
        status: str = self.call("getInflightBundleStatuses", [name], path=path).value[0]["status"]
        return status

    def status(self, transaction: VersionedTransaction, **config: Any) -> Any:
        return self.call("getSignatureStatuses", [str(transaction.signatures[0])], config).value[0]

    def _exchange(
        self, verb: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.cluster.port, timeout=30)
        try:
            connection.request(verb, path, body, headers)
            answer = connection.getresponse()
            text = answer.read().decode()
            return Answer(answer.status, dict(answer.getheaders()), text)
        finally:
            connection.close()


class Wallet:
    """A key of some wealth, and the transactions that it signs."""

    def __init__(self, cluster: LocalCluster, seed: int = 1, lamports: int = 100 * SOL) -> None:
        self.cluster = cluster
        self.keypair = Keypair.from_seed(bytes([seed]) * 32)
        cluster.fund(self.keypair.pubkey(), lamports)

    @property
    def pubkey(self) -> Pubkey:
        return self.keypair.pubkey()

    @property
    def lamports(self) -> int:
        return balance(self.cluster, self.pubkey)

    def blockhash(self) -> Hash:
        config = {"commitment": "processed"}
        found = Client(self.cluster).call("getLatestBlockhash", config).value
        return Hash.from_string(found["blockhash"])

    def sign(
        self, *instructions: Instruction, blockhash: Hash | None = None
    ) -> VersionedTransaction:
        message = MessageV0.try_compile(
            self.pubkey, list(instructions), [], blockhash or self.blockhash()
        )
        return VersionedTransaction(message, [self.keypair])

    def pay(self, to: Pubkey, lamports: int) -> Instruction:
        return transfer(TransferParams(from_pubkey=self.pubkey, to_pubkey=to, lamports=lamports))

    def tip(self, lamports: int = 10_000) -> Instruction:
        return self.pay(self.cluster.tip_accounts[0], lamports)

    def memo(self, text: str, *, blockhash: Hash | None = None) -> VersionedTransaction:
        return self.sign(memo(text), blockhash=blockhash)

    def tipping_memo(self, text: str, *, blockhash: Hash | None = None) -> VersionedTransaction:
        return self.sign(self.tip(), memo(text), blockhash=blockhash)

    def failing(self, text: str = "", *, blockhash: Hash | None = None) -> VersionedTransaction:
        """Pays more than it has, after a memo."""
        poor = self.pay(Pubkey.new_unique(), 10**18)
        return self.sign(memo(text), poor, blockhash=blockhash)


def memo(text: str) -> Instruction:
    return Instruction(MEMO, text.encode(), [])


def balance(cluster: LocalCluster, pubkey: Pubkey) -> int:
    account = cluster.account(pubkey)
    return 0 if account is None else account.lamports


def text_of(transaction: VersionedTransaction) -> str:
    return base64.b64encode(bytes(transaction)).decode()


def executed(cluster: LocalCluster) -> list[str]:
    """The signatures of all that the chain has executed."""
    return [str(each.signature) for each in cluster.executions]


# The token program, whose accounts are more than lamports.


def new_mint(wallet: Wallet, mint: Keypair, decimals: int) -> tuple[Instruction, Instruction]:
    data = bytes([20, decimals]) + bytes(wallet.pubkey) + bytes(1)
    return (
        allocate(wallet, mint, 82),
        Instruction(TOKEN, data, [AccountMeta(mint.pubkey(), False, True)]),
    )


def new_holder(wallet: Wallet, holder: Keypair, mint: Pubkey) -> tuple[Instruction, Instruction]:
    accounts = [AccountMeta(holder.pubkey(), False, True), AccountMeta(mint, False, False)]
    return (
        allocate(wallet, holder, 165),
        Instruction(TOKEN, bytes([18]) + bytes(wallet.pubkey), accounts),
    )


def mint_to(wallet: Wallet, mint: Pubkey, holder: Pubkey, amount: int) -> Instruction:
    accounts = [
        AccountMeta(mint, False, True),
        AccountMeta(holder, False, True),
        AccountMeta(wallet.pubkey, True, False),
    ]
    return Instruction(TOKEN, bytes([7]) + amount.to_bytes(8, "little"), accounts)


def allocate(wallet: Wallet, new: Keypair, space: int) -> Instruction:
    return create_account(
        CreateAccountParams(
            from_pubkey=wallet.pubkey,
            to_pubkey=new.pubkey(),
            lamports=10_000_000,
            space=space,
            owner=TOKEN,
        )
    )


def signed(
    wallet: Wallet, *instructions: Instruction, signers: tuple[Keypair, ...]
) -> VersionedTransaction:
    message = MessageV0.try_compile(wallet.pubkey, list(instructions), [], wallet.blockhash())
    return VersionedTransaction(message, [wallet.keypair, *signers])
