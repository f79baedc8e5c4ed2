"""The Python code in the documentation runs as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# One needs recordings, the other the arguments of its command.
OTHERS = {"feeds.md", "performance-log.md"}
# Each page is one program: what a block defines, the next one may use.
PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))
    if path.name not in OTHERS and BLOCK.search(path.read_text(encoding="utf-8"))
)


@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_a_page_runs(page: str, tmp_path: Path) -> None:
    code = "\n".join(BLOCK.findall((ROOT / page).read_text(encoding="utf-8")))
    if "numba" in code and find_spec("numba") is None:
        pytest.skip("needs numba")
    if "velox.solana" in code:
        pytest.importorskip("solders")
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
