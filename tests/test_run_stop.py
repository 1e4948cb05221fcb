"""`run` when it is told to stop: by a signal, or by an exit in any task."""

from __future__ import annotations

import asyncio
import sys

import pytest
from loops import each_loop
from runs import INT, TERM, tell_to_stop
from tools import Boom, fail_when_cancelled, forever, turns

import async_plus
from async_plus import run, stopping, supervised, task_scope, try_gather
from async_plus.testing import VirtualClockLoop


async def stopped_by(signum=TERM, log=None):
    """Get the signal, and wait for what comes of it."""
    asyncio.get_running_loop().call_soon(tell_to_stop, signum)
    try:
        await forever()
    except asyncio.CancelledError:
        if log is not None:
            log.append(asyncio.current_task().cancelling())
        raise


class TestSignal:
    """The first SIGTERM or SIGINT."""

    @each_loop
    def test_sigterm_ends_in_an_exit_with_0(self, loop_factory):
        """The program did what it was told. Main is cancelled once."""
        log = []

        with pytest.raises(SystemExit) as caught:
            run(stopped_by, TERM, log, loop_factory=loop_factory)

        assert caught.value.code == 0
        assert log == [1]

    @each_loop
    def test_sigint_ends_in_a_keyboard_interrupt(self, loop_factory):
        """As with asyncio.run, main is cancelled, and cleans up before."""
        log = []

        with pytest.raises(KeyboardInterrupt):
            run(stopped_by, INT, log, loop_factory=loop_factory)

        assert log == [1]

    @each_loop
    def test_a_main_that_swallows_its_cancellation_ends_in_the_same_exit(self, loop_factory):
        """What it returns then is not what it was called for."""

        async def main():
            try:
                await stopped_by()
            except asyncio.CancelledError:
                return "done"

        with pytest.raises(SystemExit) as caught:
            run(main, loop_factory=loop_factory)
        assert caught.value.code == 0

    @each_loop
    def test_an_error_in_the_cleanup_of_main_propagates(self, loop_factory):
        """A stop does not hide it."""
        error = Boom()

        async def main():
            asyncio.get_running_loop().call_soon(tell_to_stop)
            await fail_when_cancelled(error)

        with pytest.raises(Boom) as caught:
            run(main, loop_factory=loop_factory)
        assert caught.value is error

    @each_loop
    def test_the_event_is_set_when_main_is_cancelled(self, loop_factory):
        """Cleanups can tell a stop of the program from another cancellation."""
        log = []

        async def main():
            log.append(stopping().is_set())
            try:
                await stopped_by()
            finally:
                log.append(stopping().is_set())

        with pytest.raises(SystemExit):
            run(main, loop_factory=loop_factory)
        assert log == [False, True]

    @each_loop
    def test_scopes_and_supervised_services_stop_what_is_theirs(self, loop_factory):
        """Each task gets one cancellation, from its owner, the innermost first."""
        log = []

        async def child(name):
            try:
                await forever()
            finally:
                await asyncio.sleep(0)
                log.append((name, asyncio.current_task().cancelling()))

        @supervised(delays=[0])
        async def service():
            try:
                await try_gather(child("a"), child("b"))
            finally:
                log.append(("service", asyncio.current_task().cancelling()))

        async def main():
            try:
                async with task_scope() as scope:
                    scope.launch(service())
                    await stopped_by()
            finally:
                log.append(("main", asyncio.current_task().cancelling()))

        with pytest.raises(SystemExit):
            run(main, loop_factory=loop_factory)
        assert log == [("a", 1), ("b", 1), ("service", 1), ("main", 1)]

    @each_loop
    def test_a_signal_before_the_first_step_of_main_stops_it_too(self, loop_factory):
        """At its first await, if it has one."""

        async def main():
            await forever()

        def factory():
            loop = loop_factory()
            loop.call_soon(tell_to_stop)
            return loop

        with pytest.raises(SystemExit):
            run(main, loop_factory=factory)

    @each_loop
    def test_a_signal_after_the_end_of_main_is_heeded(self, loop_factory):
        """While the rest is stopped. Main's result is not returned, since the program was told to exit."""

        async def left():
            try:
                await forever()
            finally:
                tell_to_stop()

        async def main():
            async_plus.launch_watched(left())
            await asyncio.sleep(0)
            return 1

        with pytest.raises(SystemExit) as caught:
            run(main, loop_factory=loop_factory)
        assert caught.value.code == 0

    def test_a_signal_when_the_loop_is_closed_is_heeded(self):
        """There is nothing left to stop, but the process is to exit."""

        class Closing(asyncio.SelectorEventLoop):
            def close(self):
                super().close()
                tell_to_stop()

        async def main():
            return 1

        with pytest.raises(SystemExit) as caught:
            run(main, loop_factory=Closing)
        assert caught.value.code == 0


