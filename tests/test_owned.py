"""Owned tasks, the core below gathers, scopes and `cancel_and_wait`: what holds for all of them."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import functools
import gc
import inspect
import pathlib
import weakref

import pytest
from loops import factories
from tools import (
    Bang,
    Boom,
    after,
    closed,
    fail,
    fail_when_cancelled,
    forever,
    futures,
    give,
    messages,
    no_garbage,
    noting,
    outlast,
    start,
    turns,
)

import async_plus
from async_plus import UnexpectedCancellation, cancel_and_wait, task_scope, try_gather
from async_plus.events.event import count_of

LOOPS = factories(virtual=True)

virtual = pytest.mark.virtual_time


@pytest.fixture(params=LOOPS)
def new_loop(request):
    """How to make a loop, of each kind."""
    return LOOPS[request.param]


@pytest.fixture
def runner(new_loop):
    """A program of its own."""
    with asyncio.Runner(loop_factory=new_loop) as runner:
        yield runner


async def stuck(seconds, name):
    """Be cancelled, and then take *seconds* to stop."""
    try:
        await forever()
    finally:
        asyncio.current_task().set_name(name)
        await asyncio.sleep(seconds)


LINES, FIRST = inspect.getsourcelines(stuck)
STUCK_AT = f"{__file__}:{FIRST + len(LINES) - 1} in stuck"


def parked(name, left):
    """What a warning says of a task that is stuck."""
    return f"'{name}' parked at {STUCK_AT} on sleep, {left:.1f} s left"


def warning(owner, after, *tasks):
    """The record of a warning."""
    stuck, count = "; ".join(tasks), count_of(len(tasks), "cancelled task")
    return ("WARNING", f"{owner} still waits for {count} after {after:.1f} s: {stuck}")


@virtual
class TestStuckTasks:
    """A child that ignores its cancellation is waited for, never abandoned silently."""

    async def test_it_is_named_after_5_seconds_and_at_doubling_gaps(self, caplog, virtual_clock):
        """Each warning says who waits, for how long already, and where the task is parked on what."""
        with pytest.raises(Boom):
            await try_gather(stuck(40, "saver"), after(asyncio.sleep(1), Boom()))

        assert virtual_clock.elapsed == 41
        assert messages(caplog) == [
            warning("try_gather", 5, parked("saver", 35)),
            warning("try_gather", 15, parked("saver", 25)),
            warning("try_gather", 35, parked("saver", 5)),
        ]

    async def test_warnings_come_at_their_time(self, caplog, virtual_clock):
        """At 5, 15, 35, 75 seconds: the gaps are 5, 10, 20, 40."""
        came = []
        unsubscribe = async_plus.subscribe(lambda event: came.append(virtual_clock.elapsed))

        await cancel_and_wait(await start(stuck(100, "saver")))

        unsubscribe()
        assert came == [5, 15, 35, 75]
        assert virtual_clock.elapsed == 100

    async def test_all_that_are_stuck_are_named_in_one_warning(self, caplog):
        """Those that have stopped by then are not."""
        tasks = [await start(stuck(seconds, name)) for seconds, name in ((4.9, "a"), (7, "b"), (20, "c"))]

        await cancel_and_wait(*tasks)

        assert messages(caplog) == [
            warning("cancel_and_wait", 5, parked("b", 2), parked("c", 15)),
            warning("cancel_and_wait", 15, parked("c", 5)),
        ]

    async def test_one_that_stops_in_time_is_not_named(self, caplog, virtual_clock):
        """A cleanup may take a while."""
        await cancel_and_wait(await start(stuck(4.9, "saver")))

        assert caplog.records == []
        # And no timer is left that would look at it.
        await asyncio.sleep(60)
        assert caplog.records == []

    async def test_one_that_has_just_stopped_is_not_named(self, caplog, virtual_clock):
        """Its owner has not heard of it yet when the warning is due."""

        async def holds_out():
            try:
                await forever()
            finally:
                await released

        [released] = futures(1)
        stopping = await start(cancel_and_wait(await start(holds_out())))

        released.set_result(None)
        virtual_clock.jump(virtual_clock.time() + 5)
        await stopping

        assert caplog.records == []

    @pytest.mark.parametrize("seconds", [1, 20])
    @pytest.mark.parametrize("stop", [cancel_and_wait, lambda task: try_gather(task, fail(Boom()))])
    async def test_no_timer_is_left_of_the_warnings(self, stop, seconds, monkeypatch):
        """When all have stopped there is nothing to look at any more, be it before the first warning or later."""
        loop = asyncio.get_running_loop()
        timers = []

        def call_at(when, *args, **options):
            timers.append(type(loop).call_at(loop, when, *args, **options))
            return timers[-1]

        task = await start(stuck(seconds, "saver"))
        monkeypatch.setattr(loop, "call_at", call_at)
        with contextlib.suppress(Boom):
            await stop(task)

        assert timers
        assert not [timer for timer in timers if timer.when() > loop.time() and not timer.cancelled()]

    async def test_a_scope_names_itself(self, caplog):
        """Its name is in the warning, and the seconds are its own."""
        async with task_scope(warn_after=2, name="feeds") as scope:
            scope.launch(stuck(10, "saver"))
            await turns()

        assert messages(caplog) == [
            warning("task_scope 'feeds'", 2, parked("saver", 8)),
            warning("task_scope 'feeds'", 6, parked("saver", 4)),
        ]

    async def test_the_seconds_begin_with_the_cancellation(self, caplog, virtual_clock):
        """Not with the time that a scope gives its tasks to finish by themselves."""
        async with task_scope(drain=7, name="feeds") as scope:
            scope.launch(stuck(6, "saver"))

        assert virtual_clock.elapsed == 13
        assert messages(caplog) == [warning("task_scope 'feeds'", 5, parked("saver", 1))]

    async def test_a_future_that_is_stuck_is_named_by_its_type(self, caplog):
        """It has neither name nor place."""

        class Stubborn(asyncio.Future):
            def cancel(self, msg=None):
                return False

        future = Stubborn()
        asyncio.get_running_loop().call_later(6, future.set_result, None)

        await cancel_and_wait(future)

        assert messages(caplog) == [warning("cancel_and_wait", 5, "'Stubborn' parked on Stubborn")]

    async def test_a_caller_cancelled_meanwhile_changes_no_warning(self, caplog, virtual_clock):
        """It waits on, the seconds count from the first cancellation, and nobody is cancelled again."""
        task = await start(stuck(20, "saver"))
        stopping = await start(cancel_and_wait(task))
        for _ in range(3):
            await asyncio.sleep(3)
            stopping.cancel()

        with pytest.raises(asyncio.CancelledError):
            await stopping

        assert virtual_clock.elapsed == 20
        assert messages(caplog) == [
            warning("cancel_and_wait", 5, parked("saver", 15)),
            warning("cancel_and_wait", 15, parked("saver", 5)),
        ]

    async def test_one_cancelled_later_is_named_in_its_own_time(self, caplog):
        """However long the gap has grown for those before it."""
        async with task_scope(name="s") as scope:
            scope.launch(stuck(70, "old"))
            await turns()
            scope.cancel()
            await asyncio.sleep(18)  # named at 5 and 15, and again at 35
            scope.launch(stuck(7, "new"))
            await turns()
            scope.cancel()

        assert messages(caplog) == [
            warning("task_scope 's'", 5, parked("old", 65)),
            warning("task_scope 's'", 15, parked("old", 55)),
            warning("task_scope 's'", 23, parked("old", 47), parked("new", 2)),
            warning("task_scope 's'", 63, parked("old", 7)),
        ]

    async def test_many_cancelled_one_by_one_are_not_a_flood(self, caplog):
        """A warning names all that are due, and the next one comes no sooner than after 5 seconds."""
        async with task_scope(name="s") as scope:
            for number in range(4):
                scope.launch(stuck(12, f"number {number}"))
                await turns()
                scope.cancel()
                await asyncio.sleep(1)

        assert messages(caplog) == [
            warning("task_scope 's'", 5, parked("number 0", 7)),
            warning("task_scope 's'", 10, *(parked(f"number {number}", 2 + number) for number in range(4))),
        ]

    async def test_one_cancelled_later_is_named_though_the_first_has_stopped(self, caplog):
        """The timer was set for the first one; it is then set for the second."""
        async with task_scope(name="s") as scope:
            for name, seconds in (("quick", 4), ("slow", 6)):
                scope.launch(stuck(seconds, name))
                await turns()
                scope.cancel()
                await asyncio.sleep(3)

        assert messages(caplog) == [warning("task_scope 's'", 5, parked("slow", 1))]

    async def test_the_gaps_start_anew_when_all_had_stopped(self, caplog):
        """A scope may cancel many times in its life."""
        async with task_scope(name="s") as scope:
            for name in ("first", "second"):
                scope.launch(stuck(20, name))
                await turns()
                scope.cancel()
                await asyncio.sleep(100)

        assert messages(caplog) == [
            warning("task_scope 's'", 5, parked("first", 15)),
            warning("task_scope 's'", 15, parked("first", 5)),
            warning("task_scope 's'", 5, parked("second", 15)),
            warning("task_scope 's'", 15, parked("second", 5)),
        ]


class TestCounts:
    async def test_the_callers_cancelling_is_the_same_after_success_and_failure(self):
        """The host is never cancelled by its tasks, so nothing has to be taken back (gh-116720)."""
        host = asyncio.current_task()

        await try_gather(give(1), turns())
        assert host.cancelling() == 0
        with pytest.raises(Boom):
            await try_gather(forever(), after(asyncio.sleep(0), Boom()))
        assert host.cancelling() == 0
        await cancel_and_wait(await start(fail_when_cancelled(Bang())))
        assert host.cancelling() == 0

    async def test_a_cancellation_that_is_pending_stays_so(self):
        """In the cleanup of a cancelled task everything works, and the count is as it was."""
        counts = []

        async def service():
            try:
                await forever()
            finally:
                assert await try_gather(give(1), after(turns(), 2)) == [1, 2]
                with pytest.raises(Boom):
                    await try_gather(forever(), after(turns(), Boom()))
                await cancel_and_wait(await start(forever()))
                counts.append(asyncio.current_task().cancelling())

        task = await start(service())
        task.cancel()
        await asyncio.wait([task])

        assert task.cancelled()
        assert counts == [1]

    async def test_an_error_that_is_not_raised_is_not_marked_as_seen(self, no_leaks):
        """Cancelling a task that has failed would silence asyncio's own report of it."""
        failed = await start(fail(Boom()))

        await cancel_and_wait(failed)
        del failed
        gc.collect()

        [record] = no_leaks.errors
        assert record.getMessage().startswith("Task exception was never retrieved")
        no_leaks.errors.clear()


    async def test_a_child_that_ended_by_itself_is_not_taken_for_cancelled(self, caplog):
        """Its cancellation, which nobody had requested, came just before the request."""
        [released] = futures(1)
        async with task_scope() as scope:
            scope.launch(after(released, asyncio.CancelledError), name="child")
            await turns()
            released.set_result(None)
            asyncio.get_running_loop().call_soon(scope.cancel)
            await turns()

        [(level, message)] = messages(caplog)
        assert level == "WARNING"
        assert message.startswith("task 'child' was cancelled without a request to cancel it, launched at ")


