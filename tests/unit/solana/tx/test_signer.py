"""Keys: their sources, the messages that they refuse, and that no output shows them."""

import copy
import json
import os
import pickle
import socket
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import Message as LegacyMessage
from solders.message import MessageV0, to_bytes_versioned
from solders.pubkey import Pubkey
from solders.system_program import assign

from tests.support import in_another_thread
from velox.errors import ConfigError, KeyFileError, RecordError, SpendRefusedError
from velox.solana.tx.instructions import (
    COMPUTE_BUDGET_PROGRAM,
    MEMO_PROGRAM,
    SYSTEM_PROGRAM,
    compute_unit_limit,
    compute_unit_price,
    create_account,
    memo,
    tip_transfer,
)
from velox.solana.tx.message import compact, parse_message
from velox.solana.tx.signer import KeypairSigner
from velox.solana.tx.spend import SignerPolicy, SpendSummary
from velox.solana.venues.manifest.instructions import MANIFEST_PROGRAM

SEED = bytes(range(100, 132))
KEYPAIR = Keypair.from_seed(SEED)
PAYER, OTHER = KEYPAIR.pubkey(), Pubkey(b"\x07" * 32)
POLICY = SignerPolicy(
    programs=frozenset({MEMO_PROGRAM}),
    max_tip_lamports=10_000,
    max_spend_lamports_per_minute=100_000,
)
SECOND = 1_000_000_000
# Every form in which the secret could be written down.
SECRETS = [
    str(KEYPAIR),
    SEED.hex(),
    repr(SEED)[2:-1],
    ", ".join(map(str, SEED)),
    ",".join(map(str, SEED)),
]


class Clock:
    def __init__(self) -> None:
        self.now = 5 * SECOND

    def __call__(self) -> int:
        return self.now


def signer(**arguments: Any) -> KeypairSigner:
    return KeypairSigner(KEYPAIR, arguments.pop("policy", POLICY), **arguments)


def message(*instructions: Instruction, payer: Pubkey = PAYER) -> bytes:
    return to_bytes_versioned(MessageV0.try_compile(payer, instructions, [], Hash.default()))


def tipping(lamports: int) -> bytes:
    return message(tip_transfer(PAYER, OTHER, lamports, dont_front=False))


def sign(signer: KeypairSigner, message: bytes) -> None:
    signature = signer.sign(message, SpendSummary.of(message))
    assert signature == KEYPAIR.sign_message(message)
    assert signature.verify(signer.pubkey, message)


# Where a key may come from


@pytest.fixture(name="key_file")
def fixture_key_file(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str | bytes, mode: int = 0o600) -> Path:
        path = tmp_path / "key.json"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        path.chmod(mode)
        return path

    return write


WHOLE = json.dumps(list(bytes(KEYPAIR)))


@pytest.mark.parametrize("text", [WHOLE, json.dumps(list(SEED)), f"\n [{WHOLE[1:-1]} ]\n"])
@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_key_is_read_from_a_private_file(
    key_file: Callable[..., Path], text: str, mode: int
) -> None:
    loaded = KeypairSigner.from_file(key_file(text, mode), POLICY)
    assert loaded.pubkey == PAYER
    sign(loaded, tipping(1000))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o700, 0o610, 0o602, 0o4600])
def test_a_file_that_others_may_use_is_refused(key_file: Callable[..., Path], mode: int) -> None:
    path = key_file(WHOLE, mode)
    with pytest.raises(KeyFileError, match=f"{path}: mode {mode:04o}: must be 0600") as caught:
        KeypairSigner.from_file(path, POLICY)
    assert caught.value.path == str(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_a_file_of_another_user_is_refused(key_file: Callable[..., Path]) -> None:
    path = key_file(WHOLE)
    os.chown(path, 12345, -1)
    with pytest.raises(KeyFileError, match="owned by user 12345, not by 0"):
        KeypairSigner.from_file(path, POLICY)


def test_what_is_no_regular_file_is_refused_and_does_not_hang(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    for path in (fifo, tmp_path, Path("/dev/null")):
        with pytest.raises(KeyFileError, match=f"{path}: not a regular file"):
            KeypairSigner.from_file(path, POLICY)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="nowhere: No such file or directory"):
        KeypairSigner.from_file(tmp_path / "nowhere", POLICY)
    with pytest.raises(KeyFileError, match="embedded null"):
        KeypairSigner.from_file("a\0b", POLICY)


def with_last(last: int) -> str:
    return json.dumps([*bytes(KEYPAIR)[:-1], last])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not a JSON array of bytes"),
        ("{}", "not a JSON array of bytes"),
        ("[]", "not a JSON array of bytes"),
        (WHOLE[:-1], "not a JSON array of bytes"),
        (WHOLE + "]", "not a JSON array of bytes"),
        (with_last(256), "not a JSON array of bytes"),
        (with_last(-1), "not a JSON array of bytes"),
        (b"\xff\xfe" + WHOLE.encode(), "not a JSON array of bytes"),
        (str(KEYPAIR), "not a JSON array of bytes"),
        (json.dumps(list(SEED[:31])), "31 bytes: a key has 64, a seed 32"),
        (json.dumps(list(bytes(KEYPAIR)) * 2), "128 bytes: a key has 64, a seed 32"),
        (with_last(bytes(KEYPAIR)[-1] ^ 1), "its public half does not match its secret half"),
        (WHOLE + " " * 5000, "longer than 4096 bytes"),
    ],
)
def test_a_file_that_holds_no_key_is_refused_without_showing_any_of_it(
    key_file: Callable[..., Path], text: str | bytes, why: str
) -> None:
    path = key_file(text)
    with pytest.raises(KeyFileError) as caught:
        KeypairSigner.from_file(path, POLICY)
    assert str(caught.value) == f"{path}: {why}"
    assert_shows_no_secret(caught.value)


