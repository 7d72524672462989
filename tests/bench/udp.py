#!/usr/bin/env python3
"""make bench-udp: echoes of datagrams through UDP ASSOCIATE: how many a second, and what each costs the proxy.

64 and 1,200 bytes, 1, 8 and 64 associations with a window of 16 datagrams each; sockroute beside dante, and no proxy as the limit.
Client and echo are a thread each, on the first and the last core; the proxy runs where the system puts it. They send and get each
datagram by itself ("single"), and the goals are for that: with 8 associations and 64 bytes at most CPU_US for each echo, and RATE times
dante's echoes. Beside it 8 associations whose ends hand a window's datagrams over as one message that the kernel cuts, and take them so,
as those of QUIC do ("runs"): then what the ends cost is no longer most of the machine. CPU is user + system of all the proxy's processes
over a whole run, divided by its echoes.

  make bench-udp BENCH="--full --reps 5 --seconds 2"     runs with 1 and 64 associations too, longer and more often
"""
import argparse
import json
import os
import subprocess
import sys

import lab
from lab import PROXY, TARGET, Lab, middle, show, table

RATE, CPU_US = 5.5, 4.0
JUDGED = 8, 64                 # associations, bytes
LOAD = os.path.abspath(os.environ.get("BENCH_UDP", "tests/bench/bench_udp"))
DANTE = """logoutput: /dev/null
internal: 127.0.0.1 port = {port}
external: lo
clientmethod: none
socksmethod: none
user.privileged: root
user.unprivileged: root
client pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}
socks pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 command: udpassociate }}
socks pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 command: udpreply }}
"""


def danted(here):
    conf = here.file("danted.conf", DANTE.format(port=PROXY))
    return here.start([lab.find("danted"), "-N", lab.CORES, "-f", conf, "-p", here.folder / "danted.pid"], "danted", PROXY)


STARTS = {"none": lambda here: None, "sockroute": lambda here: here.sockroute(lab.policy()), "danted": danted}


def on_core(which, *args):
    return [lab.find("taskset") or sys.exit("taskset is not installed (Debian: util-linux)"), "-c", sorted(os.sched_getaffinity(0))[which], *args]


def measure(proxy, how, associations, size, seconds):
    runs = ["--runs"] if how == "runs" else []
    with Lab() as here:
        here.start(on_core(-1, LOAD, "serve", TARGET, *runs), "echo", TARGET)
        process = STARTS[proxy](here)
        before = process.cpu() if process else 0
        args = on_core(0, LOAD, "echo", "--to", TARGET, "--associations", associations, "--bytes", size, "--seconds", seconds, *runs,
                       *(["--socks5", PROXY] if process else []))
        done = subprocess.run([str(a) for a in args], capture_output=True, text=True, timeout=seconds + 60, check=True)
        found = json.loads(done.stdout)
        found["rate"] = found["done"] / found["seconds"]
        found["cpu_us"] = (process.cpu() - before) * 1e6 / max(found["total_done"], 1) if process else None
        return found


def cells_of(associations, full):
    """What is measured: how, associations, bytes."""
    return [(how, n, size) for how in ("single", "runs") for n in associations if how == "single" or full or n == JUDGED[0]
            for size in (64, 1200)]


def main():
    p = argparse.ArgumentParser(description="echoes of datagrams")
    p.add_argument("--reps", type=int, default=3)
    p.add_argument("--seconds", type=float, default=0.8)
    p.add_argument("--associations", default="1,8,64")
    p.add_argument("--full", action="store_true", help="runs with any number of associations")
    args = p.parse_args()
    lab.enter_namespace()
    proxies = [name for name in STARTS if name != "danted" or lab.find("danted")]
    cells = cells_of([int(n) for n in args.associations.split(",")], args.full)
    taken = {(proxy, *cell): [] for cell in cells for proxy in proxies}
    for rep in range(args.reps):
        for cell, runs in taken.items():
            runs.append(measure(*cell, args.seconds))
            print(f"{rep + 1}/{args.reps} {cell[0]}, {cell[1]}, {cell[2]} associations, {cell[3]} bytes: {show(runs[-1]['rate'])}/s",
                  file=sys.stderr, flush=True)
    print(f"\n{lab.machine()}; medians of {args.reps}, {args.seconds} s each")
    tell(taken)
    if "danted" not in proxies:
        return 0
    for how, n, size in cells:
        if n == JUDGED[0] and (how, n, size) != ("single", *JUDGED):
            print(f"beside: {beside_dante(taken, how, n, size)[2]}")
    return 0 if JUDGED not in [cell[1:] for cell in cells] or judge(taken) else 1


def tell(taken):
    rows = []
    for (proxy, how, n, size), runs in taken.items():
        cpu = middle([r["cpu_us"] for r in runs]) if proxy != "none" else None
        rows.append([f"{proxy}, {n} x {size} bytes, {how}", show(middle([r["rate"] for r in runs])), show(cpu),
                     show(middle([r["us"]["p50"] for r in runs])), show(middle([r["us"]["p99"] for r in runs])),
                     sum(r["lost"] for r in runs)])
    table(["", "echoes/s", "CPU us/echo", "p50 us", "p99 us", "lost"], rows)


def beside_dante(taken, how, n, size):
    """How many times dante's rate, microseconds of CPU for an echo, and both in words."""
    ours, theirs = taken["sockroute", how, n, size], taken["danted", how, n, size]
    times = middle([r["rate"] for r in ours]) / middle([r["rate"] for r in theirs])
    cpu, dantes = middle([r["cpu_us"] for r in ours]), middle([r["cpu_us"] for r in theirs])
    return times, cpu, f"{how}, {n} x {size} bytes: {times:.1f} times dante's rate, {cpu:.1f} us to its {dantes:.1f}"


def judge(taken):
    times, cpu, words = beside_dante(taken, "single", *JUDGED)
    good = times >= RATE and cpu <= CPU_US
    print(f"{'passed' if good else 'FAILED'}: {words} (goals {RATE} times, {CPU_US} us)")
    return good


if __name__ == "__main__":
    sys.exit(main())
