"""`async with impatient(...)`: a block that tells when it takes long."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import weakref

import pytest
from places import at, place
from tools import Boom, fail, forever, messages, no_garbage, refused, start, turns
from waits import registers, waiting

from async_plus import impatient

pytestmark = pytest.mark.usefixtures("everything_is_logged")

virtual = pytest.mark.virtual_time


async def warm_up(seconds=12.3, outcome=None, **options):
    async with impatient(**{"log_after": 5} | options):
        await asyncio.sleep(seconds)
        if outcome is not None:
            raise outcome


BLOCK = at(warm_up, "async with")
SLEEP = at(warm_up, "asyncio.sleep")


@virtual
class TestRecords:
    """A block says what an await says, at the line of its `async with`."""

    async def test_a_long_block_is_told_of_at_its_async_with(self, caplog):
        """Without a name it is called by its function; parked at says which line inside hangs."""
        await warm_up()

        assert messages(caplog) == [
            (
                "WARNING",
                f"Still waiting for warm_up after 5.0 s at {BLOCK}; parked at {SLEEP} on sleep, 7.3 s left",
            ),
            ("WARNING", f"warm_up at {BLOCK} returned after 12.3 s"),
        ]
        assert [f"{r.pathname}:{r.lineno} in {r.funcName}" for r in caplog.records] == [BLOCK] * 2

    async def test_a_name_is_what_the_block_is_called(self, caplog):
        """`name` says what the program is doing there."""
        await warm_up(6, name="warm-up", log_completion="always")
        await warm_up(1, name="warm-up", log_completion="always")

        assert [(level, text.partition(" at ")[0]) for level, text in messages(caplog)] == [
            ("WARNING", "Still waiting for warm-up after 5.0 s"),
            ("WARNING", "warm-up"),
            ("INFO", "warm-up"),
        ]

    async def test_a_short_block_says_nothing(self, caplog):
        """Nor does it leave anything in the register."""
        await warm_up(4.9)

        assert messages(caplog) == []
        assert waiting() == {}

    async def test_complaints_come_again_at_doubling_gaps(self, caplog):
        """At 5, 15 and 35 seconds, each with the line that hangs then."""

        async def work():
            async with impatient(log_after=5, log_completion="never"):
                await asyncio.sleep(14)
                await asyncio.sleep(22)

        await work()

        assert [text.partition("; ")[2] for _, text in messages(caplog)] == [
            f"parked at {at(work, 'sleep(14)')} on sleep, 9.0 s left",
            f"parked at {at(work, 'sleep(22)')} on sleep, 21.0 s left",
            f"parked at {at(work, 'sleep(22)')} on sleep, 1.0 s left",
        ]

    @pytest.mark.parametrize(
        ("outcome", "ending"), [(Boom("secret"), "raised Boom"), (asyncio.CancelledError(), "was cancelled")]
    )
    async def test_an_exception_goes_through_and_its_type_is_told(self, outcome, ending, caplog):
        """The block swallows nothing."""
        with pytest.raises(type(outcome)) as caught:
            await warm_up(6, outcome)

        assert caught.value is outcome
        assert messages(caplog)[1] == ("WARNING", f"warm_up at {BLOCK} {ending} after 6.0 s")

    async def test_stacklevel_points_at_those_who_await_the_function(self, caplog):
        """0 is the `async with`, 1 the line that awaits the function around it, and so on."""

        async def middle(stacklevel):
            await warm_up(6, stacklevel=stacklevel)

        async def outer(stacklevel):
            await middle(stacklevel)

        for stacklevel in (0, 1, 2, 99):
            await asyncio.create_task(outer(stacklevel))

        lines = [BLOCK, at(middle, "await warm_up"), at(outer, "await middle"), at(outer, "await middle")]
        assert [text.partition(" s at ")[2].partition(";")[0] for _, text in messages(caplog)[::2]] == lines
        assert [text for _, text in messages(caplog)[1::2]] == [
            f"warm_up at {line} returned after 6.0 s" for line in lines
        ]

    async def test_blocks_in_blocks_each_tell_of_their_own_line(self, caplog):
        """In one function as well as in functions that call each other."""

        async def work():
            async with impatient(log_after=5, name="all", log_completion="never"):
                await asyncio.sleep(0)
                async with impatient(log_after=6, name="part", log_completion="never"):
                    await impatient(asyncio.sleep(8), log_after=7, log_completion="never")

        await work()

        hangs = at(work, "await impatient")
        assert [text.partition(" on ")[0] for _, text in messages(caplog)] == [
            f"Still waiting for all after 5.0 s at {at(work, 'log_after=5')}; parked at {hangs}",
            f"Still waiting for part after 6.0 s at {at(work, 'log_after=6')}; parked at {hangs}",
            f"Still waiting for sleep after 7.0 s at {hangs}; parked at {hangs}",
        ]

    async def test_a_block_made_elsewhere_is_placed_where_it_is_entered(self, caplog):
        """Whoever holds it in a variable, the line is that of the `async with`; awaiters are counted from there."""

        async def use(block):
            async with block:
                await asyncio.sleep(6)

        async def make(stacklevel):
            block = impatient(log_after=5, stacklevel=stacklevel)
            await use(block)

        await make(0)
        await make(1)

        lines = [at(use, "async with"), at(make, "await use")]
        texts = [text.partition("; ")[0] for _, text in messages(caplog)]
        name = use.__qualname__
        assert texts == [
            text
            for line in lines
            for text in (f"Still waiting for {name} after 5.0 s at {line}", f"{name} at {line} returned after 6.0 s")
        ]

    async def test_a_recursive_functions_blocks_are_told_apart(self, caplog):
        """All stand at the same line, but their awaiters differ."""

        async def descend(depth):
            async with impatient(log_after=5, stacklevel=1, log_completion="never"):
                if depth:
                    await descend(depth - 1)
                else:
                    await asyncio.sleep(6)

        async def work():
            await descend(1)

        await work()

        assert [text.partition(" s at ")[2].partition(";")[0] for _, text in messages(caplog)] == [
            at(work, "await descend"),
            at(descend, "depth - 1"),
        ]


@virtual
class TestUses:
    """One block at a time; any number one after the other; as a decorator, any number at once."""

    async def test_a_block_may_serve_again_when_it_is_free(self, caplog):
        """Each time it begins anew, and counts from there."""
        block = impatient(log_after=5, name="the block")
        for _ in range(3):
            async with block:
                await asyncio.sleep(4)
        async with block:
            await asyncio.sleep(6)

        assert [text.partition(" at ")[0] for _, text in messages(caplog)] == [
            "Still waiting for the block after 5.0 s",
            "the block",
        ]

    async def test_a_block_in_use_cannot_be_entered(self):
        """Neither inside itself nor from another task, and the block in use goes on."""
        block = impatient(log_after=5)
        entered = asyncio.Event()

        async def use():
            async with block:
                entered.set()
                await forever()

        task = await start(use())
        await entered.wait()

        with refused(RuntimeError, "this impatient block is in use: make one for each block"):
            async with block:
                pytest.fail("entered twice")
        assert waiting() == {5: 1}

        task.cancel()
        await asyncio.wait([task])
        async with block:
            assert waiting() == {5: 1}

    async def test_a_block_in_use_may_decorate(self):
        """A decorated function makes waits of its own."""
        block = impatient(log_after=5)

        @block
        async def work():
            return waiting()

        async with block:
            assert await work() == {5: 2}

        assert waiting() == {}

    async def test_entering_gives_the_block(self):
        """As many context managers do."""
        block = impatient(log_after=5)

        async with block as entered:
            assert entered is block

    async def test_leaving_a_block_that_was_not_entered_is_refused(self):
        """It can only happen by hand."""
        with refused(RuntimeError, "this impatient block was not entered"):
            await impatient(log_after=5).__aexit__(None, None, None)

    async def test_it_needs_a_task(self):
        """A block entered by hand in a callback has none."""
        seen = asyncio.get_running_loop().create_future()

        def step():
            try:
                impatient(log_after=5).__aenter__().send(None)
            except RuntimeError as exc:
                seen.set_result(str(exc))

        asyncio.get_running_loop().call_soon(step)

        assert await seen == "impatient must be awaited in a task"


class TestWithoutLoop:
    """A block is only an object until it is entered."""

    def test_a_synchronous_with_names_the_fix(self):
        """Python's own error would only say what is missing."""
        with refused(TypeError, "use 'async with impatient(...)', not 'with'"), impatient(log_after=5):
            pytest.fail("entered")

        with refused(TypeError, "use 'async with impatient(...)', not 'with'"):
            impatient(log_after=5).__exit__(None, None, None)

    def test_it_needs_a_running_loop_only_when_entered(self):
        """A block may be made at import, and used in loop after loop."""
        block = impatient(log_after=5)

        async def use():
            async with block:
                return len(registers())

        assert [asyncio.run(use()) for _ in range(3)] == [1, 1, 1]


