#!/usr/bin/env python3
"""make bench: sockroute beside its peers, on one machine, in one run.

Every proxy is started afresh for every measurement, and all take their turn before anyone's next repetition, each time in another
order, so that noise hits all alike. CPU is user and system time of all the proxy's processes over the whole run, divided by what was
done in the whole run. Medians of --reps; the spread is half of highest minus lowest, as a share of the median.

  make bench BENCH="--reps 5 --seconds 1 --only sockroute,haproxy --scenario connect,rr"
  make bench BENCH="--report bench.json"           the tables and the picture of an earlier run
"""
import argparse
import json
import pathlib
import subprocess
import sys
import time

import lab
from lab import BARE_RELAY, CORES, NO_PROXY, OURS, PROXIES, PROXY, UPSTREAM, Held, Lab, load, middle, show, spread, table

GIB = 1 << 30


class Scenario:
    """rate: what is counted in a second; cpu: the proxy's seconds, by what and in which unit."""

    def __init__(self, name, title, mode, unit, cpu_unit, rate, cpu, chain=False, **options):
        self.name, self.title, self.mode, self.unit, self.cpu_unit = name, title, mode, unit, cpu_unit
        self.rate, self.cpu, self.chain, self.options = rate, cpu, chain, options

    def suits(self, proxy):
        if proxy.only and self.name not in proxy.only:
            return False
        if self.chain:
            return proxy.chains
        return self.mode != "idle" or proxy.name != NO_PROXY


def per_second(f):
    return f["done"] / f["seconds"]


def gbit(f):
    return f["bytes"] * 8 / 1e9 / f["seconds"]


def cpu_per_done(scale):
    return lambda f: f["cpu"] * scale / f["total_done"]


def cpu_per_gib(f):
    return f["cpu"] * GIB / f["total_bytes"]


SCENARIOS = [
    Scenario("connect", "connections", "connect", "connections/s", "CPU s/1000", per_second, cpu_per_done(1e3), connections=64),
    Scenario("rr", "64-byte echoes on 64 connections", "ask", "echoes/s", "CPU us", per_second, cpu_per_done(1e6), connections=64),
    Scenario("down", "16 streams down", "down", "Gbit/s", "CPU s/GiB", gbit, cpu_per_gib, connections=16),
    Scenario("duplex", "8 streams both ways", "duplex", "Gbit/s", "CPU s/GiB", gbit, cpu_per_gib, connections=8),
    Scenario("chain", "connections through one SOCKS5 upstream", "connect", "connections/s", "CPU s/1000", per_second,
             cpu_per_done(1e3), chain=True, connections=64),
    Scenario("idle", "idle sessions", "idle", "kB a session", "descriptors", lambda f: f["kb"], lambda f: f["descriptors"]),
]


# ---- measuring ----


def measure_idle(proxy, process, where):
    """After a first load that warms its pools up, so that these are not counted as the sessions'."""
    load("connect", connections=64, seconds=0.2, **where)
    kb, descriptors = process.memory_kb(), process.descriptors()
    n = min(proxy.idle, lab.most_sessions())
    with Held("idle", connections=n, **where):
        time.sleep(1.5)
        return {"kb": (process.memory_kb() - kb) / n, "descriptors": (process.descriptors() - descriptors) / n, "sessions": n}


def measure(scenario, proxy, seconds):
    with Lab() as here:
        here.target()
        if scenario.chain:
            here.sockroute(lab.policy(port=UPSTREAM), name="upstream")
        process = proxy.start(here, scenario.chain)
        where = {"socks5": PROXY} if proxy.socks else {"to": PROXY} if process else {}
        if scenario.mode == "idle":
            return measure_idle(proxy, process, where)
        before, opened_before = process.cpu() if process else 0, lab.fast_opened()
        found = load(scenario.mode, seconds=seconds, threads=CORES, **scenario.options, **where)
        found["cpu"] = process.cpu() - before if process else None
        found["in_syn"] = [(now - then) / found["opened"] for now, then in zip(lab.fast_opened(), opened_before)]
        return found


def run(args, proxies, scenarios):
    taken = {s.name: {p.name: [] for p in proxies if s.suits(p)} for s in scenarios}
    for rep in range(args.reps):
        for s in scenarios:
            turn = [p for p in proxies if s.suits(p)]
            for p in turn[rep % len(turn):] + turn[:rep % len(turn)]:
                f = measure(s, p, args.seconds)
                f["rate"] = s.rate(f)
                f["cpu_per_unit"] = None if p.name == NO_PROXY else s.cpu(f)
                taken[s.name][p.name].append(f)
                print(f"{rep + 1}/{args.reps} {s.name:8} {p.name:15} {show(f['rate']):>8} {s.unit}, {show(f['cpu_per_unit'])} {s.cpu_unit}",
                      file=sys.stderr, flush=True)
    return taken


