"""A client of Solana's JSON-RPC, with the methods that submission needs."""

from __future__ import annotations

import base64
import random
import time
from collections.abc import Callable, Sequence
from typing import Final, Self, TypeVar, cast, get_args

from solders.hash import Hash
from solders.pubkey import Pubkey
from solders.signature import Signature

from velox.errors import ConfigError, RateLimitedError, RpcError, TransportError
from velox.solana.net.answer import Answer
from velox.solana.net.deadline import time_left_s
from velox.solana.net.endpoint import Endpoint
from velox.solana.net.rate_limit import RetryPolicy
from velox.solana.net.rpc_types import (
    Account,
    Blockhash,
    Commitment,
    OutcomeCommitment,
    SignatureInfo,
    SignatureStatus,
    Simulation,
    TransactionInfo,
    first_signature,
)
from velox.solana.net.transport import HttpTransport, TransportFactory

__all__ = ["MAX_SIGNATURES", "MAX_STATUSES", "RpcClient"]

#: The most signatures that `getSignatureStatuses` takes in one call.
MAX_STATUSES: Final = 256
#: The most signatures in one answer of `getSignaturesForAddress`.
MAX_SIGNATURES: Final = 1000

# The most accounts that a transaction names.
MAX_ACCOUNTS: Final = 256
# Errors of a node that is unhealthy or behind for now: another try may succeed.
_PASSING_CODES: Final = frozenset({-32004, -32005, -32014, -32016})
_T = TypeVar("_T")


