"""The linker: programs of several objects run in the VM as their C says."""

from __future__ import annotations

import random
import struct
import subprocess
from pathlib import Path

import pytest
from solders.account import Account
from solders.instruction import AccountMeta, Instruction
from solders.litesvm import LiteSVM
from solders.message import Message
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction
from solders.transaction_metadata import FailedTransactionMetadata

from velox.errors import ProgramBuildError
from velox.testing.market.build import FLAGS, build
from velox.testing.market.link import link

from .support import clang, needs_clang

HEADER = """
typedef unsigned long long u64; typedef unsigned int u32; typedef unsigned char u8;
extern u64 sol_log_(const char *text, u64 length);
extern u64 sol_set_return_data(const void *data, u64 length);
"""


def compiled(source: str, folder: Path, name: str = "part") -> tuple[str, bytes]:
    """Compile one C text to an object."""
    path = folder / f"{name}.c"
    path.write_text(HEADER + source, encoding="utf-8")
    made = folder / f"{name}.o"
    subprocess.run([str(clang()), *FLAGS, "-c", path, "-o", made], check=True, timeout=60)
    return path.name, made.read_bytes()


def run(program: bytes, data: bytes = b"") -> tuple[bytes, str | None, list[str]]:
    """Run a program; returns its answer, its error and its log."""
    svm = LiteSVM().with_sigverify(False).with_blockhash_check(False)
    address, payer = Pubkey.new_unique(), Pubkey.new_unique()
    svm.add_program(address, program)
    svm.set_account(payer, Account(10**9, b"", Pubkey.default()))
    instruction = Instruction(address, data, [AccountMeta(payer, True, True)])
    message = Message.new_with_blockhash([instruction], payer, svm.latest_blockhash())
    result = svm.send_transaction(VersionedTransaction.populate(message, [Signature.default()]))
    failed = isinstance(result, FailedTransactionMetadata)
    meta = result.meta() if failed else result
    return bytes(meta.return_data().data), str(result.err()) if failed else None, meta.logs()


@needs_clang
def test_constants_of_every_kind_are_read_only_data(tmp_path: Path) -> None:
    # A table, a string (.rodata.str1.1) and constants that merge (.rodata.cst): one .rodata.
    source = """
    static const u64 table[4] = {10, 20, 30, 1ull << 63};
    struct pair { u64 a, b; };
    static const struct pair pairs[2] = {{1, 2}, {3, 4}};
    u64 entrypoint(const u8 *input) {
        u64 n = *(const u64 *)input, out[3] = {table[n], table[n + 2], pairs[n].a};
        sol_log_("told", 4);
        sol_set_return_data(out, sizeof out);
        return 0;
    }"""
    program = link([compiled(source, tmp_path)])
    answer, error, log = run(program)
    assert error is None
    assert struct.unpack("<3Q", answer) == (20, 1 << 63, 3)
    assert "Program log: told" in log
    assert sections(program).keys() >= {".text", ".rodata"}
    assert not [name for name in sections(program) if name.startswith(".rodata.")]


@needs_clang
def test_pointers_in_read_only_data_point_where_they_should(tmp_path: Path) -> None:
    source = """
    static const char first[] = "one", second[] = "two and more";
    static const char *const words[3] = {first, second, second + 4};
    struct word { u64 length; const char *text; };
    static const struct word told[2] = {{3, first}, {12, second}};
    u64 entrypoint(const u8 *input) {
        u64 n = *(const u64 *)input;
        sol_log_(words[n], 3);
        sol_log_(words[n + 1], 3);
        sol_log_(told[n].text, told[n].length);
        return 0;
    }"""
    _, error, log = run(link([compiled(source, tmp_path)]))
    assert error is None
    assert [line[13:] for line in log if line.startswith("Program log: ")] == [
        "two",
        "and",
        "two and more",
    ]


@needs_clang
def test_functions_call_one_another_across_objects(tmp_path: Path) -> None:
    first = compiled(
        """
        extern u64 twice(u64 n); extern const u64 shared[2];
        __attribute__((noinline)) static u64 fibonacci(u64 n) {
            return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
        }
        __attribute__((noinline)) u64 local(u64 n) { return fibonacci(n) + 1; }
        u64 entrypoint(const u8 *input) {
            u64 n = *(const u64 *)input, out[3] = {twice(n + 6), local(12), shared[n]};
            sol_set_return_data(out, sizeof out);
            return 7;
        }""",
        tmp_path,
        "first",
    )
    second = compiled(
        """
        extern u64 local(u64 n);
        const u64 shared[2] = {5, 77};
        __attribute__((noinline)) static u64 before(u64 n) { return n * 100; }
        u64 twice(u64 n) { return before(n) + local(n); }""",
        tmp_path,
        "second",
    )
    for objects in ([first, second], [second, first]):
        answer, error, _ = run(link(objects))
        assert struct.unpack("<3Q", answer) == (700 + 13 + 1, 144 + 1, 77)
        assert "InstructionErrorCustom(7)" in str(error)


