"""The floors of the house: imports run downward only. Read from the source, so that imports inside functions count."""

from __future__ import annotations

import ast
import graphlib
import sys
from pathlib import Path

import pytest

import async_plus

# Lowest first. What shares a floor may not import each other; the modules of one package may, without a cycle.
FLOORS = (
    ("_version", "_checks"),
    ("_coroutines", "_signals"),
    ("stacks",),
    ("events",),
    ("engine.per_loop",),
    ("engine",),
    ("supervision",),
    ("diagnostics",),
    ("runner",),
    ("decorators",),
    ("__init__",),
    ("cli", "prometheus", "testing"),
    ("__main__",),
)

# Beyond the standard library, each has one room, and those marked lazy are imported inside functions only.
ROOMS = {
    "freezegun": "testing",
    "prometheus_client": "prometheus",
    "pytest": "testing",
    "pytest_asyncio": "testing",
    "wrapt": "decorators",
}
LAZY = {"freezegun"}


def problems_of(package: Path) -> list[str]:
    """Return what is wrong with the imports below *package*, one line each."""
    files = {_module(file.relative_to(package)): file for file in sorted(package.rglob("*.py"))}
    problems: list[str] = []
    graph: dict[str, set[str]] = {}
    for module, file in files.items():
        tree = ast.parse(file.read_text(), str(file))
        graph[module] = set()
        if _floor(module) is None:
            problems.append(f"{module} stands on no floor")
        for node in ast.walk(tree):
            for name in _imported(node):
                top, _, inner = name.partition(".")
                if top == package.name:
                    # `from pkg import name` may mean a module, or what __init__ offers.
                    target = _longest(inner, files)
                    graph[module].add(target)
                    problems += _inside(module, target)
                else:
                    problems += _outside(module, top, at_import=node in tree.body)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        problems.append(f"import cycle: {' -> '.join(reversed(error.args[1]))}")
    return problems


def _module(file: Path) -> str:
    parts = file.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _imported(node: ast.AST) -> list[str]:
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=module, names=names, level=0):
            return [f"{module}.{alias.name}" for alias in names]
        case ast.ImportFrom(module=module, level=level):
            return ["." * level + (module or "")]  # an empty first part: nobody's room
    return []


def _longest(name: str, modules: dict[str, Path]) -> str:
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name or "__init__"


def _unit(module: str) -> str:
    units = [unit for floor in FLOORS for unit in floor]
    return max((unit for unit in units if f"{module}.".startswith(f"{unit}.")), key=len, default="")


def _floor(module: str) -> int | None:
    return next((level for level, floor in enumerate(FLOORS) if _unit(module) in floor), None)


def _inside(module: str, target: str) -> list[str]:
    mine, theirs = _floor(module), _floor(target)
    if mine is None or theirs is None or mine > theirs or _unit(module) == _unit(target):
        return []
    return [f"{module} imports {'up' if mine < theirs else 'sideways'}: {target}"]


def _outside(module: str, top: str, *, at_import: bool) -> list[str]:
    if not top:
        return [f"{module} has a relative import"]
    if top in sys.stdlib_module_names:
        return []
    if ROOMS.get(top) != _unit(module):
        return [f"{module} imports {top}, which only {ROOMS.get(top, 'nobody')} may"]
    return [f"{module} imports {top} at its top level"] if at_import and top in LAZY else []


def test_imports_run_downward_only():
    """No module of async_plus imports upward, sideways, in a circle, or what is another room's."""
    assert problems_of(Path(async_plus.__file__).parent) == []


@pytest.mark.parametrize(
    ("file", "source", "problem"),
    [
        ("engine/owned.py", "from async_plus.supervision import policy", "engine.owned imports up: supervision.policy"),
        ("engine/owned.py", "import async_plus.decorators", "engine.owned imports up: decorators"),
        ("engine/owned.py", "def f():\n    from async_plus import decorators", "engine.owned imports up: decorators"),
        ("engine/per_loop.py", "from async_plus.engine.gather import x", "engine.per_loop imports up: engine.gather"),
        ("supervision/policy.py", "from async_plus import try_gather", "supervision.policy imports up: __init__"),
        ("stacks.py", "from async_plus.events import emit", "stacks imports up: events"),
        ("testing.py", "import async_plus.cli", "testing imports sideways: cli"),
        ("engine/gather.py", "from . import per_loop", "engine.gather has a relative import"),
        ("engine/gather.py", "import wrapt", "engine.gather imports wrapt, which only decorators may"),
        ("engine/gather.py", "from rich import print", "engine.gather imports rich, which only nobody may"),
        ("testing.py", "import freezegun.api", "testing imports freezegun at its top level"),
        ("attic.py", "import asyncio", "attic stands on no floor"),
    ],
)
def test_an_import_in_the_wrong_direction_is_found(tmp_path, file, source, problem):
    """The check itself works: each planted violation is named, and nothing else is."""
    package = _plant(tmp_path, {file: source})

    assert problems_of(package) == [problem]


def test_a_circle_of_imports_is_found(tmp_path):
    """Modules of one package may import each other, but not in a circle."""
    package = _plant(
        tmp_path,
        {
            "engine/gather.py": "from async_plus.engine.scope import a",
            "engine/scope.py": "def f():\n    import async_plus.engine.gather",
        },
    )

    [problem] = problems_of(package)
    assert problem.startswith("import cycle: engine.")


def test_imports_that_run_down_are_fine(tmp_path):
    """The check is silent where nothing is wrong, for every way to write an import."""
    package = _plant(
        tmp_path,
        {
            "decorators.py": "import asyncio, wrapt\nfrom async_plus.engine import gather\nimport async_plus.events",
            "engine/gather.py": "from async_plus import events, stacks\nfrom async_plus.engine.per_loop import x",
            "testing.py": "import pytest\nfrom async_plus import try_gather\ndef f():\n    import freezegun",
        },
    )

    assert problems_of(package) == []


def _plant(folder: Path, sources: dict[str, str]) -> Path:
    package = folder / "async_plus"
    empty = ("__init__.py", "cli.py", "decorators.py", "engine/__init__.py", "engine/gather.py", "engine/per_loop.py",
             "events.py", "stacks.py", "supervision/__init__.py", "supervision/policy.py")  # fmt: skip
    for name in (*empty, *sources):
        file = package / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(sources.get(name, ""))
    return package
