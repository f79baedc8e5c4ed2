"""The documents: their code runs, their sentences are short, their links lead somewhere."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    path
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md"))
    if "_build" not in path.parts
)
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# One needs recordings, the other the arguments of its command.
OTHERS = {DOCS / "reference/feeds.md", DOCS / "performance/optimisation-log.md"}
LONGEST = 35


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


# Code


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page not in OTHERS and BLOCK.search(text_of(page))],
    ids=name_of,
)
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    # Each page is one program: what a block defines, the next one may use.
    code = "\n".join(BLOCK.findall(text_of(page)))
    if ("numba" in code or "strategy.compile" in code) and find_spec("numba") is None:
        pytest.skip("needs numba")
    if "velox.solana" in code or "velox.testing" in code:
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


@pytest.mark.parametrize("page", [page for page in PAGES if "\n>>> " in text_of(page)], ids=name_of)
def test_the_examples_of_a_page_give_what_it_says(page: Path) -> None:
    results = doctest.testfile(str(page), module_relative=False)
    assert results.attempted > 0
    assert results.failed == 0


# Sentences


def prose(text: str) -> Iterator[tuple[int, str]]:
    """Yield the paragraphs and list items of a page, each with the number of its first line."""
    fenced = False
    first, lines = 0, []
    for number, line in enumerate([*text.splitlines(), ""], 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        item = re.match(r"\s*([-*]|\d+\.)\s+", line)
        ends = fenced or not line.strip() or line.lstrip().startswith(("```", "|", "#", "<!--"))
        if (ends or item) and lines:
            yield first, " ".join(lines)
            lines = []
        if not ends:
            if not lines:
                first = number
            lines.append(line[item.end() :] if item else line.strip(" >"))


def sentences(paragraph: str) -> Iterator[str]:
    """Yield the sentences of a paragraph; code counts as one word, a link as its text."""
    plain = re.sub(r"`[^`]+`", "code", paragraph)
    plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", plain).replace("**", "").replace("*", "")
    yield from re.split(r"(?<=[.!?])[)\"]?\s+(?=\S)", plain)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_sentence_of_a_page_is_too_long(page: Path) -> None:
    long = [
        f"{page.name}:{line}: {count} words: {sentence}"
        for line, paragraph in prose(text_of(page))
        for sentence in sentences(paragraph)
        if (count := len(re.findall(r"\w\S*", sentence))) > LONGEST
    ]
    assert long == []


def test_a_long_sentence_is_found_wherever_it_stands() -> None:
    long = " ".join(["word"] * (LONGEST + 1)) + "."
    text = f"# Title\n\nShort. {long}\n\n- item one\n- {long}\n\n```\n{long}\n```\n\n| {long} |\n"
    found = [
        (line, len(sentence.split()))
        for line, paragraph in prose(text)
        for sentence in sentences(paragraph)
        if len(sentence.split()) > LONGEST
    ]
    assert found == [(3, LONGEST + 1), (6, LONGEST + 1)]


# Links


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S))


def anchors(page: Path) -> set[str]:
    """Give the anchors of a page's headings, as GitHub and MyST make them."""
    found: set[str] = set()
    text = re.sub(r"^```.*?^```$", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    for heading in re.findall(r"^#+\s+(.*)$", text, re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        count = 0
        while (anchor := f"{slug}-{count}" if count else slug) in found:
            count += 1
        found.add(anchor)
    return found


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(text_of(page))):
        path, _, anchor = target.partition("#")
        if re.match(r"\w+:", target):
            continue
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(target)
    assert broken == []


def test_the_pages_that_the_sources_name_exist() -> None:
    missing = []
    for folder in ("velox", "tests", "benchmarks", "examples"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in {".py", ".pyx", ".pxd", ".pyi", ".in", ".c", ".h", ".md"}:
                for page in re.findall(r"\bdocs/[\w/-]+\.md", text_of(path)):
                    if not (ROOT / page).is_file():
                        missing.append(f"{name_of(path)}: {page}")
    assert missing == []


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=name_of)
def test_every_page_is_in_the_table_of_contents(page: Path) -> None:
    name = str(page.relative_to(DOCS).with_suffix(""))
    assert name == "index" or f"\n{name}\n" in text_of(DOCS / "index.md")


# The README


def test_the_readme_begins_with_the_two_commands() -> None:
    first, second = re.findall(r"^```sh\n(.*?)^```$", text_of(ROOT / "README.md"), re.M | re.S)[:2]
    assert first.count("\n") == second.count("\n") == 1
    assert first.endswith("python -m velox\n")
    assert second.endswith("python -m pytest -q -n auto --dist loadgroup\n")


def test_the_readme_fits_three_screens() -> None:
    assert len(text_of(ROOT / "README.md").splitlines()) <= 120


# Pictures


def test_the_pictures_are_those_that_their_program_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCS))
    from pictures import draw  # noqa: PLC0415

    drawn = draw()
    assert {path.stem for path in (DOCS / "pictures").glob("*.svg")} == set(drawn)
    for name, text in drawn.items():
        assert (DOCS / "pictures" / f"{name}.svg").read_text(encoding="utf-8") == text
