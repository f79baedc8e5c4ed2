"""Accounts in the encoding that a caller requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from solders.account import Account

from velox.testing.encoding import ACCOUNT_ENCODINGS, account_json
from velox.testing.rpc.params import whole_number
from velox.testing.server.jsonrpc import INVALID_PARAMS, INVALID_REQUEST, refuse
from velox.testing.svm import Svm
from velox.testing.token_accounts import parse_account

__all__ = ["MAX_ACCOUNTS", "encoded", "slice_of"]

#: The most accounts that one call can name.
MAX_ACCOUNTS = 100


def slice_of(config: Mapping[str, Any]) -> dict[str, int] | None:
    """Return the ``dataSlice`` of a config, checked."""
    part = config.get("dataSlice")
    if part is None:
        return None
    if not isinstance(part, dict):
        raise refuse(INVALID_PARAMS, "Invalid params: dataSlice: expected map")
    return {name: whole_number(part.get(name), name) for name in ("offset", "length")}


def encoded(svm: Svm, account: Account | None, config: Mapping[str, Any], default: str) -> Any:
    """Return an account in the encoding of a config."""
    encoding, part = config.get("encoding") or default, slice_of(config)
    if encoding not in ACCOUNT_ENCODINGS:
        raise refuse(INVALID_PARAMS, f"Invalid params: unsupported encoding: {encoding}")
    if encoding == "jsonParsed" and account is not None and part is None:
        parsed = parse_account(account, svm.account)
        if parsed is not None:
            return {**account_json(account, "base64", {"offset": 0, "length": 0}), "data": parsed}
    try:
        return account_json(account, encoding, part)
    except ValueError as error:
        raise refuse(INVALID_REQUEST, str(error)) from None
