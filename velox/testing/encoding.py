"""How Solana writes bytes, accounts and transactions in JSON."""

from __future__ import annotations

import base64
from typing import Any

from solders.account import Account
from solders.message import Message
from solders.pubkey import Pubkey
from solders.transaction_metadata import InnerInstruction

from velox.testing.svm import MAX_TRANSACTION_BYTES, Received, describe

__all__ = [
    "account_json",
    "decode_base58",
    "decode_base64",
    "decode_transaction",
    "encode_base58",
    "inner_json",
    "return_data_json",
    "transaction_json",
]

ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
# What 1232 bytes come to at most.
MAX_BASE58_LETTERS, MAX_BASE64_LETTERS = 1683, 1644
MAX_BASE58_ACCOUNT_BYTES = 128


def encode_base58(data: bytes) -> str:
    number, letters = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        letters = ALPHABET[digit] + letters
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + letters


def decode_base58(text: str) -> bytes:
    number = 0
    for letter in text:
        digit = ALPHABET.find(letter)
        if digit < 0:
            raise ValueError(f"invalid base58 encoding: {letter!r} is no digit")
        number = number * 58 + digit
    zeros = len(text) - len(text.lstrip("1"))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")


def decode_base64(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError) as error:
        raise ValueError(f"invalid base64 encoding: {error}") from None


def decode_transaction(text: Any, encoding: Any) -> Received:
    """A transaction from a parameter of a call.

    Raises
    ------
    ValueError
        It is none, or one that no packet could carry. The words are a validator's.
    """
    if not isinstance(text, str):
        raise ValueError("invalid type: a transaction must be a string")
    if encoding not in ("base58", "base64"):
        raise ValueError(f"unsupported encoding: {encoding}. Supported encodings: base58, base64")
    limit = MAX_BASE58_LETTERS if encoding == "base58" else MAX_BASE64_LETTERS
    if len(text) > limit:
        raise ValueError(
            f"{encoding} encoded VersionedTransaction too large: {len(text)} bytes "
            f"(max: encoded/raw {limit}/{MAX_TRANSACTION_BYTES})"
        )
    raw = decode_base58(text) if encoding == "base58" else decode_base64(text)
    if len(raw) > MAX_TRANSACTION_BYTES:
        raise ValueError(
            f"decoded VersionedTransaction too large: {len(raw)} bytes "
            f"(max: {MAX_TRANSACTION_BYTES} bytes)"
        )
    try:
        return Received(raw)
    except ValueError as error:
        raise ValueError(f"failed to deserialize VersionedTransaction: {error}") from None


def account_json(account: Account | None, encoding: str, part: dict[str, int] | None) -> Any:
    """An account, or `part` of its data.

    Raises
    ------
    ValueError
        The encoding cannot hold it.
    """
    if account is None:
        return None
    whole = bytes(account.data)
    data = whole if part is None else whole[part["offset"] : part["offset"] + part["length"]]
    if encoding in ("base64", "jsonParsed"):
        # A validator, too, gives what it cannot parse as base64.
        encoded: Any = [base64.b64encode(data).decode(), "base64"]
    elif encoding in ("base58", "binary"):
        if len(data) > MAX_BASE58_ACCOUNT_BYTES:
            raise ValueError(
                "Encoded binary (base 58) data should be less than 128 bytes, please use Base64 "
                "encoding."
            )
        text = encode_base58(data)
        encoded = text if encoding == "binary" else [text, "base58"]
    else:
        raise ValueError(f"unsupported encoding: {encoding}")
    return {
        "lamports": account.lamports,
        "owner": str(account.owner),
        "data": encoded,
        "executable": account.executable,
        "rentEpoch": account.rent_epoch,
        "space": len(whole),
    }


def return_data_json(returned: tuple[Pubkey, bytes] | None) -> Any:
    if returned is None:
        return None
    program, data = returned
    return {"programId": str(program), "data": [base64.b64encode(data).decode(), "base64"]}


def inner_json(inner: tuple[tuple[InnerInstruction, ...], ...]) -> list[Any]:
    return [
        {
            "index": index,
            "instructions": [
                {**_instruction(each.instruction()), "stackHeight": each.stack_height()}
                for each in group
            ],
        }
        for index, group in enumerate(inner)
        if group
    ]


def _instruction(compiled: Any) -> dict[str, Any]:
    return {
        "programIdIndex": compiled.program_id_index,
        "accounts": list(bytes(compiled.accounts)),
        "data": encode_base58(bytes(compiled.data)),
    }


def transaction_json(received: Received, encoding: str) -> Any:
    """A transaction; ValueError where the encoding is not known."""
    if encoding == "base64":
        return [base64.b64encode(received.raw).decode(), "base64"]
    if encoding == "base58":
        return [encode_base58(received.raw), "base58"]
    if encoding != "json":
        raise ValueError(f"unsupported encoding: {encoding}")
    message, header = received.message, received.message.header
    document: dict[str, Any] = {
        "header": {
            "numRequiredSignatures": header.num_required_signatures,
            "numReadonlySignedAccounts": header.num_readonly_signed_accounts,
            "numReadonlyUnsignedAccounts": header.num_readonly_unsigned_accounts,
        },
        "accountKeys": [str(key) for key in message.account_keys],
        "recentBlockhash": str(message.recent_blockhash),
        "instructions": [
            {**_instruction(each), "stackHeight": None} for each in message.instructions
        ],
    }
    if not isinstance(message, Message):
        document["addressTableLookups"] = [
            {
                "accountKey": str(each.account_key),
                "writableIndexes": list(bytes(each.writable_indexes)),
                "readonlyIndexes": list(bytes(each.readonly_indexes)),
            }
            for each in message.address_table_lookups
        ]
    signatures = [str(each) for each in received.transaction.signatures]
    return {"signatures": signatures, "message": document}


def failure_text(err: Any) -> str:
    return f"Transaction simulation failed: {describe(err)}"
