"""Mistakes that both type checkers must find. Never run: mypy and pyright read it.

Each is excused by name to both of them, and both are told to complain of an excuse without a mistake. So when one of
them no longer finds a mistake, the check fails.
"""

from __future__ import annotations

import asyncio
import functools
from asyncio import Task
from collections.abc import AsyncIterator
from concurrent.futures import Future
from typing import Any

from async_plus import (
    Child,
    ChildState,
    Event,
    RetryDelayer,
    Supervisor,
    cancel_and_wait,
    dump_on_signal,
    entry_point,
    health,
    ignore,
    impatient,
    launch_watched,
    result_of,
    run,
    snapshot,
    stopping,
    subscribe,
    supervised,
    task_scope,
    try_gather,
    watch_loop,
    watched,
)


async def fetch(url: str, *, limit: float = 1) -> int:
    return 1


def plain(url: str) -> int:
    return 1


async def stream(url: str) -> AsyncIterator[int]:
    yield 1


class Service:
    @supervised(delays=[1])
    async def poll(self, url: str) -> int:
        return 1

    @impatient(log_after=5)
    @classmethod
    async def load(cls, url: str) -> int:
        return 1

    @watched
    async def save(self, url: str) -> int:
        return 1

    @watched(name="save")
    @staticmethod
    async def save_static(url: str) -> int:
        return 1


@supervised
async def fetch_supervised(url: str, *, limit: float = 1) -> int:
    return 1


@impatient(log_after=5)
async def fetch_impatient(url: str, *, limit: float = 1) -> int:
    return 1


@watched(name="fetch")
async def fetch_watched(url: str, *, limit: float = 1) -> int:
    return 1


# Arguments that do not fit the function below the decorator.


async def wrong_arguments(service: Service) -> None:
    await fetch_supervised(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await fetch_supervised()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await fetch_supervised("a", 2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await fetch_impatient("a", limit="b")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await fetch_impatient("a", limits=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await fetch_watched(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await fetch_watched("a", limits=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]

    await service.poll(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await service.poll()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await Service.poll("a")  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]
    await Service.load(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await service.save(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await service.save()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await Service.save_static(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    await supervised(service.poll)(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await watched(functools.partial(fetch, "a"))() + "b"  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue, reportUnusedExpression]


# Results taken for something else.


async def wrong_results(service: Service) -> None:
    text: str
    text = await fetch_supervised("a")  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    text = await fetch_impatient("a")  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    text = await service.save("a")  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    text = await impatient(fetch("a"), log_after=5)  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType]
    text = await launch_watched(fetch("a"))  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType]
    (text,) = await try_gather(fetch("a"))  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType]
    print(text)

    # A call of a watched function is a task, not yet its result.
    number: int = service.save("a")  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    # What is a coroutine function yet is not to be forgotten.
    fetch_supervised("a")  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]
    service.poll("a")  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]
    impatient(fetch("a"), log_after=5)  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]
    try_gather(fetch("a"))  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]
    cancel_and_wait()  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]
    print(number)


async def too_many_results() -> tuple[int, int, int]:
    return await try_gather(fetch("a"), fetch("b"))  # type: ignore[return-value]  # pyright: ignore[reportReturnType]


# What cannot be decorated.


async def wrong_functions() -> None:
    supervised(plain)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    supervised()(plain)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    impatient(log_after=5)(plain)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    watched(plain)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
    watched()(plain)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]

    supervised(stream)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    impatient(log_after=5)(stream)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    watched(stream)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]

    supervised(Service)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    impatient(log_after=5)(Service)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    watched(Service)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]

    supervised(fetch("a"))  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    impatient(log_after=5)(fetch("a"))  # type: ignore[type-var, unused-coroutine]  # pyright: ignore[reportArgumentType]
    watched(fetch("a"))  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]

    # @watched goes outermost.
    supervised(fetch_watched)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    impatient(log_after=5)(fetch_watched)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    watched(fetch_watched)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
    supervised(Service().save)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]

    # There is no bare @impatient: the seconds are missing.
    impatient(fetch)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportUnusedCoroutine]


# What is no future of another world.


async def wrong_futures(futures: list[Future[int]]) -> None:
    await result_of(fetch("a"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await result_of(futures)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await result_of(fetch)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    result_of(futures[0])  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]
    text: str = await result_of(futures[0])  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType]
    print(text)


# Options that do not exist, or are of a wrong kind.


async def async_handler(task: Task[Any], exc: BaseException) -> None: ...


def one_argument(task: Task[Any]) -> None: ...


async def async_predicate(exc: BaseException) -> bool:
    return True


async def wrong_options() -> None:
    supervised(delay=[1])  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    supervised(delays=1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    supervised(delays=["1"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    supervised([0, 1])  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    supervised(on="OSError")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    supervised(on=[OSError])  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    supervised(on=async_predicate)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    supervised(restart="on-error")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    supervised(max_restarts=1.5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]

    watched(on_error=ignore)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    watched("name")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    watched(on_exception=one_argument)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    watched(on_exception=async_handler)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    impatient(log_afer=5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    impatient(5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportUnusedCoroutine]
    impatient(log_after="5")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    impatient(log_completion="sometimes")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]


# The engine.


async def wrong_uses(task: Task[int]) -> None:
    await try_gather(fetch)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    await try_gather([fetch("a")])  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    await try_gather(fetch("a"), limit="2")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    await try_gather(fetch("a"), return_exceptions=True)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]

    launch_watched(fetch)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    launch_watched(task)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    launch_watched(fetch("a"), on_exception=one_argument)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    launch_watched(fetch("a"), on_exception=async_handler)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await cancel_and_wait(fetch("a"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await cancel_and_wait([task])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    async with task_scope(drian=5):  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
        pass
    async with task_scope(on_exception=async_handler):  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        pass
    async with task_scope() as scope:
        scope.launch(fetch)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        scope.launch(task)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        scope.launch(fetch("a"), on_exception=async_handler)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        scope.wait()  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]
        await scope.wait("5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        await scope.cancel()  # type: ignore[func-returns-value, misc]  # pyright: ignore[reportGeneralTypeIssues]
        scope.tasks.add(task)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]

    RetryDelayer(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    RetryDelayer().sleep()  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]


async def async_subscriber(event: Event) -> None: ...


def wrong_reports(loop: asyncio.AbstractEventLoop) -> None:
    subscribe(async_subscriber)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    subscribe(one_argument)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    loop.call_soon(fetch_watched, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@watched
async def save() -> None: ...


async def trees(sup: Supervisor, child: Child) -> None:
    await sup.start(plain)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await sup.start(save)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await sup.start(fetch(""))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await sup.start(fetch, "", name=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Supervisor("shop", strategy="all")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Supervisor()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    supervised(heartbeat="5")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    supervised(ready=None)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    child.state = ChildState.DONE  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


# The program.


@entry_point
async def main(url: str) -> int:
    return 1


async def wrong_programs() -> None:
    run(fetch)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    run(fetch, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    run(fetch("a"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    run(plain, "a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    run(fetch, "a", grase=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    run(fetch, "a", grace="1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    run(main, "a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    text: str = run(fetch, "a")  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    main(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await main("a")  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
    entry_point(plain)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
    entry_point(stream)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
    entry_point(main)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
    entry_point(grase=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    supervised(main)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    await stopping()  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
    print(text)


def looks() -> None:
    dump_on_signal("USR1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    watch_loop("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    watch_loop().lag = 1  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    health().live = True  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    run(fetch, "a", dump_signal="USR1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    entry_point(watch_loop="1")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    snapshot(7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    snapshot().count = 7  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
