"""Parameters of JSON-RPC calls, checked. A wrong one is refused with -32602, as a node does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from solders.hash import Hash, ParseHashError
from solders.pubkey import Pubkey
from solders.signature import Signature

from velox.testing.chain import COMMITMENTS
from velox.testing.server.jsonrpc import INVALID_PARAMS, refuse

__all__ = [
    "argument",
    "commitment_of",
    "config_of",
    "hash_of",
    "list_of",
    "pubkey_of",
    "signature_of",
    "whole_number",
]


def _kind(value: Any) -> str:
    return type(value).__name__


def argument(params: list[Any], position: int) -> Any:
    """Return a parameter that must be present."""
    if len(params) <= position:
        raise refuse(INVALID_PARAMS, f"`params` should have at least {position + 1} argument(s)")
    return params[position]


def config_of(params: list[Any], position: int) -> dict[str, Any]:
    """Return the optional object of settings at a position."""
    value = params[position] if len(params) > position else None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise refuse(INVALID_PARAMS, f"Invalid params: invalid type: {_kind(value)}, expected map")
    return value


def commitment_of(config: Mapping[str, Any], key: str = "commitment") -> str:
    """Return the commitment of a config; ``"finalized"`` if it has none."""
    value = config.get(key)
    if value is None:
        return "finalized"
    if not isinstance(value, str) or value not in COMMITMENTS:
        raise refuse(
            INVALID_PARAMS,
            f"Invalid params: unknown variant `{value}`, expected one of `processed`, "
            "`confirmed`, `finalized`.",
        )
    return value


def pubkey_of(value: Any) -> Pubkey:
    """Return a public key."""
    try:
        return Pubkey.from_string(value)
    except (TypeError, ValueError) as error:
        raise refuse(INVALID_PARAMS, f"Invalid param: {error}") from None


def signature_of(value: Any) -> Signature:
    """Return a signature."""
    try:
        return Signature.from_string(value)
    except (TypeError, ValueError) as error:
        raise refuse(INVALID_PARAMS, f"Invalid param: {error}") from None


def hash_of(value: Any) -> Hash:
    """Return a blockhash."""
    try:
        return Hash.from_string(value)
    except (TypeError, ValueError, ParseHashError) as error:
        raise refuse(INVALID_PARAMS, f"Invalid param: {error}") from None


def whole_number(value: Any, what: str) -> int:
    """Return an unsigned 64-bit integer."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**64:
        raise refuse(INVALID_PARAMS, f"Invalid params: {what}: expected u64")
    return value


def list_of(value: Any, limit: int) -> list[Any]:
    """Return a list of at most `limit` elements."""
    if not isinstance(value, list):
        raise refuse(INVALID_PARAMS, f"Invalid params: invalid type: {_kind(value)}, expected list")
    if len(value) > limit:
        raise refuse(INVALID_PARAMS, f"Too many inputs provided; max {limit}")
    return value
