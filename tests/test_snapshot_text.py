"""The text of a snapshot: it fits a terminal, whatever the names are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_plus import (
    Place,
    ScopeInfo,
    ServiceInfo,
    Snapshot,
    SupervisorInfo,
    TaskInfo,
    WaitCycle,
    WaitInfo,
)


def task(*names, **facts):
    usual = {
        "coroutine": "work",
        "state": "parked",
        "on": "Queue.get",
        "stack": (Place("/app/work.py", 7, "work"),),
        "cancelling": 0,
        "timeout_in": None,
    }
    return TaskInfo(names=names or ("a",), **usual | facts)


def service(name="feed", **facts):
    usual = {
        "state": "running",
        "since": 1.0,
        "restarts": 0,
        "last_error": None,
        "restart_in": None,
        "ready": None,
        "overdue": False,
        "tasks": (),
        "supervisors": (),
    }
    return ServiceInfo(name=name, **usual | facts)


def text(count=0, **sections):
    empty = dict.fromkeys(("cycles", "supervisors", "services", "scopes", "waits", "tasks"), ())
    return str(Snapshot(count=count, **empty | sections))


def body(**sections):
    """The lines below the first one."""
    return text(**sections).splitlines()[2:]


class TestHead:
    def test_it_counts_tasks_by_what_they_do(self):
        """Wherever they are in the tree."""
        nested = SupervisorInfo(name="inner", strategy="one_for_one", children=(service(tasks=(task("a"),)),))
        found = text(
            count=1234,
            tasks=(task("b", "c", state="running"), task("d", state="new")),
            scopes=(ScopeInfo(title="s", tasks=(task("e", state="ready"),)),),
            services=(service(tasks=(task("f"),)),),
            supervisors=(
                SupervisorInfo(name="shop", strategy="one_for_one", children=(service(supervisors=(nested,)),)),
            ),
        )

        assert found.splitlines()[0] == "1,234 tasks: 2 running, 1 ready, 1 new, 2 parked"

    def test_without_tasks_there_is_nothing_else(self):
        """One line."""
        assert text() == "0 tasks"
        assert text(1, tasks=[task()]).splitlines()[0] == "1 task: 1 parked"


class TestLines:
    @pytest.mark.parametrize(
        ("given", "lines"),
        [
            (task(), ["'a' (work) parked on Queue.get"]),
            (task(state="running", on="nothing, it is running"), ["'a' (work) running"]),
            (task(cancelling=1), ["'a' (work) parked on Queue.get, cancelled 1 time"]),
            (task(cancelling=2), ["'a' (work) parked on Queue.get, cancelled 2 times"]),
            (task(timeout_in=1.25), ["'a' (work) parked on Queue.get, timeout in 1.2 s"]),
            (task("a", "b"), ["work x 2 ('a', 'b') parked on Queue.get"]),
            (task(*"abcd"), ["work x 4 ('a', 'b', 'c' and 1 more) parked on Queue.get"]),
            (task("a\nb\x1b[31m"), ["'a\\nb\\x1b[31m' (work) parked on Queue.get"]),
            (task(on="a\nb\ud800"), ["'a' (work) parked on a?b?"]),
        ],
    )
    def test_a_task_is_told_in_a_line(self, given, lines):
        """And its stack below."""
        assert body(tasks=[given]) == ["tasks", *(f"  {line}" for line in lines), "    /app/work.py:7 in work"]

    @pytest.mark.parametrize(
        ("services", "line"),
        [
            ([service()], "'feed' running for 1.0 s"),
            ([service(restarts=1)], "'feed' running for 1.0 s, 1 restart"),
            ([service(restarts=2)], "'feed' running for 1.0 s, 2 restarts"),
            (
                [service(state="backoff", restart_in=9.5, last_error="OSError", restarts=3)],
                "'feed' backoff for 1.0 s, restart in 9.5 s, 3 restarts, last error OSError",
            ),
            ([service(ready=True), service(ready=True)], "'feed' x 2 running for 1.0 s, ready"),
            ([service(ready=False, overdue=True)], "'feed' running for 1.0 s, not ready, heartbeat overdue"),
            ([service(restarts=1), service(since=2.0)], "'feed' x 2 running for 1.0 to 2.0 s, 0 to 1 restarts"),
        ],
    )
    def test_services_that_are_alike_are_told_in_a_line(self, services, line):
        """With the spread of what differs."""
        assert body(services=services) == ["supervised services", f"  {line}"]

    def test_services_that_differ_have_lines_of_their_own(self):
        """As soon as one stands somewhere else."""
        found = body(services=[service(tasks=(task("feed#1"),)), service(tasks=(task("feed#1", stack=()),))])

        assert found == [
            "supervised services",
            "  'feed' running for 1.0 s",
            "    'feed#1' (work) parked on Queue.get",
            "      /app/work.py:7 in work",
            "  'feed' running for 1.0 s",
            "    'feed#1' (work) parked on Queue.get",
        ]

    def test_supervisors_below_a_service_are_indented(self):
        """And children are told one by one, alike or not."""
        inner = SupervisorInfo(name="inner", strategy="rest_for_one", children=(service("a"), service("a")))
        found = body(
            supervisors=[SupervisorInfo(name="shop", strategy="one_for_all", children=(service(supervisors=(inner,)),))]
        )

        assert found == [
            "supervisor 'shop' (one_for_all)",
            "  'feed' running for 1.0 s",
            "    supervisor 'inner' (rest_for_one)",
            "      'a' running for 1.0 s",
            "      'a' running for 1.0 s",
        ]

    @pytest.mark.parametrize(
        ("cycle", "line"),
        [
            (WaitCycle(tasks=("a", "b"), is_certain=True, ends_in=None), "deadlock: 'a' -> 'b' -> 'a'"),
            (WaitCycle(tasks=("a",), is_certain=False, ends_in=None), "possible deadlock: 'a' -> 'a'"),
            (
                WaitCycle(tasks=("a",), is_certain=True, ends_in=3.0),
                "deadlock: 'a' -> 'a', until a timeout in 3.0 s",
            ),
        ],
    )
    def test_a_circle_is_told_first(self, cycle, line):
        """It is what is looked for."""
        assert body(cycles=[cycle], tasks=[task()])[:3] == [line, "", "tasks"]

    @pytest.mark.parametrize(
        ("wait", "line"),
        [
            (
                WaitInfo(awaited="fetch", waiting_at=None, longest=3.0, shortest=3.0, tasks=("a",)),
                "fetch for 3.0 s in 'a'",
            ),
            (
                WaitInfo(
                    awaited="fetch",
                    waiting_at=Place("/app/work.py", 7, "work"),
                    longest=3.0,
                    shortest=1.0,
                    tasks=("a", "b", "c", "d"),
                ),
                "fetch x 4 for 1.0 to 3.0 s in 'a', 'b', 'c' and 1 more at /app/work.py:7 in work",
            ),
        ],
    )
    def test_impatient_waits_are_told_in_a_line(self, wait, line):
        """With how long, who and where."""
        assert body(waits=[wait]) == ["impatient waits", f"  {line}"]

    def test_where_others_have_sections_the_rest_is_called_other_tasks(self):
        """Otherwise they are the tasks."""
        found = body(scopes=[ScopeInfo(title="launch_watched", tasks=(task("w"),))], tasks=[task("t")])

        assert found == [
            "launch_watched",
            "  'w' (work) parked on Queue.get",
            "    /app/work.py:7 in work",
            "",
            "other tasks",
            "  't' (work) parked on Queue.get",
            "    /app/work.py:7 in work",
        ]


class TestWidth:
    def test_of_a_long_path_the_end_is_kept(self):
        """Which is what tells one file from the other."""
        path = "/srv/" + "very/" * 20 + "deep/work.py"
        *_, line = body(tasks=[task(stack=(Place(path, 7, "work"),))])

        assert line == "    …/" + "very/" * 14 + "deep/work.py:7 in work"
        assert len(line) <= 100

    def test_a_long_line_is_broken_after_a_comma(self):
        """Or at a space, or anywhere if there is none."""
        names = tuple(f"worker-{number:03}" for number in range(8))
        lines = body(cycles=[WaitCycle(tasks=names, is_certain=True, ends_in=None)])
        assert lines == [
            "deadlock: 'worker-000' -> 'worker-001' -> 'worker-002' -> 'worker-003' -> 'worker-004' ->",
            "    'worker-005' -> 'worker-006' -> 'worker-007' -> 'worker-000'",
        ]

        assert body(tasks=[task(on="q" * 70 + ", held by 'somebody else'", stack=())])[1:] == [
            f"  'a' (work) parked on {'q' * 70},",
            "      held by 'somebody else'",
        ]
        assert body(scopes=[ScopeInfo(title="s" * 150, tasks=(task(stack=()),))])[:2] == ["s" * 100, "    " + "s" * 50]

    def test_supervisors_may_nest_as_deep_as_they_like(self):
        """At some depth they are indented no more."""
        supervisor = SupervisorInfo(name="inner", strategy="one_for_one", children=())
        for _ in range(60):
            supervisor = SupervisorInfo(
                name="outer", strategy="one_for_one", children=(service(supervisors=(supervisor,)),)
            )

        assert max(map(len, body(supervisors=[supervisor]))) <= 100

    @given(
        name=st.text(max_size=300),
        path=st.text(min_size=1, max_size=300),
        on=st.text(max_size=300),
        seconds=st.floats(0, 1e12),
    )
    def test_no_line_is_longer_than_100_columns(self, name, path, on, seconds):
        """Whatever the names are; and no character gets through that a terminal would act upon."""
        place = Place(path, 7, name)
        info = task(name, name, name, coroutine=name, on=on, stack=(place,), timeout_in=seconds)
        child = service(name, since=seconds, tasks=(info,), last_error=name)
        found = text(
            count=3,
            cycles=[WaitCycle(tasks=(name, on), is_certain=True, ends_in=seconds)],
            supervisors=[SupervisorInfo(name=name, strategy="one_for_one", children=(child,))],
            services=[child],
            scopes=[ScopeInfo(title=name, tasks=(info,))],
            waits=[WaitInfo(awaited=name, waiting_at=place, longest=seconds, shortest=0.0, tasks=(name,))],
            tasks=[info],
        )

        assert all(len(line) <= 100 and line.isprintable() for line in found.split("\n"))
