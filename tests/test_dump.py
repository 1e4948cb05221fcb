"""`dump_on_signal`: what a program is doing, asked from outside, whatever it hangs in."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import select
import signal
import sys
import textwrap
import threading
import types

import pytest
from runs import dump_of, each_loop_of_programs, said, tell_to_stop
from tools import forever, here, refused, start, turns

from async_plus import cancel_and_wait, dump_on_signal
from async_plus.diagnostics import dump

USR1, USR2 = signal.SIGUSR1, signal.SIGUSR2

pytestmark = pytest.mark.usefixtures("no_handler_is_left")

# In a process of its own. What it does is signalled in the middle, and ends when the dump has been written.
DOES = {
    "is idle": """
        async def main():
            dump_on_signal()
            asyncio.get_running_loop().call_soon(os.write, 1, b"here\\n")
            await asyncio.Event().wait()
    """,
    "is blocked in C": """
        async def main():
            dump_on_signal()
            os.write(1, b"here\\n")
            while True: time.sleep(0.01)    # a signal that comes just before a sleep does not end it
    """,
    "is blocked in Python": """
        async def main():
            dump_on_signal()
            os.write(1, b"here\\n")
            while True: pass
    """,
    "is blocked in a lock": """
        async def main():
            lock = threading.Lock()
            lock.acquire()
            dump_on_signal()
            os.write(1, b"here\\n")
            while True: lock.acquire(timeout=0.01)
    """,
}


class TestRealProcesses:
    @each_loop_of_programs
    @pytest.mark.parametrize("state", DOES)
    def test_a_signal_makes_it_tell_what_it_does(self, start_program, state, factory):
        """Whatever that is; and it goes on, so that it can be asked again."""
        run = f"""
            with asyncio.Runner({factory}) as runner:
                runner.run(main())
        """
        program = start_program("import threading\n" + textwrap.dedent(DOES[state]) + textwrap.dedent(run))
        program.wait_until_here()

        for _ in range(2):
            program.process.send_signal(USR1)
            lines = said(dump_of(program))
            assert lines[0] == "===== process N at T, on SIGUSR1 ====="
            assert any("Task-1" in line for line in lines)
            at = lines.index("main thread")
            assert lines[at + 1] == "  <string>:N in <module>"
            if state == "is idle":
                # The line at which the loop sleeps.
                [inside] = lines[at + 2 : -1]
                assert "<string>" not in inside
            else:
                assert lines[at + 2 : -1] == ["  <string>:N in main"]
        assert program.process.poll() is None


class TestDump:
    async def test_it_tells_of_the_tasks_and_where_the_main_thread_is(self, written):
        """A head that tells which process and when, the snapshot, the stack, and an end to look for."""
        task = await start(forever(), "parked")
        with dump_on_signal():
            tell_to_stop(USR1)
            at = here(-1)
        task.cancel()

        first, *lines, last, nothing = written().split("\n")
        now = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [-+]\d{4}"
        assert re.fullmatch(rf"===== process {os.getpid()} at {now}, on SIGUSR1 =====", first)
        assert any("'parked'" in line for line in lines)
        # The call that sends the signal is the innermost one.
        assert lines[-2].endswith(f"{at[0]}:{at[1]} in {at[2]}")
        assert "in tell_to_stop" in lines[-1]
        assert (last, nothing) == ("===== end of the dump =====", "")

    async def test_other_threads_are_told_by_the_users_lines_they_are_at(self, written):
        """One that runs nothing of the user's is not worth a line."""
        entered, leave = threading.Event(), threading.Event()

        def work():
            entered.set()
            leave.wait()

        idle = asyncio.to_thread(str)
        await idle
        thread = threading.Thread(target=work, name="worker")
        thread.start()
        entered.wait()
        with dump_on_signal():
            tell_to_stop(USR1)
        leave.set()
        thread.join()

        lines = said(written().split("\n"))
        assert lines[-5:-2] == ["", "thread 'worker'", f"  {__file__}:N in work"]
        assert sum(line.startswith("thread ") for line in lines) == 1

    async def test_a_thread_that_python_did_not_start_is_told_by_its_number(self, written, monkeypatch):
        """It is in no list of names."""
        monkeypatch.setattr(threading, "_active", {})
        frame = sys._getframe()
        monkeypatch.setattr(dump.sys, "_current_frames", lambda: {7: frame})
        with dump_on_signal():
            tell_to_stop(USR1)

        assert "thread 7" in written().split("\n")

    async def test_a_deep_recursion_is_cut(self, written):
        """To the calls next to where it is."""

        def deeper(levels):
            deeper(levels - 1) if levels else tell_to_stop(USR1)

        with dump_on_signal():
            deeper(50)

        lines = written().split("\n")
        stack = lines[lines.index("main thread") + 1 : -2]
        assert len(stack) == 31
        assert re.fullmatch(r"  \.\.\. \d+ more", stack[0])
        assert [line.rpartition(" ")[2] for line in stack[1:]] == ["deeper"] * 29 + ["tell_to_stop"]

    def test_without_a_loop_it_tells_that(self, written):
        """The main thread may have left its loop, or not come to one yet."""
        with dump_on_signal():
            tell_to_stop(USR1)

        assert written().split("\n")[1] == "no event loop is running in the main thread"

    def test_a_loop_of_another_thread_is_given(self, written):
        """The main thread handles the signal, and looks there."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        future = asyncio.run_coroutine_threadsafe(start(forever(), "parked"), loop)
        task = future.result()
        with dump_on_signal(loop=loop):
            tell_to_stop(USR1)
        asyncio.run_coroutine_threadsafe(cancel_and_wait(task), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

        assert "'parked'" in written()

    async def test_a_forked_child_has_no_loop(self, written, monkeypatch):
        """It has the handler, and a copy of tasks that nobody runs."""
        with dump_on_signal():
            process = os.getpid()
            monkeypatch.setattr(dump.os, "getpid", lambda: process + 1)
            tell = signal.raise_signal
            tell(USR1)

        assert written().split("\n")[1] == f"forked from process {process}, whose event loop does not run here"

    async def test_another_signal_may_be_chosen(self, written):
        """SIGUSR1 may mean something else to the program."""
        with dump_on_signal(USR2):
            tell_to_stop(USR2)
        with dump_on_signal(signal.SIGRTMIN + 1):
            signal.raise_signal(signal.SIGRTMIN + 1)

        heads = [line for line in written().split("\n") if line.startswith("===== process")]
        assert heads[0].endswith("on SIGUSR2 =====")
        assert heads[1].endswith(f"on signal {signal.SIGRTMIN + 1} =====")

    async def test_what_goes_wrong_is_told_and_never_raised(self, written, monkeypatch):
        """The handler has interrupted somebody who has nothing to do with it."""

        def fail(loop):
            raise RecursionError("swordfish")

        monkeypatch.setattr(dump, "snapshot", fail)
        with dump_on_signal():
            tell_to_stop(USR1)

        _, *lines, _ = written().split("\n")
        assert lines == ["the dump failed with RecursionError", "===== end of the dump ====="]

    async def test_signals_during_a_dump_are_answered_by_one_more(self, written, monkeypatch):
        """Two dumps would be mixed up, but whoever asks when one is all but written gets another one."""
        signals = iter([2, 0, 0])

        def look(loop):
            for _ in range(next(signals)):
                tell_to_stop(USR1)
            return "the tasks"

        monkeypatch.setattr(dump, "snapshot", look)
        with dump_on_signal():
            tell_to_stop(USR1)
            assert written().count("the tasks") == 2
            tell_to_stop(USR1)
            assert written().count("the tasks") == 3


class TestWriting:
    def test_it_is_written_to_the_last_byte(self, monkeypatch):
        """A pipe takes what it has room for; one that is non-blocking takes nothing at all, at times."""
        taken, answers = [], iter([3, BlockingIOError(errno.EAGAIN, ""), 1, 100])
        waits = []

        def write(fd, data):
            answer = next(answers)
            if isinstance(answer, OSError):
                raise answer
            taken.append(bytes(data)[:answer])
            return len(taken[-1])

        def wait(*args):
            waits.append(args)
            return [], [2], []

        monkeypatch.setattr(dump.os, "write", write)
        monkeypatch.setattr(dump, "select", types.SimpleNamespace(select=wait))
        dump._write(b"all of it")

        assert b"".join(taken) == b"all of it"
        assert waits == [([], [2], [], 5.0)]

    def test_a_reader_that_has_gone_away_is_not_waited_for_for_ever(self, monkeypatch):
        """The rest is lost then."""
        writes = []

        def write(fd, data):
            writes.append(fd)
            raise BlockingIOError

        monkeypatch.setattr(dump.os, "write", write)
        monkeypatch.setattr(dump, "select", types.SimpleNamespace(select=lambda *args: ([], [], [])))
        dump._write(b"text")

        assert writes == [2]

    def test_a_closed_stderr_is_no_error(self, monkeypatch):
        """A daemon may have none."""
        writes = []

        def write(fd, data):
            writes.append(fd)
            raise OSError(errno.EBADF, "Bad file descriptor")

        monkeypatch.setattr(dump.os, "write", write)
        dump._write(b"text")

        assert writes == [2]


class TestHandle:
    def test_closing_puts_back_the_handler_from_before(self, written):
        """Of whatever kind it was. Closing again does nothing."""
        heard = []
        earlier = signal.signal(USR1, lambda *args: heard.append(args))
        handle = dump_on_signal()
        assert repr(handle) == "<SignalDump SIGUSR1>"
        tell_to_stop(USR1)
        assert not heard
        handle.close()
        handle.close()
        assert repr(handle) == "<SignalDump SIGUSR1 closed>"
        tell_to_stop(USR1)
        assert len(heard) == 1
        signal.signal(USR1, earlier)

    def test_a_later_handler_of_somebody_else_stays(self):
        """It is not ours to take away."""

        def theirs(signum, frame):
            pass

        handle = dump_on_signal()
        signal.signal(USR1, theirs)
        handle.close()
        assert signal.signal(USR1, signal.SIG_DFL) is theirs

    @pytest.mark.parametrize("first", [0, 1])
    def test_two_may_be_closed_in_any_order(self, first):
        """The one that is still open answers, and afterwards the handler from before them is back."""
        before = signal.getsignal(USR1)
        handles = [dump_on_signal(), dump_on_signal()]
        closed = handles.pop(first)
        [left] = handles

        closed.close()
        assert signal.getsignal(USR1) == left._handle
        left.close()
        assert signal.getsignal(USR1) is before

    def test_a_handler_that_python_does_not_know_becomes_the_default(self, monkeypatch):
        """One installed in C cannot be put back."""
        install = signal.signal
        monkeypatch.setattr(signal, "signal", lambda *args: (install(*args), None)[1])
        handle = dump_on_signal()
        monkeypatch.undo()
        handle.close()
        assert signal.getsignal(USR1) is signal.SIG_DFL


class TestWaking:
    """A handler runs only when the main thread does."""

    @pytest.mark.asyncio(loop_factories=["default", "debug"])  # uvloop does this by itself
    async def test_a_signal_wakes_the_loop_and_nothing_is_left(self, written):
        """By a pipe that the loop reads as long as the handler is installed."""
        files = set(os.listdir("/proc/self/fd"))
        with dump_on_signal() as handle:
            reader, writer = handle._waker._reader, handle._waker._writer
            assert signal.set_wakeup_fd(writer) == writer
            tell_to_stop(USR1)
            assert select.select([reader], [], [], 0)[0]
            await turns()
            assert not select.select([reader], [], [], 0)[0]
        assert set(os.listdir("/proc/self/fd")) == files

    @pytest.mark.asyncio(loop_factories=["default"])  # it is about what others have installed
    async def test_what_wakes_the_loop_already_is_left_alone(self):
        """asyncio's own signal handlers, say, which read what is written there."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(USR2, print)
        theirs = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(theirs)
        with dump_on_signal() as handle:
            assert handle._waker is None
            assert signal.set_wakeup_fd(theirs) == theirs
        assert signal.set_wakeup_fd(theirs) == theirs
        loop.remove_signal_handler(USR2)

    @pytest.mark.asyncio(loop_factories=["default"])
    async def test_what_wakes_the_loop_since_then_stays(self):
        """It was installed in place of our own pipe."""
        loop = asyncio.get_running_loop()
        with dump_on_signal():
            loop.add_signal_handler(USR2, print)
            theirs = signal.set_wakeup_fd(-1)
            signal.set_wakeup_fd(theirs)
        assert signal.set_wakeup_fd(theirs) == theirs
        loop.remove_signal_handler(USR2)

    def test_it_may_outlive_its_loop(self):
        """Signals go on being written into a pipe that nobody reads."""

        async def main():
            return dump_on_signal()

        with asyncio.Runner() as runner:
            handle = runner.run(main())
        handle.close()


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "kind", "message"),
        [
            ({"signum": "USR1"}, TypeError, "signum must be a signal such as signal.SIGUSR1, got str"),
            ({"signum": True}, TypeError, "signum must be a signal such as signal.SIGUSR1, got bool True"),
            ({"signum": 0}, ValueError, "signum must be a signal of this system, got 0"),
            ({"signum": 1000}, ValueError, "signum must be a signal of this system, got 1000"),
            (
                {"signum": signal.SIGKILL},
                ValueError,
                "signum must be a signal that a program can handle, got SIGKILL",
            ),
            ({"loop": 5}, TypeError, "loop must be an event loop, got int 5"),
        ],
    )
    def test_bad_arguments_are_refused(self, arguments, kind, message):
        """By name, and before anything is installed."""
        with refused(kind, message):
            dump_on_signal(**arguments)

    async def test_it_belongs_into_the_main_thread(self):
        """No other one handles signals, or may change their handlers."""
        only = "only there does Python handle signals"
        with refused(RuntimeError, f"dump_on_signal() must be called in the main thread: {only}"):
            await asyncio.to_thread(dump_on_signal)
        handle = dump_on_signal()
        with refused(RuntimeError, "a SignalDump must be closed in the main thread, where it was installed"):
            await asyncio.to_thread(handle.close)
        handle.close()
