"""Link objects of ``clang -target bpf`` into a program that a Solana VM loads.

clang makes relocatable ELF objects (``ET_REL``). The VM wants a shared object (``ET_DYN``) of SBF
version 0, and Debian has no linker for that. This module is the linker::

    file     0   ELF header, 64 bytes: machine 247, type DYN, entry = address of `entrypoint`
            64   program headers, 3 x 56 bytes: text and read-only data, symbols, .dynamic
           232   .text       code of all objects
             .   .rodata     read-only data of all objects (only where there is some)
             .   .dynsym     `entrypoint` and the system calls
             .   .dynstr     their names
             .   .rel.dyn    relocations for the VM's loader
             .   .dynamic    where the three above lie
             .   .shstrtab   names of sections
             .   section headers, 64 bytes each

Addresses equal file offsets; the loader adds 2**32 to them. Each kind of relocation in an object
becomes:

====================  ============================  ==============================================
in the object         refers to                     in the program
====================  ============================  ==============================================
R_BPF_64_32 (10)      an undefined symbol           ``call -1`` and a dynamic R_BPF_64_32: a
                                                    system call
R_BPF_64_32 (10)      a function                    the distance in instructions, less one
R_BPF_64_64 (1)       code or data, by ``lddw``     the address in the low half, and a RELATIVE (8)
R_BPF_64_ABS64 (2)    code or data, by a pointer    the address in the **upper** four bytes (as the
                      in read-only data             v0 loader expects), and a RELATIVE (8)
====================  ============================  ==============================================

The VM maps only ``.text``, ``.rodata``, ``.data.rel.ro`` and ``.eh_frame``, by exact name, and has
no writable globals. All read-only sections are therefore merged into one ``.rodata``, and an
object with ``.data`` or ``.bss`` is refused.

The output depends on the objects and their order alone. The functions are thread-safe.

Sources: the ELF-64 object file format; the BPF relocation types of LLVM's ``BPF.def``; the loader
``src/elf.rs`` of anza-xyz/sbpf.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from velox.errors import ProgramBuildError

__all__ = ["SYSTEM_CALLS", "link"]

SYSTEM_CALLS: Final = frozenset(
    {
        "abort",
        "sol_create_program_address",
        "sol_get_clock_sysvar",
        "sol_get_rent_sysvar",
        "sol_get_return_data",
        "sol_invoke_signed_c",
        "sol_log_",
        "sol_log_64_",
        "sol_log_compute_units_",
        "sol_log_data",
        "sol_log_pubkey",
        "sol_memcmp_",
        "sol_memcpy_",
        "sol_memmove_",
        "sol_memset_",
        "sol_panic_",
        "sol_remaining_compute_units",
        "sol_set_return_data",
        "sol_sha256",
        "sol_try_find_program_address",
    }
)
"""The system calls that a program may name; any other undefined symbol is an error."""

_FILE_HEADER = struct.Struct("<4sBBB9xHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QQ")

_ET_REL, _ET_DYN, _EM_BPF = 1, 3, 247
_PROGBITS, _SYMTAB, _STRTAB, _RELA, _DYNAMIC, _NOBITS, _REL, _DYNSYM = 1, 2, 3, 4, 6, 8, 9, 11
_WRITE, _ALLOC, _CODE = 1, 2, 4
_UNDEFINED, _LOW_RESERVED = 0, 0xFF00
_LOCAL, _GLOBAL, _FUNCTION = 0, 1, 2
_R_64_64, _R_ABS64, _R_RELATIVE, _R_CALL = 1, 2, 8, 10
_INSTRUCTION_BYTES = 8
_CALL, _LDDW = 0x85, 0x18
_ALIGNMENT = 8
_MAX_ALIGNMENT = 4096
_SEGMENTS = 3
_TEXT_AT = _FILE_HEADER.size + _SEGMENTS * _SEGMENT.size
_OUTSIDE = "refers to a place outside of the program"
# Code and read-only data must lie below this address.
_ADDRESS_LIMIT = 2**31


class _Section(NamedTuple):
    name: str
    kind: int
    flags: int
    size: int
    data: bytes
    link: int
    info: int
    align: int


class _Symbol(NamedTuple):
    name: str
    is_global: bool
    section: int
    value: int


@dataclass(slots=True)
class _Object:
    path: str
    sections: list[_Section]
    symbols: list[_Symbol]
    address: dict[int, int] = field(default_factory=dict)
    """The address of each section that is part of the program, by the section's number."""


