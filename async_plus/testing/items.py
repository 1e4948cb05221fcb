"""The tests themselves, as pytest keeps them."""

from __future__ import annotations

import inspect
import sys
from typing import Any

import pytest

__all__ = ["coroutine_test", "failed", "is_of_anyio", "is_of_unittest"]

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
