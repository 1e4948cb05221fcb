"""What the decorators do not take: each is told what was given and what to do instead."""

from __future__ import annotations

import functools
import operator

import pytest
from tools import async_handler, closed, fail, give

import async_plus
from async_plus._coroutines import mark_coroutine_function

DECORATORS = {
    "supervised": [async_plus.supervised, async_plus.supervised(delays=[0])],
    "impatient": [async_plus.impatient(log_after=5), async_plus.impatient(log_completion="always", name="block")],
    "watched": [async_plus.watched, async_plus.watched(name="job")],
    "entry_point": [async_plus.entry_point, async_plus.entry_point(grace=5)],
}
FORMS = [(name, decorate) for name, forms in DECORATORS.items() for decorate in forms]
every_form = pytest.mark.parametrize(
    ("name", "decorate"),
    FORMS,
    ids=[
        "supervised",
        "supervised()",
        "impatient()",
        "impatient(name)",
        "watched",
        "watched()",
        "entry_point",
        "entry_point()",
    ],
)


def plain(url):
    return url


async def stream(url):
    yield url


class Feed:
    """A class full of what cannot be decorated."""

    def __init__(self, url=None):
        self.url = url

    def __call__(self):
        return self.url

    def __repr__(self):
        raise AssertionError("the text of a user's object must not be asked for")

    def method(self):
        pass

    @classmethod
    def class_method(cls):
        pass

    @staticmethod
    def static_method():
        pass

    async def stream(self):
        yield self

    @property
    async def status(self):
        pass

    partial_method = functools.partialmethod(method)
    dispatching_method = functools.singledispatchmethod(method)


@mark_coroutine_function
class MarkedFeed:
    """Its instances are coroutine functions, which does not make it one."""

    async def __call__(self):
        pass


NOT_ASYNC = '{} is a plain function (is "async" missing before "def"?)'
GENERATOR = "{} is an async generator function (decorate the coroutine function that iterates over it)"

REFUSED = {
    "function": (plain, NOT_ASYNC.format("plain")),
    "lambda": (lambda: None, NOT_ASYNC.format("<lambda>")),
    "method": (Feed().method, NOT_ASYNC.format("Feed.method")),
    "classmethod": (Feed.class_method, NOT_ASYNC.format("Feed.class_method")),
    "under-classmethod": (vars(Feed)["class_method"], NOT_ASYNC.format("Feed.class_method")),
    "under-staticmethod": (vars(Feed)["static_method"], NOT_ASYNC.format("Feed.static_method")),
    "partial": (functools.partial(plain, "secret"), NOT_ASYNC.format("plain")),
    "builtin": (print, NOT_ASYNC.format("print")),
    "async generator": (stream, GENERATOR.format("stream")),
    "async generator method": (Feed().stream, GENERATOR.format("Feed.stream")),
    "async generator partial": (functools.partial(stream, "secret"), GENERATOR.format("stream")),
    "marked class": (MarkedFeed, "MarkedFeed is a class (decorate its async methods)"),
    "class": (Feed, "Feed is a class (decorate its async methods)"),
    "partial of a class": (functools.partial(Feed), "Feed is a class (decorate its async methods)"),
    "object": (Feed("secret"), "got Feed, whose __call__ is not async"),
    "C object": (operator.attrgetter("secret"), "got attrgetter, whose __call__ is not async"),
    "property": (vars(Feed)["status"], "got property (decorate the function inside it)"),
    "partialmethod": (vars(Feed)["partial_method"], "got partialmethod (decorate the function inside it)"),
    "singledispatchmethod": (
        vars(Feed)["dispatching_method"],
        "got singledispatchmethod (decorate the function inside it)",
    ),
    "list": ([0, 1, 10], "got list (options are given by name)"),
    "number": (5, "got int 5 (options are given by name)"),
    "string": ("secret", "got str (options are given by name)"),
}


