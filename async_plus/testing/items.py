"""The tests themselves, as pytest keeps them."""

from __future__ import annotations

import inspect
import sys
from typing import Any

import pytest

__all__ = ["coroutine_test", "failed", "is_of_anyio", "is_of_unittest", "set_up_first"]

failed = pytest.StashKey[bool]()


def coroutine_test(item: Any) -> tuple[object, str] | None:
    """Find where *item* keeps its coroutine function, as pytest-asyncio does: hypothesis hides it."""
    if is_of_unittest(item):
        # pytest leaves it to unittest to call an async one, and that looks there.
        return (item.instance, item.name) if inspect.iscoroutinefunction(item.obj) else None
    handle = getattr(item.obj, "hypothesis", None)
    target = (item, "obj") if handle is None else (handle, "inner_test")
    return target if inspect.iscoroutinefunction(getattr(*target)) else None


def is_of_anyio(request: pytest.FixtureRequest) -> bool:
    """Whether the test is marked ``anyio``. Its fixtures may then run on another loop than the test does."""
    return "anyio_backend" in request.fixturenames


def is_of_unittest(item: Any) -> bool:
    """Whether *item* is a method of a `unittest.TestCase`, which has a loop of its own if it is async."""
    # Not imported by us: if nobody has, there is none.
    unittest = sys.modules.get("unittest")
    cls = getattr(item, "cls", None)
    return unittest is not None and isinstance(cls, type) and issubclass(cls, unittest.TestCase)


def set_up_first(item: Any, name: str) -> None:
    """Have the test set up the fixture *name* before all others that are its own, and so end it after them.

    Those of a wider scope stay in front, as pytest sorts them: they belong to other tests as well, and must not see
    clocks that stand still for this one.
    """
    scopes = {name: known[-1].scope for name, known in item._fixtureinfo.name2fixturedefs.items()}
    others = [other for other in item.fixturenames if other != name]
    at = next((i for i, other in enumerate(others) if scopes.get(other, "function") == "function"), len(others))
    # In a list of its own, since that one belongs to all parameters of the test.
    item.fixturenames = [*others[:at], name, *others[at:]]
