"""The frame of a page: its head, its sections and its tables."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources

__all__ = ["figures_grid", "page", "section", "table"]


def page(title: str, lead: str, sections: Iterable[str]) -> str:
    """Return a whole page.

    Parameters
    ----------
    title : str
    lead : str
        One or two sentences below the title.
    sections : iterable of str
        Of `section`.

    Returns
    -------
    str
        An HTML document that loads nothing: its policy allows its own style and script, by their
        digests, and nothing else.
    """
    style = resources.files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    script = resources.files(__package__).joinpath("page.js").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<title>{escape(title)}</title><style>{style}</style></head>\n"
        f'<body><main><h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>\n'
        f"{chr(10).join(sections)}\n</main><script>{script}</script></body></html>\n"
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def section(heading: str, *parts: str, note: str = "") -> str:
    """Return a section: a heading, a sentence that says how to read it, and its parts."""
    said = f'<p class="note">{escape(note)}</p>' if note else ""
    return f"<section><h2>{escape(heading)}</h2>{said}{''.join(parts)}</section>"


def table(
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    caption: str = "",
    marked: Iterable[int] = (),
    words: bool = False,
) -> str:
    """Return a table. The first column names its row.

    Parameters
    ----------
    heads : sequence of str
    rows : iterable of sequence of str
    caption : str, optional
    marked : iterable of int, optional
        The numbers of the rows to point out.
    words : bool, optional
        Whether the cells are text, which may be broken into lines, and not figures.
    """
    pointed_out = set(marked)
    kind = "words" if words else "numbers"
    body = []
    for number, row in enumerate(rows):
        first, *others = row
        cells = "".join(f"<td>{escape(each)}</td>" for each in others)
        mark = ' class="marked"' if number in pointed_out else ""
        body.append(f'<tr{mark}><th scope="row">{escape(first)}</th>{cells}</tr>')
    said = f"<caption>{escape(caption)}</caption>" if caption else ""
    columns = "".join(f'<th scope="col">{escape(each)}</th>' for each in heads)
    return (
        f'<div class="wide"><table class="{kind}">{said}<thead><tr>{columns}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def figures_grid(figures: Iterable[tuple[str, str, str]]) -> str:
    """Return large figures side by side.

    Parameters
    ----------
    figures : iterable of (str, str, str)
        What it is, its value, and ``"good"``, ``"bad"`` or an empty text.
    """
    cells = "".join(
        f'<div class="figure {escape(mark)}"><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>'
        for name, value, mark in figures
    )
    return f'<dl class="figures">{cells}</dl>'
