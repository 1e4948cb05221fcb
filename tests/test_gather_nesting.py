"""`try_gather` among others: inside itself, scopes, supervision, and at the end of a program."""

from __future__ import annotations

import asyncio
import re
import signal

import pytest
from loops import factories
from tools import (
    Boom,
    after,
    fail,
    forever,
    futures,
    give,
    messages,
    noting,
    refused,
    start,
    turns,
)

from async_plus import UnexpectedCancellation, cancel_and_wait, impatient, supervised, task_scope, try_gather


class TestNesting:
    async def test_an_inner_failure_stops_the_outer_siblings_too(self):
        """The error rises through both, as itself."""
        log = []
        error = Boom()

        with pytest.raises(Boom) as caught:
            await try_gather(
                noting(log, "outer", forever()),
                try_gather(noting(log, "inner", forever()), after(asyncio.sleep(0), error)),
            )

        assert caught.value is error
        assert log == [
            ("inner", "CancelledError"),
            ("inner", "ended"),
            ("outer", "CancelledError"),
            ("outer", "ended"),
        ]

    async def test_an_outer_cancellation_reaches_each_inner_child_once(self):
        """Through two levels, and everything has ended when it is raised."""
        children = []

        async def child():
            children.append(asyncio.current_task())
            await forever()

        host = await start(try_gather(try_gather(child(), child()), try_gather(child()), child()))
        host.cancel()

        with pytest.raises(asyncio.CancelledError):
            await host
        assert [task.cancelling() for task in children] == [1, 1, 1, 1]
        assert all(task.cancelled() for task in children)

    async def test_an_unexpected_cancellation_inside_is_an_error_outside(self):
        """A child of the inner one was cancelled, the inner one was not."""
        task = await start(forever(), "fetcher")
        host = await start(try_gather(try_gather(task), forever()))
        task.cancel()

        with refused(UnexpectedCancellation, "fetcher was cancelled while try_gather waited for it"):
            await host

    async def test_in_a_scope_its_failure_is_reported_once(self, caplog):
        """As that of the task that called it."""
        async with task_scope() as scope:
            scope.launch(try_gather(forever(), fail(Boom())), name="gatherer")
            await scope.wait()

        [(level, message)] = messages(caplog)
        assert level == "ERROR"
        assert message.startswith("task 'gatherer' failed with Boom, launched at ")

    async def test_a_scope_inside_ends_with_it(self):
        """Its tasks are stopped by the scope, which is stopped by the gather."""
        log = []

        async def scoped():
            async with task_scope() as scope:
                scope.launch(noting(log, "launched", forever()))
                await forever()

        host = await start(try_gather(scoped(), after(asyncio.sleep(0), Boom())))

        with pytest.raises(Boom):
            await host
        assert log == [("launched", "CancelledError"), ("launched", "ended")]

    @pytest.mark.virtual_time
    async def test_supervised_over_it_restarts_all_or_nothing(self, virtual_clock):
        """When one part fails, the others stop, and all start again."""
        log = []

        @supervised(delays=[1], max_restarts=1)
        async def service():
            await try_gather(noting(log, "a", forever()), after(asyncio.sleep(5), Boom()))

        with pytest.raises(Boom) as caught:
            await service()

        assert caught.value.__notes__ == [f"gave up on {service.__qualname__} after 1 restart"]
        assert log == [("a", "CancelledError"), ("a", "ended")] * 2
        assert virtual_clock.elapsed == 11

    @pytest.mark.virtual_time
    async def test_an_impatient_caller_is_told_what_it_waits_for(self, caplog):
        """A gather that takes long is named, with the tasks it still waits for."""
        [released] = futures(1)
        asyncio.get_running_loop().call_later(7, released.set_result, None)

        await impatient(try_gather(give(1), after(released)), log_after=5)

        first, second = messages(caplog)
        assert first[0] == second[0] == "WARNING"
        assert first[1].startswith("Still waiting for try_gather after 5.0 s at ")
        assert re.search(r" on try_gather of '(Task-\d+|after)'$", first[1])
        assert second[1].startswith("try_gather at ")
        assert second[1].endswith(" returned after 7.0 s")


LOOPS = factories(virtual=True)


class TestEndOfTheProgram:
    """`asyncio.run` ends by cancelling every task at once, in any order: that must not look like failures."""

    @pytest.fixture(params=LOOPS)
    def runner(self, request):
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            yield runner

    @staticmethod
    async def tree(log):
        """Gathers in gathers, a scope, given tasks and a limit, all parked."""

        async def scoped():
            async with task_scope() as scope:
                scope.launch(noting(log, "scope", forever()))
                await try_gather(noting(log, "in scope", forever()), forever())

        given = asyncio.create_task(noting(log, "given", forever()))
        never = give("never started")
        await try_gather(
            try_gather(noting(log, "deep", forever()), forever()),
            scoped(),
            given,
            try_gather(noting(log, "limited", forever()), never, limit=1),
            noting(log, "cleaning", clean_up_slowly()),
        )

    @staticmethod
    def check(log, caplog):
        names = ["cleaning", "deep", "given", "in scope", "limited", "scope"]
        assert sorted(name for name, what in log if what == "ended") == names
        assert caplog.records == []

    def test_a_program_that_leaves_its_gathers_running_ends_without_a_word(self, runner, caplog):
        """The main coroutine returns, and all that is left is cancelled in one go."""
        log = []

        async def main():
            trees = [asyncio.create_task(self.tree(log)), asyncio.create_task(self.tree([]))]
            await turns()
            return trees

        trees = runner.run(main())
        runner.close()

        assert all(tree.cancelled() for tree in trees)
        self.check(log, caplog)

    def test_an_interrupted_program_ends_without_a_word(self, runner, caplog):
        """Ctrl-C cancels the main task, then what is left, and ends in a KeyboardInterrupt."""
        log = []

        async def main():
            asyncio.get_running_loop().call_later(1, signal.raise_signal, signal.SIGINT)
            background = asyncio.create_task(self.tree([]))
            await self.tree(log)
            await background

        with pytest.raises(KeyboardInterrupt):
            runner.run(main())
        runner.close()

        self.check(log, caplog)

    def test_all_tasks_cancelled_by_hand_end_without_a_word(self, runner, caplog):
        """In the order in which they are found, and in the opposite one."""

        async def main(step):
            log = []
            tree = asyncio.create_task(self.tree(log))
            await turns()
            others = sorted(asyncio.all_tasks() - {asyncio.current_task()}, key=id)[::step]
            for task in others:
                task.cancel()
            await asyncio.wait(others)
            assert tree.cancelled()
            self.check(log, caplog)

        runner.run(main(1))
        runner.run(main(-1))

    def test_all_tasks_given_to_cancel_and_wait_end_without_a_word(self, runner, caplog):
        """The obvious way to write the end of a program."""
        log = []

        async def main():
            tree = asyncio.create_task(self.tree(log))
            await turns()
            await cancel_and_wait(*(asyncio.all_tasks() - {asyncio.current_task()}))
            assert tree.cancelled()

        runner.run(main())

        self.check(log, caplog)


async def clean_up_slowly():
    try:
        await forever()
    finally:
        await turns(10)