# ---- telling ----


def sum_up(taken):
    """Medians with their spread, and the ratios of ours to the best peer and to no proxy."""
    out = {}
    for name, by_proxy in taken.items():
        out[name] = {}
        for proxy, runs in by_proxy.items():
            rates = [f["rate"] for f in runs]
            cpus = [f["cpu_per_unit"] for f in runs if f["cpu_per_unit"] is not None]
            out[name][proxy] = {"rate": middle(rates), "spread": spread(rates), "cpu": middle(cpus),
                                "cpu_spread": spread(cpus) if cpus else None,
                                "p99_us": middle([f["us"]["p99"] for f in runs if "us" in f]), "errors": sum(f.get("errors", 0) for f in runs),
                                "in_syn": [middle(side) for side in zip(*(f["in_syn"] for f in runs if "in_syn" in f))]}
    return out


def to_best(row, peers, name):
    """One row to the best of others, by rate and by CPU, which may be two; more is better, but of memory."""
    best = (min if name == "idle" else max)(peers, key=lambda p: peers[p]["rate"])
    least = min(peers, key=lambda p: peers[p]["cpu"])
    return {"best_peer": best, "rate_to_best_peer": row["rate"] / peers[best]["rate"],
            "least_cpu_peer": least, "cpu_to_least": row["cpu"] / peers[least]["cpu"] if peers[least]["cpu"] else None}


def is_ours(name):
    return name.split("-")[0] == OURS


def ratios(name, rows):
    """Ours to the best peer and to both limits; and what the bare relay, the limit of SOCKS proxies, is to the best peer."""
    ours, bare = rows.get(OURS), rows.get(BARE_RELAY)
    peers = {p: r for p, r in rows.items() if p not in (NO_PROXY, BARE_RELAY) and not is_ours(p)}
    if not ours or not peers:
        return {}
    out = to_best(ours, peers, name)
    if NO_PROXY in rows:
        out["rate_to_no_proxy"] = ours["rate"] / rows[NO_PROXY]["rate"]
    if bare:
        out["rate_to_bare_relay"], out["cpu_to_bare_relay"] = ours["rate"] / bare["rate"], ours["cpu"] / bare["cpu"]
        out["bare_relay"] = to_best(bare, peers, name)
    return out


def percent(share):
    return "-" if share is None else f"{share * 100:.0f}%"


def tell_ratios(to, idle):
    rate, cpu = f"{to['rate_to_best_peer']:.2f} x {to['best_peer']}", ""
    if "rate_to_no_proxy" in to:
        rate += f", {to['rate_to_no_proxy']:.2f} x no proxy"
    if not idle:
        cpu = f"; CPU {to['cpu_to_least']:.2f} x {to['least_cpu_peer']}"
    if "bare_relay" in to:
        rate += f", {to['rate_to_bare_relay']:.2f} x {BARE_RELAY}"
        cpu += f", {to['cpu_to_bare_relay']:.2f} x {BARE_RELAY}"
    print(f"{OURS}: {rate}{cpu}")
    if "bare_relay" in to:
        limit = to["bare_relay"]
        print(f"{BARE_RELAY}, the limit of a SOCKS proxy: {limit['rate_to_best_peer']:.2f} x {limit['best_peer']}; "
              f"CPU {limit['cpu_to_least']:.2f} x {limit['least_cpu_peer']}")


def tell_fast_open(rows):
    """Whether those that were to open fast did: how many of their connections had data in the SYN, as either end's kernel counts."""
    for p in (p for p in PROXIES if "fast_open" in p.how and p.name in rows):
        sent, taken = rows[p.name]["in_syn"]
        verdict = "data in the SYN" if min(sent, taken) > 0.9 else "NO fast open"
        print(f"{p.name}: {verdict} (sent and taken for each connection: {sent:.2f}, {taken:.2f})")


def tell(result):
    print(f"\n{result['machine']}; medians of {result['reps']}, {result['seconds']} s each")
    for s in SCENARIOS:
        rows = result["medians"].get(s.name)
        if not rows:
            continue
        print(f"\n{s.title}")
        table(["", s.unit, "+-", s.cpu_unit, "+-", "p99 us"], [
            [p, show(r["rate"]), percent(r["spread"]), show(r["cpu"]), percent(r["cpu_spread"]),
             show(r["p99_us"]) if s.mode in ("connect", "ask") else "-"] for p, r in rows.items()])
        tell_fast_open(rows)
        to = result["ratios"].get(s.name)
        if to:
            tell_ratios(to, s.mode == "idle")


