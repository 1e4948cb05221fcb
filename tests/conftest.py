"""Every async test on every loop, and checks that no test leaves anything behind."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import signal

import hypothesis
import pytest
from loops import factories

from async_plus.testing import wants_virtual_time

pytest_plugins = ["async_plus.testing", "pytester", "shared_fixtures"]

# A deadline measures the machine. Found examples are kept as tests, so that a run on CI is the same every time.
hypothesis.settings.register_profile("dev", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # So it is for what a script starts in the background, "pytest &", and for the programs that the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption(
        "--chaos", type=int, default=2000, metavar="N", help="random programs for tests/test_chaos.py (default: 2000)"
    )


def pytest_asyncio_loop_factories(item):
    """Run each async test on the loops default, debug, eager (3.12+) and uvloop, or their virtual twins.

    A test for some of them only is marked ``@pytest.mark.asyncio(loop_factories=["default", ...])``.
    """
    return factories(virtual=wants_virtual_time(item))


def pytest_collection_modifyitems(config, items):
    """Leave out the tests for loops that this Python or this machine does not have."""
    here = [item for item in items if not _lacks_its_loop(item)]
    config.hook.pytest_deselected(items=[item for item in items if _lacks_its_loop(item)])
    items[:] = here


def _lacks_its_loop(item):
    marker = item.get_closest_marker("asyncio")
    wanted = marker and marker.kwargs.get("loop_factories")
    return bool(wanted) and set(wanted).isdisjoint(factories(virtual=False))


def pytest_collection_finish():
    # What is loaded by now stays. Frozen, it is no longer looked through by the gc.collect() that follows each test,
    # which makes that one 100 times as fast.
    gc.collect()
    gc.freeze()


_finished = itertools.count(1)


def pytest_runtest_logfinish():
    # So does what pytest keeps of each test. Left to grow, it takes most of the time of the suite.
    if next(_finished) % 100 == 0:
        gc.collect()
        gc.freeze()


@pytest.fixture(autouse=True)
def nothing_is_left_behind(no_leaks):
    return no_leaks


class Hang(SystemExit):
    """A test ran for too long. Of this kind, because nothing but a SystemExit stops every loop, uvloop too."""


@pytest.fixture(autouse=True)
def no_hang(request):
    """End a test that hangs on a real loop or outside of one. (A virtual loop knows by itself when nothing can run.)"""
    if not hasattr(signal, "setitimer"):  # Windows: there only faulthandler_timeout is left
        yield
        return

    marker = request.node.get_closest_marker("time_limit")
    limit = marker.args[0] if marker else 60

    def ring(signum, frame):
        from async_plus import stacks

        try:
            tasks = asyncio.all_tasks()
        except RuntimeError:
            tasks = set()
        parked = "".join(f"\n  {task.get_name()!r} {stacks.parked(task)}" for task in tasks)
        raise Hang(f"the test still runs after {limit} s{parked}")

    previous = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, limit)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, previous)
