"""The wrapper that all decorators share. This is the only module that knows wrapt."""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable, Coroutine, Iterator
from types import CodeType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar, cast

import wrapt

from async_plus._coroutines import (
    close_unstarted,
    function_name,
    is_coroutine_function,
    mark_coroutine_function,
    unmark_coroutine_function,
    what_else,
)

__all__ = ["AsyncFunction", "CoroutineFunction", "Decorator", "Keeps", "Kept", "PlainFunction"]

_Coroutine: TypeAlias = Coroutine[Any, Any, Any]
AsyncFunction: TypeAlias = Callable[..., _Coroutine]

# What remains a coroutine function keeps its type as it is, with its overloads and type variables.
Kept = TypeVar(
    "Kept",
    # In quotes: these two take no type arguments at run time.
    bound="AsyncFunction | classmethod[Any, ..., _Coroutine] | staticmethod[..., _Coroutine]",
)


class Keeps(Protocol):
    """A decorator that gives back the type it was given."""

    def __call__(self, fn: Kept, /) -> Kept: ...


if TYPE_CHECKING:
    _Base = wrapt.FunctionWrapper[..., Any]
else:
    _Base = wrapt.FunctionWrapper


class _Annotations:
    """Those of what is wrapped.

    wrapt shows these as well, but only until somebody asks the class: each class then makes up empty ones of its own,
    which its instances show from then on.
    """

    def __get__(self, face: CoroutineFunction | None, owner: type | None = None) -> dict[str, Any]:
        return {} if face is None else face.__wrapped__.__annotations__

    def __set__(self, face: CoroutineFunction, value: dict[str, Any]) -> None:
        face.__wrapped__.__annotations__ = value


# Any, because to type checkers the __dict__ of an object is a dict and nothing else.
_attributes: Any = property(lambda face: (face._self_method or face.__wrapped__).__dict__)


class CoroutineFunction(_Base):
    """The face of a coroutine function around a call of ours.

    wrapt keeps everything that can be asked of the function. The call itself goes straight to a closure, at a third of
    the cost of wrapt's own dispatch, and binds as a plain method.
    """

    # Python looks for it on the type, and finds a slot there, which hands out the closure: so a call of the face is
    # a call of the closure, without a frame between them and without another tuple and dict of the arguments.
    #
    # The other slot holds the closure as well, if what is wrapped is a plain function, maybe under other decorators of
    # ours. It is then what a method binds, and the home of whatever users set on the decorated function.
    __slots__ = ("__call__", "_self_method")

    __annotations__ = _Annotations()  # pyright: ignore[reportAssignmentType]  # its values are right

    # What the class has, its instances show as the function's own: so there is no annotation here, no subscript above.
    _self_decorator = cast("Decorator", None)

    def __init__(self, wrapped: Callable[..., Any], wrapper: Callable[..., Any]) -> None:
        # Not as attributes, which would be set on what is wrapped.
        _call.__set__(self, wrapper)
        _method.__set__(self, None)
        super().__init__(wrapped, wrapper)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        method = _method_of(self)
        if method is not None:
            return self if instance is None else MethodType(method, instance)
        # Another library's wrapper, or a function made by Cython, binds in its own way. Most objects do not.
        wrapped = self.__wrapped__
        bind = getattr(type(wrapped), "__get__", None)
        bound = wrapped if bind is None else bind(wrapped, instance, owner)
        return self if bound is wrapped else self._self_decorator(bound)

    # What is set on a decorated function is its own, so that two decorated forms of one function can differ, and is
    # shared with its bound methods, where pytest looks for marks:
    #
    #     @pytest.mark.slow
    #     @impatient(log_after=5)
    #     async def test_fetch(self): ...
    #
    # An object with an async __call__ stays in sight with all its state.

    __dict__ = _attributes

    def __getattr__(self, name: str) -> Any:
        method = cast("Any", self._self_method)
        if method is not None and name in method.__dict__:
            return method.__dict__[name]
        return super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        method = self._self_method
        if method is None or name.startswith("_self_"):
            super().__setattr__(name, value)
        elif name not in FunctionType.__dict__:
            setattr(method, name, value)
        else:
            # The likes of __name__ are out of our reach: wrapt shows those of what it wraps.
            super().__setattr__(name, value)
            if name in functools.WRAPPER_ASSIGNMENTS:
                setattr(method, name, value)

    def __delattr__(self, name: str) -> None:
        method = self._self_method
        if method is None or name in FunctionType.__dict__:
            super().__delattr__(name)
        else:
            delattr(method, name)

    def __dir__(self) -> list[str]:
        return dir(self._self_method or self.__wrapped__)

    def __repr__(self) -> str:
        # Never the text of what is wrapped: that of a partial shows its arguments.
        return f"<@{self._self_decorator.name} {self._self_wrapper.__qualname__} at {id(self):#x}>"

    __str__ = __repr__
    __format__ = object.__format__

    def __reduce__(self) -> str:
        # By its name, as functions are.
        name = getattr(self.__wrapped__, "__qualname__", None)
        if not isinstance(name, str):
            # Whoever pickles has it; who does not would wait for it at every start.
            import pickle

            raise pickle.PicklingError(f"a decorated {self.__class__.__name__} has no name to pickle it by")
        return name

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: object) -> Any:
        return self


