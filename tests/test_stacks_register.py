"""Words for the waits of others: `register_waiter`, and the same for tasks that have children."""

from __future__ import annotations

import asyncio
import functools

import pytest

from async_plus import stacks
from async_plus.stacks import parked, register_waiter, waiting_for

pytestmark = pytest.mark.usefixtures("own_waiters")


async def forever():
    await asyncio.Event().wait()


class Pool:
    """What a third party registers."""

    def __init__(self, name):
        self.name = name

    async def acquire(self):
        await self._take()

    async def _take(self):
        await asyncio.Queue().get()

    @classmethod
    async def connect(cls):
        await forever()

    @staticmethod
    async def close():
        await forever()


def of_pool(variables):
    return f"Pool.acquire of {variables['self'].name}"


class TestRegisterWaiter:
    async def test_a_registered_function_answers_for_what_it_awaits(self, start):
        """Also when its own helpers stand between it and the future; and its caller is still where it is parked."""

        async def handler():
            await Pool("db").acquire()

        register_waiter(Pool.acquire, of_pool)
        task = await start(handler())

        assert parked(task).on == "Pool.acquire of db"
        assert parked(task).place.function == "_take"

    async def test_of_two_registered_functions_the_inner_one_answers(self, start):
        """It knows more; the outer one may run anything."""

        async def service():
            await handler()

        async def handler():
            await Pool("db").acquire()

        register_waiter(service, lambda variables: "service")
        register_waiter(Pool.acquire, of_pool)

        assert parked(await start(service())).on == "Pool.acquire of db"

    async def test_one_that_waits_directly_through_another_answers_for_it(self, start):
        """The user called the outer one. Frames of the standard library do not stand between."""

        async def checkout():
            await asyncio.wait_for(Pool("db").acquire(), None)

        register_waiter(Pool.acquire, of_pool)
        register_waiter(checkout, lambda variables: "checkout")

        assert parked(await start(checkout())).on == "checkout"

    async def test_a_registered_function_of_asyncio_replaces_what_is_built_in(self, start):
        """Whoever knows better may say so."""
        register_waiter(asyncio.Queue.get, lambda variables: f"queue of {variables['self'].maxsize}")

        assert parked(await start(asyncio.Queue(3).get())).on == "queue of 3"

    async def test_registering_again_replaces(self, start):
        """The last one counts."""
        register_waiter(Pool.acquire, lambda variables: "first")
        register_waiter(Pool.acquire, lambda variables: "second")

        assert parked(await start(Pool("db").acquire())).on == "second"

    async def test_a_describer_that_fails_is_told_of(self, start):
        """The report names the function and the failure; nothing propagates, and no message is shown."""

        def cancelled(variables):
            raise asyncio.CancelledError("a secret")

        class Text(str):
            __slots__ = ()

            def __format__(self, spec):
                raise AssertionError("the user's code was run")

            __str__ = __repr__ = __format__

        task = await start(Pool("db").acquire())
        found = []
        for describe in (
            lambda variables: variables["missing"],
            cancelled,
            lambda variables: None,
            lambda variables: 7,
            lambda variables: Text("in other words"),
        ):
            register_waiter(Pool.acquire, describe)
            found.append(str(parked(task)).partition(" on ")[2])

        assert found == [
            "Pool.acquire (its describer raised KeyError)",
            "Pool.acquire (its describer raised CancelledError)",
            "Pool.acquire (its describer returned NoneType)",
            "Pool.acquire (its describer returned int)",
            "in other words",
        ]

    async def test_a_describer_gets_a_copy(self, start):
        """Changing it changes nothing in the frame."""

        async def handler():
            name = "db"
            await released.wait()
            return name

        released = asyncio.Event()
        register_waiter(handler, lambda variables: variables.pop("name") if variables else "nothing")
        task = await start(handler())

        assert [parked(task).on, parked(task).on] == ["db", "db"]
        released.set()
        assert await task == "db"

    async def test_a_describer_leaves_the_functions_own_locals_alone(self, start):
        """Before 3.13 what ``locals()`` returned to the function is the very dict that a look from outside gets."""

        async def handler(name):
            given = locals()
            await released.wait()
            return given["name"]

        released = asyncio.Event()
        register_waiter(handler, lambda variables: variables["name"])
        task = await start(handler("db"))

        assert parked(task).on == "db"
        released.set()
        assert await task == "db"

    @pytest.mark.parametrize(
        ("func", "call"),
        [
            (Pool.acquire, Pool("db").acquire),
            (Pool("db").acquire, Pool("db").acquire),
            (Pool.connect, Pool.connect),
            (vars(Pool)["connect"], Pool.connect),
            (vars(Pool)["close"], Pool.close),
            (functools.partial(Pool.acquire), Pool("db").acquire),
            (functools.partial(functools.partial(Pool("x").acquire)), Pool("db").acquire),
            (functools.partialmethod(Pool.acquire), Pool("db").acquire),
        ],
    )
    async def test_every_kind_of_method_can_be_registered(self, start, func, call):
        """Bound, class and static methods and partials are unwrapped."""
        register_waiter(func, lambda variables: "the pool")

        assert parked(await start(call())).on == "the pool"

    async def test_a_decorated_function_is_unwrapped(self, start):
        """What is parked is the function inside; a decorator's own frame belongs to all it decorates."""

        def decorate(func):
            @functools.wraps(func)
            async def wrapper():
                await func()

            return wrapper

        @decorate
        async def acquire():
            await forever()

        @decorate
        async def other():
            await forever()

        register_waiter(acquire, lambda variables: "the pool")

        assert parked(await start(acquire())).on == "the pool"
        assert parked(await start(other())).on == "Event.wait"

    async def test_an_async_generator_can_be_registered(self, start):
        """Its frame is described as a coroutine's is. So is a generator's."""

        async def items(name):
            yield await forever()

        async def consume():
            async for _ in items("db"):
                pass

        class Old:
            def __await__(self):
                return (yield from forever().__await__())

        async def old():
            await Old()

        register_waiter(items, lambda variables: f"items of {variables['name']}")
        register_waiter(Old.__await__, lambda variables: type(variables["self"]).__name__)

        assert parked(await start(consume())).on == "items of db"
        assert parked(await start(old())).on == "Old"

    async def test_a_compiled_function_has_no_variables(self, start):
        """Its describer gets an empty mapping."""

        class Compiled:
            cr_code = compile("async def fetch(): pass", "app/client.pyx", "exec").co_consts[0]
            cr_await = cr_frame = gi_frame = ag_frame = None
            cr_running = False

        class Fetch:
            __code__ = Compiled.cr_code

        register_waiter(Fetch(), lambda variables: f"fetch with {len(variables)} variables")
        link = stacks.Link(Compiled(), Compiled.cr_code, -1)

        assert stacks.waiters.describe([link], None) == "fetch with 0 variables"

    @pytest.mark.parametrize(
        ("func", "given"),
        [
            (Pool, "the class Pool"),
            (Pool("db"), "Pool"),
            (7, "int"),
            (len, "builtin_function_or_method"),
            (functools.partial(len), "partial"),
        ],
    )
    def test_what_has_no_code_is_refused(self, func, given):
        """There is nothing to know its frames by."""
        with pytest.raises(TypeError) as caught:
            register_waiter(func, of_pool)

        assert str(caught.value) == (
            f"func must be a function or method, got {given} (pass the method of it that waits)"
        )

    def test_wrappers_that_go_round_are_refused(self):
        """They would be unwrapped for ever."""

        class Round:
            pass

        round_and_round = Round()
        round_and_round.__wrapped__ = round_and_round

        with pytest.raises(TypeError, match="func must be a function or method, got Round"):
            register_waiter(round_and_round, of_pool)

    def test_a_describer_that_cannot_be_called_is_refused(self):
        """At the registration, not in the first report."""
        with pytest.raises(TypeError) as caught:
            register_waiter(Pool.acquire, "Pool.acquire")

        assert str(caught.value) == "describe must be a callable (locals) -> str, got str"

    def test_an_async_describer_is_refused(self):
        """There is nobody to await it."""

        async def describe(variables):
            return "the pool"

        with pytest.raises(TypeError) as caught:
            register_waiter(Pool.acquire, describe)

        assert str(caught.value) == 'describe must be synchronous (remove "async" before "def")'


class TestRegisterChildren:
    async def test_a_function_that_waits_for_a_private_future_can_tell_for_whom(self, start):
        """The cycles of a deadlock are found through it; done children do not matter."""
        child, done = await start(forever()), await start(asyncio.sleep(0))
        private = asyncio.get_running_loop().create_future()

        async def own(children):
            await private

        stacks.register_children(own, lambda variables: variables["children"])
        task = await start(own([child, done]))

        assert waiting_for(task) == [child]
        assert waiting_for(stacks.chain(task)) == [child]
