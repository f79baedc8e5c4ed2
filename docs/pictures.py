"""Draws the pictures of the documentation: ``python docs/pictures.py`` writes ``pictures/*.svg``.

A picture is narrow, so that its text can be read on a telephone. Its colours are those of the page
that it stands in; by itself, as GitHub shows it, it follows the reader's light or dark setting.
The latencies are read from the table in ``performance/results.md``.
"""

from __future__ import annotations

import math
import re
from html import escape
from pathlib import Path

__all__ = ["PICTURES", "draw"]

HERE = Path(__file__).resolve().parent
WIDTH = 480
STYLE = """
svg.velox { --vx-ink: #1f2328; --vx-soft: #59636e; --vx-line: #8c959f; --vx-fill: #f3f5f8;
  --vx-blue: #0969da; --vx-orange: #bc4c00; --vx-tint: #ddeeff; }
@media (prefers-color-scheme: dark) { svg.velox { --vx-ink: #e6edf3; --vx-soft: #9da7b1;
  --vx-line: #6e7681; --vx-fill: #1c2128; --vx-blue: #58a6ff; --vx-orange: #f0883e;
  --vx-tint: #12304f; } }
svg.velox text { font: 15px system-ui, sans-serif; fill: var(--vx-ink); }
svg.velox text.small { font-size: 13px; fill: var(--vx-soft); }
svg.velox text.code { font-family: ui-monospace, monospace; font-size: 13px; }
svg.velox .box { fill: var(--vx-fill); stroke: var(--vx-line); stroke-width: 1.3; }
svg.velox .ring { fill: var(--vx-tint); stroke: var(--vx-blue); stroke-width: 1.3; }
svg.velox .on { fill: var(--vx-blue); stroke: none; }
svg.velox .other { fill: var(--vx-orange); stroke: none; }
svg.velox .line { fill: none; stroke: var(--vx-line); stroke-width: 1.3; }
svg.velox .dash { stroke-dasharray: 5 4; }
svg.velox line.grid { stroke: var(--vx-line); stroke-opacity: 0.35; }
svg.velox .arrow { fill: var(--vx-line); }
"""


class Drawing:
    """The elements of one picture.

    Parameters
    ----------
    title : str
        What a reader who does not see the picture is told.
    height : int
        In the units of the picture, which is 480 wide.
    """

    def __init__(self, title: str, height: int) -> None:
        self.title = title
        self.height = height
        self.parts: list[str] = []

    def box(
        self, x: float, y: float, width: float, height: float, kind: str = "box", *, corner: int = 6
    ) -> None:
        """Draw a rectangle."""
        self.parts.append(
            f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
            f' rx="{corner}"/>'
        )

    def text(self, x: float, y: float, words: str, kind: str = "", anchor: str = "middle") -> None:
        """Write one line of text."""
        name = f' class="{kind}"' if kind else ""
        self.parts.append(
            f'<text{name} x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(words)}</text>'
        )

    def rule(self, x: float, top: float, bottom: float) -> None:
        """Draw a line of a grid, downwards."""
        self.parts.append(
            f'<line class="grid" x1="{x:g}" y1="{top:g}" x2="{x:g}" y2="{bottom:g}"/>'
        )

    def line(self, *points: tuple[float, float], arrow: bool = False) -> None:
        """Draw straight lines through the points, with a head at the last one if asked."""
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        self.parts.append(f'<polyline class="line" points="{path}"/>')
        if arrow:
            (x0, y0), (x1, y1) = points[-2:]
            angle = math.atan2(y1 - y0, x1 - x0)
            wings = [
                (x1 - 9 * math.cos(angle + turn), y1 - 9 * math.sin(angle + turn))
                for turn in (0.45, -0.45)
            ]
            head = " ".join(f"{x:.1f},{y:.1f}" for x, y in [(x1, y1), *wings])
            self.parts.append(f'<polygon class="arrow" points="{head}"/>')

    def dot(self, x: float, y: float, kind: str) -> None:
        """Draw a point."""
        self.parts.append(f'<circle class="{kind}" cx="{x:g}" cy="{y:g}" r="6"/>')

    def svg(self) -> str:
        """Give the whole file."""
        return (
            f'<svg class="velox" xmlns="http://www.w3.org/2000/svg" role="img"'
            f' viewBox="0 0 {WIDTH} {self.height}" width="{WIDTH}">\n'
            f"<title>{escape(self.title)}</title>\n<style>{STYLE}</style>\n"
            + "\n".join(self.parts)
            + "\n</svg>\n"
        )


