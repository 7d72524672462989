#!/usr/bin/env python3
"""make bench-syscalls: how many system calls a CONNECT costs, with one echo, from accept to close.

Counted with strace over connections made one after the other, so that nothing is shared between them: each has its own turns of the
loop, which is the worst case. Prints the table and fails where a bound is passed. tests/whole/test_syscalls.py checks the same.
"""
import contextlib
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import lab
from lab import CHAINED

# Calls of one connection: all, and the work alone. The rest, waiting for events and handing access lines to the log's thread, is
# shared between connections as soon as there are several at a time.
BOUNDS = {
    "direct": {"all": 38, "work": 23},
    "chain": {"all": 45, "work": 27},
    "pipeline": {"all": 42, "work": 25},
    "fast_open": {"all": 46, "work": 28},
    "both": {"all": 43, "work": 26},
}
SHARED = ("epoll_wait", "epoll_pwait", "epoll_pwait2", "futex", "write")
ATTACHED_WITHIN = 10.0


def attached(pid):
    """True as soon as strace has all its threads."""
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            if re.search(r"^TracerPid:\t0$", (task / "status").read_text(), re.M):
                return False
    return True


def parse(text):
    """{call: how often} of strace -c."""
    calls = {}
    for line in text.splitlines():
        m = re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)(?:\s+\d+)?\s+(\w+)$", line)
        if m and m[2] != "total":
            calls[m[2]] = int(m[1])
    return calls


def count_calls(pid, work, table):
    """The calls of all threads of a process while work() runs; None where strace can't attach. table: a file for strace."""
    strace = lab.find("strace")
    if strace is None:
        return None
    tracer = subprocess.Popen([strace, "-f", "-c", "-q", "-p", str(pid), "-o", str(table)], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + ATTACHED_WITHIN
        while not attached(pid):
            if tracer.poll() is not None or time.monotonic() > end:
                return None
            time.sleep(0.01)
        work()
    finally:
        with contextlib.suppress(ProcessLookupError):
            tracer.send_signal(signal.SIGINT)
        tracer.wait()
    return parse(pathlib.Path(table).read_text())


def receive(s, n):
    data = b""
    while len(data) < n:
        more = s.recv(n - len(data))
        if not more:
            raise ConnectionError("ended early")
        data += more
    return data


def connect_once(proxy, target):
    """A CONNECT with one echo, closed by the client, and by the proxy then."""
    with socket.create_connection(("127.0.0.1", proxy), 10) as s:
        s.sendall(b"\x05\x01\x00")
        receive(s, 2)
        s.sendall(b"\x05\x01\x00\x01\x7f\x00\x00\x01" + target.to_bytes(2, "big"))
        if receive(s, 10)[1] != 0:
            raise ConnectionError("refused")
        s.sendall(b"E" * 64)
        receive(s, 64)
        s.shutdown(socket.SHUT_WR)
        if s.recv(1):
            raise ConnectionError("more than the echo")


def per_connection(calls, idle, n):
    """{call: per connection} without what the process does anyway, and the sums that the bounds are for."""
    each = {name: max(0, count - idle.get(name, 0)) / n for name, count in calls.items()}
    each = {name: value for name, value in each.items() if value >= 0.05}
    return each, {"all": sum(each.values()), "work": sum(v for name, v in each.items() if name not in SHARED)}


def count_connections(pid, proxy, target, n, table):
    """per_connection() of n CONNECTs; None where strace can't attach."""
    def work():
        for _ in range(n):
            connect_once(proxy, target)

    connect_once(proxy, target)
    took = time.monotonic()
    calls = count_calls(pid, work, table)
    took = time.monotonic() - took
    # What timers and checks of the process itself make in as long a time.
    idle = count_calls(pid, lambda: time.sleep(took), table)
    return per_connection(calls, idle, n) if calls and idle is not None else None


def main():
    lab.enter_namespace()
    passed = True
    n = 200
    rows, sums = {}, {}
    for way in BOUNDS:
        with lab.Lab() as here:
            here.target()
            here.sockroute(lab.policy(port=lab.UPSTREAM), name="upstream")
            router = here.sockroute(lab.policy(workers=1) if way == "direct" else lab.through(lab.UPSTREAM, CHAINED.get(way, ()), workers=1))
            counted = count_connections(router.pid, lab.PROXY, lab.TARGET, n, here.folder / "calls")
        if counted is None:
            sys.exit("strace can't attach: run as root, or allow ptrace")
        each, sums[way] = counted
        for name, value in each.items():
            rows.setdefault(name, {})[way] = value
    order = sorted(rows, key=lambda name: -rows[name].get("direct", 0))
    lab.table(["calls per connection", *BOUNDS], [[name, *(f"{rows[name].get(way, 0):.2f}" for way in BOUNDS)] for name in order])
    for what, text in (("all", "all"), ("work", "the work alone")):
        lab.table([text, *BOUNDS], [["counted", *(f"{sums[way][what]:.1f}" for way in BOUNDS)],
                                    ["at most", *(BOUNDS[way][what] for way in BOUNDS)]])
        passed = passed and all(sums[way][what] <= BOUNDS[way][what] for way in BOUNDS)
    print("passed" if passed else "FAILED: more than the bound")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
