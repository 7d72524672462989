#!/usr/bin/env python3
"""make bench-chain: how long a client waits for its reply through a chain of three upstreams, each link 50 ms of round trip, user name
and password at each hop: with neither, with `pipeline`, with `pipeline` and `warm`.

Hops are sockroutes of their own, each in a network namespace; links are veth pairs with `tc netem` at both ends, or, where the kernel
has no netem, pairs of TUN devices between which a process holds each packet back for as long. The client is beside the first router
and the target beside the last hop, so neither has a link of its own. Needs root and ip. The exit status is 1 where a goal is missed:
pipeline at most 0.45 of neither, both at most 0.30.

  make bench-chain BENCH="--requests 20 --rtt 50"
"""
import argparse
import collections
import ctypes
import fcntl
import json
import os
import pathlib
import select
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time

BINARY = os.path.abspath(os.environ.get("SOCKROUTE", "./sockroute"))
GOALS = {"neither": 1.0, "pipeline": 0.45, "pipeline and warm": 0.30}
PORT, TARGET = 1080, 8080
HOPS = 3


def sh(*args):
    subprocess.run([str(a) for a in args], check=True)


def hash_of(password):
    """A crypt(3) hash that costs little, as it is not what is measured."""
    made = subprocess.run(["openssl", "passwd", "-5", "-salt", "saltsalt", password], check=True, capture_output=True, text=True)
    return made.stdout.strip()


def is_serving(pid):
    """Does it listen on PORT, in its namespace? Until it is our program it may be in another one."""
    listening = f":{PORT:04X} 00000000:0000 0A "
    return os.path.samefile(f"/proc/{pid}/exe", BINARY) and listening in pathlib.Path(f"/proc/{pid}/net/tcp").read_text()


def wait_serving(child):
    end = time.monotonic() + 20
    while not is_serving(child.pid):
        if child.poll() is not None or time.monotonic() > end:
            raise SystemExit("bench-chain: a sockroute does not serve")
        time.sleep(0.01)


class Chain:
    """The namespaces: r (router and client), h1 to h3 (hops, the target beside the last), with their links."""

    def __init__(self, rtt_ms):
        self.tag = f"srb{os.getpid()}"
        self.names = [f"{self.tag}-{n}" for n in ("r", "h1", "h2", "h3")]
        self.children, self.delays = [], []
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sockroute-chain-"))
        for name in self.names:
            sh("ip", "netns", "add", name)
            sh("ip", "-n", name, "link", "set", "lo", "up")
        for i in range(HOPS):
            self.link(i, rtt_ms)

    def link(self, i, rtt_ms):
        ends = ((self.names[i], f"d{i}", self.address(i, 1)), (self.names[i + 1], f"u{i}", self.address(i, 2)))
        if has_netem():
            sh("ip", "-n", ends[0][0], "link", "add", f"d{i}", "type", "veth", "peer", "name", f"u{i}", "netns", ends[1][0])
        else:
            self.delays.append(hold_back(ends, rtt_ms / 2000))
        for name, device, address in ends:
            sh("ip", "-n", name, "addr", "add", f"{address}/24", "dev", device)
            sh("ip", "-n", name, "link", "set", device, "up")
            if has_netem():
                sh("ip", "netns", "exec", name, "tc", "qdisc", "add", "dev", device, "root", "netem", "delay", f"{rtt_ms / 2}ms")

    @staticmethod
    def address(link, end):
        return f"10.77.{link}.{end}"

    def start(self, namespace, policy, name):
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(policy))
        log = open(self.folder / f"{name}.log", "wb")
        child = subprocess.Popen(["ip", "netns", "exec", self.names[namespace], BINARY, "run", "--config", str(path)], stdin=subprocess.DEVNULL,
                                 stdout=log, stderr=log)
        self.children.append(child)
        wait_serving(child)
        return child

    def stop(self, child):
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(5)
        self.children.remove(child)

    def close(self):
        for child in list(self.children):
            self.stop(child)
        for pid in self.delays:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        for name in self.names:
            subprocess.run(["ip", "netns", "delete", name], check=False)


def hop_policy(hash_text):
    return {"workers": 1, "log": {"level": "error", "access": False},
            "listeners": [{"listen": f"0.0.0.0:{PORT}", "protocols": ["socks5"], "auth": "all"}],
            "auth": [{"name": "all", "methods": ["userpass"], "users": [{"name": "u", "password_hash": hash_text}]}],
            "default_route": "direct"}


def router_policy(pipeline, warm):
    upstreams = [{"name": f"h{i + 1}", "url": f"socks5://u:p@{Chain.address(i, 2)}:{PORT}", "pipeline": pipeline} for i in range(HOPS)]
    upstreams[0]["warm"] = warm
    return {"workers": 1, "log": {"level": "error", "access": False}, "listeners": [{"listen": f"127.0.0.1:{PORT}"}], "upstreams": upstreams,
            "chains": [{"name": "c", "hops": [u["name"] for u in upstreams]}], "default_route": "c"}


