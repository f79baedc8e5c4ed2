"""Bytes, accounts and transactions in the JSON of Solana's RPC."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from solders.account import Account
from solders.message import Message
from solders.pubkey import Pubkey
from solders.transaction_metadata import InnerInstruction

from velox.solana.tx.limits import MAX_TRANSACTION_BYTES
from velox.testing.received import Received

__all__ = [
    "ACCOUNT_ENCODINGS",
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
# The longest texts of `MAX_TRANSACTION_BYTES`.
MAX_BASE58_LETTERS, MAX_BASE64_LETTERS = 1683, 1644
MAX_BASE58_ACCOUNT_BYTES = 128
#: The encodings of an account's data. ``binary`` is the old name of base58.
ACCOUNT_ENCODINGS = ("base58", "base64", "base64+zstd", "binary", "jsonParsed")
_ZSTD_BLOCK_BYTES = 1 << 17


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
    """Return the transaction in a parameter of a call.

    Raises
    ------
    ValueError
        It is not a transaction, or it is too long. The message is that of a validator.
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
    """Return an account as JSON, or `part` of its data.

    Raises
    ------
    ValueError
        The encoding is not known, or it cannot hold so much data.
    """
    if account is None:
        return None
    whole = bytes(account.data)
    data = whole if part is None else whole[part["offset"] : part["offset"] + part["length"]]
    if encoding in ("base64", "jsonParsed"):
        # A validator gives data that it cannot parse as base64.
        encoded: Any = [base64.b64encode(data).decode(), "base64"]
    elif encoding == "base64+zstd":
        encoded = [base64.b64encode(zstd_frame(data)).decode(), "base64+zstd"]
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


def zstd_frame(data: bytes) -> bytes:
    """Return `data` as one frame of Zstandard (RFC 8878), in raw blocks: without compression.

    ::

        28 b5 2f fd | descriptor e0: single segment, 8 bytes of content size | size u64 | blocks
        block: u24, of which bit 0 is set in the last one, bits 1-2 are 0 (raw), the rest its size
    """
    parts = [b"\x28\xb5\x2f\xfd\xe0", len(data).to_bytes(8, "little")]
    for at in range(0, max(len(data), 1), _ZSTD_BLOCK_BYTES):
        block = data[at : at + _ZSTD_BLOCK_BYTES]
        is_last = at + _ZSTD_BLOCK_BYTES >= len(data)
        parts += [(len(block) << 3 | is_last).to_bytes(3, "little"), block]
    return b"".join(parts)


def return_data_json(returned: tuple[Pubkey, bytes] | None) -> Any:
    if returned is None:
        return None
    program, data = returned
    return {"programId": str(program), "data": [base64.b64encode(data).decode(), "base64"]}


def inner_json(
    inner: tuple[tuple[InnerInstruction, ...], ...], keys: Sequence[Pubkey] | None
) -> list[Any]:
    """Return inner instructions; with `keys`, in the form of ``jsonParsed``."""
    return [
        {
            "index": index,
            "instructions": [
                {**_instruction(each.instruction(), keys), "stackHeight": each.stack_height()}
                for each in group
            ],
        }
        for index, group in enumerate(inner)
        if group
    ]


def _instruction(compiled: Any, keys: Sequence[Pubkey] | None) -> dict[str, Any]:
    if keys is not None:
        return {
            "programId": str(keys[compiled.program_id_index]),
            "accounts": [str(keys[index]) for index in bytes(compiled.accounts)],
            "data": encode_base58(bytes(compiled.data)),
        }
    return {
        "programIdIndex": compiled.program_id_index,
        "accounts": list(bytes(compiled.accounts)),
        "data": encode_base58(bytes(compiled.data)),
    }


def _account_keys(received: Received, keys: Sequence[Pubkey]) -> list[Any]:
    """Return the accounts of a transaction, with what it may do to each."""
    message = received.message
    header, static = message.header, len(message.account_keys)
    signed = header.num_required_signatures
    written = static + received.written_lookups
    return [
        {
            "pubkey": str(key),
            "signer": index < signed,
            "writable": (
                index < signed - header.num_readonly_signed_accounts
                if index < signed
                else index < static - header.num_readonly_unsigned_accounts
                if index < static
                else index < written
            ),
            "source": "transaction" if index < static else "lookupTable",
        }
        for index, key in enumerate(keys)
    ]


def transaction_json(received: Received, encoding: str, keys: Sequence[Pubkey]) -> Any:
    """Return a transaction as JSON.

    Parameters
    ----------
    received : Received
    encoding : str
        ``base58``, ``base64``, ``json``, ``jsonParsed`` or ``accounts``. In ``jsonParsed``, every
        instruction is partially decoded, as a node does for programs that it does not know.
    keys : sequence of Pubkey
        Its accounts, with those from lookup tables.

    Raises
    ------
    ValueError
        The encoding is not known.
    """
    if encoding == "base64":
        return [base64.b64encode(received.raw).decode(), "base64"]
    if encoding == "base58":
        return [encode_base58(received.raw), "base58"]
    signatures = [str(each) for each in received.transaction.signatures]
    if encoding == "accounts":
        return {"accountKeys": _account_keys(received, keys), "signatures": signatures}
    parsed = encoding == "jsonParsed"
    if encoding != "json" and not parsed:
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
            {**_instruction(each, keys if parsed else None), "stackHeight": None}
            for each in message.instructions
        ],
    }
    if parsed:
        del document["header"]
        document["accountKeys"] = _account_keys(received, keys)
    if not isinstance(message, Message):
        document["addressTableLookups"] = [
            {
                "accountKey": str(each.account_key),
                "writableIndexes": list(bytes(each.writable_indexes)),
                "readonlyIndexes": list(bytes(each.readonly_indexes)),
            }
            for each in message.address_table_lookups
        ]
    return {"signatures": signatures, "message": document}