def test_a_policy_that_cannot_be_used_shows_nothing_of_the_key(
    key_file: Callable[..., Path],
) -> None:
    class Policy:
        programs = 5

    with pytest.raises(TypeError) as caught:
        KeypairSigner.from_file(key_file(WHOLE), Policy())  # type: ignore[arg-type]
    assert_shows_no_secret(caught.value)


def assert_shows_no_secret(error: BaseException) -> None:
    """With the locals of every frame, as a debugging reporter would print it."""
    assert error.__cause__ is None
    assert error.__context__ is None
    frames = traceback.StackSummary.extract(
        traceback.walk_tb(error.__traceback__), capture_locals=True
    )
    # Not this file's frames: they hold the key on purpose.
    locals_shown = [each.locals for each in frames if each.filename != __file__]
    assert locals_shown
    shown = f"{error!r} {error} {vars(error)} {locals_shown}"
    for secret in SECRETS:
        assert secret not in shown


def test_a_key_is_read_from_a_pipe_a_socket_or_a_file_without_a_name(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, WHOLE.encode())
    os.close(writer)
    ours, theirs = socket.socketpair()
    theirs.sendall(WHOLE.encode())
    theirs.close()
    # Deleted while open: portable, where memfd_create is Linux's.
    unnamed = os.open(tmp_path / "key", os.O_RDWR | os.O_CREAT, 0o644)
    os.unlink(tmp_path / "key")
    os.write(unnamed, WHOLE.encode())
    os.lseek(unnamed, 0, os.SEEK_SET)
    for fd in (reader, ours.detach(), unnamed):
        assert KeypairSigner.from_fd(fd, POLICY).pubkey == PAYER
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


def test_a_descriptor_of_a_file_is_held_to_the_same_rules(key_file: Callable[..., Path]) -> None:
    fd = os.open(key_file(WHOLE, 0o644), os.O_RDONLY)
    with pytest.raises(KeyFileError, match=f"descriptor {fd}: mode 0644"):
        KeypairSigner.from_fd(fd, POLICY)
    with pytest.raises(KeyFileError, match=f"descriptor {fd}: Bad file descriptor"):
        KeypairSigner.from_fd(fd, POLICY)


def test_a_generated_key_is_a_new_one_each_time() -> None:
    first, second = (KeypairSigner.generate(POLICY) for _ in range(2))
    assert first.pubkey != second.pubkey


# It never shows


def test_a_signer_shows_its_public_half_alone() -> None:
    loaded = signer()
    assert repr(loaded) == str(loaded) == f"<KeypairSigner {PAYER}>"
    assert not hasattr(loaded, "__dict__")
    with pytest.raises(AttributeError):
        loaded.policy = POLICY  # type: ignore[misc]
    shown = [repr(getattr(loaded, name)) for name in dir(loaded)]
    for secret in SECRETS:
        assert all(secret not in each for each in shown)


def test_a_signer_is_not_copied_or_pickled() -> None:
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="KeypairSigner"):
            attempt(signer())


def test_a_refusal_shows_no_secret() -> None:
    with pytest.raises(SpendRefusedError) as caught:
        signer().sign(tipping(10_001), SpendSummary.of(tipping(10_001)))
    assert_shows_no_secret(caught.value)
    with pytest.raises(ConfigError) as folder:
        signer(kill_file="/nowhere/at/all")
    assert_shows_no_secret(folder.value)


# What a message spends


