"""All RPC methods of a node, as a JSON-RPC service."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from velox.testing.chain import Chain
from velox.testing.rpc.accounts import AccountMethods
from velox.testing.rpc.base import Method
from velox.testing.rpc.ledger import LedgerMethods
from velox.testing.rpc.node import NodeMethods
from velox.testing.rpc.tokens import TokenMethods
from velox.testing.rpc.transactions import TransactionMethods
from velox.testing.server.jsonrpc import Reply, Request, Service

__all__ = ["RpcService"]


class RpcService(Service):
    """Solana's JSON-RPC over a `Chain`.

    Accounts and simulations are of the newest block, for any requested commitment: the chain never
    abandons a block. Slots, heights, blockhashes, statuses and transactions obey it.
    """

    def __init__(self, chain: Chain) -> None:
        super().__init__(chain)
        groups = (LedgerMethods, AccountMethods, TokenMethods, TransactionMethods, NodeMethods)
        self._methods: dict[str, Callable[[list[Any], Request, Reply], Any]] = {
            name: _of_params(method)
            for group in groups
            for name, method in group(chain).methods().items()
        }

    def methods(self, path: str) -> Mapping[str, Callable[[list[Any], Request, Reply], Any]]:
        return self._methods if path in ("", "/") else {}

    def lie_about(self, method: str) -> Any:
        if method == "sendTransaction":
            return str(self.chain.faucet.sign_message(b"of something else"))
        return "of something else"

    def answer(self, request: Request) -> Reply:
        media_type = request.headers.get("content-type", "").partition(";")[0]
        if media_type.strip().lower() != "application/json":
            text = (
                b"Supplied content type is not allowed. Content-Type: application/json is required"
            )
            return Reply(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, text, content_type="text/plain")
        return super().answer(request)


def _of_params(method: Method) -> Callable[[list[Any], Request, Reply], Any]:
    return lambda params, request, reply: method(params)
