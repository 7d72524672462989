#!/usr/bin/env python3
"""make bench-papers: all benchmarks in one go, and what they say as docs/benchmark.md with its picture. On a quiet machine, as root;
about ten minutes. The verdicts of the benchmarks are in the paper, and what was printed is what the paper has.

  make bench-papers BENCH="--reps 1 --seconds 0.3"       a short one, to see that it works
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
DOCS = HERE.parents[1] / "docs"

PAPER = """# Benchmark

Made by `make bench-papers`: every figure here is from one run on one machine, with the whole product switched on: 100 rules that are
all tried, access lines to a file, counters, deadlines, the admin API. Client, proxy and target share the cores, on loopback of a
network namespace of its own. What else the machine did meanwhile, on average, is said above the tables. Compare figures of one run only,
and CPU before rates: the rates of such a set-up swing by 15 % and more, and by more beside other work.
[performance.md](performance.md) says where the time goes.

![sockroute beside its peers](benchmark.svg)

## Beside its peers

`make bench`. haproxy in TCP mode has no handshake to do; "none" is the client straight to the target. "bare-relay" is the limit of a
SOCKS proxy: a few hundred lines of plain epoll that make the handshake and copy, and nothing else (no policy, log, deadlines, counters),
so it shows what the kernel and the handshake cost by themselves. Through an upstream, which is a sockroute for all, sockroute is shown
with `pipeline`, `fast_open` and both as well. CPU is that of all processes of the proxy, idle memory what 4000 idle sessions
(dante: 300) add to it.

```
{compare}
```

## System calls of a connection

`make bench-syscalls`. A CONNECT with one echo, one after the other, from accept to close: straight, and through one SOCKS5 upstream,
plain, with `pipeline`, with `fast_open`, with both.

```
{syscalls}
```

## What others feel

`make bench-fairness`. What the proxy does to those who ask and wait shows where it has a core of its own, and they needn't wait for one
either ("apart", "paced"); what a full machine does to them shows where all share the cores ("crowded"), without any proxy as well.
"Gbit/s beside" is what the streams moved meanwhile: little where askers ask again at once, since the ends of both share a core.

```
{fairness}
```

## What grows with what

`make bench-scale`. Sessions are up to 100,000, or as many as the limit of descriptors allows. What idle ones take is that of the whole
process, with the first sessions that it ever had.

```
{scale}
```
"""


def output_of(program, *args):
    """What it prints; it may well find that a bound is passed."""
    done = subprocess.run([sys.executable, HERE / f"{program}.py", *map(str, args)], stdout=subprocess.PIPE, text=True)
    if done.returncode not in (0, 1) or not done.stdout.strip():
        sys.exit(f"{program}: ended with {done.returncode}")
    return "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())


def main():
    p = argparse.ArgumentParser(description="all benchmarks, as a paper")
    p.add_argument("--reps", type=int, default=5)
    p.add_argument("--seconds", type=float, default=1.0)
    p.add_argument("--docs", type=pathlib.Path, default=DOCS, help="where benchmark.md and benchmark.svg go")
    args = p.parse_args()
    runs = ["--reps", args.reps, "--seconds", args.seconds]
    with tempfile.TemporaryDirectory() as folder:
        made = {
            "compare": output_of("compare", *runs, "--out", f"{folder}/bench.json", "--picture", args.docs / "benchmark.svg"),
            "syscalls": output_of("syscalls"),
            # Shorter ones: a tail has echoes enough in half as long, and the least of a few is what the least of more is.
            "fairness": output_of("fairness", "--reps", args.reps, "--seconds", args.seconds / 2),
            "scale": output_of("scale", "--reps", min(args.reps, 3), "--seconds", args.seconds),
        }
    (args.docs / "benchmark.md").write_text(PAPER.format(**made))


if __name__ == "__main__":
    main()
