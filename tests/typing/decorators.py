"""What type checkers make of the decorators. Never run: mypy and pyright read it.

A decorated function keeps its parameters, its result, and all else that a checker knows of it.
"""

from __future__ import annotations

import asyncio
import functools
from abc import ABC, abstractmethod
from asyncio import Task
from collections.abc import Callable, Coroutine
from typing import Any, Generic, Protocol, Self, TypeVar, assert_type, overload

from async_plus import ignore, impatient, supervised, watched

_T = TypeVar("_T")


class Fetch(Protocol):
    """The parameters that every function below must keep, by their names and kinds."""

    def __call__(self, url: str, /, size: int = 1, *rest: bytes, limit: float) -> Coroutine[Any, Any, list[str]]: ...


class LaunchFetch(Protocol):
    def __call__(self, url: str, /, size: int = 1, *rest: bytes, limit: float) -> Task[list[str]]: ...


async def fetch(url: str, /, size: int = 1, *rest: bytes, limit: float) -> list[str]:
    return [url]


# Functions.


@supervised
async def fetch_supervised(url: str, /, size: int = 1, *rest: bytes, limit: float) -> list[str]:
    return [url]


@supervised(
    delays=[0, 1.5],
    random_shift=1,
    reset_after=60,
    on=(OSError, TimeoutError),
    restart="always",
    max_restarts=5,
    name="fetch",
)
async def fetch_supervised_with_options(url: str, /, size: int = 1, *rest: bytes, limit: float) -> list[str]:
    return [url]


@impatient(log_after=5, log_completion="always", log_level=10, stacklevel=1, name="fetch")
async def fetch_impatient(url: str, /, size: int = 1, *rest: bytes, limit: float) -> list[str]:
    return [url]


@watched
async def fetch_watched(url: str, /, size: int = 1, *rest: bytes, limit: float) -> list[str]:
    return [url]


@watched(name="fetch", on_exception=ignore)
async def fetch_watched_with_options(url: str, /, size: int = 1, *rest: bytes, limit: float) -> list[str]:
    return [url]


kept: list[Fetch] = [fetch_supervised, fetch_supervised_with_options, fetch_impatient]
launched: list[LaunchFetch] = [fetch_watched, fetch_watched_with_options, watched(fetch), watched()(fetch)]


async def functions() -> None:
    assert_type(await fetch_supervised("a", 1, b"", limit=1.0), list[str])
    assert_type(await fetch_supervised_with_options("a", limit=1), list[str])
    assert_type(await fetch_impatient("a", limit=1), list[str])
    assert_type(fetch_watched("a", limit=1), Task[list[str]])
    assert_type(await fetch_watched_with_options("a", limit=1), list[str])

    # A decorator with its options serves more than one function.
    patiently = impatient(log_after=5)
    restarted = supervised(delays=[1])
    in_background = watched(name="job")
    assert_type(await patiently(fetch)("a", limit=1), list[str])
    assert_type(await patiently(count)(), int)
    assert_type(await restarted(fetch)("a", limit=1), list[str])
    assert_type(await restarted(count)(), int)
    assert_type(in_background(fetch)("a", limit=1), Task[list[str]])
    assert_type(in_background(count)(), Task[int])


async def count() -> int:
    return 1


# What `on` takes.


def seconds_to_wait(exc: BaseException) -> float:
    return 1.5


async def restart_on() -> None:
    supervised(on=OSError)
    supervised(on=(OSError, ValueError))
    supervised(on=seconds_to_wait)
    supervised(on=lambda exc: not isinstance(exc, ValueError))


# What `on_exception` takes.


def report(task: Task[Any], exc: BaseException) -> None: ...


async def handlers() -> None:
    watched(on_exception=report)
    watched(on_exception=None)
    watched(on_exception=lambda task, exc: print(task.get_name(), exc))
    watched(on_exception=functools.partial(print, "failed"))


