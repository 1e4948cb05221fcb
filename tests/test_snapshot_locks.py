"""`snapshot()`: who holds the lock that others wait for, or possibly holds it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading

import anyio
import pytest
from locks import cross, enter, on, told
from tools import forever, start, turns

from async_plus import cancel_and_wait, snapshot
from async_plus.diagnostics.guesses import held_while_running


class TestHolders:
    @pytest.mark.parametrize("kind", [asyncio.Lock, asyncio.Semaphore, asyncio.BoundedSemaphore])
    async def test_whoever_is_in_the_block_of_a_lock_is_named(self, park, kind):
        """By those who wait for it, one who has not got into its own block yet is none."""
        lock = kind()
        await park(holder=enter(lock), a=enter(lock), b=lock.acquire())

        assert on("a") == f"{kind.__name__}.acquire, held by 'holder'"
        assert on("b") == f"{kind.__name__}.acquire, held by 'holder'"

    async def test_a_block_further_out_counts(self, park):
        """The one who holds it may be deep in other functions by now."""
        lock, other = asyncio.Lock(), asyncio.Lock()
        await park(holder=enter(lock, other), a=enter(lock))

        assert on("a") == "Lock.acquire, held by 'holder'"

    async def test_a_subclass_with_blocks_of_its_own_counts(self, park):
        """As long as its exit is a method."""

        class Named(asyncio.Lock):
            async def __aenter__(self):
                await self.acquire()
                return self

            async def __aexit__(self, *exc_info):
                self.release()

        lock = Named()
        await park(holder=enter(lock), a=enter(lock))

        assert on("a") == "Named.acquire, held by 'holder'"

    async def test_an_exit_stack_is_looked_into(self, park):
        """Where many locks are taken at once."""
        lock = asyncio.Lock()

        async def hold():
            async with contextlib.AsyncExitStack() as stack:
                stack.callback(print)
                await stack.enter_async_context(lock)
                await forever()

        await park(holder=hold(), a=enter(lock))

        assert on("a") == "Lock.acquire, held by 'holder'"

    async def test_a_context_manager_made_of_a_generator_is_looked_into(self, park):
        """A transaction, say, that takes a lock inside."""
        lock = asyncio.Lock()

        @contextlib.asynccontextmanager
        async def transaction():
            async with lock:
                yield

        async def hold():
            async with transaction():
                await forever()

        await park(holder=hold(), a=hold())

        assert on("a") == "Lock.acquire, held by 'holder'"

    @pytest.mark.parametrize("inside", ["body", "rows"])
    async def test_an_async_generator_that_is_looped_over_is_looked_into(self, park, inside):
        """It stands at its yield while the loop's body runs; and in its own frame while it does not."""
        lock = asyncio.Lock()

        async def rows():
            async with lock:
                yield 1
                await forever()

        async def hold():
            async for _ in rows():
                await forever()

        async def read():
            async for _ in rows():
                pass

        await park(**{inside: {"body": hold, "rows": read}[inside](), "a": read()})

        assert on("a") == f"Lock.acquire, held by '{inside}'"

    async def test_whoever_waits_for_a_condition_has_let_go_of_its_lock(self, park):
        """The one who has it is somebody else, and holds up those that were notified."""
        condition = asyncio.Condition()

        async def wait():
            async with condition:
                await condition.wait()

        async def notify():
            async with condition:
                condition.notify()
                await forever()

        await park(waiter=wait(), holder=notify(), late=enter(condition))

        assert on("late") == "Lock.acquire, held by 'holder'"
        assert on("waiter") == "Condition.wait, notified, waiting for its lock, held by 'holder'"

    async def test_many_holders_are_listed(self, park):
        """Those of a semaphore."""
        semaphore = asyncio.Semaphore(7)
        await park(**{f"h{number}": enter(semaphore) for number in range(7)}, a=enter(semaphore))

        assert on("a") == "Semaphore.acquire, held by 'h0', 'h1', 'h2', 'h3', 'h4' and 2 more"

    async def test_holders_are_told_one_by_one(self, park):
        """Not in a crowd of others at the same line, in which their names would be lost."""
        first, second = asyncio.Lock(), asyncio.Lock()
        await park(h1=enter(first), h2=enter(second), other=enter(asyncio.Lock()), a=enter(first))

        names = [info.names for info in snapshot().tasks if {"h1", "h2", "other"} & set(info.names)]

        assert names == [("h1",), ("h2", "other")]

    async def test_the_holder_may_be_whoever_waits(self, park):
        """A lock cannot be entered twice."""
        lock = asyncio.Lock()
        await park(a=enter(lock, lock))

        assert on("a") == "Lock.acquire, held by itself"
        assert told(snapshot()) == ["deadlock: 'a' -> 'a'"]


class Pool:
    """Has its lock in an attribute."""

    def __init__(self, lock):
        self.lock = lock

    async def take(self):
        await self.lock.acquire()
        await forever()


class SlottedPool:
    __slots__ = ("lock",)
    __init__, take = Pool.__init__, Pool.take


