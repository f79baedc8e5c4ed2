"""The import gate finds forbidden imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

GATE = Path(__file__).resolve().parents[3] / ".ci" / "imports.py"

pytestmark = pytest.mark.skipif(not GATE.exists(), reason="an sdist has no gates")


def gate(root: Path) -> list[str]:
    """Return the faults that the gate finds in a tree."""
    done = subprocess.run(
        [sys.executable, str(GATE), str(root)], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    *faults, _ = done.stdout.splitlines()
    assert done.returncode == bool(faults)
    return faults


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        room, module, suffix = name.split("__")
        path = root / "velox" / room / f"{module}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("core__ring__pyx", "from velox.runtime.stage cimport Stage\n"),
        ("core__ring__pxd", "from velox.runtime.stage cimport (\n    Stage,\n)\n"),
        ("core__ring__pxd.in", "cimport velox.runtime.stage\n"),
        ("core__ring__pyi", "from velox.runtime.stage import Stage\n"),
        ("core__ring__py", "import velox.runtime.stage\n"),
        ("core__ring__py", "def later():\n    from velox.runtime import stage\n"),
        ("core__ring__py", "if TYPE_CHECKING:\n    from velox.runtime.stage import Stage\n"),
    ],
)
def test_an_import_of_a_higher_room_is_a_fault(tmp_path: Path, name: str, text: str) -> None:
    write(tmp_path, runtime__stage__pyx="", **{name: text})
    assert gate(tmp_path) == ["upwards: velox.core.ring -> velox.runtime.stage"]


def test_imports_of_lower_rooms_are_in_order(tmp_path: Path) -> None:
    write(
        tmp_path,
        core__ring__pyx='"""\nfrom velox.cli import main\n"""\nfrom velox.core.clock cimport now\n',
        core__clock__pyx="",
        runtime__stage__pyx="from velox.core cimport ring\n",
    )
    assert gate(tmp_path) == []


def test_a_circle_within_a_room_is_a_fault(tmp_path: Path) -> None:
    write(
        tmp_path,
        core__ring__py="from velox.core import clock\n",
        core__clock__py="def now():\n    import velox.core.ring\n",
    )
    [fault] = gate(tmp_path)
    assert fault in (
        "circle: velox.core.ring -> velox.core.clock -> velox.core.ring",
        "circle: velox.core.clock -> velox.core.ring -> velox.core.clock",
    )


def test_a_circle_that_only_annotations_close_is_in_order(tmp_path: Path) -> None:
    write(
        tmp_path,
        core__ring__py="from velox.core import clock\n",
        core__clock__py="if TYPE_CHECKING:\n    import velox.core.ring\n",
    )
    assert gate(tmp_path) == []
