"""Limits, time-outs, descriptors, signals and the drain."""
import contextlib
import itertools
import os
import select
import signal
import socket
import subprocess
import threading
import time

import pytest

import harness as h


def request(port, to_port, source=None):
    """A client that has asked and reads no answer yet."""
    s = socket.create_connection(("127.0.0.1", port), timeout=h.DEADLINE * h.SLOW, source_address=(source, 0) if source else None)
    h.opened.append(s)
    s.sendall(h.socks4_request("127.0.0.1", to_port))
    return s


def answered(s):
    s.setblocking(False)
    try:
        return s.recv(1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return False
    finally:
        s.settimeout(h.DEADLINE * h.SLOW)


def serve_all(clients):
    """Ends each client when it has its answer, in whatever order they come; the answers, and how many had one at a time at most."""
    answers, waiting, most = [], list(clients), 0
    while waiting:
        ready = h.wait_until("somebody to be answered", lambda: [s for s in waiting if answered(s)])
        most = max(most, len(ready))
        for s in ready:
            answers.append(h.recv_exactly(s, 8)[1])
            waiting.remove(s)
            s.close()
    return answers, most


# ---- how many ----

@pytest.mark.parametrize("listener, limits", [({"max_connections": 3}, {}), ({}, {"max_connections": 3})])
def test_above_the_limit_clients_wait_and_get_served(run, serve, listener, limits):
    """In the backlog, in front of either of two workers; never more are open than may be."""
    target = serve(h.echo)
    router = run(h.policy([h.listener(**listener)], limits=limits))
    waiting = [request(router.front, target.port) for _ in range(15)]
    answers, most = serve_all(waiting)
    assert answers == [90] * 15 and 0 < most <= 3
    assert router.stats()["accept"]["pauses"] > 0


def test_waiting_costs_nothing(run, serve):
    """Full, with clients in the backlog: no spinning; and the limit is one for all listeners together."""
    target = serve(h.echo)
    router = run(h.policy([h.listener("one"), h.listener("two")], limits={"max_connections": 2}))
    held = [request(router.port_of(i), target.port) for i in range(2)]
    for s in held:
        assert h.recv_exactly(s, 8)[1] == 90
    waiting = [request(router.port_of(i % 2), target.port) for i in range(6)]
    assert not router.spins()
    assert not any(answered(s) for s in waiting) and router.stats()["sessions"]["open"] == 2
    for s in held:
        s.close()
    assert serve_all(waiting)[1] <= 2


def test_above_the_limit_of_one_client_it_is_closed_at_once(run, serve):
    """Of its address, whichever worker has it; others are not concerned, and its place comes back."""
    target = serve(h.echo)
    router = run(h.policy([h.listener("front", max_connections_per_client=3), h.listener("other")]))

    def ask(source, port=None):
        try:
            s = request(port or router.front, target.port, source)
            return s if h.recv_exactly(s, 8)[1] == 90 else None
        except (EOFError, ConnectionError):
            return None

    held = [ask("127.0.0.1") for _ in range(3)]
    assert all(held)
    assert [ask("127.0.0.1") for _ in range(4)] == [None] * 4
    assert ask("127.0.0.2") and ask("127.0.0.1", router.port_of(1))
    assert router.stats()["accept"]["client_limit"] >= 4
    held.pop().close()
    h.wait_until("its place to be free", lambda: ask("127.0.0.1"))
    assert ask("127.0.0.1") is None


# ---- how long ----

HALVES = h.named([
    ("nothing", b""), ("a version", b"\x05"), ("half a greeting", b"\x05\x02\x00"), ("a greeting", b"\x05\x01\x02"),
    ("half a login", b"\x05\x01\x02\x01\x05ali"), ("half a SOCKS4 request", b"\x04\x01\x00\x50\x7f\x00\x00\x01user"),
    ("a login and half a request", b"\x05\x01\x02" + h.userpass("alice", "secret") + b"\x05\x01\x00\x03\x09loc"),
    ("half a head", b"CONNECT localhost:80 HTTP/1.1\r\nHost: local"),
])


def test_a_handshake_must_end_in_time(run):
    """Wherever it stops, and however often a byte trickles in."""
    router = run(h.policy([h.listener(auth="staff")], auth=[{"name": "staff", "methods": ["userpass"], "users": h.users("alice")}],
                          timeouts={"handshake": f"{int(500 * h.SLOW)}ms"}))
    clients, before = [], time.monotonic()
    for half in HALVES:
        s = h.connect(router.front)
        s.sendall(half.values[0])
        clients.append(s)
    slow, trickled = h.connect(router.front), 0
    with contextlib.suppress(OSError):
        for b in itertools.cycle(b"a"):
            slow.sendall(bytes([b]) if trickled else b"CONNECT localhost:80 HTTP/1.1\r\nA: ")
            trickled += 1
            if select.select([slow], [], [], 0.02)[0]:
                break
    assert trickled > 3 and h.ended(slow)
    for s in clients:
        assert h.ended(s)
    assert time.monotonic() - before > 0.4
    ends = h.wait_until("a line for each", lambda: (lines := router.log_entries("session"))[len(HALVES):] and [e["end"] for e in lines])
    assert ends.count("handshake timeout") == len(HALVES) + 1


def test_idle_is_when_neither_direction_moves(run, serve):
    """One that only sends, one that only receives and one half-closed stay while something moves; then each is ended."""
    release = threading.Event()

    def sends(conn, _server):
        while not release.wait(0.1):
            conn.sendall(b"x")
        h.recv_all(conn)

    def swallows(conn, _server):
        h.recv_all(conn)

    router = run(h.policy(timeouts={"idle": f"{int(2 * h.SLOW)}s"}))
    before = time.monotonic()
    idle, _ = h.socks5(router.front, "127.0.0.1", serve(h.echo).port)
    hears, _ = h.socks5(router.front, "127.0.0.1", serve(sends).port)
    half, _ = h.socks5(router.front, "127.0.0.1", serve(sends).port)
    half.shutdown(socket.SHUT_WR)
    speaks, _ = h.socks5(router.front, "127.0.0.1", serve(swallows).port)

    def speak():
        while not release.wait(0.1):
            speaks.sendall(b"y")

    speaker = threading.Thread(target=speak)
    speaker.start()
    assert h.recv_all(idle) == b"" and time.monotonic() - before > 1.9
    h.wait_until("twice as long to pass", lambda: time.monotonic() - before > 4.5 * h.SLOW)
    assert router.stats()["sessions"]["open"] == 3
    release.set()
    speaker.join()
    for s in (hears, half, speaks):
        h.recv_all(s)
    ends = {line["to"]: line["end"] for line in router.access_lines(4)}
    assert sorted(ends.values()) == ["done", "idle", "idle", "idle"]  # both had ended where one had before


def test_idle_may_be_never(run, serve):
    router = run(h.policy(timeouts={"idle": "0s", "handshake": f"{int(2 * h.SLOW)}s"}))
    s, _ = h.socks5(router.front, "127.0.0.1", serve(h.echo).port)
    before = time.monotonic()
    h.wait_until("some time to pass", lambda: time.monotonic() - before > 2.5 * h.SLOW)
    s.sendall(b"x")
    assert h.recv_exactly(s, 1) == b"x"


# ---- descriptors ----

def test_out_of_descriptors(run, serve):
    """Accepting pauses while there are enough left to dial, and says so once; nothing spins, open sessions go on, and whoever waits
    in the backlog is served afterwards."""
    target = serve(h.echo)
    router = run(h.policy(), prefix=[h.need("prlimit"), "--nofile=80:80"])
    first, _ = h.socks5(router.front, "127.0.0.1", target.port)
    clients = [request(router.front, target.port) for _ in range(60)]
    h.wait_until("accepting to pause", lambda: router.log_entries("accepting pauses"))
    h.wait_until("some to be served", lambda: sum(answered(s) for s in clients) > 10)
    assert not router.spins()
    first.sendall(b"still here")
    assert h.recv_exactly(first, 10) == b"still here"
    assert serve_all(clients)[0] == [90] * 60
    assert h.socks5(router.front, "127.0.0.1", target.port)[1] == 0
    pauses = router.log_entries("accepting pauses")
    assert len(pauses) <= 2 and "Too many open files" in pauses[0]["error"]  # by either worker


def test_pipes_take_no_sessions_descriptors(run, serve):
    """Every session holds bytes that its client does not take, and wants a pipe for them: those that there is none for do without, and
    there are as many sessions as there may be."""
    target = serve(lambda conn, _: (h.recv_exactly(conn, 1), conn.sendall(bytes(8_000_000))))
    router = run(h.policy(), prefix=[h.need("prlimit"), "--nofile=200:200"])
    left, others, readers = 200 - len(router.links()), router.pipes(), []
    for _ in range(left * 3 // 8 - 4):
        c = socket.socket()
        c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        c.settimeout(h.DEADLINE * h.SLOW)
        h.opened.append(c)
        c.connect(("127.0.0.1", router.front))
        c.sendall(h.socks4_request("127.0.0.1", target.port) + b"x")
        assert h.recv_exactly(c, 9)[1] == 90, len(readers)
        readers.append(c)
        h.wait_until("its bytes to stand still", lambda: router.stats()["bytes"]["down"] > len(readers) * 20_000)
    assert 0 < 2 * (router.pipes() - others) <= left // 8, others


def leave_descriptors(router, n):
    """From now on it may have so many more than it has; it must be idle, but for what it keeps."""
    limit = len(router.links()) + n
    subprocess.run([h.need("prlimit"), f"--pid={router.pid}", f"--nofile={limit}:"], check=True)


def test_out_of_descriptors_all_the_same(run, serve):
    """Fewer than it reckoned with: who has left the backlog and can't be dialled for is told, all others wait there and are served as
    soon as descriptors come free; nothing spins, open sessions go on."""
    target, spare = serve(h.echo), 21
    router = run(h.policy())
    first, _ = h.socks5(router.front, "127.0.0.1", target.port)
    leave_descriptors(router, spare)
    clients = [request(router.front, target.port) for _ in range(60)]
    h.wait_until("accepting to pause", lambda: router.log_entries("accepting pauses"))
    assert not router.spins()
    first.sendall(b"still here")
    assert h.recv_exactly(first, 10) == b"still here"
    outcomes, _ = serve_all(clients)
    # Each of the spare ones may be taken by a client that could not be dialled for, before anybody knew. Then hardly one more: when a
    # worker lets a descriptor go in order to dial, another one may be faster.
    assert len(outcomes) == 60 and set(outcomes) <= {90, 91} and outcomes.count(91) <= spare + 9
    assert h.socks5(router.front, "127.0.0.1", target.port)[1] == 0
    assert len(router.log_entries("accepting pauses")) <= 2  # by either worker


def test_one_descriptor_is_not_enough(run, serve):
    """The first client shows that, and is told; the next ones wait for a second descriptor, instead of being refused in turn."""
    target = serve(h.echo)
    policy = h.policy(workers=1)
    del policy["admin"]  # it would want one for itself
    router = run(policy)
    router.wait_idle()
    first, _ = h.socks5(router.front, "127.0.0.1", target.port)
    limit = router.limit("Max open files")
    leave_descriptors(router, 1)
    with request(router.front, target.port) as s:
        assert h.recv_exactly(s, 8)[1] == 91
    waiting = [request(router.front, target.port) for _ in range(5)]
    h.wait_until("accepting to pause", lambda: router.log_entries("accepting pauses"))
    assert not router.spins() and not any(answered(s) for s in waiting)
    subprocess.run([h.need("prlimit"), f"--pid={router.pid}", f"--nofile={limit}:"], check=True)
    assert [h.recv_exactly(s, 8)[1] for s in waiting] == [90] * 5
    first.sendall(b"still here")
    assert h.recv_exactly(first, 10) == b"still here"


def test_the_descriptor_limit_is_raised(run):
    router = run(h.policy(), prefix=[h.need("prlimit"), "--nofile=64:4000"])
    assert router.limit("Max open files") == 4000


def test_nothing_is_left_behind(run, serve, started):
    """After clients of every kind and fate: descriptors back at the start, and idling costs nothing."""
    target, silent = serve(h.echo), started(h.SilentPort())
    router = run(h.policy(timeouts={"connect": "2s", "handshake": "2s"}))
    h.socks5(router.front, "127.0.0.1", target.port)[0].close()
    router.wait_idle()
    before = router.descriptors()
    for round_ in range(10):
        for way in h.ASK:
            s, granted = h.ASK[way](router.front, "127.0.0.1", target.port)
            assert granted
            s.sendall(os.urandom(100_000))
            if round_ % 2:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
            s.close()
        request(router.front, silent.port).close()
        request(router.front, silent.port)
        h.connect(router.front).sendall(b"\x05")
        h.connect(router.front).sendall(b"garbage\r\n\r\n")
    for s in h.opened:
        s.close()
    router.wait_idle()
    h.wait_until("descriptors to be back", lambda: router.descriptors() <= before)
    assert router.pipes() < 32
    assert not router.spins()


# ---- the end ----

@pytest.fixture
def with_session(run, serve):
    """A router with an open session."""

    def start(**policy):
        target = serve(h.echo)
        router = run(h.policy(**policy))
        return router, h.socks5(router.front, "127.0.0.1", target.port)[0]

    return start


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_without_sessions_it_ends_at_once(run, number):
    router = run(h.policy())
    before = time.monotonic()
    router.signal(number)
    assert router.wait() == 0 and time.monotonic() - before < 10 * h.SLOW


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "API"])
def test_drain(with_session, how):
    """Listeners close, the API stays and says so, the open session goes on; then it ends with 0."""
    router, s = with_session()
    if how == "API":
        assert router.call("POST", "/v1/drain").status == 202
    else:
        router.signal(getattr(signal, how))
    h.wait_until("the listener to close", lambda: not h.port_answers(router.front))
    s.sendall(b"still here")
    assert h.recv_exactly(s, 10) == b"still here"
    assert router.get("/v1/status")["state"] == "draining"
    ready = router.call("GET", "/readyz")
    assert ready.status == 503 and b"draining" in ready.body and router.call("GET", "/healthz").status == 200
    assert not router.spins() and router.alive()
    s.shutdown(socket.SHUT_WR)
    assert h.recv_all(s) == b""
    s.close()
    assert router.wait() == 0


