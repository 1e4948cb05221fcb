"""The register behind `impatient`: what it costs is counted, operation by operation."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import logging
import math
import sys
import weakref

import hypothesis
import hypothesis.strategies as st
import pytest
from loops import each_virtual_loop
from tools import forever, give, messages, start, turns
from waits import Counts, registers, waiting

from async_plus import LongWait, impatient, subscribe
from async_plus.engine import long_waits
from async_plus.testing import record_events

virtual = pytest.mark.virtual_time

# It counts operations of Python code, which are the same on every loop, and there are many of them.
once = pytest.mark.asyncio(loop_factories=["default"])


@pytest.fixture
def counts(monkeypatch):
    return Counts(monkeypatch)


@pytest.fixture
def nobody_listens(caplog):
    """Complaints are not wanted, so that only the register's own work is left."""
    caplog.set_level(logging.ERROR, logger="async_plus")


async def wait_plainly():
    await impatient(give(1), log_after=5)


@impatient(log_after=5)
async def decorated():
    await give(1)


async def wait_in_a_block():
    async with impatient(log_after=5):
        await give(1)


@virtual
class TestQuickWait:
    @pytest.mark.parametrize("wait", [wait_plainly, decorated, wait_in_a_block])
    async def test_it_costs_two_dict_operations_and_a_look_at_the_clock(self, wait, counts):
        """No timer and no task of its own: that is what makes it fit for every await of a program."""
        with counts.counting():
            async with impatient(log_after=5):
                before = counts.all()
                await wait()
                after = counts.all()

        assert {name: after[name] - before[name] for name in after} == {
            "touches": 2,
            "times": 1,
            "timers": 0,
            "tasks": 0,
        }

    async def test_without_log_after_there_is_no_timer_at_all(self, counts):
        """Nothing is ever due."""
        with counts.counting():
            await impatient(give(1), log_completion="always")
            await impatient(asyncio.sleep(1_000_000), log_completion="always")

        assert counts.timers == []
        assert waiting() == {}

    async def test_its_place_in_the_register_is_free_again(self):
        """A million of them leave nothing behind."""
        for _ in range(100):
            await wait_plainly()
            await decorated()
            await wait_in_a_block()

        assert waiting() == {}
        assert {gap: len(register._long) for gap, register in registers().items()} == {5: 0}


@virtual
class TestTimer:
    async def test_all_waits_with_one_log_after_share_one_timer(self, counts):
        """It is set by the first of them."""
        with counts.counting():
            tasks = [await start(impatient(forever(), log_after=5)) for _ in range(20)]

        assert len(counts.timers) == 1
        assert waiting() == {5: 20}
        await cancel(tasks)

    async def test_int_and_float_log_after_share_it_too(self, counts):
        """5 and 5.0 are the same time."""
        with counts.counting():
            tasks = [await start(impatient(forever(), log_after=seconds)) for seconds in (5, 5.0)]

        assert len(counts.timers) == 1
        await cancel(tasks)

    async def test_each_log_after_has_its_own(self, counts):
        """So that in each register the first to enter is the first to be due."""
        with counts.counting():
            tasks = [await start(impatient(forever(), log_after=seconds)) for seconds in (5, 6, 7)]

        assert [timer.when() for timer in counts.timers] == [pytest.approx(86_400 + s) for s in (5, 6, 7)]
        await cancel(tasks)

    async def test_it_lapses_and_the_register_goes_when_nothing_waits(self, counts):
        """A program that has stopped waiting is not woken any more."""
        with counts.counting():
            for _ in range(3):
                await wait_plainly()
            assert len(registers()) == 1
            await asyncio.sleep(5.5)

            assert registers() == {}
            assert len(counts.timers) == 1

    async def test_it_is_set_anew_for_the_next_head(self, counts, virtual_clock):
        """The wait it was set for is over, and another one, that began later, is told of in time."""
        with counts.counting():
            first = await start(impatient(asyncio.sleep(1), log_after=5))
            await asyncio.sleep(3)
            second = await start(impatient(forever(), log_after=5))
            with record_events() as found:
                await asyncio.sleep(4.9)
                assert found == []
                await asyncio.sleep(0.2)
                assert [event.after for event in found] == [pytest.approx(5)]

        assert [timer.when() - 86_400 for timer in counts.timers[:2]] == [pytest.approx(5), pytest.approx(8)]
        await cancel([first, second])

    async def test_a_register_that_went_comes_back(self):
        """Whoever waits after a silence is told of as well."""
        await wait_plainly()
        await asyncio.sleep(100)
        assert registers() == {}

        with record_events() as found:
            await impatient(asyncio.sleep(6), log_after=5, log_completion="never")

        assert [event.after for event in found] == [pytest.approx(5)]

    async def test_after_the_last_end_no_register_is_left_of_later_complaints(self):
        """Each complaint moves the wait to a register with twice the gap; they all go."""
        await impatient(asyncio.sleep(100), log_after=1)
        assert waiting() == {}

        await asyncio.sleep(200)
        assert registers() == {}

    async def test_computed_values_of_log_after_leave_nothing_behind(self, counts):
        """Each makes a register and a timer, for hours maybe; empty ones are cleared when they become many."""
        with counts.counting():
            # One without a timer is among them.
            await impatient(give(0), log_completion="always")
            for number in range(2_000):
                await impatient(give(number), log_after=3600 + number / 7)

        assert len(registers()) <= long_waits.MANY
        assert len([timer for timer in counts.timers if not timer.cancelled()]) <= long_waits.MANY

    async def test_registers_in_use_are_not_cleared(self, caplog, monkeypatch):
        """However many there are, every wait in them is told of. Nor are they looked through for each new one."""
        cleared = []
        tidy = long_waits.Registers._tidy
        monkeypatch.setattr(long_waits.Registers, "_tidy", lambda home: (cleared.append(1), tidy(home)))
        tasks = [asyncio.create_task(impatient(forever(), log_after=10 + number)) for number in range(200)]
        await turns()
        for number in range(500):
            await impatient(give(number), log_after=1000 + number)
        assert len(registers()) < 500
        assert len(cleared) < 10

        await asyncio.sleep(9.5 + 200)

        firsts = {text.partition(" after ")[2].partition(" s ")[0] for _, text in messages(caplog)}
        assert firsts >= {f"{10 + number}.0" for number in range(200)}
        await cancel(tasks)


