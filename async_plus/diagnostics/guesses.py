"""Who may hold a lock of which nobody is in the block.

    await lock.acquire()                # all that is left of it in the frame is that it knows the lock
    await reply

And while a frame runs, nobody can see in which blocks it is:

    async with lock:
        parse(reply)                    # running
"""

from __future__ import annotations

import dis
import gc
import inspect
import sys
from collections.abc import Iterable, Iterator
from itertools import pairwise
from types import CellType, CodeType, FrameType
from typing import Any

from async_plus.stacks.names import type_of
from async_plus.stacks.places import is_internal
from async_plus.stacks.walk import frame_of

__all__ = ["has_taken", "held_while_running", "within_reach"]

_ATTRIBUTES = frozenset({"LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR"})

_CALLS = ("acquire", "release")

# Of types that are no built-in ones.
_HEAP_TYPE = 1 << 9

# What is made of them may be huge, and is no object that has a lock for an attribute.
_CONTAINERS = (dict, list, set, frozenset, tuple, str, bytes, type)


def has_taken(code: CodeType, lasti: int) -> bool:
    """Tell whether, line by line, *code* has come past an ``acquire()`` by *lasti*, and past no ``release()`` since."""
    if "acquire" not in code.co_names:
        return False
    calls = [
        instruction.argval
        for instruction in dis.get_instructions(code)
        if instruction.opname in _ATTRIBUTES and instruction.argval in _CALLS and instruction.offset <= lasti
    ]
    return calls[-1:] == ["acquire"]


def within_reach(owner: object) -> set[int]:
    """Return the ids of what the parked frame of *owner* knows by its variables, their attributes, and its globals."""
    frame = frame_of(owner)
    if frame is None:
        return set()
    # Only the garbage collector is asked, as in blocks.py.
    return set(_known(gc.get_referents(owner), frame))


def _known(variables: Iterable[object], frame: FrameType) -> Iterator[int]:
    # By the dict's own method, since what exec() was given for globals may be of the user's own kind.
    for thing in (*variables, *(dict[str, object].get(frame.f_globals, name) for name in frame.f_code.co_names)):
        yield id(thing)
        inner: list[Any] = gc.get_referents(thing) if type_of(thing) is CellType else [thing]
        for known in inner:
            yield id(known)
            kind = type_of(known)
            if kind.__flags__ & _HEAP_TYPE and not issubclass(kind, _CONTAINERS):
                yield from _attributes(known)


def _attributes(thing: object) -> Iterator[int]:
    for attribute in gc.get_referents(thing):
        yield id(attribute)
        # The attributes of an object are either among what it refers to, or in a dict that is.
        if type_of(attribute) is dict:
            values: Any = attribute
            yield from map(id, values.values())


if sys.version_info >= (3, 13):  # pragma: >=3.13 cover

    def held_while_running(frame: FrameType) -> set[int]:
        """Return the ids of what may be a lock that the running *frame* holds, or one that it has called."""
        found: set[int] = set()
        call: FrameType | None
        # No variable may be left with our own frame in it, which would be a reference cycle.
        for call in (sys._getframe(), *sys._current_frames().values()):
            found.clear()
            while call is not None and call is not frame:
                _note(call, found)
                call = call.f_back
            if call is not None:
                _note(call, found)
                return found
        return set()

    def _note(frame: FrameType, found: set[int]) -> None:
        code = frame.f_code
        # The variables of a module or a class are a namespace of the user's. We ourselves know every lock by now.
        if not code.co_flags & inspect.CO_OPTIMIZED or is_internal(code.co_filename):
            return
        if has_taken(code, frame.f_lasti) or _is_in_block(code, frame.f_lasti):
            found.update(_known(frame.f_locals.values(), frame))

    def _is_in_block(code: CodeType, lasti: int) -> bool:
        # What is raised in a block goes to the block's exit, perhaps by way of other handlers in it.
        bytecode = dis.Bytecode(code)
        handlers: Any = getattr(bytecode, "exception_entries", ())
        exits = {first.offset for first, second in pairwise(bytecode) if second.opname == "WITH_EXCEPT_START"}
        seen: set[int] = set()
        target: int | None = lasti
        while target is not None and target not in seen:
            seen.add(target)
            target = next((entry.target for entry in handlers if entry.start <= target < entry.end), None)
        return not seen.isdisjoint(exits)

else:  # pragma: <3.13 cover

    def held_while_running(frame: FrameType) -> set[int]:
        """Return nothing: here, to look at the variables of a frame that runs changes them for a debugger."""
        return set()