class TestClosed:
    """GeneratorExit at one of our own awaits: to await again would be an error, so the tasks are told and let go."""

    @staticmethod
    def drive(coroutine):
        """Step *coroutine* by hand to its first await, within the current task."""
        coroutine.send(None)
        return coroutine

    async def test_a_closed_gather_cancels_its_children_and_does_not_wait(self):
        """They may outlive it, but not for long."""
        log = []
        gathering = self.drive(try_gather(noting(log, "child", forever()), forever()))
        await turns()

        gathering.close()

        assert log == []
        await turns()
        assert log == [("child", "CancelledError"), ("child", "ended")]

    async def test_a_closed_cancel_and_wait_does_not_wait_either(self):
        """Its tasks had been told, and nobody is told twice."""
        [released] = futures(1)
        task = await start(outlast(released))
        stopping = self.drive(cancel_and_wait(task))
        await turns()

        stopping.close()

        assert not task.done()
        released.set_result(None)
        await task
        assert task.cancelling() == 1

    async def test_closed_while_it_drains_it_goes_too(self):
        """The children have been cancelled and ignore it."""
        [released] = futures(1)
        gathering = self.drive(try_gather(outlast(released), fail(Boom())))
        await turns()

        gathering.close()

        released.set_result(None)
        await turns()

    async def test_what_its_children_raise_afterwards_is_logged(self, caplog):
        """Nobody is left to raise it to."""
        gathering = self.drive(try_gather(fail_when_cancelled(Boom(), "saver"), forever()))
        await turns()

        gathering.close()
        await turns()

        assert messages(caplog) == [
            ("ERROR", "task 'saver' failed with Boom, not raised by try_gather: it ends otherwise"),
        ]

    @virtual
    async def test_children_that_outlive_it_are_still_named(self, caplog):
        """A task that does not stop is worth a warning, whoever waits."""
        gathering = self.drive(try_gather(stuck(6, "saver"), forever()))
        await turns()

        gathering.close()
        await asyncio.sleep(10)

        assert messages(caplog) == [warning("try_gather", 5, parked("saver", 1))]

    async def test_a_forgotten_host_is_closed_by_the_garbage_collector(self):
        """Python closes it, and its children are told."""
        log = []
        gathering = self.drive(try_gather(noting(log, "child", forever()), forever()))
        await turns()

        del gathering
        await turns()

        assert log == [("child", "CancelledError"), ("child", "ended")]

    def test_a_host_that_outlives_its_loop_goes_in_silence(self, new_loop, no_leaks, caplog):
        """Nothing can run any more, not even a cancellation; the coroutines that never started are closed."""
        waiting = give(1)

        async def main():
            return (
                self.drive(try_gather(forever(), waiting, limit=1)),
                self.drive(cancel_and_wait(asyncio.create_task(forever()))),
            )

        # Not by asyncio.run(), which would cancel what is left.
        loop = new_loop()
        hosts = loop.run_until_complete(main())
        loop.close()

        for host in hosts:
            host.close()

        assert closed(waiting)
        # The children die with the loop, of which asyncio has something to say.
        del host, hosts
        gc.collect()
        assert {record.name for record in caplog.records} <= {"asyncio"}
        no_leaks.errors.clear()

    async def test_the_body_of_an_async_generator_may_await_when_it_is_closed(self):
        """GeneratorExit that comes from a ``yield`` is no reason to hurry: the cleanup is an await like others."""
        log = []

        async def service():
            try:
                yield 1
            finally:
                with pytest.raises(Boom):
                    await try_gather(noting(log, "cleanup", forever()), after(turns(), Boom()))
                log.append("clean")

        serving = service()
        assert await anext(serving) == 1
        await serving.aclose()

        assert log == [("cleanup", "CancelledError"), ("cleanup", "ended"), "clean"]