# Small charts, three in a row: rates, and the CPU that they cost below them. What is plotted is what the tables say.
PLOT = """set terminal {terminal}
set output '{picture}'
set multiplot layout 4,3 title "{title}" noenhanced font ",12"
set style fill solid 0.85
set boxwidth 0.7
set border 3
set xtics nomirror noenhanced font ",7"
set ytics nomirror font ",9"
set title font ",10"
unset key
set rmargin 5
{charts}
unset multiplot
"""
CHART = """set title "{title}\\n{unit}" noenhanced
unset logscale y
set yrange [{least}:{most}]
{scale}
plot '-' using 0:2:3:xtic(1) with boxes lc rgb variable, '' using 0:2:4 with labels offset 0,0.6 font ",9"
{data}e
{data}e
"""
COLOUR_OURS, COLOUR_LIMIT, COLOUR_THEIRS = 0x2a6fb0, 0x8fa39b, 0xb8c2cc
TERMINALS = {".svg": "svg size 1500,1120 background rgb 'white' font 'sans-serif,11'",
             ".png": "pngcairo size 1500,1120 background rgb 'white' font 'sans-serif,10'"}


def chart(s, rows, key, unit):
    """Memory, where the largest is hundreds of times ours, on a logarithmic scale."""
    shown = [(p, r[key]) for p, r in rows.items() if r[key] is not None]
    most = max(value for _, value in shown)
    data = ""
    for p, value in shown:
        label = p.replace(f"{OURS}-", "with-").replace("-", "\\n")
        colour = COLOUR_OURS if is_ours(p) else COLOUR_LIMIT if p in (NO_PROXY, BARE_RELAY) else COLOUR_THEIRS
        data += f'"{label}" {value} {colour} {show(value)}\n'
    wide = s.mode == "idle"
    return CHART.format(title=s.title, unit=unit, data=data, scale="set logscale y" if wide else "", least=0.1 if wide else 0,
                        most=most * (3 if wide else 1.15))


def draw(result, picture):
    gnuplot = lab.find("gnuplot")
    if gnuplot is None:
        print(f"no {picture.name}: gnuplot is not installed (Debian: {lab.PACKAGES['gnuplot']})", file=sys.stderr)
        return
    shown = [(s, result["medians"][s.name]) for s in SCENARIOS if result["medians"].get(s.name)]
    charts = ""
    for i in range(0, len(shown), 3):
        row = shown[i:i + 3]
        charts += "".join(chart(s, rows, "rate", s.unit) for s, rows in row) + "set multiplot next\n" * (3 - len(row))
        charts += "".join(chart(s, rows, "cpu", s.cpu_unit) for s, rows in row if s.mode != "idle")
    script = PLOT.format(terminal=TERMINALS[picture.suffix], picture=picture, charts=charts,
                         title=f"{result['machine']}; client, proxy and target on them")
    subprocess.run([gnuplot], input=script, text=True, check=True)


def parse():
    p = argparse.ArgumentParser(description="sockroute beside its peers")
    p.add_argument("--reps", type=int, default=5)
    p.add_argument("--seconds", type=float, default=1.0)
    p.add_argument("--only", default="", help="proxies, with commas")
    p.add_argument("--scenario", default="", help="scenarios, with commas")
    p.add_argument("--out", type=pathlib.Path, default=pathlib.Path("bench.json"))
    p.add_argument("--picture", type=pathlib.Path, default=pathlib.Path("bench.svg"), help=".svg or .png")
    p.add_argument("--report", type=pathlib.Path, help="a file of an earlier run: only tells and draws")
    args = p.parse_args()
    if args.picture.suffix not in TERMINALS:
        p.error("--picture: .svg or .png")
    return args


def chosen(all_of_them, names):
    return [x for x in all_of_them if not names or x.name in names.split(",")]


def main():
    args = parse()
    if args.report:
        result = json.loads(args.report.read_text())
    else:
        lab.enter_namespace()
        proxies = chosen(PROXIES, args.only)
        for p in filter(lab.Proxy.missing, proxies):
            print(f"{p.name} is left out: Debian's {lab.PACKAGES[p.program]} is not installed", file=sys.stderr)
        taken = run(args, [p for p in proxies if not p.missing()], chosen(SCENARIOS, args.scenario))
        medians = sum_up(taken)
        result = {"machine": lab.machine(), "reps": args.reps, "seconds": args.seconds, "medians": medians,
                  "ratios": {name: ratios(name, rows) for name, rows in medians.items()}, "runs": taken}
        args.out.write_text(json.dumps(result, indent=1) + "\n")
    tell(result)
    draw(result, args.picture)


if __name__ == "__main__":
    main()
