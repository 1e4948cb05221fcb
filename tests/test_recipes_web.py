"""The recipes that serve HTTP: what they answer, and that a stop under load loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import sys
from collections import Counter
from dataclasses import dataclass, field
from types import SimpleNamespace

import aiohttp
import httpx
import pytest
from aiohttp.test_utils import TestClient, TestServer
from programs import load
from runs import TERM

# The loop is the recipe's own in these tests; here are only its clients.
clients_only = pytest.mark.asyncio(loop_factories=["default"])

JSON = {"currency": "USD", "amount": 3}
PATHS = {"web_service": "/orders", "asgi_lifespan": "/quotes"}

# Here, and not in the tests: much of what they import cannot be imported while the clocks are frozen.
MODULES = {name: load(name) for name in PATHS}

both = pytest.mark.parametrize("recipe", PATHS)


@dataclass
class Answers:
    """What became of the requests of many clients."""

    outcomes: Counter[str] = field(default_factory=Counter)
    bodies: list[str] = field(default_factory=list)


async def ask_until_refused(url: str, answers: Answers, *, keep_alive: bool) -> None:
    """Ask again and again, until a connection is refused. (A POST is never sent a second time by the client itself.)"""
    connector = aiohttp.TCPConnector(force_close=not keep_alive)
    async with aiohttp.ClientSession(connector=connector) as session:
        while True:
            try:
                async with session.post(url, json=JSON) as response:
                    answers.bodies.append(await response.text())
                    answers.outcomes[str(response.status)] += 1
            except aiohttp.ClientConnectorError as exc:
                answers.outcomes[type(exc.os_error).__name__] += 1
                return
            except aiohttp.ClientError as exc:
                answers.outcomes[f"lost by {exc!r}"] += 1
                return


def started(start_recipe, recipe, journal, *, linger):
    options = ["--journal", str(journal)] if recipe == "web_service" else []
    program = start_recipe(f"{recipe}.py", "--port", "0", "--linger", linger, *options)
    return program, program.wait_for(r"listening on (http://\S+:\d+)")[1]


async def until_ready(session: aiohttp.ClientSession, url: str) -> None:
    while True:
        async with session.get(f"{url}/readyz") as response:
            if response.status == 200:
                return
        await asyncio.sleep(0.01)


async def until_refused(url: str) -> None:
    """Look again and again whether a connection is taken, without a request."""
    host, port = url.removeprefix("http://").split(":")
    with contextlib.suppress(ConnectionRefusedError):
        while True:
            _, writer = await asyncio.open_connection(host, int(port))
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@clients_only
@both
async def test_no_request_is_lost_when_a_stop_comes_under_load(start_recipe, tmp_path, recipe):
    """Of many clients in parallel each gets all its answers, and is then refused; nothing is written unanswered."""
    journal = tmp_path / "orders.jsonl"
    program, url = started(start_recipe, recipe, journal, linger="0.3")
    async with aiohttp.ClientSession() as session:
        await until_ready(session, url)
    answers = Answers()

    async with asyncio.TaskGroup() as group:
        for number in range(16):
            group.create_task(ask_until_refused(url + PATHS[recipe], answers, keep_alive=number % 2 == 0))
        while len(answers.bodies) < 200:
            await asyncio.sleep(0.01)
        program.signalled(TERM)

    answered = answers.outcomes.pop("201")
    assert answers.outcomes == {"ConnectionRefusedError": 16}
    assert answered == len(answers.bodies) >= 200
    code, lines = await asyncio.to_thread(program.end)
    assert (code, lines[-1]) == (0, "stopped in order: 0 tasks left")
    assert "Traceback" not in "\n".join(lines)
    if recipe == "web_service":
        assert Counter(map(tuple, map(dict.items, map(json.loads, answers.bodies)))) == Counter(
            tuple(json.loads(line).items()) for line in journal.read_text().splitlines()
        )


@clients_only
@both
async def test_readyz_says_no_first_and_requests_are_still_answered(start_recipe, tmp_path, recipe):
    """A balancer gets time to notice. It lives all the while, and a client that keeps its connection is told to go."""
    program, url = started(start_recipe, recipe, tmp_path / "orders.jsonl", linger="3600")
    async with aiohttp.ClientSession() as session:
        await until_ready(session, url)
        async with session.post(url + PATHS[recipe], json=JSON) as response:
            assert (response.status, response.headers.get("Connection")) == (201, None)

        program.signalled(TERM)
        await asyncio.to_thread(program.wait_for, "told to stop: /readyz says so, and requests are still taken")
        async with session.get(f"{url}/readyz") as response:
            assert (response.status, await response.text()) == (503, "the program stops\n")
        async with session.get(f"{url}/livez") as response:
            assert (response.status, await response.text()) == (200, "")
        async with session.post(url + PATHS[recipe], json=JSON) as response:
            assert (response.status, response.headers["Connection"]) == (201, "close")

    program.signalled(TERM)
    last_words = f"SIGTERM during the stop: the process ends at once with code {128 + TERM}"
    assert await asyncio.to_thread(program.end) == (128 + TERM, [last_words])


@clients_only
@pytest.mark.parametrize("sent_before", [0, 20, -5], ids=["nothing", "half of the head", "all but the end of the body"])
@both
async def test_a_connection_from_before_may_bring_its_request_late(start_recipe, tmp_path, recipe, sent_before):
    """Nobody else can connect any more by then, and the background services still serve it."""
    program, url = started(start_recipe, recipe, tmp_path / "orders.jsonl", linger="0")
    async with aiohttp.ClientSession() as session:
        await until_ready(session, url)
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = json.dumps(JSON).encode()
    head = f"POST {PATHS[recipe]} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    request = head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body
    writer.write(request[:sent_before])

    program.signalled(TERM)
    await until_refused(url)
    writer.write(request[sent_before:])
    answer = await reader.read()

    assert answer.startswith(b"HTTP/1.1 201 Created\r\n")
    assert b"\r\nconnection: close\r\n" in answer.lower()
    writer.close()
    await writer.wait_closed()
    code, lines = await asyncio.to_thread(program.end)
    assert (code, lines[-1]) == (0, "stopped in order: 0 tasks left")


@pytest.mark.skipif(sys.platform != "linux", reason="the option is one of Linux")
@clients_only
@pytest.mark.virtual_time
@both
async def test_a_connection_that_was_being_made_meanwhile_hears_its_client(recipe):
    """It inherits the option that keeps others out, and would hear nobody who is further away than this machine."""
    module = MODULES[recipe]
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        accepted.setsockopt(socket.IPPROTO_IP, module.IP_MINTTL, 255)
        transport, _ = await asyncio.get_running_loop().connect_accepted_socket(asyncio.Protocol, accepted)
        connections = [SimpleNamespace(transport=transport)]
        # Of aiohttp's runner and uvicorn's server, all that is looked at.
        server = SimpleNamespace(
            server=SimpleNamespace(connections=connections), server_state=SimpleNamespace(connections=connections)
        )

        await module.take_no_more(listener, server)

        assert listener.getsockopt(socket.IPPROTO_IP, module.IP_MINTTL) == 255
        assert accepted.getsockopt(socket.IPPROTO_IP, module.IP_MINTTL) == 0
        transport.close()
        await asyncio.sleep(0.001)


@clients_only
async def test_the_plain_command_of_uvicorn_works_as_well(start_recipe):
    """It owns the signals then, lets the lifespan end in order, and dies of the signal."""
    program = start_recipe("-m", "uvicorn", "asgi_lifespan:app", "--port", "0")
    url = program.wait_for(r"running on (http://\S+:\d+)")[1]
    async with aiohttp.ClientSession() as session:
        await until_ready(session, url)
        async with session.post(f"{url}/quotes", json=JSON) as response:
            assert response.status == 201

    program.signalled(TERM)

    code, lines = await asyncio.to_thread(program.end)
    assert code == -TERM
    assert lines[-2].endswith("Application shutdown complete.")


@contextlib.asynccontextmanager
async def client_of_web_service(module, tmp_path):
    async with TestClient(TestServer(module.make_app(tmp_path / "orders.jsonl"))) as client:

        async def ask(method, path, **options):
            async with client.request(method, path, **options) as response:
                return response.status, await response.text()

        yield ask


@contextlib.asynccontextmanager
async def client_of_asgi_lifespan(module, tmp_path):
    app = module.app
    async with app.router.lifespan_context(app) as state:

        async def with_state(scope, receive, send):
            # As uvicorn does it for each request.
            await app({**scope, "state": dict(state)}, receive, send)

        async with httpx.AsyncClient(transport=httpx.ASGITransport(with_state), base_url="http://app") as client:

            async def ask(method, path, **options):
                response = await client.request(method, path, **options)
                return response.status_code, response.text

            yield ask


CLIENTS = {"web_service": client_of_web_service, "asgi_lifespan": client_of_asgi_lifespan}
BODY = {"web_service": "data", "asgi_lifespan": "content"}
SERVICES = {"web_service": "rates", "asgi_lifespan": "quotes"}


@pytest.mark.virtual_time
@both
async def test_readyz_follows_the_services_and_livez_does_not(monkeypatch, tmp_path, recipe):
    """While the bank does not answer nobody should send requests here, and a new process would not help."""
    module, service = MODULES[recipe], SERVICES[recipe]
    ask_bank = module.ask_bank

    async def closed(*_):
        raise OSError("the bank is closed")

    async with CLIENTS[recipe](module, tmp_path) as ask:
        await asyncio.sleep(0.5)
        assert await ask("GET", "/readyz") == (200, "")

        monkeypatch.setattr(module, "ask_bank", closed)
        await asyncio.sleep(30)
        status, problems = await ask("GET", "/readyz")
        assert status == 503
        assert problems.startswith(f"service '{service}' is in backoff, after OSError, restart in ")
        assert await ask("GET", "/livez") == (200, "")

        monkeypatch.setattr(module, "ask_bank", ask_bank)
        await asyncio.sleep(10)
        assert await ask("GET", "/readyz") == (200, "")


@pytest.mark.virtual_time
async def test_an_order_survives_a_full_disk(monkeypatch, tmp_path, caplog):
    """The journal is restarted, writes what it had not written, and only then the request is answered."""
    module = MODULES["web_service"]
    append, calls = module.append, iter([OSError("no space left"), OSError("no space left"), None])

    def append_at_last(path, lines):
        if error := next(calls):
            raise error
        append(path, lines)

    monkeypatch.setattr(module, "append", append_at_last)
    async with client_of_web_service(module, tmp_path) as ask:
        await asyncio.sleep(0.5)
        status, body = await ask("POST", "/orders", json=JSON)

    assert status == 201
    assert (tmp_path / "orders.jsonl").read_text() == body + "\n"
    # (On a busy machine the order may be under way for longer, also by the virtual clock.)
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [re.sub(r"after \d+\.\d s", "after N s", text) for text in told] == [
        "journal failed after N s with OSError, restart 1 in 0.1 s",
        "journal failed after N s with the same OSError, restart 2 in 1.0 s",
    ]


@pytest.mark.virtual_time
@pytest.mark.parametrize(
    "body", ["", "[]", "{}", '{"currency": "XXX", "amount": 1}', '{"currency": "USD", "amount": null}']
)
@both
async def test_what_is_no_order_is_refused(tmp_path, recipe, body):
    """With an error of the client's; no service fails by it."""
    async with CLIENTS[recipe](MODULES[recipe], tmp_path) as ask:
        await asyncio.sleep(0.5)
        status, _ = await ask("POST", PATHS[recipe], **{BODY[recipe]: body})
        assert status in (400, 422)
        assert await ask("GET", "/readyz") == (200, "")
