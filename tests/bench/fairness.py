#!/usr/bin/env python3
"""make bench-fairness: what 16 clients that ask and wait feel of others on the same worker.

One worker, so that none can get out of another's way. Three set-ups:

  apart    The proxy alone has one core, before whatever else the machine does; clients and targets have another, and there the askers and
           what answers them run before the bulk streams' two ends. So what is felt is the proxy's doing. Beside the askers: nobody; 8 bulk
           streams.
  paced    The same, but the askers don't ask again at once, which leaves the streams little of their core: RATE times a second one does.
  crowded  All share the cores, as programs do. Beside the askers: nobody; 8 bulk streams; readers that take one byte a second; a flood
           of clients that send one byte of a handshake and then nothing.

Beside bulk, of which the kernel's own share of the cores is a part, the same is shown without a proxy and through haproxy. The verdict is
on sockroute's rows: beside bulk those with a core for the proxy, as crowded it is the cores that are waited for, without any proxy too.

  make bench-fairness BENCH="--reps 5 --seconds 1"
"""
import argparse
import contextlib
import os
import sys
import time

import lab
from lab import NO_PROXY, OURS, PROXY, TARGET, Held, Lab, Place, Running, load, middle, show, table

WORST = 3.0                            # times the p99 without others
NOBODY, BULK, SLOW, HALF = "nobody", "8 streams down", "100 slow readers", "1000 half-open"
BULK_TARGET, BULK_PROXY = TARGET + 1, PROXY + 1
RATE = 4000
ASKERS = {"connections": 16, "threads": 1}
STREAMS = {"connections": 8, "threads": 1}
SETTLE, WARM = 0.5, 0.2                # seconds of others alone, and of askers before they are measured
FOREVER = {"seconds": 3600, "warm": 0}
CORES = sorted(os.sched_getaffinity(0))
HAPROXY_BULK = """listen bulk
 bind 127.0.0.1:{port}
 server t 127.0.0.1:{target}
"""


def start(here, proxy):
    if proxy == OURS:
        here.sockroute(lab.policy(workers=1))
    elif proxy == "haproxy":
        conf = lab.HAPROXY.format(cores=1, port=PROXY, target=TARGET, most=4000, options=" option splice-request\n option splice-response")
        conf = here.file("haproxy.conf", conf + HAPROXY_BULK.format(port=BULK_PROXY, target=BULK_TARGET))
        here.start([lab.find("haproxy"), "-db", "-f", conf], "haproxy", PROXY)


def where(proxy, bulk=False):
    """To which target and how, as the load generator takes it."""
    if proxy == "haproxy":
        return {"to": BULK_PROXY if bulk else PROXY}
    return {"to": BULK_TARGET if bulk else TARGET, **({"socks5": PROXY} if proxy == OURS else {})}


# ---- the set-ups: what the askers found, with how much the streams beside them moved ----


def apart(proxy, kind, seconds, **how):
    own, others = Place(CORES[0], first=True), CORES[1]
    with Lab() as here:
        with Place(others, first=True):
            here.target(threads=1)
        with Place(others):
            here.target(BULK_TARGET, threads=1)
        with own:
            start(here, proxy)
        streams = None
        if kind == BULK:
            with Place(others):
                streams = Running("down", warm=SETTLE + WARM, seconds=seconds, **STREAMS, **where(proxy, bulk=True))
            time.sleep(SETTLE)
        with Place(others, first=True):
            found = load("ask", warm=WARM, seconds=seconds, **ASKERS, **how, **where(proxy))
        if streams:
            moved = streams.found()
            found["beside_gbit"] = moved["bytes"] * 8 / 1e9 / moved["seconds"]
        return found


def paced(proxy, kind, seconds):
    return apart(proxy, kind, seconds, rate=RATE)


def beside(kind, proxy):
    if kind == NOBODY:
        return contextlib.nullcontext()
    mode, n = {BULK: ("down", 8), SLOW: ("slow", 100), HALF: ("half", 1000)}[kind]
    return Held(mode, connections=n, threads=1, **where(proxy, bulk=True), **FOREVER)


def crowded(proxy, kind, seconds):
    with Lab() as here:
        here.target()
        here.target(BULK_TARGET)
        start(here, proxy)
        with beside(kind, proxy):
            # Slow readers are slow once all the kernels' buffers on their ways are full: some MB each.
            time.sleep(3 if kind == SLOW else SETTLE)
            return load("ask", warm=WARM, seconds=seconds, **ASKERS, **where(proxy))


OWN_CORE = (apart, paced) if len(CORES) > 1 else ()


def cells():
    """(set-up, proxy, beside whom)"""
    proxies = [p for p in (OURS, "haproxy", NO_PROXY) if p != "haproxy" or lab.find(p)]
    yield from ((setup, p, kind) for setup in OWN_CORE for p in proxies for kind in (NOBODY, BULK))
    yield from ((crowded, p, kind) for p in proxies for kind in ((NOBODY, BULK, SLOW, HALF) if p == OURS else (NOBODY, BULK)))


# ---- telling ----


def is_judged(setup, proxy, kind):
    return proxy == OURS and (kind != BULK or setup in OWN_CORE or not OWN_CORE)


def tell(setup, taken):
    """The table of a set-up; the worst of what is judged."""
    rows, worst = [], 0
    for (_, proxy, kind), runs in ((cell, runs) for cell, runs in taken.items() if cell[0] == setup):
        p50, p99 = (middle([f["us"][q] for f in runs]) for q in ("p50", "p99"))
        times = p99 / middle([f["us"]["p99"] for f in taken[setup, proxy, NOBODY]])
        gbit = middle([f["beside_gbit"] for f in runs if "beside_gbit" in f])
        rows.append([f"{proxy} beside {kind}", show(middle([f["done"] / f["seconds"] for f in runs])), show(p50), show(p99), f"{times:.1f}",
                     *([show(gbit)] if setup in OWN_CORE else [])])
        if is_judged(setup, proxy, kind):
            worst = max(worst, times)
    print(f"\n{TITLES[setup]}")
    table(["", "echoes/s", "p50 us", "p99 us", "x alone", *(["Gbit/s beside"] if setup in OWN_CORE else [])], rows)
    return worst


TITLES = {
    apart: "apart: the proxy has a core, clients and targets have another; each asker asks again at once",
    paced: f"paced: the same, and {RATE} times a second an asker asks",
    crowded: "crowded: all share the cores",
}


def main():
    p = argparse.ArgumentParser(description="what askers feel of others")
    p.add_argument("--reps", type=int, default=5)
    p.add_argument("--seconds", type=float, default=1.0)
    args = p.parse_args()
    lab.enter_namespace()
    taken = {cell: [] for cell in cells()}
    for rep in range(args.reps):
        for (setup, proxy, kind), runs in taken.items():
            runs.append(setup(proxy, kind, args.seconds))
            print(f"{rep + 1}/{args.reps} {setup.__name__}: {proxy} beside {kind}: p99 {show(runs[-1]['us']['p99'])} us", file=sys.stderr,
                  flush=True)
    print(f"\n{lab.machine()}; one worker, 16 askers, medians of {args.reps}, {args.seconds} s each")
    if OWN_CORE and not lab.can_be_first():
        print("nobody may run before others here (SCHED_RR): what is apart is not, from other work")
    worst = max(tell(setup, taken) for setup in (*OWN_CORE, crowded))
    print(f"{'passed' if worst <= WORST else 'FAILED'}: p99 at most {WORST:.0f} times that alone is asked, {worst:.1f} is the worst")
    return 0 if worst <= WORST else 1


if __name__ == "__main__":
    sys.exit(main())
