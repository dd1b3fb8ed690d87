"""The rules of GRL Tetris, without rotation and without gravity: a piece falls only by Down.

A piece lands when the cell below one of its own is taken or is the floor, which is looked at after every move, also
after Left and Right. Then full rows go, and the rest of the board above them comes down. The game ends with the first
row that goes, or with a settled cell in the top row. Each move costs 0.1, each row is worth 10.

Cells above the board (y < 0) collide with nothing and are not settled, so of a piece of height 2 only the lower half is
seen, and counts, until it has fallen by one.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

LEFT, RIGHT, DOWN = 0, 1, 2
MOVES = {LEFT: (-1, 0), RIGHT: (1, 0), DOWN: (0, 1)}
LABELS = ("Left", "Right", "Down")
Shape = tuple[tuple[int, int], ...]
"""Offsets (dx, dy) from the anchor; y grows downwards."""
SINGLE: Shape = ((0, 0),)
UPRIGHT: Shape = ((0, 0), (0, -1))
FLAT: Shape = ((0, 0), (-1, 0))
SQUARE: Shape = ((0, 0), (-1, 0), (0, -1), (-1, -1))
SHAPES: dict[int, tuple[Shape, ...]] = {2: (UPRIGHT, FLAT), 3: (UPRIGHT, FLAT, SQUARE)}
"""By box type; every other type has the single cell alone."""
BASE_WEIGHT = 5
MOVE_TENTHS, ROW_TENTHS = -1, 100
"""Rewards in tenths, so that sums are exact."""


class Piece(NamedTuple):
    """A shape, and where its anchor is."""

    shape: Shape
    x: int
    y: int = 0

    def cells(self) -> list[tuple[int, int]]:
        return [(self.x + dx, self.y + dy) for dx, dy in self.shape]


@dataclass(frozen=True, slots=True)
class Move:
    """What one move did. `tenths` is its reward, times 10; `is_effective`: the piece is elsewhere than before."""

    action: int
    tenths: int
    is_valid: bool
    is_effective: bool
    has_landed: bool
    rows: int


def draw_pieces(width: int, height: int, box_type: int, seed: int, ambient: random.Random | None = None) -> list[Piece]:
    """The pieces of a game: as many as there are cells, and one. Shapes that came seldom are likelier.

    With `ambient`, as published, the counts that say so are not cleared between a draw of as many pieces from that
    generator (whatever state the process was in) and the draw from the seed.
    """
    count, shapes = width * height + 1, SHAPES.get(box_type, (SINGLE,))
    counts = [0] * len(shapes)
    if ambient is not None:
        for _ in range(count):
            _draw(ambient, shapes, counts, width)
    draw = random.Random(seed)
    return [_draw(draw, shapes, counts, width) for _ in range(count)]


def _draw(draw: random.Random, shapes: Sequence[Shape], counts: list[int], width: int) -> Piece:
    """A shape, and then the column of its anchor."""
    most = max(counts)
    weights = [BASE_WEIGHT + most - count for count in counts]
    left, number = draw.randint(1, sum(weights)), 0
    while left > weights[number]:
        left -= weights[number]
        number += 1
    counts[number] += 1
    shape = shapes[number]
    return Piece(shape, draw.randint(1 if (-1, 0) in shape else 0, width - 1))


class Game:
    """One game on an empty board; `is_over` once no move counts any more, `tenths` what the moves were worth.

    Of `pieces` the first falls at once; a game needs no more than it has cells, and one. With `is_compatible`, a move
    is judged effective as published: after the next piece has come.
    """

    def __init__(self, width: int, height: int, pieces: Iterable[Piece], *, is_compatible: bool = False) -> None:
        self.width, self.height = width, height
        self.is_over = False
        self.success = False
        self.tenths = 0
        self._is_compatible = is_compatible
        self._settled = [[False] * width for _ in range(height)]
        self._coming = iter(pieces)
        self._piece = next(self._coming)

    def move(self, action: int) -> Move:
        """Left (0), Right (1) or Down (2); anything else ends the game, for nothing."""
        if action not in MOVES:
            self.is_over = True
            return Move(action, 0, False, False, False, 0)
        before = self._piece
        dx, dy = MOVES[action]
        self._piece = self._shifted(dx, dy)
        moved = self._piece
        has_landed = self._collides(moved._replace(y=moved.y + 1))
        rows = self._land() if has_landed else 0
        after = self._piece if self._is_compatible else moved
        self.success = rows > 0
        tenths = MOVE_TENTHS + ROW_TENTHS * rows
        self.tenths += tenths
        return Move(action, tenths, True, (after.x, after.y) != (before.x, before.y), has_landed, rows)

    def idle(self) -> int:
        """A turn without a move: it costs as much as one, and nothing moves or lands. Its reward in tenths."""
        self.success = False
        self.tenths += MOVE_TENTHS
        return MOVE_TENTHS

    def render(self) -> str:
        """A line for each row, from the top: `_` empty, `#` settled, `X` the piece."""
        lines = [["#" if cell else "_" for cell in row] for row in self._settled]
        for x, y in self._piece.cells():
            if 0 <= y < self.height and 0 <= x < self.width:
                lines[y][x] = "X"
        return "\n".join("".join(line) for line in lines)

    def _shifted(self, dx: int, dy: int) -> Piece:
        """The piece where it would be, or where it is, if there is no room."""
        wanted = self._piece._replace(x=self._piece.x + dx, y=self._piece.y + dy)
        return self._piece if self._collides(wanted) else wanted

    def _collides(self, piece: Piece) -> bool:
        return any(
            x < 0 or x >= self.width or y >= self.height or self._settled[y][x] for x, y in piece.cells() if y >= 0
        )

    def _land(self) -> int:
        """Settle the piece; the number of rows that go."""
        for x, y in self._piece.cells():
            if y >= 0:
                self._settled[y][x] = True
        kept = [row for row in self._settled if not all(row)]
        rows = self.height - len(kept)
        self._settled = [[False] * self.width for _ in range(rows)] + kept
        is_dead = any(self._settled[0])
        if not is_dead:
            self._piece = next(self._coming)
        self.is_over = is_dead or rows > 0
        return rows
