"""A client of Jito's block engine: bundles whose transactions all execute or none, for a tip."""

from __future__ import annotations

import base64
import enum
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Self, TypeVar, cast, get_args

from solders.pubkey import Pubkey
from solders.signature import Signature

from velox.errors import (
    BundleRejectedError,
    ConfigError,
    RateLimitedError,
    RpcError,
    TransactionTooLargeError,
    TransportError,
)
from velox.solana.net.address import Secret
from velox.solana.net.answer import Answer
from velox.solana.net.endpoint import Endpoint
from velox.solana.net.rate_limit import TokenBucket
from velox.solana.net.rpc import RpcClient
from velox.solana.net.rpc_types import Commitment, first_signature
from velox.solana.net.transport import HttpTransport, TransportFactory
from velox.solana.tx.limits import MAX_BUNDLE_TRANSACTIONS, MAX_TRANSACTION_BYTES
from velox.solana.tx.template import bundle_id

__all__ = [
    "MAINNET_REGIONS",
    "MAX_STATUS_IDS",
    "TIP_FLOOR_URL",
    "BlockEngineClient",
    "BundleError",
    "BundleSimulation",
    "BundleStatus",
    "InflightState",
    "InflightStatus",
    "classify",
]

#: The most bundles that one status request can name.
MAX_STATUS_IDS: Final = 5

#: The block engines by region, as Jito's documentation lists them.
MAINNET_REGIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        region: f"https://{region}.mainnet.block-engine.jito.wtf"
        for region in (
            "amsterdam",
            "dublin",
            "frankfurt",
            "london",
            "ny",
            "slc",
            "singapore",
            "tokyo",
        )
    }
)
#: Where Jito publishes the tips of landed bundles.
TIP_FLOOR_URL: Final = "https://bundles.jito.wtf/api/v1/bundles/tip_floor"

_T = TypeVar("_T")
_BUNDLE_ID: Final = re.compile(r"[0-9a-f]{64}")


class BundleError(enum.Enum):
    """Why a block engine refused a bundle, read from its message."""

    EXPIRED_BLOCKHASH = "expired blockhash"
    ALREADY_PROCESSED = "already processed"
    NO_TIP = "no tip"
    TOO_LONG = "too long"
    DUPLICATE = "duplicate"
    TOO_MANY_LOCKS = "too many locks"
    RATE_LIMITED = "rate limited"
    BAD_REQUEST = "bad request"
    UNKNOWN = "unknown"


# Jito publishes no list. These are parts of messages that users reported, in lower case. The first
# match counts.
_WORDS: Final = (
    ("expired blockhash", BundleError.EXPIRED_BLOCKHASH),
    ("blockhash not found", BundleError.EXPIRED_BLOCKHASH),
    ("already processed", BundleError.ALREADY_PROCESSED),
    ("already been processed", BundleError.ALREADY_PROCESSED),
    ("tip account", BundleError.NO_TIP),
    ("exceeds max transaction length", BundleError.TOO_LONG),
    ("duplicate", BundleError.DUPLICATE),
    ("too many account locks", BundleError.TOO_MANY_LOCKS),
    ("rate limit", BundleError.RATE_LIMITED),
    ("network congested", BundleError.RATE_LIMITED),
)
# JSON-RPC's own codes: not JSON, not a request, no such method. The engine uses -32602 for bundles.
_BAD_REQUEST_CODES: Final = frozenset({-32700, -32600, -32601})


def classify(code: int | None, message: str) -> BundleError:
    """Return what an error of a block engine means.

    Parameters
    ----------
    code : int or None
        The code of the error.
    message : str
        The message of the error.

    Returns
    -------
    BundleError
        UNKNOWN if neither the message nor the code is known.

    Examples
    --------
    >>> classify(-32602, "bundle contains an expired blockhash")
    <BundleError.EXPIRED_BLOCKHASH: 'expired blockhash'>
    """
    words = message.lower()
    for part, reason in _WORDS:
        if part in words:
            return reason
    return BundleError.BAD_REQUEST if code in _BAD_REQUEST_CODES else BundleError.UNKNOWN


class InflightState(enum.Enum):
    """The status of a bundle that was sent in the last five minutes.

    INVALID means that the engine does not know the bundle. Engines have also reported it for
    bundles that landed, so it proves nothing.
    """

    INVALID = "Invalid"
    PENDING = "Pending"
    FAILED = "Failed"
    LANDED = "Landed"


@dataclass(frozen=True, slots=True)
class BundleStatus:
    """A bundle that a block engine saw land.

    Attributes
    ----------
    bundle_id : str
        64 hexadecimal digits.
    transactions : tuple of solders.signature.Signature
        The first signatures of its transactions.
    slot : int
        The slot in which it landed.
    confirmation_status : {"processed", "confirmed", "finalized"}
        The commitment that it has reached.
    err : object or None
        None if it succeeded.
    """

    bundle_id: str
    transactions: tuple[Signature, ...]
    slot: int
    confirmation_status: Commitment
    err: object | None


