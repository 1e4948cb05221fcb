"""Fixtures that several files share. conftest.py makes them known everywhere, so that nobody has to import them."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
import tools
from jobs import Job
from memory import Formatting
from programs import RecipeProgram
from runs import Program
from services import Diary, in_cleanup, plainly

from async_plus import cancel_and_wait, stacks
from async_plus.diagnostics import dump
from async_plus.events import subscribers


@pytest.fixture
def everything_is_logged(caplog):
    caplog.set_level(logging.DEBUG, logger="async_plus")


@pytest.fixture
def infos_are_logged(caplog):
    """But not each start of an attempt."""
    caplog.set_level(logging.INFO, logger="async_plus")


@pytest.fixture
def logger():
    """The library's logger, with whatever a test does to it undone."""
    logger = logging.getLogger("async_plus")
    handlers, filters, propagate = logger.handlers[:], logger.filters[:], logger.propagate
    yield logger
    logger.handlers[:], logger.filters[:], logger.propagate, logger.disabled = handlers, filters, propagate, False


@pytest.fixture
async def tasks():
    """Tasks that are cancelled in the end."""
    made = []
    yield made
    await cancel_and_wait(*made)


@pytest.fixture(params=[plainly, in_cleanup])
def hosting(request):
    """How a service is awaited. Each promise holds for both."""
    return request.param


@pytest.fixture
def diary():
    return Diary()


@pytest.fixture
def own_processes():
    """Processes that the test has started, each with its Popen as ``process``. None of them outlives the test."""
    programs = []
    yield programs
    for program in programs:
        with program.process as process:
            if process.poll() is None:
                process.kill()


@pytest.fixture
def start_program(own_processes):
    """Starts programs from their source."""

    def start(source, **env):
        own_processes.append(Program(source, **env))
        return own_processes[-1]

    return start


@pytest.fixture
def start_recipe(own_processes):
    """Starts recipes by their command lines."""

    def start(*command):
        own_processes.append(RecipeProgram(*command))
        return own_processes[-1]

    return start


@pytest.fixture
def exits(monkeypatch):
    """The codes that this process would have exited with."""
    codes = []

    def note(code):
        codes.append(code)

    monkeypatch.setattr(os, "_exit", note)
    # It would close the handlers of pytest itself.
    monkeypatch.setattr("logging.shutdown", lambda: codes.append("flushed"))
    return codes


@pytest.fixture
def patient_watchdog(monkeypatch):
    """The watchdog of run() does not come before the loop's own timer, on a busy machine too: it would end pytest."""
    monkeypatch.setattr("async_plus.runner.lifecycle._BLOCKED", 600)


@pytest.fixture
def written(monkeypatch):
    """What this process has written to its stderr, by its number."""
    pieces = []

    def write(fd, data):
        assert fd == 2
        pieces.append(bytes(data))
        return len(data)

    monkeypatch.setattr(dump.os, "write", write)
    return lambda: b"".join(pieces).decode()


@pytest.fixture
def no_handler_is_left():
    """No test leaves a handler of SIGUSR1 behind, nor a descriptor that signals are written to."""
    before = signal.getsignal(signal.SIGUSR1)
    yield
    assert signal.getsignal(signal.SIGUSR1) is before
    assert signal.set_wakeup_fd(-1) == -1


@pytest.fixture
def formatted_log(monkeypatch):
    """The lines of the log. On a logger of its own: pytest keeps each record, and with it the traceback."""
    logger = logging.Logger("async_plus")
    logger.addHandler(Formatting())
    monkeypatch.setattr(subscribers, "logger", logger)
    return logger.handlers[0].lines


@pytest.fixture
def no_garbage_collector():
    """What a cycle keeps alive is then seen to be alive."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def pool():
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture
def job():
    job = Job()
    yield job
    job.may_end.set()


@pytest.fixture
async def start():
    """Starts tasks, lets each run until it is parked, and cancels them in the end. Their errors count for nothing."""
    tasks = []

    async def start(coroutine, *, name=None, factory=asyncio.create_task):
        tasks.append(factory(coroutine))
        if name is not None:
            tasks[-1].set_name(name)
        await tools.turns(3)
        return tasks[-1]

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def park(tasks):
    """Starts coroutines in tasks with these names, lets each run until it is parked, and cancels them in the end."""

    async def park(**coroutines):
        for name, coroutine in coroutines.items():
            tasks.append(await tools.start(coroutine, name))
        return tasks[-1]

    return park


@pytest.fixture
def own_waiters(monkeypatch):
    """Lets the test register waiters on its own."""
    monkeypatch.setattr(stacks.waiters, "_registered", {})
    monkeypatch.setattr(stacks.waiters, "_children", dict(stacks.waiters._children))


@pytest.fixture
def run_suite(pytester, no_leaks):
    """Runs a test module of its own, with the plugin `async_plus.testing` switched on, and returns the outcome."""

    def run(source, *args, conftest='pytest_plugins = ["async_plus.testing"]\n', mode="auto", **options):
        pytester.makeini(
            f"[pytest]\nasyncio_mode = {mode}\nasyncio_default_fixture_loop_scope = function\n"
            "addopts = --strict-markers -p no:cacheprovider\nfilterwarnings = error"
        )
        pytester.makeconftest(conftest)
        pytester.makepyfile(source)
        result = pytester.runpytest_inprocess(*args, **options)
        # The inner suite's lost errors are logged in this process too, at the latest when the garbage goes.
        gc.collect()
        no_leaks.errors.clear()
        return result

    return run
