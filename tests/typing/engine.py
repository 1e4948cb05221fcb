"""What type checkers make of the engine's functions. Never run: mypy and pyright read it."""

from __future__ import annotations

import asyncio
from asyncio import Future, Task
from collections.abc import Awaitable, Coroutine, Generator, Iterator
from concurrent.futures import Executor
from concurrent.futures import Future as ConcurrentFuture
from contextlib import AsyncExitStack
from contextvars import copy_context
from typing import Any, Never, TypeVar, assert_type

from async_plus import (
    RetryDelayer,
    UnexpectedCancellation,
    cancel_and_wait,
    ignore,
    impatient,
    launch_watched,
    result_of,
    task_scope,
    try_gather,
)

_T = TypeVar("_T")


async def give(value: _T) -> _T:
    return value


class Slot:
    """An awaitable that is no coroutine."""

    def __await__(self) -> Generator[Any, None, bytes]:
        yield
        return b""


# try_gather: each result its own type up to six, the common one beyond.


async def gather(future: Future[bytes], task: Task[str]) -> None:
    assert_type(await try_gather(give(1)), tuple[int])
    assert_type(await try_gather(give(1), give("a")), tuple[int, str])
    assert_type(await try_gather(give(1), task, future), tuple[int, str, bytes])
    assert_type(await try_gather(give(1), task, future, Slot()), tuple[int, str, bytes, bytes])
    assert_type(
        await try_gather(give(1), task, future, Slot(), give(None)),
        tuple[int, str, bytes, bytes, None],
    )
    assert_type(
        await try_gather(give(1), task, future, Slot(), give(None), give(1.5), limit=2),
        tuple[int, str, bytes, bytes, None, float],
    )
    assert_type(
        await try_gather(give(1), give(1), give(1), give(1), give(1), give(1), give(1)),
        list[int],
    )
    assert_type(await try_gather(), list[Never])


async def gather_a_list(jobs: list[Coroutine[Any, Any, int]]) -> None:
    assert_type(await try_gather(*jobs), list[int])
    assert_type(await try_gather(*jobs, limit=3), list[int])
    assert_type(await try_gather(give(1), *jobs), list[int])
    assert_type(await try_gather(*(give("a") for _ in jobs), limit=None), list[str])


async def gather_keeps_types_that_mention_any(job: Coroutine[Any, Any, int]) -> None:
    # asyncio.gather gives these up: to mypy each result is Any.
    assert_type(await try_gather(job, give("a")), tuple[int, str])
    assert_type(await try_gather(impatient(job, log_after=5), give("a")), tuple[int, str])
    assert_type(await try_gather(try_gather(job, give("a")), job), tuple[tuple[int, str], int])


async def gather_as_a_value() -> None:

    number, text = await try_gather(give(1), give("a"), limit=1)
    assert_type(number, int)
    assert_type(text, str)

    # A coroutine, so that it can be a task of its own.
    assert_type(asyncio.create_task(try_gather(give(1), give("a"))), Task[tuple[int, str]])


# Background tasks and scopes keep the result of the coroutine.


def report(task: Task[Any], exc: BaseException) -> None: ...


async def background() -> None:
    assert_type(launch_watched(give(1)), Task[int])
    assert_type(launch_watched(give("a"), "name", ignore), Task[str])
    assert_type(
        launch_watched(give("a"), name="name", on_exception=report, context=copy_context()),
        Task[str],
    )
    assert_type(launch_watched(try_gather(give(1), give("a"))), Task[tuple[int, str]])
    assert_type(await launch_watched(give(1)), int)


async def scopes() -> None:
    async with task_scope() as scope:
        assert_type(scope, task_scope)
        assert_type(scope.launch(give(1)), Task[int])
        assert_type(scope.launch(give("a"), "name", report, context=copy_context()), Task[str])
        assert_type(await scope.wait(), None)
        assert_type(await scope.wait(1.5, asyncio.FIRST_COMPLETED), None)
        assert_type(await scope.wait(timeout=None, return_when=asyncio.ALL_COMPLETED), None)
        assert_type(scope.cancel(), None)
        assert_type(scope.tasks, frozenset[Task[Any]])
        assert_type(len(scope), int)

    async with task_scope(report, drain=5, warn_after=1.5, name="jobs"), AsyncExitStack() as stack:
        assert_type(await stack.enter_async_context(task_scope(on_exception=ignore)), task_scope)


async def scope_does_not_swallow() -> int:
    # The block cannot be left by an exception that is then lost, so nothing is missing after it.
    async with task_scope():
        return 1


async def stop(task: Task[int], future: Future[str]) -> None:
    assert_type(await cancel_and_wait(), None)
    assert_type(await cancel_and_wait(task, future), None)


async def elsewhere(pool: Executor, futures: list[ConcurrentFuture[bytes]]) -> None:
    assert_type(await result_of(pool.submit(len, "a")), int)
    assert_type(await try_gather(result_of(pool.submit(len, "a")), result_of(futures[0])), tuple[int, bytes])
    assert_type(await try_gather(*map(result_of, futures)), list[bytes])
    # A coroutine, so that it can be a task of its own.
    assert_type(asyncio.create_task(result_of(futures[0])), Task[bytes])


async def delays() -> None:
    delayer = RetryDelayer()
    assert_type(await delayer.sleep(), None)
    assert_type(delayer.next_delay(), float)
    assert_type(delayer.reset(), None)
    RetryDelayer([0, 1.5], random_shift=1, reset_after=60)
    RetryDelayer((number for number in (1, 2)), 0.5, None)


def caught() -> Iterator[RuntimeError]:
    try:
        yield RuntimeError()
    except UnexpectedCancellation as error:
        yield error


# impatient, in its three uses.


async def waits(future: Future[bytes], task: Task[str], either: Awaitable[int]) -> None:
    assert_type(await impatient(give(1), log_after=5), int)
    assert_type(await impatient(future, log_after=5), bytes)
    assert_type(await impatient(task, log_after=5, log_completion="never"), str)
    assert_type(await impatient(Slot(), log_completion="always"), bytes)
    assert_type(await impatient(either, log_after=0.5, log_level=20, stacklevel=2, name="it"), int)
    # A coroutine, so that it can be a task of its own.
    assert_type(asyncio.create_task(impatient(give(1), log_after=5)), Task[int])


async def blocks() -> int:
    async with impatient(log_after=5, name="warm-up"):
        await give(1)
    async with impatient(log_after=5, log_completion="always"):
        return 1


async def decorators() -> None:
    patiently = impatient(log_after=5, log_completion="after_long_wait")

    @patiently
    async def fetch(url: str) -> int:
        return 1

    assert_type(await fetch("a"), int)
    assert_type(await patiently(give)("a"), str)


# They fit into one another.


def job() -> Coroutine[Any, Any, int]:
    return give(1)


async def together() -> None:
    async with task_scope() as scope:
        task = scope.launch(impatient(try_gather(job(), give("a")), log_after=5))
        assert_type(await impatient(task, log_after=5), tuple[int, str])
