"""Small coroutines that tests are made of, and short views on what came of them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import logging
import types
from numbers import Integral

import pytest

from async_plus.engine.per_loop import per_loop
from async_plus.engine.watch import Watcher


class Boom(Exception):  # noqa: N818  # its name is read in log lines
    """What goes wrong in a test."""


class Bang(Exception):  # noqa: N818
    """What goes wrong besides."""


class SecretError(Exception):
    """Its text is a secret, as that of any exception may be."""

    def __init__(self):
        super().__init__("the password is swordfish")


@contextlib.contextmanager
def refused(kind, message):
    """Check that the block raises an error of exactly this kind with exactly this text."""
    with pytest.raises(kind) as caught:
        yield
    assert (type(caught.value), str(caught.value)) == (kind, message)


async def turns(count=10):
    """Let the other tasks run until they are parked."""
    for _ in range(count):
        await asyncio.sleep(0)


def futures(count):
    """Futures of the running loop."""
    loop = asyncio.get_running_loop()
    return [loop.create_future() for _ in range(count)]


async def start(coroutine, name=None):
    """Start a task, and let it run until it is parked."""
    task = asyncio.create_task(coroutine)
    await turns()
    if name is not None:
        # Not before: an eager task is named when its first step is over.
        task.set_name(name)
    return task


async def after(awaitable, outcome=None):
    """Wait for *awaitable*, then raise *outcome* if it is an exception or a class of them, or return it."""
    await awaitable
    if isinstance(outcome, BaseException) or (isinstance(outcome, type) and issubclass(outcome, BaseException)):
        raise outcome
    return outcome


async def noting(log, name, coroutine):
    """Note in *log* the end of *coroutine*, after the exception if there is one."""
    try:
        return await coroutine
    except BaseException as exc:
        log.append((name, type(exc).__name__))
        raise
    finally:
        log.append((name, "ended"))


async def numbers():
    yield 1
    yield 2


async def give(value):
    """Return at once."""
    return value


async def fail(error):
    """Raise at once."""
    raise error


def raise_secret(*_):
    raise SecretError


async def crash(seconds, kind=Boom):
    """Raise an exception that no variable refers to, so that it is in no reference cycle. Never in the first step."""
    await asyncio.sleep(seconds)
    raise kind


async def async_handler(task, exc):
    """No handler of exceptions: those are synchronous."""


async def forever():
    """Wait until somebody cancels."""
    await asyncio.get_running_loop().create_future()


async def fail_when_cancelled(error, name=None):
    """Turn a cancellation into *error*, in a task that then has *name*."""
    try:
        await forever()
    finally:
        if name is not None:
            # Not before: an eager task is named when its first step is over.
            asyncio.current_task().set_name(name)
        raise error


async def outlast(released):
    """Ignore each cancellation until the future *released* is done, and return its result."""
    while not released.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([released])
    return released.result()


def messages(caplog):
    """The level and text of each record so far."""
    return [(record.levelname, record.getMessage()) for record in caplog.records]


def elapsed():
    """The seconds on the virtual clock since the test began."""
    return asyncio.get_running_loop().clock.elapsed


def watched():
    """How many tasks the running loop keeps alive for `launch_watched`."""
    return len(per_loop(asyncio.get_running_loop(), Watcher)._live)


def closed(coroutine):
    """Whether *coroutine* has ended, be it that it ran or was closed."""
    return inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED


class Awaitable:
    """An awaitable that is neither a coroutine nor a future."""

    def __init__(self, coroutine):
        self.coroutine = coroutine

    def __await__(self):
        return self.coroutine.__await__()


class Lookalike:
    """A coroutine by its methods only, as those of Cython and of aiohttp's ``session.get()`` are."""

    def __init__(self, coroutine):
        self.coroutine = coroutine

    def __await__(self):
        return self.coroutine.__await__()

    def send(self, value):
        return self.coroutine.send(value)

    def throw(self, *error):
        return self.coroutine.throw(*error)

    def close(self):
        self.coroutine.close()


@types.coroutine
def generator_based(coroutine):
    """A coroutine in the style of old, which Python never warns of."""
    return (yield from coroutine.__await__())


@contextlib.contextmanager
def no_garbage():
    """Check that the block leaves no reference cycles of asynchronous code or exceptions behind."""
    gc.collect()
    gc.disable()
    try:
        yield
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        kinds = (asyncio.Future, BaseException, types.FrameType, types.CoroutineType)
        found = [type(thing).__name__ for thing in gc.garbage if isinstance(thing, kinds)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert not found, found


@contextlib.contextmanager
def no_garbage_of_reports():
    """Do the same for a block that logs something, with a log that forgets each record as files do."""
    logger = logging.getLogger("async_plus")
    # In the test itself: to a logger that was like this before, pytest adds handlers of its own.
    with pytest.MonkeyPatch.context() as patch, no_garbage():
        patch.setattr(logger, "handlers", [logging.NullHandler()])
        patch.setattr(logger, "propagate", False)
        yield


def here(offset=0):
    """The place of the call, *offset* lines further down, as ``(pathname, lineno, function)``."""
    caller = inspect.currentframe().f_back
    return caller.f_code.co_filename, caller.f_lineno + offset, caller.f_code.co_name


def site_of(record):
    """The place that a log record gives."""
    return record.pathname, record.lineno, record.funcName


def facts_of(record):
    """What of a log record is ours, without the prefix."""
    return {key.removeprefix("async_plus_"): value for key, value in vars(record).items() if key.startswith("async_")}


class Numberlike:
    """What numpy's whole numbers look like from here."""

    def __init__(self, number):
        self.number = number

    def __index__(self):
        return self.number

    def __float__(self):
        return float(self.number)


Integral.register(Numberlike)


# Of a conftest.py: runs each test twice, as plugins do that give a failed test one more chance.
RUN_TWICE = """
from _pytest.runner import runtestprotocol

def pytest_runtest_protocol(item, nextitem):
    runtestprotocol(item, nextitem=nextitem)
    item._initrequest()
    runtestprotocol(item, nextitem=nextitem)
    return True
"""