class OldPool(Pool):
    def __init__(self, lock):
        self.__dict__ = {"lock": lock}


async def take(lock, *more):
    """Acquire all these, and stay."""
    await lock.acquire()
    if more:
        # The next one in a function of its own, as they are.
        await take(*more)
    await forever()


async def lock_up(lock):
    """Leave it locked, by nobody who is to be seen."""
    await lock.acquire()


async def take_with_patience(lock):
    await asyncio.wait_for(lock.acquire(), 60)
    await forever()


async def take_and_release(lock):
    await lock.acquire()
    try:
        await turns(1)
    finally:
        lock.release()
    await forever()


async def take_later(lock):
    await forever()
    await lock.acquire()


async def know(lock):
    await forever()
    raise AssertionError(lock)


async def take_from_closure(lock):
    async def inner():
        await lock.acquire()
        await forever()

    await inner()


async def take_in_generator(lock):
    async def items():
        await lock.acquire()
        yield await forever()

    async for _ in items():
        pass


async def take_global(lock):
    # As a module does that has it among its variables.
    scope = {"lock": lock, "forever": forever}
    exec("async def work():\n    await lock.acquire()\n    await forever()", scope)
    await scope["work"]()


TAKEN = {
    "in a variable": take,
    "in an attribute": lambda lock: Pool(lock).take(),
    "in an attribute's dict": lambda lock: OldPool(lock).take(),
    "in a slot": lambda lock: SlottedPool(lock).take(),
    "in a closure": take_from_closure,
    "in a global": take_global,
    "in an async generator": take_in_generator,
    "with a timeout": take_with_patience,
}
NOT_TAKEN = {"and released": take_and_release, "not yet": take_later, "not at all": know}


class TestPossibleHolders:
    """What was taken by a bare `acquire()` leaves no trace but that the taker knows the lock."""

    @pytest.mark.parametrize("kind", [asyncio.Lock, asyncio.Semaphore])
    @pytest.mark.parametrize("how", TAKEN)
    async def test_whoever_has_called_acquire_may_hold_the_lock(self, park, how, kind):
        """However it knows the lock."""
        lock = kind()
        await park(holder=TAKEN[how](lock), a=enter(lock), b=take(lock))

        assert on("a") == f"{kind.__name__}.acquire, possibly held by 'holder'"
        assert on("b") == f"{kind.__name__}.acquire, possibly held by 'holder'"

    @pytest.mark.parametrize("how", NOT_TAKEN)
    async def test_whoever_has_not_or_not_any_more_does_not(self, park, how):
        """By the order of the lines."""
        lock = asyncio.Lock()
        await lock.acquire()
        lock.release()
        await park(other=NOT_TAKEN[how](lock), holder=take(lock), a=enter(lock))

        assert on("a") == "Lock.acquire, possibly held by 'holder'"

    async def test_whoever_waits_for_it_has_not_got_it(self, park):
        """Nobody is named if nobody else is left."""
        lock = asyncio.Lock()
        await lock_up(lock)
        await park(a=take(lock), b=take(lock))

        assert on("a") == "Lock.acquire"

    async def test_one_who_is_seen_to_hold_it_is_enough(self, park):
        """Then nobody else is suspected."""
        lock, gate = asyncio.Lock(), asyncio.Event()

        async def may():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(gate.wait(), 0)
                await lock.acquire()
            await forever()

        await park(holder=enter(lock), other=may(), a=enter(lock))

        assert on("a") == "Lock.acquire, held by 'holder'"

    async def test_a_circle_of_them_is_a_possible_deadlock(self, park):
        """Since nobody can be sure of who holds them."""
        first, second = asyncio.Lock(), asyncio.Lock()

        async def cross(outer, inner):
            await outer.acquire()
            await turns(3)
            await inner.acquire()

        await asyncio.gather(park(a=cross(first, second)), park(b=cross(second, first)))

        assert told(snapshot()) == ["possible deadlock: 'a' -> 'b' -> 'a'"]
        assert on("a") == "Lock.acquire, possibly held by 'b'"


# Until 3.12, nobody can look at the variables of a frame that runs without changing them for a debugger.
RUNNING = ", possibly held by 'holder'" if sys.version_info >= (3, 13) else ""


