#!/usr/bin/env python3
"""make bench-fairness: what 16 clients that ask and wait feel of others on the same worker.

One worker, so that none can get out of another's way. Beside the askers: nobody; 8 bulk streams; readers that take one byte a second;
a flood of clients that send one byte of a handshake and then nothing. Beside bulk, of which the kernel's own share of the cores is a
part, the same is shown without a proxy and through haproxy.

  make bench-fairness BENCH="--reps 5 --seconds 1"
"""
import argparse
import contextlib
import sys
import time

import lab
from lab import PROXY, Held, Lab, load, middle, show, table

WORST = 3.0                            # times the p99 without others
ASKERS = {"connections": 16, "threads": 1}
FOREVER = {"seconds": 3600, "warm": 0}


def others(kind, where):
    if kind == "nobody":
        return contextlib.nullcontext()
    mode, n = {"8 streams down": ("down", 8), "100 slow readers": ("slow", 100), "1000 half-open": ("half", 1000)}[kind]
    return Held(mode, connections=n, threads=1, **where, **FOREVER)


def haproxy(here):
    conf = here.file("haproxy.conf", lab.HAPROXY.format(cores=1, port=PROXY, target=lab.TARGET, most=4000,
                                                        options=" option splice-request\n option splice-response"))
    return here.start([lab.find("haproxy"), "-db", "-f", conf], "haproxy", PROXY)


def measure(proxy, kind, seconds):
    with Lab() as here:
        here.target()
        where = {"socks5": PROXY} if proxy == "sockroute" else {} if proxy == "none" else {"to": PROXY}
        if proxy == "sockroute":
            here.sockroute(lab.policy(workers=1))
        elif proxy == "haproxy":
            haproxy(here)
        with others(kind, where):
            # Slow readers are slow once all the kernels' buffers on their ways are full: some MB each.
            time.sleep(3 if kind == "100 slow readers" else 0.5)
            return load("ask", seconds=seconds, **ASKERS, **where)


def cells():
    for kind in ("nobody", "8 streams down", "100 slow readers", "1000 half-open"):
        yield "sockroute", kind
    for proxy in ("none", "haproxy"):
        if proxy == "none" or lab.find("haproxy"):
            yield proxy, "nobody"
            yield proxy, "8 streams down"


def main():
    p = argparse.ArgumentParser(description="what askers feel of others")
    p.add_argument("--reps", type=int, default=5)
    p.add_argument("--seconds", type=float, default=1.0)
    args = p.parse_args()
    lab.enter_namespace()
    taken = {cell: [] for cell in cells()}
    for rep in range(args.reps):
        for cell, runs in taken.items():
            runs.append(measure(*cell, args.seconds))
            print(f"{rep + 1}/{args.reps} {' beside '.join(cell)}: p99 {show(runs[-1]['us']['p99'])} us", file=sys.stderr, flush=True)
    print(f"\n{lab.machine()}; one worker, 16 askers, medians of {args.reps}, {args.seconds} s each")
    rows, worst = [], 0
    for (proxy, kind), runs in taken.items():
        p50, p99 = (middle([f["us"][q] for f in runs]) for q in ("p50", "p99"))
        times = p99 / middle([f["us"]["p99"] for f in taken[proxy, "nobody"]])
        rows.append([f"{proxy} beside {kind}", show(middle([f["done"] / f["seconds"] for f in runs])), show(p50), show(p99), f"{times:.1f}"])
        if proxy == "sockroute":
            worst = max(worst, times)
    table(["", "echoes/s", "p50 us", "p99 us", "x alone"], rows)
    print(f"{'passed' if worst <= WORST else 'FAILED'}: p99 at most {WORST:.0f} times that alone is asked, {worst:.1f} is the worst")
    return 0 if worst <= WORST else 1


if __name__ == "__main__":
    sys.exit(main())
