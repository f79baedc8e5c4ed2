"""Who does not go to the chain pays nothing for it; who lacks its libraries is told which."""

import subprocess
import sys


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


def test_what_is_missing_is_named_with_the_command_that_installs_it() -> None:
    result = python("import sys; sys.modules['solders'] = None\nimport velox.solana")
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == (
        "ImportError: velox.solana needs solders: run pip install -e '.[solana]'"
    )
