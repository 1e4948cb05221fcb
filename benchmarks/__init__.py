"""How fast async_plus is, as ratios: `python -m benchmarks` in the checkout, with the extra ``bench`` installed.

Seconds say more about the machine than about the code, so every figure is a quotient: our time over that of a peer
which does the same work. Each has a budget, the most that it may be. No test ever looks at a time; this is where speed
is checked, and it exits with 1 if a budget is missed.

How it is measured:

- All sides of a contest run in one process, on one loop, in turns: us, them, the others, and round again. What slows
  the machine down for a while slows all of them down. Each round begins with another side.
- A turn is three short runs. The first is not counted: it finds the memory as the side before left it, which can cost
  6 %. Of all the others in all rounds the quickest one counts, since noise only ever adds.
- The clock is the CPU time of the process, which does not run while another process has the core.
- Nothing is collected during a run: before the first the garbage is, and then the collector is switched off, for every
  side. Whatever existed before the contest is frozen, so that it is not looked through.
- Peers are written as their users write them: a bare task comes from `asyncio.create_task`.
- "Added" rows take off what the bare await takes: they compare what two tools cost, not what they wrap.
- Three workloads, since they put the weight elsewhere: a coroutine that returns at once, one that yields to the loop
  once, and one that waits for a byte on a pair of sockets. Budgets hold for the first two, at 100 and 10,000 children,
  on asyncio's own loop; with eager tasks and on uvloop the same is measured for information.
- A peer that does less than we do is said to, beside its ratio.
- Imports are timed inside fresh interpreters, from before the first import to after the last, in turns as well.

`measure` takes the times and knows no peers; `rows/` holds the contests, a module a feature, each with a generator
that `rows.contests` goes through. `growth` and `storm` measure what is no contest: what a task costs as there are more
of them, and how long a loop does nothing else when all services fail together. `idle_watch` is a command of its own: it
takes half a minute in which nothing may happen. `report` prints, `plot` draws. To add a peer, add a side and a ratio to
its contest; for a row of another kind, write its formula beside `measure.divided`.
"""
