"""`Supervisor`: services that are started in order, restarted together or alone, and stopped in reverse."""

from __future__ import annotations

import asyncio
import functools
import inspect
import itertools
from asyncio import CancelledError
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from types import TracebackType
from typing import Any, NoReturn, Self, get_args
from weakref import WeakValueDictionary

from async_plus import _checks
from async_plus._coroutines import close_unstarted, is_coroutine_function
from async_plus.engine.owned import WARN_AFTER, BlockState
from async_plus.engine.per_loop import per_loop
from async_plus.stacks.names import callable_name
from async_plus.supervision.attempts import parent
from async_plus.supervision.child import Child
from async_plus.supervision.children import Children, Strategy
from async_plus.supervision.policy import Policy, Service, declared

__all__ = ["Supervisor", "entered"]

# Of a function that is not supervised by itself.
_PLAIN = Policy(restart="never")


class Supervisor:
    """A block that starts services in order, restarts them by a strategy, and stops them in reverse.

        async with Supervisor("shop", strategy="rest_for_one") as sup:
            await sup.start(database)
            await sup.start(feed, "wss://...")
            await sup.wait()

    A child is restarted by the policy of its `supervised`; a function without one is not restarted. When a child ends
    and is to be restarted, the strategy tells who else is:

    "one_for_one"
        nobody
    "one_for_all"
        all its siblings
    "rest_for_one"
        those that were started after it

    They are stopped in reverse order, one at a time, each waited for; then its delay passes; then all of them are
    started again in order, each when the one before is ready. Children that are done stay done.

    A child that is given up, because its error calls for no restart or its limit is reached, ends the supervision: the
    others are stopped in reverse, and its own error is raised, once, by `wait` or else at the end of the block. An
    exception of the block goes before it; the error is then only reported. The block itself is never cancelled.

    The end of the block stops all children, so await `wait` in it. A supervisor that is opened within a child is below
    it in the tree.

    Args:
        name: Its name in reports.
        strategy: Who is restarted with a child: see above.
        warn_after: Seconds from the cancellation of a child until it is named in the log as stuck.

    Raises:
        TypeError: *name* is not a string, or *warn_after* not a number.
        ValueError: *strategy* is none of the three, or *warn_after* is not a finite number above zero.

    .. versionadded:: 1.0
    """

    __slots__ = ("__weakref__", "_children", "_name", "_parent", "_state", "_strategy", "_warn_after")

    def __init__(self, name: str, *, strategy: Strategy = "one_for_one", warn_after: float = WARN_AFTER) -> None:
        _checks.string("name", name)
        _checks.one_of("strategy", strategy, get_args(Strategy))
        self._name = name
        self._strategy: Strategy = strategy
        self._warn_after = _checks.seconds("warn_after", warn_after, above_zero=True)
        self._state = BlockState.CREATED
        self._children: Children | None = None
        self._parent: Child | None = None

    def __repr__(self) -> str:
        return f"<Supervisor {self._name!r} {self._strategy} {self._state.value}, children={len(self.children)}>"

    def __enter__(self) -> NoReturn:
        raise TypeError("use 'async with Supervisor(...)', not 'with'")

    def __exit__(self, *_: object) -> NoReturn:
        raise TypeError("use 'async with Supervisor(...)', not 'with'")

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    @property
    def _is_open(self) -> bool:
        return self._state in (BlockState.OPEN, BlockState.ENDING)

    @property
    def children(self) -> tuple[Child, ...]:
        """The children that are neither done nor failed, in the order in which they start."""
        return () if self._children is None else self._children.all()

    async def __aenter__(self) -> Self:
        if self._state is not BlockState.CREATED:
            raise RuntimeError(f"a Supervisor can be entered once, and this one is {self._state.value}")
        loop = asyncio.get_running_loop()
        self._children = Children(loop, self._name, self._strategy, self._warn_after)
        self._parent = parent.get()
        self._state = BlockState.OPEN
        per_loop(loop, entered)[next(_serial)] = self
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        children = self._children
        if children is None or self._state is not BlockState.OPEN:
            raise RuntimeError(f"this Supervisor cannot be left, since it is {self._state.value}")
        self._state = BlockState.ENDING
        outer: CancelledError | None = None
        try:
            if isinstance(exc, GeneratorExit) and not children._may_await():
                # Closed by hand, or by the garbage collector. The children may outlive us.
                children.abandon()
                return
            outer = await children.drain()
            if outer is not None:
                outer.__context__ = exc
                raise outer
            if exc is None and not children.is_failure_raised:
                children.raise_failure()
        finally:
            self._state = BlockState.CLOSED
            children.report_failure_unless(exc)
            children.let_host_go()
            # The traceback holds this frame: what leads from it to the exceptions would close a cycle.
            outer = exc = None

    async def start(
        self,
        fn: Callable[..., Coroutine[Any, Any, Any]],
        *args: Any,
        name: str | None = None,
        **kwargs: Any,
    ) -> Child:
        """Start ``fn(*args, **kwargs)`` as a child, and return when it is ready.

        One that declares no readiness (``@supervised(ready=True)``) is ready at once. If it finishes before, it is
        returned all the same. It runs in a copy of the current context, each attempt in another one.

        When the caller is cancelled meanwhile, the child is stopped and waited for.

        Args:
            fn: A coroutine function. If it is supervised, by its own policy; otherwise it is not restarted.
            args: Its arguments, as *kwargs*. (An argument of its own called ``name`` needs `functools.partial`.)
            name: The name of the child; by default that of the service.

        Raises:
            TypeError: *fn* is not a coroutine function, or *name* is not a string.
            RuntimeError: The supervisor is not open, or gave up, or runs on another loop.
            BaseException: A child was given up before this one was ready: its own error. Or what the call of *fn*
                itself raised, if the arguments do not fit, say.
        """
        children = self._children
        try:
            service = _service(fn)
            if name is not None:
                _checks.string("name", name)
            if children is None:
                raise RuntimeError("cannot start a child before the Supervisor is entered: use 'async with' first")
            children.check_open(f"start {name or service.name!r}")
            if service.policy is not _PLAIN:
                # Its attempts would fail, one like the other, and be restarted.
                _check_arguments(service.name, fn, args, kwargs)
        except BaseException:
            close_unstarted(fn, *args, kwargs)
            raise
        children.note_host()
        call = functools.partial(fn, *args, **kwargs)
        child = children.add(name or service.name, service.policy, call, copy_context())
        try:
            await children.until_up(child)
        except CancelledError:
            children.stop(child)
            while not child.has_ended:
                try:
                    await children.until_ended(child)
                except CancelledError:
                    pass  # the first one is raised, when the child has ended
            raise
        return child

    async def wait(self) -> None:
        """Wait until all children are done.

        Raises:
            RuntimeError: The supervisor was not entered yet, or runs on another loop.
            BaseException: A child was given up: its own error, when the others have stopped.
        """
        children = self._children
        if children is None:
            raise RuntimeError("cannot wait before the Supervisor is entered: use 'async with Supervisor() as sup'")
        children.check_loop("wait for the children")
        children.note_host()
        await children.until_empty()
        children.raise_failure()


_serial = itertools.count()


def entered(loop: asyncio.AbstractEventLoop) -> WeakValueDictionary[int, Supervisor]:
    """Make what `per_loop` keeps for whoever looks at *loop*: the supervisors entered there, in order."""
    return WeakValueDictionary()


def _check_arguments(name: str, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Refuse arguments that do not fit.

    Raises:
        TypeError: They do not.
    """
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):
        return  # nobody knows: a function of C code, say
    try:
        signature.bind(*args, **kwargs)
    except TypeError as exc:
        raise TypeError(f"the arguments do not fit {name}: {exc}") from None


def _service(fn: Any) -> Service:
    """Return the policy and the name by which *fn* runs.

    Raises:
        TypeError: It is not a coroutine function.
    """
    inner = fn
    while isinstance(inner, functools.partial):
        inner = inner.func
    if not callable(inner) or not (is_coroutine_function(inner) or is_coroutine_function(type(inner).__call__)):
        hint = ""
        if isinstance(inner, Coroutine):
            hint = " (pass the function and its arguments, without calling it)"
        raise TypeError(f"Supervisor.start() needs a coroutine function, got {_checks.kind(fn)}{hint}")
    return declared(fn) or Service(_PLAIN, callable_name(fn))
