"""Runs a program, and looks at each step whether the promises are kept.

What is raised here leads, by its traceback, to the frames of this file. So none of them keeps a task beyond its own
end: the cycles that are found afterwards shall be those of the library.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sized
from dataclasses import dataclass, field
from typing import Any, ClassVar

from async_plus import (
    AttemptFailed,
    AttemptHung,
    GaveUp,
    HandlerFailed,
    LateFailure,
    SubscriberFailed,
    Supervisor,
    TaskCancelled,
    TaskFailed,
    cancel_and_wait,
    heartbeat,
    impatient,
    launch_watched,
    ready,
    subscribe,
    supervised,
    task_scope,
    try_gather,
)
from async_plus.engine.owned import Owner

from . import programs
from .by_hand import at_a_yield, drive, wake_up
from .ledger import Ledger
from .programs import Child, Pause, Program, Service

# When a program that still runs is cancelled, and until when it must have ended then, per child: a cleanup takes six
# seconds and a half at most, and in the worst case one comes after the other.
HORIZON = 60
PER_CHILD = 7
# Between the cancellation and the naming of those that ignore it.
WARN_AFTER = 2

FOREVER = Child(end="hang")

GatherFunction = Callable[..., Awaitable[Any]]


@dataclass(frozen=True)
class Ready:
    """What a service does first, if it declares its readiness."""

    seconds: float


@dataclass(frozen=True)
class Broken:
    """A promise that was not kept."""

    promise: str
    what: str

    def __str__(self) -> str:
        return f"{self.promise}: {self.what}"


@dataclass(eq=False)
class Me:
    """Whoever runs a part of a program: one task."""

    number: int
    task: asyncio.Task[Any] | None
    # Cancellations that arrived, and those that `uncancel` took back.
    delivered: int = 0
    taken_back: int = 0
    # Cancellations that ended in something else: a cleanup that failed, say, or a swallowed one.
    taken: int = 0
    # On its way out by a CancelledError of its own.
    stops_itself: bool = False
    # Being closed by hand, so that it cannot wait for its children.
    is_closed: bool = False
    # The scope that it is in.
    place: Place | None = None


@dataclass(eq=False)
class Brood:
    """Those that must have ended when a block or a call has."""

    live: set[int] = field(default_factory=set)
    # How many there have been, and when the first of them failed.
    total: int = 0
    failed_at: float | None = None
    # Whether one of them ended in a CancelledError of its own; how many were cancelled from outside.
    stops_itself: bool = False
    told: int = 0


@dataclass(eq=False)
class Place:
    """A scope or supervisor, and whose it is."""

    block: Any
    host: int
    brood: Brood
    # Whether others than its host wait for its children.
    is_asked: bool = False


class _ChildrenOf(Sized):
    """Those that a supervisor knows of."""

    def __init__(self, block: Supervisor) -> None:
        self._block = block

    def __len__(self) -> int:
        return len(self._block.children)

    def __repr__(self) -> str:
        return repr(self._block)


class CountedTask(asyncio.Task):
    """A task that notes who cancels it."""

    world: ClassVar[World | None] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Before: an eager one takes its first step in there.
        self.cancelled_by: set[int] = set()
        # Cancellations that came while it waited, and so must arrive there.
        self.due = 0
        super().__init__(*args, **kwargs)

    def cancel(self, *args: Any, **kwargs: Any) -> bool:
        caller = sys._getframe(1)
        if not self.done() and caller.f_globals["__name__"].startswith("async_plus."):
            # Not of every caller: to ask for its locals keeps them alive for as long as its frame (3.11, 3.12).
            is_method = caller.f_code.co_varnames[:1] == ("self",)
            owner = caller.f_locals["self"] if is_method else None
            if isinstance(owner, Owner):
                self.world.check(
                    id(owner) not in self.cancelled_by, "cancelled once", f"{self.get_name()} again by its owner"
                )
                self.cancelled_by.add(id(owner))
        # (Of an eager task the first step may have it cancelled who runs it. That one waits for nothing.)
        # A TaskGroup cancels its host to wake it.
        is_known = caller.f_globals["__name__"] == "asyncio.taskgroups"
        self.due += not self.done() and self._fut_waiter is not None and not is_known
        return super().cancel(*args, **kwargs)

    def uncancel(self) -> int:
        name = sys._getframe(1).f_globals["__name__"]
        self.world.check(not name.startswith("async_plus."), "same cancelling()", f"uncancel() by {name}")
        return super().uncancel()


class World:
    """One run of a program.

    Args:
        loop: A new loop, on the virtual clock.
        gather: What runs the children of a `Gather`.
        trace: Whether to keep what happens, as lines.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, gather: GatherFunction | None = None, *, trace: bool = False
    ) -> None:
        self.broken: list[Broken] = []
        self.trace: list[str] | None = [] if trace else None
        self.ledger = Ledger()
        # Whether it has not come to an end, so that everything else that is wrong follows from that.
        self.is_stuck = False
        self._loop = loop
        self._gather_with = gather
        self._start = loop.time()
        self._numbers = itertools.count()
        self._live: dict[int, asyncio.Task[Any]] = {}
        self._watched: set[int] = set()
        # Tasks whose end more than one will see.
        self._shared: set[int] = set()
        # Who waits for whom in a way that no cancellation ends.
        self._needs: defaultdict[int, set[int]] = defaultdict(set)
        self._scopes: list[Place] = []
        self._trees: list[Place] = []
        self._children: list[tuple[Any, Place]] = []
        self._tree_of: dict[str, Place] = {}
        self._gave_up: list[tuple[str, list[int]]] = []
        # What supervisors could not raise any more; attempts that were found hanging, and when.
        self._late: defaultdict[str, list[str]] = defaultdict(list)
        self._hung: dict[str, float] = {}
        # Waits in progress: what they are, and whether that which they wait for has come.
        self._waiting: dict[object, tuple[str, Callable[[], bool]]] = {}
        # What the children of calls and blocks belong to that were closed before them.
        self._orphans: list[tuple[str, Brood, Sized]] = []
        self._cancelled_themselves: list[str] = []
        self._told_of: list[str] = []
        self._begun = self._over = 0
        # How often the host was cancelled, if that is known exactly.
        self._host_cancels: int | None = 0

    def check(self, kept: bool, promise: str, what: str) -> None:
        """Note a promise that is not kept."""
        if not kept:
            self.note(f"BROKEN {promise}: {what}")
            self.broken.append(Broken(promise, what))

    def note(self, what: str) -> None:
        """Write a line of the trace."""
        if self.trace is not None:
            self.trace.append(f"{self._loop.time() - self._start:8.2f}  {what}")

    # From outside.

    async def run(self, program: Program) -> None:
        """Run *program* to its end, and see what is left."""
        unsubscribe = subscribe(self._on_event)
        host = asyncio.create_task(self._run(next(self._numbers), program.main, Brood()), name="host")
        timers = [self._loop.call_at(self._start + when, self._stop, host) for when in program.stops]
        deadline = self._start + HORIZON + PER_CHILD * (programs.size(program) + 1)
        try:
            try:
                await self._until(host, self._start + HORIZON)
                if not host.done():
                    self._look_at_waits()
                    self._stop(host)
                    await self._until(host, deadline)
                for timer in timers:
                    timer.cancel()
                await self._see_orphans_end(deadline)
                await self._end_watched(deadline)
                await self._see_orphans_end(deadline)
                if self._gather_with is not None:
                    await self._end_all(host)
                await asyncio.sleep(0.125)
            finally:
                unsubscribe()
            self._look_at(host)
        finally:
            del host, timers

    async def _until(self, task: asyncio.Task[Any], when: float) -> None:
        if not task.done():
            await asyncio.wait([task], timeout=when - self._loop.time())

    async def _see_orphans_end(self, deadline: float) -> None:
        """Wait for those whose owner was closed: nobody else does, and nobody has to tell them once more."""
        while self._orphans:
            what, brood, block = self._orphans.pop()
            while brood.live and self._loop.time() < deadline:
                await asyncio.sleep(0.5)
            # Until their owner has heard of it, too.
            await asyncio.sleep(0.125)
            self.check(not brood.live, "ends in time", f"{len(brood.live)} of a closed {what}")
            self.check(not len(block), "no task left", f"{block!r} after all")

    async def _end_watched(self, deadline: float) -> None:
        while True:
            # One that was launched in the last moment is only known when it has begun.
            await asyncio.sleep(0.125)
            watched = [task for number, task in self._live.items() if number in self._watched]
            if not watched:
                break
            ending = asyncio.create_task(cancel_and_wait(*watched), name="end of the watched")
            await self._until(ending, deadline)
            if not ending.done():
                break

    async def _end_all(self, host: asyncio.Task[Any]) -> None:
        """End what others than `try_gather` have left behind, which was noted at their end."""
        left = asyncio.all_tasks() - {asyncio.current_task(), host}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=PER_CHILD * len(left))

    def _stop(self, host: asyncio.Task[Any]) -> None:
        if not host.done():
            self.note("the host is cancelled")
            self._count_host_cancel()
            host.cancel()

    def _look_at_waits(self) -> None:
        """Look for waits that go on for ever although there is nothing to wait for."""
        for what, is_over in self._waiting.values():
            self.check(not is_over(), "waits end", what)
        for service, when in self._hung.items():
            self.check(self._loop.time() - when < 3 * PER_CHILD, "waits end", f"{service} still hangs")

    @contextlib.contextmanager
    def _waits(self, what: str, is_over: Callable[[], bool]) -> Iterator[None]:
        key = object()
        self._waiting[key] = what, is_over
        try:
            yield
        finally:
            del self._waiting[key]

    def _count_host_cancel(self) -> None:
        if self._host_cancels is not None:
            self._host_cancels += 1

    def _look_at(self, host: asyncio.Task[Any]) -> None:
        if not host.done():
            self.check(False, "ends in time", "the host still runs")
        else:
            try:
                self.ledger.surfaced(host.exception())
            except asyncio.CancelledError:
                pass  # asked for, it is let go: otherwise its frames would lead back to the task
            self.check(
                self._host_cancels in (None, host.cancelling()),
                "same cancelling()",
                f"{host.cancelling()} instead of {self._host_cancels} for the host",
            )
        from async_plus import stacks

        left = asyncio.all_tasks() - {asyncio.current_task(), host}
        self.is_stuck = bool(left) or not host.done()
        where = sorted(f"{task.get_name()} {stacks.parked(task)}" for task in left)
        self.check(not left, "no task left", ", ".join(where))

    def settle(self) -> None:
        """Look at the sums, when all is over."""
        for service, serials in self._gave_up:
            if service in self._tree_of and self._tree_of[service].is_asked:
                self.ledger.share(serials)
        self.check(self._begun == self._over, "cleanups end", f"{self._begun} began, {self._over} ended")
        lost, doubled = self.ledger.lost(), self.ledger.doubled()
        self.check(not lost, "no error lost", ", ".join(lost))
        self.check(not doubled, "each error once", ", ".join(doubled))
        self.check(
            sorted(self._cancelled_themselves) == sorted(self._told_of),
            "no error lost",
            f"cancelled by themselves: {self._cancelled_themselves}, reported: {self._told_of}",
        )

    def _on_event(self, event: Any) -> None:
        self.note(f"{type(event).__name__}: {event}")
        match event:
            case TaskFailed() | HandlerFailed() | AttemptFailed():
                self.ledger.surfaced(event.exception)
            case LateFailure(owner=owner, task=name):
                self.ledger.surfaced(event.exception)
                self._late[owner].append(name)
            case AttemptHung(service=service):
                self._hung[service] = self._loop.time()
            case GaveUp(service=service, exception=exc):
                # It is raised as well, and surfaces there.
                self._gave_up.append((service, self.ledger.serials(exc)))
            case TaskCancelled(task=name):
                self._told_of.append(name)
            case SubscriberFailed():
                self.check(False, "the suite works", f"{event}: {event.exception!r}")

    # Whoever runs.

    async def _run(
        self,
        number: int,
        child: Child,
        brood: Brood,
        *,
        watched: bool = False,
        place: Place | None = None,
        first: tuple[Any, ...] = (),
    ) -> int:
        """Be a task of its own."""
        me = Me(number, asyncio.current_task(), place=place)
        self._live[number] = me.task
        brood.live.add(number)
        brood.total += 1
        self.note(f"{me.task.get_name()} is {number}")
        try:
            await self._be(child, me, first)
        except asyncio.CancelledError:
            if watched and not me.task.cancelling():
                self._cancelled_themselves.append(f"c{number}")
            if not me.task.cancelling():
                self._note_failure(brood)
            brood.stops_itself = brood.stops_itself or me.stops_itself
            self.note(f"{number} ends cancelled")
            raise
        except Exception as exc:
            if number in self._shared:
                self.ledger.share(self.ledger.serials(exc))
            self._note_failure(brood)
            self.note(f"{number} ends with {exc!r}")
            raise
        finally:
            requests = me.task.cancelling() + me.taken_back
            self.check(
                me.delivered <= requests, "cancelled once", f"{number}: {me.delivered} times for {requests} requests"
            )
            del self._live[number]
            brood.live.discard(number)
            brood.told += me.task.cancelling() > 0
            me.task = None
        self.note(f"{number} returns")
        return number

    def _note_failure(self, brood: Brood) -> None:
        if brood.failed_at is None:
            brood.failed_at = self._loop.time()

    async def _be(self, child: Child, me: Me, first: tuple[Any, ...] = (), *, inline: bool = False) -> None:
        self._begun += 1
        try:
            try:
                await self._acts(first, me)
                await self._acts(child.acts, me)
                await self._end(child.end, me)
            except asyncio.CancelledError:
                if me.stops_itself:
                    raise
                self.note(f"{me.number} is told to stop: {child.told}")
                me.taken += 1
                if not inline or child.told in ("fails", "fails late", "returns", "ignores"):
                    # Otherwise it arrives once more, further out.
                    me.delivered += 1
                if not await self._is_over(child, me):
                    raise
            finally:
                await self._outlast(child.lingers, me)
        finally:
            self._over += 1

    async def _is_over(self, child: Child, me: Me) -> bool:
        """Clean up, and tell whether the cancellation is swallowed."""
        seconds = {"slowly": 1, "fails late": 1, "ignores": 6}.get(child.told, 0)
        await self._outlast(seconds, me)
        if child.told == "launches" and me.place is not None:
            self._launch(me.place, FOREVER)
        if child.told == "serves":
            await self._serve_in_cleanup(me)
        if child.told in ("fails", "fails late") or (child.told == "ignores" and child.end == "fail"):
            raise self.ledger.boom(f"the cleanup of {me.number}")
        return child.told in ("returns", "ignores")

    async def _serve_in_cleanup(self, me: Me) -> None:
        """Supervise something where a cancellation is pending."""
        brood = Brood()
        steps = Child((Pause(0.5),), end="fail"), Child((Pause(1),))
        service, _ = self._service(Service(steps, programs.Options(max_restarts=1)), [me.number], brood, then=Child())
        try:
            await self._serve(service, brood, me)
        except asyncio.CancelledError:
            me.delivered += 1
        except Exception as exc:
            self.ledger.surfaced(exc)
        finally:
            self._check_none_lives("supervised function", brood, me)

    async def _outlast(self, seconds: float, me: Me) -> None:
        until = self._loop.time() + seconds
        while self._loop.time() < until:
            try:
                await asyncio.sleep(until - self._loop.time())
            except asyncio.CancelledError:
                me.delivered += 1
                me.taken += 1

    async def _end(self, end: str, me: Me) -> None:
        if end == "fail":
            raise self.ledger.boom(str(me.number))
        if end == "cancelled":
            me.stops_itself = True
            raise asyncio.CancelledError
        if end == "hang" and not me.task.cancelling():
            await self._loop.create_future()

    async def _acts(self, acts: tuple[Any, ...], me: Me) -> None:
        for act in acts:
            if me.task.cancelling():
                # Somebody swallowed the cancellation. Who went on now, might do so for ever.
                return
            self.note(f"{me.number} does {type(act).__name__}")
            due, taken = getattr(me.task, "due", 0), me.taken
            try:
                try:
                    await self._ways[type(act)](self, act, me)
                finally:
                    is_cancelled = isinstance(sys.exception(), asyncio.CancelledError)
                    if getattr(me.task, "due", 0) > due and not is_cancelled and not me.is_closed:
                        self._look_at_cancellation(act, me, taken)
            except Exception as exc:
                if not getattr(act, "caught", False):
                    raise
                self.note(f"{me.number} catches {exc!r}")
                self.ledger.surfaced(exc)

    def _look_at_cancellation(self, act: Any, me: Me, taken: int) -> None:
        """See whether *act*, in which *me* was cancelled, may end in anything but a CancelledError."""
        inner = act.what if isinstance(act, programs.Close) else act
        if isinstance(inner, (programs.Supervised, programs.Limit, programs.Group)):
            me.taken += 1
        is_taken = me.taken > taken or me.task._must_cancel
        self.check(is_taken, "cancellations arrive", f"{me.number} was cancelled in a {type(act).__name__}")

    def _pick(self, pick: int, among: list[Any]) -> Iterator[Any]:
        if among:
            yield among[pick % len(among)]

    def _others(self, me: Me, pick: int) -> Iterator[int]:
        """Pick somebody who does not wait for *me*, in a way that no cancellation ends."""
        for number in self._pick(pick, sorted(self._live)):
            if not self._leads(number, me.number):
                self._needs[me.number].add(number)
                yield number

    def _leads(self, start: int, goal: int) -> bool:
        todo, seen = [start], set[int]()
        while todo:
            number = todo.pop()
            if number == goal:
                return True
            if number not in seen:
                seen.add(number)
                todo += self._needs[number]
        return False

    # Blocks and calls that have children.

    async def _scope(self, act: programs.Scope, me: Me) -> None:
        place = Place(None, me.number, Brood())
        carried: list[int] = []
        ended_at = self._loop.time()
        try:
            async with task_scope(
                self._handler(act.handler, me), drain=act.drain, warn_after=WARN_AFTER, name=f"of {me.number}"
            ) as place.block:
                self._scopes.append(place)
                try:
                    for child in act.children:
                        self._launch(place, child)
                    await self._acts(act.body, me)
                    await self._end_scope(act.end, place, me)
                except Exception as exc:
                    carried += self.ledger.serials(exc)
                    raise
                finally:
                    ended_at = self._loop.time()
        except (asyncio.CancelledError, GeneratorExit) as exc:
            self.ledger.superseded(carried, exc)
            raise
        finally:
            self._check_in_time("scope", ended_at + act.drain, act, place.brood)
            self._check_none_lives("scope", place.brood, me, place.block)

    async def _end_scope(self, end: str, place: Place, me: Me) -> None:
        if me.task.cancelling():
            return
        match end:
            case "wait":
                await self._wait_for_scope(place)
            case "wait for one":
                await self._wait_for_scope(place, return_when=asyncio.FIRST_COMPLETED)
            case "wait for all":
                await self._wait_for_scope(place, return_when=asyncio.ALL_COMPLETED)
            case "wait shortly":
                await self._wait_for_scope(place, timeout=0.5)
            case "cancel":
                place.block.cancel()
            case "fail":
                raise self.ledger.boom(f"a block of {me.number}")
            case "yield":
                await at_a_yield()

    async def _wait_for_scope(self, place: Place, **options: Any) -> None:
        with self._waits(f"that for {place.block!r}", lambda: not len(place.block)):
            try:
                await place.block.wait(**options)
            except TimeoutError:
                pass

    def _launch(self, place: Place, child: Child) -> None:
        number = next(self._numbers)
        self._needs[place.host].add(number)
        coro = self._run(number, child, place.brood, watched=True, place=place)
        try:
            place.block.launch(coro, f"c{number}")
        except RuntimeError as exc:
            if not str(exc).startswith("cannot launch into a closed task_scope"):
                raise

    def _check_in_time(self, what: str, since: float, act: Any, brood: Brood) -> None:
        """See that the end of a block or call, due *since* then, took no longer than the cleanup of its children."""
        took = self._loop.time() - since
        # (To count them takes its time as well.)
        if took > PER_CHILD:
            most = PER_CHILD * (programs.size(act) + brood.total + 1)
            self.check(took <= most, "ends in time", f"a {what} took {took:g} s for its end")

    def _check_none_lives(self, what: str, brood: Brood, me: Me, block: Sized = ()) -> None:
        if me.is_closed:
            # They may outlive it. But all have been told.
            for number in brood.live:
                is_told = self._live[number].cancelling() > 0
                self.check(is_told, "cancelled when closed", f"{number} of a {what} of {me.number}")
            self._orphans.append((what, brood, block))
        else:
            self.check(not brood.live, "no task left", f"{len(brood.live)} after the end of a {what}")
            self.check(not len(block), "no task left", f"{block!r} after its end")

    def _handler(self, kind: str, me: Me) -> Callable[[Any, BaseException], None] | None:
        number = me.number

        def take(task: object, exc: BaseException) -> None:
            self.ledger.surfaced(exc)

        def fail(task: object, exc: BaseException) -> None:
            raise self.ledger.boom(f"a handler of {number}")

        return {"takes": take, "raises": fail}.get(kind)

    async def _gather(self, act: programs.Gather, me: Me) -> None:
        brood = Brood()
        expected = [next(self._numbers) for _ in act.children]
        self._needs[me.number].update(expected)
        aws: list[Any] = [self._run(number, child, brood) for number, child in zip(expected, act.children, strict=True)]
        try:
            aws[: act.tasks] = map(asyncio.create_task, aws[: act.tasks])
            if act.doubled:
                aws.append(aws[0])
                expected.append(expected[0])
            for number in () if act.adopt is None else self._others(me, act.adopt):
                self._shared.add(number)
                if number == 0:
                    self._host_cancels = None
                aws.append(self._live[number])
                expected.append(number)
            results = await (self._gather_with or try_gather)(*aws, **({"limit": act.limit} if act.limit else {}))
            self.check(list(results) == expected, "right results", f"{results} instead of {expected}")
        finally:
            aws.clear()
            if brood.failed_at is not None and act.adopt is None:
                self._check_in_time("gather", brood.failed_at, act, brood)
            self._check_none_lives("gather", brood, me)

    async def _supervised(self, act: programs.Supervised, me: Me) -> None:
        brood = Brood()
        service, _ = self._service(act.service, [me.number], brood)
        try:
            await self._serve(service, brood, me)
        except asyncio.CancelledError:
            # If an eager attempt raises one of its own in its first step, while its host, which runs it, is cancelled,
            # that is taken for the stop. The host's own is yet to come.
            me.taken_back += brood.stops_itself
            raise
        finally:
            self._check_none_lives("supervised function", brood, me)

    async def _serve(self, service: Callable[[], Coroutine[Any, Any, Any]], brood: Brood, me: Me) -> None:
        due, told = getattr(me.task, "due", 0), brood.told
        try:
            await service()
        finally:
            is_missed = getattr(me.task, "due", 0) > due and not isinstance(sys.exception(), asyncio.CancelledError)
            is_heard = not is_missed or brood.told > told or me.is_closed
            self.check(is_heard, "cancellations arrive", f"no attempt heard of that of {me.number}")

    def _service(
        self, service: Service, hosts: list[int], brood: Brood, *, then: Child = FOREVER
    ) -> tuple[Callable[[], Coroutine[Any, Any, Any]], str]:
        name = f"s{next(self._numbers)}"
        steps = iter(service.steps)
        options = vars(service.options) | {"on": self._is_harmless if service.options.on == "some" else Exception}
        first = () if service.ready_after is None else (Ready(service.ready_after),)

        async def attempt() -> int:
            number = next(self._numbers)
            for host in hosts:
                self._needs[host].add(number)
            try:
                return await self._run(number, next(steps, then), brood, first=first)
            finally:
                self._hung.pop(name, None)

        return supervised(**options, ready=service.ready_after is not None, name=name)(attempt), name

    def _is_harmless(self, exc: BaseException) -> bool:
        return self.ledger.serials(exc)[0] % 3 != 0

    async def _tree(self, act: programs.Tree, me: Me) -> None:
        place = Place(None, me.number, Brood())
        carried: list[int] = []
        ended_at = self._loop.time()
        name = f"t{next(self._numbers)}"
        try:
            async with Supervisor(name, strategy=act.strategy, warn_after=WARN_AFTER) as place.block:
                self._trees.append(place)
                try:
                    for service in act.services:
                        await self._start_in(place, service, me)
                    await self._acts(act.body, me)
                    if act.end == "wait" and not me.task.cancelling():
                        with self._waits(f"that for {name}", lambda: not place.block.children):
                            await place.block.wait()
                    if act.end == "fail":
                        raise self.ledger.boom(f"a block of {me.number}")
                    if act.end == "yield" and not me.task.cancelling():
                        await at_a_yield()
                except Exception as exc:
                    carried += self.ledger.serials(exc)
                    raise
                finally:
                    ended_at = self._loop.time()
            self.check(not self._late[f"supervisor {name!r}"], "errors are raised", f"that of a child of {name}")
        except (asyncio.CancelledError, GeneratorExit) as exc:
            self.ledger.superseded(carried, exc)
            raise
        finally:
            self._check_in_time("supervisor", ended_at, act, place.brood)
            self._check_none_lives("supervisor", place.brood, me, _ChildrenOf(place.block))

    async def _start_in(self, place: Place, service: Service, me: Me) -> None:
        function, name = self._service(service, [place.host, me.number], place.brood)
        self._tree_of[name] = place
        self._children.append((await place.block.start(function), place))

    # Single steps.

    async def _pause(self, act: Pause, me: Me) -> None:
        heartbeat()
        await asyncio.sleep(act.seconds)

    async def _ready(self, act: Ready, me: Me) -> None:
        await asyncio.sleep(act.seconds)
        ready()

    async def _impatient(self, act: programs.Impatient, me: Me) -> None:
        if act.form == "call":
            await impatient(self._be(act.child, me, inline=True), log_after=act.log_after)
        elif act.form == "decorator":
            await impatient(log_after=act.log_after)(self._be)(act.child, me, inline=True)
        else:
            async with impatient(log_after=act.log_after):
                await self._be(act.child, me, inline=True)

    async def _watch(self, act: programs.Watch, me: Me) -> None:
        number = next(self._numbers)
        self._watched.add(number)
        coro = self._run(number, act.child, Brood(), watched=True)
        launch_watched(coro, f"c{number}", self._handler(act.handler, me))

    async def _launch_somewhere(self, act: programs.Launch, me: Me) -> None:
        for place in self._pick(act.pick, self._scopes):
            self._launch(place, act.child)

    async def _start_somewhere(self, act: programs.Start, me: Me) -> None:
        for place in self._pick(act.pick, self._trees):
            if not self._leads(me.number, place.host):
                place.is_asked = True
                await self._asking(self._start_in(place, act.service, me))

    async def _order(self, act: programs.Order, me: Me) -> None:
        for child, place in self._pick(act.pick, self._children):
            place.is_asked = True
            # (What is restarted may wait for its siblings.)
            is_over = bool if act.what == "restart" else functools.partial(getattr, child, "has_ended")
            with self._waits(f"{act.what} of {child!r}", is_over):
                await self._asking(getattr(child, act.what)())

    async def _asking(self, asked: Coroutine[Any, Any, None]) -> None:
        try:
            await asked
        except RuntimeError as exc:
            if type(exc) is not RuntimeError or not str(exc).startswith("cannot "):
                self.ledger.surfaced(exc)
        except Exception as exc:
            self.ledger.surfaced(exc)

    async def _cancel(self, act: programs.Cancel, me: Me) -> None:
        for number in self._pick(act.pick, sorted(self._live)):
            self.note(f"{me.number} cancels {number}")
            if number == 0:
                self._count_host_cancel()
            self._live[number].cancel()

    async def _cancel_and_wait(self, act: programs.CancelAndWait, me: Me) -> None:
        numbers = {number for pick in act.picks for number in self._others(me, pick)}
        # Whoever awaits an attempt, or looks at the host, sees its error too.
        self._shared |= numbers
        plain, brood = [], Brood()
        try:
            if act.plain is not None:
                number = next(self._numbers)
                self._needs[me.number].add(number)
                plain.append(asyncio.create_task(self._run(number, act.plain, brood)))
                await asyncio.sleep(0)
        finally:
            # (By now some of them may have ended.)
            others = [self._live[number] for number in sorted(numbers) if number in self._live]
            if 0 in numbers and 0 in self._live:
                self._count_host_cancel()
            try:
                await cancel_and_wait(*plain, *others)
            finally:
                plain.clear()
                del others
                self._check_none_lives("cancel_and_wait", brood, me)

    async def _wait_for(self, act: programs.WaitFor, me: Me) -> None:
        for number in self._pick(act.pick, sorted(self._live)):
            woken = self._loop.create_future()
            # (Not by asyncio.wait, whose frame holds the task.)
            self._live[number].add_done_callback(functools.partial(wake_up, woken))
            await woken

    async def _scope_wait(self, act: programs.ScopeWait, me: Me) -> None:
        for place in self._pick(act.pick, self._scopes):
            await self._wait_for_scope(place, timeout=act.timeout, return_when=act.return_when)

    async def _scope_cancel(self, act: programs.ScopeCancel, me: Me) -> None:
        for place in self._pick(act.pick, self._scopes):
            place.block.cancel()

    async def _close(self, act: programs.Close, me: Me) -> None:
        def on_close() -> None:
            self.note(f"{me.number} closes its {type(act.what).__name__}")
            me.is_closed = True

        when = self._loop.time() + act.seconds
        try:
            told = await drive(self._ways[type(act.what)](self, act.what, me), act.how, when, on_close)
        finally:
            me.is_closed = False
        if told and act.how != "in the task":
            # It came to us, and to nobody inside.
            raise asyncio.CancelledError
        me.taken += told

    async def _limit(self, act: programs.Limit, me: Me) -> None:
        limit = asyncio.timeout(act.seconds)
        try:
            async with limit:
                await self._acts(act.body, me)
        except TimeoutError as exc:
            # (A Hung is one as well, which has nothing to do with this limit.)
            if type(exc) is not TimeoutError:
                raise
        finally:
            me.taken_back += limit.expired()
            del limit

    async def _group(self, act: programs.Group, me: Me) -> None:
        # What a TaskGroup leaves behind in its host is its own affair (gh-116720). On 3.13, it cancels a host once more
        # that was cancelled from outside, too.
        me.taken_back += 2
        if me.number == 0:
            self._host_cancels = None
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._fail_after(act.fails_after, me.number))
                await self._acts(act.body, me)
        except BaseExceptionGroup as exc:
            self.ledger.surfaced(exc)
        finally:
            del group

    async def _fail_after(self, seconds: float, number: int) -> None:
        await asyncio.sleep(seconds)
        raise self.ledger.boom(f"a TaskGroup of {number}")

    _ways: ClassVar[dict[type, Callable[[World, Any, Me], Awaitable[None]]]] = {
        Pause: _pause,
        Ready: _ready,
        programs.Scope: _scope,
        programs.Gather: _gather,
        programs.Supervised: _supervised,
        programs.Tree: _tree,
        programs.Impatient: _impatient,
        programs.Watch: _watch,
        programs.Launch: _launch_somewhere,
        programs.Start: _start_somewhere,
        programs.Order: _order,
        programs.Cancel: _cancel,
        programs.CancelAndWait: _cancel_and_wait,
        programs.WaitFor: _wait_for,
        programs.ScopeWait: _scope_wait,
        programs.ScopeCancel: _scope_cancel,
        programs.Close: _close,
        programs.Limit: _limit,
        programs.Group: _group,
    }