@every_form
@pytest.mark.parametrize(("fn", "what"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_coroutine_function_is_refused(name, decorate, fn, what):
    """At once, not at the first call, by name and never by the text of a user's object."""
    with pytest.raises(TypeError) as caught:
        decorate(fn)

    assert str(caught.value) == f"@{name} needs a coroutine function, but {what}"


@every_form
def test_a_coroutine_is_refused_and_closed(name, decorate):
    """The function was called where it should have been passed; no warning of a forgotten await follows."""
    coroutine = give(1)

    with pytest.raises(TypeError) as caught:
        decorate(coroutine)

    assert str(caught.value) == (
        f"@{name} needs a coroutine function, "
        "but give is a coroutine object (pass the function itself, without calling it)"
    )
    assert closed(coroutine)


@every_form
async def test_a_coroutine_that_runs_is_refused_and_left_alone(name, decorate):
    """It belongs to whoever awaits it."""

    async def run():
        with pytest.raises(TypeError):
            decorate(coroutine)
        return 1

    coroutine = run()
    assert await coroutine == 1


@async_plus.watched
async def watched(url=None):
    pass


class Service:
    @async_plus.watched
    async def method(self):
        pass

    @async_plus.watched
    @classmethod
    async def class_above(cls):
        pass

    @classmethod
    @async_plus.watched
    async def class_below(cls):
        pass

    @async_plus.watched
    @staticmethod
    async def static_above():
        pass

    @staticmethod
    @async_plus.watched
    async def static_below():
        pass

    @async_plus.watched
    async def __call__(self):
        pass

    async def plain(self):
        pass


WATCHED = {
    "function": (watched, "watched"),
    "with options": (async_plus.watched(name="job")(give), "give"),
    "over another decorator": (async_plus.watched(async_plus.supervised(give)), "give"),
    "function of a class": (Service.method, "Service.method"),
    "bound method": (Service().method, "Service.method"),
    "class method, above": (Service.class_above, "Service.class_above"),
    "class method, below": (Service.class_below, "Service.class_below"),
    "static method, above": (Service.static_above, "Service.static_above"),
    "static method, below": (Service().static_below, "Service.static_below"),
    "under @classmethod": (vars(Service)["class_below"], "Service.class_below"),
    "under @staticmethod": (vars(Service)["static_above"], "Service.static_above"),
    "partial of it": (functools.partial(watched, "secret"), "watched"),
    "partial of its method": (functools.partial(Service().method), "Service.method"),
    "partial of a partial": (functools.partial(functools.partial(Service.class_above)), "Service.class_above"),
    "over a partial": (async_plus.watched(functools.partial(give, "secret")), "give"),
    "over a bound method": (async_plus.watched(Service().plain), "Service.plain"),
    "over an object": (async_plus.watched(type("Poller", (), {"__call__": give})()), "Poller"),
    "object that is called": (Service(), "Service"),
    "partial of such an object": (functools.partial(Service()), "Service"),
}


@every_form
@pytest.mark.parametrize(("fn", "what"), WATCHED.values(), ids=WATCHED)
def test_nothing_goes_over_watched(name, decorate, fn, what):
    """A call of it returns a task, in whatever form it comes, and a task is not what the others wait for."""
    with pytest.raises(TypeError) as caught:
        decorate(fn)

    fixes = {"watched": "one is enough", "entry_point": "use one of the two"}
    fix = fixes.get(name, "make @watched the outermost decorator")
    assert str(caught.value) == f"@{name} cannot be put over @watched: calls of {what} return a task ({fix})"


ENTRY_POINTS = {
    "function": (async_plus.entry_point(give), "give"),
    "bound method": (type("App", (), {"main": async_plus.entry_point(give)})().main, "give"),
    "partial of it": (functools.partial(async_plus.entry_point(give), "secret"), "give"),
}


@every_form
@pytest.mark.parametrize(("fn", "what"), ENTRY_POINTS.values(), ids=ENTRY_POINTS)
def test_nothing_goes_over_an_entry_point(name, decorate, fn, what):
    """A call of it runs a loop, and could not be awaited."""
    with pytest.raises(TypeError) as caught:
        decorate(fn)

    fixes = {"entry_point": "one is enough", "watched": "use one of the two"}
    fix = fixes.get(name, "make @entry_point the outermost decorator")
    does = f"calls of {what} run an event loop of their own"
    assert str(caught.value) == f"@{name} cannot be put over @entry_point: {does} ({fix})"


@pytest.mark.parametrize("name", ["supervised", "impatient"])
async def test_what_waits_for_a_watched_task_can_be_decorated(name):
    """A coroutine function that launches and awaits is one like any other, though it bears the other's name."""

    @functools.wraps(watched)
    async def wait():
        return await watched()

    for decorate in DECORATORS[name]:
        assert await decorate(wait)() is None


def test_a_refused_function_is_left_as_it_was():
    """No mark or attribute stays on it."""
    before = dict(vars(plain))

    for _, decorate in FORMS:
        with pytest.raises(TypeError):
            decorate(plain)

    assert vars(plain) == before


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"on_exception": async_handler}, "async_handler"),
        ({"on_exception": functools.partial(async_handler)}, "async_handler"),
        ({"on_exception": async_plus.supervised(async_handler)}, "async_handler"),
        ({"name": 5}, "^name must be a string, got int 5$"),
    ],
    ids=["function", "partial", "supervised", "name"],
)
def test_a_wrong_option_of_watched_is_refused_before_anything_is_decorated(options, error):
    """An async handler would never run: it is refused where it is given, not when the first task fails."""
    with pytest.raises(TypeError, match=error):
        async_plus.watched(**options)


def test_a_watched_handler_is_fine():
    """It is called like a plain function, and launches a task: that is how a handler does something async."""
    assert async_plus.watched(on_exception=async_plus.watched(fail))(give).__wrapped__ is give