def enter(namespace):
    clone_newnet = 0x40000000
    with open(f"/run/netns/{namespace}") as f:
        if ctypes.CDLL(None, use_errno=True).setns(f.fileno(), clone_newnet) != 0:
            raise OSError(ctypes.get_errno(), "setns")


def has_netem():
    """Asked once, of a namespace that goes at once."""
    if has_netem.known is None:
        name = f"srb{os.getpid()}-x"
        sh("ip", "netns", "add", name)
        has_netem.known = subprocess.run(["ip", "netns", "exec", name, "tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"],
                                         check=False, stderr=subprocess.DEVNULL).returncode == 0
        sh("ip", "netns", "delete", name)
    return has_netem.known


has_netem.known = None


def tun(name):
    tunsetiff, iff_tun, iff_no_pi = 0x400454CA, 0x0001, 0x1000
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, tunsetiff, struct.pack("16sH22x", name.encode(), iff_tun | iff_no_pi))
    return fd


def hold_back(ends, seconds):
    """A process that carries packets between a TUN device in either namespace, each after so long; its pid."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        if os.read(reader, 1) != b"+":
            raise SystemExit("bench-chain: no TUN devices")
        os.close(reader)
        return pid
    fds = []
    for namespace, device, _ in ends:
        enter(namespace)
        fds.append(tun(device))
    os.write(writer, b"+")
    waiting = collections.deque()      # (when, to, packet): all wait equally long, so the first is the next
    while True:
        now = time.monotonic()
        while waiting and waiting[0][0] <= now:
            _, to, packet = waiting.popleft()
            try:
                os.write(to, packet)
            except OSError:            # the device is not up yet
                pass
        ready, _, _ = select.select(fds, [], [], max(0, waiting[0][0] - now) if waiting else None)
        for fd in ready:
            try:
                waiting.append((time.monotonic() + seconds, fds[1 - fds.index(fd)], os.read(fd, 65536)))
            except OSError:
                pass


def recv_exactly(s, n):
    data = b""
    while len(data) < n:
        piece = s.recv(n - len(data))
        if not piece:
            raise EOFError("the router left")
        data += piece
    return data


def request():
    """Seconds from the client's request to its reply."""
    with socket.create_connection(("127.0.0.1", PORT), timeout=20) as s:
        s.sendall(b"\x05\x01\x00")
        recv_exactly(s, 2)
        began = time.monotonic()
        s.sendall(b"\x05\x01\x00\x01" + socket.inet_aton("127.0.0.1") + TARGET.to_bytes(2, "big"))
        reply = recv_exactly(s, 10)
        took = time.monotonic() - began
        if reply[1] != 0:
            raise RuntimeError(f"answered with {reply[1]}")
        s.sendall(b"hello")
        if recv_exactly(s, 5) != b"hello":
            raise RuntimeError("other bytes came back")
        return took


def serve_echo(namespace):
    """The target, in a process of its own."""
    pid = os.fork()
    if pid:
        return pid
    enter(namespace)
    server = socket.create_server(("127.0.0.1", TARGET))
    while True:
        conn, _ = server.accept()
        data = conn.recv(100)
        conn.sendall(data)
        conn.close()


def measure(chain, pipeline, warm, n):
    """In a process of its own, as it enters the router's namespace. The median over n requests, one after another."""
    router = chain.start(0, router_policy(pipeline, warm), "router")
    if warm:
        time.sleep(1.5)                # for what is warm to be ready
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        enter(chain.names[0])
        request()                      # hops that have not been tried are, once
        times = []
        for _ in range(n):
            time.sleep(0.4)            # a warm connection that was used is replaced
            times.append(request())
        os.write(writer, json.dumps(times).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as f:
        text = f.read()
    os.waitpid(pid, 0)
    chain.stop(router)
    if not text:
        raise SystemExit(f"bench-chain: no figures: see {chain.folder}")
    return statistics.median(json.loads(text))


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--requests", type=int, default=11)
    args.add_argument("--rtt", type=float, default=50, help="ms of each link")
    o = args.parse_args()
    chain, target, missed = Chain(o.rtt), None, False
    try:
        target = serve_echo(chain.names[HOPS])
        for i in range(HOPS):
            chain.start(i + 1, hop_policy(hash_of("p")), f"hop{i + 1}")
        print(f"chain of {HOPS}, {o.rtt:g} ms round trip for each link, userpass on each hop; request to reply, median of {o.requests}")
        print(f"{'':20}{'ms':>8}{'of neither':>12}{'goal':>8}")
        first = None
        for name, (pipeline, warm) in zip(GOALS, ((False, 0), (True, 0), (True, 4))):
            took = measure(chain, pipeline, warm, o.requests)
            first = first or took
            missed |= took / first > GOALS[name]
            print(f"{name:20}{took * 1000:8.1f}{took / first:12.3f}{GOALS[name]:8.2f}", flush=True)
    finally:
        if target:
            os.kill(target, signal.SIGKILL)
            os.waitpid(target, 0)
        chain.close()
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
