"""What type checkers make of supervisors, their children and vital signs. Never run: mypy and pyright read it."""

from __future__ import annotations

from typing import assert_type

from async_plus import (
    AttemptHung,
    AttemptReady,
    Child,
    ChildState,
    Event,
    Hung,
    Parked,
    SiblingsRestarted,
    Supervisor,
    heartbeat,
    ready,
    supervised,
)


@supervised(heartbeat=30, ready=True)
async def feed(url: str, *, retries: int = 3) -> int:
    assert_type(heartbeat(), None)
    assert_type(ready(), None)
    return len(url) + retries


class Poller:
    @supervised
    async def poll(self, seconds: float) -> None: ...


async def tree() -> None:
    async with Supervisor("shop", strategy="rest_for_one", warn_after=2.5) as sup:
        assert_type(sup, Supervisor)
        assert_type(sup.name, str)
        child = await sup.start(feed, "wss://", retries=5, name="feed")
        assert_type(child, Child)
        assert_type(await sup.start(Poller().poll, 5), Child)
        assert_type(sup.children, tuple[Child, ...])
        assert_type(child.name, str)
        assert_type(child.state, ChildState)
        assert_type(child.restarts, int)
        assert_type(child.last_error, BaseException | None)
        assert_type(child.started_at, float | None)
        assert_type(await child.restart(), None)
        assert_type(await child.stop(), None)
        assert_type(await child.wait(), None)
        assert_type(await sup.wait(), None)
        if child.state == "running":
            pass


def subscriber(event: Event) -> None:
    match event:
        case AttemptReady():
            assert_type(event.after, float)
        case AttemptHung():
            assert_type(event.silent_for, float)
            assert_type(event.parked, Parked)
        case SiblingsRestarted():
            assert_type(event.siblings, tuple[str, ...])
        case _:
            pass


def hung(error: Hung) -> TimeoutError:
    return error
