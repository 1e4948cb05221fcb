"""`RetryDelayer`: delays that grow while something keeps failing, and start over when it has run."""

from __future__ import annotations

import asyncio
import decimal
import fractions
import random
import threading

import hypothesis
import hypothesis.strategies as st
import pytest
from loops import each_virtual_loop
from tools import refused, start, turns

from async_plus import RetryDelayer

virtual = pytest.mark.virtual_time


@pytest.fixture
def slept(monkeypatch):
    """The seconds given to asyncio.sleep, which returns at once."""
    seconds = []

    async def sleep(delay):
        seconds.append(delay)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return seconds


@pytest.fixture
def halves(monkeypatch):
    """random.random() is always 0.5."""
    monkeypatch.setattr(random, "random", lambda: 0.5)


async def run_for(seconds):
    """What a service does between its failures."""
    await asyncio.sleep(seconds)


async def elapsed(awaitable):
    """The seconds that *awaitable* takes."""
    clock = asyncio.get_running_loop().time
    began = clock()
    await awaitable
    return round(clock() - began, 6)


@virtual
class TestSchedule:
    """Each sleep takes the next delay; the last one repeats."""

    async def test_the_delays_come_in_order_and_the_last_one_repeats(self):
        """Without any run between them, for ever."""
        delayer = RetryDelayer([0, 1, 10])

        assert [await elapsed(delayer.sleep()) for _ in range(6)] == [0, 1, 10, 10, 10, 10]

    async def test_by_default_they_are_0_1_10_and_60_seconds(self):
        """At once, then soon, then patiently."""
        delayer = RetryDelayer()

        assert [await elapsed(delayer.sleep()) for _ in range(5)] == [0, 1, 10, 60, 60]

    async def test_a_random_part_of_random_shift_is_added_to_each(self, halves):
        """So that many who failed together do not come back together."""
        delayer = RetryDelayer([0, 1], random_shift=3)

        assert [await elapsed(delayer.sleep()) for _ in range(3)] == [1.5, 2.5, 2.5]

    async def test_without_random_shift_nothing_is_random(self, monkeypatch):
        """Not even asked for: a test that counts random numbers is not disturbed."""
        monkeypatch.setattr(random, "random", None)
        delayer = RetryDelayer([2])

        assert await elapsed(delayer.sleep()) == 2

    async def test_reset_starts_over(self):
        """At any time."""
        delayer = RetryDelayer([0, 1, 10])
        for _ in range(3):
            await delayer.sleep()

        delayer.reset()

        assert [await elapsed(delayer.sleep()) for _ in range(2)] == [0, 1]

    async def test_two_delayers_share_nothing(self):
        """Each has its own place."""
        first, second = RetryDelayer([1, 5]), RetryDelayer([1, 5])
        await first.sleep()

        assert await elapsed(first.sleep()) == 5
        assert await elapsed(second.sleep()) == 1

    async def test_any_iterable_will_do_and_is_read_at_once(self):
        """A generator, and a list that changes later."""
        delays = [1, 2]
        changed, generated = RetryDelayer(delays), RetryDelayer(2**n for n in range(3))
        delays[:] = [100]

        assert [await elapsed(changed.sleep()) for _ in range(3)] == [1, 2, 2]
        assert [await elapsed(generated.sleep()) for _ in range(4)] == [1, 2, 4, 4]

    @pytest.mark.parametrize(
        "make", [lambda: (1, 2), lambda: range(1, 3), lambda: {1: "a", 2: "b"}, lambda: iter([1, 2])]
    )
    async def test_any_kind_of_iterable_will_do(self, make):
        """Even one that can be gone through only once."""
        delayer = RetryDelayer(make())

        assert [await elapsed(delayer.sleep()) for _ in range(3)] == [1, 2, 2]

    async def test_any_kind_of_number_will_do(self):
        """Whatever has a float value."""
        delayer = RetryDelayer([fractions.Fraction(1), decimal.Decimal(2)])

        assert [await elapsed(delayer.sleep()) for _ in range(3)] == [1, 2, 2]

    async def test_code_written_for_0_3_runs_unchanged(self, halves):
        """`delays`, `random_shift` and `reset_after` by position."""
        delayer = RetryDelayer([0, 1], 5, 30)

        assert [await elapsed(delayer.sleep()) for _ in range(3)] == [2.5, 3.5, 3.5]
        await run_for(30.5)
        assert await elapsed(delayer.sleep()) == 2.5


