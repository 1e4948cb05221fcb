"""Owned tasks, the core below gathers, scopes and `cancel_and_wait`: what holds for all of them."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import functools
import gc
import pathlib
import weakref

import pytest
from loops import factories
from stuck import parked, stuck, warning
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
from async_plus import UnexpectedCancellation, cancel_and_wait, launch_watched, task_scope, try_gather

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

    async def test_a_first_error_that_was_not_raised_yet_is_logged(self, caplog):
        """The gather is closed while it waits for the others to stop: nobody is left to raise it to."""
        [released] = futures(1)

        async def crash():
            await turns(1)
            asyncio.current_task().set_name("saver")
            raise Boom

        gathering = self.drive(try_gather(outlast(released), crash()))
        await turns()

        gathering.close()

        released.set_result(None)
        await turns()
        assert messages(caplog) == [
            ("ERROR", "task 'saver' failed with Boom, not raised by try_gather: it ends otherwise"),
        ]

    async def test_a_first_error_that_somebody_else_reports_is_not_logged_again(self, caplog):
        """A watched task tells of its failure itself."""
        [released] = futures(1)
        failing = launch_watched(after(turns(1), Boom()), name="saver")
        gathering = self.drive(try_gather(outlast(released), failing))
        await turns()

        gathering.close()

        released.set_result(None)
        await turns()
        [(level, message)] = messages(caplog)
        assert level == "ERROR"
        assert message.startswith("task 'saver' failed with Boom, launched at ")

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