@pytest.mark.parametrize("ending", [SystemExit, KeyboardInterrupt])
class TestExits:
    """SystemExit and KeyboardInterrupt end the program: the loop raises them, and we neither log nor convert them."""

    @staticmethod
    def run(runner, coroutine, ending):
        """Run *coroutine* until *ending* comes out of the loop, then end what is left, as `asyncio.run` does."""
        with pytest.raises(ending):
            runner.run(coroutine)
        runner.close()

    def test_out_of_a_gathers_child_it_passes_through_the_loop(self, runner, ending, caplog):
        """The siblings are stopped, and the log is silent."""
        log = []

        async def main():
            await try_gather(noting(log, "sibling", forever()), after(turns(), ending()))

        self.run(runner, noting(log, "main", main()), ending)

        assert sorted(log) == [
            ("main", "CancelledError"),
            ("main", "ended"),
            ("sibling", "CancelledError"),
            ("sibling", "ended"),
        ]
        assert caplog.records == []

    def test_out_of_the_cleanup_of_a_child_too(self, runner, ending, caplog):
        """It comes later than the first error, and is not logged as one."""

        async def main():
            await try_gather(fail_when_cancelled(ending()), after(turns(), Boom()))

        self.run(runner, main(), ending)

        # The caller was cancelled meanwhile, so that its own error is in the log.
        [(level, message)] = messages(caplog)
        assert level == "ERROR"
        assert message.endswith("failed with Boom, not raised by try_gather: it ends otherwise")

    def test_out_of_a_task_that_is_being_stopped_too(self, runner, ending, caplog):
        """`cancel_and_wait` has nothing to say to it."""

        async def main():
            await cancel_and_wait(await start(fail_when_cancelled(ending())))

        self.run(runner, main(), ending)

        assert caplog.records == []

    def test_if_the_loop_goes_on_the_caller_gets_it_as_with_a_plain_await(self, runner, ending, caplog):
        """Somebody has caught what the loop raised, and runs it again."""
        log = []

        async def main():
            await noting(log, "caller", try_gather(noting(log, "sibling", forever()), after(turns(), ending())))

        async def go_on():
            await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()})

        loop = runner.get_loop()
        task = loop.create_task(main())
        with pytest.raises(ending):
            loop.run_until_complete(task)
        with pytest.raises(ending):
            loop.run_until_complete(go_on())
        runner.close()

        assert log == [
            ("sibling", "CancelledError"),
            ("sibling", "ended"),
            ("caller", ending.__name__),
            ("caller", "ended"),
        ]
        assert isinstance(task.exception(), ending)
        assert caplog.records == []


