"""`run` without a signal: what it takes, what comes of it, and what it leaves as it was."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import os
import signal
import socket
import threading

import pytest
from loops import each_loop
from tools import Boom, closed, fail, forever, give, refused, turns

import async_plus
from async_plus import run, stopping
from async_plus.testing import VirtualClockLoop


class TestOutcome:
    """What main returned or raised."""

    @each_loop
    def test_the_result_of_main_is_returned(self, loop_factory):
        """It gets the arguments, and runs in a loop of the factory."""

        async def main(a, b):
            loop = asyncio.get_running_loop()
            await asyncio.sleep(0)
            return a, b, type(loop)

        assert run(main, 1, 2, loop_factory=loop_factory)[:2] == (1, 2)

    @each_loop
    def test_a_failure_of_main_is_raised_as_itself(self, loop_factory):
        """The very exception, and no log of it."""
        error = Boom()

        with pytest.raises(Boom) as caught:
            run(fail, error, loop_factory=loop_factory)

        assert caught.value is error

    @each_loop
    def test_a_cancellation_by_somebody_else_is_raised(self, loop_factory):
        """As asyncio.run does: nobody told the program to stop."""

        async def main():
            asyncio.current_task().cancel()
            await asyncio.sleep(1)

        with pytest.raises(asyncio.CancelledError):
            run(main, loop_factory=loop_factory)

    @each_loop
    @pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
    def test_an_exit_of_main_is_raised_as_itself(self, loop_factory, kind):
        """The loop lets it through, and it is still the outcome of main."""
        error = kind(3)

        with pytest.raises(kind) as caught:
            run(fail, error, loop_factory=loop_factory)

        assert caught.value is error

    def test_it_works_on_the_virtual_clock(self):
        """An hour takes no time."""

        async def main():
            await asyncio.sleep(3600)
            return asyncio.get_running_loop().clock.elapsed

        assert run(main, loop_factory=VirtualClockLoop) == 3600


class Main:
    async def __call__(self, value):
        return value

    async def method(self, value):
        return value

    @classmethod
    async def class_method(cls, value):
        return value

    @staticmethod
    async def static_method(value):
        return value


class TestMain:
    """What may be run."""

    @pytest.mark.parametrize(
        "main",
        [
            give,
            Main(),
            Main().method,
            Main.class_method,
            Main.static_method,
            functools.partial(give),
            functools.partial(Main().method),
            async_plus.supervised(give),
            async_plus.supervised(Main().method),
            functools.partial(async_plus.impatient(log_after=5)(give)),
            async_plus.try_gather,
        ],
    )
    def test_every_coroutine_function_can_be_run(self, main):
        """Decorated ones, methods, partials, and objects that are called like one."""
        argument = give(1) if main is async_plus.try_gather else 1

        assert run(main, argument) in (1, [1])

    @pytest.mark.parametrize(
        ("main", "what"),
        [
            (print, 'print is a plain function (is "async" missing before "def"?)'),
            (functools.partial(print), 'print is a plain function (is "async" missing before "def"?)'),
            (Main, "Main is a class (pass its async methods)"),
            (5, "got int 5"),
            (
                async_plus.watched(give),
                "calls of give return no coroutine "
                "(is it under @watched or @entry_point? pass the function without it)",
            ),
        ],
    )
    def test_what_is_no_coroutine_function_is_refused(self, main, what):
        """It says what was given, and the likely fix."""
        with refused(TypeError, f"run() needs a coroutine function, but {what}"):
            run(main)

    def test_a_coroutine_is_refused_and_closed(self):
        """As asyncio.run would take it; a function can be called when all is checked."""
        coroutine = forever()

        what = "forever is a coroutine object (pass the function itself, without calling it)"
        with refused(TypeError, f"run() needs a coroutine function, but {what}"):
            run(coroutine)
        assert closed(coroutine)

    def test_an_async_generator_function_is_refused(self):
        """Nothing would iterate over it."""

        async def numbers():
            yield 1

        name = numbers.__qualname__
        what = f"{name} is an async generator function (pass the coroutine function that iterates over it)"
        with refused(TypeError, f"run() needs a coroutine function, but {what}"):
            run(numbers)

    def test_a_function_that_lies_about_its_result_is_refused(self):
        """It bears the mark of a coroutine function, but returns something else."""
        liar = async_plus._coroutines.mark_coroutine_function(lambda: 5)

        with refused(TypeError, "run() needs a function that returns a coroutine, but got int 5 from it"):
            run(liar)

    def test_arguments_that_do_not_fit_are_refused(self):
        """By Python itself, before anything starts."""
        with pytest.raises(TypeError, match="positional argument"):
            run(give, 1, 2)


class TestOptions:
    """They are checked before anything starts."""

    @pytest.mark.parametrize(
        ("options", "kind", "message"),
        [
            ({"grace": -1}, ValueError, "grace must be a finite number of seconds >= 0, got -1"),
            ({"grace": "10"}, TypeError, "grace must be a number of seconds, got str"),
            ({"drain": float("inf")}, ValueError, "drain must be a finite number of seconds >= 0, got inf"),
            ({"drain": None}, TypeError, "drain must be a number of seconds, got NoneType"),
            ({"loop_factory": 5}, TypeError, "loop_factory must be a callable that makes an event loop, got int 5"),
        ],
    )
    def test_a_bad_option_is_refused(self, options, kind, message):
        """By its name, with the value that was given. Main is not even called."""

        async def main():
            raise AssertionError

        with refused(kind, message):
            run(main, **options)

    def test_the_loop_may_be_in_debug_mode(self):
        """Or not, whatever the environment says."""

        async def main():
            return asyncio.get_running_loop().get_debug()

        assert [run(main, debug=debug) for debug in (True, False)] == [True, False]

    def test_a_factory_that_fails_fails_the_call(self):
        """The coroutine of main is closed."""
        made = []

        @async_plus._coroutines.mark_coroutine_function
        def main():
            made.append(forever())
            return made[0]

        def broken():
            raise Boom

        with pytest.raises(Boom):
            run(main, loop_factory=broken)
        assert closed(made[0])

    def test_a_loop_that_takes_no_task_is_closed(self):
        """As it is if all goes well."""
        loop = asyncio.new_event_loop()
        loop.set_task_factory(lambda loop, coro, **options: fail_at_once(coro))

        def fail_at_once(coro):
            raise Boom

        with pytest.raises(Boom):
            run(forever, loop_factory=lambda: loop)
        assert loop.is_closed()


class TestPlace:
    """Where it may be called, and what it leaves there."""

    async def test_a_running_loop_refuses_it(self):
        """One thread runs one loop at a time."""
        message = "run() starts an event loop, but one is running in this thread already"
        with refused(RuntimeError, f"{message} (await the coroutine function itself instead)"):
            run(forever)

    @each_loop
    @pytest.mark.parametrize("earlier", [signal.SIG_DFL, signal.SIG_IGN, lambda *_: None, None])
    def test_earlier_handlers_are_restored(self, loop_factory, earlier):
        """Also when main failed, or set handlers of the loop's own. (None is one that Python did not install.)"""

        async def main():
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, print)
            raise Boom

        before = [signal.signal(signum, earlier or signal.SIG_DFL) for signum in (signal.SIGTERM, signal.SIGINT)]
        try:
            with pytest.MonkeyPatch.context() as patch:
                if earlier is None:
                    patch.setattr(signal, "getsignal", lambda signum: None)
                with pytest.raises(Boom):
                    run(main, loop_factory=loop_factory)
            assert signal.getsignal(signal.SIGTERM) == (earlier or signal.SIG_DFL)
            assert signal.getsignal(signal.SIGINT) == (earlier or signal.SIG_DFL)
        finally:
            signal.signal(signal.SIGTERM, before[0])
            signal.signal(signal.SIGINT, before[1])

    @each_loop
    def test_a_ctrl_c_that_is_ignored_stays_so(self, loop_factory):
        """By a job in the background, that is, which must outlive the Ctrl-C for the one in front. SIGTERM stops it."""

        async def main():
            signal.raise_signal(signal.SIGINT)
            await turns()
            assert not stopping().is_set()
            signal.raise_signal(signal.SIGTERM)
            await forever()

        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            with pytest.raises((SystemExit, KeyboardInterrupt)) as caught:
                run(main, loop_factory=loop_factory)
        finally:
            signal.signal(signal.SIGINT, before)
        assert caught.type is SystemExit

    def test_a_forked_child_handles_signals_as_before(self, monkeypatch):
        """It has inherited the handlers, but it is not the process that they are for."""
        log = []

        async def main():
            monkeypatch.setattr(os, "getpid", lambda: 0)
            pid = getpid()
            monkeypatch.setattr(os, "kill", lambda _, signum: kill(pid, signum))
            kill(pid, signal.SIGTERM)
            return 1

        getpid, kill = os.getpid, os.kill
        before = signal.signal(signal.SIGTERM, lambda signum, frame: log.append(signum))
        try:
            assert run(main) == 1
        finally:
            signal.signal(signal.SIGTERM, before)
        assert log == [signal.SIGTERM]

    @each_loop
    def test_the_wake_up_file_is_restored(self, loop_factory):
        """Another loop in this thread may go on with it."""
        reader, writer = socket.socketpair()
        with reader, writer:
            writer.setblocking(False)
            before = signal.set_wakeup_fd(writer.fileno())
            try:
                run(give, 1, loop_factory=loop_factory)
            finally:
                assert signal.set_wakeup_fd(before) == writer.fileno()

    @each_loop
    def test_another_thread_may_run_it_too(self, loop_factory):
        """There no handler is touched, and nothing watches over the process."""
        handler = signal.getsignal(signal.SIGTERM)
        seen = []

        async def main():
            seen.append(signal.getsignal(signal.SIGTERM))
            left = asyncio.create_task(forever())
            await asyncio.sleep(0)
            seen.extend(thread.name for thread in threading.enumerate() if "watchdog" in thread.name)
            return left

        result = []
        thread = threading.Thread(target=lambda: result.append(run(main, loop_factory=loop_factory)))
        thread.start()
        thread.join()
        assert seen == [handler]
        assert result[0].cancelled()

    def test_the_main_thread_of_another_interpreter_handles_no_signals(self, monkeypatch):
        """gh-91880: Python lets it set no handlers, and it works without."""

        def refuse(*args):
            raise ValueError("signal only works in main thread of the main interpreter")

        monkeypatch.setattr(signal, "signal", refuse)

        assert run(give, 1) == 1

    def test_the_loop_is_closed_and_none_is_left_set(self):
        """As after asyncio.run."""

        async def main():
            return asyncio.get_running_loop()

        assert run(main).is_closed()

    def test_main_runs_in_a_copy_of_the_context(self):
        """What it sets stays inside."""
        variable = contextvars.ContextVar("variable", default=0)
        variable.set(1)

        async def main():
            before = variable.get()
            variable.set(2)
            return before

        assert run(main) == 1
        assert variable.get() == 1

    def test_the_task_of_main_has_its_name(self):
        """Whatever names tasks, names it as people do."""

        async def main():
            return asyncio.current_task().get_name()

        assert run(main) == main.__qualname__