@dataclass(frozen=True, slots=True)
class InflightStatus:
    """A bundle on its way.

    Attributes
    ----------
    bundle_id : str
        64 hexadecimal digits.
    state : InflightState
        Its status.
    landed_slot : int or None
        The slot in which it landed; None if it has not.
    """

    bundle_id: str
    state: InflightState
    landed_slot: int | None


@dataclass(frozen=True, slots=True)
class BundleSimulation:
    """The outcome of a simulated bundle.

    Attributes
    ----------
    succeeded : bool
        Whether all of its transactions would succeed.
    failure : object or None
        Which transaction would fail and why, as JSON.
    errs : tuple of (object or None)
        The error of each transaction that was simulated; None if it would succeed.
    logs : tuple of tuple of str
        The log lines of each transaction.
    units_consumed : tuple of (int or None)
        Compute units of each.
    """

    succeeded: bool
    failure: object | None
    errs: tuple[object | None, ...]
    logs: tuple[tuple[str, ...], ...]
    units_consumed: tuple[int | None, ...]


@dataclass(slots=True)
class _Region:
    endpoint: Endpoint
    bucket: TokenBucket

    @property
    def wait_s(self) -> float:
        """Seconds until the region takes a request, as far as is known."""
        return max(self.bucket.wait_s, self.endpoint.backoff.wait_s)


