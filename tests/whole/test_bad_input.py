"""Bad input of every kind: a clear error or a close, in bounded memory, with nothing else disturbed."""
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

import harness as h
import peers

MIB = 1024  # of memory_kib


class Calm:
    """A router with an open session, and how much memory it had: nothing that strangers do may disturb either."""

    def __init__(self, run, serve, **policy):
        self.target = serve(h.echo)
        self.router = run(h.policy(**policy))
        self.front = self.router.front
        self.session, _ = h.socks5(self.front, "127.0.0.1", self.target.port)
        self.check()
        self.memory = self.router.memory_kib()

    def check(self):
        self.session.sendall(b"still here")
        assert h.recv_exactly(self.session, 10) == b"still here"

    def check_memory(self, mib):
        self.check()
        grown = self.router.memory_kib("VmHWM") - self.memory
        assert grown < mib * MIB * h.SLOW, f"{grown} KiB more"


@pytest.fixture
def calm(run, serve):
    return lambda **policy: Calm(run, serve, **policy)


# ---- clients ----

def push(port, data, seconds=1):
    """Sends as much of it as is taken within a while; how much that was, and what came back."""
    s = h.connect(port)
    s.setblocking(False)
    sent, got, end = 0, b"", time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            readable, writable, _ = select.select([s], [s] if sent < len(data) else [], [], 0.05)
            if readable:
                piece = s.recv(65536)
                if not piece:
                    break
                got += piece
            if writable:
                sent += s.send(data[sent:sent + 65536])
    except OSError:
        pass
    s.close()
    h.opened.remove(s)
    return sent, got


