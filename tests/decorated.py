"""The decorators in every form, and functions of a module of their own that other processes can import."""

from __future__ import annotations

import asyncio
import inspect
import sys

import pytest

import async_plus

# Each form by its name in the ids of tests: first those that keep a coroutine function, then those that do not.
KEEPING = {
    "supervised": async_plus.supervised,
    "supervised-options": async_plus.supervised(delays=[0], max_restarts=1),
    "impatient-options": async_plus.impatient(log_after=5),
    "supervised-over-impatient": lambda fn: async_plus.supervised(async_plus.impatient(log_after=5)(fn)),
    "impatient-over-supervised": lambda fn: async_plus.impatient(log_after=5)(async_plus.supervised(fn)),
}
LAUNCHING = {
    "watched": async_plus.watched,
    "watched-options": async_plus.watched(name="watched", on_exception=async_plus.ignore),
    "watched-over-supervised": lambda fn: async_plus.watched(async_plus.supervised(fn)),
    "watched-over-impatient": lambda fn: async_plus.watched(async_plus.impatient(log_after=5)(fn)),
    "watched-over-all": lambda fn: async_plus.watched(KEEPING["supervised-over-impatient"](fn)),
}
RUNNING = {
    "entry_point": async_plus.entry_point,
    "entry_point-options": async_plus.entry_point(grace=5),
    "entry_point-over-supervised": lambda fn: async_plus.entry_point(async_plus.supervised(fn)),
}
ALL = KEEPING | LAUNCHING | RUNNING

# Each alone and in a stack. The other forms differ in nothing that calls, classes or frameworks could see.
FEW = {
    form: ALL[form]
    for form in ("supervised", "impatient-options", "impatient-over-supervised", "watched", "watched-over-all")
}
FEW_KEEPING = {form: decorate for form, decorate in FEW.items() if form in KEEPING}
FEW_LAUNCHING = {form: decorate for form, decorate in FEW.items() if form in LAUNCHING}

any_decorator = pytest.mark.parametrize("decorate", ALL.values(), ids=ALL)
keeping_decorator = pytest.mark.parametrize("decorate", KEEPING.values(), ids=KEEPING)
launching_decorator = pytest.mark.parametrize("decorate", LAUNCHING.values(), ids=LAUNCHING)
plain_decorator = pytest.mark.parametrize("decorate", (LAUNCHING | RUNNING).values(), ids=LAUNCHING | RUNNING)
few_decorators = pytest.mark.parametrize("decorate", FEW.values(), ids=FEW)
few_keeping_decorators = pytest.mark.parametrize("decorate", FEW_KEEPING.values(), ids=FEW_KEEPING)
few_launching_decorators = pytest.mark.parametrize("decorate", FEW_LAUNCHING.values(), ids=FEW_LAUNCHING)

# Whoever asks whether something is a coroutine function asks one of these. (asyncio's own warns from 3.14 on.)
PREDICATES = [inspect.iscoroutinefunction] + ([asyncio.iscoroutinefunction] if sys.version_info < (3, 14) else [])


def is_coroutine_function(thing):
    """What all predicates say of *thing*, which had better be the same."""
    [answer] = {predicate(thing) for predicate in PREDICATES}
    return answer


class Url:
    """A type for annotations, known to this module only."""


async def fetch(url: Url, /, size: int = 1, *rest: bytes, limit: float = 2.5, **options: str) -> list[Url]:
    """Fetch it."""
    return [url, size, rest, limit, options]


class Poller:
    """An object that is called like a coroutine function."""

    def __init__(self, interval=1):
        self.interval = interval

    async def __call__(self, url):
        return (url, self.interval)


@async_plus.supervised
async def supervised_function(url):
    return ("supervised", url)


@async_plus.impatient(log_after=5)
async def impatient_function(url):
    return ("impatient", url)


@async_plus.watched
async def watched_function(url):
    return ("watched", url)


@async_plus.entry_point
async def entry_point_function(url):
    return ("entry_point", url)


class Service:
    @async_plus.supervised
    async def supervised_method(self, url):
        return ("method", url)

    @async_plus.watched
    async def watched_method(self, url):
        return ("method", url)

    @async_plus.supervised
    @classmethod
    async def class_method(cls, url):
        return (cls.__name__, url)

    @staticmethod
    @async_plus.impatient(log_after=5)
    async def static_method(url):
        return ("static", url)


# Each can be found under its module and qualified name.
PICKLABLE = [
    supervised_function,
    impatient_function,
    watched_function,
    entry_point_function,
    Service.supervised_method,
    Service.watched_method,
    Service.static_method,
]


def run(fn, *args):
    """Run the coroutine function *fn* to its end, as the main function of another process would."""

    async def main():
        return await fn(*args)

    return asyncio.run(main())
