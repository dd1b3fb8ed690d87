"""GRL Tetris as episodes: by the tool `step(actions)`, or by `<action>` tags in a text.

A row has `seed`, `dim_board` ([width, height]; also as `dim_x`, `dim_y`) and `box_type`; a private generator draws the
pieces from the seed, so that a puzzle is the same in every process. A text without an action is a turn that costs as
much as a move. An unknown move is answered with an error, and costs nothing.

`compat` plays as the published evaluation did, whose numbers are those of one setting alone: `dim_board` and `box_type`
are not read, every board is 4x4 with the pieces of box type 3; and the counts that even out the shapes are not cleared
after the draw that the constructor makes, from whatever state the process is in. That state is not to be had again;
here it is always that of a fresh generator with the seed 0. A published run that met another one had other pieces. A
text without an action, which there broke off the whole collection, is a turn as above.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

from holdfast.core.errors import UserError
from holdfast.environments import Settings
from holdfast.environments.episodes import Episode, Episodes, Message, Start, Step, user
from holdfast.environments.prompt_set import Row
from holdfast.environments.responses import chat_messages, chat_tools
from holdfast.environments.tetris import puzzles
from holdfast.environments.tetris.rules import LABELS, Game, draw_pieces
from holdfast.environments.tool_calls import ToolCall, answer, read_calls

TAG = re.compile(r"<action>\s*(left|right|down|[0-2])\s*</action>", re.IGNORECASE)
NUMBERS = {word: number for number, label in enumerate(LABELS) for word in (label.lower(), str(number))}
WIDEST = 64
AMBIENT = 0


class TetrisSettings(Settings):
    """How it is played."""

    interface: puzzles.Interface = "tools"
    compat: bool = False
    """As published, defects and all."""


class TetrisEpisodes(Episodes):
    name = "tetris"
    turns = 20
    tool_calls = 10
    Settings: ClassVar[type[Settings]] = TetrisSettings

    @property
    def has_tools(self) -> bool:
        return bool(self.settings.interface == "tools")

    def new(self) -> Episode:
        return (ToolTetris if self.has_tools else TextTetris)(self.settings)


class Tetris(Episode):
    """What both interfaces share: the game, and what is said of it in the row.

    The `info` of a turn has the `board` at its end and `before` it, and in `steps` each move with its board.
    """

    def start(self, seed: int, row: Row) -> Start:
        """
        Raises:
            UserError: the row is no puzzle.
        """
        width, height, box_type = (4, 4, 3) if self.settings.compat else _puzzle_of(row)
        ambient = random.Random(AMBIENT) if self.settings.compat else None
        pieces = draw_pieces(width, height, box_type, _whole(row, "seed", seed), ambient)
        self._game = Game(width, height, pieces, is_compatible=self.settings.compat)
        self._before = self._game.render()
        self._steps: list[dict[str, Any]] = []
        self._history: list[str] = []
        messages, self._tools = _asked(row, self.settings.interface)
        return self._begin(messages)

    def _begin(self, messages: Sequence[Message]) -> Start:
        raise NotImplementedError

    def _move(self, actions: Sequence[int]) -> int:
        """Make moves until the game is over; what they were worth, in tenths."""
        before = self._game.tenths
        for action in actions:
            if self._game.is_over:
                break
            made = self._game.move(action)
            label = LABELS[action] if made.is_valid else str(action)
            self._history.append(label)
            self._steps.append(
                {
                    "action": label,
                    "reward": made.tenths / 10,
                    "is_valid": made.is_valid,
                    "is_effective": made.is_effective,
                    "dropped": made.has_landed,
                    "success": made.rows > 0,
                    "board": self._game.render(),
                }
            )
        return self._game.tenths - before

    def _step(self, messages: Sequence[Message], tenths: int, actions: int) -> Step:
        """The step of a turn, and the beginning of the next."""
        board = self._game.render()
        info = {"success": self._game.success, "board": board, "before": self._before, "steps": self._steps}
        self._before, self._steps = board, []
        return Step(messages, tenths / 10, self._game.is_over, False, info, actions)


class TextTetris(Tetris):
    """Moves are tags in what the model writes; it is shown the board after each turn."""

    def _begin(self, messages: Sequence[Message]) -> Start:
        *before, last = messages
        if last["role"] != "user":
            return Start([*messages, user(self._shown())], info={"board": self._before})
        # In one message: many chat templates refuse two of the same role in a row.
        return Start([*before, user(f"{last['content']}\n\n{self._shown()}")], info={"board": self._before})

    def step(self, message: Message) -> Step:
        actions = [NUMBERS[found.lower()] for found in TAG.findall(message.get("content") or "")]
        if not actions:
            return self._step([user(f"There was no action in that.\n{self._shown()}")], self._game.idle(), 1)
        tenths = self._move(actions)
        return self._step([user(self._shown())], tenths, len(self._steps))

    def _shown(self) -> str:
        over = "The game is over." if self._game.is_over else puzzles.HOW["text"]
        return f"The board:\n{self._game.render()}\n\n{over}"


class ToolTetris(Tetris):
    """Moves are arguments of the tool `step`; its result shows the board and each move. A message without a call ends
    the game.
    """

    has_tools: ClassVar[bool] = True

    def _begin(self, messages: Sequence[Message]) -> Start:
        return Start(messages, self._tools, {"board": self._before})

    def step(self, message: Message) -> Step:
        calls = read_calls(message)
        if not calls:
            stopped = self._step([], 0, 0)
            return Step([], 0.0, True, False, {**stopped.info, "success": False, "ended": "no_call"}, 0)
        told, tenths = [], 0
        for call in calls:
            content, worth = self._call(call)
            told.append(answer(call.id, call.name, content))
            tenths += worth
        return self._step(told, tenths, len(self._steps))

    def _call(self, call: ToolCall) -> tuple[dict[str, Any], int]:
        """The tool's result, and what the moves were worth, in tenths."""
        if self._game.is_over:
            return {"error": "not carried out: the game is over"}, 0
        wanted = call.arguments.get("actions")
        actions = [_number(each) for each in wanted] if isinstance(wanted, list) else None
        if actions is None or None in actions:
            return {"error": f"`actions` must be a list of {', '.join(LABELS)}; it was {wanted!r}"[:300]}, 0
        before = len(self._steps)
        tenths = self._move(cast(list[int], actions))
        result = {
            "observation": self._game.render(),
            "reward": tenths / 10,
            "total_reward": self._game.tenths / 10,
            "done": self._game.is_over,
            "steps": [{name: step[name] for name in ("action", "reward", "success")} for step in self._steps[before:]],
            "history": list(self._history),
        }
        return result, tenths


