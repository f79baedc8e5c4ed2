"""Keys that sign, and what they refuse to sign.

A key comes from a file that only its owner may read, or from a file descriptor: never from an
argument, the environment or a log. `KeypairSigner` reads the very bytes it is asked to sign, adds
up what they spend, and refuses what its policy does not allow, whatever their builder believed.

Python cannot wipe memory reliably: a key stays in the process until it ends.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, NoReturn, Protocol, Self

from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.signature import Signature

from velox.errors import ConfigError, KeyFileError, RecordError, SpendRefusedError
from velox.solana.tx.instructions import (
    COMPUTE_BUDGET_PROGRAM,
    MAX_COMPUTE_UNITS,
    SYSTEM_PROGRAM,
)
from velox.solana.tx.message import parse_message

__all__ = [
    "LAMPORTS_PER_SIGNATURE",
    "KeypairSigner",
    "Signer",
    "SignerPolicy",
    "SpendSummary",
]

LAMPORTS_PER_SIGNATURE: Final = 5_000

_COMPUTE_BUDGET = bytes(COMPUTE_BUDGET_PROGRAM)
_SYSTEM = bytes(SYSTEM_PROGRAM)
_DEFAULT_UNITS = 200_000
_NS_PER_S = 1_000_000_000
_WINDOW_S = 60

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
# Of System's instructions, those that Velox can account for.
_CREATE_ACCOUNT, _TRANSFER, _ADVANCE_NONCE = 0, 2, 4
_CREATE_ACCOUNT_BYTES, _TRANSFER_BYTES, _ADVANCE_NONCE_BYTES = 52, 12, 4
_HEAP, _UNIT_LIMIT, _UNIT_PRICE, _LOADED_BYTES = 1, 2, 3, 4

# Each signature that they check costs a fee of its own.
_PRECOMPILES = frozenset(
    map(
        Pubkey.from_string,
        (
            "Ed25519SigVerify111111111111111111111111111",
            "KeccakSecp256k11111111111111111111111111111",
            "Secp256r1SigVerify1111111111111111111111111",
        ),
    )
)

_MAX_FILE_BYTES = 4096
_KEY_TEXT = re.compile(rb"\s*\[\s*([0-9]{1,3}(?:\s*,\s*[0-9]{1,3})*)\s*\]\s*")


class SpendSummary(NamedTuple):
    """What a transaction takes from those who sign it, in lamports.

    What a program does by itself, such as rent for an account that it grows, no message shows.

    Attributes
    ----------
    fee_lamports : int
        For signatures and priority, whether it succeeds or not.
    tip_lamports : int
        What System transfers move.
    deposit_lamports : int
        What new accounts are endowed with.
    """

    fee_lamports: int
    tip_lamports: int = 0
    deposit_lamports: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        return self.fee_lamports + self.tip_lamports + self.deposit_lamports

    @classmethod
    def of(cls, message: bytes) -> Self:
        """Read it from a message.

        Raises
        ------
        RecordError
            These bytes are no message of version 0.
        SpendRefusedError
            An instruction whose cost cannot be told from its bytes.
        """
        return cls(*_read(message)[1])


def priority_fee(units: int, micro_lamports: int) -> int:
    """Return what a limit of `units` costs at a price, in lamports; the chain rounds up."""
    return -(-units * micro_lamports // 1_000_000)


def _read(message: bytes) -> tuple[set[bytes], SpendSummary]:
    """The programs that a message calls, and what it spends."""
    parsed = parse_message(message)
    programs = set()
    units: int | None = None
    price = tips = deposits = others = 0
    for program, start, end in parsed.instructions:
        if program == _COMPUTE_BUDGET:
            tag = message[start] if start < end else None
            if tag == _UNIT_LIMIT and end - start == 5:
                (units,) = _U32.unpack_from(message, start + 1)
            elif tag == _UNIT_PRICE and end - start == 9:
                (price,) = _U64.unpack_from(message, start + 1)
            elif tag not in {_HEAP, _LOADED_BYTES}:
                raise _unaccounted("ComputeBudget", tag)
            continue
        others += 1
        if program == _SYSTEM:
            tag = _U32.unpack_from(message, start)[0] if end - start >= 4 else None
            if tag == _TRANSFER and end - start == _TRANSFER_BYTES:
                tips += _U64.unpack_from(message, start + 4)[0]
            elif tag == _CREATE_ACCOUNT and end - start == _CREATE_ACCOUNT_BYTES:
                deposits += _U64.unpack_from(message, start + 4)[0]
            elif not (tag == _ADVANCE_NONCE and end - start == _ADVANCE_NONCE_BYTES):
                raise _unaccounted("System", tag)
        else:
            programs.add(program)
    fee = LAMPORTS_PER_SIGNATURE * parsed.signatures
    if price:
        if units is None:
            units = _DEFAULT_UNITS * others
        fee += priority_fee(min(units, MAX_COMPUTE_UNITS), price)
    return programs, SpendSummary(fee, tips, deposits)


def _unaccounted(program: str, tag: int | None) -> SpendRefusedError:
    return SpendRefusedError(
        "programs", f"instruction {tag} of {program}, whose cost cannot be told", value=tag
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerPolicy:
    """What a signer lets itself be spent on.

    Attributes
    ----------
    programs : frozenset of Pubkey
        The programs that may be called, beside ComputeBudget and System, of which every
        instruction is accounted for. What a program on this list does by itself is not seen.
    max_tip_lamports : int
        What one transaction may transfer.
    max_spend_lamports_per_minute : int
        Fees, transfers and new accounts together, in any 60 s, whether sent or only signed.

    Raises
    ------
    ConfigError
        `programs` is no frozenset of keys, or a bound is no whole number of lamports.
    """

    programs: frozenset[Pubkey]
    max_tip_lamports: int
    max_spend_lamports_per_minute: int

    def __post_init__(self) -> None:
        if not isinstance(self.programs, frozenset) or not all(
            isinstance(each, Pubkey) for each in self.programs
        ):
            raise ConfigError(f"programs = {self.programs!r}: must be a frozenset of keys")
        if not self.programs.isdisjoint(_PRECOMPILES):
            raise ConfigError("programs: the fees of precompiled signature checks are not counted")
        for name in ("max_tip_lamports", "max_spend_lamports_per_minute"):
            value = getattr(self, name)
            if type(value) is not int or value < 0:
                raise ConfigError(f"{name} = {value!r}: must be lamports, 0 or more")


class Signer(Protocol):
    """Whoever can sign for one key; a hardware wallet may, as well as `KeypairSigner`."""

    @property
    def pubkey(self) -> Pubkey:
        """The key that it signs for."""
        ...

    @property
    def killed(self) -> str | None:
        """Why nothing is to be signed, nor sent that was; None where all is well."""
        ...

    def sign(self, message: bytes, summary: SpendSummary) -> Signature:
        """Sign `message`, whose builder believes that it spends `summary`.

        Raises
        ------
        SpendRefusedError
            It is not to be signed.
        """
        ...


def _over(rule: str, lamports: int, limit: int) -> SpendRefusedError:
    return SpendRefusedError(
        rule, f"{lamports} lamports, where {limit} are allowed", value=lamports, limit=limit
    )


class _Window:
    """What was spent in the last 60 s, by the second.

    The seconds that overlap the last 60 count whole, so that no 60 s ever hold more than the cap.
    """

    __slots__ = ("_buckets", "_second", "total")

    def __init__(self) -> None:
        self._buckets = [0] * (_WINDOW_S + 1)
        self._second = 0
        self.total = 0

    def advance(self, now_ns: int) -> None:
        # A clock that goes back forgives nothing.
        second = now_ns // _NS_PER_S
        for passed in range(self._second + 1, min(second, self._second + len(self._buckets)) + 1):
            slot = passed % len(self._buckets)
            self.total -= self._buckets[slot]
            self._buckets[slot] = 0
        self._second = max(second, self._second)

    def spend(self, lamports: int) -> None:
        self._buckets[self._second % len(self._buckets)] += lamports
        self.total += lamports


class KeypairSigner:
    """A key in this process, and the policy that guards it.

    It cannot be copied or pickled, and shows its public half alone. Any thread may sign, or kill.

    Parameters
    ----------
    keypair : solders.keypair.Keypair
        Whoever holds it can sign without this policy: prefer `from_file`, `from_fd`, `generate`.
    policy : SignerPolicy
    clock : callable
        Monotonic ns.
    kill_file : path or None
        While a file exists there, nothing is signed. Its folder must exist.

    Raises
    ------
    ConfigError
        The folder of `kill_file` is not there.
    """

    __slots__ = (
        "_clock",
        "_kill_file",
        "_killed",
        "_lock",
        "_policy",
        "_programs",
        "_pubkey",
        "_sign",
        "_window",
    )

    def __init__(
        self,
        keypair: Keypair,
        policy: SignerPolicy,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
        kill_file: str | os.PathLike[str] | None = None,
    ) -> None:
        self._pubkey = keypair.pubkey()
        # The method alone: its repr, unlike the key's, holds no secret. The key goes before
        # anything can fail, since a traceback may show what its frames hold.
        self._sign: Callable[[bytes], Signature] = keypair.sign_message
        del keypair
        self._killed: str | None = None
        self._kill_file: Path | None = None
        self._policy = policy
        self._programs = frozenset(map(bytes, policy.programs))
        self._clock = clock
        # One that a signal handler may take again.
        self._lock = threading.RLock()
        self._window = _Window()
        self._kill_file = _kill_path(kill_file)

    @classmethod
    def generate(
        cls,
        policy: SignerPolicy,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
        kill_file: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Make a key that dies with the process, such as for a local cluster."""
        return cls(Keypair(), policy, clock=clock, kill_file=kill_file)

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        policy: SignerPolicy,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
        kill_file: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Load a key from a file as the Solana tools write it: a JSON array of 64 (or 32) bytes.

        Raises
        ------
        KeyFileError
            It is no regular file, is not owned by this user, others may read it or anyone
            execute it (mode 0600 or stricter is asked for), or it holds no key.
        """
        try:
            # A pipe must not hang the program before it is seen to be one.
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            why = error.strerror or "cannot be opened"
        except ValueError as error:
            why = str(error)
        else:
            try:
                return cls._load(fd, os.fspath(path), policy, clock, kill_file, anonymous=False)
            finally:
                os.close(fd)
        raise KeyFileError(why, path=os.fspath(path))

    @classmethod
    def from_fd(
        cls,
        fd: int,
        policy: SignerPolicy,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
        kill_file: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Load a key from a descriptor, to its end, and close it.

        A pipe, a socket or a file without a name will do; a file with one is held to what
        `from_file` asks.

        Raises
        ------
        KeyFileError
            As `from_file`.
        """
        try:
            return cls._load(fd, f"descriptor {fd}", policy, clock, kill_file, anonymous=True)
        finally:
            with suppress(OSError):
                os.close(fd)

    @classmethod
    def _load(
        cls,
        fd: int,
        path: str,
        policy: SignerPolicy,
        clock: Callable[[], int],
        kill_file: str | os.PathLike[str] | None,
        *,
        anonymous: bool,
    ) -> Self:
        # No frame that raises holds any of the key, and no error is raised while another one,
        # which may hold its input, is being handled.
        kill_file = _kill_path(kill_file)
        why = _file_refusal(fd, anonymous=anonymous)
        if why is None:
            # In a list, so that it can leave this frame before the constructor is entered.
            keys: list[Keypair] = []
            why = _read_key(fd, keys)
            if why is None:
                return cls(keys.pop(), policy, clock=clock, kill_file=kill_file)
        raise KeyFileError(why, path=path)

    @property
    def pubkey(self) -> Pubkey:
        """The key that it signs for."""
        return self._pubkey

    @property
    def policy(self) -> SignerPolicy:
        """What it lets itself be spent on, for good."""
        return self._policy

    def kill(self, reason: str) -> None:
        """Sign nothing more, ever; `reason` is what the refusals say.

        When it returns, no other thread is signing. A signal handler may call it.
        """
        with self._lock:
            if self._killed is None:
                self._killed = reason

    @property
    def killed(self) -> str | None:
        """Why nothing is signed any more, nor sent again; None while the signer lives."""
        if self._killed is None and self._kill_file is not None:
            try:
                os.stat(self._kill_file)
            except FileNotFoundError:
                return None
            except OSError as error:
                # What cannot be looked at may be there.
                return f"{self._kill_file}: {error.strerror}"
            return f"{self._kill_file} exists"
        return self._killed

    @property
    def spent_lamports(self) -> int:
        """What was signed away in the last 60 s, to the second."""
        with self._lock:
            self._window.advance(self._clock())
            return self._window.total

    def sign(self, message: bytes, summary: SpendSummary) -> Signature:
        """Sign a message of version 0.

        Parameters
        ----------
        message : bytes
        summary : SpendSummary
            What the caller believes that it spends; `SpendSummary.of` reads it from the bytes.

        Raises
        ------
        SpendRefusedError
            The signer was killed; the bytes are no message, or spend something else than
            `summary`; or the policy is broken, of which `rule` says what.
        """
        policy = self._policy
        try:
            programs, spent = _read(message)
        except RecordError as error:
            raise SpendRefusedError("message", str(error)) from None
        if not programs <= self._programs:
            program = Pubkey(min(programs - self._programs))
            raise SpendRefusedError("programs", f"{program} is not allowed", value=program)
        if spent.tip_lamports > policy.max_tip_lamports:
            raise _over("max_tip_lamports", spent.tip_lamports, policy.max_tip_lamports)
        if spent != summary:
            raise SpendRefusedError(
                "summary", f"the message spends {spent}, not {summary}", value=summary
            )
        with self._lock:
            killed = self.killed
            if killed is not None:
                raise SpendRefusedError("killed", killed)
            self._window.advance(self._clock())
            total = self._window.total + spent.total
            if total > policy.max_spend_lamports_per_minute:
                raise _over(
                    "max_spend_lamports_per_minute", total, policy.max_spend_lamports_per_minute
                )
            self._window.spend(spent.total)
            return self._sign(message)

    def __repr__(self) -> str:
        state = "" if self.killed is None else ", killed"
        return f"<{type(self).__name__} {self.pubkey}{state}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} is not copied or pickled: it holds a key")


