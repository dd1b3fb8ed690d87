"""Reads pickles that others wrote without running anything.

Python's unpickler calls what a file names. This one interprets the opcodes itself, and nothing on its stack can be
called: a name becomes a `Global`, a call of it an `Object` with its arguments, and only a few allowed names are turned
into values, by functions of ours. Everything else is refused: names not on the list, opcodes that no saver of
checkpoints writes, state that is no plain set of fields.
https://docs.python.org/3/library/pickletools.html describes the opcodes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from holdfast.core.errors import UserError

Maker = Callable[[tuple[Any, ...]], Any]
"""Turns the arguments of an allowed call into a value."""
LARGEST = 2**31
"""Bytes of a pickle that are read: a checkpoint of a million chunks has 0.2 GB of metadata."""
PROTOCOLS = range(2, 6)
SCALARS = (str, int, float, bool, bytes, type(None))
BYTE, SHORT, LONG, SIGNED, QUAD, DOUBLE = map(struct.Struct, ("<B", "<H", "<I", "<i", "<Q", ">d"))
HINT = "nothing of it was executed; only checkpoints as their own libraries write them are read"


class RefusedPickle(UserError):
    """A pickle that is damaged, or that wants more than a checkpoint may."""


class Global(NamedTuple):
    """A name in a module, as the file has it. It cannot be called."""

    module: str
    name: str

    @property
    def path(self) -> str:
        return f"{self.module}.{self.name}"


class Object:
    """What the file would have made by calling `kind`: never made, only described."""

    __slots__ = ("args", "kind", "state")

    def __init__(self, kind: str, args: tuple[Any, ...]) -> None:
        self.kind = kind
        self.args = args
        self.state: Any = None

    @property
    def fields(self) -> dict[str, Any]:
        """Its attributes; none if its state is not a set of fields."""
        return self.state if isinstance(self.state, dict) else {}

    def __repr__(self) -> str:
        return f"<{self.kind} in a file>"


class OrderedFields(dict[Any, Any]):
    """Stands for `OrderedDict`; attributes that were set on it (`_metadata` of a state dict) are passed over."""


def load(
    data: bytes,
    where: Path,
    allowed: Mapping[str, Maker | None],
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """The value that a pickle (protocol 2 to 5) describes.

    `allowed` says which dotted names may occur, and what a call of each makes; None: an `Object`. `persistent` turns
    persistent ids into values. `where` is named in errors.

    Raises:
        RefusedPickle: it is damaged, or holds what is not allowed.
    """
    if len(data) > LARGEST:
        raise RefusedPickle(f"{where}: a pickle of {len(data)} bytes, at most {LARGEST} are read", HINT)
    machine = _Machine(data, where, allowed, persistent)
    try:
        return machine.run()
    except (struct.error, IndexError, KeyError, UnicodeError, TypeError, ValueError, RecursionError) as error:
        raise RefusedPickle(
            f"{where}: damaged pickle: {type(error).__name__} at byte {machine.position} of {len(data)}", HINT
        ) from None


class _Machine:
    """The stack machine of the format: a stack, marks in it, and a memo."""

    def __init__(
        self,
        data: bytes,
        where: Path,
        allowed: Mapping[str, Maker | None],
        persistent: Callable[[Any], Any] | None,
    ) -> None:
        self.data = data
        self.position = 0
        self.where = where
        self.allowed = allowed
        self.persistent = persistent
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.globals: dict[tuple[str, str], Global] = {}

    def run(self) -> Any:
        data, actions = self.data, ACTIONS
        if data[:1] != b"\x80" or data[1] not in PROTOCOLS:
            self.refuse("not a pickle of protocol 2 to 5")
        self.position = 2
        while True:
            code = data[self.position]
            self.position += 1
            if code == 0x2E:  # STOP
                break
            action = actions.get(code)
            if action is None:
                self.refuse(f"opcode {code:#04x} is not allowed")
            action(self)
        if len(self.stack) != 1:
            self.refuse(f"{len(self.stack)} values are left at its end, expected 1")
        return self.stack[0]

    def refuse(self, what: str) -> NoReturn:
        raise RefusedPickle(f"{self.where}: refused at byte {self.position}: {what}", HINT)

    def take(self, count: int) -> bytes:
        end = self.position + count
        taken = self.data[self.position : end]
        if len(taken) != count:
            self.refuse(f"{count} bytes are announced, {len(taken)} are there")
        self.position = end
        return taken

    def number(self, form: struct.Struct) -> int:
        value: int = form.unpack_from(self.data, self.position)[0]
        self.position += form.size
        return value

    def line(self) -> str:
        end = self.data.index(b"\n", self.position)
        text = self.data[self.position : end].decode()
        self.position = end + 1
        return text

    def pop_to_mark(self) -> list[Any]:
        at = self.marks.pop()
        items = self.stack[at:]
        del self.stack[at:]
        return items

    def find(self, module: Any, name: Any) -> None:
        if not (isinstance(module, str) and isinstance(name, str)):
            self.refuse("a name that is no text")
        found = self.globals.get((module, name))
        if found is None:
            found = Global(module, name)
            if found.path not in self.allowed:
                self.refuse(f"it names {found.path[:100]!r}, which no checkpoint needs")
            self.globals[module, name] = found
        self.stack.append(found)

    def call(self) -> None:
        args = self.stack.pop()
        target = self.stack.pop()
        if not isinstance(target, Global) or type(args) is not tuple:
            self.refuse("a call of something that is no name")
        maker = self.allowed[target.path]
        self.stack.append(Object(target.path, args) if maker is None else maker(args))

    def build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, OrderedFields):
            self.check_fields(state)
        elif isinstance(target, Object) and target.state is None:
            if type(state) is not tuple:
                self.check_fields(state)
            target.state = state
        else:
            self.refuse(f"state for a {type(target).__name__}")

    def check_fields(self, state: Any) -> None:
        if type(state) is not dict or not all(type(key) is str and key.isidentifier() for key in state):
            self.refuse("state that is no plain set of fields")
        if any(key.startswith("__") for key in state):
            self.refuse("state that sets what is Python's own")

    def put_items(self, target: Any, items: list[Any]) -> None:
        if not isinstance(target, dict) or len(items) % 2:
            self.refuse("items for something that is no mapping")
        for key, value in zip(items[::2], items[1::2], strict=True):
            self.check_key(key)
            target[key] = value

    def check_key(self, key: Any) -> None:
        """Nested tuples would be hashed by recursion, without a limit."""
        if isinstance(key, SCALARS) or type(key) is Object:
            return
        if type(key) is not tuple or not all(isinstance(part, SCALARS) for part in key):
            self.refuse(f"a {type(key).__name__} as key of a mapping")

    def extend(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            self.refuse("items for something that is no list")
        self.stack[-1].extend(items)

    def remember(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def resolve_persistent(self) -> None:
        identity = self.stack.pop()
        if self.persistent is None:
            self.refuse("a persistent id")
        self.stack.append(self.persistent(identity))


def _pop_tuple(machine: _Machine, count: int) -> None:
    items = tuple(machine.stack[-count:])
    if len(items) != count:
        machine.refuse("a tuple of what is not there")
    machine.stack[-count:] = [items]


def _frame(machine: _Machine) -> None:
    machine.number(QUAD)  # frames only tell readers of streams how much to buffer


def _stack_global(machine: _Machine) -> None:
    name = machine.stack.pop()
    machine.find(machine.stack.pop(), name)


def _set_item(machine: _Machine) -> None:
    value = machine.stack.pop()
    key = machine.stack.pop()
    machine.put_items(machine.stack[-1], [key, value])


def _set_items(machine: _Machine) -> None:
    items = machine.pop_to_mark()
    machine.put_items(machine.stack[-1], items)


def _push(form: struct.Struct) -> Callable[[_Machine], None]:
    return lambda machine: machine.stack.append(machine.number(form))


def _push_text(form: struct.Struct) -> Callable[[_Machine], None]:
    return lambda machine: machine.stack.append(machine.take(machine.number(form)).decode())


def _push_bytes(form: struct.Struct) -> Callable[[_Machine], None]:
    return lambda machine: machine.stack.append(machine.take(machine.number(form)))


def _push_long(machine: _Machine) -> None:
    machine.stack.append(int.from_bytes(machine.take(machine.number(BYTE)), "little", signed=True))


ACTIONS: dict[int, Callable[[_Machine], None]] = {
    ord("("): lambda machine: machine.marks.append(len(machine.stack)),
    ord("0"): lambda machine: machine.stack.__delitem__(-1),
    ord("N"): lambda machine: machine.stack.append(None),
    ord("}"): lambda machine: machine.stack.append({}),
    ord("]"): lambda machine: machine.stack.append([]),
    ord(")"): lambda machine: machine.stack.append(()),
    0x88: lambda machine: machine.stack.append(True),
    0x89: lambda machine: machine.stack.append(False),
    ord("J"): _push(SIGNED),
    ord("K"): _push(BYTE),
    ord("M"): _push(SHORT),
    ord("G"): _push(DOUBLE),
    0x8A: _push_long,
    ord("X"): _push_text(LONG),
    0x8C: _push_text(BYTE),
    0x8D: _push_text(QUAD),
    ord("B"): _push_bytes(LONG),
    ord("C"): _push_bytes(BYTE),
    ord("t"): lambda machine: machine.stack.append(tuple(machine.pop_to_mark())),
    0x85: lambda machine: _pop_tuple(machine, 1),
    0x86: lambda machine: _pop_tuple(machine, 2),
    0x87: lambda machine: _pop_tuple(machine, 3),
    ord("a"): lambda machine: machine.extend([machine.stack.pop()]),
    ord("e"): lambda machine: machine.extend(machine.pop_to_mark()),
    ord("s"): _set_item,
    ord("u"): _set_items,
    ord("q"): lambda machine: machine.remember(machine.number(BYTE)),
    ord("r"): lambda machine: machine.remember(machine.number(LONG)),
    0x94: lambda machine: machine.remember(len(machine.memo)),
    ord("h"): lambda machine: machine.stack.append(machine.memo[machine.number(BYTE)]),
    ord("j"): lambda machine: machine.stack.append(machine.memo[machine.number(LONG)]),
    ord("c"): lambda machine: machine.find(machine.line(), machine.line()),
    0x93: _stack_global,
    ord("R"): _Machine.call,
    0x81: _Machine.call,
    ord("b"): _Machine.build,
    ord("Q"): _Machine.resolve_persistent,
    0x95: _frame,
}
"""What each opcode does. Not here, and so refused: INST, OBJ, EXT, DUP, sets, buffers, and all of protocol 0."""