def test_what_a_message_spends_is_read_from_its_bytes() -> None:
    units = compute_unit_limit(1_000_001)
    summary = SpendSummary.of(
        message(
            units,
            compute_unit_price(3),
            tip_transfer(PAYER, OTHER, 1000, dont_front=True),
            tip_transfer(PAYER, OTHER, 500, dont_front=False),
            create_account(PAYER, OTHER, 7, 100, MANIFEST_PROGRAM),
            memo(b"x"),
        )
    )
    # Two sign: the payer and the new account. A fee of 3.000003 lamports is one of 4.
    assert summary == SpendSummary(2 * 5000 + 4, 1500, 7)
    assert summary.total == 11_511


def test_without_a_limit_a_message_may_take_what_its_instructions_may() -> None:
    price = compute_unit_price(1_000_000)
    assert SpendSummary.of(message(price, memo(b"x"), memo(b"y"))).fee_lamports == 405_000
    assert SpendSummary.of(message(price, *[memo(b"x")] * 9)).fee_lamports == 1_405_000


@pytest.mark.parametrize(
    "instruction",
    [
        assign({"pubkey": PAYER, "owner": OTHER}),
        Instruction(SYSTEM_PROGRAM, b"", []),
        Instruction(SYSTEM_PROGRAM, b"\x02\0\0\0" + b"\xff" * 9, []),  # longer than a transfer
        Instruction(SYSTEM_PROGRAM, b"\x0b\0\0\0" + b"\xff" * 8, []),  # transfer with seed
        Instruction(COMPUTE_BUDGET_PROGRAM, b"\x00" + b"\xff" * 8, []),  # once: units and a fee
        Instruction(COMPUTE_BUDGET_PROGRAM, b"\x03" + b"\xff" * 9, []),
        Instruction(COMPUTE_BUDGET_PROGRAM, b"", []),
    ],
)
def test_an_instruction_that_cannot_be_accounted_for_is_refused(instruction: Instruction) -> None:
    unsigned = message(instruction)
    with pytest.raises(SpendRefusedError) as caught:
        signer().sign(unsigned, SpendSummary(5000))
    assert caught.value.rule == "programs"


@given(st.binary(max_size=400), st.integers(0, 300))
def test_any_bytes_are_a_message_or_a_typed_error(noise: bytes, at: int) -> None:
    whole = message(
        compute_unit_price(1), tip_transfer(PAYER, OTHER, 5, dont_front=True), memo(b"x")
    )
    for data in (
        noise,
        b"\x80" + noise,
        whole[:at],
        whole[:at] + noise,
        whole[:at] + whole[at + 1 :],
    ):
        try:
            parsed = parse_message(data)
        except RecordError:
            with pytest.raises(SpendRefusedError) as caught:
                signer().sign(data, SpendSummary(0))
            assert caught.value.rule == "message"
        else:
            assert all(each[2] < len(data) for each in parsed.instructions)


@given(st.integers(0, 2**16 - 1))
def test_counts_are_written_as_they_are_read(count: int) -> None:
    instruction = Instruction(
        MEMO_PROGRAM, bytes(count), [AccountMeta(PAYER, True, False)] * (count % 200)
    )
    data = message(instruction)
    ((program, start, end),) = parse_message(data).instructions
    assert (program, end - start) == (bytes(MEMO_PROGRAM), count)
    length = compact(count)
    assert data[start - len(length) : start] == length


def test_only_version_0_without_lookup_tables_is_read() -> None:
    legacy = bytes(LegacyMessage.new_with_blockhash([memo(b"x")], PAYER, Hash.default()))
    with pytest.raises(RecordError) as caught:
        parse_message(legacy)
    assert caught.value.field == "version"
    whole = message(memo(b"x"))
    with pytest.raises(RecordError) as caught:
        parse_message(whole[:-1] + b"\x01" + bytes(34))
    assert caught.value.field == "address_table_lookups"


# The policy


def test_a_program_that_is_not_allowed_is_refused() -> None:
    unsigned = message(memo(b"x"), Instruction(MANIFEST_PROGRAM, b"\x06", []))
    with pytest.raises(SpendRefusedError) as caught:
        signer().sign(unsigned, SpendSummary.of(unsigned))
    assert (caught.value.rule, caught.value.value) == ("programs", MANIFEST_PROGRAM)
    sign(signer(), message(memo(b"x")))


def test_a_tip_over_the_cap_is_refused_however_it_is_split() -> None:
    sign(signer(), tipping(10_000))
    half = tip_transfer(PAYER, OTHER, 5001, dont_front=False)
    for unsigned in (tipping(10_001), message(half, half)):
        with pytest.raises(SpendRefusedError) as caught:
            signer().sign(unsigned, SpendSummary.of(unsigned))
        assert (caught.value.rule, caught.value.limit) == ("max_tip_lamports", 10_000)