@virtual
class TestExitStacks:
    """Entered by an AsyncExitStack, the place is the line that enters it there."""

    async def test_the_place_is_the_line_of_the_user(self, caplog):
        """Not that of contextlib, at the complaint or at the end."""

        async def work(stacklevel):
            async with contextlib.AsyncExitStack() as stack:
                await stack.enter_async_context(impatient(log_after=5, stacklevel=stacklevel))
                await asyncio.sleep(6)

        async def outer():
            await work(0)
            await work(1)

        await outer()

        entered, name = at(work, "enter_async_context"), work.__qualname__
        hangs = f"parked at {at(work, 'asyncio.sleep')} on sleep, 1.0 s left"
        assert [text for _, text in messages(caplog)] == [
            f"Still waiting for {name} after 5.0 s at {entered}; {hangs}",
            f"{name} at {entered} returned after 6.0 s",
            f"Still waiting for {name} after 5.0 s at {at(outer, 'await work(1)')}; {hangs}",
            f"{name} at {at(outer, 'await work(1)')} returned after 6.0 s",
        ]

    async def test_awaiters_are_counted_from_the_function_that_entered_it(self, caplog):
        """Whatever that awaits in the meantime."""

        async def hang():
            await asyncio.sleep(6)

        async def work():
            async with contextlib.AsyncExitStack() as stack:
                await stack.enter_async_context(impatient(log_after=5, stacklevel=1))
                await hang()

        async def outer():
            await work()

        await outer()

        assert [text.partition("; ")[0] for _, text in messages(caplog)] == [
            f"Still waiting for {work.__qualname__} after 5.0 s at {at(outer, 'await work')}",
            f"{work.__qualname__} at {at(outer, 'await work')} returned after 6.0 s",
        ]

    async def test_awaiters_are_counted_from_the_innermost_call_of_a_recursion(self, caplog):
        """It is the one that entered it, as a rule; which call an exit stack belongs to cannot be seen."""

        async def descend(depth):
            if depth:
                return await descend(depth - 1)
            async with contextlib.AsyncExitStack() as stack:
                await stack.enter_async_context(impatient(log_after=5, stacklevel=1))
                await asyncio.sleep(6)

        await descend(2)

        assert messages(caplog)[0][1].partition("; ")[0] == (
            f"Still waiting for {descend.__qualname__} after 5.0 s at {at(descend, 'await descend')}"
        )

    async def test_a_helper_that_enters_it_is_the_place(self, caplog):
        """It has returned when the block becomes long; its line is still the one that entered."""

        async def enter(stack):
            await stack.enter_async_context(impatient(log_after=5))

        async def work():
            async with contextlib.AsyncExitStack() as stack:
                await enter(stack)
                await asyncio.sleep(6)

        await work()

        entered, name = at(enter, "enter_async_context"), enter.__qualname__
        assert [text for _, text in messages(caplog)] == [
            f"Still waiting for {name} after 5.0 s at {entered};"
            f" parked at {at(work, 'asyncio.sleep')} on sleep, 1.0 s left",
            f"{name} at {entered} returned after 6.0 s",
        ]

    async def test_in_a_task_without_user_code_it_is_just_a_block(self, caplog):
        """Nothing of asyncio.run() or of the loop is named, though it is below on the stack."""
        stack = contextlib.AsyncExitStack()
        task = asyncio.create_task(stack.enter_async_context(impatient(log_after=5)))
        await turns()
        task.set_name("setup")
        await task
        await asyncio.sleep(6)
        closing = asyncio.create_task(stack.aclose())
        await closing

        assert [text for _, text in messages(caplog)] == [
            "Still waiting for block after 5.0 s in task 'setup'; parked on nothing, it is done",
            "block in task 'setup' returned after 6.0 s",
        ]

    async def test_an_asynccontextmanager_around_it_is_looked_through(self, caplog):
        """A block inside a generator-based context manager stands at the generator's line while that is open."""

        @contextlib.asynccontextmanager
        async def connected(stacklevel):
            async with impatient(log_after=5, stacklevel=stacklevel):
                yield

        async def work(stacklevel):
            async with connected(stacklevel):
                await asyncio.sleep(6)

        await work(0)
        await work(1)

        inside, user = at(connected, "async with impatient"), at(work, "asyncio.sleep")
        hangs = f"parked at {user} on sleep, 1.0 s left"
        name = connected.__qualname__
        assert [text for _, text in messages(caplog)] == [
            f"Still waiting for {name} after 5.0 s at {inside}; {hangs}",
            f"{name} at {inside} returned after 6.0 s",
            f"Still waiting for {name} after 5.0 s at {user}; {hangs}",
            f"{name} at {user} returned after 6.0 s",
        ]


