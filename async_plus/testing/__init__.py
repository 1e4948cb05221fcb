"""Help for testing asyncio code: a clock that jumps, a check that nothing is left behind, a look at what hangs.

It is a pytest plugin and needs pytest-asyncio 1.4 or newer. Switch it on in the topmost ``conftest.py``::

    pytest_plugins = ["async_plus.testing"]

Nothing happens to a test that does not ask for it:

`virtual_clock`, or the marker ``virtual_time``
    The test runs on a loop whose time stands still while anything can run and otherwise jumps to the next timer. An
    hour of waiting takes no time at all, and always the same hour::

        async def test_feed_waits_a_minute_after_the_third_failure(virtual_clock):
            await run_feed_that_fails(times=3)
            assert virtual_clock.elapsed == 70

    Where it could only hang, it fails, and shows what all tasks are doing.
`no_leaks`
    The test fails if it leaves a task running, an error unseen or a coroutine never awaited.
`snapshot_on_timeout`
    If the test fails because its time is up, it shows what all tasks were doing then.
`record_events`
    A ``with`` block that records what async_plus notices.

Fixtures that all tests of a project should have are named in its settings: ``usefixtures = no_leaks``.

A project that chooses its loops itself (the hook ``pytest_asyncio_loop_factories``) names `VirtualClockLoop` there.

PYTEST_DONT_REWRITE, because pytest would otherwise warn when a ``conftest.py`` both imports this and switches it on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING

import pytest

try:
    from async_plus.testing import loops

    # pytest finds the fixtures here, those that others are made of too.
    from async_plus.testing.clock import VirtualClock, VirtualClockLoop, virtual_clock
    from async_plus.testing.items import failed, set_up_first
    from async_plus.testing.leaks import Leaks, no_leaks
    from async_plus.testing.leaks import _no_tasks_left as _no_tasks_left
    from async_plus.testing.timeouts import look_before_alarm, snapshot_on_timeout, take_section
except ModuleNotFoundError as exc:
    if exc.name != "pytest_asyncio":
        raise
    fix = "pip install 'pytest-asyncio>=1.4'"
    raise ModuleNotFoundError(f"async_plus.testing needs pytest-asyncio 1.4 or newer ({fix})", name=exc.name) from None

if TYPE_CHECKING:
    from async_plus.events import Event

__all__ = [
    "Leaks",
    "VirtualClock",
    "VirtualClockLoop",
    "no_leaks",
    "record_events",
    "snapshot_on_timeout",
    "virtual_clock",
]


@contextlib.contextmanager
def record_events() -> Generator[list[Event], None, None]:
    """Record what async_plus notices inside the block, in order.

        with record_events() as events:
            await feed()
        assert [type(event) for event in events] == [AttemptStarted, AttemptFailed, AttemptStarted]

    Logging and other subscribers go on undisturbed.

    .. versionadded:: 1.0
    """
    from async_plus.events import subscribe

    events: list[Event] = []
    unsubscribe = subscribe(events.append)
    try:
        yield events
    finally:
        unsubscribe()


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, and the fixtures that nobody asks for by name."""
    config.pluginmanager.register(loops)
    config.addinivalue_line(
        "markers", "virtual_time: run the test on a loop whose time jumps, with all clocks frozen at 1970-01-02"
    )


# Last: a project's own choice of loops goes first. Optional: without pytest-asyncio nobody knows the hook.
@pytest.hookimpl(optionalhook=True, trylast=True)
def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Choose the virtual loop for the tests that want it."""
    return {"virtual": VirtualClockLoop} if wants_virtual_time(item) else {"default": asyncio.new_event_loop}


def pytest_itemcollected(item: pytest.Item) -> None:
    """Freeze the clocks for a test that is marked, too, and have `no_leaks` look when the other fixtures are gone."""
    if not isinstance(item, pytest.Function):  # a doctest, say
        return
    if "no_leaks" in item.fixturenames:
        set_up_first(item, "no_leaks")
    if item.get_closest_marker("virtual_time") and "virtual_clock" not in item.fixturenames:
        set_up_first(item, "virtual_clock")


def wants_virtual_time(item: pytest.Item) -> bool:
    """Whether *item* is marked ``virtual_time`` or asks for the `virtual_clock` fixture."""
    return bool(item.get_closest_marker("virtual_time")) or "virtual_clock" in getattr(item, "fixturenames", [])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let `no_leaks` not judge a test that Ctrl-C or pytest.exit() has broken off.

    There is no report of it, and its fixtures end when the whole run does, where one more failure would cost the user
    the reports of all earlier ones.
    """
    try:
        return (yield)
    except (KeyboardInterrupt, pytest.exit.Exception):
        item.stash[failed] = True
        raise


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Forget the last run of a test that is run once more."""
    item.stash[failed] = False


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember a failure, so that `no_leaks` does not report its debris as well, and tell what had hung."""
    report = yield
    # An xfail that fails as it should counts as skipped by now.
    has_failed = report.failed or (call.excinfo is not None and hasattr(report, "wasxfail"))
    item.stash[failed] = item.stash.get(failed, False) or has_failed
    seen = take_section(item, call.excinfo)
    if report.failed and seen:
        report.sections.append(("async_plus snapshot", seen))
    return report


# Optional: without pytest-timeout nobody knows the hook.
@pytest.hookimpl(optionalhook=True, wrapper=True)
def pytest_timeout_set_timer(item: pytest.Item) -> Generator[None, object, object]:
    """Look at the tasks before pytest-timeout ends a test that asks for it."""
    return (yield from look_before_alarm(item))
