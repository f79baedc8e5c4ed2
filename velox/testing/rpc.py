"""The methods of a Solana RPC node."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from solders.account import Account
from solders.hash import Hash, ParseHashError
from solders.message import Message, MessageV0, from_bytes_versioned
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from velox.testing.chain import COMMITMENTS, Block
from velox.testing.encoding import (
    account_json,
    decode_base64,
    decode_transaction,
    failure_text,
    inner_json,
    return_data_json,
    transaction_json,
)
from velox.testing.faults import Fault
from velox.testing.server.jsonrpc import INVALID_PARAMS, Reply, Request, Service, refuse
from velox.testing.svm import SLOTS_PER_EPOCH, Execution, Received, Simulation, describe

__all__ = [
    "RpcService",
    "argument",
    "commitment_of",
    "config_of",
    "pubkey_of",
    "signature_of",
]

# What a node says that it runs; clients print it.
VERSION = {"solana-core": "velox-localnet", "feature-set": 0}
PREFLIGHT_FAILURE, SIGNATURE_FAILURE = -32002, -32003
UNSUPPORTED_VERSION, MIN_CONTEXT_SLOT = -32015, -32016
MAX_STATUSES, MAX_ACCOUNTS, MAX_BUNDLE = 256, 100, 5
MAX_PERMITTED_DATA = 10 * 1024 * 1024


def config_of(params: list[Any], position: int) -> dict[str, Any]:
    """The optional object of settings at a position."""
    value = params[position] if len(params) > position else None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise refuse(INVALID_PARAMS, f"Invalid params: invalid type: {_kind(value)}, expected map")
    return value


def commitment_of(config: Mapping[str, Any], key: str = "commitment") -> str:
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
    try:
        return Pubkey.from_string(value)
    except (TypeError, ValueError) as error:
        raise refuse(INVALID_PARAMS, f"Invalid param: {error}") from None


def signature_of(value: Any) -> Signature:
    try:
        return Signature.from_string(value)
    except (TypeError, ValueError) as error:
        raise refuse(INVALID_PARAMS, f"Invalid param: {error}") from None


def _kind(value: Any) -> str:
    return type(value).__name__


def argument(params: list[Any], position: int) -> Any:
    if len(params) <= position:
        raise refuse(
            INVALID_PARAMS,
            f"`params` should have at least {position + 1} argument(s)",
        )
    return params[position]


def _whole(value: Any, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**64:
        raise refuse(INVALID_PARAMS, f"Invalid params: {what}: expected u64")
    return value


def _list(value: Any, limit: int) -> list[Any]:
    if not isinstance(value, list):
        raise refuse(INVALID_PARAMS, f"Invalid params: invalid type: {_kind(value)}, expected list")
    if len(value) > limit:
        raise refuse(INVALID_PARAMS, f"Too many inputs provided; max {limit}")
    return value


class RpcService(Service):
    """Solana JSON-RPC over a `Chain`.

    Accounts and simulations are of the newest block, whatever commitment is asked for: the chain
    never abandons a block. Slots, heights, blockhashes, statuses and transactions obey it.
    """

    def methods(self, path: str) -> Mapping[str, Callable[[list[Any], Request, Reply], Any]]:
        if path not in ("", "/"):
            return {}
        return {
            "getAccountInfo": self.get_account_info,
            "getBalance": self.get_balance,
            "getBlockHeight": self.get_block_height,
            "getEpochInfo": self.get_epoch_info,
            "getFeeForMessage": self.get_fee_for_message,
            "getGenesisHash": lambda params, request, reply: str(self.chain.genesis_hash),
            "getHealth": lambda params, request, reply: "ok",
            "getLatestBlockhash": self.get_latest_blockhash,
            "getMinimumBalanceForRentExemption": self.get_rent_exemption,
            "getMultipleAccounts": self.get_multiple_accounts,
            "getSignatureStatuses": self.get_signature_statuses,
            "getSlot": self.get_slot,
            "getTransaction": self.get_transaction,
            "getTransactionCount": self.get_transaction_count,
            "getVersion": lambda params, request, reply: VERSION,
            "isBlockhashValid": self.is_blockhash_valid,
            "requestAirdrop": self.request_airdrop,
            "sendTransaction": self.send_transaction,
            "simulateBundle": self.simulate_bundle,
            "simulateTransaction": self.simulate_transaction,
        }

    def lie_about(self, method: str) -> Any:
        if method == "sendTransaction":
            return str(self.chain.faucet.sign_message(b"of something else"))
        return "of something else"

    def answer(self, request: Request) -> Reply:
        if request.headers.get("content-type", "").partition(";")[0] != "application/json":
            text = (
                b"Supplied content type is not allowed. Content-Type: application/json is required"
            )
            return Reply(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, text, content_type="text/plain")
        return super().answer(request)

    # Time

    def get_slot(self, params: list[Any], request: Request, reply: Reply) -> int:
        return self._block(config_of(params, 0)).slot

    def get_block_height(self, params: list[Any], request: Request, reply: Reply) -> int:
        return self._block(config_of(params, 0)).height

    def get_latest_blockhash(self, params: list[Any], request: Request, reply: Reply) -> Any:
        block = self._block(config_of(params, 0))
        last = self.chain.last_valid_height(block.blockhash)
        return self._context(
            {"blockhash": str(block.blockhash), "lastValidBlockHeight": last}, block.slot
        )

    def is_blockhash_valid(self, params: list[Any], request: Request, reply: Reply) -> Any:
        try:
            blockhash = Hash.from_string(argument(params, 0))
        except (TypeError, ParseHashError) as error:
            raise refuse(INVALID_PARAMS, f"Invalid param: {error}") from None
        block = self._block(config_of(params, 1))
        last = self.chain.last_valid_height(blockhash)
        return self._context(last is not None and block.height <= last, block.slot)

    def get_epoch_info(self, params: list[Any], request: Request, reply: Reply) -> Any:
        block = self._block(config_of(params, 0))
        epoch, index = divmod(block.slot, SLOTS_PER_EPOCH)
        return {
            "absoluteSlot": block.slot,
            "blockHeight": block.height,
            "epoch": epoch,
            "slotIndex": index,
            "slotsInEpoch": SLOTS_PER_EPOCH,
            "transactionCount": len(self.chain.executions),
        }

    def get_transaction_count(self, params: list[Any], request: Request, reply: Reply) -> int:
        return len(self.chain.executions)

    # Accounts

    def get_balance(self, params: list[Any], request: Request, reply: Reply) -> Any:
        block = self._block(config_of(params, 1))
        return self._context(self.chain.svm.balance(pubkey_of(argument(params, 0))), block.slot)

    def get_account_info(self, params: list[Any], request: Request, reply: Reply) -> Any:
        config = config_of(params, 1)
        block = self._block(config)
        return self._context(self._account(pubkey_of(argument(params, 0)), config), block.slot)

    def get_multiple_accounts(self, params: list[Any], request: Request, reply: Reply) -> Any:
        config = config_of(params, 1)
        block = self._block(config)
        keys = [pubkey_of(each) for each in _list(argument(params, 0), MAX_ACCOUNTS)]
        config = {"encoding": "base64", **config}
        return self._context([self._account(key, config) for key in keys], block.slot)

    def get_rent_exemption(self, params: list[Any], request: Request, reply: Reply) -> int:
        size = _whole(argument(params, 0), "data length")
        if size > MAX_PERMITTED_DATA:
            raise refuse(INVALID_PARAMS, f"Invalid params: {size} bytes are more than an account's")
        return self.chain.svm.rent_exemption(size)

    def request_airdrop(self, params: list[Any], request: Request, reply: Reply) -> str:
        """A transfer from the faucet, which lands like any other."""
        to, lamports = pubkey_of(argument(params, 0)), _whole(argument(params, 1), "lamports")
        faucet = self.chain.faucet
        instruction = transfer(
            TransferParams(from_pubkey=faucet.pubkey(), to_pubkey=to, lamports=lamports)
        )
        # The newest blockhash that no airdrop of the same has used makes each a transaction of
        # its own.
        for block in reversed(self.chain.blocks):
            message = MessageV0.try_compile(faucet.pubkey(), [instruction], [], block.blockhash)
            received = Received(bytes(VersionedTransaction(message, [faucet])))
            if self.chain.objection(received) is None and not self.chain.waits(received):
                self.chain.accept(received)
                return str(received.signature)
        raise refuse(-32603, "Internal error: too many airdrops at once")

    # Transactions

    def send_transaction(self, params: list[Any], request: Request, reply: Reply) -> str:
        config = config_of(params, 1)
        received = self._transaction(argument(params, 0), config.get("encoding") or "base58")
        self._reached(config, commitment_of(config, "preflightCommitment"))
        if not config.get("skipPreflight"):
            self._preflight(received)
        if received.verified:
            # Nobody tells the sender of one who skips the preflight that a leader would drop it.
            self.chain.accept(received)
        return str(received.signature)

    def _preflight(self, received: Received) -> None:
        if not received.verified:
            raise refuse(SIGNATURE_FAILURE, "Transaction signature verification failure")
        result = self._simulate(received, verify=True, any_blockhash=False)
        if result.err is not None:
            raise refuse(PREFLIGHT_FAILURE, failure_text(result.err), _simulation(result))

    def simulate_transaction(self, params: list[Any], request: Request, reply: Reply) -> Any:
        config = config_of(params, 1)
        verify, replace = bool(config.get("sigVerify")), bool(config.get("replaceRecentBlockhash"))
        if verify and replace:
            raise refuse(INVALID_PARAMS, "sigVerify may not be used with replaceRecentBlockhash")
        received = self._transaction(argument(params, 0), config.get("encoding") or "base58")
        block = self._block(config)
        if verify and not received.verified:
            raise refuse(SIGNATURE_FAILURE, "Transaction signature verification failure")
        result = self._simulate(received, verify=verify, any_blockhash=replace)
        value = _simulation(result)
        wanted = config.get("accounts")
        if isinstance(wanted, dict):
            encoding = wanted.get("encoding") or "base64"
            keys = [pubkey_of(key) for key in _list(wanted.get("addresses"), MAX_ACCOUNTS)]
            value["accounts"] = [
                account_json(result.accounts.get(key, self.chain.svm.account(key)), encoding, None)
                for key in keys
            ]
        if config.get("innerInstructions"):
            value["innerInstructions"] = inner_json(result.inner)
        if replace:
            newest = self.chain.head.blockhash
            value["replacementBlockhash"] = {
                "blockhash": str(newest),
                "lastValidBlockHeight": self.chain.last_valid_height(newest),
            }
        return self._context(value, block.slot)

    def simulate_bundle(self, params: list[Any], request: Request, reply: Reply) -> Any:
        """What a bundle would do now: executed for real, then rolled back."""
        bundle, config = config_of([argument(params, 0)], 0), config_of(params, 1)
        texts = _list(bundle.get("encodedTransactions"), MAX_BUNDLE)
        transactions = [self._transaction(text, "base64") for text in texts]
        skip, replace = (
            bool(config.get("skipSigVerify")),
            bool(config.get("replaceRecentBlockhash")),
        )
        results: list[Any] = []
        summary: Any = "succeeded"
        kept: dict[Pubkey, Account | None] = {}
        try:
            for received in transactions:
                if not skip and not received.verified:
                    raise refuse(SIGNATURE_FAILURE, "Transaction signature verification failure")
                self.chain.svm.keep(received, kept)
                err, value = self._run(received, skip=skip, any_blockhash=replace)
                results.append(value)
                if err is not None:
                    signature = str(received.signature)
                    text = [signature, describe(err)]
                    summary = {
                        "failed": {"error": {"TransactionFailure": text}, "tx_signature": signature}
                    }
                    break
        finally:
            self.chain.svm.restore(kept)
        return self._context({"summary": summary, "transactionResults": results}, None)

    def _run(self, received: Received, *, skip: bool, any_blockhash: bool) -> tuple[Any, Any]:
        objection = None if any_blockhash else self.chain.objection(received)
        if objection is not None:
            return objection, {"err": objection, "logs": [], "unitsConsumed": 0}
        head = self.chain.head
        done = self.chain.svm.execute(received, head.slot, head.height, None, verify=not skip)
        if not isinstance(done, Execution):
            return done, {"err": done, "logs": [], "unitsConsumed": 0}
        return done.err, {
            "err": done.err,
            "logs": list(done.logs),
            "unitsConsumed": done.compute_units,
            "returnData": return_data_json(done.return_data),
            "preExecutionAccounts": None,
            "postExecutionAccounts": None,
        }

    def get_fee_for_message(self, params: list[Any], request: Request, reply: Reply) -> Any:
        block = self._block(config_of(params, 1))
        try:
            message = from_bytes_versioned(decode_base64(argument(params, 0)))
        except ValueError as error:
            raise refuse(INVALID_PARAMS, f"Invalid params: {error}") from None
        if not isinstance(message, Message | MessageV0):
            raise refuse(INVALID_PARAMS, "Invalid params: unsupported message version")
        if self.chain.last_valid_height(message.recent_blockhash) is None:
            return self._context(None, block.slot)
        return self._context(self.chain.svm.fee(message), block.slot)

    def get_signature_statuses(self, params: list[Any], request: Request, reply: Reply) -> Any:
        signatures = [signature_of(each) for each in _list(argument(params, 0), MAX_STATUSES)]
        search = bool(config_of(params, 1).get("searchTransactionHistory"))
        found = [self.chain.status(each, search_history=search) for each in signatures]
        return self._context([None if each is None else self._status(each) for each in found], None)

    def _status(self, execution: Execution) -> dict[str, Any]:
        above = self.chain.confirmations(execution)
        reached = [name for name, depth in COMMITMENTS.items() if above >= depth][-1]
        return {
            "slot": execution.slot,
            "confirmations": None if reached == "finalized" else above,
            "err": execution.err,
            "status": {"Ok": None} if execution.err is None else {"Err": execution.err},
            "confirmationStatus": reached,
        }

    def get_transaction(self, params: list[Any], request: Request, reply: Reply) -> Any:
        signature = signature_of(argument(params, 0))
        given = params[1] if len(params) > 1 else None
        # The encoding alone may stand where the settings do.
        config = {"encoding": given} if isinstance(given, str) else config_of(params, 1)
        commitment = commitment_of(config)
        if commitment == "processed":
            raise refuse(INVALID_PARAMS, "Method does not support commitment below `confirmed`")
        execution = self.chain.statuses.get(signature)
        if execution is None or self.chain.confirmations(execution) < COMMITMENTS[commitment]:
            return None
        received = Received(execution.raw)
        if received.version == 0 and config.get("maxSupportedTransactionVersion") is None:
            raise refuse(
                UNSUPPORTED_VERSION,
                "Transaction version (0) is not supported by the requesting client. Please try "
                "the request again with the following configuration parameter: "
                '"maxSupportedTransactionVersion": 0',
            )
        try:
            transaction = transaction_json(received, config.get("encoding") or "json")
        except ValueError as error:
            raise refuse(INVALID_PARAMS, f"Invalid params: {error}") from None
        document = {
            "slot": execution.slot,
            "blockTime": self.chain.time_s(execution.slot),
            "transaction": transaction,
            "meta": self._meta(execution, received),
        }
        if config.get("maxSupportedTransactionVersion") is not None:
            document["version"] = received.version
        return document

    def _meta(self, execution: Execution, received: Received) -> dict[str, Any]:
        static = len(received.message.account_keys)
        loaded = execution.keys[static:]
        written = received.written_lookups
        meta: dict[str, Any] = {
            "err": execution.err,
            "status": {"Ok": None} if execution.err is None else {"Err": execution.err},
            "fee": execution.fee,
            "preBalances": list(execution.balances_before),
            "postBalances": list(execution.balances_after),
            "innerInstructions": inner_json(execution.inner),
            "logMessages": list(execution.logs),
            "preTokenBalances": [],
            "postTokenBalances": [],
            "rewards": [],
            "loadedAddresses": {
                "writable": [str(key) for key in loaded[:written]],
                "readonly": [str(key) for key in loaded[written:]],
            },
            "computeUnitsConsumed": execution.compute_units,
        }
        missing = self.chain.injector.meet(Fault.RETURN_DATA_MISSING, execution.signature)
        if execution.return_data is not None and missing is None:
            meta["returnData"] = return_data_json(execution.return_data)
        return meta

    # What they share

    def _context(self, value: Any, slot: int | None) -> dict[str, Any]:
        slot = self.chain.head.slot if slot is None else slot
        return {"context": {"apiVersion": VERSION["solana-core"], "slot": slot}, "value": value}

    def _block(self, config: Mapping[str, Any]) -> Block:
        return self._reached(config, commitment_of(config))

    def _reached(self, config: Mapping[str, Any], commitment: str) -> Block:
        block = self.chain.block(commitment)
        least = config.get("minContextSlot")
        if least is not None and block.slot < _whole(least, "minContextSlot"):
            raise refuse(
                MIN_CONTEXT_SLOT,
                "Minimum context slot has not been reached",
                {"contextSlot": block.slot},
            )
        return block

    def _account(self, pubkey: Pubkey, config: Mapping[str, Any]) -> Any:
        part = config.get("dataSlice")
        if part is not None:
            if not isinstance(part, dict):
                raise refuse(INVALID_PARAMS, "Invalid params: dataSlice: expected map")
            part = {name: _whole(part.get(name), name) for name in ("offset", "length")}
        try:
            account = self.chain.svm.account(pubkey)
            return account_json(account, config.get("encoding") or "binary", part)
        except ValueError as error:
            raise refuse(-32600, str(error)) from None

    def _transaction(self, text: Any, encoding: Any) -> Received:
        try:
            return decode_transaction(text, encoding)
        except ValueError as error:
            raise refuse(INVALID_PARAMS, str(error)) from None

    def _simulate(self, received: Received, *, verify: bool, any_blockhash: bool) -> Simulation:
        objection = None if any_blockhash else self.chain.objection(received)
        if objection is not None:
            return Simulation(objection, (), None, 0, {}, ())
        return self.chain.svm.simulate(received, verify=verify)


def _simulation(result: Simulation) -> dict[str, Any]:
    return {
        "err": result.err,
        "logs": list(result.logs),
        "accounts": None,
        "unitsConsumed": result.compute_units,
        "returnData": return_data_json(result.return_data),
        "innerInstructions": None,
        "replacementBlockhash": None,
    }
