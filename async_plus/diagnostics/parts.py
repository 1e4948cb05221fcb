"""What a snapshot consists of: plain strings and numbers, so that keeping one keeps nothing else alive."""

from __future__ import annotations

from dataclasses import dataclass

from async_plus.stacks import Place

__all__ = ["ScopeInfo", "ServiceInfo", "SupervisorInfo", "TaskInfo", "WaitCycle", "WaitInfo"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskInfo:
    """A task, or all tasks that stand at the same line for the same reason.

    Attributes:
        names: The names of the tasks.
        coroutine: What they run.
        state: "new" (not started), "running", "ready" (to run in the loop's next round), "parked" or "done".
        on: What they wait on; of several different texts the first ones.
        stack: The lines of user code at which they stand, the outermost first.
        cancelling: How many cancellations of each were requested.
        timeout_in: Seconds until the first `asyncio.timeout` around them expires; None if none was seen.

    .. versionadded:: 1.0
    """

    names: tuple[str, ...]
    coroutine: str
    state: str
    on: str
    stack: tuple[Place, ...]
    cancelling: int
    timeout_in: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceInfo:
    """A supervised service, be it a child of a `Supervisor` or not.

    Attributes:
        name: Its name in reports.
        state: "starting", "running", "backoff" (it waits to be started again) or "stopping".
        since: Seconds for which its attempt has run; in backoff, since the last one ended.
        restarts: How often it was restarted.
        last_error: The type of its last failure, however long ago; None if there was none.
        restart_in: Seconds until its next attempt, in backoff.
        ready: Whether it is ready; None if it does not declare it.
        overdue: Whether its heartbeat is overdue.
        tasks: The task of its attempt.
        supervisors: Those that were opened within it. Of more than 20 in each other, the inner ones are beside the
            twentieth.

    .. versionadded:: 1.0
    """

    name: str
    state: str
    since: float
    restarts: int
    last_error: str | None
    restart_in: float | None
    ready: bool | None
    overdue: bool
    tasks: tuple[TaskInfo, ...]
    supervisors: tuple[SupervisorInfo, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorInfo:
    """A `Supervisor` whose block is open, with its children that are neither done nor failed, in order.

    .. versionadded:: 1.0
    """

    name: str
    strategy: str
    children: tuple[ServiceInfo, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeInfo:
    """What owns tasks: each `task_scope`, `launch_watched`, `try_gather` or `cancel_and_wait`.

    Attributes:
        title: What it is, and where a scope without a name was made. All with the same title are one.
        tasks: Its live tasks.

    .. versionadded:: 1.0
    """

    title: str
    tasks: tuple[TaskInfo, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitInfo:
    """Impatient waits in progress, long or not, for the same at the same line.

    Attributes:
        awaited: What they wait for.
        waiting_at: The line that waits; None if there is none in user code.
        longest: Seconds for which the longest of them has lasted.
        shortest: Seconds for which the shortest has.
        tasks: The names of the tasks that wait, the longest wait first.

    .. versionadded:: 1.0
    """

    awaited: str
    waiting_at: Place | None
    longest: float
    shortest: float
    tasks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitCycle:
    """Tasks of which each waits for the next one, and the last one for the first.

    Attributes:
        tasks: The names of the tasks.
        is_certain: False if one waits for a semaphore, which somebody unseen may hold as well, or for a lock of which
            it is only known who may hold it.
        ends_in: Seconds until a timeout of one of them expires; None if none was seen.

    .. versionadded:: 1.0
    """

    tasks: tuple[str, ...]
    is_certain: bool
    ends_in: float | None