@virtual
class TestStartingOver:
    """More than `reset_after` seconds after the previous sleep ended, the delays start over."""

    @pytest.mark.parametrize(("ran", "delay"), [(29.999, 10), (30, 10), (30.001, 0), (3600, 0)])
    async def test_a_run_longer_than_reset_after_starts_over(self, ran, delay):
        """Longer: exactly as long is not enough."""
        delayer = RetryDelayer([0, 10], reset_after=30)
        await delayer.sleep()
        await run_for(ran)

        assert await elapsed(delayer.sleep()) == delay

    async def test_time_asleep_does_not_count(self):
        """What counts is how long the service ran, not how long it was delayed."""
        delayer = RetryDelayer([0, 100], reset_after=30)
        await delayer.sleep()

        assert [await elapsed(delayer.sleep()) for _ in range(3)] == [100, 100, 100]

    @pytest.mark.parametrize(("ran", "delay"), [(60, 60), (60.001, 5)])
    async def test_by_default_it_is_the_longest_delay(self, ran, delay):
        """Wherever in the list that stands."""
        delayer = RetryDelayer([5, 60, 60, 10])
        await delayer.sleep()
        await run_for(ran)

        assert await elapsed(delayer.sleep()) == delay

    async def test_the_default_leaves_random_shift_out(self, halves):
        """It is the longest delay as given."""
        delayer = RetryDelayer([5, 10], random_shift=100)
        await delayer.sleep()
        await run_for(10.001)

        assert await elapsed(delayer.sleep()) == 55

    async def test_before_the_first_sleep_there_is_nothing_to_start_over(self):
        """However long it has run."""
        delayer = RetryDelayer([1, 2], reset_after=5)
        await run_for(1000)

        assert [await elapsed(delayer.sleep()) for _ in range(2)] == [1, 2]

    async def test_with_reset_after_zero_any_run_starts_over(self):
        """Only failures without any time between them go on in the list."""
        delayer = RetryDelayer([1, 2], reset_after=0)
        await delayer.sleep()
        assert await elapsed(delayer.sleep()) == 2

        await run_for(0.001)
        assert await elapsed(delayer.sleep()) == 1

    async def test_a_reset_does_not_forget_when_the_last_sleep_ended(self):
        """Nor does it count as one."""
        delayer = RetryDelayer([1, 2, 3], reset_after=30)
        await delayer.sleep()
        delayer.reset()
        await delayer.sleep()

        await run_for(20)
        assert await elapsed(delayer.sleep()) == 2


@virtual
class TestCancellation:
    async def test_a_cancelled_sleep_has_ended_then(self):
        """The service that runs afterwards is measured from there; the delay counts as used."""
        delayer = RetryDelayer([100, 7], reset_after=30)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(50):
                await delayer.sleep()

        await run_for(29)
        assert await elapsed(delayer.sleep()) == 7
        await run_for(31)
        assert await elapsed(delayer.sleep()) == 100

    async def test_a_sleep_that_never_began_counts_for_nothing(self):
        """Its task was cancelled before its first step."""
        delayer = RetryDelayer([1, 2])
        # No eager task: that one has no moment before its first step.
        task = asyncio.Task(delayer.sleep())
        task.cancel()
        await asyncio.wait([task])

        assert await elapsed(delayer.sleep()) == 1

    async def test_a_cancellation_comes_through_with_its_message(self):
        """As from asyncio.sleep."""
        task = await start(RetryDelayer([100]).sleep())
        task.cancel("stop it")

        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert caught.value.args == ("stop it",)


@virtual
class TestConcurrentSleepers:
    """Several loops may share one delayer: each failure moves all of them on."""

    async def test_they_share_the_place_in_the_schedule(self):
        """The first takes the first delay, the second the second."""
        delayer = RetryDelayer([1, 2, 3])

        assert await asyncio.gather(*(elapsed(delayer.sleep()) for _ in range(4))) == [1, 2, 3, 3]

    async def test_nothing_starts_over_while_one_of_them_sleeps(self):
        """Nobody can say that things run again: that sleep has not ended yet."""
        delayer = RetryDelayer([50, 100, 7], reset_after=30)
        await delayer.sleep()
        sleeper = await start(delayer.sleep())
        await run_for(40)

        assert await elapsed(delayer.sleep()) == 7
        await sleeper

    async def test_the_last_one_to_wake_counts(self):
        """The run is measured from its end."""
        delayer = RetryDelayer([10, 40], reset_after=30)
        await asyncio.gather(delayer.sleep(), delayer.sleep())
        await run_for(29)
        assert await elapsed(delayer.sleep()) == 40

        await run_for(31)
        assert await elapsed(delayer.sleep()) == 10


