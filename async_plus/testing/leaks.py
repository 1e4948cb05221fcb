"""What a test leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import pytest_asyncio

from async_plus.testing.items import coroutine_test, failed, is_of_anyio

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

    Looked at after all other fixtures are gone: tasks of this loop that still run; records of level ERROR on the
    logger ``asyncio`` and coroutines never awaited, once garbage is collected. The count of ``cancelling()`` of
    the test's own task must be as before. A test that failed is not judged a second time. (In a test that is marked
    ``anyio``, tasks are looked for at the end of the test itself, with its fixtures still there; on trio not at all.)

    .. versionadded:: 1.0
    """
    leaks = Leaks()
    with _watched_for(leaks), pytest.MonkeyPatch.context() as patch:
        if target := coroutine_test(request.node):
            of_anyio = is_of_anyio(request)
            if not of_anyio:
                request.getfixturevalue("_no_tasks_left")
            patch.setattr(*target, _checked(getattr(*target), of_anyio=of_anyio))
        yield leaks
        # Errors and coroutines are missed only when the object that holds them dies, perhaps in a later test.
        gc.collect()
    if (lost := str(leaks)) and not request.node.stash.get(failed, False):
        pytest.fail(lost, pytrace=False)


@pytest_asyncio.fixture
async def _no_tasks_left(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    # A loop may be that of the whole session, with tasks of wider fixtures.
    before = asyncio.all_tasks()
    yield
    if not request.node.stash.get(failed, False):
        _fail_for_tasks(besides=before)


def _fail_for_tasks(besides: set[asyncio.Task[Any]]) -> None:
    if left := asyncio.all_tasks() - besides - {asyncio.current_task()}:
        from async_plus import stacks

        tasks = "; ".join(sorted(f"{task.get_name()!r} {stacks.parked(task)}" for task in left))
        pytest.fail(f"the test left tasks running: {tasks}", pytrace=False)


@contextlib.contextmanager
def _watched_for(leaks: Leaks) -> Generator[None, None, None]:
    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            leaks.errors.append(record)

    def show(message: Warning | str, category: type[Warning], *rest: Any, **options: Any) -> None:
        if str(message).startswith("coroutine ") and "was never awaited" in str(message):
            leaks.never_awaited.append(str(message))
        else:
            shown(message, category, *rest, **options)

    collector, logger = Collector(logging.ERROR), logging.getLogger("asyncio")
    logger.addHandler(collector)
    try:
        with warnings.catch_warnings():
            # Raised as an error inside a finalizer it would be printed and forgotten.
            warnings.filterwarnings("always", "coroutine .* was never awaited", RuntimeWarning)
            shown, warnings.showwarning = warnings.showwarning, show
            yield
    finally:
        logger.removeHandler(collector)


def _checked(test: Callable[..., Awaitable[None]], *, of_anyio: bool) -> Callable[..., Awaitable[None]]:
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
        if of_anyio:
            _fail_for_tasks(besides=before)

    return checked