def link(objects: Sequence[tuple[str, bytes]], *, entry: str = "entrypoint") -> bytes:
    """Link objects into a program.

    Parameters
    ----------
    objects : sequence of (str, bytes)
        Name and content of each object, in the order in which they are laid out.
    entry : str, default "entrypoint"
        The function at which the program begins.

    Returns
    -------
    bytes
        The ELF file.

    Raises
    ------
    ProgramBuildError
        An object is not one of clang's for BPF, or holds what the VM cannot run: writable
        globals, an unknown relocation, a symbol that nothing defines, one that two objects define.
    """
    parsed = [_parse(path, data) for path, data in objects]
    image = _Image()
    for wanted in (True, False):
        for each in parsed:
            for number, section in enumerate(each.sections):
                if _is_kept(each, section) and bool(section.flags & _CODE) == wanted:
                    each.address[number] = image.put(section.data, section.align)
        image.end_section(".text" if wanted else ".rodata")
    if image.here >= _ADDRESS_LIMIT:
        raise ProgramBuildError(f"{image.here} bytes of code and data", path="the program")
    defined = _definitions(parsed)
    if entry not in defined:
        raise ProgramBuildError("undefined entry point", path="the program", symbol=entry)
    image.symbol(entry, defined[entry])
    for each in parsed:
        for number in each.address:
            _relocate(each, number, defined, image)
    return image.finish(defined[entry])


def _is_kept(of: _Object, section: _Section) -> bool:
    if not section.flags & _ALLOC or not section.size:
        return False
    relocated = section.name.startswith(".data.rel.ro")
    if section.kind == _NOBITS or (section.flags & _WRITE and not relocated):
        raise ProgramBuildError(
            "a program has no writable globals", path=of.path, section=section.name
        )
    return True


def _parse(path: str, data: bytes) -> _Object:
    """Take one object apart."""
    try:
        (magic, bits, order, _, kind, machine, *_, section_at, _, _, _, _, size, count, names) = (
            _FILE_HEADER.unpack_from(data)
        )
        if (magic, bits, order, kind, machine, size) != (
            b"\x7fELF",
            2,
            1,
            _ET_REL,
            _EM_BPF,
            _SECTION.size,
        ):
            raise ProgramBuildError("not an object of clang -target bpf", path=path)
        raw = [_SECTION.unpack_from(data, section_at + size * number) for number in range(count)]

        def content(header: tuple[int, ...]) -> bytes:
            if header[1] == _NOBITS:
                return b""
            if header[4] + header[5] > len(data):
                raise ProgramBuildError(
                    f"a section at bytes {header[4]} to {header[4] + header[5]} of {len(data)}",
                    path=path,
                )
            return data[header[4] : header[4] + header[5]]

        strings = content(raw[names])
        sections = [
            _Section(
                _text(strings, each[0]),
                each[1],
                each[2],
                each[5],
                content(each),
                each[6],
                each[7],
                each[8],
            )
            for each in raw
        ]
        for section in sections:
            if section.align > _MAX_ALIGNMENT or section.align & (section.align - 1):
                raise ProgramBuildError(
                    f"alignment of {section.align} bytes", path=path, section=section.name
                )
        symbols = []
        for section in sections:
            if section.kind == _SYMTAB:
                text = sections[section.link].data
                for name, info, _, where, value, _ in _SYMBOL.iter_unpack(section.data):
                    symbols.append(_Symbol(_text(text, name), info >> 4 != _LOCAL, where, value))
    except (struct.error, IndexError, ValueError, OverflowError) as error:
        raise ProgramBuildError(f"damaged ELF file: {error}", path=path) from None
    return _Object(path, sections, symbols)


def _text(strings: bytes, at: int) -> str:
    return strings[at : strings.index(0, at)].decode()


def _definitions(objects: Sequence[_Object]) -> dict[str, int]:
    """Return the address of each global symbol."""
    defined: dict[str, int] = {}
    for each in objects:
        for symbol in each.symbols:
            if not symbol.is_global or symbol.section == _UNDEFINED:
                continue
            if symbol.name in defined:
                raise ProgramBuildError("defined twice", path=each.path, symbol=symbol.name)
            defined[symbol.name] = _address(each, symbol)
    return defined


def _address(of: _Object, symbol: _Symbol) -> int:
    if symbol.section not in of.address:
        known = symbol.section < min(_LOW_RESERVED, len(of.sections))
        where = (
            f"section {of.sections[symbol.section].name}, which is not loaded"
            if known
            else f"section number {symbol.section:#x}, which is none of the object's"
        )
        raise ProgramBuildError(f"lies in {where}", path=of.path, symbol=symbol.name)
    if symbol.value > of.sections[symbol.section].size:
        raise ProgramBuildError(
            f"lies at byte {symbol.value} of a section of {of.sections[symbol.section].size}",
            path=of.path,
            symbol=symbol.name,
        )
    return of.address[symbol.section] + symbol.value


