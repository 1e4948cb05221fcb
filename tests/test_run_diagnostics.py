"""What `run` does for diagnosis: the dump on a signal, and the watch of its loop."""

from __future__ import annotations

import asyncio
import signal
import threading

import pytest
from loops import each_loop
from runs import TERM, dump_of, each_loop_of_programs, said
from tools import Boom, fail, refused

from async_plus import entry_point, run
from async_plus.diagnostics.loop_watch import watches_of

USR1, USR2 = signal.SIGUSR1, signal.SIGUSR2


@each_loop_of_programs
@pytest.mark.parametrize(("state", "grace", "code"), [("idle", 10, 0), ("blocked", 0.2, 70)])
def test_a_process_tells_what_it_does_and_goes_on(start_program, factory, state, grace, code):
    """On SIGUSR1, with nothing to install. It can be stopped in order afterwards."""
    wait = {
        "idle": "asyncio.get_running_loop().call_soon(report); await asyncio.Event().wait()",
        "blocked": "report(); block()",
    }
    program = start_program(f"""
        async def feed():
            {wait[state]}

        run(feed, grace={grace}, {factory})
    """)
    program.wait_until_here()
    program.process.send_signal(USR1)

    lines = said(dump_of(program))

    assert lines[0] == "===== process N at T, on SIGUSR1 ====="
    assert any(line.startswith("  'feed' (feed)") for line in lines)
    program.process.send_signal(TERM)
    assert program.end()[0] == code


@pytest.fixture(autouse=True)
def handlers_are_put_back():
    before = [signal.getsignal(signum) for signum in (USR1, USR2)]
    yield
    assert [signal.getsignal(signum) for signum in (USR1, USR2)] == before


async def handlers():
    """Which of the two signals have a handler of ours."""
    return [type(getattr(signal.getsignal(signum), "__self__", None)).__name__ for signum in (USR1, USR2)]


class TestDumpSignal:
    @each_loop
    def test_it_is_sigusr1_unless_told_otherwise(self, loop_factory):
        """Another one, or none."""
        assert run(handlers, loop_factory=loop_factory) == ["SignalDump", "NoneType"]
        assert run(handlers, loop_factory=loop_factory, dump_signal=USR2) == ["NoneType", "SignalDump"]
        assert run(handlers, loop_factory=loop_factory, dump_signal=None) == ["NoneType", "NoneType"]
        assert entry_point(dump_signal=USR2)(handlers)() == ["NoneType", "SignalDump"]

    def test_a_handler_that_the_program_has_already_is_left_alone(self):
        """The signal means something else to it."""

        def theirs(signum, frame):
            pass

        earlier = signal.signal(USR1, theirs)
        try:
            assert run(handlers) == ["NoneType", "NoneType"]
            assert signal.getsignal(USR1) is theirs
        finally:
            signal.signal(USR1, earlier)

    def test_no_handler_is_touched_outside_of_the_main_thread(self):
        """As with those that stop the program."""
        found = []
        thread = threading.Thread(target=lambda: found.append(run(handlers)))
        thread.start()
        thread.join()
        assert found == [["NoneType", "NoneType"]]


class TestWatchLoop:
    @each_loop
    def test_the_loop_is_watched_to_its_end_if_that_is_wished(self, loop_factory):
        """By a thread, which then ends."""

        async def main():
            return watches_of(asyncio.get_running_loop())

        assert run(main, loop_factory=loop_factory) == ()
        [watch] = run(main, loop_factory=loop_factory, watch_loop=2)
        assert repr(watch) == "<LoopWatch threshold=2 stopped>"
        watch._thread.join()
        [watch] = entry_point(watch_loop=3, loop_factory=loop_factory)(main)()
        assert watch.threshold == 3

    def test_outside_of_the_main_thread_too(self):
        """It needs no signal."""

        async def main():
            return watches_of(asyncio.get_running_loop())

        found = []
        thread = threading.Thread(target=lambda: found.extend(run(main, watch_loop=2)))
        thread.start()
        thread.join()
        assert [watch.threshold for watch in found] == [2]

    def test_a_failure_is_raised_all_the_same(self):
        """The watch stops."""
        with pytest.raises(Boom):
            run(fail, Boom(), watch_loop=2)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"dump_signal": "USR1"}, TypeError, "dump_signal must be a signal such as signal.SIGUSR1, got str"),
        (
            {"dump_signal": TERM},
            ValueError,
            "dump_signal must be another signal than those that stop the program, got SIGTERM",
        ),
        ({"watch_loop": 0}, ValueError, "watch_loop must be a finite number of seconds > 0, got 0"),
        ({"watch_loop": True}, TypeError, "watch_loop must be a number of seconds, got bool True"),
    ],
)
def test_a_bad_option_is_refused(options, kind, message):
    """By its name, with the value that was given. Main is not even called."""

    async def main():
        raise AssertionError

    with refused(kind, message):
        run(main, **options)
    with refused(kind, message):
        entry_point(**options)