def pipeline() -> str:
    """Draw the stages and the rings between them."""
    picture = Drawing(
        "The pipeline: ingress, order book and strategy, bundle stage, output, and their rings",
        560,
    )
    stages = [
        ("Ingress", "generated, replayed or pushed records"),
        ("Order book + strategy", "applies each record, calls your function"),
        ("Bundle stage", "seals at 16 records or after 100 µs"),
        ("Output", "Python, a .npy capture, or the chain"),
    ]
    rings = [
        ("TransactionRing", "4096 records of 32 bytes"),
        ("TransactionRing", "4096 records of 32 bytes"),
        ("BundleRing", "1024 bundles of 528 bytes"),
    ]
    picture.text(240, 20, "feed", "small")
    picture.line((240, 26), (240, 44), arrow=True)
    y = 44
    for index, (name, what) in enumerate(stages):
        picture.box(60, y, 360, 56)
        picture.text(240, y + 24, name)
        picture.text(240, y + 44, what, "small")
        y += 56
        if index < len(rings):
            picture.line((240, y), (240, y + 18), arrow=True)
            picture.box(110, y + 18, 260, 48, "ring", corner=24)
            picture.text(240, y + 38, rings[index][0], "code")
            picture.text(240, y + 56, rings[index][1], "small")
            picture.line((240, y + 66), (240, y + 84), arrow=True)
            y += 84
    picture.line((240, y), (240, y + 18), arrow=True)
    picture.text(240, y + 34, "one, two or four pinned threads run the stages", "small")
    return picture.svg()


def ring() -> str:
    """Draw one ring: indices on lines of their own, and the slots."""
    picture = Drawing(
        "A ring: the producer writes at head, the consumer reads at tail, each on its own lines",
        330,
    )
    for x, name, fields in (
        (20, "producer's line", ("head", "closed", "cached_tail", "full")),
        (250, "consumer's line", ("tail", "cached_head")),
    ):
        picture.box(x, 30, 210, 96)
        picture.text(x + 105, 20, name, "small")
        for at, each in enumerate(fields):
            picture.text(x + 15, 52 + 20 * at, each, "code", "start")
    picture.text(355, 110, "128 bytes each", "small")
    slots, filled, first = 12, range(3, 9), 24
    for at in range(slots):
        picture.box(first + 36 * at, 200, 36, 44, "ring" if at in filled else "box", corner=0)
    tail, head = first + 36 * 3, first + 36 * 9
    picture.line((tail, 166), (tail, 198), arrow=True)
    picture.text(tail, 158, "tail", "code")
    picture.line((head, 166), (head, 198), arrow=True)
    picture.text(head, 158, "head", "code")
    picture.line((tail + 6, 190), (tail + 54, 190), arrow=True)
    picture.text(tail + 62, 188, "consumer", "small", "start")
    picture.line((head + 6, 190), (head + 54, 190), arrow=True)
    picture.text(head + 62, 188, "producer", "small", "start")
    picture.text((tail + head) / 2, 268, "published: head - tail records", "small")
    picture.text(240, 296, "claim, write in place, publish: one release store a batch", "small")
    picture.text(240, 318, "head and tail only count up; a slot is index & (capacity - 1)", "small")
    return picture.svg()


