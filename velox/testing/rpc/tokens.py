"""Methods about SPL tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from solders.account import Account
from solders.pubkey import Pubkey

from velox.testing.rpc.base import Method, MethodGroup
from velox.testing.rpc.encoded import encoded
from velox.testing.rpc.params import argument, config_of, pubkey_of
from velox.testing.server.jsonrpc import INVALID_PARAMS, refuse
from velox.testing.token_accounts import (
    TOKEN_PROGRAMS,
    Mint,
    TokenAccount,
    amount_json,
    read_mint,
    read_token,
)

__all__ = ["TokenMethods"]

LARGEST = 20


class TokenMethods(MethodGroup):
    """Mints and token accounts of SPL Token and Token-2022, at the newest block."""

    def methods(self) -> Mapping[str, Method]:
        return {
            "getTokenAccountBalance": self.get_token_account_balance,
            "getTokenAccountsByDelegate": self.get_token_accounts_by_delegate,
            "getTokenAccountsByOwner": self.get_token_accounts_by_owner,
            "getTokenLargestAccounts": self.get_token_largest_accounts,
            "getTokenSupply": self.get_token_supply,
        }

    def get_token_account_balance(self, params: list[Any]) -> Any:
        block = self.block(config_of(params, 1))
        token = read_token(self.chain.svm.account(pubkey_of(argument(params, 0))))
        if token is None:
            raise refuse(INVALID_PARAMS, "Invalid param: not a Token account")
        return self.context(amount_json(token.amount, self._mint(token.mint).decimals), block.slot)

    def get_token_supply(self, params: list[Any]) -> Any:
        block = self.block(config_of(params, 1))
        mint = self._mint(pubkey_of(argument(params, 0)))
        return self.context(amount_json(mint.supply, mint.decimals), block.slot)

    def get_token_largest_accounts(self, params: list[Any]) -> Any:
        block = self.block(config_of(params, 1))
        key = pubkey_of(argument(params, 0))
        decimals = self._mint(key).decimals
        found = [(token.amount, pubkey) for pubkey, _, token in self._tokens() if token.mint == key]
        found.sort(key=lambda each: (-each[0], bytes(each[1])))
        return self.context(
            [
                {"address": str(pubkey), **amount_json(amount, decimals)}
                for amount, pubkey in found[:LARGEST]
            ],
            block.slot,
        )

    def get_token_accounts_by_owner(self, params: list[Any]) -> Any:
        return self._accounts_of(params, "owner")

    def get_token_accounts_by_delegate(self, params: list[Any]) -> Any:
        return self._accounts_of(params, "delegate")

    def _accounts_of(self, params: list[Any], role: str) -> Any:
        holder, config = pubkey_of(argument(params, 0)), config_of(params, 2)
        wanted = config_of([argument(params, 1)], 0)
        block = self.block(config)
        mint = program = None
        if "mint" in wanted:
            mint = pubkey_of(wanted["mint"])
            self._mint(mint)
        elif "programId" in wanted:
            program = pubkey_of(wanted["programId"])
            if program not in TOKEN_PROGRAMS:
                raise refuse(INVALID_PARAMS, "Invalid param: unrecognized Token program id")
        else:
            raise refuse(INVALID_PARAMS, "Invalid params: expected `mint` or `programId`")
        found = [
            {"pubkey": str(pubkey), "account": encoded(self.chain.svm, account, config, "base64")}
            for pubkey, account, token in self._tokens()
            if getattr(token, role) == holder
            and mint in (None, token.mint)
            and program in (None, account.owner)
        ]
        return self.context(found, block.slot)

    def _tokens(self) -> list[tuple[Pubkey, Account, TokenAccount]]:
        return [
            (pubkey, account, token)
            for program in TOKEN_PROGRAMS
            for pubkey, account in self.chain.svm.program_accounts(program)
            if (token := read_token(account)) is not None
        ]

    def _mint(self, pubkey: Pubkey) -> Mint:
        mint = read_mint(self.chain.svm.account(pubkey))
        if mint is None:
            raise refuse(INVALID_PARAMS, "Invalid param: could not find mint")
        return mint
