"""Solana's JSON-RPC, as far as submission needs it."""

from __future__ import annotations

import base64
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Self, TypeVar, cast

from solders.hash import Hash
from solders.pubkey import Pubkey
from solders.signature import Signature

from velox.errors import (
    ConfigError,
    EndpointRefusedError,
    RateLimitedError,
    RpcError,
    TransportError,
)
from velox.solana.net.endpoint import Answer, Endpoint, Peer, require_loopback, time_left_s
from velox.solana.net.rate_limit import RetryPolicy
from velox.solana.net.subscription import SignatureSubscription, websocket_of

__all__ = [
    "Account",
    "Blockhash",
    "Commitment",
    "RpcClient",
    "SignatureStatus",
    "Simulation",
    "TransactionInfo",
    "first_signature",
    "require_loopback",
]

Commitment = Literal["processed", "confirmed", "finalized"]

#: The most signatures that `getSignatureStatuses` takes at once.
MAX_STATUSES: Final = 256

# Errors of a node that is not healthy now, or behind: another try may well be answered.
_PASSING_CODES: Final = frozenset({-32004, -32005, -32014, -32016})
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Blockhash:
    """A recent blockhash.

    Attributes
    ----------
    hash : solders.hash.Hash
        The hash.
    last_valid_block_height : int
        The last block height at which a transaction with it may land.
    slot : int
        The slot for which the node said so.
    """

    hash: Hash
    last_valid_block_height: int
    slot: int


@dataclass(frozen=True, slots=True)
class SignatureStatus:
    """What the chain says of a transaction.

    Attributes
    ----------
    slot : int
        The slot in which it was executed.
    confirmations : int or None
        Blocks on top of it; None once it is rooted.
    err : object or None
        None if it succeeded; else the error, as JSON has it.
    confirmation_status : {"processed", "confirmed", "finalized"}
        How sure that is.
    """

    slot: int
    confirmations: int | None
    err: object | None
    confirmation_status: Commitment


@dataclass(frozen=True, slots=True)
class Simulation:
    """The outcome of a simulated transaction.

    Attributes
    ----------
    err : object or None
        None if it would succeed.
    logs : tuple of str
        What its programs log.
    units_consumed : int or None
        Compute units.
    return_data : bytes or None
        What its last program to do so returns.
    slot : int
        The slot in which it was simulated.
    """

    err: object | None
    logs: tuple[str, ...]
    units_consumed: int | None
    return_data: bytes | None
    slot: int


@dataclass(frozen=True, slots=True)
class TransactionInfo:
    """An executed transaction, as the ledger holds it.

    Attributes
    ----------
    slot : int
        The slot in which it was executed.
    err : object or None
        None if it succeeded.
    fee : int
        Lamports, paid in either case.
    logs : tuple of str or None
        What its programs logged; None where the node keeps none.
    units_consumed : int or None
        Compute units.
    return_data : bytes or None
        What its last program to do so returned.
    """

    slot: int
    err: object | None
    fee: int
    logs: tuple[str, ...] | None
    units_consumed: int | None
    return_data: bytes | None


@dataclass(frozen=True, slots=True)
class Account:
    """An account, at some slot.

    Attributes
    ----------
    lamports : int
        Its balance.
    owner : solders.pubkey.Pubkey
        The program that owns it.
    data : bytes
        What it holds.
    executable : bool
        Whether it is a program.
    slot : int
        The slot at which this was so.
    """

    lamports: int
    owner: Pubkey
    data: bytes
    executable: bool
    slot: int


def first_signature(transaction: bytes) -> Signature:
    """Return the signature by which the chain knows a transaction.

    Parameters
    ----------
    transaction : bytes
        A signed transaction, as it is sent.

    Raises
    ------
    ConfigError
        Bytes that cannot be one.
    """
    if len(transaction) < 65 or not 1 <= transaction[0] <= 127:
        raise ConfigError(f"transaction: {len(transaction)} bytes that do not hold a signature")
    return Signature.from_bytes(transaction[1:65])


