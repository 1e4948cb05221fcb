"""Places in code, and whose code it is."""

from __future__ import annotations

import asyncio
import functools
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import CodeType

__all__ = ["Place", "is_internal", "is_user_code"]


def _folder(path: str) -> str:
    return os.path.join(os.path.dirname(path), "")


_ASYNCIO = _folder(asyncio.__file__)
# asyncio's parent rather than sysconfig's answer: sysconfig is slow to import, and this one is right in a
# zipped or bundled standard library too.
_STDLIB = _folder(os.path.dirname(asyncio.__file__))
_ASYNC_PLUS = _folder(os.path.dirname(__file__))
_INSTALLED = tuple(os.path.join(_STDLIB, folder, "") for folder in ("site-packages", "dist-packages"))
# uvloop is an event loop as asyncio's own is; Cython compiled this relative path into its code objects.
_LOOPS = (_ASYNCIO, "uvloop/")


@functools.lru_cache(maxsize=4096)
def is_internal(filename: str) -> bool:
    """Tell whether *filename* (a ``co_filename``) belongs to the event loop or to async_plus.

    .. versionadded:: 1.0
    """
    return filename.startswith((*_LOOPS, _ASYNC_PLUS))


@functools.lru_cache(maxsize=4096)
def is_event_loop(filename: str) -> bool:
    """Tell whether *filename* belongs to asyncio or uvloop.

    .. versionadded:: 1.0
    """
    return filename.startswith(_LOOPS)


@functools.lru_cache(maxsize=4096)
def is_user_code(filename: str) -> bool:
    """Tell whether *filename* (a ``co_filename``) is outside the standard library, uvloop and async_plus.

    Installed packages are user code. So is code without a file, like ``<string>`` or ``<stdin>``, save the
    modules frozen into the interpreter.

    .. versionadded:: 1.0
    """
    if filename.startswith(_INSTALLED):
        # async_plus itself is usually installed, next to the user's other packages.
        return not filename.startswith(_ASYNC_PLUS)
    return not (is_internal(filename) or filename.startswith((_STDLIB, "<frozen ")))


@dataclass(frozen=True, slots=True)
class Place:
    """A line of code, shown as ``/app/pool.py:88 in acquire``.

    .. versionadded:: 1.0
    """

    filename: str
    lineno: int
    function: str

    @classmethod
    def from_code(cls, code: CodeType, lasti: int = -1) -> Place:
        """Find the line of one instruction; nothing is read from disk.

        Args:
            code: The code object.
            lasti: Offset of the instruction in bytes, as in ``frame.f_lasti``. Negative: its first line.
        """
        lineno = code.co_firstlineno
        for start, _, line in code.co_lines():
            if start > lasti:
                break
            # Instructions that the compiler made up have no line; they belong to the one before.
            if line is not None:
                lineno = line
        return cls(code.co_filename, lineno, code.co_name)

    def __str__(self) -> str:
        return f"{self.filename}:{self.lineno} in {self.function}"