def book() -> str:
    """Draw the levels of one side: bitmap, window and cold store."""
    picture = Drawing(
        "One side of a book: a bitmap over a window of levels, and a cold store for worse prices",
        330,
    )
    left, cell, cells = 24, 22, 16
    filled = {4, 5, 7, 8, 9, 12, 15}
    picture.text(left, 20, "bitmap, three tiers: finds the next occupied level", "small", "start")
    for tier, width in ((0, 4 * cell), (1, 2 * cell), (2, cell)):
        y = 30 + 24 * tier
        span = int(width / cell)
        for at in range(cells // span):
            on = any(level in filled for level in range(at * span, (at + 1) * span))
            picture.box(left + width * at, y, width, 20, "on" if on else "box", corner=2)
    picture.text(left, 126, "window: quantities of consecutive prices", "small", "start")
    for at in range(cells):
        picture.box(left + cell * at, 136, cell, 44, "ring" if at in filled else "box", corner=0)
    picture.line((left + 4.5 * cell, 214), (left + 4.5 * cell, 184), arrow=True)
    picture.text(left + 4.5 * cell, 230, "best", "code")
    picture.line((left, 196), (left + 4 * cell, 196))
    picture.text(left + 2 * cell, 212, "room", "small")
    picture.line((left + 5 * cell, 196), (left + 16 * cell, 196))
    picture.text(left + 10.5 * cell, 212, "depth: three quarters", "small")
    picture.box(396, 136, 64, 44, "box dash", corner=6)
    picture.text(428, 126, "cold store", "small")
    picture.text(428, 163, "index", "small")
    picture.text(left, 266, "better prices", "small", "start")
    picture.line((left + 100, 261), (356, 261), arrow=True)
    picture.text(460, 266, "worse prices", "small", "end")
    picture.text(240, 296, "The window follows the best price; what it leaves goes to the", "small")
    picture.text(240, 314, "cold store. Both are exact.", "small")
    return picture.svg()


def order_to_chain() -> str:
    """Draw what happens to an order between the pipeline and its outcome."""
    picture = Drawing(
        "The way of an order: queued, built and signed, journalled, in flight, and its outcome",
        590,
    )
    steps = [
        ("queued", "OrderQueue nets orders; over its capacity it sheds"),
        ("built and signed", "one Solana transaction for several orders"),
        ("journalled", "on disk and synced before anything is sent"),
        ("in flight", "sent to a node or a block engine, and looked up"),
    ]
    y = 10
    for index, (name, what) in enumerate(steps):
        picture.box(40, y, 400, 56, "ring" if index == len(steps) - 1 else "box")
        picture.text(240, y + 24, name)
        picture.text(240, y + 44, what, "small")
        if index < len(steps) - 1:
            picture.line((240, y + 56), (240, y + 84), arrow=True)
        y += 84
    bottom = y - 28
    picture.line((440, bottom - 36), (466, bottom - 36), (466, bottom - 14), (442, bottom - 14))
    picture.line((466, bottom - 14), (442, bottom - 14), arrow=True)
    picture.text(472, bottom + 16, "the same bytes again", "small", "end")
    picture.line((110, bottom), (110, bottom + 50), arrow=True)
    picture.line((240, bottom), (240, bottom + 50), arrow=True)
    picture.line((342, bottom), (342, bottom + 50), arrow=True)
    top = bottom + 50
    for x, name, what in (
        (30, "LANDED", "executed"),
        (180, "FAILED", "with a reason"),
        (330, "EXPIRED", "blockhash too old"),
    ):
        picture.box(x, top, 130 if x < 330 else 134, 56)
        picture.text(x + 65, top + 24, name, "code")
        picture.text(x + 65, top + 44, what, "small")
    picture.text(240, top + 84, "Only the chain ends a Solana transaction.", "small")
    picture.text(240, top + 104, "An expired one may be signed anew, if configured so.", "small")
    picture.text(240, top + 132, "Before it is signed, an order can end as CONFLATED or", "small")
    picture.text(240, top + 150, "SHED. If no node can tell any more, it is UNKNOWN.", "small")
    return picture.svg()


def placements() -> dict[str, dict[str, float]]:
    """Read the latencies by placement, in ns, from the results."""
    page = (HERE / "performance" / "results.md").read_text(encoding="utf-8")
    table = page[page.index("| placement | late p50 ") :].split("\n\n")[0].splitlines()
    names = [cell.strip() for cell in table[0].strip("|").split("|")]
    units = {"ns": 1.0, "µs": 1e3, "ms": 1e6}
    found = {}
    for row in table[2:]:
        cells = [cell.strip().strip("`") for cell in row.strip("|").split("|")]
        values = {}
        for name, cell in zip(names[1:], cells[1:], strict=True):
            match = re.fullmatch(r"([\d.]+) (ns|µs|ms)", cell)
            if match is not None:
                values[name] = float(match[1]) * units[match[2]]
        found[cells[0]] = values
    return found


def latency() -> str:
    """Draw late and transit, p50 and p99, for each placement."""
    rows = placements()
    picture = Drawing(
        "Late and transit at 100 000 records a second by placement: "
        + "; ".join(
            f"{name} transit p50 {values['transit p50']:.0f} ns, p99 {values['transit p99']:.0f} ns"
            for name, values in rows.items()
        ),
        110 + 92 * len(rows),
    )
    left, right, low, high = 96.0, 460.0, 100.0, 5000.0

    def place(ns: float) -> float:
        return left + (right - left) * math.log(ns / low) / math.log(high / low)

    bottom = 40 + 92 * len(rows)
    for ns, label in ((100, "100 ns"), (200, ""), (500, "500 ns"), (1000, "1 µs"), (2000, "2 µs")):
        picture.rule(place(ns), 40, bottom)
        picture.text(place(ns), bottom + 20, label, "small")
    picture.rule(place(5000), 40, bottom)
    picture.text(right, bottom + 20, "5 µs", "small", "end")
    picture.dot(104, 16, "other")
    picture.text(118, 21, "late: the host", "small", "start")
    picture.dot(254, 16, "on")
    picture.text(268, 21, "transit: with the pipeline", "small", "start")
    for index, (name, values) in enumerate(rows.items()):
        y = 66 + 92 * index
        picture.text(8, y + 22, name, "code", "start")
        for kind, mark, offset in (("late", "other", 0), ("transit", "on", 36)):
            p50, p99 = values[f"{kind} p50"], values[f"{kind} p99"]
            picture.line((place(p50), y + offset), (place(p99), y + offset))
            for share, ns in (("p50", p50), ("p99", p99)):
                picture.dot(place(ns), y + offset, mark)
                value = f"{ns:.0f} ns" if ns < 1000 else f"{ns / 1000:.2f} µs"
                picture.text(
                    min(max(place(ns), left + 40), right - 42),
                    y + offset + 21,
                    f"{share} {value}",
                    "small",
                )
    picture.text(240, bottom + 46, "100 000 records/s, 16 virtual CPUs, logarithmic scale", "small")
    return picture.svg()


PICTURES = {
    "pipeline": pipeline,
    "ring": ring,
    "book": book,
    "order-to-chain": order_to_chain,
    "latency": latency,
}


def draw() -> dict[str, str]:
    """Draw every picture.

    Returns
    -------
    dict of str to str
        The SVG by the name of its file, without the suffix.
    """
    return {name: function() for name, function in PICTURES.items()}


if __name__ == "__main__":
    for name, text in draw().items():
        (HERE / "pictures" / f"{name}.svg").write_text(text, encoding="utf-8")