class RpcClient:
    """A client of one Solana RPC node. Any thread may use it.

    Calls that change nothing are retried after a `TransportError`, a `RateLimitedError` or an error
    of a node that is behind. `send_transaction` is never retried: the caller decides.
    A call returns within ``(retries + 1) * timeout_s`` plus the delays between the tries, and
    within the `velox.solana.net.deadline.time_limit` of its thread.

    Parameters
    ----------
    url : str
        The node. No error, `repr` or log shows a key in its path or query.
    timeout_s : float
        Seconds for one exchange, from its start to the last byte of the answer.
    retries : int or RetryPolicy
        How many calls may follow the first.
    sleep : callable
        Waits for a number of seconds.
    rng : random.Random, optional
        The source of jitter.
    clock : callable
        Monotonic nanoseconds, for `wait_s`.
    allow_mainnet : bool
        Whether the node may be on another machine.
    transport : callable
        Makes the `velox.solana.net.transport.Transport` to the node.

    Raises
    ------
    EndpointRefusedError
        See `velox.solana.net.address.require_loopback`.
    ConfigError
        A number is out of range.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 5.0,
        retries: int | RetryPolicy = 3,
        sleep: Callable[[float], None] = time.sleep,
        rng: random.Random | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        allow_mainnet: bool = False,
        transport: TransportFactory = HttpTransport,
    ) -> None:
        self._rng = rng or random.Random()
        self._endpoint = Endpoint(
            url,
            timeout_s=timeout_s,
            allow_mainnet=allow_mainnet,
            clock=clock,
            rng=self._rng,
            transport=transport,
        )
        self._retry = RetryPolicy(retries) if isinstance(retries, int) else retries
        self._sleep = sleep

    def __repr__(self) -> str:
        return f"RpcClient({self.label!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def label(self) -> str:
        """Scheme, host and port: the name of the node in errors."""
        return self._endpoint.label

    @property
    def wait_s(self) -> float:
        """Seconds for which callers should leave the node alone; 0 if it may be asked now.

        Retries wait that long. The first try of a call does not wait: it is made at once. See
        `velox.solana.net.rate_limit.Backoff`.
        """
        return self._endpoint.backoff.wait_s

    def close(self) -> None:
        """Close the connections."""
        self._endpoint.close()

    def call(self, method: str, params: Sequence[object] = (), *, retry: bool = True) -> Answer:
        """Call any method.

        Parameters
        ----------
        method : str
            Its name.
        params : sequence
            Its parameters.
        retry : bool
            Whether the call may be repeated after a failure.

        Returns
        -------
        Answer
            The result; its methods check what they return.

        Raises
        ------
        RpcError, RateLimitedError, TransportError
            See `velox.solana.net.endpoint.Endpoint.call`.
        """
        return self._ask(method, params, lambda answer: answer, retry=retry)

    def _ask(
        self,
        method: str,
        params: Sequence[object],
        read: Callable[[Answer], _T],
        *,
        retry: bool = True,
        independent: bool = False,
    ) -> _T:
        """Call, and read the result. A result that cannot be read counts as a failure."""
        attempt = 0
        while True:
            try:
                return read(self._endpoint.call(method, params, independent=independent))
            except (TransportError, RateLimitedError, RpcError) as error:
                attempt += 1
                passing = not isinstance(error, RpcError) or error.code in _PASSING_CODES
                wait_s = self._retry.delay_s(attempt, error, self._rng) if retry else None
                if wait_s is None or not passing:
                    raise
                wait_s = max(wait_s, self.wait_s)
                if wait_s >= time_left_s():
                    raise
            self._sleep(wait_s)

    def get_latest_blockhash(self, commitment: Commitment = "confirmed") -> Blockhash:
        """Return the newest blockhash."""

        def read(answer: Answer) -> Blockhash:
            value = answer["value"]
            return Blockhash(
                value["blockhash"].hash(),
                value["lastValidBlockHeight"].integer(),
                answer["context"]["slot"].integer(),
            )

        return self._ask("getLatestBlockhash", [{"commitment": commitment}], read)

    def get_block_height(self, commitment: Commitment = "confirmed") -> int:
        """Return the block height, which does not count skipped slots."""
        return self._ask("getBlockHeight", [{"commitment": commitment}], Answer.integer)

    def get_slot_and_height(self, commitment: Commitment = "confirmed") -> tuple[int, int]:
        """Return the slot and the height of the same block."""
        return self._ask(
            "getEpochInfo",
            [{"commitment": commitment}],
            lambda answer: (answer["absoluteSlot"].integer(), answer["blockHeight"].integer()),
        )

    def get_slot(self, commitment: Commitment = "confirmed") -> int:
        """Return the slot that the node has reached."""
        return self._ask("getSlot", [{"commitment": commitment}], Answer.integer)

    def get_genesis_hash(self) -> Hash:
        """Return the genesis hash, which identifies the cluster."""
        return self._ask("getGenesisHash", [], Answer.hash)

    def get_balance(self, pubkey: Pubkey, commitment: Commitment = "confirmed") -> int:
        """Return the lamports of an account; 0 if it does not exist."""
        return self._ask(
            "getBalance",
            [str(pubkey), {"commitment": commitment}],
            lambda answer: answer["value"].integer(),
        )

    def get_account_info(
        self, pubkey: Pubkey, commitment: Commitment = "confirmed", *, least_slot: int = 0
    ) -> Account | None:
        """Return an account; None if it does not exist.

        Parameters
        ----------
        pubkey : solders.pubkey.Pubkey
        commitment : {"processed", "confirmed", "finalized"}
        least_slot : int
            As in `get_signature_statuses`.

        Raises
        ------
        TransportError
            Also if the node has not reached `least_slot`.

        Notes
        -----
        A node may lack this method, or refuse a large account. So a failure says nothing about
        other methods, and does not change `wait_s`.
        """

        def read(answer: Answer) -> Account | None:
            slot, value = _slot_of(answer, least_slot), answer.get("value")
            if value is None:
                return None
            return Account(
                value["lamports"].integer(),
                value["owner"].pubkey(),
                value["data"].binary(),
                value["executable"].boolean(),
                slot,
            )

        options = {"encoding": "base64", "commitment": commitment}
        return self._ask("getAccountInfo", [str(pubkey), options], read, independent=True)

    def send_transaction(
        self,
        raw: bytes,
        *,
        skip_preflight: bool = False,
        max_retries: int | None = 0,
        preflight_commitment: Commitment = "confirmed",
    ) -> Signature:
        """Send a signed transaction to the node, once.

        After a `TransportError` the node may have it or not. Sending the same bytes again is safe;
        signing anew may execute the orders twice.

        Parameters
        ----------
        raw : bytes
            The transaction.
        skip_preflight : bool
            Whether the node forwards it without a simulation.
        max_retries : int or None
            How often the node itself sends it again; None leaves that to the node.
        preflight_commitment : {"processed", "confirmed", "finalized"}
            The state in which the node simulates it.

        Returns
        -------
        solders.signature.Signature
            The transaction's first signature.

        Raises
        ------
        RpcError
            The node refused it; `data` has the logs and the ``err`` of a failed preflight.
        TransportError
            There is no usable answer, or it names another signature.
        """
        expected = first_signature(raw)
        options: dict[str, object] = {
            "encoding": "base64",
            "skipPreflight": skip_preflight,
            "preflightCommitment": preflight_commitment,
        }
        if max_retries is not None:
            options["maxRetries"] = max_retries

        def read(answer: Answer) -> Signature:
            if answer.signature() != expected:
                raise answer.invalid(f"is not the signature that was sent, {expected}")
            return expected

        params = [base64.b64encode(raw).decode(), options]
        return self._ask("sendTransaction", params, read, retry=False)

    def simulate_transaction(
        self,
        raw: bytes,
        *,
        sig_verify: bool = False,
        replace_recent_blockhash: bool = False,
        commitment: Commitment = "confirmed",
    ) -> Simulation:
        """Execute a transaction without changing the chain.

        Parameters
        ----------
        raw : bytes
            The transaction.
        sig_verify : bool
            Whether its signatures are checked; excludes `replace_recent_blockhash`.
        replace_recent_blockhash : bool
            Whether the node replaces its blockhash by a valid one.
        commitment : {"processed", "confirmed", "finalized"}
            The state in which it is executed.
        """

        def read(answer: Answer) -> Simulation:
            value = answer["value"]
            logs = value.get("logs")
            return Simulation(
                value["err"].value,
                () if logs is None else logs.texts(),
                _optional_integer(value.get("unitsConsumed")),
                _return_data(value),
                answer["context"]["slot"].integer(),
            )

        options = {
            "encoding": "base64",
            "sigVerify": sig_verify,
            "replaceRecentBlockhash": replace_recent_blockhash,
            "commitment": commitment,
        }
        params = [base64.b64encode(raw).decode(), options]
        return self._ask("simulateTransaction", params, read)

    def get_signature_statuses(
        self,
        signatures: Sequence[Signature],
        search_history: bool = False,
        *,
        least_slot: int = 0,
    ) -> list[SignatureStatus | None]:
        """Return the statuses of transactions.

        Parameters
        ----------
        signatures : sequence of solders.signature.Signature
            At most 256.
        search_history : bool
            Whether the node searches beyond its recent blocks. Only then does None mean that it
            does not know the transaction.
        least_slot : int
            The slot that the node must have reached. One address may serve many nodes, and None
            from a node that is behind means nothing.

        Returns
        -------
        list of (SignatureStatus or None)
            One for each signature, in order.

        Raises
        ------
        ConfigError
            There are more than 256 signatures.
        TransportError
            Also if the node has not reached `least_slot`.
        """
        if len(signatures) > MAX_STATUSES:
            raise ConfigError(f"signatures: {len(signatures)}; at most {MAX_STATUSES} are allowed")
        if not signatures:
            return []

        def read(answer: Answer) -> list[SignatureStatus | None]:
            _slot_of(answer, least_slot)
            values = answer["value"].items(MAX_STATUSES)
            if len(values) != len(signatures):
                raise answer.invalid(f"has {len(values)} statuses for {len(signatures)} signatures")
            return [None if value.value is None else _status(value) for value in values]

        params = [list(map(str, signatures)), {"searchTransactionHistory": search_history}]
        return self._ask("getSignatureStatuses", params, read)

    def get_signatures_for_address(
        self,
        address: Pubkey,
        *,
        limit: int = MAX_SIGNATURES,
        before: Signature | None = None,
        until: Signature | None = None,
        commitment: OutcomeCommitment = "confirmed",
    ) -> list[SignatureInfo]:
        """Return the transactions that named an account, newest first.

        Parameters
        ----------
        address : solders.pubkey.Pubkey
        limit : int
            At most so many, 1 to 1000.
        before, until : solders.signature.Signature or None
            Only those older than `before` and newer than `until`.
        commitment : {"confirmed", "finalized"}

        Notes
        -----
        A node may keep no such history. So a failure does not change `wait_s`.
        """
        if not 1 <= limit <= MAX_SIGNATURES:
            raise ConfigError(f"limit = {limit}: must be 1 to {MAX_SIGNATURES}")

        def read(answer: Answer) -> list[SignatureInfo]:
            return [
                SignatureInfo(
                    each["signature"].signature(),
                    each["slot"].integer(),
                    each["err"].value is not None,
                )
                for each in answer.items(limit)
            ]

        options: dict[str, object] = {"limit": limit, "commitment": commitment}
        for name, signature in (("before", before), ("until", until)):
            if signature is not None:
                options[name] = str(signature)
        return self._ask("getSignaturesForAddress", [str(address), options], read, independent=True)

    def get_transaction(
        self, signature: Signature, commitment: OutcomeCommitment = "confirmed"
    ) -> TransactionInfo | None:
        """Return the outcome of a transaction; None if the node does not know it."""

        def read(answer: Answer) -> TransactionInfo | None:
            if answer.value is None:
                return None
            meta = answer["meta"]
            logs = meta.get("logMessages")
            return TransactionInfo(
                answer["slot"].integer(),
                meta["err"].value,
                meta["fee"].integer(),
                None if logs is None else logs.texts(),
                _optional_integer(meta.get("computeUnitsConsumed")),
                _return_data(meta),
                _paid(meta),
            )

        options = {
            "encoding": "base64",
            "commitment": commitment,
            "maxSupportedTransactionVersion": 0,
        }
        return self._ask("getTransaction", [str(signature), options], read)


def _status(answer: Answer) -> SignatureStatus:
    confirmations = _optional_integer(answer.get("confirmations"))
    status = answer.get("confirmationStatus")
    if status is None:  # old nodes say only how many blocks are on top, and null once finalized
        rooted = answer["confirmations"].value is None
        commitment = "finalized" if rooted else "processed"
    else:
        commitment = status.one_of(*get_args(Commitment))
    return SignatureStatus(
        answer["slot"].integer(),
        confirmations,
        answer["err"].value,
        cast(Commitment, commitment),
    )


def _slot_of(answer: Answer, least: int) -> int:
    slot = answer["context"]["slot"]
    if slot.integer() < least:
        raise slot.invalid(f"is {slot.value}; at least {least} was requested")
    return slot.integer()


def _paid(meta: Answer) -> int | None:
    """Return the lamports that the payer, the first account, has less; None if it is not told."""
    balances = [meta.get(name) for name in ("preBalances", "postBalances")]
    before, after = [
        each.items(MAX_ACCOUNTS)[0].integer() if each is not None and each.value else None
        for each in balances
    ]
    return None if before is None or after is None else max(0, before - after)


def _optional_integer(answer: Answer | None) -> int | None:
    return None if answer is None else answer.integer()


def _return_data(answer: Answer) -> bytes | None:
    returned = answer.get("returnData")
    return None if returned is None else returned["data"].binary()