def test_a_drain_is_bounded(with_session):
    router, s = with_session(timeouts={"drain": "400ms"})
    before = time.monotonic()
    router.signal(signal.SIGTERM)
    h.recv_all(s)
    assert router.wait() == 1 and time.monotonic() - before > 0.3
    assert router.log_entries("session")[-1]["end"] == "drained"


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(with_session, second):
    router, _ = with_session()
    router.signal(signal.SIGTERM)
    h.wait_until("the listener to close", lambda: not h.port_answers(router.front))
    before = time.monotonic()
    router.signal(second)
    assert router.wait() == 1 and time.monotonic() - before < 10 * h.SLOW


def test_a_drain_serves_those_who_had_come(run, serve):
    """A client in the middle of its handshake, and one who waits for an answer."""
    hold = threading.Event()

    def late(conn, server):
        h.recv_exactly(conn, 9)
        hold.wait(h.DEADLINE * h.SLOW)
        conn.sendall(b"\x00\x5a" + bytes(6))
        h.echo(conn, server)

    up = serve(late)
    router = run(h.policy(upstreams=[{"name": "up", "url": f"socks4://127.0.0.1:{up.port}"}], rules=[{"match": {"port": [1]}, "route": "up"}]))
    target = serve(h.echo)
    dialing = request(router.front, 1)
    h.wait_until("the dial", lambda: up.accepted == 1)
    shaking = h.connect(router.front)
    shaking.sendall(b"\x05\x01\x00")
    assert h.recv_exactly(shaking, 2) == b"\x05\x00"
    router.signal(signal.SIGTERM)
    h.wait_until("the listener to close", lambda: not h.port_answers(router.front))
    hold.set()
    assert h.recv_exactly(dialing, 8)[1] == 90
    shaking.sendall(h.socks5_request("127.0.0.1", target.port))
    assert h.socks5_read_reply(shaking) == 0
    for s in (dialing, shaking):
        s.sendall(b"x")
        assert h.recv_exactly(s, 1) == b"x"
        s.close()
    assert router.wait() == 0


@pytest.mark.parametrize("n", range(5))
def test_a_drain_ends_health_checks_and_reloads(run, started, n):
    """Nothing that goes on beside sessions holds it up; nor does a reload that comes to its end while all is being taken down."""
    silent = started(h.SilentPort())
    router = run(h.policy(
        upstreams=[{"name": "up", "url": f"socks5://127.0.0.1:{silent.port}"}],
        pools=[{"name": "pool", "members": ["up"], "health": {"check": "connect", "interval": "1s", "timeout": "1m"}}], default_route="pool"))
    router.signal(signal.SIGHUP)
    router.signal(signal.SIGTERM)
    before = time.monotonic()
    assert router.wait() == 0 and time.monotonic() - before < 10 * h.SLOW
