"""Finds the classes that plans name: ours by a short name, anybody's by `package.module:Class`.

Whatever is wrong with a class of somebody's own is theirs to mend: it is said with the file and the line.
"""

from __future__ import annotations

import importlib
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from holdfast.core import near
from holdfast.core.errors import ConfigError

Base = TypeVar("Base")
BROKEN: tuple[type[Exception], ...] = (ImportError, SyntaxError, NameError, AttributeError, TypeError, ValueError)
BROKEN += (LookupError, ArithmeticError, AssertionError, RuntimeError, OSError)
"""What the lines of a module can raise when it is imported."""

_looked_in: list[str] = []


def look_in(directory: str) -> None:
    """Find modules in this directory, too, after all that Python finds by itself."""
    if directory not in sys.path:
        sys.path.append(directory)
        _looked_in.append(directory)


@cache
def source(module: str) -> str:
    """The directory that had to be looked in for a loaded module; empty where Python finds it by itself."""
    file = Path(getattr(sys.modules[module], "__file__", None) or "")
    depth = module.count(".") + (file.name == "__init__.py")
    directory = str(file.parents[depth]) if len(file.parents) > depth else ""
    return directory if directory in _looked_in else ""


def load_class(name: str, shipped: Mapping[str, str], base: type[Base], what: str) -> type[Base]:
    """The class of this name, derived from `base`. Modules are looked for in the working directory, too, but last.

    Raises:
        ConfigError: there is none, its module cannot be imported, or it is something else.
    """
    module, _, attribute = shipped.get(name, name).partition(":")
    if not attribute:
        close = near.name(name, shipped)
        known = f"{what}s: {', '.join(shipped)}, or your own as package.module:Class"
        raise ConfigError(f"there is no {what} `{name}`", f"did you mean `{close}`?" if close else known)
    look_in(os.getcwd())
    where = _import(module, attribute, f"{what} `{name}`")
    found = getattr(where, attribute, None)
    wanted = f"{base.__module__}.{base.__qualname__}"
    if found is None:
        raise ConfigError(
            f"{what} `{name}` cannot be imported: {where.__file__ or module} has no `{attribute}`",
            _others(where, attribute, base) or f"write `class {attribute}({base.__name__})` there",
        )
    if not (isinstance(found, type) and issubclass(found, base)):
        at = f" ({place(found)})" if isinstance(found, type) else ""
        hint = _others(where, "", base) or f"write `class {attribute}({base.__name__})`, as examples/best_of_n.py does"
        raise ConfigError(f"{what} `{name}` is {found!r}{at}, expected a class derived from {wanted}", hint)
    return found


def load_function(name: str, what: str) -> Callable[..., Any]:
    """The function `package.module:function`, looked for as classes are.

    Raises:
        ConfigError: there is none, its module cannot be imported, or it cannot be called.
    """
    module, _, attribute = name.partition(":")
    look_in(os.getcwd())
    where = _import(module, attribute, f"{what} `{name}`")
    found = getattr(where, attribute, None)
    if callable(found):
        return found  # type: ignore[no-any-return]
    close = near.name(attribute, [each for each, value in vars(where).items() if callable(value)])
    raise ConfigError(
        f"{what} `{name}` cannot be imported: {where.__file__ or module} has no function `{attribute}`",
        f"did you mean `{module}:{close}`?" if close else f"write `def {attribute}(...)` there",
    )


def place(found: type) -> str:
    """File and line of a class."""
    import inspect

    try:
        return f"{inspect.getsourcefile(found)}:{inspect.getsourcelines(found)[1]}"
    except (OSError, TypeError):
        return found.__module__


def _import(module: str, attribute: str, subject: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except SyntaxError as error:
        at = f"{error.filename}:{error.lineno}"
        raise ConfigError(f"{subject} cannot be imported: {at}: {error.msg}", f"correct {at}") from error
    except BROKEN as error:
        absent = error.name if isinstance(error, ModuleNotFoundError) else None
        if absent and f"{module}.".startswith(f"{absent}."):
            raise _no_module(module, attribute, absent, subject) from error
        at = next(_own_lines(error), "")
        says = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ConfigError(
            f"{subject} cannot be imported: {at + ': ' if at else ''}{says}",
            f"correct {at}" if at else "write package.module:Class",
        ) from error


def _no_module(module: str, attribute: str, absent: str, subject: str) -> ConfigError:
    ours = f"in {' or '.join(_looked_in)}, nor " if _looked_in else ""
    above = absent.replace(".", "/").rpartition("/")[0]
    there = {entry.name.removesuffix(".py") for each in _looked_in for entry in _modules(Path(each, above))}
    close = near.name(absent.rpartition(".")[2], there)
    corrected = f"{absent.rpartition('.')[0]}.{close}".lstrip(".") + module.removeprefix(absent)
    return ConfigError(
        f"{subject} cannot be imported: there is no module `{absent}` {ours}where Python looks by itself",
        f"did you mean `{corrected}:{attribute}`?"
        if close
        else f"type this in the directory that holds {absent.partition('.')[0]}, or put that on PYTHONPATH",
    )


def _modules(directory: Path) -> list[os.DirEntry[str]]:
    try:
        return [each for each in os.scandir(directory) if each.name.endswith(".py") or each.is_dir()]
    except OSError:
        return []


def _own_lines(error: BaseException) -> Iterator[str]:
    """`file:line` of the frames that are neither ours nor a library's, the innermost first."""
    libraries = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        is_library = frame.filename.startswith("<") or any(frame.filename.startswith(f"{each}/") for each in libraries)
        if not is_library and frame.filename != __file__:
            yield f"{frame.filename}:{frame.lineno}"


def _others(module: ModuleType, attribute: str, base: type) -> str:
    """Which classes of this base a module has, as a hint; empty if none."""
    kinds = {name: each for name, each in vars(module).items() if isinstance(each, type) and issubclass(each, base)}
    there = [name for name, each in kinds.items() if each.__module__ == module.__name__]
    if close := near.name(attribute, there):
        return f"did you mean `{module.__name__}:{close}`?"
    return f"there is {', '.join(f'{module.__name__}:{name}' for name in there)}" if there else ""
