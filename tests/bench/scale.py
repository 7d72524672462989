#!/usr/bin/env python3
"""make bench-scale: does the cost of a connection and of an echo grow with what is configured and with what is open?

Rows: open idle sessions, rules, domains in a set, upstreams in a pool, listeners. Each figure is the least of --reps runs, taken in
turn: noise only adds. CPU is the process's, over the run. A row that costs more than LIMIT times the first row of its block is a defect
(nothing here may grow faster than the logarithm of its size, which is less than that); the exit status says so.

Beside that: what idle sessions take while nothing happens, in user memory and in system calls, which the whole process makes to watch
itself and no session adds to.

  make bench-scale BENCH="--reps 5 --seconds 1 --block rules"
"""
import argparse
import sys
import time

import lab
import syscalls
from lab import PROXY, UPSTREAM, Held, Lab, load, policy, show, table

LIMIT = 1.3
IDLE_KB, IDLE_CALLS = 0.8, 10          # at most: of a session; a second, more than without sessions
WATCHED = 5.0                          # seconds
SPARE_PORT = 8000                      # of listeners that nobody asks


class Row:
    def __init__(self, block, size, make, idle=0):
        self.block, self.size, self.make, self.idle = block, size, make, idle


def many_domains(n):
    """Asked for every connection, which is none of them; the last rule sends by it."""
    values = [f"host{i}.zone{i % 997}.example" for i in range(n)]
    return policy(sets=[{"name": "many", "type": "domain", "values": values}],
                  rules=[{"match": {"set": ["many"]}, "route": "reject"}])


def many_upstreams(n):
    """All are the same proxy. Nothing is checked: what a pick costs is what is asked for."""
    upstreams = [{"name": f"u{i}", "url": f"socks5://127.0.0.1:{UPSTREAM}"} for i in range(n)]
    return policy(upstreams=upstreams, default_route="pool",
                  pools=[{"name": "pool", "members": [u["name"] for u in upstreams], "balance": "least_connections"}])


def many_listeners(n):
    made = policy()
    made["listeners"] += [{"name": f"spare{i}", "listen": f"127.0.0.1:{SPARE_PORT + i}"} for i in range(n - 1)]
    return made


def rows():
    most = lab.most_sessions()
    idle = sorted({0, min(10000, most), most})
    return ([Row("idle sessions", n, policy, idle=n) for n in idle] +
            [Row("rules", n, lambda n=n: policy(rules=lab.rules(n))) for n in (1, 100, 10000)] +
            [Row("domains in a set", n, lambda n=n: many_domains(n)) for n in (1, 1000, 1000000)] +
            [Row("upstreams in a pool", n, lambda n=n: many_upstreams(n)) for n in (10, 1000, 10000)] +
            [Row("listeners", n, lambda n=n: many_listeners(n)) for n in (1, 100)])


def cpu_of(process, mode, per, **options):
    before = process.cpu()
    found = load(mode, socks5=PROXY, **options)
    return (process.cpu() - before) * per / found["total_done"]


def measure(row, seconds):
    """CPU seconds of 1000 connections, CPU microseconds of an echo, user memory in MB."""
    with Lab() as here:
        here.target()
        made = row.make()
        if "pools" in made:
            here.sockroute(policy(port=UPSTREAM), name="upstream")
        router = here.sockroute(made)
        # Once without measuring: pools, caches and tables are what they are in use.
        load("connect", socks5=PROXY, connections=32, seconds=0.2)
        held = Held("idle", socks5=PROXY, connections=row.idle) if row.idle else None
        try:
            time.sleep(0.2)
            memory = router.memory_kb() / 1024
            connect = cpu_of(router, "connect", 1e3, connections=32, seconds=seconds)
            echo = cpu_of(router, "ask", 1e6, connections=32, seconds=seconds)
        finally:
            if held:
                held.__exit__()
        return connect, echo, memory


def quiet(sessions):
    """A process that nobody asks for anything: kB of a session, calls a second (None: strace can't attach)."""
    with Lab() as here:
        here.target()
        router = here.sockroute(policy())
        load("connect", socks5=PROXY, connections=32, seconds=0.2)
        before = router.memory_kb()
        held = Held("idle", socks5=PROXY, connections=sessions) if sessions else None
        try:
            time.sleep(1.5)            # what opening them took goes back to the system
            kb = (router.memory_kb() - before) / sessions if sessions else None
            calls = syscalls.count_calls(router.pid, lambda: time.sleep(WATCHED), here.folder / "calls")
        finally:
            if held:
                held.__exit__()
        return kb, None if calls is None else sum(calls.values()) / WATCHED


def tell_quiet():
    """True where an idle session takes no more than it may."""
    n = lab.most_sessions()
    (_, without), (kb, calls) = quiet(0), quiet(n)
    fine = kb <= IDLE_KB and (calls is None or calls <= without + IDLE_CALLS)
    print(f"\n{n} idle sessions, nothing happens: {kb:.2f} kB of user memory each; {show(calls)} system calls a second of the process, "
          f"{show(without)} without them: {'ok' if fine else 'TOO MUCH'}")
    return fine


def least(taken):
    return [min(column) for column in zip(*taken)]


def tell(taken):
    """The table; True where nothing grows."""
    fine, shown, first = True, [], {}
    for row, runs in taken:
        connect, echo, memory = least(runs)
        base = first.setdefault(row.block, (connect, echo))
        grows = [connect / base[0], echo / base[1]]
        verdict = "ok" if max(grows) <= LIMIT else "GROWS"
        fine = fine and verdict == "ok"
        shown.append([row.block, row.size, show(connect), f"{grows[0]:.2f}", show(echo), f"{grows[1]:.2f}", f"{memory:.1f}", verdict])
    table(["", "size", "CPU s/1000 conns", "x", "CPU us/echo", "x", "MB", ""], shown)
    return fine


def main():
    p = argparse.ArgumentParser(description="what grows with what")
    p.add_argument("--reps", type=int, default=3)
    p.add_argument("--seconds", type=float, default=1.0)
    p.add_argument("--block", default="", help="only these blocks, with commas")
    args = p.parse_args()
    lab.enter_namespace()
    chosen = [(row, []) for row in rows() if not args.block or row.block in args.block.split(",")]
    for rep in range(args.reps):
        for row, runs in chosen:
            runs.append(measure(row, args.seconds))
            print(f"{rep + 1}/{args.reps} {row.block} {row.size}: {show(runs[-1][0])} s/1000, {show(runs[-1][1])} us", file=sys.stderr,
                  flush=True)
    print(f"\n{lab.machine()}; least of {args.reps}, {args.seconds} s each")
    fine = tell(chosen)
    if not args.block or "idle sessions" in args.block.split(","):
        fine = tell_quiet() and fine
    print("passed: nothing grows" if fine else f"FAILED: more than {LIMIT} times the first row of its block, or an idle session takes too much")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