def _number(action: Any) -> int | None:
    """0, 1 or 2 for a label or a number as a text; any other whole number as it is, which the rules know; else None."""
    if isinstance(action, int) and not isinstance(action, bool):
        return action
    text = str(action).strip().lower() if isinstance(action, str) else ""
    return NUMBERS.get(text, int(text) if re.fullmatch(r"-?\d{1,9}", text) else None)


def _puzzle_of(row: Row) -> tuple[int, int, int]:
    """Width, height and box type.

    Raises:
        UserError: they are not such.
    """
    size = row.get("dim_board", [row.get("dim_x", 4), row.get("dim_y", 4)])
    if not (isinstance(size, list) and len(size) == 2 and all(map(_is_side, size))):
        raise UserError(
            f"a puzzle's dim_board is {size!r}, expected [width, height], each from 2 to {WIDEST}", "correct the row"
        )
    return size[0], size[1], _whole(row, "box_type", 1)


def _is_side(value: Any) -> bool:
    return type(value) is int and 2 <= value <= WIDEST


def _whole(row: Row, name: str, otherwise: int) -> int:
    value = row.get(name, otherwise)
    if type(value) is not int:
        raise UserError(f"a puzzle's {name} is {value!r}, expected a whole number", "correct the row")
    return value


def _asked(row: Row, interface: puzzles.Interface) -> tuple[list[Any], list[Any]]:
    """Messages and tools: the row's own, if it was written for this interface, otherwise ours."""
    asked: Mapping[str, Any] = row.get("responses_create_params") or {}
    if asked.get("input") and bool(asked.get("tools")) == (interface == "tools"):
        return chat_messages(asked["input"]), chat_tools(asked.get("tools"))
    return puzzles.messages(interface), [puzzles.TOOL]
