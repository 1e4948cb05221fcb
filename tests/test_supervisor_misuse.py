"""What `Supervisor` does not take: a clear error, nothing started, nothing left unawaited."""

from __future__ import annotations

import asyncio
import functools

import pytest
from tools import Boom, forever, refused

from async_plus import Supervisor, supervised, watched


class TestMisuse:
    @pytest.mark.parametrize(
        ("args", "options", "kind", "message"),
        [
            ((5,), {}, TypeError, "name must be a string, got int 5"),
            (
                ("shop",),
                {"strategy": "all"},
                ValueError,
                "strategy must be one of 'one_for_one', 'one_for_all', 'rest_for_one', got 'all'",
            ),
            (("shop",), {"warn_after": 0}, ValueError, "warn_after must be a finite number of seconds > 0, got 0"),
        ],
    )
    def test_options_are_checked(self, args, options, kind, message):
        """When it is made."""
        with refused(kind, message):
            Supervisor(*args, **options)

    async def test_what_is_no_coroutine_function_is_refused(self):
        """With the likely fix; coroutines are closed."""

        async def feed():
            pass

        @watched
        async def saver():
            pass

        def plain():
            pass

        class Feed:
            async def __call__(self):
                pass

        wrong = "Supervisor.start() needs a coroutine function, got "
        async with Supervisor("shop") as sup:
            with refused(TypeError, wrong + "coroutine (pass the function and its arguments, without calling it)"):
                await sup.start(feed())
            for fn, text in [
                (plain, f"the function {plain.__qualname__}"),
                (saver, f"the function {saver.__qualname__}"),
                (Boom, "the class Boom"),
                (Feed, f"the class {Feed.__qualname__}"),
                (None, "NoneType"),
            ]:
                with pytest.raises(TypeError) as caught:
                    await sup.start(fn, feed(), option=feed())
                assert str(caught.value).startswith(wrong + text.partition(" saver")[0]), fn
            with refused(TypeError, "name must be a string, got int 5"):
                await sup.start(feed, name=5)
            assert sup.children == ()

    async def test_arguments_that_do_not_fit_are_raised_by_start(self):
        """As a call of the function would; there is no child, and the supervision goes on."""

        async def feed(url):
            pass

        async with Supervisor("shop") as sup:
            with pytest.raises(TypeError, match="missing 1 required positional argument"):
                await sup.start(feed)
            # A supervised one is not restarted for that either.
            with refused(TypeError, f"the arguments do not fit {feed.__qualname__}: too many positional arguments"):
                await sup.start(supervised(feed), "url", 5)
            assert sup.children == ()
            await sup.start(feed, "url")
            await sup.start(supervised(feed), url="url")
            await sup.wait()

    async def test_a_function_without_a_signature_is_started_as_it_is(self):
        """Whether the arguments fit is seen when it is called."""

        async def feed(url):
            pass

        feed.__signature__ = "none"
        async with Supervisor("shop") as sup:
            await sup.start(supervised(feed), "url")
            await sup.wait()

    async def test_it_serves_one_block(self):
        """Entered twice, left without being entered, or used before: refused."""
        sup = Supervisor("shop")
        with refused(RuntimeError, "cannot start a child before the Supervisor is entered: use 'async with' first"):
            await sup.start(forever)
        with refused(
            RuntimeError, "cannot wait before the Supervisor is entered: use 'async with Supervisor() as sup'"
        ):
            await sup.wait()
        with refused(RuntimeError, "this Supervisor cannot be left, since it is not entered"):
            await sup.__aexit__(None, None, None)
        async with sup:
            with refused(RuntimeError, "a Supervisor can be entered once, and this one is open"):
                await sup.__aenter__()
            child = await sup.start(forever)
        with refused(RuntimeError, "this Supervisor cannot be left, since it is closed"):
            await sup.__aexit__(None, None, None)
        with refused(RuntimeError, "cannot start 'forever': the block of supervisor 'shop' has ended"):
            await sup.start(forever)
        with refused(RuntimeError, "cannot restart 'forever': the block of supervisor 'shop' has ended"):
            await child.restart()
        await sup.wait()
        await child.stop()

    def test_a_plain_with_is_refused(self):
        """With the fix."""
        with refused(TypeError, "use 'async with Supervisor(...)', not 'with'"), Supervisor("shop"):
            pass
        with refused(TypeError, "use 'async with Supervisor(...)', not 'with'"):
            Supervisor("shop").__exit__(None, None, None)

    async def test_other_loops_are_refused(self):
        """Its tasks belong to one."""
        async with Supervisor("shop") as sup:
            child = await sup.start(forever)

            def elsewhere():
                for call, text in [
                    (functools.partial(sup.start, forever), "start 'forever'"),
                    (sup.wait, "wait for the children"),
                    (child.stop, "stop 'forever'"),
                    (child.restart, "restart 'forever'"),
                    (child.wait, "wait for 'forever'"),
                ]:
                    with refused(RuntimeError, f"cannot {text} from outside the loop of supervisor 'shop'"):
                        asyncio.run(call())

            await asyncio.to_thread(elsewhere)
