"""`Child`: what a supervisor knows of one of its children, and what its owner may ask of it."""

from __future__ import annotations

import asyncio
import enum
import math
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, Literal, Protocol

from async_plus.supervision.history import History
from async_plus.supervision.policy import Policy
from async_plus.supervision.vitals import Signs

__all__ = ["Child", "ChildState", "Keeper"]


class Keeper(Protocol):
    """Who keeps a child and its siblings."""

    def check_loop(self, what: str) -> None: ...
    def check_open(self, what: str) -> None: ...
    def restart(self, child: Child) -> None: ...
    def stop(self, child: Child) -> None: ...
    async def until_up(self, child: Child) -> None: ...
    async def until_ended(self, child: Child) -> None: ...


class ChildState(enum.StrEnum):
    """What a child of a `Supervisor` is at; it equals the plain word.

    .. versionadded:: 1.0
    """

    STARTING = "starting"
    RUNNING = "running"
    BACKOFF = "backoff"
    STOPPING = "stopping"
    DONE = "done"
    FAILED = "failed"


class Child:
    """A child of a `Supervisor`: what `Supervisor.start` returns.

    Attributes:
        name: Its name in reports.
        restarts: How often it was restarted after an end of its own: not by `restart`, nor for a sibling's sake.
        last_error: What it failed with last, without tracebacks; None if it never did.
        started_at: When its last attempt started, by the clock of the loop.

    .. versionadded:: 1.0
    """

    __slots__ = (
        "_context",
        "_due",
        "_fn",
        "_history",
        "_is_first",
        "_is_spawned",
        "_is_told",
        "_is_up",
        "_keeper",
        "_number",
        "_outcome",
        "_policy",
        "_refusal",
        "_signs",
        "_task",
        "_to_stop",
        "_waiters",
        "_was_up",
        "last_error",
        "name",
        "restarts",
        "started_at",
    )

    def __init__(
        self,
        keeper: Keeper,
        number: int,
        name: str,
        policy: Policy,
        fn: Callable[[], Coroutine[Any, Any, Any]],
        context: Context,
    ) -> None:
        self.name = name
        self.restarts = 0
        self.last_error: BaseException | None = None
        self.started_at: float | None = None
        self._keeper = keeper
        self._number = number
        self._policy = policy
        self._fn = fn
        self._context = context
        self._history = History(policy, name, reports_end=True)
        self._signs: Signs | None = None
        self._task: asyncio.Task[Any] | None = None
        # When it is to be started; None while it runs, and when it is not to.
        self._due: float | None = -math.inf
        # Its first start waits for no sibling to be ready: one of them may be waiting for this start.
        self._is_first = True
        # Its task is being made. An eager one takes its first step meanwhile, and may call us.
        self._is_spawned = False
        # It is ready; it has been since `start` was called.
        self._is_up = self._was_up = False
        # It is to be stopped when its turn comes; it was cancelled for that.
        self._to_stop = self._is_told = False
        self._outcome: Literal[ChildState.DONE, ChildState.FAILED] | None = None
        # Why its first attempt could not even be started.
        self._refusal: BaseException | None = None
        # A dict for its order: they are woken as they came, the same in every run.
        self._waiters: dict[asyncio.Future[None], None] = {}

    def __repr__(self) -> str:
        return f"<Child {self.name!r} {self.state}, restarts={self.restarts}>"

    @property
    def state(self) -> ChildState:
        """What it is at.

        "starting": its attempt runs, but is not ready yet. "running". "backoff": it waits to be started again.
        "stopping": it was cancelled, and has not ended yet. "done": it returned or was stopped. "failed": it was given
        up.
        """
        if self._outcome is not None:
            return self._outcome
        if self._task is None and not self._is_spawned:
            return ChildState.STARTING if self._is_first else ChildState.BACKOFF
        if self._is_told or (self._signs is not None and self._signs.hung is not None):
            return ChildState.STOPPING
        return ChildState.RUNNING if self._is_up else ChildState.STARTING

    @property
    def has_ended(self) -> bool:
        """Whether it is done or failed."""
        return self._outcome is not None

    async def restart(self) -> None:
        """Stop it, start it again at once, and return when it is ready.

        No delay is waited for, and no limit counts it. Its siblings go on, whatever the strategy. One that is done is
        started anew.

        Raises:
            RuntimeError: The supervisor gave up or was left, or runs on another loop.
            BaseException: A child was given up before this one was ready: its own error.
        """
        self._keeper.check_open(f"restart {self.name!r}")
        self._keeper.restart(self)
        await self._keeper.until_up(self)

    async def stop(self) -> None:
        """Stop it for good, and return when it has ended. Its siblings go on, whatever the strategy.

        Raises:
            RuntimeError: The supervisor runs on another loop.
        """
        self._keeper.check_loop(f"stop {self.name!r}")
        self._keeper.stop(self)
        await self._keeper.until_ended(self)

    async def wait(self) -> None:
        """Wait until it is done or failed. Its error is never raised here, see `last_error`.

        Raises:
            RuntimeError: The supervisor runs on another loop.
        """
        self._keeper.check_loop(f"wait for {self.name!r}")
        await self._keeper.until_ended(self)
