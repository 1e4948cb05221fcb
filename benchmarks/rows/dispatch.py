"""What it costs to go through one of our decorators, whatever it does, against wrapt's own way."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeAlias

import wrapt

# Below the decorators, none of which does nothing.
from async_plus.decorators.wrapper import Decorator
from benchmarks.measure import Contest, Ratio, Side, added
from benchmarks.rows.workloads import Case, Sizes, cases

__all__ = ["contests"]

_FUNCTION = Ratio("dispatch / wrapt.decorator, function, added", 0.55, ("ours", "wrapt", "bare"), added)
_METHOD = Ratio("dispatch / wrapt.decorator, method, added", 0.6, ("ours", "wrapt", "bare"), added)

_Function: TypeAlias = Callable[..., Coroutine[Any, Any, None]]
_Decorator: TypeAlias = Callable[[_Function], _Function]


def _ours(fn: _Function) -> _Function:
    def make(fn: _Function, _: str) -> _Function:
        async def call(*args: Any, **kwargs: Any) -> None:
            return await fn(*args, **kwargs)

        return call

    decorated: _Function = Decorator("nothing", make)(fn)
    return decorated


def _wrapts(fn: _Function) -> _Function:
    async def call(wrapped: _Function, instance: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        return await wrapped(*args, **kwargs)

    decorated: _Function = wrapt.decorator(call)(fn)
    return decorated


def _bare(fn: _Function) -> _Function:
    return fn


_DECORATORS: dict[str, _Decorator] = {"ours": _ours, "wrapt": _wrapts, "bare": _bare}


def contests(sizes: Sizes) -> Iterator[Contest]:
    """Yield two contests for each size and workload: of a function and of a method."""
    for case in cases(sizes, "calls", budgeted=True):
        functions = {name: _function(decorate, case) for name, decorate in _DECORATORS.items()}
        yield Contest(
            case.title,
            functions,
            (_FUNCTION,),
            case.often,
            group="Calling a decorated function",
            limit="bare",
            count=case.count,
        )
        methods = {name: _method(decorate, case) for name, decorate in _DECORATORS.items()}
        yield Contest(
            case.title,
            methods,
            (_METHOD,),
            case.often,
            group="Calling a decorated method",
            limit="bare",
            count=case.count,
        )


def _function(decorate: _Decorator, case: Case) -> Side:
    @decorate
    async def function(number: int) -> None:
        await case.work()

    async def calls() -> None:
        for number in range(case.count):
            await function(number)

    return calls


def _method(decorate: _Decorator, case: Case) -> Side:
    class Thing:
        @decorate
        async def method(self, number: int) -> None:
            await case.work()

    async def calls() -> None:
        thing: Any = Thing()
        for number in range(case.count):
            await thing.method(number)

    return calls