class BlockEngineClient:
    """A client of Jito's block engine in one or more regions. Any thread may use it.

    All requests to a region share its token bucket. The next region gets the same bytes if the
    bucket is empty, if the engine reports a rate limit, or if it gives no usable answer. A region
    that reported a limit or gave no answer is left alone for a while; see `Backoff`. If no region
    is left, `RateLimitedError` has the time after which to try again. The client never sleeps.

    Parameters
    ----------
    regions : str or sequence of str
        URLs without ``/api/v1``. The first is used until it fails.
    auth : str or Secret, optional
        The UUID for ``x-jito-auth``. No `repr`, log, error or URL shows it.
    rate_per_s : float
        Requests a second to each region. Jito grants 1 without an agreement.
    burst : int
        How many requests may go at once.
    timeout_s : float
        Seconds for one exchange.
    clock : callable
        Monotonic nanoseconds, for the buckets and the backoffs.
    rng : random.Random, optional
        The source of jitter.
    allow_mainnet : bool
        Whether the regions may be on other machines.
    transport : callable
        Makes the `velox.solana.net.transport.Transport` to each region.

    Raises
    ------
    ConfigError
        There is no region, a region is given twice, or a number or the UUID is out of range.
    EndpointRefusedError
        See `velox.solana.net.address.require_loopback`.
    """

    def __init__(
        self,
        regions: str | Sequence[str],
        *,
        auth: str | Secret | None = None,
        rate_per_s: float = 1.0,
        burst: int = 1,
        timeout_s: float = 5.0,
        clock: Callable[[], int] = time.monotonic_ns,
        rng: random.Random | None = None,
        allow_mainnet: bool = False,
        transport: TransportFactory = HttpTransport,
    ) -> None:
        urls = [regions] if isinstance(regions, str) else list(regions)
        if not urls or len(set(urls)) < len(urls):
            raise ConfigError("regions: needs at least one URL, and none twice")
        secret = Secret(auth, "auth") if isinstance(auth, str) else auth
        self._regions = [
            _Region(
                Endpoint(
                    url,
                    timeout_s=timeout_s,
                    allow_mainnet=allow_mainnet,
                    headers=None if secret is None else {"x-jito-auth": secret},
                    max_response_bytes=1 << 20,
                    clock=clock,
                    rng=rng,
                    transport=transport,
                ),
                TokenBucket(rate_per_s, burst, clock),
            )
            for url in urls
        ]
        self._region = 0

    def __repr__(self) -> str:
        labels = (repr(region.endpoint.label) for region in self._regions)
        return f"BlockEngineClient({', '.join(labels)})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def region(self) -> int:
        """Which of the regions is in use, counted from 0."""
        return self._region

    @property
    def label(self) -> str:
        """Scheme, host and port of the region in use."""
        return self._regions[self._region].endpoint.label

    @property
    def wait_s(self) -> float:
        """Seconds until a region takes a request, as far as is known; 0 if one does now."""
        return min(region.wait_s for region in self._regions)

    def close(self) -> None:
        """Close the connections."""
        for region in self._regions:
            region.endpoint.close()

    def send_bundle(self, transactions: Sequence[bytes]) -> str:
        """Send a bundle. Its transactions execute in order, all of them or none.

        Sending the same bytes again is safe. Only the chain knows whether the bundle landed.

        Parameters
        ----------
        transactions : sequence of bytes
            1 to 5 signed transactions; one of them pays the tip.

        Returns
        -------
        str
            Its id, which is `velox.solana.tx.template.bundle_id` of its signatures.

        Raises
        ------
        BundleRejectedError
            An engine refused it. If the answer of another region was lost before, that error is
            the ``__cause__``, and that region may have accepted it.
        RateLimitedError
            No region takes a request now. The bundle was not sent.
        TransportError
            There is no usable answer, or it names another id. An engine may have the bundle.
        ConfigError, TransactionTooLargeError
            The transactions are not a valid bundle. Nothing was sent.
        """
        _check_bundle(transactions)
        expected = bundle_id(map(first_signature, transactions))

        def read(answer: Answer) -> str:
            if answer.text() != expected:
                raise answer.invalid(f"is not the id of the bundle that was sent, {expected}")
            return expected

        params = [list(map(_base64, transactions)), {"encoding": "base64"}]
        return self._ask("sendBundle", params, "/api/v1/bundles", read)

    def send_transaction(
        self, transaction: bytes, *, bundle_only: bool = True
    ) -> tuple[Signature, str | None]:
        """Send one transaction. The engine does not simulate it first.

        Parameters
        ----------
        transaction : bytes
            A signed transaction.
        bundle_only : bool
            Whether it goes as a bundle of one, which does not land if it would fail.

        Returns
        -------
        signature : solders.signature.Signature
            The transaction's first signature.
        bundle_id : str or None
            The id of its bundle; None if the engine does not say.

        Raises
        ------
        BundleRejectedError, RateLimitedError, TransportError, ConfigError, TransactionTooLargeError
            As `send_bundle`.
        """
        _check_bundle([transaction])
        expected = first_signature(transaction)

        def read(answer: Answer) -> tuple[Signature, str | None]:
            if answer.signature() != expected:
                raise answer.invalid(f"is not the signature that was sent, {expected}")
            name = answer.headers.get("x-bundle-id", "")
            return expected, name if _BUNDLE_ID.fullmatch(name) else None

        params = [_base64(transaction), {"encoding": "base64"}]
        query = "bundleOnly=true" if bundle_only else ""
        return self._ask("sendTransaction", params, "/api/v1/transactions", read, query=query)

    def get_tip_accounts(self) -> list[Pubkey]:
        """Return the accounts that receive tips."""

        def read(answer: Answer) -> list[Pubkey]:
            accounts = [item.pubkey() for item in answer.items(64)]
            if not accounts or len(set(accounts)) < len(accounts):
                raise answer.invalid("must be one or more accounts, none twice")
            return accounts

        return self._ask("getTipAccounts", [], "/api/v1/getTipAccounts", read)

    def get_bundle_statuses(self, ids: Sequence[str]) -> list[BundleStatus | None]:
        """Ask the region in use which bundles landed.

        Regions are reported not to share their bundles: None proves nothing.

        Parameters
        ----------
        ids : sequence of str
            At most 5.

        Returns
        -------
        list of (BundleStatus or None)
            One for each id, in order.

        Raises
        ------
        ConfigError
            There are more than 5 ids, or one is malformed.
        RpcError, RateLimitedError, TransportError
            There is no usable answer.
        """
        return self._statuses("getBundleStatuses", ids, _bundle_status)

    def get_inflight_bundle_statuses(self, ids: Sequence[str]) -> list[InflightStatus | None]:
        """Ask the region in use about bundles of the last five minutes.

        Parameters, order and errors are those of `get_bundle_statuses`.
        """
        return self._statuses("getInflightBundleStatuses", ids, _inflight_status)

    def simulate_bundle(
        self,
        transactions: Sequence[bytes],
        rpc: RpcClient,
        *,
        skip_sig_verify: bool = False,
        replace_recent_blockhash: bool = False,
    ) -> BundleSimulation:
        """Execute a bundle without changing the chain, on an RPC node that runs Jito's client.

        Parameters
        ----------
        transactions : sequence of bytes
            1 to 5 transactions.
        rpc : RpcClient
            The node.
        skip_sig_verify, replace_recent_blockhash : bool
            Whether signatures go unchecked, and blockhashes are replaced by a valid one.

        Raises
        ------
        ConfigError, TransactionTooLargeError
            The transactions are not a valid bundle.
        RpcError, RateLimitedError, TransportError
            There is no usable answer. Other nodes do not have the method (code -32601).
        """
        _check_bundle(transactions)
        nothing = [None] * len(transactions)
        options = {
            "preExecutionAccountsConfigs": nothing,
            "postExecutionAccountsConfigs": nothing,
            "skipSigVerify": skip_sig_verify,
            "replaceRecentBlockhash": replace_recent_blockhash,
        }
        params = [{"encodedTransactions": list(map(_base64, transactions))}, options]
        return _simulation(rpc.call("simulateBundle", params)["value"])

    def _ask(
        self,
        method: str,
        params: Sequence[object],
        path: str,
        read: Callable[[Answer], _T],
        *,
        query: str = "",
        pinned_only: bool = False,
    ) -> _T:
        first = self._region
        unsure: TransportError | None = None
        limited: list[RateLimitedError] = []
        failed = False
        for step in range(1 if pinned_only else len(self._regions)):
            which = (first + step) % len(self._regions)
            region = self._regions[which]
            label = region.endpoint.label
            if region.endpoint.backoff.wait_s or not region.bucket.try_take():
                limited.append(RateLimitedError(label, region.wait_s))
                continue
            try:
                result = read(region.endpoint.call(method, params, path=path, query=query))
            except TransportError as error:
                unsure, failed = error, True
                continue
            except RateLimitedError:
                pass
            except RpcError as error:
                reason = classify(error.code, error.message)
                if reason is not BundleError.RATE_LIMITED:
                    raise BundleRejectedError(
                        label, method, error.code, error.message, error.data, reason=reason
                    ) from unsure
                region.endpoint.backoff.failed(method)
            else:
                if failed:
                    self._region = which
                return result
            failed = True
            limited.append(RateLimitedError(label, region.wait_s))
        if unsure is not None:
            raise unsure
        raise min(limited, key=lambda error: error.retry_after_s or 0.0)

    def _statuses(
        self, method: str, ids: Sequence[str], read: Callable[[Answer, str], _T]
    ) -> list[_T | None]:
        if len(ids) > MAX_STATUS_IDS or not all(map(_BUNDLE_ID.fullmatch, ids)):
            raise ConfigError(f"ids: must be at most {MAX_STATUS_IDS} ids of 64 hexadecimal digits")
        if not ids:
            return []

        def read_all(answer: Answer) -> list[_T | None]:
            # An engine leaves out a bundle that it does not know, or gives null for it.
            found: dict[str, _T] = {}
            value = None if answer.value is None else answer.get("value")
            for item in [] if value is None else value.items(len(ids)):
                if item.value is not None:
                    name = item["bundle_id"].one_of(*ids)
                    found[name] = read(item, name)
            return [found.get(name) for name in ids]

        return self._ask(method, [list(ids)], f"/api/v1/{method}", read_all, pinned_only=True)