class TestNextDelay:
    """The delay alone, for loops that wait in a way of their own."""

    async def test_it_returns_what_sleep_would_sleep(self, halves):
        """A number of seconds, at once."""
        delayer = RetryDelayer([0, 1, 10], random_shift=1)

        assert [delayer.next_delay() for _ in range(4)] == [0.5, 1.5, 10.5, 10.5]

    @virtual
    async def test_it_shares_the_place_with_sleep(self):
        """Whichever is called takes the next one."""
        delayer = RetryDelayer([1, 2, 3, 4])

        assert [
            delayer.next_delay(),
            await elapsed(delayer.sleep()),
            delayer.next_delay(),
            await elapsed(delayer.sleep()),
        ] == [1, 2, 3, 4]

    @virtual
    @pytest.mark.parametrize(("passed", "delay"), [(31, 9), (31.001, 1)])
    async def test_it_counts_as_a_sleep_that_ends_when_the_delay_is_over(self, passed, delay):
        """What passes from then on is taken as run."""
        delayer = RetryDelayer([1, 9], reset_after=30)
        delayer.next_delay()
        await run_for(passed)

        assert delayer.next_delay() == delay

    @virtual
    async def test_the_last_one_repeats_for_who_waits_them_out(self):
        """To wait for the longest delay is no run of that length."""
        delayer, waited = RetryDelayer([0, 10, 60]), []
        for _ in range(5):
            waited.append(delayer.next_delay())
            await asyncio.sleep(waited[-1] + 0.01)

        assert waited == [0, 10, 60, 60, 60]

    def test_without_a_running_loop_it_says_what_it_needs(self):
        """The clock is that of the loop. The place in the schedule stays."""
        delayer = RetryDelayer([1, 2])

        with refused(
            RuntimeError,
            "next_delay() needs a running event loop, whose clock it goes by: call it from a coroutine",
        ):
            delayer.next_delay()

        async def first():
            return delayer.next_delay()

        assert asyncio.run(first()) == 1


class TestClocks:
    """Everything is looked up at the call, so that tests can patch it."""

    async def test_asyncio_sleep_is_looked_up_at_the_call(self, slept):
        """Patched after the delayer was made."""
        delayer = RetryDelayer([0, 1])
        for _ in range(3):
            await delayer.sleep()

        assert slept == [0, 1, 1]

    async def test_random_is_looked_up_at_the_call(self, slept, monkeypatch):
        """Seeds and patches of the module work."""
        delayer = RetryDelayer([1], random_shift=8)
        monkeypatch.setattr(random, "random", iter([0.25, 0.75]).__next__)
        await delayer.sleep()
        await delayer.sleep()

        assert slept == [3, 7]

    @each_virtual_loop
    def test_time_is_that_of_the_running_loop(self, loop_factory):
        """Not of the process: here hours pass in no time."""

        async def work():
            loop = asyncio.get_running_loop()
            delayer = RetryDelayer([1, 2, 3], reset_after=3600)
            first = [await elapsed(delayer.sleep()) for _ in range(2)]
            loop.clock.jump(loop.time() + 3601)
            return [*first, await elapsed(delayer.sleep())]

        with asyncio.Runner(loop_factory=loop_factory) as runner:
            assert runner.run(work()) == [1, 2, 1]

    def test_it_can_be_made_without_a_loop_and_used_in_one_after_another(self):
        """At import, in a class body, in a thread."""
        delayer = RetryDelayer([0])

        async def work():
            await delayer.sleep()
            await turns()
            await delayer.sleep()

        asyncio.run(work())
        thread = threading.Thread(target=asyncio.run, args=[work()])
        thread.start()
        thread.join()

    @virtual
    async def test_a_sleep_that_fails_has_ended_too(self, monkeypatch):
        """Whatever is patched in for asyncio.sleep may raise."""

        async def broken(seconds):
            raise OSError("disk full")

        delayer = RetryDelayer([5, 6], reset_after=30)
        with monkeypatch.context() as patch:
            patch.setattr(asyncio, "sleep", broken)
            with refused(OSError, "disk full"):
                await delayer.sleep()

        await run_for(31)
        assert await elapsed(delayer.sleep()) == 5


class TestText:
    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            ((), "delays=[0, 1, 10, 60] random_shift=0 reset_after=60"),
            (([0.5], 2, 3.25), "delays=[0.5] random_shift=2 reset_after=3.25"),
            (([1234567.5],), "delays=[1234567.5] random_shift=0 reset_after=1234567.5"),
        ],
    )
    def test_its_repr_shows_the_options(self, arguments, text):
        """All three, as numbers."""
        assert repr(RetryDelayer(*arguments)) == f"<RetryDelayer {text}>"


NO_NUMBER = "must be a number of seconds, got"
NOT_FINITE = "must be a finite number of seconds >= 0, got"