class TestStoppingEvent:
    """`stopping` where nobody stops anything."""

    async def test_there_is_one_event_for_each_loop(self):
        """It is not set, and always the same."""
        event = stopping()

        assert isinstance(event, asyncio.Event)
        assert event is stopping()
        assert not event.is_set()

    def test_each_run_has_its_own(self):
        """One that was stopped does not stop the next."""

        async def main():
            return stopping()

        assert run(main) is not run(main)

    def test_without_a_loop_there_is_none(self):
        """It says what is missing."""
        with refused(
            RuntimeError, "stopping() needs a running event loop, whose event it returns: call it from a coroutine"
        ):
            stopping()


class TestBreakdown:
    """A loop that stops before main has ended."""

    @each_loop
    def test_a_loop_that_is_stopped_by_hand_still_lets_main_clean_up(self, loop_factory):
        """The error is the loop's own."""
        log = []

        async def main():
            try:
                asyncio.get_running_loop().stop()
                await forever()
            finally:
                await asyncio.sleep(0)
                log.append("cleaned up")

        with refused(RuntimeError, "Event loop stopped before Future completed."):
            run(main, loop_factory=loop_factory, drain=3600)
        assert log == ["cleaned up"]

    def test_a_loop_that_breaks_down_again_is_given_up(self, no_leaks):
        """Or else it might never end."""

        async def main():
            while True:
                asyncio.get_running_loop().stop()
                try:
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
                except asyncio.CancelledError:
                    pass

        with refused(RuntimeError, "Event loop stopped before Future completed."):
            run(main)
        gc.collect()
        [record] = no_leaks.errors
        assert record.getMessage().startswith("Task was destroyed but it is pending!")
        no_leaks.errors.clear()