def _check_bundle(transactions: Sequence[bytes]) -> None:
    if not 1 <= len(transactions) <= MAX_BUNDLE_TRANSACTIONS:
        raise ConfigError(
            f"transactions: {len(transactions)}; must be 1 to {MAX_BUNDLE_TRANSACTIONS}"
        )
    for transaction in transactions:
        if len(transaction) > MAX_TRANSACTION_BYTES:
            raise TransactionTooLargeError(len(transaction), MAX_TRANSACTION_BYTES)


def _base64(transaction: bytes) -> str:
    return base64.b64encode(transaction).decode()


def _bundle_status(answer: Answer, name: str) -> BundleStatus:
    # Jito's documentation spells this in two ways.
    status = answer.get("confirmationStatus", "confirmation_status")
    if status is None:
        raise answer.invalid("has no confirmation status")
    outcome = answer.get("err")
    return BundleStatus(
        name,
        tuple(item.signature() for item in answer["transactions"].items(MAX_BUNDLE_TRANSACTIONS)),
        answer["slot"].integer(),
        cast(Commitment, status.one_of(*get_args(Commitment))),
        None if outcome is None or outcome.value == {"Ok": None} else outcome.value,
    )


def _inflight_status(answer: Answer, name: str) -> InflightStatus:
    slot = answer.get("landed_slot")
    state = answer["status"].one_of(*(state.value for state in InflightState))
    return InflightStatus(name, InflightState(state), None if slot is None else slot.integer())


def _simulation(value: Answer) -> BundleSimulation:
    summary, results = value["summary"], value["transactionResults"].items(MAX_BUNDLE_TRANSACTIONS)
    succeeded = summary.value == "succeeded"
    logs = [result.get("logs") for result in results]
    units = [result.get("unitsConsumed") for result in results]
    return BundleSimulation(
        succeeded,
        None if succeeded else summary["failed"].value,
        tuple(result["err"].value for result in results),
        tuple(() if log is None else log.texts() for log in logs),
        tuple(None if unit is None else unit.integer() for unit in units),
    )