# Stacked, in any order but over @watched.


@watched(name="fetch")
@supervised
@impatient(log_after=5)
async def fetch_stacked(url: str, /, size: int = 1, *rest: bytes, limit: float) -> list[str]:
    return [url]


@watched
@impatient(log_after=5)
@supervised(delays=[1])
async def fetch_stacked_otherwise(url: str, /, size: int = 1, *rest: bytes, limit: float) -> list[str]:
    return [url]


launched = [fetch_stacked, fetch_stacked_otherwise]


# Generic and overloaded functions stay so.


@supervised
async def first_supervised(items: list[_T]) -> _T:
    return items[0]


@impatient(log_after=5)
async def first_impatient(items: list[_T]) -> _T:
    return items[0]


@watched
async def first_watched(items: list[_T]) -> _T:
    return items[0]


@watched(name="first")
async def first_watched_with_options(items: list[_T]) -> _T:
    return items[0]


@overload
async def parse(text: str) -> int: ...
@overload
async def parse(text: bytes) -> float: ...
async def parse(text: str | bytes) -> int | float:
    return 1


async def generics() -> None:
    assert_type(await first_supervised([1]), int)
    assert_type(await first_supervised(["a"]), str)
    assert_type(await first_impatient([1]), int)
    assert_type(await first_impatient(["a"]), str)
    assert_type(first_watched([1]), Task[int])
    assert_type(first_watched(["a"]), Task[str])
    assert_type(first_watched_with_options(["a"]), Task[str])

    parse_supervised = supervised(parse)
    assert_type(await parse_supervised("1"), int)
    assert_type(await parse_supervised(b"1"), float)
    parse_impatient = impatient(log_after=1)(parse)
    assert_type(await parse_impatient("1"), int)
    assert_type(await parse_impatient(b"1"), float)
    parse_watched = watched(parse)
    assert_type(parse_watched("1"), Task[int])
    assert_type(parse_watched(b"1"), Task[float])


# Methods of every kind, with the decorator above and below.


class Service:
    @supervised
    async def poll(self, url: str) -> int:
        return 1

    @impatient(log_after=5)
    async def load(self, url: str) -> int:
        return 1

    @watched
    async def save(self, url: str) -> int:
        return 1

    @watched(name="save")
    async def save_with_options(self, url: str) -> int:
        return 1

    @supervised
    @classmethod
    async def class_above(cls, url: str) -> Self:
        return cls()

    @classmethod
    @supervised(delays=[1])
    async def class_below(cls, url: str) -> Self:
        return cls()

    @impatient(log_after=5)
    @classmethod
    async def class_impatient_above(cls, url: str) -> int:
        return 1

    @watched
    @classmethod
    async def class_watched_above(cls, url: str) -> int:
        return 1

    @watched(name="save")
    @classmethod
    async def class_watched_above_with_options(cls, url: str) -> int:
        return 1

    @classmethod
    @watched
    async def class_watched_below(cls, url: str) -> int:
        return 1

    @supervised
    @staticmethod
    async def static_above(url: str) -> int:
        return 1

    @staticmethod
    @impatient(log_after=5)
    async def static_below(url: str) -> int:
        return 1

    @watched
    @staticmethod
    async def static_watched_above(url: str) -> int:
        return 1

    @watched(name="save")
    @staticmethod
    async def static_watched_above_with_options(url: str) -> int:
        return 1

    @staticmethod
    @watched
    async def static_watched_below(url: str) -> int:
        return 1

    @property
    @supervised
    async def status(self) -> int:
        return 1

    @supervised
    async def __call__(self, url: str) -> int:
        return 1

    poll_home = functools.partialmethod(poll, "/")


