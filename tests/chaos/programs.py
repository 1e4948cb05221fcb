"""What a program is: a tree of plain data, which prints as it is written.

Times are in virtual seconds, of which there are few different ones: so that much comes together. A `pick` chooses
among whatever is there when its turn comes, and does nothing if that is nobody.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from typing import Literal, TypeAlias

from .by_hand import How

Handler: TypeAlias = Literal["none", "takes", "raises"]


@dataclass(frozen=True)
class Child:
    """A coroutine: what it does, how it ends, and what it does when it is cancelled."""

    acts: tuple[Act, ...] = ()
    # "cancelled": it raises a CancelledError of its own.
    end: Literal["return", "fail", "hang", "cancelled"] = "return"
    # "ignores" goes on as if nothing had happened, for some seconds; "returns" swallows the cancellation, too.
    # "launches" one more into the scope that it is in, "serves" runs something supervised in its cleanup.
    told: Literal["stops", "slowly", "fails", "fails late", "returns", "ignores", "launches", "serves"] = "stops"
    # How long its finally-block takes, however it ended.
    lingers: float = 0


@dataclass(frozen=True)
class Pause:
    seconds: float


@dataclass(frozen=True)
class Scope:
    """A `task_scope`. *caught*: whoever opens it goes on when it fails."""

    children: tuple[Child, ...] = ()
    body: tuple[Act, ...] = ()
    # What the body does last; "yield" where it is an async generator that is closed.
    end: Literal["leave", "wait", "wait for one", "wait for all", "wait shortly", "cancel", "fail", "yield"] = "leave"
    drain: float = 0
    handler: Handler = "none"
    caught: bool = False


@dataclass(frozen=True)
class Gather:
    """A `try_gather`."""

    children: tuple[Child, ...] = ()
    limit: int | None = None
    # The first is given twice; the first so many are tasks already; somebody else's task is given besides.
    doubled: bool = False
    tasks: int = 0
    adopt: int | None = None
    caught: bool = False


@dataclass(frozen=True)
class Options:
    """Those of a policy."""

    delays: tuple[float, ...] = (0,)
    restart: Literal["on_error", "always", "never"] = "on_error"
    max_restarts: int | None = None
    reset_after: float | None = None
    heartbeat: float | None = None
    # "some": a predicate, to which each third error is fatal.
    on: Literal["all", "some"] = "all"


@dataclass(frozen=True)
class Service:
    """What each attempt does in its turn; the next one runs until it is stopped."""

    steps: tuple[Child, ...] = ()
    options: Options = Options()
    ready_after: float | None = None


@dataclass(frozen=True)
class Supervised:
    """A `supervised` function, awaited."""

    service: Service
    caught: bool = False


@dataclass(frozen=True)
class Tree:
    """A `Supervisor`."""

    services: tuple[Service, ...] = ()
    strategy: Literal["one_for_one", "one_for_all", "rest_for_one"] = "one_for_one"
    body: tuple[Act, ...] = ()
    end: Literal["leave", "wait", "fail", "yield"] = "wait"
    caught: bool = False


@dataclass(frozen=True)
class Impatient:
    """An `impatient` wait for a coroutine that runs in the same task."""

    child: Child
    form: Literal["call", "decorator", "block"] = "call"
    log_after: float = 1
    caught: bool = False


@dataclass(frozen=True)
class Watch:
    """A `launch_watched`."""

    child: Child
    handler: Handler = "none"


@dataclass(frozen=True)
class Launch:
    """Launch into a scope that is, or was, open somewhere."""

    child: Child
    pick: int = 0


@dataclass(frozen=True)
class Start:
    """Start a service in a supervisor that is, or was, open somewhere."""

    service: Service
    pick: int = 0


@dataclass(frozen=True)
class Order:
    """Ask a child of some supervisor for something."""

    what: Literal["restart", "stop", "wait"]
    pick: int = 0


@dataclass(frozen=True)
class Cancel:
    """Cancel somebody, oneself perhaps."""

    pick: int


@dataclass(frozen=True)
class CancelAndWait:
    """`cancel_and_wait`, for those that do not wait for us in turn, and for a plain task that nobody else knows."""

    picks: tuple[int, ...]
    plain: Child | None = None


@dataclass(frozen=True)
class WaitFor:
    """Wait until somebody has ended."""

    pick: int


@dataclass(frozen=True)
class ScopeWait:
    """`wait` for some open scope, one's own perhaps."""

    pick: int
    return_when: Literal["FIRST_COMPLETED", "FIRST_EXCEPTION", "ALL_COMPLETED"] = "FIRST_EXCEPTION"
    timeout: float | None = None


@dataclass(frozen=True)
class ScopeCancel:
    pick: int


@dataclass(frozen=True)
class Close:
    """Drive a call or block by hand, and close it if it still waits after some seconds.

    *how*: where it waits for its children, stepped by the task or from outside of any; or as an async generator.
    """

    what: Gather | Scope | Supervised | Tree | Impatient | CancelAndWait | ScopeWait | Order
    seconds: float
    how: How = "in the task"

    @property
    def caught(self) -> bool:
        """Whether whoever drives it goes on when it fails."""
        return getattr(self.what, "caught", False)


@dataclass(frozen=True)
class Limit:
    """`asyncio.timeout`."""

    seconds: float
    body: tuple[Act, ...] = ()


@dataclass(frozen=True)
class Group:
    """A body in an `asyncio.TaskGroup`, of which another child fails."""

    fails_after: float
    body: tuple[Act, ...] = ()


Act: TypeAlias = (
    Pause
    | Scope
    | Gather
    | Supervised
    | Tree
    | Impatient
    | Watch
    | Launch
    | Start
    | Order
    | Cancel
    | CancelAndWait
    | WaitFor
    | ScopeWait
    | ScopeCancel
    | Close
    | Limit
    | Group
)


@dataclass(frozen=True)
class Program:
    """A host, and when it is cancelled from outside.

    *counted*: its tasks are of a class that notes who cancels them. Otherwise they are asyncio's own.
    """

    main: Child
    stops: tuple[float, ...] = ()
    counted: bool = False


def show(node: object, indent: str = "") -> str:
    """Write a tree as an expression, a line for each node, without what is left at its default."""
    inline, below = [], []
    for field in fields(node):
        value = getattr(node, field.name)
        if value == field.default:
            continue
        nodes = value if isinstance(value, tuple) else (value,)
        if nodes and is_dataclass(nodes[0]):
            inner = "".join(f"{indent}  {show(each, f'{indent}  ')},\n" for each in nodes)
            shown = f"(\n{inner}{indent})" if isinstance(value, tuple) else show(value, indent)
            below.append(f"{field.name}={shown}")
        else:
            inline.append(f"{field.name}={value!r}")
    return f"{type(node).__name__}({', '.join(inline + below)})"


def size(node: object) -> int:
    """Return the number of children in a tree."""
    if isinstance(node, tuple):
        return sum(map(size, node))
    return isinstance(node, Child) + sum(map(size, vars(node).values())) if is_dataclass(node) else 0


def kinds(node: object) -> set[type]:
    """Return the kinds of nodes in a tree."""
    if isinstance(node, tuple):
        return set().union(*map(kinds, node))
    return {type(node)}.union(*map(kinds, vars(node).values())) if is_dataclass(node) else set()
