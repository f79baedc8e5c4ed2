"""Methods about transactions: sending, simulating, fees, and results."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from solders.account import Account
from solders.message import Message, MessageV0, from_bytes_versioned
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from velox.solana.net.rpc import MAX_STATUSES
from velox.solana.tx.instructions import COMPUTE_BUDGET_PROGRAM
from velox.solana.tx.limits import MAX_BUNDLE_TRANSACTIONS
from velox.testing.chain import COMMITMENTS, Chain
from velox.testing.encoding import (
    decode_base64,
    decode_transaction,
    inner_json,
    return_data_json,
    transaction_json,
)
from velox.testing.error_text import describe, simulation_failed
from velox.testing.faults import Fault
from velox.testing.received import Received
from velox.testing.rpc.base import Method, MethodGroup
from velox.testing.rpc.encoded import MAX_ACCOUNTS, encoded
from velox.testing.rpc.params import (
    argument,
    commitment_of,
    config_of,
    list_of,
    pubkey_of,
    signature_of,
    whole_number,
)
from velox.testing.server.jsonrpc import INTERNAL_ERROR, INVALID_PARAMS, refuse
from velox.testing.svm import Execution, Simulation

__all__ = ["TransactionMethods", "executed_json", "max_version", "meta_json"]

PREFLIGHT_FAILURE, SIGNATURE_FAILURE, UNSUPPORTED_VERSION = -32002, -32003, -32015
MAX_SIGNATURES = 1_000
FEE_BLOCKS, MAX_FEE_ACCOUNTS = 150, 128

_UNIT_PRICE = 3
_U64 = struct.Struct("<Q")


def max_version(config: Mapping[str, Any]) -> int | None:
    """Return the newest transaction version that a caller understands; None for legacy alone."""
    version = config.get("maxSupportedTransactionVersion")
    if version is None:
        return None
    return whole_number(version, "maxSupportedTransactionVersion")


def executed_json(execution: Execution, encoding: Any, version: int | None) -> dict[str, Any]:
    """Return an executed transaction, and its version if the caller requested versions."""
    received = Received(execution.raw)
    if received.version == 0 and version is None:
        raise refuse(
            UNSUPPORTED_VERSION,
            "Transaction version (0) is not supported by the requesting client. Please try "
            "the request again with the following configuration parameter: "
            '"maxSupportedTransactionVersion": 0',
        )
    try:
        document = {"transaction": transaction_json(received, encoding, execution.keys)}
    except ValueError as error:
        raise refuse(INVALID_PARAMS, f"Invalid params: {error}") from None
    return document if version is None else {**document, "version": received.version}


def meta_json(chain: Chain, execution: Execution, *, parsed: bool = False) -> dict[str, Any]:
    """Return the outcome of an executed transaction."""
    received = Received(execution.raw)
    loaded = execution.keys[len(received.message.account_keys) :]
    written = received.written_lookups
    meta: dict[str, Any] = {
        "err": execution.err,
        "status": {"Ok": None} if execution.err is None else {"Err": execution.err},
        "fee": execution.fee,
        "preBalances": list(execution.balances_before),
        "postBalances": list(execution.balances_after),
        "innerInstructions": inner_json(execution.inner, execution.keys if parsed else None),
        "logMessages": list(execution.logs),
        "preTokenBalances": execution.tokens_before,
        "postTokenBalances": execution.tokens_after,
        "rewards": [],
        "loadedAddresses": {
            "writable": [str(key) for key in loaded[:written]],
            "readonly": [str(key) for key in loaded[written:]],
        },
        "computeUnitsConsumed": execution.compute_units,
    }
    if execution.return_data is not None:
        meta["returnData"] = return_data_json(execution.return_data)
    return meta


class TransactionMethods(MethodGroup):
    """Sending, simulating and reading transactions.

    Simulations run on the newest block, for any commitment: the chain never abandons a block.
    """

    def methods(self) -> Mapping[str, Method]:
        return {
            "getFeeForMessage": self.get_fee_for_message,
            "getRecentPrioritizationFees": self.get_recent_prioritization_fees,
            "getSignatureStatuses": self.get_signature_statuses,
            "getSignaturesForAddress": self.get_signatures_for_address,
            "getTransaction": self.get_transaction,
            "requestAirdrop": self.request_airdrop,
            "sendTransaction": self.send_transaction,
            "simulateBundle": self.simulate_bundle,
            "simulateTransaction": self.simulate_transaction,
        }

    def request_airdrop(self, params: list[Any]) -> str:
        """Send a transfer from the faucet, which lands like any other transaction."""
        to, lamports = pubkey_of(argument(params, 0)), whole_number(argument(params, 1), "lamports")
        faucet = self.chain.faucet
        instruction = transfer(
            TransferParams(from_pubkey=faucet.pubkey(), to_pubkey=to, lamports=lamports)
        )
        # Equal airdrops take different blockhashes, so that each is a transaction of its own.
        for block in reversed(self.chain.blocks):
            message = MessageV0.try_compile(faucet.pubkey(), [instruction], [], block.blockhash)
            received = Received(bytes(VersionedTransaction(message, [faucet])))
            if self.chain.objection(received) is None and not self.chain.waits(received):
                self.chain.accept(received)
                return str(received.signature)
        raise refuse(INTERNAL_ERROR, "Internal error: too many airdrops at once")

    def send_transaction(self, params: list[Any]) -> str:
        config = config_of(params, 1)
        received = self._transaction(argument(params, 0), config.get("encoding") or "base58")
        self.reached(config, commitment_of(config, "preflightCommitment"))
        if not config.get("skipPreflight"):
            self._preflight(received)
        if received.verified:
            # Without a preflight, the sender does not learn that a leader would drop the rest.
            self.chain.accept(received)
        return str(received.signature)

    def _preflight(self, received: Received) -> None:
        if not received.verified:
            raise refuse(SIGNATURE_FAILURE, "Transaction signature verification failure")
        result = self._simulate(received, verify=True, any_blockhash=False)
        if result.err is not None:
            raise refuse(PREFLIGHT_FAILURE, simulation_failed(result.err), _simulation(result))

    def simulate_transaction(self, params: list[Any]) -> Any:
        config = config_of(params, 1)
        verify, replace = bool(config.get("sigVerify")), bool(config.get("replaceRecentBlockhash"))
        if verify and replace:
            raise refuse(INVALID_PARAMS, "sigVerify may not be used with replaceRecentBlockhash")
        received = self._transaction(argument(params, 0), config.get("encoding") or "base58")
        block = self.block(config)
        if verify and not received.verified:
            raise refuse(SIGNATURE_FAILURE, "Transaction signature verification failure")
        result = self._simulate(received, verify=verify, any_blockhash=replace)
        value = _simulation(result)
        wanted = config.get("accounts")
        if isinstance(wanted, dict):
            if wanted.get("encoding") in ("base58", "binary"):
                raise refuse(INVALID_PARAMS, "base58 encoding not supported")
            form = {"encoding": wanted.get("encoding")}
            keys = [pubkey_of(key) for key in list_of(wanted.get("addresses"), MAX_ACCOUNTS)]
            svm = self.chain.svm
            value["accounts"] = [
                encoded(svm, result.accounts.get(key, svm.account(key)), form, "base64")
                for key in keys
            ]
        if config.get("innerInstructions"):
            value["innerInstructions"] = inner_json(result.inner, None)
        if replace:
            newest = self.chain.head.blockhash
            value["replacementBlockhash"] = {
                "blockhash": str(newest),
                "lastValidBlockHeight": self.chain.last_valid_height(newest),
            }
        return self.context(value, block.slot)

    def simulate_bundle(self, params: list[Any]) -> Any:
        """Execute a bundle, and roll it back."""
        bundle, config = config_of([argument(params, 0)], 0), config_of(params, 1)
        texts = list_of(bundle.get("encodedTransactions"), MAX_BUNDLE_TRANSACTIONS)
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
        return self.context({"summary": summary, "transactionResults": results}, None)

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

    def get_fee_for_message(self, params: list[Any]) -> Any:
        block = self.block(config_of(params, 1))
        try:
            message = from_bytes_versioned(decode_base64(argument(params, 0)))
        except ValueError as error:
            raise refuse(INVALID_PARAMS, f"Invalid params: {error}") from None
        if not isinstance(message, Message | MessageV0):
            raise refuse(INVALID_PARAMS, "Invalid params: unsupported message version")
        if self.chain.last_valid_height(message.recent_blockhash) is None:
            return self.context(None, block.slot)
        return self.context(self.chain.svm.fee(message), block.slot)

    def get_recent_prioritization_fees(self, params: list[Any]) -> Any:
        """Return the lowest unit price of each recent block, among those that name the accounts."""
        keys = {pubkey_of(each) for each in list_of((params or [[]])[0], MAX_FEE_ACCOUNTS)}
        found = []
        for block in list(self.chain.blocks)[-FEE_BLOCKS:]:
            prices = [_unit_price(each) for each in block.executions if keys <= set(each.keys)]
            found.append({"slot": block.slot, "prioritizationFee": min(prices, default=0)})
        return found

    def get_signature_statuses(self, params: list[Any]) -> Any:
        signatures = [signature_of(each) for each in list_of(argument(params, 0), MAX_STATUSES)]
        search = bool(config_of(params, 1).get("searchTransactionHistory"))
        found = [self.chain.status(each, search_history=search) for each in signatures]
        return self.context([None if each is None else self._status(each) for each in found])

    def _status(self, execution: Execution) -> dict[str, Any]:
        above = self.chain.confirmations(execution)
        reached = self._commitment(execution)
        return {
            "slot": execution.slot,
            "confirmations": None if reached == "finalized" else above,
            "err": execution.err,
            "status": {"Ok": None} if execution.err is None else {"Err": execution.err},
            "confirmationStatus": reached,
        }

    def _commitment(self, execution: Execution) -> str:
        above = self.chain.confirmations(execution)
        return [name for name, depth in COMMITMENTS.items() if above >= depth][-1]

    def get_signatures_for_address(self, params: list[Any]) -> Any:
        """Return the transactions that name an account, newest first."""
        address, config = pubkey_of(argument(params, 0)), config_of(params, 1)
        depth = COMMITMENTS[self._confirmed(config)]
        limit = whole_number(config.get("limit", MAX_SIGNATURES), "limit")
        if not 1 <= limit <= MAX_SIGNATURES:
            raise refuse(INVALID_PARAMS, f"Invalid limit; max {MAX_SIGNATURES}")
        before, until = (
            None if config.get(name) is None else signature_of(config[name])
            for name in ("before", "until")
        )
        found: list[Any] = []
        begun = before is None
        for each in reversed(self.chain.executions):
            if each.signature == until or len(found) == limit:
                break
            if begun and address in each.keys and self.chain.confirmations(each) >= depth:
                found.append(
                    {
                        "signature": str(each.signature),
                        "slot": each.slot,
                        "err": each.err,
                        "memo": None,
                        "blockTime": self.chain.time_s(each.slot),
                        "confirmationStatus": self._commitment(each),
                    }
                )
            begun = begun or each.signature == before
        return found

    def get_transaction(self, params: list[Any]) -> Any:
        signature = signature_of(argument(params, 0))
        given = params[1] if len(params) > 1 else None
        # A call may give only the encoding in place of the config.
        config = {"encoding": given} if isinstance(given, str) else config_of(params, 1)
        depth = COMMITMENTS[self._confirmed(config)]
        execution = self.chain.statuses.get(signature)
        if execution is None or self.chain.confirmations(execution) < depth:
            return None
        encoding = config.get("encoding") or "json"
        document = {
            "slot": execution.slot,
            "blockTime": self.chain.time_s(execution.slot),
            **executed_json(execution, encoding, max_version(config)),
            "meta": meta_json(self.chain, execution, parsed=encoding == "jsonParsed"),
        }
        if self.chain.injector.meet(Fault.RETURN_DATA_MISSING, signature):
            document["meta"].pop("returnData", None)
        return document

    def _confirmed(self, config: Mapping[str, Any]) -> str:
        commitment = commitment_of(config)
        if commitment == "processed":
            raise refuse(INVALID_PARAMS, "Method does not support commitment below `confirmed`")
        return commitment

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


def _unit_price(execution: Execution) -> int:
    """Return the price of a compute unit that a transaction offers, in micro-lamports."""
    message = Received(execution.raw).message
    for each in message.instructions:
        data = bytes(each.data)
        program = execution.keys[each.program_id_index]
        if program == COMPUTE_BUDGET_PROGRAM and len(data) == 9 and data[0] == _UNIT_PRICE:
            return int(_U64.unpack_from(data, 1)[0])
    return 0


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