@virtual
class TestGenerators:
    """A block may be open in an async generator, even while that is suspended."""

    async def test_a_suspended_generators_block_is_told_of_at_its_line(self, caplog):
        """The task is parked elsewhere meanwhile, and that is what is named."""

        async def pages():
            async with impatient(log_after=5):
                yield 1
                yield 2

        async def read():
            async for _ in pages():
                await asyncio.sleep(4)

        await read()

        opened, name = at(pages, "async with"), pages.__qualname__
        assert [text for _, text in messages(caplog)] == [
            f"Still waiting for {name} after 5.0 s at {opened};"
            f" parked at {at(read, 'asyncio.sleep')} on sleep, 3.0 s left",
            f"{name} at {opened} returned after 8.0 s",
        ]

    async def test_closing_the_generator_ends_the_block_without_a_record(self, caplog):
        """GeneratorExit goes through it: nobody saw how the block would have ended."""

        async def pages():
            async with impatient(log_completion="always"):
                yield 1

        generator = pages()
        await anext(generator)
        assert waiting() == {float("inf"): 1}
        await generator.aclose()

        assert messages(caplog) == []
        assert waiting() == {}

    async def test_a_forgotten_generator_is_closed_and_its_block_with_it(self, caplog):
        """The register does not keep it alive: asyncio closes it as soon as it is garbage."""

        async def pages():
            async with impatient(log_after=5):
                yield 1

        generator = pages()
        await anext(generator)
        assert waiting() == {5: 1}

        del generator
        gc.collect()
        await turns()

        assert waiting() == {}
        assert messages(caplog) == []

    async def test_a_block_may_be_left_in_another_task(self, caplog):
        """As fixtures and generators do: it is still the same block, called by its task of entry."""

        async def pages():
            async with impatient(log_after=5, log_completion="always"):
                yield 1
                yield 2

        async def step():
            await anext(generator)

        generator = pages()
        opener = asyncio.create_task(step())
        # Not before: an eager task is named when its first step is over.
        opener.set_name("opener")
        await opener
        await asyncio.sleep(6)
        await asyncio.create_task(generator.aclose())

        opened, name = at(pages, "async with"), pages.__qualname__
        assert [text for _, text in messages(caplog)] == [
            f"Still waiting for {name} after 5.0 s at {opened}; parked on nothing, it is done",
        ]
        assert caplog.records[0].async_plus_task == "opener"
        assert waiting() == {}

    async def test_a_block_left_in_another_task_tells_its_end(self, caplog):
        """The whole time counts, from the entry in the one to the exit in the other."""
        block = impatient(log_after=5)

        async def enter():
            await block.__aenter__()

        async def leave():
            await block.__aexit__(None, None, None)

        await asyncio.create_task(enter())
        await asyncio.sleep(6)
        await asyncio.create_task(leave())

        opened, name = at(enter, "__aenter__"), enter.__qualname__
        assert [text for _, text in messages(caplog)] == [
            f"Still waiting for {name} after 5.0 s at {opened}; parked on nothing, it is done",
            f"{name} at {opened} returned after 6.0 s",
        ]


