"""What users decorate for real: endpoints, handlers, tests, mocks, and functions that cross to another process."""

from __future__ import annotations

import asyncio
import functools
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from typing import Annotated
from unittest import mock

import aiohttp
import fastapi
import httpx
import pytest
import starlette.applications
import starlette.background
import starlette.exceptions
import starlette.responses
import starlette.routing
from aiohttp import web
from decorated import PICKLABLE, PREDICATES, Service, entry_point_function, few_keeping_decorators, run
from pydantic import BaseModel

import async_plus


def ask(app):
    """Return a client whose requests go to *app* in this very task."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app")


class Item(BaseModel):
    name: str


class Endpoints:
    """What `routes_of` serves, with names and annotations that FastAPI must find."""

    def __init__(self, decorate=lambda fn: fn):
        self.search = decorate(search)
        self.partial = decorate(functools.partial(search, size=2))
        self.bound = decorate(self.create)
        self.depending = decorate(depending_on(decorate(current_user)))

    async def create(self, item: Item, prefix: str = "") -> dict[str, str]:
        """Create it."""
        return {"created": prefix + item.name}


async def search(word: str, size: int = 1) -> list[str]:
    """Search for it."""
    return [word] * size


async def current_user(name: Annotated[str, fastapi.Header()]) -> str:
    return name.title()


def depending_on(dependency):
    async def greet(user=fastapi.Depends(dependency)):  # noqa: B008  # it is how FastAPI is told
        return f"Hello {user}"

    return greet


class TestFastAPI:
    @staticmethod
    def app(endpoints):
        app = fastapi.FastAPI()
        app.get("/search/{word}")(endpoints.search)
        app.get("/partial/{word}")(endpoints.partial)
        app.post("/items")(endpoints.bound)
        app.get("/greet")(endpoints.depending)
        return app

    @few_keeping_decorators
    async def test_endpoints_and_dependencies_get_their_parameters(self, decorate):
        """From the path, the query, the body and headers, by annotations that are only text in this file."""
        async with ask(self.app(Endpoints(decorate))) as client:
            found = await client.get("/search/a?size=3")
            partial = await client.get("/partial/a")
            created = await client.post("/items?prefix=x", json={"name": "y"})
            greeted = await client.get("/greet", headers={"name": "ada"})
            refused = await client.get("/search/a?size=many")

        assert found.json() == ["a", "a", "a"]
        assert partial.json() == ["a", "a"]
        assert created.json() == {"created": "xy"}
        assert greeted.json() == "Hello Ada"
        assert refused.status_code == 422

    @few_keeping_decorators
    def test_the_description_of_the_interface_is_the_same(self, decorate):
        """Names, docs and types, as without the decorator."""
        schemas = [self.app(endpoints).openapi() for endpoints in (Endpoints(decorate), Endpoints())]

        assert schemas[0] == schemas[1]
        assert schemas[0]["paths"]["/items"]["post"]["description"] == "Create it."

    async def test_an_endpoint_is_restarted_and_launches_tasks(self, caplog):
        """All three decorators at work in one request."""
        saved = asyncio.Event()
        app = fastapi.FastAPI()
        tries = iter([OSError, None])

        @async_plus.watched
        async def save(word):
            saved.set()

        @app.get("/")
        @async_plus.supervised(delays=[0], on=OSError)
        @async_plus.impatient(log_after=5)
        async def endpoint(word: str):
            if error := next(tries):
                raise error
            save(word)
            return word

        async with ask(app) as client:
            answer = await client.get("/?word=a")
        await saved.wait()

        assert answer.json() == "a"
        [record] = caplog.records
        assert record.async_plus_event == "AttemptFailed"
        assert record.async_plus_service.endswith("endpoint")

    async def test_an_error_that_is_no_reason_to_restart_becomes_its_answer(self):
        """HTTPException and the like pass through untouched."""
        app = fastapi.FastAPI()

        @app.get("/")
        @async_plus.supervised(on=OSError)
        async def endpoint():
            raise fastapi.HTTPException(418, "teapot")

        async with ask(app) as client:
            answer = await client.get("/")

        assert (answer.status_code, answer.json()) == (418, {"detail": "teapot"})


class TestStarlette:
    @few_keeping_decorators
    async def test_endpoints_handlers_and_background_tasks_are_awaited(self, decorate):
        """Starlette asks whether each is a coroutine function; if not, it would run in a thread."""
        done = asyncio.Event()

        async def finish():
            done.set()

        class Pages:
            @decorate
            async def page(self, request):
                background = starlette.background.BackgroundTask(decorate(finish))
                return starlette.responses.PlainTextResponse("page", background=background)

            @decorate
            @classmethod
            async def crash(cls, request):
                raise starlette.exceptions.HTTPException(418)

        @decorate
        async def handle(request, exc):
            return starlette.responses.PlainTextResponse("handled", exc.status_code)

        @decorate
        async def greet(greeting, request):
            return starlette.responses.PlainTextResponse(greeting)

        app = starlette.applications.Starlette(
            routes=[
                starlette.routing.Route("/page", Pages().page),
                starlette.routing.Route("/partial", functools.partial(greet, "Hello")),
                starlette.routing.Route("/over-partial", decorate(functools.partial(greet, "Hello"))),
            ],
            exception_handlers={404: handle},
        )
        async with ask(app) as client:
            answers = [await client.get(path) for path in ("/page", "/partial", "/over-partial", "/nowhere")]

        assert [answer.text for answer in answers] == ["page", "Hello", "Hello", "handled"]
        assert done.is_set()
        assert app.routes[0].name == "page"


class TestAiohttp:
    @staticmethod
    async def fetch_all(app, *paths):
        """Serve *app* on the loopback interface, and return what it answers."""
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0]
            async with aiohttp.ClientSession(f"http://{host}:{port}") as session:
                texts = []
                for path in paths:
                    async with session.get(path) as answer:
                        texts.append(await answer.text())
                return texts
        finally:
            await runner.cleanup()

    @few_keeping_decorators
    async def test_handlers_middlewares_and_views_work_on_a_real_server(self, decorate):
        """aiohttp warns of handlers that are no coroutine functions; here a warning is an error."""

        class Handlers:
            @decorate
            async def method(self, request):
                return web.Response(text="method")

            @classmethod
            @decorate
            async def class_method(cls, request):
                return web.Response(text=cls.__name__)

            @decorate
            @staticmethod
            async def static_method(request):
                return web.Response(text="static")

        class View(web.View):
            @decorate
            async def get(self):
                return web.Response(text=f"view of {self.request.path}")

        @decorate
        async def function(request):
            return web.Response(text="function")

        @web.middleware
        @decorate
        async def shout(request, handler):
            answer = await handler(request)
            answer.text = answer.text.upper()
            return answer

        app = web.Application(middlewares=[shout])
        handlers = Handlers()
        app.router.add_get("/function", function)
        app.router.add_get("/partial", decorate(functools.partial(function)))
        app.router.add_get("/method", handlers.method)
        app.router.add_get("/bound", decorate(handlers.method))
        app.router.add_get("/class", handlers.class_method)
        app.router.add_get("/static", handlers.static_method)
        app.router.add_view("/view", View)

        paths = ["/function", "/partial", "/method", "/bound", "/class", "/static", "/view"]
        texts = await self.fetch_all(app, *paths)
        assert texts == ["FUNCTION", "FUNCTION", "METHOD", "METHOD", "HANDLERS", "STATIC", "VIEW OF /VIEW"]


class TestPytestAsyncio:
    @pytest.mark.parametrize("mode", ["auto", "strict"])
    def test_tests_and_fixtures_can_be_decorated(self, pytester, mode):
        """They get their fixtures and parameters, keep their marks, and run on the loop."""
        pytester.makeini(
            f"[pytest]\nasyncio_mode = {mode}\nasyncio_default_fixture_loop_scope = function\n"
            "addopts = --strict-markers -p no:cacheprovider\nfilterwarnings = error\nmarkers = slow\n"
        )
        pytester.makepyfile(
            """
            import asyncio
            import async_plus
            import pytest
            import pytest_asyncio

            patiently = async_plus.impatient(log_after=5)

            @pytest_asyncio.fixture
            @patiently
            async def number():
                return asyncio.get_running_loop() and 1

            @pytest.mark.asyncio
            @pytest.mark.slow
            @async_plus.supervised(on=OSError)
            async def test_function(number):
                assert asyncio.get_running_loop() and number == 1

            @patiently
            @pytest.mark.asyncio
            @pytest.mark.slow
            @pytest.mark.parametrize("factor", [2, 3])
            async def test_marks_below(number, factor):
                assert number * factor == factor

            class TestMethods:
                @pytest.mark.asyncio
                @pytest.mark.slow
                @pytest.mark.parametrize("factor", [2, 3])
                @patiently
                async def test_marks_above(self, number, factor):
                    assert number * factor == factor

                @async_plus.supervised(on=OSError)
                @pytest.mark.asyncio
                @pytest.mark.slow
                async def test_failure(self, number):
                    assert number == 2

            @pytest.mark.asyncio
            @patiently
            async def test_not_slow():
                pass
            """
        )
        result = pytester.runpytest_inprocess("-m", "slow", "-v")

        result.assert_outcomes(passed=5, failed=1, deselected=1)
        result.stdout.fnmatch_lines(["*::TestMethods::test_failure FAILED*", "E * assert 1 == 2"])


def is_coroutine_double(double):
    """What asyncio says of a mock, where it is still asked: before 3.13 those of functions bear only its mark."""
    return PREDICATES[-1](double)


class TestMocks:
    @few_keeping_decorators
    async def test_a_mock_of_a_coroutine_function_is_one(self, decorate):
        """`create_autospec` and `patch` see what it is, and check its parameters."""

        async def fetch(url, *, size=1):
            return url

        for double in (mock.create_autospec(decorate(fetch), return_value=1), mock.AsyncMock(decorate(fetch))):
            double.return_value = 1
            assert is_coroutine_double(double)
            assert await double("a", size=2) == 1
            double.assert_awaited_once_with("a", size=2)
        with pytest.raises(TypeError, match="unexpected keyword argument 'length'"):
            await mock.create_autospec(decorate(fetch))("a", length=2)

    def test_a_mock_of_a_watched_function_is_none(self):
        """Its calls return what they return at once."""

        async def fetch(url):
            return url

        double = mock.create_autospec(async_plus.watched(fetch), return_value=1)

        assert not is_coroutine_double(double)
        assert double("a") == 1

    async def test_a_mock_of_a_class_has_methods_of_both_kinds(self):
        """And they know their parameters without self."""
        double = mock.create_autospec(Service, instance=True)
        double.supervised_method.return_value = 1
        double.static_method.return_value = 2
        double.watched_method.return_value = 3

        assert await double.supervised_method("a") == 1
        assert await double.static_method("a") == 2
        assert double.watched_method("a") == 3
        with pytest.raises(TypeError, match="too many positional arguments"):
            double.watched_method("a", "b")

    async def test_a_decorated_method_can_be_patched(self):
        """And is itself again afterwards."""
        before = Service.__dict__["supervised_method"]

        with mock.patch.object(Service, "supervised_method", autospec=True, return_value=1) as double:
            service = Service()
            assert await service.supervised_method("a") == 1
            double.assert_awaited_once_with(service, "a")

        assert Service.__dict__["supervised_method"] is before

    def test_an_attribute_of_a_decorated_function_can_be_patched(self, monkeypatch):
        """One it has, and one it has not."""

        async def fetch():
            pass

        fetch.label = "fetch"
        face = async_plus.supervised(fetch)
        with mock.patch.object(face, "label", "patched"), mock.patch.object(face, "added", 1, create=True):
            assert (face.label, face.added) == ("patched", 1)

        assert (face.label, fetch.label, hasattr(face, "added")) == ("fetch", "fetch", False)


class TestProcesses:
    @pytest.fixture(scope="class")
    @staticmethod
    def pool():
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            yield pool

    @pytest.mark.parametrize("fn", PICKLABLE, ids=lambda fn: fn.__qualname__)
    def test_a_decorated_function_runs_in_another_process(self, pool, fn):
        """It goes there by its name, and is decorated there as it is here."""
        is_method = fn in (Service.supervised_method, Service.watched_method)

        call = [fn] if fn is entry_point_function else [run, fn]

        kind, url = pool.submit(*call, *[Service()] * is_method, "a").result(timeout=60)

        assert (kind, url) == ("method" if is_method else fn.__name__.rpartition("_")[0], "a")

    def test_bound_methods_run_in_another_process(self, pool):
        """With their object or class."""
        assert pool.submit(run, Service().supervised_method, "a").result(timeout=60) == ("method", "a")
        assert pool.submit(run, Service().watched_method, "a").result(timeout=60) == ("method", "a")
        assert pool.submit(run, Service.class_method, "a").result(timeout=60) == ("Service", "a")
