"""From an awaitable to its innermost frame."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections.abc import Mapping
from types import AsyncGeneratorType, CodeType, CoroutineType, FrameType, GeneratorType
from typing import Any, Literal, TypeAlias

from async_plus.stacks.names import is_compiled_coroutine, is_future, name_of, type_name, type_of
from async_plus.stacks.places import Place, is_user_code

__all__ = ["FutureIter", "Link", "State", "frame_of", "variable", "walk"]

State: TypeAlias = Literal["new", "running", "ready", "parked", "done"]

# Far more frames than the recursion limit lets a real chain have.
MAX_STEPS = 10_000

_HERE = os.path.join(os.path.dirname(__file__), "")

# References to a dict of local variables that its frame holds, a variable of ours, and the argument of getrefcount().
_UNSHARED = 3


class _Loop:
    """As much of an event loop as a future needs to be made: an import must not create a real one."""

    def get_debug(self) -> bool:
        return False


_make_future: Any = asyncio.Future
FutureIter = type_of(_make_future(loop=_Loop()).__await__())
# The Python one stays there when the C one replaces it, and a program may use both.
_PyFuture: Any = getattr(asyncio.futures, "_PyFuture", asyncio.Future)
_PY_FUTURE_AWAIT: CodeType = _PyFuture.__await__.__code__

# What the interpreter puts between an awaiting frame and the thing it drives. None has an attribute to look
# through, but each shows that thing first to the garbage collector. (They cannot be told by type: making an
# asend() to take the type of would run the hooks of whatever loop is running during the import.)
_WRAPPERS = frozenset({"coroutine_wrapper", "async_generator_asend", "async_generator_athrow", "anext_awaitable"})


class Link:
    """One frame of an await chain.

    It holds the coroutine that owns the frame, never the frame itself. Look at it and let it go: kept, it
    would keep the coroutine alive.

    Attributes:
        owner: The coroutine, generator or async generator; None for a call below a running one.
        code: Its code object; None if a compiled coroutine shows none.
        lasti: The instruction it is at, as in ``frame.f_lasti``; -1 where this is unknown.

    .. versionadded:: 1.0
    """

    __slots__ = ("code", "lasti", "owner")

    def __init__(self, owner: object, code: CodeType | None, lasti: int) -> None:
        self.owner = owner
        self.code = code
        self.lasti = lasti

    @property
    def filename(self) -> str:
        """The file as in ``co_filename``, or ``<compiled>``."""
        return "<compiled>" if self.code is None else self.code.co_filename

    @property
    def is_user_code(self) -> bool:
        """Whether this is a frame to point a user at."""
        return self.code is not None and is_user_code(self.code.co_filename)

    @property
    def name(self) -> str:
        """The qualname of the function."""
        if self.owner is None and self.code is not None:
            return self.code.co_qualname
        return name_of(self.owner)

    @property
    def place(self) -> Place:
        """The line it is at, found when asked for: most links are never asked."""
        if self.code is None:
            return Place(self.filename, 0, self.name)
        return Place.from_code(self.code, self.lasti)

    def variables(self) -> Mapping[str, Any]:
        """Copy the local variables of the frame, for a describer to read during its call."""
        frame = frame_of(self.owner)
        if frame is None:
            return {}
        variables = frame.f_locals
        found = dict(variables)
        # Here f_locals is a dict that the frame keeps, so that whatever was read once would live as long as the
        # coroutine, even when the variable is long rebound. Emptied it holds nothing, and the next reader finds it
        # filled anew. (It is the namespace itself in modules and class bodies only, and no known function is one of
        # these.) But if the function called locals(), it has got this very dict, and may go on to use it.
        if sys.version_info < (3, 13) and sys.getrefcount(variables) == _UNSHARED:  # pragma: <3.13 cover
            variables.clear()
        return found


def variable(owner: object, name: str) -> Any:
    """Return one local variable of the frame of *owner*, as `Link.variables` does; None if there is none."""
    frame = frame_of(owner)
    if frame is None:
        return None
    variables = frame.f_locals
    found = variables.get(name)
    if sys.version_info < (3, 13) and sys.getrefcount(variables) == _UNSHARED:  # pragma: <3.13 cover
        variables.clear()
    return found


def frame_of(owner: Any) -> FrameType | None:
    """Return the frame of a coroutine, generator or async generator, None if it has ended or is something else."""
    frame: FrameType | None = (
        getattr(owner, "cr_frame", None) or getattr(owner, "gi_frame", None) or getattr(owner, "ag_frame", None)
    )
    return frame


def walk(awaitable: Any, links: list[Link]) -> tuple[object, State]:
    """Follow *awaitable* inwards and append every frame met to *links*, the outermost first.

    Returns:
        The thing at the end (mostly a future; None after a bare ``yield``), and the state of the whole.
    """
    frame: FrameType | None
    inner: object
    seen: set[int] = set()
    for _ in range(MAX_STEPS):
        kind = type_of(awaitable)
        if kind is CoroutineType:
            frame, inner = awaitable.cr_frame, awaitable.cr_await
        elif kind is FutureIter:
            awaitable = _driven_by(awaitable)
            break
        elif kind is AsyncGeneratorType:
            frame, inner = awaitable.ag_frame, awaitable.ag_await
        elif kind is GeneratorType:
            if awaitable.gi_code is _PY_FUTURE_AWAIT:
                # The Python Future's own iterator, a generator with the future for its only variable.
                awaitable = next(filter(is_future, gc.get_referents(awaitable)), None)
                continue
            frame, inner = awaitable.gi_frame, awaitable.gi_yieldfrom
        elif type_name(awaitable) in _WRAPPERS:
            awaitable = _driven_by(awaitable)
            continue
        elif awaitable is None or is_future(awaitable) or not is_compiled_coroutine(awaitable):
            break
        else:
            if id(awaitable) in seen:
                break  # what only looks like a coroutine can also await itself
            seen.add(id(awaitable))
            try:
                links.append(Link(awaitable, _compiled_code(awaitable), -1))
                if awaitable.cr_running is True:
                    return None, "running"
                awaitable = awaitable.cr_await
            except Exception:  # a class of the user's that only looks like a coroutine
                break
            continue

        if frame is None:
            return awaitable, "done"
        links.append(Link(awaitable, frame.f_code, frame.f_lasti))
        if inner is None:
            state = _state_of_innermost(awaitable)
            if state == "running":
                links.extend(_calls_below(frame))
            return None, state
        awaitable = inner
    return awaitable, "ready" if awaitable is None else "parked"


def _state_of_innermost(generator: Any) -> State:
    """Say why a coroutine or generator that has a frame awaits nothing."""
    kind = type_of(generator)
    if kind is AsyncGeneratorType:
        # It does not tell a new one from one at its yield; neither keeps anybody waiting.
        return "running" if generator.ag_running else "ready"
    if kind is CoroutineType:
        running, suspended = generator.cr_running, generator.cr_suspended
    else:
        running, suspended = generator.gi_running, generator.gi_suspended
    return "running" if running else "ready" if suspended else "new"


def _driven_by(wrapper: object) -> object:
    """Return what *wrapper* drives, None if it let go of it because that is done."""
    for thing in gc.get_referents(wrapper):
        # Since 3.12 some have a type of their own on the heap, and show it as well.
        if not issubclass(type(thing), type):
            return thing
    return None


def _compiled_code(coroutine: object) -> CodeType | None:
    code = getattr(coroutine, "cr_code", None)
    return code if type(code) is CodeType else None


def _calls_below(frame: FrameType) -> list[Link]:
    """Return the calls that the running *frame* is in the middle of.

    A running coroutine does not tell what it awaits, but the stack of its thread does. That may be another
    thread than ours: a watchdog looks at its loop from outside.
    """
    links: list[Link] = []
    call: FrameType | None
    # No variable may be left with our own frame in it, which would be a reference cycle.
    for call in (
        sys._getframe(),
        *sys._current_frames().values(),
    ):
        links.clear()
        while call is not None and call is not frame:
            if not call.f_code.co_filename.startswith(_HERE):
                links.append(Link(None, call.f_code, call.f_lasti))
            call = call.f_back
        if call is not None:
            return links[::-1]
    return []
