#!/usr/bin/env python3
"""make bench-udp: echoes of datagrams through UDP ASSOCIATE: how many a second, and what each costs the proxy.

64 and 1,200 bytes, 1, 8 and 64 associations with a window of 16 datagrams each; sockroute beside dante, and no proxy as the limit.
Clients hand datagrams to the kernel one by one ("single"), or a window's as one message that the kernel cuts ("runs"), as QUIC's do: then
what the clients cost is no longer most of the machine, and the proxies are what is compared. CPU is user + system of all the proxy's
processes over a whole run, divided by its echoes. The goals are at 8 associations: at most CPU_US for each echo in either way, and RATE
times dante's echoes with runs; single ones are told beside it.

  make bench-udp BENCH="--reps 5 --seconds 2"
"""
import argparse
import json
import os
import subprocess
import sys

import lab
from lab import PROXY, TARGET, Lab, middle, show, table

RATE, CPU_US = 5.5, 4.0
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


def measure(proxy, how, associations, size, seconds):
    with Lab() as here:
        here.start([LOAD, "serve", TARGET, lab.CORES], "echo", TARGET)
        process = STARTS[proxy](here)
        before = process.cpu() if process else 0
        args = [LOAD, "echo", "--to", TARGET, "--associations", associations, "--bytes", size, "--seconds", seconds,
                "--threads", min(lab.CORES, associations), *(["--socks5", PROXY] if process else []), *(["--runs"] if how == "runs" else [])]
        done = subprocess.run([str(a) for a in args], capture_output=True, text=True, timeout=seconds + 60, check=True)
        found = json.loads(done.stdout)
        found["rate"] = found["done"] / found["seconds"]
        found["cpu_us"] = (process.cpu() - before) * 1e6 / max(found["total_done"], 1) if process else None
        return found


def main():
    p = argparse.ArgumentParser(description="echoes of datagrams")
    p.add_argument("--reps", type=int, default=3)
    p.add_argument("--seconds", type=float, default=1.5)
    p.add_argument("--associations", default="1,8,64")
    args = p.parse_args()
    lab.enter_namespace()
    proxies = [name for name in STARTS if name != "danted" or lab.find("danted")]
    cells = [(how, n, size) for n in map(int, args.associations.split(",")) for size in (64, 1200) for how in ("single", "runs")]
    taken = {(proxy, *cell): [] for cell in cells for proxy in proxies}
    for rep in range(args.reps):
        for cell, runs in taken.items():
            runs.append(measure(*cell, args.seconds))
            print(f"{rep + 1}/{args.reps} {cell[0]}, {cell[1]}, {cell[2]} associations, {cell[3]} bytes: {show(runs[-1]['rate'])}/s",
                  file=sys.stderr, flush=True)
    print(f"\n{lab.machine()}; medians of {args.reps}, {args.seconds} s each")
    rows = []
    for (proxy, how, n, size), runs in taken.items():
        cpu = middle([r["cpu_us"] for r in runs]) if proxy != "none" else None
        rows.append([f"{proxy}, {n} x {size} bytes, {how}", show(middle([r["rate"] for r in runs])), show(cpu),
                     show(middle([r["us"]["p50"] for r in runs])), show(middle([r["us"]["p99"] for r in runs])),
                     sum(r["lost"] for r in runs)])
    table(["", "echoes/s", "CPU us/echo", "p50 us", "p99 us", "lost"], rows)
    if "danted" not in proxies or 8 not in [n for _, n, _ in cells]:
        return 0
    return 0 if all([judge(taken, "single", 0), judge(taken, "runs", RATE)]) else 1


def judge(taken, how, rate):
    """Says how 8 associations did."""
    ours, theirs = ([r for size in (64, 1200) for r in taken[proxy, how, 8, size]] for proxy in ("sockroute", "danted"))
    times = middle([r["rate"] for r in ours]) / middle([r["rate"] for r in theirs])
    cpu = middle([r["cpu_us"] for r in ours])
    good = times >= rate and cpu <= CPU_US
    print(f"{'passed' if good else 'FAILED'}: with 8 associations, {how}: {times:.1f} times dante's rate{f' (goal {rate})' if rate else ''}, "
          f"{cpu:.1f} us (goal {CPU_US})")
    return good


if __name__ == "__main__":
    sys.exit(main())
