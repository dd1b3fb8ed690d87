"""Holds the import table: who in `holdfast` may import whom. Imports only point down, lazy ones included."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.execute.freeze import frozen

SOURCE = Path(__file__).resolve().parent.parent / "src" / "holdfast"
LEVELS = {
    "5": {"cli", "web", "__main__"},
    "4": {"pipelines", "quickstart"},
    "3": {"stages"},
    "2": {"checkpoints", "rollouts", "training", "evaluation", "active"},
    "1b": {"engines", "environments", "verifiers"},
    "1a": {"execute", "archive", "metrics", "trackers", "sweeps"},
    "0": {"core"},
}
BELOW = {
    "5": {"4", "3", "2", "1b", "1a", "0"},
    "4": {"3", "2", "1b", "1a", "0"},
    "3": {"2", "1b", "1a", "0"},
    "2": {"1b", "0"},  # a trainer does not know SLURM
    "1b": {"0"},
    "1a": {"0"},  # an executor does not know ML
    "0": set[str](),
}
SIBLINGS = {
    ("environments", "verifiers"),
    ("evaluation", "rollouts"),
    ("active", "rollouts"),
    ("training", "checkpoints"),
    ("quickstart", "pipelines"),
    ("cli", "web"),
    ("__main__", "cli"),
}
HEAVY = {"torch", "transformers", "trl", "peft", "accelerate", "datasets", "safetensors"}
HEAVY |= {"wandb", "matplotlib", "numpy", "aiohttp", "pyarrow", "duckdb"}
# Subclasses of a heavy library's classes live in modules of their own, which are imported only inside functions.
HEAVY_MODULES = {"training/grpo_trainer.py"}
LEVEL_OF = {package: level for level, packages in LEVELS.items() for package in packages}
FILES = sorted(SOURCE.rglob("*.py"))


def imported(tree: ast.AST, file: Path) -> Iterator[tuple[int, str]]:
    """(line, absolute dotted name) of every import; `from a import b` gives a.b, since b may be a module."""
    package = ("holdfast", *file.relative_to(SOURCE).parent.parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            yield from ((node.lineno, ".".join([*above, *filter(None, [node.module]), a.name])) for a in node.names)


def at_import_time(node: ast.AST) -> Iterator[ast.stmt]:
    """Imports that run when the module is loaded: neither in a function nor for the type checker alone."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from at_import_time(ast.Module(child.orelse, []))
        elif not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from at_import_time(child)


def allowed(importer: str, target: str) -> bool:
    return importer == target or (importer, target) in SIBLINGS or LEVEL_OF[target] in BELOW[LEVEL_OF[importer]]


def owner(file: Path) -> str:
    """The package below `holdfast` that a file is in, or the stem of a file directly in it."""
    parts = file.relative_to(SOURCE).parts
    return parts[0] if len(parts) > 1 else file.stem


def test_every_package_has_a_level() -> None:
    assert {owner(file) for file in FILES} <= LEVEL_OF.keys() | {"__init__"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_imports_only_point_down(file: Path) -> None:
    ours = [(line, name.split(".")) for line, name in imported(ast.parse(file.read_text()), file)]
    targets = [(line, name[1]) for line, name in ours if name[0] == "holdfast" and len(name) > 1]
    package = owner(file)
    if package == "__init__":  # `import holdfast` brings in nothing of ours; `holdfast.log` reaches core when called
        early = imported(ast.Module(list(at_import_time(ast.parse(file.read_text()))), []), file)
        assert not [name for _, name in early if name.startswith("holdfast")]
        assert {target for _, target in targets} <= LEVELS["0"]
        return
    wrong = [(line, target) for line, target in targets if target in LEVEL_OF and not allowed(package, target)]
    assert not wrong, f"{package} may not import {wrong}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_loading_a_module_loads_no_heavy_library(file: Path) -> None:
    top = ast.Module(list(at_import_time(ast.parse(file.read_text()))), [])
    if str(file.relative_to(SOURCE)) in HEAVY_MODULES:
        return
    heavy = {f"holdfast.{name.removesuffix('.py').replace('/', '.')}" for name in HEAVY_MODULES}
    wrong = [
        (line, name)
        for line, name in imported(top, file)
        if name.split(".")[0] in HEAVY or any(map(name.startswith, heavy))
    ]
    assert not wrong, f"import {wrong} inside the functions that use it"


def test_the_frozen_supervisor_runs_on_a_bare_python(tmp_path: Path) -> None:
    archive = tmp_path / "supervisor.pyz"
    archive.write_bytes(frozen())
    program = f"import sys; sys.path.insert(0, {str(archive)!r}); import holdfast.execute.runner"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"]])
def test_help_comes_without_libraries(arguments: list[str]) -> None:
    program = (
        "import sys; sys.argv = ['holdfast', *sys.argv[1:]]\n"
        "from holdfast.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "loaded = {'pydantic', 'omegaconf', 'yaml', 'rich', 'psutil', 'blake3'} & sys.modules.keys()\n"
        "sys.exit(f'loaded {loaded}' if loaded else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage: holdfast" in done.stdout
