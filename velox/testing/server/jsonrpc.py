"""JSON-RPC 2.0 over HTTP: reads requests, calls methods, and injects the faults of answers."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from velox.errors import RpcError
from velox.testing.chain import MAX_AGE, Chain
from velox.testing.faults import Fault, Lie, Strike

__all__ = ["Reply", "Request", "Service", "failure", "refuse", "success"]

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND = -32700, -32600, -32601
INVALID_PARAMS, INTERNAL_ERROR, RATE_LIMITED = -32602, -32603, -32097
MAX_BATCH = 100


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. `client` is its address; header names are in lower case."""

    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    client: str


@dataclass(slots=True)
class Reply:
    """One HTTP reply. If `lost` is set, the connection is closed instead."""

    status: int = HTTPStatus.OK
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    lost: bool = False


def refuse(code: int, message: str, data: Any = None) -> RpcError:
    """Return the error that a method raises to answer with a JSON-RPC error."""
    return RpcError("localnet", "", code, message, data)


class Service(ABC):
    """Calls methods by name, with their parameters, the request and the reply.

    Parameters
    ----------
    chain : Chain
    """

    #: The HTTP status of an error code; 0 is the code of all others. Solana answers with 200.
    error_status: Mapping[int, int] = {}

    def __init__(self, chain: Chain) -> None:
        self.chain = chain

    @abstractmethod
    def methods(self, path: str) -> Mapping[str, Callable[[list[Any], Request, Reply], Any]]:
        """Return the methods that can be called at a path."""

    def admit(self, request: Request) -> RpcError | None:
        """Return why a request is refused before it is read; None to admit it."""
        return None

    def lie_about(self, method: str) -> Any:
        """Return a well-formed result that the method would not give."""
        return None

    def answer(self, request: Request) -> Reply:
        """Answer one HTTP request, which may be a batch."""
        try:
            calls = json.loads(request.body)
        except (ValueError, RecursionError):
            return self._reply(Reply(), failure(None, PARSE_ERROR, "Parse error"))
        if isinstance(calls, list):
            if not 0 < len(calls) <= MAX_BATCH:
                return self._reply(Reply(), failure(None, INVALID_REQUEST, "Invalid request"))
            replies = [self._answer(call, request) for call in calls]
            lost = any(each.lost for each in replies)
            return Reply(body=b"[" + b",".join(each.body for each in replies) + b"]", lost=lost)
        return self._answer(calls, request)

    def _answer(self, call: Any, request: Request) -> Reply:
        reply = Reply()
        if (
            not isinstance(call, dict)
            or call.get("jsonrpc") != "2.0"
            or not isinstance(call.get("method"), str)
            or not is_identity(call.get("id"))
        ):
            return self._reply(reply, failure(None, INVALID_REQUEST, "Invalid request"))
        method, identity = call["method"], call.get("id")
        faults = self.chain.injector
        if faults.meet_answer(Fault.RATE_LIMITED_NULL_ID, method):
            text = "Network congested. Endpoint is globally rate limited."
            reply = self._reply(reply, failure(None, RATE_LIMITED, text))
            reply.status = HTTPStatus.TOO_MANY_REQUESTS
            return reply
        if faults.meet_answer(Fault.ERROR_UNDER_200, method):
            reply = self._reply(reply, failure(identity, INTERNAL_ERROR, "Internal error"))
            reply.status = HTTPStatus.OK
            return reply
        lost = faults.meet_answer(Fault.RESPONSE_LOST, method) is not None
        expires = faults.meet_answer(Fault.EXPIRY_DURING_RETRY, method) is not None
        lie = faults.meet_answer(Fault.LYING, method)
        if expires and not lost:
            # The request is dropped, and its blockhash expires before the client can retry.
            self.chain.tick(MAX_AGE + 1)
            reply.lost = True
            return reply
        document = self._call(method, call.get("params"), identity, request, reply)
        if expires:
            self.chain.tick(MAX_AGE + 1)
        self._reply(reply, document)
        reply.lost = lost
        if lie is not None:
            self._lie(lie, method, document, reply)
        return reply

    def _call(
        self, method: str, params: Any, identity: Any, request: Request, reply: Reply
    ) -> dict[str, Any]:
        try:
            refusal = self.admit(request)
            if refusal is not None:
                raise refusal
            function = self.methods(request.path).get(method)
            if function is None:
                raise refuse(METHOD_NOT_FOUND, "Method not found")
            if params is None:
                params = []
            if not isinstance(params, list):
                raise refuse(INVALID_PARAMS, "`params` should be an array")
            with self.chain.lock:
                result = function(params, request, reply)
        except RpcError as error:
            # A client that is over its rate does not learn which request was refused.
            known = None if error.code == RATE_LIMITED else identity
            return failure(known, error.code, error.message, error.data)
        except Exception as error:
            # A defect of the cluster itself.
            return failure(identity, INTERNAL_ERROR, f"Internal error: {error!r}")
        return success(identity, result)

    def _reply(self, reply: Reply, document: dict[str, Any]) -> Reply:
        reply.body = json.dumps(document, separators=(",", ":")).encode()
        if "error" in document:
            reply.status = self.error_status.get(
                document["error"]["code"], self.error_status.get(0, HTTPStatus.OK)
            )
        return reply

    def _lie(self, strike: Strike, method: str, document: dict[str, Any], reply: Reply) -> None:
        lies = self.chain.injector.plan.lies
        lie = lies[self.chain.injector.choose(strike, len(lies))]
        if lie is Lie.OTHER_VALUE:
            told = success(document["id"], self.lie_about(method))
            reply.status, reply.body = HTTPStatus.OK, json.dumps(told).encode()
        elif lie is Lie.OTHER_ID:
            reply.body = json.dumps({**document, "id": "another"}).encode()
        elif lie is Lie.TRUNCATED:
            reply.body = reply.body[: len(reply.body) // 2]
        else:
            reply.status, reply.content_type = HTTPStatus.OK, "text/html"
            reply.body = b"<html><body><h1>502 Bad Gateway</h1></body></html>"


def is_identity(value: Any) -> bool:
    """Return whether a value may identify a call: an integer, a string or null."""
    return isinstance(value, int | str | None) and not isinstance(value, bool)


def success(identity: Any, result: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "result": result, "id": identity}


def failure(identity: Any, code: int | None, message: str, data: Any = None) -> dict[str, Any]:
    error: dict[str, Any] = {"code": code, "message": message}
    if data is not None:
        error["data"] = data
    return {"jsonrpc": "2.0", "error": error, "id": identity}
