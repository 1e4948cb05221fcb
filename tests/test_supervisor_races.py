"""`Supervisor` when things come at an awkward moment: from a first step, a cleanup, a subscriber, or all at once."""

from __future__ import annotations

import asyncio

import pytest
from tools import forever, turns

from async_plus import Supervisor, ready, supervised

pytestmark = pytest.mark.virtual_time

each_strategy = pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])


def elapsed():
    return asyncio.get_running_loop().clock.elapsed


class Presence:
    """How many are within the block, were at most, and have been."""

    def __init__(self):
        self.now = self.most = self.ever = 0

    def __enter__(self):
        self.now += 1
        self.ever += 1
        self.most = max(self.most, self.now)

    def __exit__(self, *_):
        self.now -= 1


class TestFirstStep:
    """That of an eager attempt is taken while its task is being made; on other loops it comes later."""

    @each_strategy
    @pytest.mark.parametrize("declares_ready", [False, True])
    async def test_an_attempt_that_restarts_itself_there_has_no_twin(self, strategy, declares_ready):
        """It ends first; the next one starts after it."""
        presence, sup = Presence(), Supervisor("shop", strategy=strategy)

        @supervised(ready=declares_ready)
        async def feed():
            with presence:
                if presence.ever == 1:
                    await sup.children[0].restart()
                ready()
                await forever()

        async with sup:
            child = await sup.start(feed)
            await turns()
            assert (presence.now, presence.most, presence.ever) == (1, 1, 2)
            assert child.state == "running"
        assert presence.now == 0
