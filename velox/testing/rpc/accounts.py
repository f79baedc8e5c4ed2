"""Methods about accounts of any program."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from solders.account import Account
from solders.pubkey import Pubkey

from velox.testing.encoding import decode_base58, decode_base64
from velox.testing.rpc.base import Method, MethodGroup
from velox.testing.rpc.encoded import MAX_ACCOUNTS, encoded
from velox.testing.rpc.params import argument, config_of, list_of, pubkey_of, whole_number
from velox.testing.server.jsonrpc import INVALID_PARAMS, refuse
from velox.testing.svm import Svm
from velox.testing.token_accounts import TOKEN_ACCOUNT_BYTES

__all__ = ["AccountMethods", "Filter", "filters_of", "passes", "program_account_json"]

MAX_ACCOUNT_BYTES = 10 * 1024 * 1024
MAX_FILTERS = 4
LARGEST = 20
MAX_COMPARED_BYTES = 128

#: A length that an account must have, or bytes that it must hold at an offset.
Filter = int | tuple[int, bytes]


def filters_of(config: Mapping[str, Any]) -> list[Filter]:
    """Return the ``filters`` of a config, checked."""
    found: list[Filter] = []
    for each in list_of(config.get("filters") or [], MAX_FILTERS):
        if each == "tokenAccountState":
            found.append(TOKEN_ACCOUNT_BYTES)
        elif isinstance(each, dict) and "dataSize" in each:
            found.append(whole_number(each["dataSize"], "dataSize"))
        elif isinstance(each, dict) and isinstance(each.get("memcmp"), dict):
            found.append(_memcmp(each["memcmp"]))
        else:
            raise refuse(INVALID_PARAMS, "Invalid params: unknown filter")
    return found


def _memcmp(given: Mapping[str, Any]) -> Filter:
    offset = whole_number(given.get("offset", 0), "offset")
    value, encoding = given.get("bytes"), given.get("encoding") or "base58"
    try:
        if isinstance(value, list):
            wanted = bytes(value)
        elif not isinstance(value, str) or encoding not in ("base58", "base64"):
            raise ValueError("bytes must be base58 or base64")
        else:
            wanted = decode_base58(value) if encoding == "base58" else decode_base64(value)
        if len(wanted) > MAX_COMPARED_BYTES:
            raise ValueError(f"bytes are too long; max {MAX_COMPARED_BYTES}")
    except (TypeError, ValueError) as error:
        raise refuse(INVALID_PARAMS, f"Invalid param: {error}") from None
    return offset, wanted


def passes(account: Account, filters: list[Filter]) -> bool:
    """Return whether an account passes all filters."""
    data = bytes(account.data)
    return all(
        len(data) == each
        if isinstance(each, int)
        else data[each[0] : each[0] + len(each[1])] == each[1]
        for each in filters
    )


def program_account_json(
    svm: Svm, pubkey: Pubkey, account: Account, config: Mapping[str, Any]
) -> dict[str, Any]:
    """Return an account of a program with its key."""
    return {"pubkey": str(pubkey), "account": encoded(svm, account, config, "base64")}


class AccountMethods(MethodGroup):
    """Accounts, at the newest block for any commitment."""

    def methods(self) -> Mapping[str, Method]:
        return {
            "getAccountInfo": self.get_account_info,
            "getBalance": self.get_balance,
            "getLargestAccounts": self.get_largest_accounts,
            "getMinimumBalanceForRentExemption": self.get_rent_exemption,
            "getMultipleAccounts": self.get_multiple_accounts,
            "getProgramAccounts": self.get_program_accounts,
            "getSupply": self.get_supply,
        }

    def get_balance(self, params: list[Any]) -> Any:
        block = self.block(config_of(params, 1))
        return self.context(self.chain.svm.balance(pubkey_of(argument(params, 0))), block.slot)

    def get_largest_accounts(self, params: list[Any]) -> Any:
        """Return the accounts with the most lamports, of those that were written or sent to."""
        config = config_of(params, 0)
        block, kind = self.block(config), config.get("filter")
        if kind not in (None, "circulating", "nonCirculating"):
            raise refuse(INVALID_PARAMS, f"Invalid params: unknown variant `{kind}`")
        found = [] if kind == "nonCirculating" else self.chain.svm.balances()
        found.sort(key=lambda each: (-each[1], bytes(each[0])))
        return self.context(
            [{"address": str(key), "lamports": lamports} for key, lamports in found[:LARGEST]],
            block.slot,
        )

    def get_supply(self, params: list[Any]) -> Any:
        """Return the lamports of all accounts that were written or sent to. All circulate."""
        block = self.block(config_of(params, 0))
        total = sum(lamports for _, lamports in self.chain.svm.balances())
        return self.context(
            {
                "total": total,
                "circulating": total,
                "nonCirculating": 0,
                "nonCirculatingAccounts": [],
            },
            block.slot,
        )

    def get_account_info(self, params: list[Any]) -> Any:
        config = config_of(params, 1)
        block = self.block(config)
        account = self.chain.svm.account(pubkey_of(argument(params, 0)))
        return self.context(encoded(self.chain.svm, account, config, "binary"), block.slot)

    def get_multiple_accounts(self, params: list[Any]) -> Any:
        config, svm = config_of(params, 1), self.chain.svm
        block = self.block(config)
        keys = [pubkey_of(each) for each in list_of(argument(params, 0), MAX_ACCOUNTS)]
        found = [encoded(svm, svm.account(key), config, "base64") for key in keys]
        return self.context(found, block.slot)

    def get_program_accounts(self, params: list[Any]) -> Any:
        program, config = pubkey_of(argument(params, 0)), config_of(params, 1)
        block, filters = self.block(config), filters_of(config)
        svm = self.chain.svm
        found = [
            program_account_json(svm, key, account, {"encoding": "base58", **config})
            for key, account in svm.program_accounts(program)
            if passes(account, filters)
        ]
        return self.context(found, block.slot) if config.get("withContext") else found

    def get_rent_exemption(self, params: list[Any]) -> int:
        size = whole_number(argument(params, 0), "data length")
        if size > MAX_ACCOUNT_BYTES:
            raise refuse(INVALID_PARAMS, f"Invalid params: {size} bytes; max {MAX_ACCOUNT_BYTES}")
        return self.chain.svm.rent_exemption(size)