def _relocations(of: _Object, number: int) -> Iterator[tuple[int, int, _Symbol]]:
    """Yield place, kind and symbol of each relocation of a section."""
    section = of.sections[number]
    for table in of.sections:
        if table.info != number or table.kind not in (_REL, _RELA):
            continue
        if table.kind == _RELA or len(table.data) % _RELOCATION.size:
            raise ProgramBuildError(
                "relocations of another format", path=of.path, section=table.name
            )
        for offset, info in _RELOCATION.iter_unpack(table.data):
            which = info >> 32
            if which >= len(of.symbols) or offset + 8 > section.size:
                raise ProgramBuildError(
                    "a relocation beyond its section or symbols",
                    path=of.path,
                    section=section.name,
                    offset=offset,
                )
            yield offset, info & 0xFFFFFFFF, of.symbols[which]


def _relocate(of: _Object, number: int, defined: dict[str, int], image: _Image) -> None:
    """Apply the relocations of one section."""
    section = of.sections[number]
    for offset, kind, symbol in _relocations(of, number):
        is_ours = symbol.section != _UNDEFINED
        target = _address(of, symbol) if is_ours else defined.get(symbol.name)
        here, opcode = of.address[number] + offset, section.data[offset]
        why = None
        if target is None and not (kind == _R_CALL and symbol.name in SYSTEM_CALLS):
            why = "neither a function of the program nor a system call"
        elif kind == _R_CALL and opcode == _CALL:
            why = image.call(here, symbol.name, target)
        elif kind == _R_64_64 and opcode == _LDDW and offset + 16 <= section.size:
            assert target is not None
            why = image.load(here, target)
        elif kind == _R_ABS64 and not section.flags & _CODE:
            assert target is not None
            why = image.pointer(here, target)
        else:
            why = f"unknown relocation {kind} at opcode {opcode:#x}"
        if why is not None:
            raise ProgramBuildError(
                why, path=of.path, section=section.name, offset=offset, symbol=symbol.name
            )


