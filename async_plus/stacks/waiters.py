"""What an await chain waits on: the functions known to wait, and which of them answers for a chain.

Such a function is known by its code object, and described from the local variables of its parked frame.
"""

from __future__ import annotations

import inspect
from asyncio import CancelledError, Future
from collections.abc import Callable, Mapping, Sequence
from types import CodeType
from typing import Any, TypeVar

from async_plus.stacks.libraries import children_in, describer_in
from async_plus.stacks.names import is_future, plain, type_name
from async_plus.stacks.places import is_event_loop
from async_plus.stacks.primitives import (
    CHILDREN,
    DESCRIBERS,
    WAIT_FOR,
    Children,
    Describe,
    behind,
    describe_future,
)
from async_plus.stacks.walk import Link

__all__ = [
    "called_of_event_loop",
    "children_of",
    "describe",
    "describe_terminal",
    "describer_of",
    "describing",
    "register_children",
    "register_waiter",
    "waited_for",
]

_T = TypeVar("_T")

# By id: code objects compare by value, which is slow, and two functions may be written alike. The code is in
# the value too, so that its id cannot pass to another.
_registered: dict[int, tuple[CodeType, Describe]] = {}
_children: dict[int, tuple[CodeType, Children]] = dict(CHILDREN)


def register_waiter(func: Callable[..., Any], describe: Callable[[Mapping[str, Any]], str]) -> None:
    """Teach async_plus what a function of yours waits on.

    From then on a task parked in *func*, or in anything that it awaits, is described by *describe*:

        register_waiter(Pool.acquire, lambda variables: f"Pool.acquire of {variables['self'].name}")

    Register what waits by itself, not what runs other people's code: it would answer for that as well. Of
    several registered functions in a chain the innermost answers, or the one that waits through it directly
    (with nothing between them but frames of the standard library and async_plus). They all go before what is
    built in. Registering a function again replaces its description.

    Args:
        func: A function or method. Bound methods, class and static methods, partials and functions decorated
            with ``functools.wraps`` are unwrapped.
        describe: Called with a copy of the local variables of *func*'s frame; it must not be async. It should
            name things and never show values, because the text ends up in logs. If it fails, the text names
            *func* and says so.

    Raises:
        TypeError: *func* has no code to be known by, or *describe* is not a synchronous callable.

    .. versionadded:: 1.0
    """
    code = _code_of(func)
    if not callable(describe):
        raise TypeError(f"describe must be a callable (locals) -> str, got {type_name(describe)}")
    if inspect.iscoroutinefunction(describe):
        raise TypeError('describe must be synchronous (remove "async" before "def")')
    _registered[id(code)] = (code, describe)


def register_children(func: Callable[..., Any], children: Children) -> None:
    """Teach async_plus which futures *func* waits for when it waits for a private one in their stead.

    Args:
        func: A function or method, as for `register_waiter`.
        children: Called with a copy of the local variables of *func*'s frame; returns futures, done or not.

    .. versionadded:: 1.0
    """
    code = _code_of(func)
    _children[id(code)] = (code, children)


def _code_of(func: Any) -> CodeType:
    inner = func
    seen: set[int] = set()
    while id(inner) not in seen:
        seen.add(id(inner))
        # A decorator's function has code of its own. What is parked in the end is the function that it wraps.
        for attribute in ("__wrapped__", "__func__", "func"):
            if attribute == "__wrapped__" or not hasattr(inner, "__code__"):
                inner = getattr(inner, attribute, inner)
    code = getattr(inner, "__code__", None)
    if type(code) is not CodeType:
        given = f"the class {func.__qualname__}" if isinstance(func, type) else type_name(func)
        raise TypeError(f"func must be a function or method, got {given} (pass the method of it that waits)")
    return code


def describe(links: Sequence[Link], terminal: object) -> str:
    """Say what the chain of *links* that ends in *terminal* waits on."""
    known = describer_of(links)
    if known is not None:
        return describing(*known)
    return describe_terminal(terminal, called_of_event_loop(links))


def describer_of(links: Sequence[Link]) -> tuple[Link, Describe] | None:
    """Find the link that answers for the chain of *links*, and what describes it. It depends on their code alone."""
    return _find(links, _registered_describer, past_user_code=True) or _find(links, _describer, past_user_code=False)


def describe_terminal(terminal: object, function: str) -> str:
    """Say what *terminal* is, waited for by *function* of the event loop ("" if there is none)."""
    text = describe_future(terminal, function) if is_future(terminal) else None
    return text or function or ("something unknown" if terminal is None else type_name(terminal))


def children_of(links: Sequence[Link]) -> tuple[Link, Children] | None:
    """Find the link that knows for which futures the chain of *links* waits. It depends on their code alone."""
    return _find(links, _children_of, past_user_code=False)


def waited_for(links: Sequence[Link], terminal: object) -> list[Future[Any]]:
    """Return the futures, done or not, that the chain of *links* ending in *terminal* waits for."""
    known = children_of(links)
    if known is not None:
        link, children = known
        return list(children(link.variables()))
    return behind(terminal) if is_future(terminal) else []


def _registered_describer(code: CodeType) -> Describe | None:
    known = _registered.get(id(code))
    return None if known is None else known[1]


def _describer(code: CodeType) -> Describe | None:
    known = DESCRIBERS.get(id(code))
    return describer_in(code) if known is None else known[1]


def _children_of(code: CodeType) -> Children | None:
    known = _children.get(id(code))
    return children_in(code) if known is None else known[1]


def _find(
    links: Sequence[Link], look_up: Callable[[CodeType], _T | None], *, past_user_code: bool
) -> tuple[Link, _T] | None:
    """Find the link that answers for the chain, among those whose function *look_up* knows.

        handler -> Pool.acquire (registered) -> Pool._take -> Queue.get -> a future

    Pool._take is user code that nobody knows. A registered function answers for what is behind it, one of
    asyncio's does not: that would be like Barrier.wait answering for a user's Condition.
    """
    found: tuple[Link, _T] | None = None
    for link in reversed(links):
        entry = None if link.code is None else look_up(link.code)
        if entry is not None:
            found = link, entry
        elif link.is_user_code and (found is not None or not past_user_code):
            break
    return found


def describing(link: Link, describe: Callable[[Mapping[str, Any]], object]) -> str:
    """Have *describe* say what *link* waits on; it never raises."""
    try:
        text = describe(link.variables())
    except (Exception, CancelledError) as error:  # result() of a cancelled future raises the latter
        failure = f"raised {type_name(error)}"
    else:
        if isinstance(text, str):
            return plain(text)
        failure = f"returned {type_name(text)}"
    return f"{link.name} (its describer {failure})"


def called_of_event_loop(links: Sequence[Link]) -> str:
    """Name the public function of asyncio or uvloop that user code is parked in; "" if there is none."""
    found = ""
    for link in reversed(links):
        if link.is_user_code:
            break
        # wait_for only passes on what it is given.
        if is_event_loop(link.filename) and link.code is not WAIT_FOR:
            name = link.name
            if not name.rpartition(".")[2].startswith("_"):
                found = name
    return found
