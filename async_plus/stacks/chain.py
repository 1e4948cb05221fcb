"""Where is this task parked, and on what."""

from __future__ import annotations

import sys
from asyncio import CancelledError, Future, Task
from dataclasses import dataclass
from typing import Any

from async_plus.stacks.names import coroutine_of, is_done, is_future, is_task, type_name
from async_plus.stacks.places import Place
from async_plus.stacks.primitives import WAIT_FOR, unfinished
from async_plus.stacks.waiters import describe, waited_for
from async_plus.stacks.walk import Link, State, walk

__all__ = ["Chain", "Parked", "chain", "parked", "waiting_for"]

_NOT_WAITING: dict[str, str] = {
    "new": "nothing, it has not started",
    "running": "nothing, it is running",
    "ready": "nothing, it is ready to run",
    "done": "nothing, it is done",
}


@dataclass(frozen=True, slots=True)
class Parked:
    """Where a task is parked, and on what: ``at /app/pool.py:88 in acquire on Queue.get``.

    Attributes:
        place: The innermost line outside the standard library and async_plus; None if there is none.
        on: What it waits on, in words.

    .. versionadded:: 1.0
    """

    place: Place | None
    on: str

    def __str__(self) -> str:
        return f"on {self.on}" if self.place is None else f"at {self.place} on {self.on}"


class Chain:
    """The frames from an awaitable to its innermost one, and what that waits for.

    Made for one look at a living task: it refers to coroutines and futures, so do not keep it.

    Attributes:
        links: The frames, the outermost first.
        terminal: What is at the end: mostly a future, None where there is nothing to wait for.
        state: "new" (not started), "running", "ready" (to run in the loop's next round), "parked" or "done".

    .. versionadded:: 1.0
    """

    __slots__ = ("_given", "_own", "links", "state", "terminal")

    def __init__(
        self,
        links: list[Link],
        terminal: object,
        state: State,
        own: int | None = None,
        given: object = None,
    ) -> None:
        self.links = links
        self.terminal = terminal
        self.state = state
        # Where the chain goes on in another task: how many links are the task's own, and that other one.
        self._own = own
        self._given = given

    def __repr__(self) -> str:
        return f"<Chain {self.state}, {len(self.links)} links>"

    def on(self, start: int = 0) -> str:
        """Say what the links from *start* on wait on; it never raises."""
        if self.state in _NOT_WAITING:
            return _NOT_WAITING[self.state]
        try:
            return describe(self.links[start:], self.terminal)
        except (Exception, CancelledError):  # some future of the user's that does not behave as one
            return type_name(self.terminal)

    def parked(self, start: int = 0) -> Parked:
        """Say where the chain is parked and on what.

        Args:
            start: The link to begin with: what stands further out has no say in what is waited on.
        """
        place = next((link.place for link in reversed(self.links) if link.is_user_code), None)
        return Parked(place, self.on(start))

    def places(self) -> tuple[Place, ...]:
        """Return the place of each link."""
        return tuple(link.place for link in self.links)

    @property
    def own_links(self) -> list[Link]:
        """The links that are the task's own: on 3.11 the chain goes through `wait_for` into another task."""
        return self.links[: self._own]

    def waiting_for(self) -> list[Future[Any]]:
        """Return the unfinished futures it waits for (of a gather the children); it never raises."""
        if self.state != "parked":
            return []
        try:
            if self._own is not None:  # pragma: <3.12 cover
                return unfinished(waited_for((), self._given))
            return unfinished(waited_for(self.links, self.terminal))
        except (Exception, CancelledError):  # as above
            return []


def chain(awaitable: object) -> Chain:
    """Follow *awaitable* to the frame it is parked in; it never raises.

    Args:
        awaitable: A task, future, coroutine, generator or async generator. Of others only the type is known.

    .. versionadded:: 1.0
    """
    links: list[Link] = []
    try:
        if not is_future(awaitable):
            return Chain(links, *walk(awaitable, links))
        if is_done(awaitable):
            # It has no frames any more, and to ask it for its coroutine may crash 3.12.1 (gh-122332).
            return Chain(links, awaitable, "done")
        if not is_task(awaitable):
            return Chain(links, awaitable, "parked")
        terminal, state = _walk_task(awaitable, links)
        own = given = None
        if sys.version_info < (3, 12):  # pragma: <3.12 cover
            count = len(links)
            terminal, state, given = _walk_through_wait_for(awaitable, links, terminal, state)
            own = None if given is None else count
        return Chain(links, terminal, state, own, given)
    except (Exception, CancelledError):  # a last resort: say what was found
        return Chain(links, None, "parked")


def parked(task: object) -> Parked:
    """Say where *task* is parked and on what; it never raises, whatever the task is or does.

    .. versionadded:: 1.0
    """
    return chain(task).parked()


def waiting_for(awaitable: object) -> list[Future[Any]]:
    """Return the unfinished futures that a task (or its `Chain`) waits for; it never raises.

    .. versionadded:: 1.0
    """
    return (awaitable if type(awaitable) is Chain else chain(awaitable)).waiting_for()


def _walk_task(task: Task[Any], links: list[Link]) -> tuple[object, State]:
    terminal, state = walk(coroutine_of(task), links)
    if state == "ready" or state == "parked":
        # The task itself knows best what will wake it, and for an awaitable whose frames nobody can see
        # (an iterator written in C, a class with __next__), it is the only one who knows.
        waiter: object = getattr(task, "_fut_waiter", None)
        if waiter is None:
            return terminal, "ready"
        if terminal is not waiter and not is_future(terminal):
            terminal = waiter
        state = "ready" if is_future(terminal) and is_done(terminal) else "parked"
    return terminal, state


if sys.version_info < (3, 12):  # pragma: <3.12 cover

    def _walk_through_wait_for(
        task: Task[Any], links: list[Link], terminal: object, state: State
    ) -> tuple[object, State, object]:
        """Go on into what wait_for waits for.

        Before 3.12 it ran the coroutine in a task of its own, and waited for a future that says nothing:

            handler -> wait_for -> a future        (that other task:) Pool.acquire -> Queue.get -> a future
        """
        given: object = None
        seen = {id(task)}
        frames = links
        while state == "parked":
            inner = _given_to_wait_for(frames)
            if inner is None or inner is terminal:
                break
            if given is None:
                given = inner
            terminal = inner
            if is_done(inner):
                state = "ready"
            elif not is_task(inner) or id(inner) in seen:
                break
            else:
                seen.add(id(inner))
                frames = list[Link]()
                terminal, state = _walk_task(inner, frames)
                links += frames
        return terminal, state, given

    def _given_to_wait_for(links: list[Link]) -> Future[Any] | None:
        # After its timeout wait_for is not the last frame: it cancels and waits in a function of its own.
        for link in links[:-3:-1]:
            if link.code is WAIT_FOR:
                given = link.variables().get("fut")
                return given if is_future(given) else None
        return None
