"""What a program is doing right now, and what is wrong with it.

`snapshot`, each module built on those before it:

    ask.py          questions to a loop, which may be running in another thread
    parts.py        what a snapshot consists of: plain strings and numbers
    render.py       the same as a tree of text
    report.py       the snapshot itself, which is made of these
    sights.py       the tasks of a loop, sorted by the instructions at which they stand
    guesses.py      locks that may be held, by what a task knows
    blocks.py       locks that are held and timeouts that run, by the open blocks of a task
    cycles.py       who waits for whom, in a circle
    services.py     supervisors and supervised services
    snapshot.py     all of it together

What others make of it:

    dump.py         a snapshot whenever the process gets a signal
    loop_watch.py   what blocks the event loop
    health.py       live and ready
"""