class TestDrain:
    """The time that main has to return by itself."""

    @pytest.mark.parametrize("signum", [TERM, INT])
    def test_main_may_finish_its_item(self, signum):
        """It is not cancelled if it returns in time; nor does it then wait for the rest of the time."""
        log = []

        async def main():
            loop = asyncio.get_running_loop()
            loop.call_later(5, tell_to_stop, signum)
            while not stopping().is_set():
                await asyncio.sleep(3)
                log.append(loop.clock.elapsed)

        with pytest.raises((SystemExit, KeyboardInterrupt)):
            run(main, drain=10, loop_factory=VirtualClockLoop)
        assert log == [3, 6]

    def test_main_is_cancelled_when_its_time_is_over(self):
        """After the drain, by the clock of the loop."""
        log = []

        async def main():
            loop = asyncio.get_running_loop()
            loop.call_later(5, tell_to_stop)
            try:
                await forever()
            finally:
                log.append(loop.clock.elapsed)

        with pytest.raises(SystemExit):
            run(main, drain=10, loop_factory=VirtualClockLoop)
        assert log == [15]

    def test_a_failure_of_main_in_that_time_propagates(self):
        """The signal does not hide it."""

        async def main():
            tell_to_stop()
            await stopping().wait()
            raise Boom

        with pytest.raises(Boom):
            run(main, drain=10, loop_factory=VirtualClockLoop)


class TestExit:
    """SystemExit or KeyboardInterrupt, raised in any task or callback."""

    @each_loop
    @pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
    def test_an_exit_in_a_task_stops_all_in_order_and_is_raised_at_the_end(self, loop_factory, kind):
        """It is what a stop by signal is, with an end of its own."""
        log, error = [], kind(3)

        async def child():
            await asyncio.sleep(0)
            raise error

        async def main():
            try:
                async with task_scope() as scope:
                    scope.launch(child())
                    await forever()
            finally:
                log.append((stopping().is_set(), asyncio.current_task().cancelling()))

        with pytest.raises(kind) as caught:
            run(main, loop_factory=loop_factory)
        assert caught.value is error
        assert log == [(True, 1)]

    @each_loop
    def test_an_exit_in_a_callback_does_so_too(self, loop_factory):
        """Wherever the loop lets it through."""

        async def main():
            asyncio.get_running_loop().call_soon(sys.exit, 3)
            await forever()

        with pytest.raises(SystemExit) as caught:
            run(main, loop_factory=loop_factory)
        assert caught.value.code == 3

    @each_loop
    def test_an_exit_goes_before_the_signal(self, loop_factory):
        """Its code says more."""

        async def child():
            try:
                await forever()
            finally:
                sys.exit(3)

        async def main():
            async with task_scope() as scope:
                scope.launch(child())
                await stopped_by()

        with pytest.raises(SystemExit) as caught:
            run(main, loop_factory=loop_factory)
        assert caught.value.code == 3

    @each_loop
    def test_an_exit_after_the_signal_does_not_cancel_main_again(self, loop_factory):
        """Each kind of stop begins once."""
        log = []

        async def main():
            try:
                await stopped_by()
            finally:
                asyncio.get_running_loop().call_soon(sys.exit, 3)
                await turns()
                log.append(asyncio.current_task().cancelling())

        with pytest.raises(SystemExit) as caught:
            run(main, loop_factory=loop_factory)
        assert caught.value.code == 3
        assert log == [1]

    @each_loop
    def test_an_exit_in_the_moment_that_main_ends_is_not_lost(self, loop_factory):
        """In one of its own callbacks, say."""

        async def main():
            asyncio.current_task().add_done_callback(lambda task: sys.exit(3))
            await stopped_by()

        with pytest.raises(SystemExit) as caught:
            run(main, loop_factory=loop_factory)
        assert caught.value.code == 3

    @each_loop
    def test_the_first_exit_counts(self, loop_factory, caplog):
        """Another one, on the way out, is no news, and is not logged either."""

        async def main():
            asyncio.get_running_loop().call_soon(sys.exit, 3)
            await fail_when_cancelled(SystemExit(4))

        with pytest.raises(SystemExit) as caught:
            run(main, loop_factory=loop_factory)
        assert caught.value.code == 3
        assert caplog.records == []

    @each_loop
    def test_an_error_after_an_exit_is_logged(self, loop_factory, caplog):
        """The exit is what the program asked for, and no exception is lost."""

        async def main():
            asyncio.get_running_loop().call_soon(sys.exit, 3)
            await fail_when_cancelled(Boom(), "main")

        with pytest.raises(SystemExit):
            run(main, loop_factory=loop_factory)
        [record] = [record for record in caplog.records if record.name == "async_plus"]
        assert record.getMessage() == "task 'main' failed with Boom, not raised by run: it ends otherwise"
        assert record.exc_info[0] is Boom

    @each_loop
    def test_an_exit_after_a_failure_of_main_does_not_hide_it(self, loop_factory):
        """The first outcome is raised."""

        async def left():
            try:
                await forever()
            finally:
                sys.exit(3)

        async def main():
            async_plus.launch_watched(left())
            await asyncio.sleep(0)
            raise Boom

        with pytest.raises(Boom):
            run(main, loop_factory=loop_factory)

    @each_loop
    def test_an_exit_of_what_is_left_after_main_is_raised(self, loop_factory):
        """Main returned, but the program asks for another code."""

        async def left():
            try:
                await forever()
            finally:
                sys.exit(3)

        async def main():
            async_plus.launch_watched(left())
            await asyncio.sleep(0)
            return 1

        with pytest.raises(SystemExit) as caught:
            run(main, loop_factory=loop_factory)
        assert caught.value.code == 3

    def test_main_may_finish_its_item_after_an_exit(self):
        """The drain is for every kind of stop."""
        log = []

        async def main():
            asyncio.get_running_loop().call_later(5, sys.exit, 3)
            while not stopping().is_set():
                await asyncio.sleep(3)
            log.append("finished")

        with pytest.raises(SystemExit) as caught:
            run(main, drain=10, loop_factory=VirtualClockLoop)
        assert caught.value.code == 3
        assert log == ["finished"]
