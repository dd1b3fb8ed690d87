"""Bars, points and lines as SVG, small enough to be read in a diff: no library, the same bytes every time.

Colours are classes, so that one style sheet serves light and dark. All text is escaped.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from holdfast.evaluation.analysis.words import plain

WIDTH, HEIGHT = 720, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 34, 46
STYLE = """\
.paper{fill:#fff}.ink{fill:#1f2328}.dim{fill:#656d76}.rule{stroke:#d0d7de}.axis{stroke:#656d76}
.f0{fill:#0072b2}.f1{fill:#009e73}.f2{fill:#d55e00}.f3{fill:#8757a5}
.s0{stroke:#0072b2}.s1{stroke:#009e73}.s2{stroke:#d55e00}.s3{stroke:#8757a5}
.band{opacity:.16;stroke:none}.line{fill:none;stroke-width:2}
@media (prefers-color-scheme:dark){.paper{fill:#0d1117}
.ink{fill:#e6edf3}.dim{fill:#8d96a0}.rule{stroke:#30363d}.axis{stroke:#8d96a0}
.f0{fill:#56a9dd}.f1{fill:#2fbf94}.f2{fill:#f0883e}.f3{fill:#b392d6}
.s0{stroke:#56a9dd}.s1{stroke:#2fbf94}.s2{stroke:#f0883e}.s3{stroke:#b392d6}}
"""
"""Okabe and Ito's colours, told apart by colour-blind readers too; lighter on dark."""


@dataclass(frozen=True)
class Curve:
    """(x, y, low, high) of each point; low and high may be None."""

    name: str
    points: Sequence[tuple[float, float, float | None, float | None]]


@dataclass
class Frame:
    """Axes from values to pixels, and what is drawn so far."""

    low: float
    high: float
    parts: list[str] = field(default_factory=list)

    def y(self, value: float) -> float:
        share = min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))
        return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)

    def text(self, x: float, y: float, words: str, anchor: str = "middle", kind: str = "dim", size: int = 11) -> None:
        said = html.escape(plain(words))
        self.parts.append(
            f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{said}</text>'
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
        self.parts.append(f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')

    def bar(self, x: float, width: float, value: float, kind: str) -> None:
        top, bottom = sorted((self.y(value), self.y(max(0.0, self.low))))
        self.parts.append(
            f'<rect class="{kind}" x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" height="{bottom - top:.1f}"/>'
        )

    def dot(self, x: float, y: float, kind: str) -> None:
        self.parts.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>')

    def finish(self, title: str) -> str:
        """The figure. The style is left to who shows it."""
        self.text(LEFT, 18, title, "start", "ink", 13)
        inside = "\n".join(self.parts)
        label = html.escape(title, quote=True)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}" '
            f'font-family="system-ui, sans-serif">\n{inside}\n</svg>\n'
        )


def standalone(svg: str) -> str:
    """A figure with its style and a ground to stand on, as a file of its own."""
    ground = f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}"/>'
    return svg.replace(">\n", f">\n<style>\n{STYLE}</style>\n{ground}\n", 1)


def bars(
    title: str,
    labels: Sequence[str],
    counts: Sequence[int],
    inside: Sequence[int],
    names: tuple[str, str],
    below: str,
) -> str:
    """One bar for each label; `inside` are the parts of them that are drawn in another colour."""
    frame = _open(0.0, float(max(counts)))
    slot = (WIDTH - LEFT - RIGHT) / len(labels)
    every = max(1, math.ceil(len(labels) / 9))
    for place, (label, total, part) in enumerate(zip(labels, counts, inside, strict=True)):
        left = LEFT + place * slot
        frame.bar(left + slot * 0.08, slot * 0.84, total, "f0")
        frame.bar(left + slot * 0.08, slot * 0.84, part, "f1")
        if place % every == 0:
            frame.text(left + slot / 2, HEIGHT - BOTTOM + 16, label)
    _legend(frame, names)
    frame.text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, below)
    return frame.finish(title)


def points(title: str, labels: Sequence[str], curve: Curve, below: str) -> str:
    """A dot with its interval for each label, in even steps."""
    frame = _open(*_reach([curve]))
    slot = (WIDTH - LEFT - RIGHT) / len(labels)
    for place, (label, (_, value, low, high)) in enumerate(zip(labels, curve.points, strict=True)):
        middle = LEFT + (place + 0.5) * slot
        if low is not None and high is not None:
            frame.line(middle, frame.y(low), middle, frame.y(high), "s0")
        frame.dot(middle, frame.y(value), "f0")
        frame.text(middle, HEIGHT - BOTTOM + 16, label)
    frame.text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, below)
    return frame.finish(title)


def lines(title: str, curves: Sequence[Curve], below: str) -> str:
    """A line with its band for each curve, over x on a logarithmic axis of base 2."""
    frame = _open(*_reach(curves))
    places = sorted({point[0] for curve in curves for point in curve.points})
    first, last = math.log2(places[0]), math.log2(places[-1])

    def x(value: float) -> float:
        return LEFT + 12 + (math.log2(value) - first) / (last - first) * (WIDTH - LEFT - RIGHT - 24)

    for place in places:
        frame.text(x(place), HEIGHT - BOTTOM + 16, f"{place:g}")
    for number, curve in enumerate(curves):
        _draw_curve(frame, curve, number, [x(point[0]) for point in curve.points])
    _legend(frame, [curve.name for curve in curves])
    frame.text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, below)
    return frame.finish(title)


def _draw_curve(frame: Frame, curve: Curve, number: int, xs: Sequence[float]) -> None:
    known = [
        (x, low, high)
        for x, (_, _, low, high) in zip(xs, curve.points, strict=True)
        if low is not None and high is not None
    ]
    there = [f"{x:.1f},{frame.y(high):.1f}" for x, _, high in known]
    back = [f"{x:.1f},{frame.y(low):.1f}" for x, low, _ in reversed(known)]
    frame.parts.append(f'<polygon class="f{number} band" points="{" ".join([*there, *back])}"/>')
    path = " ".join(f"{x:.1f},{frame.y(y):.1f}" for x, (_, y, _, _) in zip(xs, curve.points, strict=True))
    frame.parts.append(f'<polyline class="s{number} line" points="{path}"/>')
    for x, (_, y, _, _) in zip(xs, curve.points, strict=True):
        frame.dot(x, frame.y(y), f"f{number}")


def _open(low: float, high: float) -> Frame:
    """Axes with ticks at round numbers."""
    marks = ticks(low, high)
    frame = Frame(marks[0], marks[-1])
    for mark in marks:
        height = frame.y(mark)
        frame.line(LEFT, height, WIDTH - RIGHT, height, "rule")
        frame.text(LEFT - 8, height + 4, _spell(mark), "end")
    frame.line(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, "axis")
    return frame


def _spell(mark: float) -> str:
    return f"{mark:,.0f}" if mark == int(mark) and abs(mark) < 1e6 else f"{mark:.4g}"


def _reach(curves: Sequence[Curve]) -> tuple[float, float]:
    known = [each for curve in curves for point in curve.points for each in point[1:] if each is not None]
    values = [point[1] for curve in curves for point in curve.points]
    # An interval of two prompts may be a hundred times as long as everything else: it is cut at the edge.
    span = (max(values) - min(values)) or max(known) - min(known)
    return max(min(known), min(values) - span), min(max(known), max(values) + span)


def ticks(low: float, high: float) -> list[float]:
    """About five round numbers, the first not above low and the last not below high."""
    if not high > low:
        high, low = low + max(abs(low), 1.0) / 2, low - max(abs(low), 1.0) / 2
    rough = max((high - low) / 4, 1e-300)
    power = 10.0 ** math.floor(math.log10(rough))
    width = next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= rough * 0.999)
    first, last = math.floor(low / width + 1e-9), math.ceil(high / width - 1e-9)
    return [place * width for place in range(first, max(last, first + 1) + 1)]


def _legend(frame: Frame, names: Sequence[str]) -> None:
    """From the right, by a guess of how wide words are."""
    x = float(WIDTH - RIGHT)
    for number, name in reversed(list(enumerate(names))):
        x -= 6.6 * len(name)
        frame.text(x, 18, name, "start", "ink")
        frame.parts.append(f'<rect class="f{number}" x="{x - 15:.1f}" y="9" width="10" height="10"/>')
        x -= 30