if "eager" in LOOPS:  # 3.11 has no eager tasks

    @pytest.mark.asyncio(loop_factories=["eager"])
    @pytest.mark.parametrize("ending", [SystemExit, KeyboardInterrupt])
    class TestEagerExits:
        """Out of an eager first step they come out of ``create_task`` itself, and no loop has seen them."""

        @pytest.fixture(autouse=True)
        def asyncio_has_its_say(self, no_leaks, caplog):
            """Asyncio reports the task that nobody ever got hold of; async_plus says nothing."""
            yield
            gc.collect()
            [record] = no_leaks.errors
            assert record.getMessage().startswith("Task exception was never retrieved")
            assert not [record for record in caplog.get_records("call") if record.name != "asyncio"]
            no_leaks.errors.clear()

        async def test_the_started_are_stopped_and_the_others_closed(self, ending):
            """Then it is raised, as it is."""
            log = []
            waiting = give(1)

            with pytest.raises(ending):
                await try_gather(noting(log, "sibling", forever()), fail(ending()), waiting)

            assert log == [("sibling", "CancelledError"), ("sibling", "ended")]
            assert closed(waiting)

        async def test_so_they_are_if_it_was_its_turn_only_later(self, ending):
            """A place under the limit became free, in a callback of the loop."""
            log = []
            waiting = give(1)

            with pytest.raises(ending):
                await try_gather(turns(3), noting(log, "sibling", forever()), fail(ending()), waiting, limit=2)

            assert log == [("sibling", "CancelledError"), ("sibling", "ended")]
            assert closed(waiting)

        async def test_a_cancellation_of_the_caller_does_not_take_its_place(self, ending):
            """The program would not end otherwise: nobody else knows of it."""
            [released] = futures(1)

            async def call():
                with pytest.raises(ending):
                    await try_gather(outlast(released), fail(ending()))
                return "passed"

            host = await start(call())
            host.cancel()
            await turns()
            released.set_result(None)

            assert await host == "passed"


