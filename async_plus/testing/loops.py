"""The loop that a test runs on. It may be that of its module, say, while its fixtures have one of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
import pytest_asyncio

__all__ = ["loop_of"]


def loop_of(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoop:
    """Return the loop on which pytest-asyncio runs the test."""
    marker = request.node.get_closest_marker("asyncio")
    given: Mapping[str, Any] = {} if marker is None else marker.kwargs
    default = request.config.getini("asyncio_default_test_loop_scope")
    # "scope" is what pytest-asyncio called it before.
    scope = given.get("loop_scope") or given.get("scope") or default
    loop: asyncio.AbstractEventLoop = request.getfixturevalue(_name(scope))
    return loop


def _name(scope: str) -> str:
    return f"_async_plus_loop_of_{scope}"


def _fixture(scope: Any) -> object:
    @pytest_asyncio.fixture(name=_name(scope), loop_scope=scope)
    async def loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    return loop


# pytest finds them here by their type.
_function = _fixture("function")
_class = _fixture("class")
_module = _fixture("module")
_package = _fixture("package")
_session = _fixture("session")
