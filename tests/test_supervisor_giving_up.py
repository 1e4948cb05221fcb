"""`Supervisor` when a child gives up: whose error is raised, when, where, and after what."""

from __future__ import annotations

import asyncio
import contextlib
import functools

import pytest
from services import end_of, told
from tools import Bang, Boom, crash, elapsed, forever, no_garbage_of_reports, refused

from async_plus import AttemptFailed, GaveUp, Supervisor, supervised
from async_plus.testing import record_events

virtual = pytest.mark.virtual_time


@virtual
class TestGivingUp:
    async def test_its_own_error_is_raised_by_wait_when_the_others_have_stopped(self, diary, caplog):
        """In reverse, one at a time; with a note that names child and supervisor, and once."""
        error = Bang("the disk is full")

        @supervised(on=OSError, name="feed")
        async def feed():
            await asyncio.sleep(1)
            raise error

        async with Supervisor("shop") as sup:
            await sup.start(diary.service("db", stop_takes=2))
            await sup.start(diary.service("cache", stop_takes=2))
            child = await sup.start(feed)
            with pytest.raises(Bang) as caught:
                await sup.wait()
            assert elapsed() == 5
            assert sup.children == ()
            assert (child.state, repr(child.last_error)) == ("failed", repr(error))
            assert child.last_error.__traceback__ is None

        assert caught.value is error
        assert error.__notes__ == ["child 'feed' of supervisor 'shop'"]
        assert [line for line in diary.lines if line[0]] == [
            (1, "cache", "is told"),
            (3, "cache", "stops"),
            (3, "db", "is told"),
            (5, "db", "stops"),
        ]
        assert told(caplog) == [("ERROR", "feed is not restarted: the last attempt failed with Bang after 1.0 s")]

    async def test_without_wait_it_is_raised_at_the_end_of_the_block(self):
        """The host is not cancelled, and goes on until then."""
        steps = []
        with pytest.raises(Boom):
            async with Supervisor("shop") as sup:
                await sup.start(functools.partial(crash, 1))
                await asyncio.sleep(5)
                steps.append(elapsed())
        assert steps == [5]
        assert asyncio.current_task().cancelling() == 0

    async def test_past_its_limit_the_last_error_is_raised_with_both_notes(self, caplog):
        """And GaveUp told once."""

        @supervised(delays=[1], max_restarts=2, name="feed")
        async def feed():
            raise Boom

        with record_events() as events, pytest.raises(Boom) as caught:
            async with Supervisor("shop") as sup:
                await sup.start(feed)
                await sup.wait()

        assert caught.value.__notes__ == ["gave up on feed after 2 restarts", "child 'feed' of supervisor 'shop'"]
        assert [event.restarts for event in events if isinstance(event, GaveUp)] == [2]
        assert len([event for event in events if isinstance(event, AttemptFailed)]) == 2

    async def test_an_exception_of_the_block_goes_first(self, caplog):
        """The child's error is then reported, with its traceback."""
        with pytest.raises(Bang):
            async with Supervisor("shop") as sup:
                await sup.start(functools.partial(crash, 1), name="feed")
                await asyncio.sleep(5)
                raise Bang

        assert told(caplog)[1:] == [
            ("ERROR", "task 'feed' failed with Boom, not raised by supervisor 'shop': it ends otherwise")
        ]
        assert caplog.records[1].exc_info[0] is Boom

    async def test_a_cancellation_of_the_host_goes_first_too(self, caplog):
        """The error is not lost."""

        async def host():
            async with Supervisor("shop") as sup:
                await sup.start(functools.partial(crash, 1), name="feed")
                await forever()

        task = asyncio.create_task(host())
        await asyncio.sleep(2)
        task.cancel()

        assert await end_of(task) == "cancelled"
        assert [text for _, text in told(caplog)][1:] == [
            "task 'feed' failed with Boom, not raised by supervisor 'shop': it ends otherwise"
        ]

    async def test_it_is_raised_once(self):
        """Who caught it from wait() is not told again at the end."""
        async with Supervisor("shop") as sup:
            await sup.start(functools.partial(crash, 1))
            with pytest.raises(Boom):
                await sup.wait()

    async def test_after_it_nothing_is_started(self):
        """It is refused with the name of the child, and the error as its cause."""
        async with Supervisor("shop") as sup:
            child = await sup.start(functools.partial(crash, 1), name="feed")
            with pytest.raises(Boom):
                await sup.wait()
            with refused(RuntimeError, "cannot start 'sleep': supervisor 'shop' gave up on 'feed'"):
                await sup.start(asyncio.sleep, 1)
            with pytest.raises(RuntimeError) as refusal:
                await child.restart()
            assert str(refusal.value) == "cannot restart 'feed': supervisor 'shop' gave up on 'feed'"
            assert type(refusal.value.__cause__) is Boom

    async def test_start_raises_it_if_it_comes_before_the_child_is_ready(self, diary):
        """Of the child itself, or of another one; when all have stopped."""

        @supervised(ready=True, restart="never", name="web")
        async def web():
            await asyncio.sleep(1)
            raise Boom

        for fn in (web, diary.service("slow", ready_after=100)):
            begin = elapsed()
            async with Supervisor("shop") as sup:
                await sup.start(diary.service("db", stop_takes=2))
                if fn is not web:
                    await sup.start(functools.partial(crash, 1))
                with pytest.raises(Boom):
                    await sup.start(fn)
                assert elapsed() == begin + 3
                assert sup.children == ()

    async def test_an_error_of_the_predicate_is_the_end(self, caplog):
        """It is raised like the child's own, with the failure as its context."""

        def on(exc):
            raise KeyError("typo")

        @supervised(on=on, name="feed")
        async def feed():
            raise Boom

        with pytest.raises(KeyError) as caught:
            async with Supervisor("shop") as sup:
                await sup.start(feed)
                await sup.wait()
        assert type(caught.value.__context__) is Boom
        assert caught.value.__notes__ == ["child 'feed' of supervisor 'shop'"]

    async def test_the_same_error_is_annotated_once(self):
        """A service may raise one and the same again and again."""
        error = Boom()

        async def feed():
            raise error

        for _ in range(2):
            with pytest.raises(Boom):
                async with Supervisor("shop") as sup:
                    await sup.start(feed, name="feed")
                    await sup.wait()
        assert error.__notes__ == ["child 'feed' of supervisor 'shop'"]

    async def test_one_that_takes_no_note_is_raised_all_the_same(self):
        """A frozen dataclass refuses to be annotated."""

        class FrozenError(Exception):
            def __setattr__(self, name, value):
                raise AttributeError(name)

        async def feed():
            raise FrozenError

        with pytest.raises(FrozenError):
            async with Supervisor("shop") as sup:
                await sup.start(feed)
                await sup.wait()

    async def test_nothing_is_kept_by_reference_cycles(self):
        """The error that is raised leads to the host, which may well hold supervisor and child."""

        async def host():
            async with Supervisor("shop") as sup:
                child = await sup.start(functools.partial(crash, 1))
                await sup.wait()
                del child

        with no_garbage_of_reports():
            await asyncio.wait([asyncio.ensure_future(swallow(host))])

    async def test_a_failure_while_the_others_are_stopped_is_reported(self, caplog, diary):
        """It came before its turn, so that it failed by itself; nobody will raise it."""
        with pytest.raises(Boom):
            async with Supervisor("shop") as sup:
                child = await sup.start(functools.partial(crash, 2, Bang), name="early")
                await sup.start(diary.service("slow", stop_takes=4))
                await sup.start(functools.partial(crash, 1), name="feed")
                await sup.wait()
        assert child.state == "failed"
        assert [text for _, text in told(caplog)] == [
            "feed is not restarted: the last attempt failed with Boom after 1.0 s",
            "early failed after 2.0 s with Bang, not restarted: it is being stopped",
        ]


async def swallow(host):
    with contextlib.suppress(Boom):
        await host()