@virtual
class TestManyWaits:
    @once
    async def test_staggered_waits_are_looked_at_one_by_one(self, counts, nobody_listens, virtual_clock):
        """100,000 become long one after the other: the work of each does not grow with the number of the others."""
        many = 100_000
        with counts.counting():
            async with contextlib.AsyncExitStack() as stack:
                for _ in range(many):
                    await stack.enter_async_context(impatient(log_after=200))
                    virtual_clock.jump(virtual_clock.time() + 0.001)
                entered = counts.all()
                assert entered == {"touches": many, "times": many, "timers": 1, "tasks": 0}

                await asyncio.sleep(300)
                told = counts.all()

                # It is listed, found to be the head, found to be due, removed, and entered in the next register.
                assert told["touches"] - entered["touches"] <= 8 * many
                # Each is due at a time of its own.
                assert told["timers"] - entered["timers"] <= many + 1
                assert waiting() == {400: many}
            # At the end one removal each.
            assert counts.touched - told["touches"] <= 2 * many

        assert waiting() == {}

    @once
    async def test_quick_waits_between_are_passed_over_once(self, counts, nobody_listens, virtual_clock):
        """Only every hundredth becomes long; the others are not walked over again and again."""
        many = 100_000
        with counts.counting():
            async with contextlib.AsyncExitStack() as stack:
                for number in range(many):
                    if number % 100:
                        await impatient(give(1), log_after=200)
                    else:
                        await stack.enter_async_context(impatient(log_after=200))
                    virtual_clock.jump(virtual_clock.time() + 0.001)
                entered = counts.all()
                await asyncio.sleep(300)

                assert counts.touched - entered["touches"] <= 8 * many // 100
                assert len(counts.timers) <= many // 100 + 2

    @once
    async def test_waits_that_are_all_due_at_once_do_not_block_the_loop(self, nobody_listens, monkeypatch):
        """100,000 complaints are written in batches, and everything else runs between them."""
        many, told = 100_000, 0

        def count(*_):
            nonlocal told
            told += 1

        monkeypatch.setattr(long_waits._LongWait, "complain", count)
        loop, seen = asyncio.get_running_loop(), [0]

        def every_turn():
            seen.append(told)
            if told < many:
                loop.call_soon(every_turn)

        async with contextlib.AsyncExitStack() as stack:
            for _ in range(many):
                await stack.enter_async_context(impatient(log_after=5))
            loop.call_later(5, every_turn)
            await asyncio.sleep(9)

        in_one_turn = [after - before for before, after in itertools.pairwise(seen)]
        assert told == many
        assert max(in_one_turn) <= long_waits.BATCH

    async def test_batches_leave_nobody_out_and_tell_nobody_twice(self):
        """On every loop, each of some hundred waits is told of at each of its times."""
        names = [str(number) for number in range(3 * long_waits.BATCH + 7)]
        with record_events() as found:
            tasks = [asyncio.create_task(impatient(forever(), log_after=5, name=name)) for name in names]
            await asyncio.sleep(5.5)
            assert [event.awaited for event in found] == names
            await asyncio.sleep(10)
            assert [event.awaited for event in found] == names * 2
        await cancel(tasks)