def test_garbage(calm):
    """A thousand clients that say anything, some of it like a protocol; each is answered or closed."""
    # what happens to be a request goes nowhere
    c = calm(timeouts={"handshake": f"{int(h.SLOW)}s"}, rules=[{"match": {"ip_cidr": ["127.0.0.1/32"]}, "route": "direct"}], default_route="reject")
    rng = random.Random(1)
    starts = [b"", b"\x04\x01", b"\x04\x02", b"\x05\x01\x00\x05", b"\x05\x02\x00\x02\x05\x01\x00", b"\x05\xff", b"CONNECT ", b"GET / HTTP/1.1\r\n", b"\x16\x03\x01"]

    def strangers(seed):
        r = random.Random(seed)
        for _ in range(125):
            s = h.connect(c.front)
            try:
                s.sendall(r.choice(starts) + r.randbytes(r.choice([0, 1, 10, 300, 5000])))
                if r.random() < 0.5:
                    s.shutdown(socket.SHUT_WR)
                    h.recv_all(s)
            except OSError:
                pass
            s.close()

    threads = [threading.Thread(target=strangers, args=(rng.random(),)) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    c.check_memory(8)
    assert h.socks5(c.front, "127.0.0.1", c.target.port)[1] == 0


@pytest.mark.parametrize("head", h.named([
    ("SOCKS4 user id", b"\x04\x01\x00\x50\x7f\x00\x00\x01"), ("SOCKS4a name", b"\x04\x01\x00\x50\x00\x00\x00\x01u\x00"),
    ("HTTP target", b"CONNECT "), ("HTTP field", b"CONNECT a:80 HTTP/1.1\r\nA: "), ("another protocol", b"\x16\x03\x01"),
]))
def test_endless_messages(calm, head):
    c = calm()
    sent, _ = push(c.front, head + b"a" * 20_000_000)
    assert sent < 20_000_000
    c.check_memory(4)


def test_a_thousand_halves_of_handshakes(calm):
    """All at once; those who know how to ask are served beside them."""
    c = calm(timeouts={"handshake": "1m"})
    halves = [b"", b"\x05", b"\x05\x01\x00", b"\x04\x01\x00\x50", b"CONNECT localhost:80 HTTP/1.1\r\nA: " + b"a" * 3000]
    for i in range(1000):
        h.connect(c.front).sendall(halves[i % 5])
    h.wait_until("all to be there", lambda: c.router.stats()["sessions"]["open"] >= 1001)
    assert h.socks5(c.front, "127.0.0.1", c.target.port)[1] == 0
    c.check_memory(16)


def test_early_bytes_without_end(calm, started):
    """While its destination is silent a client may send what it likes: it is held back by TCP, not kept."""
    silent = started(h.SilentPort())
    c = calm(timeouts={"connect": "3s"})
    for _ in range(3):
        sent, _ = push(c.front, b"\x05\x01\x00" + h.socks5_request("127.0.0.1", silent.port) + bytes(30_000_000))
        assert sent < 20_000_000
    c.check_memory(4)


@pytest.mark.parametrize("way", h.ASK)
def test_a_reader_that_stalls(calm, serve, way):
    """The destination, or the client, sends without end and the other side does not read."""
    c = calm()
    flood = bytes(1 << 20)
    stalled, seen = threading.Event(), threading.Event()

    def floods(conn, _server):
        conn.settimeout(0.5)
        try:
            while True:
                conn.sendall(flood)
        except TimeoutError:
            stalled.set()
        h.recv_all(conn)

    def silent(conn, _server):
        seen.wait(2 * h.DEADLINE * h.SLOW)

    down, _ = h.ASK[way](c.front, "127.0.0.1", serve(floods).port)
    up, _ = h.ASK[way](c.front, "127.0.0.1", serve(silent).port)
    up.settimeout(0.5)
    with pytest.raises(TimeoutError):
        while True:
            up.sendall(flood)
    assert stalled.wait(h.DEADLINE * h.SLOW)
    c.check_memory(4)
    assert not c.router.spins()
    seen.set()
    down.close()


# ---- upstreams and name servers ----

FLOODS = [
    ("socks5", peers.says(b"\x05" * 20_000_000)), ("socks5", peers.says(3, b"\x05\x00" * 10_000_000)),
    ("http", peers.says("head", b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 3_000_000)), ("http", peers.says("head", b"HTTP/1.1 100 Go on\r\n\r\n" * 800_000)),
    ("socks4", peers.says(b"\x00\x5b" * 10_000_000)), ("https", peers.says(b"\x16\x03\x03\x40\x00" + bytes(20_000_000))),
]


def test_upstreams_that_flood(calm, serve):
    c = calm(upstreams=[{"name": f"u{i}", "url": f"{scheme}://127.0.0.1:{serve(handler).port}"} for i, (scheme, handler) in enumerate(FLOODS)],
             rules=[{"match": {"port": [1 + i]}, "route": f"u{i}"} for i in range(len(FLOODS))], timeouts={"connect": "2s"})
    for i in range(len(FLOODS)):
        for _ in range(3):
            rep = h.socks5(c.front, "127.0.0.1", 1 + i)[1]
            assert rep in (0, 1)  # 0: two bytes of its flood may be a grant, and the rest the destination's
    c.check_memory(8)


ANSWERS = [lambda q: b"", lambda q: b"\0", lambda q: os.urandom(100), lambda q: q[:2] + os.urandom(500), lambda q: q, lambda q: q[:2] + b"\x81\x80" + bytes(8),
           lambda q: q[:2] + b"\x81\x80\x00\x01\xff\xff\x00\x00\x00\x00" + q[12:] + b"\xc0\x0c" * 200,
           lambda q: q[:2] + b"\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00" + q[12:] + b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x02\xc0\x0c",
           lambda q: q[:2] + b"\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00" + q[12:] + b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x03\x7f\x00\x00"]


def test_name_servers_that_answer_nonsense(calm):
    """Too short, too long, loops, of another name, of another id: the client is told, at the latest when time is up."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", h.free_port()))

    def serve_dns():
        n = 0
        while True:
            try:
                query, who = server.recvfrom(4096)
                if not query:
                    return
                server.sendto(ANSWERS[n % len(ANSWERS)](query), who)
            except OSError:
                return
            n += 1

    thread = threading.Thread(target=serve_dns)
    thread.start()
    c = calm(dns={"servers": ["127.0.0.1:%d" % server.getsockname()[1]], "timeout": "100ms", "attempts": 1, "cache": {"negative_ttl": "0s"}},
             timeouts={"connect": "300ms"})
    clients = []
    for i in range(4 * len(ANSWERS)):
        s = h.connect(c.front)
        s.sendall(h.socks4_request(f"n{i}.test", 80))
        clients.append(s)
    assert {h.recv_all(s) for s in clients} == {b"\x00\x5b" + bytes(6)}
    server.sendto(b"", server.getsockname())
    thread.join()
    server.close()
    c.check_memory(4)


# ---- the admin port ----

def test_bad_admin_requests(calm):
    """Garbage, a body of 100 MB that is announced or really comes, a head without end, half a request."""
    c = calm()
    api = c.router.api
    for data in (b"\x05\x01\x00" * 100, os.urandom(10_000), b"GET / HTTP/9.9\r\n\r\n", b"GET " + b"/" * 100_000, b"PUT /v1/policy HTTP/1.1\r\nHost: localhost\r\nA: " + b"a" * 5_000_000):
        sent, _ = push(api, data)
        assert sent < 4_000_000
    head = b"PUT /v1/policy HTTP/1.1\r\nHost: localhost:%d\r\nContent-Length: 104857600\r\n\r\n" % api
    with h.connect(api) as s:
        s.sendall(head)
        got = h.read_head(s)
    assert got.startswith(b"HTTP/1.1 413 ") and b"application/problem+json" in got
    _, got = push(api, head + bytes(104_857_600), seconds=10)
    assert got == b"" or got.startswith(b"HTTP/1.1 413 ")
    halves = [h.connect(api) for _ in range(50)]
    for s in halves:
        s.sendall(b"PUT /v1/policy HTTP/1.1\r\nContent-Length: 1000\r\n\r\n{")
    assert h.socks5(c.front, "127.0.0.1", c.target.port)[1] == 0
    for s in halves:
        s.close()
    assert c.router.get("/v1/status")["state"] == "running" and c.router.revision() == 1
    c.check_memory(16)


# ---- policies ----

# A process that is small itself, since the peak of its child's memory begins with its own.
MEASURE = """import resource, subprocess, sys
code = subprocess.call(sys.argv[2:], stdout=sys.stderr)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
open(sys.argv[1], "w").write(f"{code} {used.ru_maxrss} {used.ru_utime + used.ru_stime}")"""


def check(path):
    """`sockroute check`: (exit code, what it printed, KiB at most, seconds of CPU time)."""
    result = path.with_suffix(".result")
    printed = subprocess.run([sys.executable, "-S", "-c", MEASURE, result, h.BINARY, "check", path], stderr=subprocess.PIPE, check=True).stderr
    code, kib, seconds = result.read_text().split()
    return int(code), printed.decode(), int(kib), float(seconds)


def nested(n, inside="1"):
    return "[" * n + inside + "]" * n


POLICIES = h.named([
    ("nothing", b"", "/:"), ("blanks", b" \n\n ", ""), ("no JSON", b"listeners: []\n", ""), ("another type", b"[]", ""), ("a null byte", b'{"a\0": 1}', ""),
    ("no UTF-8", b'{"comment": "\xff\xfe"}', ""), ("binary", bytes(range(256)) * 1000, ""), ("a number without end", b'{"workers": ' + b"9" * 1_000_000 + b"}", "workers"),
    ("10,000 nested arrays", nested(10_000).encode(), "64"), ("10,000 nested arrays in a key", ('{"rules": ' + nested(10_000) + "}").encode(), "64"),
    ("10,000 nested objects", ('{"a":' * 10_000 + "1" + "}" * 10_000).encode(), "64"), ("arrays that are not closed", b"[" * 1_000_000, "64"),
    ("a not in a not, 1000 times", ('{"rules": [{"match": ' + '{"not": ' * 1000 + "{}" + "}" * 1000 + "}]}").encode(), "64"),
    ("a string without end", b'{"comment": "' + b"a" * 1_000_000, ""), ("a key twice, often", b"{" + b'"workers": 1,' * 100_000 + b'"workers": 1}', "workers"),
    ("a million faults", b'{"rules": [' + b'"x",' * 1_000_000 + b'"x"]}', "/rules/0"),
])


@pytest.mark.parametrize("text, hint", POLICIES)
def test_bad_policies(folder, text, hint):
    """Each error with its place, exit code 2; neither much time nor much memory."""
    path = folder / "policy.json"
    path.write_bytes(text)
    code, printed, kib, seconds = check(path)
    lines = printed.splitlines()
    assert code == 2 and lines and all(line.startswith(f"{path}:") for line in lines), printed[:2000]
    assert any(hint.strip("/:") in line for line in lines), printed[:2000]
    assert len(lines) <= 1001
    assert seconds < 5 * h.SLOW
    assert kib < (60 * MIB + 100 * len(text) // 1024) * h.SLOW


def test_a_policy_of_100_mb(folder, calm):
    """Refused for its size, on the command line and by a running router, without being read into memory."""
    path = folder / "huge.json"
    with open(path, "wb") as f:
        f.write(b'{"comment": "')
        for _ in range(100):
            f.write(b"a" * 1_000_000)
        f.write(b'"}')
    code, printed, kib, _ = check(path)
    assert code == 2 and "too large" in printed and kib < 40 * MIB * h.SLOW, (printed, kib)
    c = calm()
    path.rename(c.router.policy_path)
    c.router.signal(signal.SIGHUP)
    h.wait_until("the log to tell", lambda: c.router.log_entries("policy error"))
    assert c.router.revision() == 1
    c.check_memory(8)


@pytest.mark.parametrize("what", ["/dev/zero", "folder", "missing", "set"])
def test_files_that_are_none(folder, what):
    """Without an end, a directory, not there; named on the command line or by the policy."""
    path = folder / "policy.json"
    if what == "folder":
        path.mkdir()
    elif what == "/dev/zero":
        path.symlink_to("/dev/zero")
    elif what == "set":
        path.write_text(json.dumps({**h.policy(), "sets": [{"name": "s", "type": "domain", "file": "/dev/zero"}, {"name": "t", "type": "ip", "file": "."}]}))
    code, printed, kib, seconds = check(path)
    assert code == 2 and printed.startswith(f"{path}"), printed
    assert what != "set" or ("/sets/0" in printed and "/sets/1" in printed)
    assert seconds < 5 * h.SLOW and kib < 400 * MIB * h.SLOW


def test_a_policy_that_is_large_and_sound(folder):
    """20,000 rules and 200,000 domains: checked in good time."""
    names = [f"host{i}.example{i % 1000}.test" for i in range(200_000)]
    policy = h.policy(sets=[{"name": "names", "type": "domain", "values": names}],
                      rules=[{"match": {"domain_suffix": [f"d{i}.test"], "port": [i % 65535 + 1]}, "route": "reject"} for i in range(20_000)])
    path = folder / "policy.json"
    path.write_text(json.dumps(policy))
    code, printed, _, seconds = check(path)
    assert (code, printed) == (0, f"{path}: ok\n") and seconds < 5 * h.SLOW
