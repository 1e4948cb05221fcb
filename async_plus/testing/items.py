"""The tests themselves, as pytest keeps them."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

__all__ = ["coroutine_test", "failed", "is_of_anyio"]

failed = pytest.StashKey[bool]()


def coroutine_test(item: Any) -> tuple[object, str] | None:
    """Find where *item* keeps its coroutine function, as pytest-asyncio does: hypothesis hides it."""
    handle = getattr(item.obj, "hypothesis", None)
    target = (item, "obj") if handle is None else (handle, "inner_test")
    return target if inspect.iscoroutinefunction(getattr(*target)) else None


def is_of_anyio(request: pytest.FixtureRequest) -> bool:
    """Whether the test is marked ``anyio``. Its fixtures may then run on another loop than the test does."""
    return "anyio_backend" in request.fixturenames