class TestOneLoopEach:
    @each_virtual_loop
    def test_a_dead_loop_is_not_kept_alive(self, loop_factory):
        """The register is kept on its loop, and goes with it, waits that never ended included (gh-91887)."""

        async def main():
            await impatient(give(1), log_after=5)
            await impatient(asyncio.sleep(6), log_after=5, log_completion="never")
            hanging = impatient(forever(), log_after=5)
            hanging.send(None)
            hung.append(weakref.ref(hanging))
            return hanging

        hung = []
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            # Kept to the end of the loop, as by a program that is killed.
            hanging = runner.run(main())
            loop = weakref.ref(runner.get_loop())
        del runner, hanging
        gc.collect()

        assert hung[0]() is None
        assert loop() is None

    @each_virtual_loop
    def test_a_loop_that_is_run_again_goes_on_with_its_waits(self, loop_factory):
        """run_until_complete stops the loop between; nothing is lost."""
        with asyncio.Runner(loop_factory=loop_factory) as runner, record_events() as found:
            loop = runner.get_loop()
            task = loop.create_task(impatient(asyncio.sleep(20), log_after=5, log_completion="never"))
            for _ in range(4):
                loop.run_until_complete(asyncio.sleep(4))
            loop.run_until_complete(task)

        assert [event.after for event in found] == [pytest.approx(5), pytest.approx(15)]

    @virtual
    async def test_two_loops_do_not_share_a_register(self, virtual_clock):
        """Each loop has its own clock, and tells only of its own waits."""
        task = await start(impatient(forever(), log_after=5, log_completion="never"))
        loop_factory = type(asyncio.get_running_loop())

        def elsewhere():
            with asyncio.Runner(loop_factory=loop_factory) as runner:
                runner.run(impatient(asyncio.sleep(50), log_after=5, log_completion="never"))

        with record_events() as found:
            await asyncio.to_thread(elsewhere)

        assert len(found) == 3
        assert waiting() == {5: 1}
        await cancel([task])


@virtual
class TestReentry:
    async def test_a_listener_may_begin_a_wait_of_its_own(self):
        """With eager tasks it enters the very register that is being gone through; that has still one timer."""

        def alert(event):
            if isinstance(event, LongWait) and event.awaited == "request":
                alerts.append(asyncio.create_task(impatient(asyncio.sleep(6), log_after=5, name="alert")))

        alerts = []
        unsubscribe = subscribe(alert)
        try:
            with record_events() as found:
                await impatient(asyncio.sleep(12), log_after=5, name="request")
                await asyncio.wait(alerts)
        finally:
            unsubscribe()

        told = [(event.awaited, round(event.after, 3)) for event in found if isinstance(event, LongWait)]
        assert told == [("request", 5), ("alert", 5)]


@virtual
@hypothesis.given(
    plans=st.lists(
        st.tuples(st.integers(0, 12), st.integers(1, 4), st.integers(0, 40)),
        max_size=12,
    )
)
@hypothesis.settings(max_examples=60)
async def test_any_waits_are_told_of_when_a_simple_model_says_so(plans):
    """Whatever begins and ends when: complaints at log_after times 1, 3, 7, 15 ... and one end for each long wait."""

    async def wait(number, begin, log_after, seconds):
        await asyncio.sleep(begin)
        # Half a second more, so that no wait ends at the very time of a complaint.
        await impatient(asyncio.sleep(seconds + 0.5), log_after=log_after, name=str(number))

    with record_events() as found:
        await asyncio.gather(*(wait(number, *plan) for number, plan in enumerate(plans)))
    told = {str(number): [] for number in range(len(plans))}
    for event in found:
        told[event.awaited].append((type(event).__name__, round(event.after, 3)))

    for number, (_, log_after, seconds) in enumerate(plans):
        complaints = [log_after * (2**count - 1) for count in range(1, 10)]
        expected = [("LongWait", after) for after in complaints if after < seconds + 0.5]
        if expected:
            expected.append(("WaitOver", seconds + 0.5))
        assert told[str(number)] == expected
    assert waiting() == {}


@virtual
async def test_no_gap_is_too_long_for_a_timer(monkeypatch):
    """Gaps double for as long as a wait lasts; a `log_after` of ages is taken as well."""
    task = await start(impatient(forever(), log_after=sys.float_info.max))

    assert not math.isinf(next(iter(registers())))
    await asyncio.sleep(1_000_000)
    await cancel([task])


async def cancel(tasks):
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
