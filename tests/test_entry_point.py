"""`@entry_point`: a coroutine function as a plain one, each call of which is a `run`."""

from __future__ import annotations

import asyncio
import functools
import inspect

import pytest
from loops import each_loop
from runs import tell_to_stop
from tools import Boom, fail, forever, give, refused

from async_plus import entry_point, stopping, supervised


@entry_point
async def main(url, *, limit=1):
    """Run the program."""
    await asyncio.sleep(0)
    return url, limit


class App:
    def __init__(self, name="app"):
        self.name = name

    @entry_point
    async def method(self, value):
        return self.name, value

    @entry_point
    @classmethod
    async def class_above(cls, value):
        return cls.__name__, value

    @classmethod
    @entry_point(grace=5)
    async def class_below(cls, value):
        return cls.__name__, value

    @entry_point
    @staticmethod
    async def static_above(value):
        return "static", value

    @staticmethod
    @entry_point()
    async def static_below(value):
        return "static", value

    async def plain(self, value):
        return self.name, value

    async def __call__(self, value):
        return self.name, value


@pytest.mark.parametrize(
    ("call", "result"),
    [
        (main, (1, 1)),
        (functools.partial(main, limit=2), (1, 2)),
        (entry_point(functools.partial(main.__wrapped__, limit=3)), (1, 3)),
        (App().method, ("app", 1)),
        (functools.partial(App.method, App("other")), ("other", 1)),
        (App.class_above, ("App", 1)),
        (App().class_below, ("App", 1)),
        (App.static_above, ("static", 1)),
        (App().static_below, ("static", 1)),
        (entry_point(App().plain), ("app", 1)),
        (entry_point(App()), ("app", 1)),
        (entry_point(supervised(give)), 1),
    ],
)
def test_a_call_runs_it_to_its_end_and_returns_its_result(call, result):
    """Functions, partials, methods of every kind and objects; with their arguments."""
    assert call(1) == result


def test_it_looks_like_the_function_and_is_a_plain_one():
    """Whoever asks what it is, what it takes, or what it is for."""
    assert not inspect.iscoroutinefunction(main)
    assert inspect.isfunction(main)
    assert str(inspect.signature(main)) == "(url, *, limit=1)"
    assert (main.__name__, main.__module__, main.__doc__) == ("main", __name__, "Run the program.")
    assert inspect.iscoroutinefunction(main.__wrapped__)


@each_loop
def test_it_takes_the_options_of_run(loop_factory):
    """The loop, its debug mode, and the times of a stop."""

    @entry_point(grace=5, drain=60, loop_factory=loop_factory, debug=True)
    async def main():
        assert asyncio.get_running_loop().get_debug()
        tell_to_stop()
        await stopping().wait()
        log.append("finished its item")

    log = []
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 0
    assert log == ["finished its item"]


def test_a_failure_is_raised_as_itself():
    """As by the function itself."""
    with pytest.raises(Boom):
        entry_point(fail)(Boom())


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"grace": -1}, ValueError, "grace must be a finite number of seconds >= 0, got -1"),
        ({"drain": "1"}, TypeError, "drain must be a number of seconds, got str"),
        ({"loop_factory": 5}, TypeError, "loop_factory must be a callable that makes an event loop, got int 5"),
    ],
)
def test_a_bad_option_is_refused_where_it_is_given(options, kind, message):
    """Not at the first call."""
    with refused(kind, message):
        entry_point(**options)


async def test_it_cannot_be_called_in_a_loop():
    """Its name is in the error, since the call may be far away."""
    message = "main(), an entry point, starts an event loop, but one is running in this thread already"
    with refused(RuntimeError, f"{message} (await the coroutine function itself instead)"):
        main(1)

    assert await main.__wrapped__(1) == (1, 1)


def test_it_can_be_called_again():
    """Each call has a loop of its own."""

    @entry_point
    async def main():
        return asyncio.get_running_loop()

    assert main() is not main()


def test_it_is_told_to_stop_like_every_run():
    """SIGTERM cancels what it runs."""

    @entry_point
    async def main():
        asyncio.get_running_loop().call_soon(tell_to_stop)
        await forever()

    with pytest.raises(SystemExit):
        main()
