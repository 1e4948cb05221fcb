"""Random histories of a `task_scope` against simple models of what it promises."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import hypothesis.strategies as st
from hypothesis import event, given
from loops import each_virtual_loop
from tools import Boom, turns

from async_plus import task_scope

FIRST_COMPLETED, FIRST_EXCEPTION, ALL_COMPLETED = (
    asyncio.FIRST_COMPLETED,
    asyncio.FIRST_EXCEPTION,
    asyncio.ALL_COMPLETED,
)


# What wait() waits for. Actors, members of the scope and strangers, wait or end as they are told.

picks = st.integers(0, 5)
kinds = st.sampled_from([FIRST_COMPLETED, FIRST_EXCEPTION, ALL_COMPLETED])
ways = st.sampled_from(["return", "fail", "stop itself", "cancel"])

histories = st.lists(
    st.one_of(
        st.tuples(st.just("launch")),
        st.tuples(st.just("stranger")),
        st.tuples(st.just("wait"), picks, kinds, st.integers(1, 3)),
        # Several may end in the same moment.
        st.tuples(st.just("end"), st.lists(st.tuples(picks, ways), min_size=1, max_size=3)),
        # Halves of a second. Time never stands where a wait times out, which is at quarters.
        st.tuples(st.just("pass"), st.integers(1, 6)),
        st.tuples(st.just("cancel")),
    ),
    max_size=30,
)


@dataclass
class Waiting:
    """A wait in progress, as the model sees it."""

    kind: str
    deadline: float
    came: bool = False


@dataclass
class Model:
    """Who is there, who waits, and what has happened since the previous wait returned."""

    now: float = 0.0
    finished: bool = False
    failed: bool = False
    actors: dict[int, Waiting | None] = field(default_factory=dict)
    members: set[int] = field(default_factory=set)
    outcomes: dict[int, list[str]] = field(default_factory=dict)
    failures: list[int] = field(default_factory=list)

    def enter(self, actor, member):
        self.actors[actor] = None
        self.outcomes[actor] = []
        if member:
            self.members.add(actor)

    def wait(self, actor, kind, timeout):
        self.actors[actor] = Waiting(kind, self.now + timeout)
        self.wake()

    def end(self, ways):
        for actor, way in ways.items():
            if self.actors.pop(actor) is not None:
                self.outcomes[actor].append("cancelled")
            if actor in self.members:
                self.members.remove(actor)
                self.finished = True
                if way == "fail":
                    self.failed = True
                    self.failures.append(actor)
        self.wake()

    def pass_time(self, seconds):
        self.now += seconds
        for actor, waiting in self.actors.items():
            if waiting is not None and waiting.deadline < self.now:
                self.actors[actor] = None
                self.outcomes[actor].append("late")

    def wake(self):
        waits = {actor: waiting for actor, waiting in self.actors.items() if waiting is not None}
        for waiting in waits.values():
            waiting.came = (
                not self.members
                or (waiting.kind == FIRST_COMPLETED and self.finished)
                or (waiting.kind == FIRST_EXCEPTION and self.failed)
            )
        if all(actor in waits and not waits[actor].came for actor in self.members):
            for actor in self.members:
                waits[actor].came = True
        for actor, waiting in waits.items():
            if waiting.came:
                self.actors[actor] = None
                self.outcomes[actor].append("returned")
                self.finished = self.failed = False


@each_virtual_loop
@given(history=histories)
def test_waits_return_when_the_model_says_so(loop_factory, history):
    """Any number of waits of all kinds, by children and others, with launches, ends, failures, cancellations, time."""
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(play(history))


async def play(history):
    model, failures = Model(), []
    tasks, inboxes, outcomes = {}, {}, {}

    async def act(actor):
        while True:
            command = await inboxes[actor].get()
            if command == "return":
                return
            if command == "fail":
                raise Boom
            if command == "stop itself":
                raise asyncio.CancelledError
            kind, timeout = command
            try:
                await scope.wait(timeout, kind)
            except TimeoutError:
                outcomes[actor].append("late")
            except asyncio.CancelledError:
                outcomes[actor].append("cancelled")
                raise
            else:
                outcomes[actor].append("returned")

    def enter(member):
        actor = len(inboxes)
        inboxes[actor], outcomes[actor] = asyncio.Queue(), []
        tasks[actor] = scope.launch(act(actor)) if member else asyncio.create_task(act(actor))
        model.enter(actor, member)

    def end(picked):
        ways, present = {}, sorted(model.actors)
        for pick, way in picked if present else ():
            actor = present[pick % len(present)]
            if actor not in ways:
                # Who waits hears of nothing but a cancellation.
                ways[actor] = way = way if model.actors[actor] is None else "cancel"
                tasks[actor].cancel() if way == "cancel" else inboxes[actor].put_nowait(way)
        model.end(ways)

    async with task_scope(lambda task, exc: failures.append(task)) as scope:
        for what, *how in history:
            if what in ("launch", "stranger"):
                enter(what == "launch")
            elif what == "wait":
                pick, kind, timeout = how
                idle = sorted(actor for actor, waiting in model.actors.items() if waiting is None)
                if idle:
                    actor = idle[pick % len(idle)]
                    inboxes[actor].put_nowait((kind, timeout + 0.25))
                    await turns()
                    model.wait(actor, kind, timeout + 0.25)
            elif what == "end":
                end(*how)
            elif what == "pass":
                await asyncio.sleep(how[0] / 2)
                model.pass_time(how[0] / 2)
            else:
                scope.cancel()
                model.end(dict.fromkeys(model.members, "cancel"))
            await turns()
            assert outcomes == model.outcomes
            assert len(scope._children._waiters) == sum(waiting is not None for waiting in model.actors.values())
            assert scope.tasks == {tasks[actor] for actor in model.members}
            assert len(scope) == len(model.members)
        event(f"waits: {sum(map(len, model.outcomes.values())) > 0}")

    model.end(dict.fromkeys(model.members, "cancel"))
    await turns()
    assert outcomes == model.outcomes
    for actor in model.actors:
        tasks[actor].cancel()
    await turns()
    # So that asyncio does not say for the strangers that nobody looked at their failures.
    await asyncio.gather(*tasks.values(), return_exceptions=True)
    assert failures == [tasks[actor] for actor in model.failures]


# How a block ends. All times differ in their fractions, so that no two things happen at once.

children = st.lists(
    st.tuples(
        st.integers(0, 9).map(lambda seconds: seconds + 0.1),  # of work
        st.integers(0, 5).map(lambda seconds: seconds + 0.03),  # of cleanup when cancelled
        st.sampled_from(["stops", "fails", "swallows it"]),
    ),
    max_size=4,
)


@each_virtual_loop
@given(
    children=children,
    body=st.tuples(st.integers(0, 9), st.booleans()),
    drain=st.one_of(st.just(0), st.integers(0, 5).map(lambda seconds: seconds + 0.007)),
    outer=st.lists(st.integers(0, 15).map(lambda seconds: seconds + 0.5), max_size=3, unique=True),
)
def test_blocks_end_when_the_model_says_so(loop_factory, children, body, drain, outer):
    """Work, cleanup, drain, a body that returns or fails, and cancellations of the host at any time."""
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(end_block(children, body, drain, sorted(outer)))


async def end_block(children, body, drain, outer):
    loop, ended, reported, tasks = asyncio.get_running_loop(), {}, [], []
    start = loop.time()

    def now():
        return round(loop.time() - start, 3)

    async def child(number, work, cleanup, way):
        try:
            await asyncio.sleep(work)
            ended[number] = "by itself", now()
        except asyncio.CancelledError:
            await asyncio.sleep(cleanup)
            ended[number] = way, now()
            if way == "fails":
                raise Boom from None
            if way == "stops":
                raise

    async def host():
        async with task_scope(lambda task, exc: reported.append(tasks.index(task)), drain=drain) as scope:
            tasks.extend(scope.launch(child(number, *plan)) for number, plan in enumerate(children))
            await asyncio.sleep(body[0])
            if body[1]:
                raise KeyError("body")

    task = asyncio.create_task(host())
    for when in outer:
        loop.call_later(when, task.cancel)
    await asyncio.wait([task])
    finished = now()

    # The block ends at the first of these, and then its tasks are cancelled at once or after the drain.
    cancelled_at = [when for when in outer if when < body[0]][:1]
    stop = cancelled_at[0] if cancelled_at else float(body[0])
    if not cancelled_at and not body[1] and drain:
        stop = min([stop + drain, *(when for when in outer if when > body[0])])
        stop = min(stop, max([body[0], *(work for work, _, _ in children)]))
    expected = {
        number: ("by itself", work) if work < stop or (work == stop and drain) else (way, round(stop + cleanup, 3))
        for number, (work, cleanup, way) in enumerate(children)
    }
    end = round(max([stop, *(when for _, when in expected.values() if when > stop)]), 3)
    assert ended == {number: (way, round(when, 3)) for number, (way, when) in expected.items()}
    assert finished == end
    assert sorted(reported) == sorted(number for number, (way, _) in expected.items() if way == "fails")
    assert [child.cancelling() for child in tasks] == [expected[number][0] != "by itself" for number in expected]
    # The block may have ended because of it, and so in the same moment.
    assert task.cancelling() == sum(when <= end for when in outer)
    if any(when <= end for when in outer):
        assert task.cancelled()
        event("cancelled")
    elif body[1]:
        assert repr(task.exception()) == "KeyError('body')"
    else:
        assert task.exception() is None