class TestReferences:
    """Tracebacks hold frames: what leads from a frame to its exception would be a cycle (gh-124958, gh-128552)."""

    # Classes are raised here, not exceptions: a coroutine that is given one makes a cycle of its own with it.

    async def succeed(self):
        await try_gather(give(1), turns(), asyncio.create_task(turns()))
        await try_gather(give(1), turns(), give(2), limit=1)

    async def fail_at_once(self):
        with contextlib.suppress(Boom):
            await try_gather(fail(Boom), forever())

    async def fail_later(self):
        with contextlib.suppress(Boom):
            await try_gather(forever(), after(turns(), Boom), asyncio.create_task(forever()))

    async def fail_in_a_later_place(self):
        with contextlib.suppress(Boom):
            await try_gather(turns(), fail(Boom), give(1), limit=1)

    async def fail_with_a_given_task(self):
        with contextlib.suppress(Boom):
            await try_gather(forever(), asyncio.Task(fail(Boom)))
        with contextlib.suppress(Boom):
            await try_gather(*[asyncio.Task(fail(Boom))] * 2)

    async def be_cancelled(self):
        host = await start(try_gather(forever(), turns(50)))
        host.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await host

    async def be_cancelled_while_it_fails(self):
        [released] = futures(1)
        host = await start(try_gather(outlast(released), fail_when_cancelled(Bang), after(turns(3), Boom)))
        host.cancel()
        released.set_result(None)
        await asyncio.wait([host])
        assert host.cancelled()

    async def lose_a_child(self):
        task = await start(forever())
        asyncio.get_running_loop().call_later(0, task.cancel)
        with contextlib.suppress(UnexpectedCancellation):
            await try_gather(task, forever())

    async def be_refused(self):
        with contextlib.suppress(TypeError):
            await try_gather(give(1), 5)
        with contextlib.suppress(TypeError):
            await cancel_and_wait(give(1))

    async def stop_tasks(self):
        await cancel_and_wait(await start(forever()), await start(fail_when_cancelled(Boom)))

    async def stop_tasks_and_be_cancelled(self):
        [released] = futures(1)
        host = await start(cancel_and_wait(await start(fail_when_cancelled(Boom)), await start(outlast(released))))
        host.cancel()
        released.set_result(None)
        await asyncio.wait([host])
        assert host.cancelled()

    async def be_closed(self):
        gathering = try_gather(forever(), turns())
        gathering.send(None)
        gathering.close()
        await turns()

    @pytest.mark.parametrize(
        "scenario",
        [
            succeed,
            fail_at_once,
            fail_later,
            fail_in_a_later_place,
            fail_with_a_given_task,
            be_cancelled,
            be_cancelled_while_it_fails,
            lose_a_child,
            be_refused,
            stop_tasks,
            stop_tasks_and_be_cancelled,
            be_closed,
        ],
    )
    async def test_nothing_is_left_for_the_garbage_collector(self, scenario, caplog, monkeypatch):
        """Everything goes by itself, at once."""
        loop = asyncio.get_running_loop()
        if (factory := loop.get_task_factory()) is not None:
            # Before 3.13.2 asyncio itself makes a cycle around each eager task that fails at once.
            monkeypatch.setattr(loop, "create_task", functools.partial(factory, loop))
        with no_garbage():
            await asyncio.create_task(scenario(self))
            caplog.clear()
            await turns()

    async def test_a_finished_task_is_let_go_while_others_run(self):
        """Whoever owns it for long does not hold on to what it held."""
        [released] = futures(1)

        async def quick(thing):
            await turns(3)

        class Thing:
            pass

        thing = Thing()
        gone = weakref.ref(thing)
        async with task_scope() as scope:
            scope.launch(outlast(released))
            scope.launch(quick(thing))
            del thing
            await turns()
            assert gone() is None
            assert len(scope) == 1
            released.set_result(None)
            await scope.wait()


class TestTheCodeItself:
    def test_it_never_waits_for_children_by_asyncios_own_means(self):
        """These wait on the children, and cannot tell whose cancellation it is (gh-152569, gh-156321)."""
        engine = pathlib.Path(async_plus.__file__).parent / "engine"
        used = {
            (path.name, node.attr)
            for path in engine.glob("*.py")
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "asyncio"
            and node.attr in {"wait", "wait_for", "gather", "shield", "as_completed", "TaskGroup", "timeout"}
        }

        assert used == set()

    def test_it_never_asks_a_task_for_its_coroutine(self):
        """For one that was done after its eager first step, that crashes CPython 3.12.1 (gh-122332)."""
        package = pathlib.Path(async_plus.__file__).parent
        used = {
            path.name
            for path in package.rglob("*.py")
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Attribute) and node.attr == "get_coro"
        }

        assert used == set()

    def test_it_never_takes_a_cancellation_back(self):
        """`uncancel()` would be needed only if it had cancelled the host."""
        engine = pathlib.Path(async_plus.__file__).parent / "engine"

        assert not [path.name for path in engine.glob("*.py") if ".uncancel(" in path.read_text(encoding="utf-8")]
