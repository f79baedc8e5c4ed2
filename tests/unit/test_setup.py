"""The platforms on which Velox can be built, and the message of ``setup.py`` on others."""

import importlib.util
import platform
import struct
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("setuptools")
SETUP = Path(__file__).parents[2] / "setup.py"


@pytest.fixture(scope="module")
def setup() -> ModuleType:
    spec = importlib.util.spec_from_file_location("velox_setup", SETUP)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("system", "machine"),
    [("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64")],
)
def test_a_supported_platform_is_not_refused(setup, monkeypatch, system, machine):
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert setup.refuse_unsupported_platforms() is None


@pytest.mark.parametrize("system", ["win32", "cygwin", "freebsd14", "ios", "emscripten"])
def test_another_system_is_refused_by_name(setup, monkeypatch, system):
    monkeypatch.setattr(sys, "platform", system)
    with pytest.raises(SystemExit, match=f"runs on Linux and macOS; this is '{system}'"):
        setup.refuse_unsupported_platforms()


@pytest.mark.parametrize("machine", ["i686", "armv7l", "ppc64le", "riscv64", "s390x", ""])
def test_another_processor_is_refused_by_name(setup, monkeypatch, machine):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    with pytest.raises(SystemExit, match=f"runs on x86-64 and aarch64; this is '{machine}'"):
        setup.refuse_unsupported_platforms()


def test_a_32_bit_python_on_a_64_bit_processor_is_refused(setup, monkeypatch):
    monkeypatch.setattr(struct, "calcsize", lambda _: 4)
    with pytest.raises(SystemExit, match="64-bit little-endian"):
        setup.refuse_unsupported_platforms()


def test_a_big_endian_python_is_refused(setup, monkeypatch):
    monkeypatch.setattr(sys, "byteorder", "big")
    with pytest.raises(SystemExit, match="64-bit little-endian"):
        setup.refuse_unsupported_platforms()


def test_flags_that_one_system_alone_knows_are_given_to_it_alone(setup):
    on_linux, on_macos = ({*setup.flags(system)[0]} for system in ("linux", "darwin"))
    assert on_linux - on_macos == {"-fno-semantic-interposition"}
    assert on_macos - on_linux == {"-Wno-unused-function"}
