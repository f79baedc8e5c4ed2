"""Line charts as SVG, drawn without a library.

A chart keeps at most `MOST_POINTS` points of a curve: for each column of pixels, the least and the
greatest value. So its size does not grow with the length of a run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from velox.telemetry.page.scale import Axis

__all__ = ["Curve", "chart"]

WIDTH, HEIGHT = 860, 320
LEFT, RIGHT, TOP, BOTTOM = 74, 36, 12, 46
MOST_POINTS = 200


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a chart.

    Attributes
    ----------
    name : str
    points : sequence of (float, float)
        Values of the two axes, in ascending order of the first.
    color : int
        The number of its colour, from 0; -1 is grey and dashed, for what is beside the point.
    steps : bool
        Whether a value holds until the next point, as in a distribution.
    """

    name: str
    points: Sequence[tuple[float, float]]
    color: int = 0
    steps: bool = False


def chart(title: str, curves: Sequence[Curve], x: Axis, y: Axis) -> str:
    """Draw curves over common axes.

    Parameters
    ----------
    title : str
        What the chart shows. It is the caption, and the name that a screen reader gives.
    curves : sequence of Curve
    x, y : Axis

    Returns
    -------
    str
        A ``figure`` element: legend and SVG. Each curve carries its values for the page's script.
    """
    drawn = [_thinned(curve, x) for curve in curves if curve.points]
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>'
        f"{_legend(drawn)}"
        f'<div class="plot"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}" '
        f'preserveAspectRatio="xMidYMid meet">'
        f"{_grid(x, y)}{''.join(_line(curve, x, y) for curve in drawn)}"
        f'<line class="pointer" x1="0" x2="0" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/></svg></div>'
        '<output class="tip"></output></figure>'
    )


def _thinned(curve: Curve, x: Axis) -> Curve:
    if len(curve.points) <= MOST_POINTS:
        return curve
    columns: dict[int, list[tuple[float, float]]] = {}
    width = (x.high - x.low) or 1.0
    for point in curve.points:
        column = int((x.position(point[0]) - x.low) / width * (MOST_POINTS // 2 - 1))
        columns.setdefault(column, []).append(point)
    kept: list[tuple[float, float]] = []
    for points in columns.values():
        extremes = {min(points, key=lambda p: p[1]), max(points, key=lambda p: p[1])}
        kept.extend(sorted(extremes))
    return Curve(curve.name, kept, curve.color, curve.steps)


def _x(axis: Axis, value: float) -> float:
    share = (axis.position(value) - axis.low) / ((axis.high - axis.low) or 1.0)
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _y(axis: Axis, value: float) -> float:
    share = (axis.position(value) - axis.low) / ((axis.high - axis.low) or 1.0)
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _grid(x: Axis, y: Axis) -> str:
    parts = []
    for value, text in x.ticks:
        at = _x(x, value)
        parts.append(
            f'<path class="grid" d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}"/>'
            f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 17}" class="x">{escape(text)}</text>'
        )
    for value, text in y.ticks:
        at = _y(y, value)
        parts.append(
            f'<path class="grid" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>'
            f'<text x="{LEFT - 8}" y="{at + 4:.1f}" class="y">{escape(text)}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 8}" class="x label">{escape(x.label)}</text>')
    return "".join(parts)


def _line(curve: Curve, x: Axis, y: Axis) -> str:
    places = [(_x(x, across), _y(y, up)) for across, up in curve.points]
    path = f"M{places[0][0]:.0f} {places[0][1]:.1f}"
    for across, down in places[1:]:
        # The value of a distribution holds up to the next percentile, then jumps.
        path += f"H{across:.1f}V{down:.1f}" if curve.steps else f"L{across:.1f} {down:.1f}"
    if len(places) == 1:
        path += "h.1"  # a line of no length is not drawn
    values = ";".join(
        f"{_x(x, across):.0f}|{x.text(across)}|{y.text(up)}" for across, up in curve.points
    )
    return f'<path class="curve {_class(curve)}" d="{path}" data-values="{escape(values)}"/>'


def _class(curve: Curve) -> str:
    return "beside" if curve.color < 0 else f"c{curve.color % 8}"


def _legend(curves: Sequence[Curve]) -> str:
    items = "".join(
        f'<button type="button" class="{_class(curve)}" aria-pressed="true">{escape(curve.name)}'
        "</button>"
        for curve in curves
    )
    return f'<div class="legend">{items}</div>'
