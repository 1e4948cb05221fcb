"""`snapshot()`: who waits for whom in a circle, for certain or possibly, and when a timeout ends it."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from locks import cross, enter, on, told
from tools import forever, start, turns

from async_plus import Supervisor, cancel_and_wait, snapshot, supervised, task_scope, try_gather

virtual = pytest.mark.virtual_time

AB = "'a' -> 'b' -> 'a'"


class TestCycles:
    async def test_locks_taken_in_different_order_are_a_deadlock(self, park):
        """Each names the other; a third one who waits as well is in no circle."""
        first, second, gate = asyncio.Lock(), asyncio.Lock(), asyncio.Event()

        await park(a=cross(gate, first, second), b=cross(gate, second, first), c=enter(first))
        gate.set()
        await turns()
        snap = snapshot()

        assert told(snap) == ["deadlock: 'a' -> 'b' -> 'a'"]
        [cycle] = snap.cycles
        assert (cycle.tasks, cycle.is_certain, cycle.ends_in) == (("a", "b"), True, None)

    async def test_tasks_that_await_each_other_are_a_deadlock(self, park):
        """Directly, through gathers, shields, wait and wait_for."""
        tasks = {}

        async def wait_for(name):
            await turns(20)
            await tasks[name]

        async def gather(name):
            await turns(20)
            await asyncio.gather(asyncio.gather(tasks[name]), forever())

        async def wait(name):
            await turns(20)
            await asyncio.wait([tasks[name], asyncio.get_running_loop().create_future()])

        async def shield(name):
            await turns(20)
            await asyncio.shield(tasks[name])

        tasks["a"] = asyncio.create_task(wait_for("b"))
        tasks["b"] = asyncio.create_task(gather("c"))
        tasks["c"] = asyncio.create_task(wait("d"))
        tasks["d"] = asyncio.create_task(shield("a"))
        for name, task in tasks.items():
            task.set_name(name)
        await turns(40)

        found = told(snapshot())
        await break_up(*tasks.values())

        assert found == ["deadlock: 'a' -> 'b' -> 'c' -> 'd' -> 'a'"]

    async def test_a_circle_may_go_through_a_lock_and_a_task(self, park):
        """One waits for the lock of the other, who waits for that one behind a shield."""
        lock, entering = asyncio.Lock(), []

        async def hold():
            async with lock:
                entering.append(asyncio.create_task(enter(lock)))
                await turns()
                entering[0].set_name("b")
                await asyncio.shield(entering[0])

        await park(a=hold())
        await turns()

        found = told(snapshot())
        await cancel_and_wait(*entering)
        assert found == ["deadlock: 'a' -> 'b' -> 'a'"]

    async def test_each_circle_is_told_once(self, park):
        """Two of them, in the order of their names."""
        locks = [asyncio.Lock() for _ in range(4)]
        await park(d=enter(locks[0], locks[0]), c=enter(locks[1], locks[1]), b=enter(locks[1]), a=enter(locks[0]))

        assert told(snapshot()) == ["deadlock: 'c' -> 'c'", "deadlock: 'd' -> 'd'"]

    async def test_of_very_many_circles_some_are_told(self, park):
        """Enough to see what is wrong."""
        for number in range(15):
            lock = asyncio.Lock()
            await park(**{f"t{number}": enter(lock, lock)})

        assert told(snapshot()) == [f"deadlock: 't{number}' -> 't{number}'" for number in range(10)]

    @pytest.mark.parametrize(
        ("waits", "lines"),
        [
            # A way from one circle to another one is in neither, and each is told by the shortest way around.
            ("a: b m / b: a / m: d / d: e f / e: d / f: e", [AB, "'d' -> 'e' -> 'd'", "'d' -> 'f' -> 'e' -> 'd'"]),
            # Nobody in it waits for the first two, and the last one is no part of it either.
            ("x: a z / y: x / a: b z / b: a / z:", [AB]),
            # One that will end does not help who waits for all.
            ("a: b c / b: a / c: x / x:", [AB]),
            # Who waits for the first of several is stuck if all of them are.
            ("a: b | c / b: a / c:", []),
            ("a: b | c / b: a / c: a", [AB, "'a' -> 'c' -> 'a'"]),
            ("a: b | c / b: x / c: x / x:", []),
            ("a: b | c / b: a / c: x / x:", []),
        ],
    )
    async def test_circles_are_found_in_all_that_wait_for_each_other(self, waits, lines):
        """By whom each waits for: a bar between two means that the first one is enough."""
        tasks = {}

        async def wait(names):
            await asyncio.sleep(0)
            if names:
                any_or_all = asyncio.FIRST_COMPLETED if "|" in names else asyncio.ALL_COMPLETED
                await asyncio.wait([tasks[name] for name in names if name != "|"], return_when=any_or_all)
            await forever()

        for part in waits.split("/"):
            name, _, names = part.partition(":")
            tasks[name.strip()] = asyncio.create_task(wait(names.split()))
        await turns()
        for name, task in tasks.items():
            task.set_name(name)

        found = told(snapshot())
        await break_up(*tasks.values())

        assert found == [f"deadlock: {line}" for line in lines]

    async def test_a_wait_that_was_not_seen_may_end(self, park, monkeypatch):
        """A task of another loop is among those waited for, say."""
        tasks = {}

        async def wait(*names):
            await asyncio.sleep(0)
            await asyncio.wait([tasks[name] for name in names], return_when=asyncio.FIRST_COMPLETED)

        tasks["a"] = asyncio.create_task(wait("b", "unseen"))
        tasks["b"] = asyncio.create_task(wait("a"))
        tasks["unseen"] = asyncio.create_task(forever())
        await turns()
        monkeypatch.setattr(asyncio, "all_tasks", lambda loop: {tasks["a"], tasks["b"]})

        found = told(snapshot())
        monkeypatch.undo()
        await break_up(*tasks.values())

        assert found == []

    @pytest.mark.parametrize(
        ("semaphore", "line"),
        [
            (lambda: asyncio.Semaphore(2), "possible deadlock: 'a' -> 'a'"),
            (lambda: asyncio.BoundedSemaphore(2), "deadlock: 'a' -> 'a'"),
        ],
    )
    async def test_a_pool_of_which_each_wants_one_more_is_a_deadlock(self, park, semaphore, line):
        """Of a plain semaphore somebody unseen may hold something, of a bounded one all places are known."""
        pool, gate = semaphore(), asyncio.Event()
        await park(a=cross(gate, pool, pool), b=cross(gate, pool, pool))
        gate.set()
        await turns()

        assert told(snapshot())[0] == line

    async def test_a_pool_of_which_one_will_let_go_is_no_deadlock(self, park):
        """He is not stuck, so neither are the others."""
        pool, gate = asyncio.BoundedSemaphore(2), asyncio.Event()
        await park(a=cross(gate, pool, pool), b=enter(pool))
        gate.set()
        await turns()

        assert told(snapshot()) == []

    async def test_those_who_wait_for_a_circle_are_not_in_it(self, park):
        """Nor those for whom a member waits besides."""
        lock = asyncio.Lock()
        stuck = await park(stuck=enter(lock, lock))

        async def wait(task):
            await asyncio.shield(task)

        await park(a=wait(stuck), b=try_gather(wait(stuck)))

        assert told(snapshot()) == ["deadlock: 'stuck' -> 'stuck'"]

    @virtual
    async def test_a_timeout_ends_a_circle(self, park):
        """Then it is told when, since the program goes on by itself."""
        lock = asyncio.Lock()

        async def patient():
            async with asyncio.timeout(60), asyncio.timeout(30), asyncio.timeout(90):
                await enter(lock, lock)

        await park(a=patient())
        await asyncio.sleep(10)

        assert told(snapshot()) == ["deadlock: 'a' -> 'a', until a timeout in 20.0 s"]

    @virtual
    async def test_a_lock_waited_for_with_a_timeout_is_told_with_both(self, park):
        """Through `wait_for`, which has a task of its own on 3.11; and `asyncio.wait` has a timeout as well."""
        lock = asyncio.Lock()

        async def wait_for():
            async with lock:
                await asyncio.wait_for(enter(lock), 60)

        async def wait():
            await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=30)

        await park(a=wait_for(), b=wait())
        await asyncio.sleep(10)

        snap = snapshot()
        assert told(snap) == ["deadlock: 'a' -> 'a', until a timeout in 50.0 s"]
        assert on("a") == "Lock.acquire, held by itself"
        [left] = [info.timeout_in for info in snap.tasks if info.names == ("b",)]
        assert round(left, 3) == 20

    async def test_a_child_that_waits_for_its_own_scope_is_no_deadlock(self, park):
        """It does not wait for those who wait there as well, itself above all."""
        async with task_scope(name="s") as scope:

            async def wait():
                await scope.wait(return_when=asyncio.ALL_COMPLETED)

            async def leave_alone():
                await forever()

            scope.launch(wait(), name="a")
            scope.launch(wait(), name="b")
            scope.launch(leave_alone(), name="c")
            host = await start(scope.wait(), "host")
            snap = snapshot()
            host.cancel()
            scope.cancel()

        assert told(snap) == []

    async def test_a_child_that_starts_another_one_is_no_deadlock(self, park):
        """It waits for that one, and not for itself."""

        @supervised(ready=True)
        async def slow():
            await forever()

        async def parent(sup):
            await sup.start(slow)

        async with Supervisor("shop") as sup:
            await sup.start(parent, sup)
            await turns()
            snap = snapshot()

        assert told(snap) == []
        assert [child.state for child in snap.supervisors[0].children] == ["running", "starting"]

    async def test_a_child_that_waits_for_its_supervisor_is_a_deadlock(self, park):
        """It waits for the end of all children, so for its own."""

        async def child(sup):
            await sup.wait()

        async with Supervisor("shop") as sup:
            await sup.start(child, sup, name="child")
            await turns()
            snap = snapshot()

        assert told(snap) == ["deadlock: 'child#1' -> 'child#1'"]

    async def test_siblings_that_wait_for_the_end_of_each_other_are_a_deadlock(self, park):
        """Neither of them ends by itself."""

        async def wait_for(sup, number):
            await turns()
            await sup.children[number].wait()

        async with Supervisor("shop") as sup:
            await sup.start(wait_for, sup, 1, name="a")
            await sup.start(wait_for, sup, 0, name="b")
            await turns(20)
            snap = snapshot()

        assert told(snap) == ["deadlock: 'a#1' -> 'b#1' -> 'a#1'"]

    async def test_a_supervised_service_is_awaited_by_its_host(self, park):
        """Also by one that was cancelled before, which waits in a way of its own."""

        @supervised(name="service")
        async def service(host):
            await asyncio.shield(host[0])

        async def run(host, pending):
            if pending:
                asyncio.current_task().cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(0)
            host.append(asyncio.current_task())
            await service(host)

        for pending in (False, True):
            host = []
            task = await start(run(host, pending), "host")
            found = told(snapshot())
            await cancel_and_wait(task)
            assert found == ["deadlock: 'host' -> 'service#1' -> 'host'"]


async def break_up(*tasks):
    """Cancel tasks that wait for each other: each passes its cancellation on, so not all at once."""
    for task in tasks:
        if not task.done():
            task.cancel()
        await turns()
    await asyncio.gather(*tasks, return_exceptions=True)
