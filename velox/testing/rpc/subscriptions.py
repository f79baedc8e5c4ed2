"""Subscriptions of the websocket: the notifications, and when they are sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from velox.errors import RpcError
from velox.testing.chain import COMMITMENTS, Block, Chain
from velox.testing.encoding import ACCOUNT_ENCODINGS, account_json
from velox.testing.rpc.accounts import Filter, filters_of, passes, program_account_json
from velox.testing.rpc.encoded import encoded, slice_of
from velox.testing.rpc.ledger import BlockOptions, block_json, block_options, mentions
from velox.testing.rpc.params import (
    argument,
    commitment_of,
    config_of,
    pubkey_of,
    signature_of,
)
from velox.testing.rpc.transactions import UNSUPPORTED_VERSION
from velox.testing.server.jsonrpc import INVALID_PARAMS, refuse

__all__ = ["KINDS", "Subscription", "news", "subscribe"]


@dataclass(frozen=True, slots=True)
class Subscription:
    """One subscription.

    Attributes
    ----------
    kind : str
        A key of `KINDS`.
    depth : int
        How many blocks must be on top of a block before the client is notified of it.
    target : object
        The account, program or signature that it is about; None for all.
    config : mapping
        The encoding of accounts.
    filters : list of Filter
        Which accounts of a program it is about.
    block : BlockOptions or None
        How the client wants blocks.
    """

    kind: str
    depth: int = 0
    target: Any = None
    config: Mapping[str, Any] = field(default_factory=dict)
    filters: list[Filter] = field(default_factory=list)
    block: BlockOptions | None = None


def subscribe(kind: str, params: list[Any]) -> Subscription:
    """Return the subscription that a call requests."""
    return KINDS[kind](params)


def news(chain: Chain, subscription: Subscription) -> Iterator[Any]:
    """Return the notifications that the newest block brings to a subscription.

    That is the block at the subscription's depth: it has just reached its commitment.
    """
    block = chain.blocks[-1 - subscription.depth]
    yield from _NEWS[subscription.kind](chain, subscription, block)


def _context(block: Block, value: Any) -> dict[str, Any]:
    return {"context": {"slot": block.slot}, "value": value}


def _slot_news(chain: Chain, subscription: Subscription, block: Block) -> Iterator[Any]:
    root = chain.block("finalized").slot
    yield {"slot": block.slot, "parent": block.parent_slot, "root": root}


def _root_news(chain: Chain, subscription: Subscription, block: Block) -> Iterator[Any]:
    yield block.slot


def _logs_news(chain: Chain, subscription: Subscription, block: Block) -> Iterator[Any]:
    for each in block.executions:
        if subscription.target is None or subscription.target in each.keys:
            logs = {"signature": str(each.signature), "err": each.err, "logs": list(each.logs)}
            yield _context(block, logs)


def _account_news(chain: Chain, subscription: Subscription, block: Block) -> Iterator[Any]:
    if subscription.target in block.changed:
        account = block.changed[subscription.target]
        if subscription.config["encoding"] in ("base58", "binary"):
            try:
                yield _context(block, account_json(account, "base58", None))
            except ValueError:
                # A node sends what is too long for base58 as base64.
                yield _context(block, account_json(account, "base64", None))
        else:
            yield _context(block, encoded(chain.svm, account, subscription.config, "base64"))


def _program_news(chain: Chain, subscription: Subscription, block: Block) -> Iterator[Any]:
    for pubkey, account in block.changed.items():
        if (
            account is not None
            and account.owner == subscription.target
            and passes(account, subscription.filters)
        ):
            value = program_account_json(chain.svm, pubkey, account, subscription.config)
            yield _context(block, value)


def _block_news(chain: Chain, subscription: Subscription, block: Block) -> Iterator[Any]:
    target = subscription.target
    if target is not None and not mentions(block, target):
        return
    assert subscription.block is not None
    document, error = None, None
    try:
        document = block_json(chain, block, subscription.block, target)
    except RpcError as refused:
        if refused.code != UNSUPPORTED_VERSION:
            raise
        error = {"UnsupportedTransactionVersion": 0}
    yield _context(block, {"slot": block.slot, "err": error, "block": document})


def _slots_updates_news(chain: Chain, subscription: Subscription, block: Block) -> Iterator[Any]:
    """Yield what a leader goes through with a block, all at once, then what was confirmed."""
    moment = {"slot": block.slot, "timestamp": block.time_s * 1_000}
    failed = sum(each.err is not None for each in block.executions)
    count = len(block.executions)
    yield {**moment, "type": "firstShredReceived"}
    yield {**moment, "type": "createdBank", "parent": block.parent_slot}
    yield {**moment, "type": "completed"}
    stats = {
        "numTransactionEntries": count,
        "numSuccessfulTransactions": count - failed,
        "numFailedTransactions": failed,
        "maxTransactionsPerEntry": min(count, 1),
    }
    yield {**moment, "type": "frozen", "stats": stats}
    for kind, commitment in (("optimisticConfirmation", "confirmed"), ("root", "finalized")):
        yield {**moment, "slot": chain.block(commitment).slot, "type": kind}


def _no_news(chain: Chain, subscription: Subscription, block: Block) -> Iterator[Any]:
    """Signatures are told as they reach their commitment, not by block."""
    return iter(())


_NEWS: Mapping[str, Callable[[Chain, Subscription, Block], Iterator[Any]]] = {
    "account": _account_news,
    "block": _block_news,
    "logs": _logs_news,
    "program": _program_news,
    "root": _root_news,
    "signature": _no_news,
    "slot": _slot_news,
    "slotsUpdates": _slots_updates_news,
}


def _depth(config: Mapping[str, Any]) -> int:
    return COMMITMENTS[commitment_of(config)]


def _encoding(config: Mapping[str, Any]) -> dict[str, Any]:
    encoding = config.get("encoding") or "base58"
    if encoding not in ACCOUNT_ENCODINGS:
        raise refuse(INVALID_PARAMS, f"Invalid params: unsupported encoding: {encoding}")
    slice_of(config)  # refuses a wrong one now, not when the account changes
    return {"encoding": encoding, "dataSlice": config.get("dataSlice")}


def _signature(params: list[Any]) -> Subscription:
    target = signature_of(argument(params, 0))
    return Subscription("signature", _depth(config_of(params, 1)), target)


def _account(params: list[Any]) -> Subscription:
    target, config = pubkey_of(argument(params, 0)), config_of(params, 1)
    return Subscription("account", _depth(config), target, _encoding(config))


def _program(params: list[Any]) -> Subscription:
    target, config = pubkey_of(argument(params, 0)), config_of(params, 1)
    encoding = _encoding({"encoding": "base64", **config})
    if encoding["encoding"] in ("base58", "binary"):
        encoding["encoding"] = "base64"  # an account of a program may be too long for base58
    return Subscription("program", _depth(config), target, encoding, filters_of(config))


def _block(params: list[Any]) -> Subscription:
    wanted, config, target = argument(params, 0), config_of(params, 1), None
    if isinstance(wanted, dict):
        target = pubkey_of(wanted.get("mentionsAccountOrProgram"))
    elif wanted != "all":
        raise refuse(INVALID_PARAMS, f"Invalid params: unknown variant `{wanted}`")
    if commitment_of(config) == "processed":
        raise refuse(INVALID_PARAMS, "Method does not support commitment below `confirmed`")
    options = block_options({"encoding": "base64", **config}, "showRewards")
    return Subscription("block", _depth(config), target, block=options)


def _logs(params: list[Any]) -> Subscription:
    wanted, target = argument(params, 0), None
    if isinstance(wanted, dict):
        mentions = wanted.get("mentions")
        if not isinstance(mentions, list) or len(mentions) != 1:
            raise refuse(INVALID_PARAMS, "Invalid Request: Only 1 address supported")
        target = pubkey_of(mentions[0])
    elif wanted not in ("all", "allWithVotes"):
        raise refuse(INVALID_PARAMS, f"Invalid params: unknown variant `{wanted}`")
    return Subscription("logs", _depth(config_of(params, 1)), target)


#: From the parameters of ``<kind>Subscribe`` to the subscription.
KINDS: Mapping[str, Callable[[list[Any]], Subscription]] = {
    "account": _account,
    "block": _block,
    "logs": _logs,
    "program": _program,
    "root": lambda params: Subscription("root", COMMITMENTS["finalized"]),
    "signature": _signature,
    "slot": lambda params: Subscription("slot"),
    "slotsUpdates": lambda params: Subscription("slotsUpdates"),
}
