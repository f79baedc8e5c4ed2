"""Signing keys, and the checks before each signature.

A key comes from a file that only its owner can read, or from a file descriptor. It never comes from
an argument, the environment or a log. `KeypairSigner` reads the bytes before it signs them, and
sums what they spend. It refuses what its policy does not allow, independent of the caller's claim.

Python cannot reliably wipe memory: a key stays in the process until it ends.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn, Protocol, Self

from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.signature import Signature

from velox.core.units import NS_PER_S
from velox.errors import ConfigError, RecordError, SpendRefusedError
from velox.solana.tx.instructions import COMPUTE_BUDGET_PROGRAM, SYSTEM_PROGRAM
from velox.solana.tx.key_file import open_key_file, read_keypair
from velox.solana.tx.message import parse_message
from velox.solana.tx.spend import SignerPolicy, SpendSummary, read_spend

__all__ = ["KeypairSigner", "Signer"]

_WINDOW_S = 60
# Signed transactions whose cost is not known yet. Those beyond count as they were signed.
MOST_UNSETTLED = 1 << 14


_WITHOUT_ORDERS = frozenset({bytes(COMPUTE_BUDGET_PROGRAM), bytes(SYSTEM_PROGRAM)})


class Signer(Protocol):
    """Signs for one key: `KeypairSigner`, or a hardware wallet."""

    @property
    def pubkey(self) -> Pubkey:
        """The key that it signs for."""
        ...

    @property
    def killed(self) -> str | None:
        """Why nothing but cancellations may be signed or sent; None while the signer works."""
        ...

    def settle(self, signature: Signature, lamports: int) -> None:
        """Take in what a signed transaction cost; 0 if it can never execute."""
        ...

    def sign(self, message: bytes, summary: SpendSummary) -> Signature:
        """Sign `message`. The caller claims that it spends `summary`.

        Raises
        ------
        SpendRefusedError
            The signer refuses the message.
        """
        ...


def _over(rule: str, lamports: int, limit: int) -> SpendRefusedError:
    return SpendRefusedError(
        rule, f"{lamports} lamports; at most {limit} are allowed", value=lamports, limit=limit
    )


class _Window:
    """Lamports spent in the last 60 s, by the second.

    A second that lies partly in the last 60 s counts whole, so no 60 s hold more than the limit.
    """

    __slots__ = ("_buckets", "_second", "total")

    def __init__(self) -> None:
        self._buckets = [0] * (_WINDOW_S + 1)
        self._second = 0
        self.total = 0

    def advance(self, now_ns: int) -> None:
        # If the clock jumps back, nothing is forgotten.
        second = now_ns // NS_PER_S
        for passed in range(self._second + 1, min(second, self._second + len(self._buckets)) + 1):
            slot = passed % len(self._buckets)
            self.total -= self._buckets[slot]
            self._buckets[slot] = 0
        self._second = max(second, self._second)

    def spend(self, lamports: int) -> None:
        self._buckets[self._second % len(self._buckets)] += lamports
        self.total += lamports

    @property
    def second(self) -> int:
        return self._second

    def take_back(self, second: int, lamports: int) -> None:
        """Remove what was spent in a second, unless it is forgotten already."""
        if self._second - second < len(self._buckets):
            self._buckets[second % len(self._buckets)] -= lamports
            self.total -= lamports


class KeypairSigner:
    """A key in this process, and the policy that limits it.

    It cannot be copied or pickled, and it shows only its public key. Any thread may call `sign` or
    `kill`.

    Parameters
    ----------
    keypair : solders.keypair.Keypair
        Code that holds this object can sign without the policy. Prefer `from_file`, `from_fd` or
        `generate`.
    policy : SignerPolicy
    clock : callable
        Monotonic nanoseconds.
    kill_file : path or None
        While a file with this name exists, nothing is signed but cancellations. Its folder must
        exist; if it vanishes later, that counts as the file.

    Raises
    ------
    ConfigError
        The folder of `kill_file` does not exist.
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
        "_unsettled",
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
        # Only the method is kept: its repr, unlike the key's, holds no secret. The key is dropped
        # before anything can fail, since a traceback may show the variables of its frames.
        self._sign: Callable[[bytes], Signature] = keypair.sign_message
        del keypair
        self._killed: str | None = None
        self._kill_file: Path | None = None
        self._policy = policy
        self._programs = frozenset(map(bytes, policy.programs))
        self._clock = clock
        # Re-entrant: a signal handler may call `kill` while this thread holds the lock.
        self._lock = threading.RLock()
        self._window = _Window()
        self._unsettled: OrderedDict[Signature, tuple[int, int]] = OrderedDict()
        self._kill_file = _kill_path(kill_file)

    @classmethod
    def generate(
        cls,
        policy: SignerPolicy,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
        kill_file: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Make a random key, such as for a local cluster. It is lost when the process ends."""
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
            It is not a regular file, another user owns it, its mode is not 0600 or stricter, or it
            holds no key.
        """
        fd = open_key_file(path)
        try:
            return cls._load(fd, os.fspath(path), policy, clock, kill_file, anonymous=False)
        finally:
            os.close(fd)

    @classmethod
    def from_fd(
        cls,
        fd: int,
        policy: SignerPolicy,
        *,
        clock: Callable[[], int] = time.monotonic_ns,
        kill_file: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Load a key from a descriptor, to its end, and close the descriptor.

        It may be a pipe, a socket or a file without a name. A file with a name must meet the rules
        of `from_file`.

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
        # The key never is a variable of this frame, which a traceback could show.
        kill_file = _kill_path(kill_file)
        return cls(
            read_keypair(fd, path, anonymous=anonymous), policy, clock=clock, kill_file=kill_file
        )

    @property
    def pubkey(self) -> Pubkey:
        """The key that it signs for."""
        return self._pubkey

    @property
    def policy(self) -> SignerPolicy:
        """The policy; it never changes."""
        return self._policy

    def kill(self, reason: str) -> None:
        """Stop signing for good; refusals repeat `reason`.

        After it returns, no other thread is signing. A signal handler may call it.
        """
        with self._lock:
            if self._killed is None:
                self._killed = reason

    @property
    def killed(self) -> str | None:
        """Why nothing but cancellations may be signed any more; None while the signer works."""
        if self._killed is None and self._kill_file is not None:
            try:
                os.stat(self._kill_file)
            except FileNotFoundError:
                if self._kill_file.parent.is_dir():
                    return None
                return f"{self._kill_file.parent}, the folder of the kill file, does not exist"
            except OSError as error:
                # The file may exist, so the signer stops.
                return f"{self._kill_file}: {error.strerror}"
            return f"{self._kill_file} exists"
        return self._killed

    @property
    def spent_lamports(self) -> int:
        """Lamports that were signed away in the last 60 s, to the second."""
        with self._lock:
            self._window.advance(self._clock())
            return self._window.total

    def sign(self, message: bytes, summary: SpendSummary) -> Signature:
        """Sign a message of version 0.

        Parameters
        ----------
        message : bytes
        summary : SpendSummary
            What the caller claims that it spends; `SpendSummary.of` reads it from the bytes.

        Raises
        ------
        SpendRefusedError
            The signer was killed, the bytes are not a message, they do not spend `summary`, or they
            break the policy. `rule` says which.
        """
        policy = self._policy
        try:
            programs, spent = read_spend(message)
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
            if killed is not None and not self._cancels(message):
                raise SpendRefusedError("killed", killed)
            self._window.advance(self._clock())
            rent = self._rent(message)
            total = self._window.total + spent.total + rent
            if total > policy.max_spend_lamports_per_minute:
                raise _over(
                    "max_spend_lamports_per_minute", total, policy.max_spend_lamports_per_minute
                )
            self._window.spend(spent.total + rent)
            signature = self._sign(message)
            if rent:
                self._unsettled[signature] = self._window.second, spent.total + rent
                while len(self._unsettled) > MOST_UNSETTLED:
                    self._unsettled.popitem(last=False)
            return signature

    def settle(self, signature: Signature, lamports: int) -> None:
        """Replace what a signed transaction counted for by what it cost, from now on.

        Parameters
        ----------
        signature : Signature
            Of a transaction that may take rent, and that this signer signed. Others are ignored:
            they cost what their bytes state.
        lamports : int
            What the payer paid: 0 if it can never execute.
        """
        with self._lock:
            self._window.advance(self._clock())
            reserved = self._unsettled.pop(signature, None)
            if reserved is not None:
                self._window.take_back(*reserved)
                self._window.spend(lamports)

    def _rent(self, message: bytes) -> int:
        """Return the most lamports that the programs may take by themselves."""
        rents = self._policy.rents
        if not rents:
            return 0
        return sum(
            rents[key](message[start:end])
            for program, start, end in parse_message(message).instructions
            if program not in _WITHOUT_ORDERS and (key := Pubkey(program)) in rents
        )

    def _cancels(self, message: bytes) -> bool:
        """Return whether a message only cancels orders. Fees and a tip are allowed."""
        found = False
        for program, start, end in parse_message(message).instructions:
            if program in _WITHOUT_ORDERS:
                continue
            test = self._policy.cancels.get(Pubkey(program))
            if test is None or not test(message[start:end]):
                return False
            found = True
        return found

    def __repr__(self) -> str:
        state = "" if self.killed is None else ", killed"
        return f"<{type(self).__name__} {self.pubkey}{state}>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds a key: it cannot be copied or pickled")


def _kill_path(path: str | os.PathLike[str] | None) -> Path | None:
    if path is None:
        return None
    whole = Path(path).absolute()
    if not whole.parent.is_dir():
        raise ConfigError(f"kill_file = {whole}: its folder does not exist")
    return whole