def _kill_path(path: str | os.PathLike[str] | None) -> Path | None:
    if path is None:
        return None
    whole = Path(path).absolute()
    if not whole.parent.is_dir():
        raise ConfigError(f"kill_file = {whole}: its folder is not there")
    return whole


def _file_refusal(fd: int, *, anonymous: bool) -> str | None:
    """Why a key is not to be read from `fd`; None if it may be."""
    try:
        status = os.fstat(fd)
    except OSError as error:
        return error.strerror or "cannot be looked at"
    mode = status.st_mode
    if not stat.S_ISREG(mode):
        fine = anonymous and (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode))
        return None if fine else "not a regular file"
    if anonymous and status.st_nlink == 0:
        return None
    if status.st_uid != os.geteuid():
        return f"owned by user {status.st_uid}, not by {os.geteuid()}"
    if stat.S_IMODE(mode) & ~0o600:
        return f"mode {stat.S_IMODE(mode):04o}: must be 0600 or stricter (chmod 600)"
    return None


def _read_key(fd: int, keys: list[Keypair]) -> str | None:
    """Append the key that `fd` gives, or say in words that hold nothing of it why there is none."""
    data = bytearray()
    try:
        while len(data) <= _MAX_FILE_BYTES:
            part = os.read(fd, _MAX_FILE_BYTES)
            if not part:
                break
            data += part
    except OSError as error:
        return error.strerror or "cannot be read"
    if len(data) > _MAX_FILE_BYTES:
        return f"longer than {_MAX_FILE_BYTES} bytes"
    match = _KEY_TEXT.fullmatch(data)
    numbers = [] if match is None else [int(each) for each in match[1].split(b",")]
    if match is None or max(numbers) > 255:
        return "not a JSON array of bytes"
    if len(numbers) not in {32, 64}:
        return f"{len(numbers)} bytes, where a key has 64, or 32 of a seed"
    keypair = Keypair.from_seed(bytes(numbers[:32]))
    if len(numbers) == 64 and bytes(keypair.pubkey()) != bytes(numbers[32:]):
        return "its public half is not that of its secret half"
    # The little that can be done.
    data[:] = bytes(len(data))
    keys.append(keypair)
    return None