class TestInline:
    """The block adds no task, no context and no reference to what runs in it."""

    async def test_the_body_runs_in_the_same_task_and_context(self):
        """What it sets is seen afterwards."""
        user = contextvars.ContextVar("user")
        task = asyncio.current_task()

        async with impatient(log_after=5):
            user.set("ann")
            assert asyncio.current_task() is task

        assert user.get() == "ann"

    @virtual
    async def test_a_timeout_works_inside_and_outside(self):
        """It cancels the body, and turns that into its TimeoutError, with nothing left of the cancellation."""
        with pytest.raises(TimeoutError):
            async with impatient(log_after=5), asyncio.timeout(6):
                await forever()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(6), impatient(log_after=5):
                await forever()

        assert asyncio.current_task().cancelling() == 0
        assert waiting() == {}

    async def test_a_cancellation_keeps_its_message(self):
        """And its count."""

        async def work():
            try:
                async with impatient(log_after=5):
                    await forever()
            except asyncio.CancelledError as exc:
                return exc.args, asyncio.current_task().cancelling()

        task = await start(work())
        task.cancel("stop it")

        assert await task == (("stop it",), 1)

    @virtual
    @pytest.mark.parametrize("seconds", [0, 6])
    async def test_an_exception_makes_no_reference_cycle(self, seconds):
        """It dies with its last reference, and its task too (gh-124958)."""

        async def work():
            async with impatient(log_after=5):
                await asyncio.sleep(seconds)
                raise Boom

        with no_garbage():
            task = asyncio.create_task(work())
            await asyncio.gather(task, return_exceptions=True)
            dead = weakref.ref(task)
            del task
            await turns()
            assert dead() is None

    async def test_an_exception_has_no_frame_of_ours_in_its_traceback(self):
        """The block is not in the way of what fails inside it."""

        async def work():
            async with impatient(log_after=5):
                await fail(Boom())

        with pytest.raises(Boom) as caught:
            await work()

        assert [entry.name for entry in caught.traceback][-2:] == ["work", "fail"]
        assert (caught.value.__context__, caught.value.__cause__) == (None, None)

    async def test_entering_and_leaving_never_let_others_run(self):
        """They do not suspend, so nothing changes in the order of things."""
        turns_taken = []
        asyncio.get_running_loop().call_soon(turns_taken.append, 1)

        async with impatient(log_after=5):
            pass

        assert turns_taken == []


async def test_the_record_of_a_block_is_that_of_its_async_with(caplog):
    """With log_completion="always" even that of the quickest."""

    async def work():
        async with impatient(log_completion="always", name="quick"):
            pass

    await work()

    [record] = caplog.records
    here = place(work, "async with")
    assert (record.pathname, record.lineno, record.funcName) == (here.filename, here.lineno, here.function)
    assert record.getMessage() == f"quick at {here} returned after 0.0 s"