def test_a_message_that_spends_something_else_than_its_builder_says_is_refused() -> None:
    for believed in (SpendSummary(5000, 999), SpendSummary(5001, 1000), SpendSummary(6000)):
        with pytest.raises(SpendRefusedError) as caught:
            signer().sign(tipping(1000), believed)
        assert caught.value.rule == "summary"


def test_no_minute_spends_more_than_its_cap() -> None:
    clock = Clock()
    guarded = signer(clock=clock)
    for _ in range(10):
        sign(guarded, tipping(5000))  # 10 000 lamports with the fee
        clock.now += SECOND
    assert guarded.spent_lamports == 100_000
    with pytest.raises(SpendRefusedError) as caught:
        sign(guarded, tipping(0))
    assert caught.value.rule == "max_spend_lamports_per_minute"
    assert (caught.value.value, caught.value.limit) == (105_000, 100_000)
    # What was refused was not spent, and the first second's share comes back after a minute.
    assert guarded.spent_lamports == 100_000
    clock.now += 51 * SECOND
    assert guarded.spent_lamports == 90_000
    sign(guarded, tipping(5000))
    clock.now += 3600 * SECOND
    assert guarded.spent_lamports == 0


def test_a_clock_that_goes_back_forgives_nothing() -> None:
    clock = Clock()
    guarded = signer(clock=clock)
    sign(guarded, tipping(10_000))
    for jump in (-4 * SECOND, 2 * SECOND, -(10**12)):
        clock.now += jump
        assert guarded.spent_lamports == 15_000


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.integers(0, 20 * SECOND), st.integers(0, 10_000)), min_size=1, max_size=30
    )
)
def test_no_60_seconds_hold_more_than_the_cap(spends: list[tuple[int, int]]) -> None:
    clock = Clock()
    guarded = signer(clock=clock)
    signed: list[tuple[int, int]] = []
    for wait, tip in spends:
        clock.now += wait
        unsigned = tipping(tip)
        try:
            guarded.sign(unsigned, SpendSummary.of(unsigned))
        except SpendRefusedError:
            pass
        else:
            signed.append((clock.now, 5000 + tip))
        last = sum(lamports for at, lamports in signed if at > clock.now - 60 * SECOND)
        assert last <= 100_000
        assert guarded.spent_lamports >= last


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tip_lamports", -1),
        ("max_tip_lamports", 1.0),
        ("max_spend_lamports_per_minute", True),
        ("programs", {MEMO_PROGRAM}),
        ("programs", frozenset({str(MEMO_PROGRAM)})),
        (
            "programs",
            frozenset({Pubkey.from_string("Ed25519SigVerify111111111111111111111111111")}),
        ),
    ],
)
def test_a_policy_that_cannot_be_kept_is_refused_by_name(field: str, value: Any) -> None:
    fields: dict[str, Any] = {
        "programs": frozenset(),
        "max_tip_lamports": 0,
        "max_spend_lamports_per_minute": 0,
    }
    with pytest.raises(ConfigError, match=field):
        SignerPolicy(**(fields | {field: value}))


# The kill switch


def test_a_killed_signer_signs_nothing_more() -> None:
    guarded = signer()
    sign(guarded, tipping(1))
    in_another_thread(lambda: guarded.kill("the position is flat"))
    guarded.kill("later")
    with pytest.raises(SpendRefusedError, match="the position is flat") as caught:
        sign(guarded, tipping(1))
    assert caught.value.rule == "killed"
    assert repr(guarded) == f"<KeypairSigner {PAYER}, killed>"
    assert guarded.spent_lamports == 5001


def test_a_file_that_appears_kills_while_it_is_there(tmp_path: Path) -> None:
    switch = tmp_path / "stop"
    guarded = signer(kill_file=switch)
    sign(guarded, tipping(1))
    switch.touch()
    with pytest.raises(SpendRefusedError, match=f"{switch} exists"):
        sign(guarded, tipping(1))
    switch.unlink()
    sign(guarded, tipping(1))


def test_a_kill_file_that_cannot_be_looked_at_kills(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    guarded = signer(kill_file=folder / "stop")
    folder.rmdir()
    folder.write_text("a file where a folder was")
    with pytest.raises(SpendRefusedError, match="Not a directory"):
        sign(guarded, tipping(1))


def test_a_kill_file_in_no_folder_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^kill_file = "):
        signer(kill_file=tmp_path / "nowhere" / "stop")