class _Image:
    """The program as it is put together."""

    def __init__(self) -> None:
        self._bytes = bytearray(_TEXT_AT)
        self._begin = _TEXT_AT
        self._where: dict[str, tuple[int, int]] = {}
        self._relocations: list[tuple[int, int]] = []
        self._symbols = bytearray(_SYMBOL.size)
        self._symbol_names = bytearray(b"\0")
        self._symbol_number: dict[str, int] = {}

    @property
    def here(self) -> int:
        return len(self._bytes)

    def put(self, data: bytes, align: int = _ALIGNMENT) -> int:
        """Append bytes, and return their address."""
        self._bytes += bytes(-len(self._bytes) % max(align, 1))
        at = len(self._bytes)
        self._bytes += data
        return at

    def end_section(self, name: str) -> None:
        """Make a section from the bytes that were appended since the last call."""
        self._bytes += bytes(-len(self._bytes) % _ALIGNMENT)
        if len(self._bytes) > self._begin:
            self._where[name] = (self._begin, len(self._bytes) - self._begin)
        self._begin = len(self._bytes)

    def symbol(self, name: str, value: int | None = None) -> int:
        """Return a symbol's number; one without a value is a system call."""
        if name not in self._symbol_number:
            self._symbol_number[name] = len(self._symbols) // _SYMBOL.size
            function = _GLOBAL << 4 | _FUNCTION
            self._symbols += _SYMBOL.pack(
                len(self._symbol_names),
                _GLOBAL << 4 if value is None else function,
                0,
                _UNDEFINED if value is None else 1,
                value or 0,
                0,
            )
            self._symbol_names += name.encode() + b"\0"
        return self._symbol_number[name]

    def call(self, here: int, name: str, target: int | None) -> str | None:
        """Point a call to a function or a system call. Returns why that is not possible."""
        if target is None:
            self._bytes[here + 1] = 0x10
            struct.pack_into("<i", self._bytes, here + 4, -1)
            self._relocations.append((here, self.symbol(name) << 32 | _R_CALL))
            return None
        # A call of a static function carries its place in the section, in instructions less one.
        (addend,) = struct.unpack_from("<i", self._bytes, here + 4)
        target += (addend + 1) * _INSTRUCTION_BYTES
        distance, odd = divmod(target - here, _INSTRUCTION_BYTES)
        if odd or not self._is_within(target):
            return _OUTSIDE
        struct.pack_into("<i", self._bytes, here + 4, distance - 1)
        return None

    def load(self, here: int, target: int) -> str | None:
        """Make ``lddw`` load an address. Returns why that is not possible."""
        (addend,) = struct.unpack_from("<I", self._bytes, here + 4)
        if not self._is_within(target + addend):
            return _OUTSIDE
        struct.pack_into("<I", self._bytes, here + 4, target + addend)
        struct.pack_into("<I", self._bytes, here + 12, 0)
        self._relocations.append((here, _R_RELATIVE))
        return None

    def pointer(self, here: int, target: int) -> str | None:
        """Write a pointer. Returns why that is not possible."""
        (addend,) = struct.unpack_from("<Q", self._bytes, here)
        if not self._is_within(target + addend):
            return _OUTSIDE
        struct.pack_into("<II", self._bytes, here, 0, target + addend)
        self._relocations.append((here, _R_RELATIVE))
        return None

    def _is_within(self, address: int) -> bool:
        return _TEXT_AT <= address <= len(self._bytes)

    def finish(self, entry: int) -> bytes:
        """Append the sections that the loader reads, and return the file."""
        loaded = self.here
        relocations = b"".join(_RELOCATION.pack(*each) for each in self._relocations)
        for name, data in (
            (".dynsym", bytes(self._symbols)),
            (".dynstr", bytes(self._symbol_names)),
            (".rel.dyn", relocations),
        ):
            self.put(data)
            self._where[name] = (self._begin, len(data))
            self.end_section(name)
        tags = [
            (17, self._where[".rel.dyn"][0] if relocations else 0),  # DT_REL
            (18, len(relocations)),  # DT_RELSZ
            (19, _RELOCATION.size),  # DT_RELENT
            (6, self._where[".dynsym"][0]),  # DT_SYMTAB
            (11, _SYMBOL.size),  # DT_SYMENT
            (5, self._where[".dynstr"][0]),  # DT_STRTAB
            (10, len(self._symbol_names)),  # DT_STRSZ
            (0, 0),  # DT_NULL
        ]
        if not relocations:
            del tags[:3]
        self.put(b"".join(struct.pack("<QQ", *each) for each in tags))
        self.end_section(".dynamic")
        names = [*self._where, ".shstrtab"]
        strings = b"\0" + b"".join(name.encode() + b"\0" for name in names)
        self.put(strings)
        self.end_section(".shstrtab")
        number = {name: at for at, name in enumerate(names, 1)}
        described: dict[str, tuple[int, int, int, int, int]] = {
            # type, flags, link, info, size of an entry
            ".text": (_PROGBITS, _ALLOC | _CODE, 0, 0, 0),
            ".rodata": (_PROGBITS, _ALLOC, 0, 0, 0),
            ".dynsym": (_DYNSYM, _ALLOC, number[".dynstr"], 1, _SYMBOL.size),
            ".dynstr": (_STRTAB, _ALLOC, 0, 0, 0),
            ".rel.dyn": (_REL, _ALLOC, number[".dynsym"], 0, _RELOCATION.size),
            ".dynamic": (_DYNAMIC, _ALLOC | _WRITE, number[".dynstr"], 0, 16),
            ".shstrtab": (_STRTAB, 0, 0, 0, 0),
        }
        headers = bytes(_SECTION.size)
        for name in names:
            kind, flags, linked, info, size = described[name]
            at, length = self._where[name]
            address = at if flags else 0
            headers += _SECTION.pack(
                strings.index(b"\0" + name.encode() + b"\0") + 1,
                kind,
                flags,
                address,
                at,
                length,
                linked,
                info,
                _ALIGNMENT,
                size,
            )
        headers_at = self.put(headers)
        symbols_at = self._where[".dynsym"][0]
        dynamic_at, dynamic_bytes = self._where[".dynamic"]
        head = _FILE_HEADER.pack(
            b"\x7fELF",
            2,
            1,
            1,
            _ET_DYN,
            _EM_BPF,
            1,
            entry,
            _FILE_HEADER.size,
            headers_at,
            0,
            _FILE_HEADER.size,
            _SEGMENT.size,
            _SEGMENTS,
            _SECTION.size,
            len(names) + 1,
            len(names),
        )
        for kind, flags, at, length in (
            (1, 5, _TEXT_AT, loaded - _TEXT_AT),
            (1, 4, symbols_at, headers_at - symbols_at),
            (2, 6, dynamic_at, dynamic_bytes),
        ):
            head += _SEGMENT.pack(kind, flags, at, at, at, length, length, _ALIGNMENT)
        self._bytes[:_TEXT_AT] = head
        return bytes(self._bytes)
