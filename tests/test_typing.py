"""What `tests/typing` promises of itself: it leaves no public name out, and plants every mistake for both checkers.

The files there are never run. mypy and pyright read them, in ``tox -e typing``.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import async_plus
import async_plus.prometheus
import async_plus.testing

FOLDER = Path(__file__).with_name("typing")


def names_in(file):
    """The names that *file* uses, wherever they come from, apart from importing them."""
    tree = ast.parse(file.read_text(), str(file))
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} | {
        node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)
    }


def asserting_files():
    return [file for file in FOLDER.glob("*.py") if file.name != "mistakes.py"]


MODULES = [async_plus, async_plus.prometheus, async_plus.testing]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_public_name_is_used_where_types_are_asserted(module):
    """Types are part of the interface: a name that is added without them is told here."""
    used = set().union(*map(names_in, asserting_files()))
    # Fixtures are asked for by the names of parameters.
    fixtures = {"no_leaks", "snapshot_on_timeout", "virtual_clock"}

    assert set(module.__all__) - used - fixtures == set()


def test_every_planted_mistake_is_excused_to_both_checkers_by_name():
    """An excuse to one of them only would hide that the other finds nothing."""
    lines = (FOLDER / "mistakes.py").read_text().splitlines()
    excused = [line for line in lines if "# type:" in line or "# pyright:" in line]
    both = re.compile(r".*  # type: ignore\[[a-z, -]+\]  # pyright: ignore\[[A-Za-z, ]+\]$")

    assert [line for line in excused if not both.match(line)] == []
    assert len(excused) > 50


@pytest.mark.parametrize("file", asserting_files(), ids=lambda file: file.name)
def test_nothing_else_is_excused(file):
    """Where types are asserted they must be right."""
    assert "ignore[" not in file.read_text()


def test_both_checkers_are_told_to_complain_of_needless_excuses():
    """Without this the planted mistakes would prove nothing."""
    root = FOLDER.parent.parent

    assert 'reportUnnecessaryTypeIgnoreComment = "error"' in (root / "pyproject.toml").read_text()
    assert "enableTypeIgnoreComments = false" in (root / "pyproject.toml").read_text()
    # strict includes warn_unused_ignores.
    assert "[mypy]\nstrict = True" in (root / "setup.cfg").read_text()
