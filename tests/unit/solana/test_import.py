"""The package velox.solana: its exports, and the modules that it loads."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from velox import solana


def python(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )


def test_velox_alone_loads_none_of_it() -> None:
    result = python(
        "import sys, velox\n"
        "print([name for name in ('velox.solana', 'solders', 'httpcore') if name in sys.modules])"
    )
    assert (result.stdout, result.stderr) == ("[]\n", "")


def test_the_import_loads_nothing_until_a_name_is_used() -> None:
    result = python(
        "import json, sys, velox.solana\n"
        "def loaded(): return sorted(n for n in sys.modules if n.startswith('velox.solana.')"
        " or n.partition('.')[0] in ('solders', 'httpcore', 'websockets'))\n"
        "first = loaded()\n"
        "velox.solana.ChainLedger\n"
        "print(json.dumps([first, loaded()]))"
    )
    first, then = json.loads(result.stdout)
    assert first == []
    assert "velox.solana.orders.outcomes" in then
    assert "solders" not in then


@pytest.mark.parametrize("module", ["velox.solana", "velox.solana.config"])
def test_what_is_missing_is_named_with_the_command_that_installs_it(module: str) -> None:
    result = python(f"import sys; sys.modules['solders'] = None\nimport {module}")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == (
        "ImportError: velox.solana needs solders: run pip install -e '.[solana]'"
    )


@pytest.mark.parametrize("name", solana.__all__)
def test_every_name_is_there_and_is_that_of_its_module(name: str) -> None:
    value = getattr(solana, name)
    assert name in dir(solana)
    module = getattr(value, "__module__", None)
    if isinstance(value, type) and module is not None:
        assert module.startswith("velox.")


def test_a_name_that_it_does_not_have_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Submiter'"):
        solana.Submiter  # noqa: B018


def test_type_checkers_see_the_names_that_a_program_sees() -> None:
    tree = ast.parse(Path(solana.__file__).read_text(encoding="utf-8"))
    (block,) = [each for each in tree.body if isinstance(each, ast.If) and not each.orelse][1:]
    typed = {
        alias.name: each.module
        for each in block.body
        if isinstance(each, ast.ImportFrom)
        for alias in each.names
    }
    assert typed == solana._HOME_OF
    assert sorted(solana.__all__) == sorted(typed)


def test_the_example_imports_from_three_modules_at_most() -> None:
    example = Path(__file__).parents[3] / "examples" / "submit_localnet.py"
    modules = set()
    for each in ast.walk(ast.parse(example.read_text(encoding="utf-8"))):
        if isinstance(each, ast.Import):
            modules |= {alias.name for alias in each.names}
        elif isinstance(each, ast.ImportFrom) and each.module is not None:
            modules.add(each.module)
    assert len([name for name in modules if name.partition(".")[0] == "velox"]) <= 3


@pytest.mark.parametrize("room", ["tx", "net", "orders", "journal", "submit"])
def test_only_the_configuration_and_its_assembly_know_a_venue(room: str) -> None:
    for path in (Path(solana.__file__).parent / room).rglob("*.py"):
        for each in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(each, ast.ImportFrom) and each.module is not None:
                assert not each.module.startswith("velox.solana.venues"), path