async def methods(service: Service) -> None:
    assert_type(await service.poll("a"), int)
    assert_type(await Service.poll(service, "a"), int)
    assert_type(await service.load("a"), int)
    assert_type(service.save("a"), Task[int])
    assert_type(Service.save(service, "a"), Task[int])
    assert_type(service.save_with_options("a"), Task[int])

    assert_type(await service.class_above("a"), Service)
    assert_type(await Service.class_above("a"), Service)
    assert_type(await Service.class_below("a"), Service)
    assert_type(await Special.class_below("a"), Special)
    assert_type(await Service.class_impatient_above("a"), int)
    assert_type(Service.class_watched_above("a"), Task[int])
    assert_type(service.class_watched_above("a"), Task[int])
    assert_type(Service.class_watched_above_with_options("a"), Task[int])
    assert_type(Service.class_watched_below("a"), Task[int])

    assert_type(await service.static_above("a"), int)
    assert_type(await Service.static_above("a"), int)
    assert_type(await Service.static_below("a"), int)
    assert_type(Service.static_watched_above("a"), Task[int])
    assert_type(service.static_watched_above("a"), Task[int])
    assert_type(Service.static_watched_above_with_options("a"), Task[int])
    assert_type(Service.static_watched_below("a"), Task[int])

    assert_type(await service.status, int)
    assert_type(await service("a"), int)
    assert_type(await service.poll_home(), int)

    # Bound methods, decorated on the spot.
    assert_type(await supervised(service.poll)("a"), int)
    assert_type(await impatient(log_after=5)(service.poll)("a"), int)
    assert_type(watched(service.poll)("a"), Task[int])
    assert_type(watched(Service.class_below)("a"), Task[Service])


class Special(Service):
    @impatient(log_after=5)
    async def poll(self, url: str) -> int:
        return await super().poll(url)

    @watched
    async def save(self, url: str) -> int:
        return await super().save(url)


class Base(ABC):
    @abstractmethod
    @supervised
    async def poll(self, url: str) -> int: ...

    @watched
    @abstractmethod
    async def save(self, url: str) -> int: ...


class Concrete(Base):
    async def poll(self, url: str) -> int:
        return 1

    @watched
    async def save(self, url: str) -> int:
        return 1


class Pollable(Protocol):
    async def poll(self, url: str) -> int: ...


pollables: list[Pollable] = [Service(), Concrete()]


class Box(Generic[_T]):
    def __init__(self, item: _T) -> None:
        self.item = item

    @supervised
    async def get(self) -> _T:
        return self.item

    @watched
    async def get_watched(self) -> _T:
        return self.item


async def generic_classes(box: Box[int]) -> None:
    assert_type(await box.get(), int)
    assert_type(box.get_watched(), Task[int])


# Partials and objects.


class Poller:
    interval = 1.0

    async def __call__(self, url: str) -> int:
        return 1


async def partials_and_objects() -> None:
    poller = supervised(Poller())
    assert_type(poller, Poller)
    assert_type(await poller("a"), int)
    assert_type(poller.interval, float)
    assert_type(await impatient(log_after=5)(Poller())("a"), int)
    assert_type(watched(Poller())("a"), Task[int])
    assert_type(watched(name="poll")(Poller())("a"), Task[int])

    assert_type(await supervised(functools.partial(fetch, "a", limit=1))(), list[str])
    assert_type(await impatient(log_after=5)(functools.partial(fetch, "a", limit=1))(), list[str])
    assert_type(watched(functools.partial(fetch, "a", limit=1))(), Task[list[str]])


# The loop's callbacks take what @watched makes.


async def callbacks(loop: asyncio.AbstractEventLoop, service: Service) -> None:
    loop.call_soon(service.save, "a")
    loop.call_later(1, first_watched, [1])
    loop.add_signal_handler(15, Service.class_watched_above, "a")


# They go where any coroutine function goes.


async def run_all(*jobs: Callable[[], Coroutine[Any, Any, _T]]) -> list[_T]:
    return [await job() for job in jobs]


async def as_arguments() -> None:
    assert_type(await run_all(supervised(count), impatient(log_after=5)(count)), list[int])
