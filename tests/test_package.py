"""What a user imports: the public names, the version, the marker for type checkers, and the cost."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

import async_plus
import async_plus.prometheus
import async_plus.testing

PUBLIC = [
    "AttemptFailed",
    "AttemptHung",
    "AttemptReady",
    "AttemptReturned",
    "AttemptStarted",
    "BlockOver",
    "Child",
    "ChildState",
    "Event",
    "GaveUp",
    "HandlerFailed",
    "Health",
    "Hung",
    "LateFailure",
    "LongWait",
    "LoopBlocked",
    "LoopWatch",
    "NotifyFailed",
    "Parked",
    "Place",
    "RetryDelayer",
    "ScopeInfo",
    "ServiceInfo",
    "SiblingsRestarted",
    "SignalDump",
    "Snapshot",
    "StopForced",
    "StopRequested",
    "Stopped",
    "StuckTask",
    "StuckTasks",
    "SubscriberFailed",
    "Supervisor",
    "SupervisorInfo",
    "TaskCancelled",
    "TaskFailed",
    "TaskInfo",
    "ThreadsLeft",
    "UnexpectedCancellation",
    "WaitCycle",
    "WaitInfo",
    "WaitOver",
    "WouldNotStop",
    "__version__",
    "cancel_and_wait",
    "dump_on_signal",
    "entry_point",
    "health",
    "heartbeat",
    "ignore",
    "impatient",
    "launch_watched",
    "ready",
    "register_waiter",
    "result_of",
    "run",
    "snapshot",
    "stopping",
    "subscribe",
    "supervised",
    "task_scope",
    "try_gather",
    "watch_loop",
    "watched",
]


def test_the_public_names_are_exactly_these():
    """A name is added or removed on purpose only: here, in __all__ and in the changelog."""
    assert async_plus.__all__ == PUBLIC
    assert async_plus.prometheus.__all__ == ["SupervisionCollector"]
    assert async_plus.testing.__all__ == [
        "Leaks",
        "VirtualClock",
        "VirtualClockLoop",
        "no_leaks",
        "record_events",
        "snapshot_on_timeout",
        "virtual_clock",
    ]


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_exists_and_is_documented(name):
    """Each name in __all__ can be imported, and tells what it does and since when."""
    thing = getattr(async_plus, name)

    if name != "__version__":
        assert thing.__doc__
        assert ".. versionadded:: 1.0" in thing.__doc__


def test_public_names_are_sorted():
    """The list is kept in order, so that two branches that add a name rarely collide."""
    assert sorted(async_plus.__all__) == async_plus.__all__


def test_the_version_is_the_installed_one():
    """The version told by the package is the version told by pip."""
    assert async_plus.__version__ == importlib.metadata.version("async_plus")


def test_the_package_is_marked_as_typed():
    """Type checkers read the annotations of a package only if it holds py.typed."""
    assert Path(async_plus.__file__).with_name("py.typed").exists()


def test_importing_the_package_imports_nothing_heavy():
    """`import async_plus` brings in wrapt and the standard library, and none of the edges."""
    program = "import sys, async_plus; print(*{name.partition('.')[0] for name in sys.modules})"
    printed = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)

    loaded = set(printed.stdout.split()) - sys.stdlib_module_names
    assert {name for name in loaded if not name.startswith("_")} == {"async_plus", "wrapt"}


def test_what_most_programs_never_use_is_imported_when_it_is_asked_for():
    """It is found by its name all the same, by dir() and by an import of everything; what does not exist is not."""
    program = """
import sys, async_plus
late = ('async_plus.diagnostics', 'async_plus.supervision.supervisor', 'async_plus.supervision.child',
        'async_plus.engine.foreign', 'async_plus.runner.lifecycle', 'pickle', 'concurrent.futures.thread')
assert [name for name in sys.modules if name.startswith(late)] == []
assert set(async_plus.__all__) <= set(dir(async_plus))
assert 'Snapshot' in dir(async_plus)
from async_plus import *
assert snapshot is async_plus.snapshot
assert 'async_plus.diagnostics.snapshot' in sys.modules
"""
    subprocess.run([sys.executable, "-I", "-c", program], check=True)

    assert set(PUBLIC) <= set(dir(async_plus))
    with pytest.raises(AttributeError) as caught:
        async_plus.nothing  # noqa: B018  # asking is all
    assert str(caught.value) == "module 'async_plus' has no attribute 'nothing'"


def test_importing_the_package_imports_no_edge():
    """The edges are imported by those who use them."""
    program = "import sys, async_plus; print(*[name for name in sys.modules if name.startswith('async_plus.')])"
    printed = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)

    edges = {"async_plus.testing", "async_plus.prometheus", "async_plus.cli", "async_plus.__main__"}
    assert edges.isdisjoint(printed.stdout.split())
