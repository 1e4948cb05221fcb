"""`task_scope` under an eager task factory, where the first step of a task runs inside its launch."""

from __future__ import annotations

import asyncio
import gc
import sys

import pytest
from tools import (
    Boom,
    facts_of,
    fail,
    fail_when_cancelled,
    forever,
    futures,
    give,
    noting,
    outlast,
    turns,
)

from async_plus import ignore, task_scope

if sys.version_info < (3, 12):
    # There are no eager tasks, so there is no loop to run these on.
    pytest.skip("CPython 3.12 brought eager tasks", allow_module_level=True)

exits = pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])


async def give_later(value):
    await asyncio.sleep(0)
    return value


@pytest.mark.asyncio(loop_factories=["eager"])
class TestEager:
    """Under an eager task factory the first step runs inside the launch (3.12+)."""

    async def test_a_child_may_be_done_when_it_is_returned(self):
        """It counts no more; the scope has let it go one moment later."""
        async with task_scope() as scope:
            task = scope.launch(give(5))
            assert task.done()
            assert (len(scope), scope.tasks) == (0, frozenset())
            assert await task == 5

    async def test_a_scope_may_be_left_with_all_its_children_done(self):
        """Their reports come before its end nevertheless."""
        seen = []
        async with task_scope(lambda task, exc: seen.append(task.get_name())) as scope:
            scope.launch(fail(Boom()), "first")
            scope.launch(give(1))
        assert seen == ["first"]

    async def test_a_child_may_launch_others_in_its_first_step(self):
        """They belong to the scope like others."""
        log = []

        async def outer():
            scope.launch(noting(log, "inner", forever()))
            await noting(log, "outer", forever())

        async with task_scope() as scope:
            scope.launch(outer())
            assert len(scope) == 2

        assert sorted(log) == [
            ("inner", "CancelledError"),
            ("inner", "ended"),
            ("outer", "CancelledError"),
            ("outer", "ended"),
        ]

    async def test_a_child_may_cancel_its_scope_in_its_first_step(self, caplog):
        """It is cancelled as well, although it was not one of its tasks yet, and once only."""
        log = []

        async def child():
            scope.cancel()
            await noting(log, "child", forever())

        async with task_scope() as scope:
            task = scope.launch(child())
            await turns()
            assert task.cancelled()

        assert task.cancelling() == 1
        assert log == [("child", "CancelledError"), ("child", "ended")]
        assert caplog.records == []

    async def test_a_child_that_cancels_its_scope_and_ends_in_its_first_step_has_ended(self, no_leaks):
        """A cancellation would only mark its exception as seen."""

        async def child():
            scope.cancel()
            raise Boom

        async with task_scope(ignore) as scope:
            task = scope.launch(child())
            await turns()

        assert task.cancelling() == 0

    async def test_a_child_that_cancels_its_scope_and_then_ends_as_cancelled_was_not(self, caplog):
        """It had ended before anybody could cancel it, so nobody requested that."""

        async def child():
            scope.cancel()
            raise asyncio.CancelledError

        async with task_scope() as scope:
            scope.launch(child(), "child")

        assert [(record.levelname, facts_of(record)["task"]) for record in caplog.records] == [("WARNING", "child")]

    async def test_what_a_child_launches_after_it_cancelled_its_scope_goes_on(self):
        """`cancel()` is about the tasks that live, not about those to come."""
        later = []

        async def child():
            scope.cancel()
            later.append(scope.launch(give_later(5)))
            await forever()

        async with task_scope() as scope:
            task = scope.launch(child())
            await scope.wait(return_when=asyncio.ALL_COMPLETED)

        assert task.cancelled()
        assert later[0].result() == 5

    @pytest.mark.virtual_time
    async def test_a_child_cancelled_in_its_first_step_is_named_when_stuck(self, caplog):
        """As others are, since its own cancellation."""
        [released] = futures(1)

        async def child():
            scope.cancel()
            await outlast(released)

        async with task_scope(name="feeds") as scope:
            task = scope.launch(child(), "stubborn")
            asyncio.get_running_loop().call_later(6, released.set_result, None)

        [record] = caplog.records
        assert task.cancelling() == 1
        assert record.getMessage().startswith(
            "task_scope 'feeds' still waits for 1 cancelled task after 5.0 s: 'stubborn' parked "
        )

    async def test_a_child_may_cancel_its_host_while_that_launches_it(self):
        """The host is cancelled at its next await, and the children with it."""
        log = []

        async def child(host):
            host.cancel()
            await noting(log, "child", forever())

        async def host():
            async with task_scope() as scope:
                scope.launch(child(asyncio.current_task()))
                log.append("launched")
                await noting(log, "body", forever())

        task = asyncio.create_task(host())
        with pytest.raises(asyncio.CancelledError):
            await task

        assert task.cancelling() == 1
        assert log == [
            "launched",
            ("body", "CancelledError"),
            ("body", "ended"),
            ("child", "CancelledError"),
            ("child", "ended"),
        ]

    async def test_a_host_cancelled_by_the_child_it_launches_last_is_cancelled_in_the_exit(self):
        """There the next await is ours."""
        log = []

        async def child(host):
            host.cancel()
            await noting(log, "child", forever())

        async def host():
            async with task_scope(drain=5) as scope:
                scope.launch(child(asyncio.current_task()))

        with pytest.raises(asyncio.CancelledError):
            await asyncio.create_task(host())
        assert log == [("child", "CancelledError"), ("child", "ended")]

    async def test_an_error_in_the_cleanup_of_an_eager_child_is_reported_once(self, caplog):
        """Launched and left without any step between."""
        async with task_scope() as scope:
            scope.launch(fail_when_cancelled(Boom()), "child")

        assert [facts_of(record)["task"] for record in caplog.records] == ["child"]


@exits
def test_an_exit_in_the_first_step_comes_out_of_the_launch(kind, caplog, no_leaks):
    """Out of ``create_task``, that is: the rest is cancelled. asyncio's own complaint about that task is accepted."""
    log = []

    async def main():
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        async with task_scope() as scope:
            scope.launch(noting(log, "sibling", forever()))
            scope.launch(fail(kind(3)))
            log.append("never comes here")

    with pytest.raises(kind):
        asyncio.run(main())
    gc.collect()

    assert log == [("sibling", "CancelledError"), ("sibling", "ended")]
    assert [record for record in caplog.records if record.name != "asyncio"] == []
    no_leaks.errors.clear()


@exits
def test_an_exit_in_the_first_step_comes_out_of_a_childs_launch(kind, caplog, no_leaks):
    """It is then the exit of that child, which the loop raises."""
    log = []

    async def child(scope):
        await asyncio.sleep(0)
        scope.launch(fail(kind(3)))

    async def main():
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        async with task_scope() as scope:
            scope.launch(noting(log, "sibling", forever()))
            scope.launch(noting(log, "child", child(scope)))
            await noting(log, "body", forever())

    with pytest.raises(kind):
        asyncio.run(main())
    gc.collect()

    assert log[:2] == [("child", kind.__name__), ("child", "ended")]
    assert {name for name, _ in log[2:]} == {"body", "sibling"}
    assert [record for record in caplog.records if record.name != "asyncio"] == []
    no_leaks.errors.clear()