class TestBadInput:
    """Refused at once, with the parameter and the value."""

    @pytest.mark.parametrize(
        ("options", "kind", "message"),
        [
            ({"delays": []}, ValueError, "delays must not be empty: [0] restarts at once, for ever"),
            ({"delays": (n for n in ())}, ValueError, "delays must not be empty: [0] restarts at once, for ever"),
            ({"delays": 5}, TypeError, "delays must be an iterable of seconds, got int 5"),
            ({"delays": None}, TypeError, "delays must be an iterable of seconds, got NoneType"),
            ({"delays": "0, 1"}, TypeError, "delays must be an iterable of seconds, got str"),
            ({"delays": b"01"}, TypeError, "delays must be an iterable of seconds, got bytes"),
            ({"delays": [0, -1]}, ValueError, f"delays[1] {NOT_FINITE} -1"),
            ({"delays": [0, 1, float("nan")]}, ValueError, f"delays[2] {NOT_FINITE} nan"),
            ({"delays": [float("inf")]}, ValueError, f"delays[0] {NOT_FINITE} inf"),
            ({"delays": [10**400]}, ValueError, f"delays[0] {NOT_FINITE} inf"),
            ({"delays": [0, "1"]}, TypeError, f"delays[1] {NO_NUMBER} str"),
            ({"delays": [None]}, TypeError, f"delays[0] {NO_NUMBER} NoneType"),
            ({"delays": [True]}, TypeError, f"delays[0] {NO_NUMBER} bool True"),
            ({"random_shift": -1}, ValueError, f"random_shift {NOT_FINITE} -1"),
            ({"random_shift": float("inf")}, ValueError, f"random_shift {NOT_FINITE} inf"),
            ({"random_shift": None}, TypeError, f"random_shift {NO_NUMBER} NoneType"),
            ({"reset_after": -1}, ValueError, f"reset_after {NOT_FINITE} -1"),
            ({"reset_after": float("nan")}, ValueError, f"reset_after {NOT_FINITE} nan"),
            ({"reset_after": "60"}, TypeError, f"reset_after {NO_NUMBER} str"),
        ],
    )
    def test_a_wrong_value_is_named(self, options, kind, message):
        """Nothing is guessed and nothing fails later, in the middle of a night."""
        with refused(kind, message):
            RetryDelayer(**options)

    def test_an_error_of_the_iterable_itself_comes_through(self):
        """It is the caller's own."""
        with pytest.raises(ZeroDivisionError):
            RetryDelayer(1 / n for n in (1, 0))


seconds = st.floats(0, 1000) | st.integers(0, 1000)
steps = st.one_of(
    st.tuples(st.just("sleep"), st.none()),
    st.tuples(st.just("cancelled sleep"), st.floats(0, 0.9)),
    st.tuples(st.just("next_delay"), st.none()),
    st.tuples(st.just("run"), seconds),
    st.tuples(st.just("reset"), st.none()),
)


class Model:
    """What a RetryDelayer promises, in the simplest way to write it."""

    def __init__(self, delays, random_shift, reset_after, chances):
        self.left = self.delays = delays
        self.random_shift = random_shift
        self.reset_after = max(delays) if reset_after is None else reset_after
        self.chances = chances
        self.ended = None

    def delay(self, now):
        if self.ended is not None and now - self.ended > self.reset_after:
            self.left = self.delays
        delay, *rest = self.left
        self.left = rest or [delay]
        return delay + (self.random_shift and self.random_shift * next(self.chances))


@virtual
@hypothesis.given(
    delays=st.lists(seconds, min_size=1, max_size=5),
    random_shift=st.just(0) | seconds,
    reset_after=st.none() | seconds,
    script=st.lists(steps, max_size=20),
    seed=st.integers(),
)
@hypothesis.settings(max_examples=60)
async def test_any_course_of_events_is_that_of_a_simple_model(delays, random_shift, reset_after, script, seed):
    """Any delays, shifts, run times, cancellations and resets."""
    loop = asyncio.get_running_loop()
    chance = random.Random(seed)
    chances = [chance.random() for _ in range(40)]
    delayer = RetryDelayer(delays, random_shift, reset_after)
    model = Model(delays, random_shift, reset_after, iter(chances))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(random, "random", iter(chances).__next__)
        for step, argument in script:
            began = loop.time()
            if step == "run":
                await run_for(argument)
            elif step == "reset":
                delayer.reset()
                model.left = model.delays
            elif step == "next_delay":
                delay = model.delay(began)
                assert delayer.next_delay() == delay
                model.ended = began + delay
            elif step == "sleep":
                delay = model.delay(began)
                await delayer.sleep()
                assert loop.time() - began == pytest.approx(delay, abs=1e-5)
                model.ended = loop.time()
            else:
                delay = model.delay(began)
                task = await start(delayer.sleep())
                await asyncio.sleep(delay * argument)
                task.cancel()
                await asyncio.wait([task])
                assert loop.time() - began <= delay + 1e-5
                model.ended = loop.time()