mark_coroutine_function(CoroutineFunction)

_call: Any = vars(CoroutineFunction)["__call__"]
_method: Any = vars(CoroutineFunction)["_self_method"]
# At half the price of the attribute, on the way of each call of a method.
_method_of: Callable[..., Callable[..., Any] | None] = _method.__get__


class PlainFunction(CoroutineFunction):
    """The face of a plain function: what it wraps is a coroutine function, but calling it returns no coroutine."""

    __slots__ = ()

    __annotations__ = _Annotations()
    __dict__ = _attributes

    # The marks of coroutine functions, of the class above and of what is wrapped.
    _is_coroutine = _is_coroutine_marker = None

    @property
    def __code__(self) -> CodeType:
        code: CodeType = self.__wrapped__.__code__
        return code.replace(co_flags=code.co_flags & ~inspect.CO_COROUTINE)

    @property
    def __func__(self) -> Any:
        # inspect looks through the bound method that it seems to be...
        method: Any = self.__wrapped__
        return self._face_of(method.__func__)

    @property
    def func(self) -> Any:
        # ... and through the partial.
        partial: Any = self.__wrapped__
        return self._face_of(partial.func) if isinstance(partial, functools.partial) else partial.func

    def _face_of(self, inner: Any) -> PlainFunction:
        face = PlainFunction(inner, self._self_wrapper)
        face._self_decorator = self._self_decorator
        return face


class Decorator:
    """Wraps a coroutine function in a *face*, around the closure that *make* returns for it and its name."""

    __slots__ = ("_face", "_make", "name")

    def __init__(
        self,
        name: str,
        make: Callable[[AsyncFunction, str], Callable[..., Any]],
        face: type[CoroutineFunction] = CoroutineFunction,
    ) -> None:
        self.name = name
        self._make = make
        self._face = face

    def __call__(self, fn: Any) -> Any:
        if issubclass(type(fn), (classmethod, staticmethod)):
            return type(fn)(self(fn.__func__))
        name = function_name(_check_coroutine_function(fn, self.name))
        call = self._make(fn, name)
        plain = type(fn) is FunctionType or (issubclass(type(fn), CoroutineFunction) and fn._self_method is not None)
        if plain:
            functools.update_wrapper(call, fn)
            unmark_coroutine_function(call)
        else:
            call.__name__, call.__qualname__ = name.rpartition(".")[2], name
        if self._face is PlainFunction:
            _plain[call] = self.name
        face = self._face(fn, call)
        face._self_decorator = self
        if plain:
            face._self_method = call
        return face


# Any, because pyright would otherwise know of no type for what they bind.
_BINDING: Any = (classmethod, staticmethod, MethodType)


def _layers(fn: Any) -> Iterator[Any]:
    """Yield *fn* and what it stands on: the function in a bound or class method, a partial, a decorator of ours."""
    while True:
        yield fn
        if issubclass(type(fn), CoroutineFunction):
            fn = fn.__wrapped__
        elif isinstance(fn, _BINDING):
            fn = fn.__func__
        elif isinstance(fn, functools.partial):
            fn = fn.func
        else:
            return


def _check_coroutine_function(fn: Any, decorator: str) -> Any:
    """Return the function or object that *fn* comes down to.

    Raises:
        TypeError: It is no coroutine function, or none any more, so that *decorator* cannot wrap it.
    """
    layers = list(_layers(fn))
    target = layers[-1]
    is_object = callable(target) and not isinstance(target, type)
    if is_object:
        # Down to the function in its __call__: that of a function leads nowhere.
        layers.extend(_layers(type(target).__call__))
    for below in filter(None, map(_plain_decorator, layers)):
        fix = f"make @{below} the outermost decorator"
        if decorator in _RETURNS:
            fix = "one is enough" if decorator == below else "use one of the two"
        calls = f"calls of {function_name(target)} {_RETURNS[below]}"
        raise TypeError(f"@{decorator} cannot be put over @{below}: {calls} ({fix})")
    if is_object and any(map(is_coroutine_function, (target, layers[-1]))):
        return target
    close_unstarted(fn)
    raise TypeError(f"@{decorator} needs a coroutine function, but {what_else(target)}")


# The closures of decorators that leave no coroutine function, and their names: bound methods show nothing else.
_plain: weakref.WeakKeyDictionary[Callable[..., Any], str] = weakref.WeakKeyDictionary()
_RETURNS = {"watched": "return a task", "entry_point": "run an event loop of their own"}


def _plain_decorator(layer: Any) -> str | None:
    """Name the decorator that made a plain function of *layer*, if one did."""
    if issubclass(type(layer), PlainFunction):
        return layer._self_decorator.name  # type: ignore[no-any-return]  # a Decorator's
    return _plain.get(layer) if type(layer) is FunctionType else None
