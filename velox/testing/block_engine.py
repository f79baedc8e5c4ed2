"""The methods of a Jito block engine.

This is a stand-in. It follows the public documentation and the reports of users; `WORDS` names the
source of each message. It holds no auctions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from solders.pubkey import Pubkey

from velox.errors import RpcError
from velox.solana.net.block_engine import MAX_STATUS_IDS
from velox.solana.tx.limits import LAMPORTS_PER_SOL, MAX_BUNDLE_TRANSACTIONS, MIN_TIP_LAMPORTS
from velox.solana.tx.template import bundle_id
from velox.testing.chain import BUNDLE_MEMORY_NS, COMMITMENTS, Bundle, Chain
from velox.testing.encoding import decode_transaction
from velox.testing.faults import Fault
from velox.testing.received import Received
from velox.testing.rpc.params import config_of
from velox.testing.server.jsonrpc import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    RATE_LIMITED,
    Reply,
    Request,
    Service,
    refuse,
)
from velox.testing.svm import MAX_ACCOUNT_LOCKS, Svm

__all__ = ["WORDS", "BlockEngineService"]

DONT_FRONT = "jitodontfront"
# The refusals of a bundle: code, message, and its source. Users of the engine reported those that
# are `seen`; there is no report of those that are `assumed`.
WORDS: Mapping[str, tuple[int, str, str]] = MappingProxyType(
    {
        "expired": (INVALID_PARAMS, "bundle contains an expired blockhash", "seen"),
        "processed": (
            INVALID_PARAMS,
            "bundle contains an already processed transaction",
            "seen",
        ),
        "no_tip": (
            INVALID_PARAMS,
            "Bundles must write lock at least one tip account to be eligible for the auction.",
            "seen",
        ),
        "too_long": (INVALID_PARAMS, "bundle exceeds max transaction length", "seen"),
        "duplicate": (
            INVALID_PARAMS,
            "bundles must not contain any duplicate transactions and every transaction must be "
            "signed",
            "seen",
        ),
        "locks": (INTERNAL_ERROR, "transaction has too many account locks", "seen"),
        "content_type": (INVALID_REQUEST, "Unsupported content type", "seen"),
        "empty": (INVALID_PARAMS, "bundle contains no transactions", "assumed"),
        "undecodable": (INVALID_PARAMS, "{}", "seen"),  # the message of `decode_transaction`
        "unsigned": (INVALID_PARAMS, "transaction #{} failed signature verification", "assumed"),
        "fronted": (
            INVALID_PARAMS,
            "a transaction with a jitodontfront account must be at index 0 of the bundle",
            "assumed",
        ),
        "limited": (RATE_LIMITED, "Rate limit exceeded. Retry after {} ms", "seen"),
    }
)


def _refuse(name: str, *values: object) -> RpcError:
    code, words, _ = WORDS[name]
    return refuse(code, words.format(*values))


class BlockEngineService(Service):
    """A block engine over a `Chain`, one for each region.

    Parameters
    ----------
    chain : Chain
    region : str
    clock : callable
        Nanoseconds, for the rate limit.
    rate_per_s : float or None
        Requests a second from each address, or for each ``x-jito-auth``; None for no limit.
    """

    error_status = MappingProxyType(
        {0: HTTPStatus.BAD_REQUEST, RATE_LIMITED: HTTPStatus.TOO_MANY_REQUESTS}
    )

    def __init__(
        self, chain: Chain, region: str, clock: Callable[[], int], rate_per_s: float | None
    ) -> None:
        super().__init__(chain)
        self.region = region
        self._clock = clock
        self._interval_ns = 0 if rate_per_s is None else round(1e9 / rate_per_s)
        self._next_ns: dict[str, int] = {}

    def methods(self, path: str) -> Mapping[str, Callable[[list[Any], Request, Reply], Any]]:
        bundles = {
            "sendBundle": self.send_bundle,
            "getBundleStatuses": self.get_bundle_statuses,
            "getInflightBundleStatuses": self.get_inflight_bundle_statuses,
            "getTipAccounts": self.get_tip_accounts,
        }
        if path == "/api/v1/bundles":
            return bundles
        if path == "/api/v1/transactions":
            return {"sendTransaction": self.send_transaction}
        name = path.removeprefix("/api/v1/")
        return {name: bundles[name]} if name in bundles else {}

    def admit(self, request: Request) -> RpcError | None:
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            return _refuse("content_type")
        if not self._interval_ns:
            return None
        client = request.headers.get("x-jito-auth", request.client)
        with self.chain.lock:
            now, ready = self._clock(), self._next_ns.get(client, 0)
            if now < ready:
                return _refuse("limited", -(-(ready - now) // 1_000_000))
            self._next_ns[client] = now + self._interval_ns
        return None

    def lie_about(self, method: str) -> Any:
        return bundle_id([])

    # Sending

    def send_bundle(self, params: list[Any], request: Request, reply: Reply) -> str:
        encoding = config_of(params, 1).get("encoding") or "base58"
        texts = params[0] if params else None
        if not isinstance(texts, list) or not texts:
            raise _refuse("empty")
        return self._accept(texts, encoding).id

    def send_transaction(self, params: list[Any], request: Request, reply: Reply) -> str:
        text = params[0] if params else None
        encoding = config_of(params, 1).get("encoding") or "base58"
        if request.query.get("bundleOnly") == "true":
            bundle = self._accept([text], encoding)
            reply.headers["x-bundle-id"] = bundle.id
            return str(bundle.transactions[0].signature)
        received = self._decode(text, encoding)
        self._check(0, received)
        self.chain.accept(received)
        reply.headers["x-bundle-id"] = bundle_id([received.signature])
        return str(received.signature)

    def _accept(self, texts: list[Any], encoding: Any) -> Bundle:
        if len(texts) > MAX_BUNDLE_TRANSACTIONS:
            raise _refuse("too_long")
        transactions = tuple(self._decode(text, encoding) for text in texts)
        if len({each.message_hash for each in transactions}) < len(transactions):
            raise _refuse("duplicate")
        tipped = False
        for i, received in enumerate(transactions):
            keys, writable = self._check(i, received)
            if i and any(str(key).startswith(DONT_FRONT) for key in keys):
                raise _refuse("fronted")
            # Accounts from lookup tables do not count.
            tipped |= any(
                may_write and key in self.chain.tip_accounts
                for key, may_write in zip(received.message.account_keys, writable, strict=False)
            )
        if not tipped:
            raise _refuse("no_tip")
        return self.chain.accept_bundle(transactions, self.region)

    def _decode(self, text: Any, encoding: Any) -> Received:
        try:
            return decode_transaction(text, encoding)
        except ValueError as error:
            raise _refuse("undecodable", error) from None

    def _check(self, i: int, received: Received) -> tuple[list[Pubkey], list[bool]]:
        """Refuse what can never land; return the accounts, and which are writable."""
        if not received.verified:
            raise _refuse("unsigned", i)
        keys, writable = self._svm.keys(received)
        if len(keys) > MAX_ACCOUNT_LOCKS:
            raise _refuse("locks")
        objection = self.chain.objection(received)
        if objection is not None:
            raise _refuse("processed" if objection == "AlreadyProcessed" else "expired")
        return keys, writable

    # Following

    def get_bundle_statuses(self, params: list[Any], request: Request, reply: Reply) -> Any:
        value = []
        if not self.chain.injector.meet(Fault.EMPTY_VALUE, "getBundleStatuses"):
            for name in self._names(params):
                bundle = self._known(name)
                if bundle is None or bundle.landed_slot is None or bundle.disowned:
                    continue
                first = self.chain.statuses[bundle.transactions[0].signature]
                above = self.chain.confirmations(first)
                reached = [each for each, depth in COMMITMENTS.items() if above >= depth]
                value.append(
                    {
                        "bundle_id": name,
                        "transactions": [str(each.signature) for each in bundle.transactions],
                        "slot": bundle.landed_slot,
                        "confirmation_status": reached[-1],
                        "err": {"Ok": None},
                    }
                )
        return {"context": {"slot": self.chain.head.slot}, "value": value}

    def get_inflight_bundle_statuses(
        self, params: list[Any], request: Request, reply: Reply
    ) -> Any:
        value = []
        if not self.chain.injector.meet(Fault.EMPTY_VALUE, "getInflightBundleStatuses"):
            for name in self._names(params):
                status, landed = self._inflight(name)
                value.append({"bundle_id": name, "status": status, "landed_slot": landed})
        return {"context": {"slot": self.chain.head.slot}, "value": value}

    def _inflight(self, name: str) -> tuple[str, int | None]:
        bundle = self._known(name)
        if bundle is None or bundle.disowned:
            return "Invalid", None
        age = (self.chain.head.slot - bundle.accepted_slot) * self.chain.slot_ns
        if age > BUNDLE_MEMORY_NS:
            return "Invalid", None
        if bundle.landed_slot is not None:
            return "Landed", bundle.landed_slot
        expired = any(self.chain.objection(each) for each in bundle.transactions)
        return ("Pending" if bundle.failure is None and not expired else "Failed"), None

    def _known(self, name: str) -> Bundle | None:
        bundle = self.chain.bundles.get(name)
        return bundle if bundle is not None and self.region in bundle.regions else None

    def _names(self, params: list[Any]) -> list[str]:
        names = params[0] if params else None
        if (
            not isinstance(names, list)
            or not 0 < len(names) <= MAX_STATUS_IDS
            or not all(isinstance(name, str) for name in names)
        ):
            raise refuse(INVALID_PARAMS, f"Invalid params: 1 to {MAX_STATUS_IDS} bundle ids")
        return names

    # Tips

    def get_tip_accounts(self, params: list[Any], request: Request, reply: Reply) -> Any:
        accounts = self.chain.tip_accounts
        if self.chain.injector.meet(Fault.STALE_TIP_ACCOUNTS, "getTipAccounts"):
            accounts = self.chain.retired_tip_accounts
        return [str(each) for each in accounts]

    def tip_floor(self) -> Any:
        """Return percentiles of landed tips in SOL; of the smallest tip, if none has landed."""
        tips = sorted(self.chain.landed_tips) or [MIN_TIP_LAMPORTS]
        time = datetime.fromtimestamp(self.chain.head.time_s, UTC)
        document: dict[str, Any] = {"time": time.isoformat()}
        for percentile in (25, 50, 75, 95, 99):
            lamports = tips[min(len(tips) * percentile // 100, len(tips) - 1)]
            name = f"landed_tips_{percentile}th_percentile"
            document[name] = lamports / LAMPORTS_PER_SOL
        document["ema_landed_tips_50th_percentile"] = document["landed_tips_50th_percentile"]
        return [document]

    @property
    def _svm(self) -> Svm:
        return self.chain.svm