class RpcClient:
    """A Solana RPC node. Any thread may use it.

    Calls that change nothing are made again after a `TransportError`, a `RateLimitedError` or an
    error of a node that is behind; `send_transaction` never is, that is the caller's to decide.
    A call returns within ``(retries + 1) * timeout_s`` and the delays between, and within a
    `velox.solana.net.endpoint.time_limit` that it is made in.

    Parameters
    ----------
    url : str
        Where; a key in its path or query is in no error, `repr` or log.
    timeout_s : float
        Seconds for one exchange, as a whole.
    retries : int or RetryPolicy
        Calls after the first.
    sleep : callable
        Waits for so many seconds.
    rng : random.Random, optional
        Where jitter comes from.
    clock : callable
        Monotonic nanoseconds, for `wait_s`.
    allow_mainnet : bool
        Whether it may be another machine's.
    ws_url : str, optional
        The websocket; by Solana's convention the port after that of `url`, or the same host
        where the URL names no port.

    Raises
    ------
    EndpointRefusedError
        See `require_loopback`.
    ConfigError
        A number that cannot be used.
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
        ws_url: str | None = None,
    ) -> None:
        self._rng = rng or random.Random()
        self._endpoint = Endpoint(
            url, timeout_s=timeout_s, allow_mainnet=allow_mainnet, clock=clock, rng=self._rng
        )
        self._retry = RetryPolicy(retries) if isinstance(retries, int) else retries
        self._sleep = sleep
        self._socket = (
            websocket_of(self._endpoint.address)
            if ws_url is None
            else require_loopback(ws_url, allow_mainnet)
        )
        if self._socket.scheme not in ("ws", "wss"):
            raise EndpointRefusedError(self._socket.label, "must be ws or wss")

    def __repr__(self) -> str:
        return f"RpcClient({self.label!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def label(self) -> str:
        """What errors call the node: scheme, host and port."""
        return self._endpoint.label

    @property
    def wait_s(self) -> float:
        """Seconds for which the node is to be left alone, see `Backoff`; 0 if it may be asked.

        Retries keep it. A call of its own that comes too early is made all the same.
        """
        return self._endpoint.respite.wait_s

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
            Whether calling it twice does no harm.

        Returns
        -------
        Answer
            The result, to be read checked.

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
        apart: bool = False,
    ) -> _T:
        """Call, and read the result: one that cannot be read counts as none."""
        attempt = 0
        while True:
            try:
                return read(self._endpoint.call(method, params, apart=apart))
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
        """Return the youngest blockhash."""

        def read(answer: Answer) -> Blockhash:
            value = answer["value"]
            return Blockhash(
                value["blockhash"].hash(),
                value["lastValidBlockHeight"].integer(),
                answer["context"]["slot"].integer(),
            )

        return self._ask("getLatestBlockhash", [{"commitment": commitment}], read)

    def get_block_height(self, commitment: Commitment = "confirmed") -> int:
        """Return how many blocks, skipped slots left out, there are."""
        return self._ask("getBlockHeight", [{"commitment": commitment}], Answer.integer)

    def get_slot_and_height(self, commitment: Commitment = "confirmed") -> tuple[int, int]:
        """Return the slot and the height of one and the same block."""
        return self._ask(
            "getEpochInfo",
            [{"commitment": commitment}],
            lambda answer: (answer["absoluteSlot"].integer(), answer["blockHeight"].integer()),
        )

    def get_slot(self, commitment: Commitment = "confirmed") -> int:
        """Return the slot that the node is at."""
        return self._ask("getSlot", [{"commitment": commitment}], Answer.integer)

    def get_genesis_hash(self) -> Hash:
        """Return what tells one cluster from another."""
        return self._ask("getGenesisHash", [], Answer.hash)

    def get_balance(self, pubkey: Pubkey, commitment: Commitment = "confirmed") -> int:
        """Return the lamports of an account; 0 where there is none."""
        return self._ask(
            "getBalance",
            [str(pubkey), {"commitment": commitment}],
            lambda answer: answer["value"].integer(),
        )

    def get_account_info(
        self, pubkey: Pubkey, commitment: Commitment = "confirmed", *, least_slot: int = 0
    ) -> Account | None:
        """Return an account; None where there is none.

        Parameters
        ----------
        pubkey : solders.pubkey.Pubkey
        commitment : {"processed", "confirmed", "finalized"}
        least_slot : int
            As in `get_signature_statuses`.

        Raises
        ------
        TransportError
            Among others: the node has not reached `least_slot`.

        Notes
        -----
        An account may be too large for a node, or a method not be offered: a failure says nothing
        of other methods, and does not have the node left alone.
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
        return self._ask("getAccountInfo", [str(pubkey), options], read, apart=True)

    def send_transaction(
        self,
        raw: bytes,
        *,
        skip_preflight: bool = False,
        max_retries: int | None = 0,
        preflight_commitment: Commitment = "confirmed",
    ) -> Signature:
        """Hand a signed transaction to the node, once.

        After a `TransportError` it may be on its way or not; sending the same bytes again does no
        harm, signing anew may.

        Parameters
        ----------
        raw : bytes
            The transaction.
        skip_preflight : bool
            Whether the node forwards it without having simulated it.
        max_retries : int or None
            How often the node itself sends it again; None leaves that to the node.
        preflight_commitment : {"processed", "confirmed", "finalized"}
            The state in which it is simulated.

        Returns
        -------
        solders.signature.Signature
            That of the bytes.

        Raises
        ------
        RpcError
            It was not taken; `data` has the logs and the ``err`` of a failed preflight.
        TransportError
            Not known, among others because the node named another signature.
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
                raise answer.wrong(f"is not the signature that was sent, {expected}")
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
        """Execute a transaction without consequences.

        Parameters
        ----------
        raw : bytes
            The transaction.
        sig_verify : bool
            Whether its signatures count; excludes the next.
        replace_recent_blockhash : bool
            Whether its blockhash is replaced by one that is valid.
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
        """Ask what became of transactions.

        Parameters
        ----------
        signatures : sequence of solders.signature.Signature
            At most 256.
        search_history : bool
            Whether the node looks beyond its recent blocks. Only then does None mean that the
            node knows of none.
        least_slot : int
            The slot that the node must have reached: behind one address there may be many nodes,
            and None from one that is behind means nothing.

        Returns
        -------
        list of (SignatureStatus or None)
            One for each signature, in order.

        Raises
        ------
        ConfigError
            More than 256.
        TransportError
            Among others: the node has not reached `least_slot`.
        """
        if len(signatures) > MAX_STATUSES:
            raise ConfigError(f"signatures: {len(signatures)}, where {MAX_STATUSES} are allowed")
        if not signatures:
            return []

        def read(answer: Answer) -> list[SignatureStatus | None]:
            _slot_of(answer, least_slot)
            values = answer["value"].items(MAX_STATUSES)
            if len(values) != len(signatures):
                raise answer.wrong(f"has {len(values)} statuses for {len(signatures)} signatures")
            return [None if value.value is None else _status(value) for value in values]

        params = [list(map(str, signatures)), {"searchTransactionHistory": search_history}]
        return self._ask("getSignatureStatuses", params, read)

    def get_transaction(
        self, signature: Signature, commitment: Literal["confirmed", "finalized"] = "confirmed"
    ) -> TransactionInfo | None:
        """Return an executed transaction's outcome; None where the node knows of none."""

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
            )

        options = {
            "encoding": "base64",
            "commitment": commitment,
            "maxSupportedTransactionVersion": 0,
        }
        return self._ask("getTransaction", [str(signature), options], read)

    def signature_subscribe(
        self, signature: Signature, commitment: Commitment = "confirmed"
    ) -> SignatureSubscription:
        """Subscribe to the outcome of a transaction; subscribe first, then send it.

        Returns
        -------
        SignatureSubscription
            A context manager, already subscribed.

        Raises
        ------
        RpcError, TransportError
            No subscription.
        """
        return SignatureSubscription(
            Peer(self._socket), signature, commitment, self._endpoint.timeout_s
        )


def _status(answer: Answer) -> SignatureStatus:
    confirmations = _optional_integer(answer.get("confirmations"))
    status = answer.get("confirmationStatus")
    if status is None:  # nodes that say only how many blocks are on top, and null once rooted
        rooted = answer["confirmations"].value is None
        commitment = "finalized" if rooted else "processed"
    else:
        commitment = status.one_of("processed", "confirmed", "finalized")
    return SignatureStatus(
        answer["slot"].integer(),
        confirmations,
        answer["err"].value,
        cast(Commitment, commitment),
    )


def _slot_of(answer: Answer, least: int) -> int:
    slot = answer["context"]["slot"]
    if slot.integer() < least:
        raise slot.wrong(f"is of slot {slot.value}, where {least} was asked for")
    return slot.integer()


def _optional_integer(answer: Answer | None) -> int | None:
    return None if answer is None else answer.integer()


def _return_data(answer: Answer) -> bytes | None:
    returned = answer.get("returnData")
    return None if returned is None else returned["data"].binary()