@needs_clang
def test_the_same_objects_make_the_same_bytes(tmp_path: Path) -> None:
    source = "u64 entrypoint(const u8 *input) { return *input; }"
    first, second = (tmp_path / name for name in ("a", "b"))
    first.mkdir()
    second.mkdir()
    assert link([compiled(source, first)]) == link([compiled(source, second)])


@needs_clang
def test_addresses_are_file_offsets(tmp_path: Path) -> None:
    source = """
    static const u64 table[2] = {1, 2};
    u64 entrypoint(const u8 *input) {
        sol_log_("x", 1);
        return table[*(const u64 *)input & 1];
    }"""
    program = link([compiled(source, tmp_path)])
    found = sections(program)
    for name, (address, offset, size) in found.items():
        assert address in (offset, 0), name
        assert offset + size <= len(program), name
        assert offset % 8 == 0, name
    (entry,) = struct.unpack_from("<Q", program, 24)
    address, _, size = found[".text"]
    assert address <= entry < address + size
    assert program[16:20] == struct.pack("<HH", 3, 247)


def sections(program: bytes) -> dict[str, tuple[int, int, int]]:
    """Address, offset and size of each section of a program, by its name."""
    (at,) = struct.unpack_from("<Q", program, 40)
    size, count, names = struct.unpack_from("<HHH", program, 58)
    headers = [struct.unpack_from("<IIQQQQ", program, at + size * each) for each in range(count)]
    strings = program[headers[names][4] :]
    return {
        strings[each[0] : strings.index(0, each[0])].decode(): (each[3], each[4], each[5])
        for each in headers[1:]
    }


@needs_clang
@pytest.mark.parametrize(
    ("source", "field", "value"),
    [
        ("u64 count = 3; u64 entrypoint(void) { return ++count; }", "section", ".data"),
        ("u64 count; u64 entrypoint(void) { return ++count; }", "section", ".bss"),
        (
            "extern u64 nowhere(void); u64 entrypoint(void) { return nowhere(); }",
            "symbol",
            "nowhere",
        ),
        (
            "extern u64 sol_lgo_(void); u64 entrypoint(void) { return sol_lgo_(); }",
            "symbol",
            "sol_lgo_",
        ),
        (
            "extern const u64 nowhere[2]; u64 entrypoint(const u8 *n) { return nowhere[*n]; }",
            "symbol",
            "nowhere",
        ),
        ("u64 other(void) { return 0; }", "symbol", "entrypoint"),
    ],
)
def test_what_the_vm_cannot_run_is_refused_by_name(
    tmp_path: Path, source: str, field: str, value: str
) -> None:
    with pytest.raises(ProgramBuildError) as caught:
        link([compiled(source, tmp_path)])
    assert getattr(caught.value, field) == value


@needs_clang
def test_two_definitions_are_refused(tmp_path: Path) -> None:
    first = compiled("u64 entrypoint(void) { return 0; }", tmp_path, "first")
    second = compiled("u64 entrypoint(void) { return 1; }", tmp_path, "second")
    with pytest.raises(ProgramBuildError) as caught:
        link([first, second])
    assert (caught.value.symbol, caught.value.path) == ("entrypoint", "second.c")


@pytest.mark.parametrize("data", [b"", b"\x7fELF", bytes(64), b"\x7fELF" + bytes(60)])
def test_what_is_no_object_is_refused(data: bytes) -> None:
    with pytest.raises(ProgramBuildError) as caught:
        link([("some.o", data)])
    assert caught.value.path == "some.o"


@needs_clang
def test_a_damaged_object_never_fails_otherwise(tmp_path: Path) -> None:
    source = """
    static const char *const words[2] = {"one", "two"};
    u64 entrypoint(const u8 *input) { sol_log_(words[*input & 1], 3); return 0; }"""
    name, good = compiled(source, tmp_path)
    rng = random.Random(0)
    refused = 0
    for _ in range(3_000):
        data = bytearray(good)
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        if rng.random() < 0.2:
            del data[rng.randrange(len(data)) :]
        try:
            link([(name, bytes(data))])
        except ProgramBuildError:
            refused += 1
    assert refused > 500


@needs_clang
def test_a_source_that_does_not_compile_is_named(tmp_path: Path) -> None:
    source = tmp_path / "wrong.c"
    source.write_text("int entrypoint(", encoding="utf-8")
    with pytest.raises(ProgramBuildError) as caught:
        build([source])
    assert caught.value.path == str(source)


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProgramBuildError) as caught:
        build([tmp_path / "absent.c"])
    assert caught.value.path == str(tmp_path / "absent.c")


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VELOX_CLANG", "clang-that-is-missing")
    with pytest.raises(ProgramBuildError) as caught:
        build()
    assert caught.value.path == "clang-that-is-missing"
