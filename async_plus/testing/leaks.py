"""What a test leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import warnings
from collections.abc import Awaitable, Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from async_plus.testing.items import coroutine_test, failed, is_of_anyio, is_of_unittest
from async_plus.testing.loops import loop_of

__all__ = ["Leaks", "no_leaks"]


@dataclass
class Leaks:
    """What a test has lost so far. A test that loses something on purpose looks at it here and clears it.

    Attributes:
        errors: What asyncio reported at level ERROR, an exception that nobody retrieved for example.
        never_awaited: The warnings about coroutines that were never awaited.

    .. versionadded:: 1.0
    """

    errors: list[logging.LogRecord] = field(default_factory=list[logging.LogRecord])
    never_awaited: list[str] = field(default_factory=list[str])

    def __str__(self) -> str:
        reported = (f"asyncio reported: {logging.Formatter().format(record)}" for record in self.errors)
        return "\n".join([*reported, *self.never_awaited])


@pytest.fixture
def no_leaks(request: pytest.FixtureRequest) -> Iterator[Leaks]:
    """Fail the test if it leaves a task, loses an error or forgets a coroutine, or stays cancelled.

    Looked at after all other fixtures are gone: tasks of this loop that still run; records of level ERROR on the logger
    ``asyncio`` and coroutines never awaited, once garbage is collected. The count of ``cancelling()`` of the test's own
    task must be as before. A test that failed is not judged a second time, nor is one that was broken off by Ctrl-C.
    (In a test that is marked ``anyio``, or belongs to a `unittest.TestCase`, tasks are looked for at the end of the
    test itself, with its fixtures still there; on trio not at all. Coroutines never awaited are missed while the test
    itself has warnings ignored or caught.)

    .. versionadded:: 1.0
    """
    leaks = Leaks()
    with _watched_for(leaks), pytest.MonkeyPatch.context() as patch:
        if target := coroutine_test(request.node):
            has_own_loop = is_of_anyio(request) or is_of_unittest(request.node)
            if not has_own_loop:
                request.getfixturevalue("_no_tasks_left")
            patch.setattr(*target, _checked(getattr(*target), look_at_end=has_own_loop))
        yield leaks
        # Errors and coroutines are missed only when the object that holds them dies, perhaps in a later test.
        gc.collect()
    if (lost := str(leaks)) and not request.node.stash.get(failed, False):
        pytest.fail(lost, pytrace=False)


@pytest.fixture
def _no_tasks_left(request: pytest.FixtureRequest) -> Iterator[None]:
    loop = loop_of(request)
    # It may be that of the whole session, with tasks of wider fixtures.
    before = asyncio.all_tasks(loop)
    yield
    if not request.node.stash.get(failed, False):
        loop.run_until_complete(_turn())
        _fail_for(asyncio.all_tasks(loop) - before)


async def _turn() -> None:
    """Let those end that are just about to."""


def _fail_for(left: set[asyncio.Task[Any]]) -> None:
    if left:
        from async_plus import stacks

        tasks = "; ".join(sorted(f"{task.get_name()!r} {stacks.parked(task)}" for task in left))
        pytest.fail(f"the test left tasks running: {tasks}", pytrace=False)


@contextlib.contextmanager
def _watched_for(leaks: Leaks) -> Generator[None, None, None]:
    logger = logging.getLogger("asyncio")
    is_enabled, handle = logger.isEnabledFor, logger.handle

    # Not by a handler, since the test may switch the logger off, or all that are there: dictConfig() does by default.
    def is_enabled_here(level: int) -> bool:
        return level >= logging.ERROR or is_enabled(level)

    def collect(record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR and logger.filter(record):
            leaks.errors.append(record)
        if is_enabled(record.levelno):
            handle(record)

    def show(message: Warning | str, category: type[Warning], *rest: Any, **options: Any) -> None:
        if str(message).startswith("coroutine ") and "was never awaited" in str(message):
            leaks.never_awaited.append(str(message))
        else:
            shown(message, category, *rest, **options)

    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        # Raised as an error inside a finalizer it would be printed and forgotten.
        warnings.filterwarnings("always", "coroutine .* was never awaited", RuntimeWarning)
        shown, warnings.showwarning = warnings.showwarning, show
        patch.setitem(vars(logger), "isEnabledFor", is_enabled_here)
        patch.setitem(vars(logger), "handle", collect)
        yield


def _checked(test: Callable[..., Awaitable[None]], *, look_at_end: bool) -> Callable[..., Awaitable[None]]:
    @functools.wraps(test)
    async def checked(*args: Any, **kwargs: Any) -> None:
        __tracebackhide__ = True
        if asyncio._get_running_loop() is None:  # on trio
            await test(*args, **kwargs)
            return
        task = cast("asyncio.Task[None]", asyncio.current_task())
        cancelling = task.cancelling()
        before = asyncio.all_tasks()
        await test(*args, **kwargs)
        if (after := task.cancelling()) != cancelling:
            pytest.fail(f"the test's task was left with cancelling() == {after}, it was {cancelling}", pytrace=False)
        if look_at_end:
            _fail_for(asyncio.all_tasks() - before - {task})

    return checked