class TestRunningHolders:
    """While a task runs, its blocks cannot be seen; that it is in one, and knows the lock, can."""

    async def look(self, park, holding):
        """What somebody waits on who waits for a lock, at a moment chosen by the one who may hold it."""
        lock, found = asyncio.Lock(), []
        await lock_up(lock)
        waiter = await park(a=enter(lock))
        asyncio.current_task().set_name("holder")
        await holding(lock, lambda: found.append(on("a")))
        await cancel_and_wait(waiter)
        return found

    async def test_whoever_runs_in_the_block_of_a_lock_may_hold_it(self, park):
        """Directly in it, in a function that it awaits, and in handlers in it."""

        async def block(lock, look):
            async with contextlib.nullcontext(lock):
                look()

        async def further_out(lock, look):
            async with contextlib.nullcontext(lock):
                await inside(look)

        async def inside(look):
            await turns(1)
            look()

        async def handlers(lock, look):
            async with contextlib.nullcontext(lock):
                try:
                    raise KeyError
                except KeyError:
                    look()
                try:
                    look()
                finally:
                    look()

        async def several(lock, look):
            async with contextlib.nullcontext() as other, contextlib.nullcontext(lock):
                look()
                del other

        async def taken(lock, look):
            lock.acquire().close()
            look()

        for holding in (block, further_out, handlers, several, taken):
            assert set(await self.look(park, holding)) == {"Lock.acquire" + RUNNING}

    async def test_whoever_runs_outside_of_it_does_not(self, park):
        """Before and after it, and in that of something else; nor is a module or a class looked into."""

        async def around(lock, look):
            look()
            async with contextlib.nullcontext(lock):
                pass
            look()

        async def in_another(lock, look):
            async with contextlib.nullcontext(lock):
                pass
            async with contextlib.nullcontext():
                look()

        async def in_a_class(lock, look):
            scope = {"lock": lock, "look": look, "contextlib": contextlib}
            exec("with contextlib.nullcontext(lock):\n    look()", scope)

        for holding in (around, in_another, in_a_class):
            assert set(await self.look(park, holding)) == {"Lock.acquire"}

    def test_a_task_that_runs_in_another_thread_is_looked_at_there(self):
        """By whoever looks while it is blocked."""
        blocked, leave = threading.Event(), threading.Event()

        async def hold(lock):
            async with lock:
                asyncio.current_task().set_name("holder")
                waiter = await start(enter(lock), "a")
                blocked.set()
                leave.wait()
            await cancel_and_wait(waiter)

        async def main():
            await hold(asyncio.Lock())

        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_until_complete, args=[main()])
        thread.start()
        blocked.wait()
        [found] = [info.on for info in snapshot(loop).tasks if info.names == ("a",)]
        leave.set()
        thread.join()
        loop.close()

        assert found == "Lock.acquire" + RUNNING

    def test_a_frame_on_no_stack_holds_nothing(self):
        """It has gone on meanwhile, in another thread."""
        coroutine = forever()
        assert held_while_running(coroutine.cr_frame) == set()
        coroutine.close()


class TestOwners:
    """A lock of anyio knows who has it, however that took it."""

    async def test_the_owner_of_a_lock_is_named(self, park):
        """Without a block, too."""
        lock = anyio.Lock()
        await park(holder=take(lock), a=enter(lock), b=take(lock))

        assert on("a") == "Lock.acquire, held by 'holder'"
        assert on("b") == "Lock.acquire, held by 'holder'"

    async def test_a_circle_of_anyios_locks_is_a_deadlock(self, park):
        """A certain one: these locks know their owners."""
        first, second, gate = anyio.Lock(), anyio.Lock(), asyncio.Event()
        await park(a=cross(gate, first, second), b=cross(gate, second, first))
        gate.set()
        await turns()

        assert told(snapshot()) == ["deadlock: 'a' -> 'b' -> 'a'"]

    async def test_an_owner_that_has_ended_is_named_as_such(self, park):
        """It will never release the lock."""
        lock = anyio.Lock()
        task = await start(lock.acquire(), "gone")
        await task
        await park(a=enter(lock))

        assert on("a") == "Lock.acquire, held by 'gone', which has ended"

    @pytest.mark.parametrize("stranger", ["a name", None])
    async def test_the_borrowers_of_a_limiter_are_named(self, park, stranger):
        """Those that are tasks; another one may give back his place some day."""
        limiter = anyio.CapacityLimiter(2 if stranger is None else 3)
        if stranger is not None:
            limiter.acquire_on_behalf_of_nowait(stranger)
        gate = asyncio.Event()

        async def twice():
            async with limiter:
                await gate.wait()
                await limiter.acquire_on_behalf_of(object())

        await park(h1=twice(), h2=twice(), a=enter(limiter))
        gate.set()
        await turns()

        certain = "" if stranger is None else "possible "
        assert on("a") == "CapacityLimiter.acquire, held by 'h1', 'h2'"
        assert told(snapshot())[0] == f"{certain}deadlock: 'h1' -> 'h1'"

    async def test_a_limiter_with_nobody_known_names_nobody(self, park):
        """What has borrowed is told by no name."""
        limiter = anyio.CapacityLimiter(1)
        limiter.acquire_on_behalf_of_nowait("a name")
        await park(a=enter(limiter))

        assert on("a") == "CapacityLimiter.acquire"

    async def test_a_lock_that_has_lost_its_owner_is_told_all_the_same(self, park):
        """By what can be seen otherwise."""
        lock = anyio.Lock()
        await park(holder=take(lock), a=enter(lock))
        owner = lock._owner_task
        del lock._owner_task

        assert on("a") == "Lock.acquire, possibly held by 'holder'"
        lock._owner_task = owner
