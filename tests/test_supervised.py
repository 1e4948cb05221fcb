"""`@supervised`: its attempts and its end. (Restarts, reports, stops and memory have files of their own.)"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import gc
import sys
import traceback

import pytest
from loops import each_loop
from services import raise_or_return
from tools import Bang, Boom, after, give, messages, no_garbage, refused, start, turns

from async_plus import AttemptStarted, UnexpectedCancellation, subscribe, supervised
from async_plus.testing import record_events

pytestmark = pytest.mark.usefixtures("infos_are_logged")


class TestAttempts:
    async def test_each_runs_in_a_task_of_its_own_with_its_number(self):
        """The function's own coroutine is the task's, so that names and stacks are true."""
        tasks = []

        @supervised(delays=[0])
        async def feed():
            await asyncio.sleep(0)  # an eager task is named after its first step
            tasks.append(asyncio.current_task())
            if len(tasks) < 3:
                raise Boom
            return "done"

        host = asyncio.current_task()
        assert await feed() == "done"

        name = feed.__qualname__
        assert [task.get_name() for task in tasks] == [f"{name}#1", f"{name}#2", f"{name}#3"]
        assert {task.get_coro().__qualname__ for task in tasks} == {name}
        assert len({*tasks, host}) == 4

    @pytest.mark.virtual_time
    async def test_a_name_of_its_own_is_that_of_tasks_and_reports(self, caplog):
        """One function may run for several symbols, each with a name to tell it by."""

        @supervised(name="feed of BTC", delays=[0], max_restarts=0)
        async def feed():
            await asyncio.sleep(0)
            raise Boom(asyncio.current_task().get_name())

        with pytest.raises(Boom) as caught:
            await feed()

        assert caught.value.args == ("feed of BTC#1",)
        assert messages(caplog) == [
            ("ERROR", "gave up on feed of BTC after 0 restarts: the last attempt failed with Boom after 0.0 s")
        ]

    async def test_arguments_reach_every_attempt_and_the_value_comes_back(self):
        """Also keyword arguments, and self of a method."""
        seen = []

        class Feed:
            @supervised(delays=[0])
            async def poll(self, *args, **kwargs):
                seen.append((self, args, kwargs))
                if len(seen) == 1:
                    raise Boom
                return len(seen)

        feed = Feed()

        assert await feed.poll(1, 2, url="x") == 2
        assert seen == [(feed, (1, 2), {"url": "x"})] * 2

    async def test_each_runs_in_a_copy_of_the_context(self):
        """What the host has set is seen; what an attempt sets is seen by neither the next one nor the host."""
        variable = contextvars.ContextVar("variable")
        seen = []

        @supervised(delays=[0])
        async def feed():
            seen.append(variable.get())
            variable.set(f"attempt {len(seen)}")
            if len(seen) < 3:
                raise Boom

        variable.set("host")
        await feed()

        assert seen == ["host", "host", "host"]
        assert variable.get() == "host"

    async def test_a_call_does_nothing_until_it_is_awaited(self):
        """It is a coroutine like any other."""
        started = []

        @supervised
        async def feed():
            started.append(True)

        coroutine = feed()
        await turns()
        assert started == []

        await coroutine
        assert started == [True]

    @pytest.mark.parametrize("args", [(), (1, 2)])
    async def test_wrong_arguments_are_a_mistake_and_not_a_failure(self, args, caplog):
        """They raise TypeError as they would without supervision, at once; nothing is started or restarted."""

        @supervised(delays=[0])
        async def feed(url):
            pass

        with record_events() as events, pytest.raises(TypeError) as caught:
            await feed(*args)

        assert "feed()" in str(caught.value)
        assert (events, messages(caplog)) == ([], [])

    async def test_a_type_error_of_the_service_itself_is_a_failure(self):
        """Only the call is excepted: a TypeError from inside may well pass."""
        started = []

        @supervised(delays=[0])
        async def feed():
            started.append(True)
            if len(started) == 1:
                raise TypeError

        await feed()

        assert len(started) == 2

    async def test_a_function_that_raises_when_called_is_not_restarted(self, caplog):
        """A plain function may be marked as one that returns coroutines. If it makes none, there is no attempt."""

        class Factory:
            async def __call__(self):
                """What the wrapper asks for."""

        error = Boom()
        factory = functools.partial(Factory())
        service = supervised(delays=[0])(factory)
        Factory.__call__ = lambda self: raise_or_return(error)

        with pytest.raises(Boom) as caught:
            await service()

        assert caught.value is error
        assert messages(caplog) == []

    @pytest.mark.virtual_time
    async def test_two_calls_of_one_function_share_nothing(self, caplog):
        """Each has its own place in the delays, its own count of restarts, its own attempts."""
        names = []

        @supervised(delays=[0], max_restarts=2, name="feed")
        async def feed(url):
            await asyncio.sleep(0)
            names.append((url, asyncio.current_task().get_name()))
            raise Boom(url)

        results = await asyncio.gather(feed("a"), feed("b"), return_exceptions=True)

        assert [result.args for result in results] == [("a",), ("b",)]
        for url in "ab":
            assert [name for which, name in names if which == url] == ["feed#1", "feed#2", "feed#3"]
        gave_up = "gave up on feed after 2 restarts: the last attempt failed with Boom after 0.0 s"
        assert messages(caplog).count(("ERROR", gave_up)) == 2
        for what, restart in (("Boom", 1), ("the same Boom", 2)):
            failed = f"feed failed after 0.0 s with {what}, restart {restart} in 0.0 s"
            assert messages(caplog).count(("WARNING", failed)) == 2

    @pytest.mark.virtual_time
    async def test_one_can_be_supervised_inside_another(self, caplog):
        """The inner one restarts by its own rules; when it gives up, that is a failure of the outer one."""
        names = []

        @supervised(delays=[0], max_restarts=1, name="inner")
        async def inner():
            await asyncio.sleep(0)
            names.append(asyncio.current_task().get_name())
            if len(names) < 4:
                raise Boom
            return "done"

        @supervised(delays=[0], name="outer")
        async def outer():
            await asyncio.sleep(0)
            names.append(asyncio.current_task().get_name())
            return await inner()

        assert await outer() == "done"

        assert names == ["outer#1", "inner#1", "inner#2", "outer#2", "inner#1"]
        assert messages(caplog) == [
            ("WARNING", "inner failed after 0.0 s with Boom, restart 1 in 0.0 s"),
            ("ERROR", "gave up on inner after 1 restart: the last attempt failed with Boom after 0.0 s"),
            ("WARNING", "outer failed after 0.0 s with Boom, restart 1 in 0.0 s"),
        ]


class TestUnexpectedCancellation:
    @pytest.mark.virtual_time
    async def test_an_attempt_that_somebody_else_cancels_has_failed(self, caplog):
        """Nobody asked the supervision to stop, so it restarts. The report shows where the cancellation arrived."""
        attempts = []

        @supervised(delays=[0], name="feed")
        async def feed():
            attempts.append(asyncio.current_task())
            if len(attempts) < 3:
                await asyncio.Event().wait()
            return "done"

        host = await start(feed())
        attempts[0].cancel()
        await turns()
        attempts[1].cancel("by the admin")

        assert await host == "done"
        assert host.cancelling() == 0
        assert messages(caplog) == [
            ("WARNING", "feed failed after 0.0 s with UnexpectedCancellation, restart 1 in 0.0 s"),
            ("WARNING", "feed failed after 0.0 s with the same UnexpectedCancellation, restart 2 in 0.0 s"),
        ]
        first, second = caplog.records
        error = first.exc_info[1]
        assert str(error) == "feed was cancelled, but not by stopping it"
        assert isinstance(error.__cause__, asyncio.CancelledError)
        frames = traceback.extract_tb(error.__cause__.__traceback__)
        assert [frame.name for frame in frames if frame.filename == __file__] == ["feed"]
        place = (__file__, feed.__code__.co_firstlineno + 4, "feed")
        assert (first.pathname, first.lineno, first.funcName) == place
        # Cancelled at the same line again.
        assert second.exc_info is None

    async def test_a_cancelled_error_of_its_own_is_no_stop(self):
        """A service may await something that is cancelled; that is not told from the outside."""
        started = []

        @supervised(delays=[0])
        async def feed():
            started.append(True)
            if len(started) == 1:
                raise asyncio.CancelledError
            return "done"

        assert await feed() == "done"
        assert len(started) == 2

    @pytest.mark.parametrize("options", [{"on": OSError}, {"max_restarts": 0}, {"restart": "never"}])
    async def test_it_is_raised_in_place_of_the_cancellation(self, options):
        """A bare CancelledError would pass for the cancellation of whoever awaits the service."""

        @supervised(**options, name="feed")
        async def feed():
            raise asyncio.CancelledError("inner")

        with refused(UnexpectedCancellation, "feed was cancelled, but not by stopping it"):
            await feed()

    async def test_the_predicate_is_asked_of_it(self):
        """Like any other failure."""
        asked = []

        @supervised(on=lambda exc: asked.append(type(exc)))
        async def feed():
            raise asyncio.CancelledError

        with pytest.raises(TypeError):
            await feed()

        assert asked == [UnexpectedCancellation]


async def task_of(coroutine):
    return await asyncio.create_task(coroutine)


class TestExits:
    @each_loop
    @pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
    def test_the_end_of_the_program_is_neither_restarted_nor_logged(self, kind, loop_factory, caplog):
        """The loop itself raises it. Whoever awaits the service sees what it would see of a plain task."""
        started = []

        async def plain():
            started.append(True)
            await asyncio.sleep(0)
            raise kind(3)

        async def main(coroutine, seen):
            try:
                await coroutine
            except BaseException as exc:
                seen.append(type(exc))
                raise

        seen, seen_of_task = [], []
        feed = supervised(delays=[0], on=BaseException, name="feed")(plain)
        with pytest.raises(kind) as caught, asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main(feed(), seen))
        with pytest.raises(kind), asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main(task_of(plain()), seen_of_task))

        assert caught.value.args == (3,)
        # asyncio.run cancels it; uvloop hands it the error before.
        assert seen == seen_of_task
        assert len(started) == 2
        stopped = ("INFO", "feed stopped, attempt 1")
        assert messages(caplog) == [stopped] * seen.count(asyncio.CancelledError)

    @pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
    @pytest.mark.parametrize("options", [{}, {"heartbeat": 5}])
    def test_a_subscriber_that_is_told_of_the_start_may_end_the_program(self, options, error, caplog):
        """Before the attempt has begun. It never runs, and Python does not warn of it."""
        caplog.set_level("DEBUG")

        @supervised(delays=[0], **options)
        async def feed():
            raise Boom

        def end(event):
            raise error

        with contextlib.ExitStack() as stack:
            stack.callback(subscribe(end))
            with pytest.raises(error):
                asyncio.run(feed())

    @each_loop
    def test_a_loop_that_goes_on_hands_it_to_whoever_awaits(self, loop_factory, caplog):
        """Nobody stopped the service; it ended in SystemExit, and that is what comes out."""

        @supervised(delays=[0], on=BaseException)
        async def feed():
            await asyncio.sleep(0)
            raise SystemExit(3)

        async def main():
            with pytest.raises(SystemExit) as caught:
                await feed()
            return caught.value.code

        loop = loop_factory()
        host = loop.create_task(main())
        with pytest.raises(SystemExit):
            loop.run_until_complete(host)

        assert loop.run_until_complete(host) == 3
        assert messages(caplog) == []
        loop.close()

    @pytest.mark.asyncio(loop_factories=["eager"])
    async def test_from_an_eager_first_step_it_comes_out_at_once(self, no_leaks):
        """It leaves create_task itself, and passes through the supervision to whoever awaits."""

        @supervised(delays=[0], on=BaseException)
        async def feed():
            raise SystemExit(3)

        with record_events() as events, pytest.raises(SystemExit) as caught:
            await feed()

        assert caught.value.code == 3
        assert list(map(type, events)) == [AttemptStarted]
        del caught
        gc.collect()
        # asyncio's own line, about a task that nobody could get hold of, is accepted.
        [record] = no_leaks.errors
        assert record.getMessage().startswith("Task exception was never retrieved")
        no_leaks.errors.clear()

    async def test_a_generator_exit_is_not_restarted(self, caplog):
        """Raised by the service itself, it propagates as anything would that is not to be restarted."""

        @supervised(delays=[0], on=BaseException)
        async def feed():
            raise GeneratorExit

        # In a task of its own: thrown into the test, it would close the test.
        host = asyncio.create_task(feed())
        await asyncio.wait([host])

        assert isinstance(host.exception(), GeneratorExit)
        assert messages(caplog) == []

    async def test_a_group_with_a_system_exit_is_not_restarted(self):
        """However deep in it the exit lies: the program is to end."""

        @supervised(delays=[0], on=BaseException)
        async def feed():
            raise BaseExceptionGroup("", [Boom(), BaseExceptionGroup("", [SystemExit()])])

        with pytest.raises(BaseExceptionGroup):
            await feed()


class TestTaskFactories:
    async def test_a_factory_that_raises_ends_the_supervision(self, caplog):
        """There is no task, so there is no attempt that could be restarted. The coroutine is closed."""
        error = Boom()
        loop = asyncio.get_running_loop()
        made_before = loop.get_task_factory()
        service = supervised(delays=[0])(give)

        def broken(loop, coro, **options):
            raise error

        loop.set_task_factory(broken)
        try:
            with pytest.raises(Boom) as caught:
                await service(5)
        finally:
            loop.set_task_factory(made_before)

        assert caught.value is error
        assert messages(caplog) == []

    async def test_a_service_may_return_the_coroutine_of_another_library(self):
        """What Cython and others make is no native coroutine. asyncio decides what it can run."""

        class Service:
            async def __call__(self):
                """What the wrapper asks for."""

        service = supervised(delays=[0])(Service())
        Service.__call__ = lambda self: 5

        with pytest.raises(TypeError) as caught:
            await service()

        assert "coroutine" in str(caught.value)

    @pytest.mark.asyncio(loop_factories=["eager"])
    @pytest.mark.parametrize("restart", ["on_error", "always"])
    async def test_eager_attempts_that_end_in_their_first_step_do_not_pile_up(self, restart):
        """A thousand of them in a row: no recursion, and each restart gives the loop a turn."""
        depths, ticks = [], []

        @supervised(delays=[0], restart=restart, on=Boom)
        async def feed():
            asyncio.get_running_loop().call_soon(ticks.append, len(depths))
            depths.append(len(traceback.extract_stack()))
            if len(depths) == 1000:
                raise Bang
            if restart == "on_error":
                raise Boom

        with pytest.raises(Bang):
            await feed()

        assert len(depths) == 1000
        assert len(set(depths)) == 1
        assert ticks == list(range(999))


class TestAgainstTheStandardLibrary:
    async def test_a_loop_without_a_task_of_its_own_cannot_tell_a_stop_from_a_failure(self):
        """On 3.11 and 3.12 a TaskGroup that fails leaves its task's cancelling() raised (gh-116720).

        Whoever restarts inline sees a count above zero after the first failure, and would take it for a stop. The
        supervised service has a task for each attempt, so that its host's count is its own.
        """

        async def service():
            async with asyncio.TaskGroup() as group:
                group.create_task(after(asyncio.sleep(0), Boom()))

        async def inline():
            with pytest.raises(ExceptionGroup):
                await service()
            return asyncio.current_task().cancelling()

        async def supervise():
            with pytest.raises(ExceptionGroup):
                await supervised(delays=[0], max_restarts=3)(service)()
            return asyncio.current_task().cancelling()

        assert await asyncio.create_task(inline()) == (1 if sys.version_info < (3, 13) else 0)
        assert await asyncio.create_task(supervise()) == 0


class TestGarbage:
    @pytest.mark.parametrize("kind", [Boom, asyncio.CancelledError, functools.partial(ExceptionGroup, "", [Boom()])])
    @pytest.mark.parametrize("options", [{"max_restarts": 2, "delays": [0]}, {"restart": "never"}, {"on": Bang}])
    async def test_no_end_leaves_a_reference_cycle(self, kind, options):
        """Cleared in `finally`: the traceback of what is raised holds the frames it came through (gh-124958)."""

        async def feed():
            await asyncio.sleep(0)
            raise kind()

        with no_garbage(), contextlib.suppress(Exception):
            await supervised(**options)(feed)()
