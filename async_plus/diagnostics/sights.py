"""The tasks of a loop, sorted by the instructions at which they stand.

Thousands of tasks mostly stand at a few lines. What depends on these lines alone is found out once for all of them;
what is left to do for each is as little as possible.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import CancelledError, Future, Task
from collections.abc import Iterable, Iterator, Sequence
from types import CoroutineType, NoneType
from typing import Any, TypeAlias

from async_plus.stacks import Chain, Link, Place, chain, name_of
from async_plus.stacks.names import coroutine_of, is_future, is_task, name_of_task, plain, type_name, type_of
from async_plus.stacks.primitives import WAIT_FOR, Call, behind, unfinished
from async_plus.stacks.waiters import (
    called_of_event_loop,
    children_of,
    describe_terminal,
    describer_of,
    describing,
)
from async_plus.stacks.walk import FutureIter, variable

__all__ = ["Shape", "Sight", "look"]

# For a type checker, which makes something unknown of them.
_COROUTINE: Any = CoroutineType
_TASK: Any = Task

# Those of asyncio itself, whose methods are no code of the user's.
_PLAIN_FUTURES = frozenset[type[object]]({Future, Task})

# A task, the innermost coroutine of its chain, and what that waits for.
Seen: TypeAlias = tuple[Task[Any], object, object]

# The name of what a chain begins with, since a decorator's functions share their code; and its codes and instructions,
# by the ids of the codes, which a shape keeps. In a row, and not one within the other: to compare those of a deep chain
# would be a deep recursion.
_Key: TypeAlias = tuple[object, ...]


class Shape:
    """The chains that stand at the same instructions."""

    __slots__ = (
        "_children",
        "_describer",
        "_function",
        "_plain",
        "coroutine",
        "is_crossing",
        "links",
        "others",
        "seen",
        "stack",
    )

    def __init__(self, links: list[Link], places: dict[tuple[int, int], Place]) -> None:
        self.links = links
        # Those of which nothing is known but that they are parked there: they are not cancelled, nobody is told of
        # their end, and nobody else of the end of what they wait for.
        self.seen: list[Seen] = []
        self.others: list[Sight] = []
        self._plain: list[Sight] | None = None
        self.coroutine = links[0].name if links else ""
        self.stack = tuple(_placed(link, places) for link in links if link.is_user_code)
        # On 3.11, wait_for waits for a task of its own, and the chain goes on there.
        self.is_crossing = sys.version_info < (3, 12) and any(link.code is WAIT_FOR for link in links[:-3:-1])
        self._describer = _position(describer_of(links), links)
        self._children = _position(children_of(links), links)
        self._function = called_of_event_loop(links)

    @property
    def plain(self) -> list[Sight]:
        """The plain ones, each as what can be asked more."""
        if self._plain is None:
            count = len(self.links)
            self._plain = [Sight(task, self, _owners(task, count), waiter) for task, _, waiter in self.seen]
        return self._plain

    @property
    def sights(self) -> list[Sight]:
        """All who stand there."""
        return self.plain + self.others

    def let_go(self) -> None:
        """Forget all who stand there."""
        self.seen.clear()
        self.others.clear()
        self._plain = None

    def on(self, seen: Sequence[Seen]) -> set[str]:
        """Say what those wait on that are parked, each text once; it never raises."""
        try:
            if self._describer is None:
                return {describe_terminal(waiter, self._function) for _, _, waiter in seen}
            position, describe = self._describer
            if position == len(self.links) - 1:
                owners = [inner for _, inner, _ in seen]
            else:
                owners = [_owners(task, position + 1)[-1] for task, _, _ in seen]
            if type(describe) is Call:
                # A method is told by the type of its object, and mostly all are of one type.
                kinds = {type_of(variable(owner, "self")) for owner in owners}
                # One that went on in another thread is told as those that stood there with it, if there are any.
                texts = {describe.text(kind) for kind in kinds if kind is not NoneType}
                return texts or {type_name(waiter) for _, _, waiter in seen}
            like = self.links[position]
            return {describing(Link(owner, like.code, like.lasti), describe) for owner in owners}
        except (Exception, CancelledError):  # a future of the user's, or it goes on in another thread
            return {type_name(waiter) for _, _, waiter in seen}

    def link(self, sight: Sight, position: int) -> Link:
        """Return the link at *position* of one of the chains."""
        like = self.links[position]
        return Link(sight.owners[position], like.code, like.lasti)

    def waiting(self) -> Iterator[tuple[Sight, list[Task[Any]], bool]]:
        """Yield those that wait for tasks, these, and whether one of them is enough."""
        for sight in self.others if self._children is None else self.sights:
            tasks, is_one_enough = sight.waiting_for()
            if tasks:
                yield sight, tasks, is_one_enough

    def waiting_for(self, sight: Sight) -> tuple[list[Future[Any]], bool]:
        """Return for which unfinished futures a parked one waits, and whether one of them is enough."""
        if self._children is not None:
            position, children = self._children
            variables = self.link(sight, position).variables()
            is_one_enough = variables.get("return_when", asyncio.ALL_COMPLETED) != asyncio.ALL_COMPLETED
            return unfinished(children(variables)), is_one_enough
        return unfinished(behind(sight.waiter)) if is_future(sight.waiter) else [], False


def _owners(task: Task[Any], count: int) -> list[Any]:
    """Return the first *count* coroutines of the chain of *task*; None for what is not there any more."""
    owners: list[Any] = [coroutine_of(task)]
    while len(owners) < count:
        # Unless it went on in the meantime, in another thread.
        owners.append(getattr(owners[-1], "cr_await", None))
    return owners


def _placed(link: Link, places: dict[tuple[int, int], Place]) -> Place:
    spot = id(link.code), link.lasti
    place = places.get(spot)
    if place is None:
        place = places[spot] = link.place
    return place


def _position(known: tuple[Link, Any] | None, links: list[Link]) -> tuple[int, Any] | None:
    return None if known is None else (links.index(known[0]), known[1])


class Sight:
    """One task as it was seen. It holds coroutines and futures: for one look, not to be kept."""

    __slots__ = ("chain", "owners", "shape", "state", "task", "waiter")

    def __init__(
        self,
        task: Task[Any],
        shape: Shape,
        owners: list[Any],
        waiter: object,
        state: str = "parked",
        chain: Chain | None = None,
    ) -> None:
        self.task = task
        self.shape = shape
        self.owners = owners
        self.waiter = waiter
        self.state = state
        # Of one that is more than coroutines that await each other, and a future at the end.
        self.chain = chain

    @property
    def name(self) -> str:
        """The name of the task."""
        return name_of_task(self.task)

    @property
    def cancelling(self) -> int:
        """How many cancellations were requested."""
        try:
            return self.task.cancelling()
        except Exception:  # a class of the user's
            return 0

    @property
    def links(self) -> list[Link]:
        """The links of its chain."""
        if self.chain is not None:
            return self.chain.links
        return [self.shape.link(self, position) for position in range(len(self.owners))]

    def on(self) -> str:
        """Say what it waits on; it never raises."""
        if self.chain is not None:
            return self.chain.on()
        [text] = self.shape.on([(self.task, self.owners[-1], self.waiter)])
        return text

    def waiting_for(self) -> tuple[list[Task[Any]], bool]:
        """Return for which unfinished tasks it waits, and whether one of them is enough; it never raises."""
        if self.state != "parked":
            return [], False
        try:
            if self.chain is not None and self.shape.is_crossing:  # pragma: <3.12 cover
                futures, is_one_enough = self.chain.waiting_for(), False
            else:
                futures, is_one_enough = self.shape.waiting_for(self)
            return list(_tasks_behind(futures)), is_one_enough
        except (Exception, CancelledError):  # as above
            return [], False


def _tasks_behind(futures: Iterable[Any]) -> Iterator[Task[Any]]:
    """Yield tasks themselves and, of gathers in gathers, the innermost ones."""
    todo, seen = list(futures), set[int]()
    while todo:
        future = todo.pop()
        if id(future) in seen:
            continue
        seen.add(id(future))
        if is_task(future):
            yield future
        else:
            todo += unfinished(behind(future))


def look(tasks: Iterable[Task[Any]]) -> list[Shape]:
    """Look at each of *tasks*, and sort them by where they stand."""
    shapes: dict[_Key, Shape] = {}
    places: dict[tuple[int, int], Place] = {}
    task: Any
    for task in tasks:
        if type(task) is not _TASK:
            _look_closer(task, shapes, places)
            continue
        # The quick way, for what nearly all are: coroutines that await each other, and a future of asyncio at the end.
        inner: Any = task._coro
        name: Any = inner.__qualname__ if type(inner) is _COROUTINE else ""
        spots: list[object] = [name if type(name) is str else plain(name)]
        last: object = None
        while type(inner) is _COROUTINE and (frame := inner.cr_frame) is not None:
            spots += id(frame.f_code), frame.f_lasti
            last = inner
            inner = inner.cr_await
        waiter: Any = task._fut_waiter
        key = tuple(spots)
        if type(inner) is FutureIter and type(waiter) in _PLAIN_FUTURES and not waiter.done():
            shape = shapes.get(key)
            if shape is None:
                shape = shapes[key] = Shape(chain(task).own_links, places)
            if shape.is_crossing:  # pragma: <3.12 cover
                _look_closer(task, shapes, places)
            elif not task._callbacks and not task.cancelling() and len(waiter._callbacks or ()) == 1:
                shape.seen.append((task, last, waiter))
            else:
                shape.others.append(Sight(task, shape, _owners(task, len(shape.links)), waiter))
        else:
            _look_closer(task, shapes, places)
    return list(shapes.values())


def _look_closer(task: Task[Any], shapes: dict[_Key, Shape], places: dict[tuple[int, int], Place]) -> None:
    found = chain(task)
    key = (name_of(task), *(number for link in found.links for number in (id(link.code), link.lasti)))
    shape = shapes.get(key)
    if shape is None:
        shape = shapes[key] = Shape(found.links, places)
    owners = [link.owner for link in found.links]
    shape.others.append(Sight(task, shape, owners, found.terminal, found.state, found))
