"""A pool as operators have it: real proxies of every kind in one, members that misbehave in every way, checks that look through them.
Whoever can be served by any member never sees an error."""
import hashlib
import os
import socket
import threading

import pytest

import harness as h
import peers
from peers import says, who_answers
from test_programs import Ssh

BALANCES = ["round_robin", "least_connections", "two_choices", "least_latency", "random", "consistent_hash", "first"]
GREETING, REQUEST, REQUEST_4 = 3, 10, 9        # bytes of ours: SOCKS5's greeting and request by IPv4, SOCKS4's request
BODY = 100_000


def send_and_compare(way, router, port, body, early=b""):
    """One session through the router to an upstream or target that echoes; what was wrong, or None."""
    s, granted = h.ASK[way](router.front, "127.0.0.1", port, early=early)
    with s:
        if not granted:
            return "refused"
        s.sendall(body)
        return None if h.recv_exactly(s, len(body)) == body else "corrupt"


def at_once(n, do):
    """do(i) for each i in threads of their own; what they returned or raised, in order."""
    results = [None] * n

    def call(i):
        try:
            results[i] = do(i)
        except (OSError, EOFError, AssertionError) as e:
            results[i] = repr(e)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(n)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return results


def states(router):
    return {u["name"]: u["state"] for u in router.get("/v1/upstreams")["upstreams"]}


# ---- real proxies ----

def takes_and_digests(conn, _server):
    """Of a stream that does not end, since not every proxy passes a half-close on."""
    while True:
        conn.sendall(hashlib.sha256(h.recv_exactly(conn, BODY)).digest())


def transfer(way, router, port):
    """What was wrong, or None."""
    body = os.urandom(BODY)
    s, granted = h.ASK[way](router.front, "127.0.0.1", port)
    with s:
        if not granted:
            return "refused"
        s.sendall(body)
        return None if h.recv_exactly(s, 32) == hashlib.sha256(body).digest() else "corrupt"


def test_debians_proxies_in_one_pool(run, process, programs, folder, serve):
    """Two of them die, one comes back: every request is served, by all that are there."""
    ssh, target, checked, inner = Ssh(process, folder), serve(takes_and_digests), serve(h.echo), h.free_port()
    process([*ssh.client, "-N", "-D", f"127.0.0.1:{inner}", "127.0.0.1"], "ssh", inner)
    dante, micro, tiny, squid = programs.danted(), programs.microsocks("bob", "secret"), programs.tinyproxy(), programs.squid()
    urls = {"dante": f"socks5://127.0.0.1:{dante}", "dante4": f"socks4://127.0.0.1:{dante}", "ssh": f"socks5://127.0.0.1:{inner}",
            "ssh4": f"socks4a://127.0.0.1:{inner}", "micro": f"socks5://bob:secret@127.0.0.1:{micro}",
            "tiny": f"http://127.0.0.1:{tiny}", "squid": f"http://127.0.0.1:{squid}"}
    health = {"check": "tunnel", "target": f"127.0.0.1:{checked.port}", "interval": "200ms", "timeout": "10s", "rise": 1, "fall": 1}
    router = run(h.policy(
        upstreams=[{"name": name, "url": url} for name, url in urls.items()],
        pools=[{"name": "pool", "members": list(urls), "health": health, "retry": {"attempts": 6}}], default_route="pool"))
    ways = [way for way in h.ASK for _ in urls] * 2

    def all_served():
        return at_once(len(ways), lambda i: transfer(ways[i], router, target.port)) == [None] * len(ways)

    def picks():
        return {m["name"]: m["picks"] for m in router.get("/v1/pools/pool")["members"]}

    h.wait_until("all to be up", lambda: set(states(router).values()) == {"up"})
    before = picks()
    assert all_served()
    assert {name: n - before[name] for name, n in picks().items()} == {name: len(ways) // len(urls) for name in urls}
    for dead in (micro, squid):
        programs.kill(dead)
        assert all_served()                    # before a check has seen it, and after
    h.wait_until("two to be down", lambda: {name for name, state in states(router).items() if state == "down"} == {"micro", "squid"})
    before = picks()
    assert all_served()
    assert {name for name, n in picks().items() if n == before[name]} == {"micro", "squid"}
    programs.microsocks("bob", "secret", port=micro)
    h.wait_until("one to be back", lambda: states(router)["micro"] == "up")
    before = picks()
    assert all_served()
    assert picks()["micro"] > before["micro"]
    assert {u["failures_total"] for u in router.get("/v1/upstreams")["upstreams"] if u["name"] in ("dante", "ssh", "tiny")} == {0}


# ---- members that misbehave ----

def grants_by_pieces(conn, server):
    """Every byte of its handshake comes alone."""
    peers.dribbles(says(GREETING, b"\x05\x00", REQUEST, b"\x05\x00\x00\x01" + bytes(6)))(conn, server)
    conn.sendall(b"pieces\n")
    h.echo(conn, server)


SOCKS5_FAILS = b"\x05\x01\x00\x01" + bytes(6)
GOOD = {"other": peers.named_upstream("other"), "pieces": grants_by_pieces, "good": peers.named_upstream("good")}
BAD = {
    "refuses": ("socks5", None),
    "hangs": ("socks5", says("silence")),
    "hangs after the greeting": ("socks5", says(GREETING, b"\x05\x00", "silence")),
    "closes": ("socks5", says()),
    "resets": ("socks5", says("reset")),
    "resets after the greeting": ("socks5", says(GREETING, b"\x05\x00", "reset")),
    "cut short": ("socks5", says(GREETING, b"\x05\x00", REQUEST, b"\x05\x00\x00")),
    "says 1": ("socks5", says(GREETING, b"\x05\x00", REQUEST, SOCKS5_FAILS)),
    "says 1 by pieces": ("socks5", peers.dribbles(says(GREETING, b"\x05\x00", REQUEST, SOCKS5_FAILS))),
    "no method": ("socks5", says(GREETING, b"\x05\xff")),
    "no proxy": ("socks5", says(b"SSH-2.0-OpenSSH_9.2\r\n", "silence")),
    "says 91": ("socks4", says(REQUEST_4, b"\x00\x5b" + bytes(6))),
    "says 503": ("http", says("head", b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")),
    "wants a password": ("http", says("head", b"HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n")),
}


def mixed_pool(run, started, bad, **pool):
    """A router, with members that fail before those that work."""
    upstreams = []
    for name, (scheme, handler) in bad.items():
        port = h.free_port()
        if handler is not None:
            started(h.Server(handler, port=port))
        upstreams.append({"name": name.replace(" ", "-"), "url": f"{scheme}://127.0.0.1:{port}"})
    for name, handler in GOOD.items():
        upstreams.append({"name": name, "url": f"socks5://127.0.0.1:{started(h.Server(handler)).port}"})
    return run(h.policy(upstreams=upstreams, default_route="pool", timeouts={"connect": f"{int(2000 * h.SLOW)}ms"},
                        pools=[{"name": "pool", "members": [u["name"] for u in upstreams], **pool}]))


@pytest.mark.parametrize("balance", BALANCES)
def test_who_can_be_served_by_any_member_sees_no_error(run, started, balance):
    """Members that fail in every way are tried first, found out, and passed over; no client hears of it."""
    router = mixed_pool(run, started, BAD, balance=balance, retry={"attempts": 15, "budget_percent": 100},
                        outlier={"failures": 1, "ejection": "1h", "max_ejected_percent": 100},
                        **({"hash_key": "destination"} if balance == "consistent_hash" else {}))

    def ask(i):
        """By each protocol in turn, each to another destination."""
        s, granted = list(h.ASK.values())[i % 3](router.front, "127.0.0.1", 1000 + i)
        with s:
            if not granted:
                return "refused"
            name = b""
            while not name.endswith(b"\n"):
                name += h.recv_exactly(s, 1)
            body = os.urandom(30_000)
            s.sendall(body)
            return name.decode().strip() if h.recv_exactly(s, len(body)) == body else "corrupt"

    assert set(at_once(5, ask)) <= set(GOOD)
    for i in range(60):
        assert ask(i) in GOOD, states(router)
    served = {u["name"]: u["sessions_total"] for u in router.get("/v1/upstreams")["upstreams"]}
    assert sum(served[name] for name in GOOD) == 65 and sum(served.values()) == 65
    if balance != "first":
        assert all(served[name] > 0 for name in GOOD)
    assert all(states(router)[name] != "ejected" for name in GOOD)


@pytest.mark.parametrize("scheme, answer, rep, retried", h.named([
    *[(f"SOCKS4 {code}", "socks4", bytes([0, code]) + bytes(6), 1, True) for code in (91, 92, 93)],
    *[(f"HTTP {status}", "http", b"HTTP/1.1 %d No\r\n\r\n" % status, rep, rep == 1)
      for status, rep in ((400, 1), (403, 2), (404, 4), (407, 1), (500, 1), (502, 4), (503, 1), (504, 6))],
]))
def test_each_code_of_an_upstream(run, serve, scheme, answer, rep, retried):
    """What says that the upstream failed is tried with another one; what it says of the destination is the client's answer."""
    script = [REQUEST_4 if scheme == "socks4" else "head", answer]
    bad, good = serve(says(*script)), serve(peers.named_upstream("good"))
    router = run(h.policy(
        upstreams=[{"name": "bad", "url": f"{scheme}://127.0.0.1:{bad.port}"}, {"name": "good", "url": f"socks5://127.0.0.1:{good.port}"}],
        pools=[{"name": "pool", "members": ["bad", "good"], "balance": "first", "retry": {"attempts": 1}},
               {"name": "alone", "members": ["bad"]}],
        rules=[{"match": {"port": [81]}, "route": "alone"}], default_route="pool"))
    assert h.socks5(router.front, "127.0.0.1", 81)[1] == rep
    failed = router.upstream("bad")["failures_total"]
    assert (failed > 0) == retried
    who, s = who_answers(router)
    assert who == ("good" if retried else rep)
    if s is not None:
        s.close()
    assert good.accepted == retried


def test_one_that_dies_in_the_middle(run, started):
    """Its session ends, with all that came before; others don't notice, and the next one is served by whoever is there."""
    def dies(conn, server):
        peers.read_socks5_request(conn)
        conn.sendall(b"\x05\x00\x00\x01" + bytes(6) + b"bad\n" + b"x" * 100_000)
        h.recv_exactly(conn, 1)
        server.stop()

    bad, good = started(h.Server(dies)), started(h.Server(peers.named_upstream("good")))
    router = run(h.policy(
        upstreams=[{"name": n, "url": f"socks5://127.0.0.1:{s.port}"} for n, s in (("bad", bad), ("good", good))],
        pools=[{"name": "pool", "members": ["bad", "good"]}], default_route="pool"))
    sessions = dict(who_answers(router) for _ in range(2))
    assert h.recv_exactly(sessions["bad"], 100_000) == b"x" * 100_000
    sessions["bad"].sendall(b"!")
    assert sessions["bad"].recv(1) == b""
    sessions["good"].sendall(b"still here")
    assert h.recv_exactly(sessions["good"], 10) == b"still here"
    for _ in range(4):
        who, s = who_answers(router)
        assert who == "good"
        s.close()


# ---- members of every kind ----

@pytest.mark.parametrize("balance", BALANCES)
def test_members_of_every_kind(run, serve, balance):
    """An upstream, a chain, a pool, `direct`, and lines of our own: each serves, and where the others are out, each alone."""
    target, egress = serve(takes_and_digests), run(h.policy())
    urls = {"proxy": f"socks5://127.0.0.1:{egress.front}", "hop": f"http://127.0.0.1:{egress.front}",
            "inner": f"socks4://127.0.0.1:{egress.front}", "line": "direct://"}
    members = ["proxy", "chain", "direct", "pool-within", "line"]
    router = run(h.policy(
        upstreams=[{"name": n, "url": u, **({"source_address": "127.0.0.7"} if n == "line" else {})} for n, u in urls.items()],
        chains=[{"name": "chain", "hops": ["hop", "proxy"]}], default_route="pool",
        pools=[{"name": "pool-within", "members": ["inner"]},
               {"name": "pool", "members": members, "balance": balance,
                **({"hash_key": "destination_host"} if balance == "consistent_hash" else {})}]))

    def picks():
        return {m["name"]: m["picks"] for m in router.get("/v1/pools/pool")["members"]}

    assert at_once(20, lambda i: transfer(list(h.ASK)[i % 3], router, target.port)) == [None] * 20
    counts = picks()
    assert sum(counts.values()) == 20
    if balance == "round_robin":
        assert set(counts.values()) == {4}
    # one alone: the weights of the rest are 0
    for alone in members:
        p = {**router.policy, "comment": alone}
        p["pools"] = [p["pools"][0], {**p["pools"][1], "members": [{"name": m, "weight": int(m == alone)} for m in members]}]
        assert router.call("PUT", "/v1/policy", p).status == 200
        before = picks()
        assert transfer("socks5", router, target.port) is None
        assert {m for m in members if picks()[m] != before[m]} == {alone}


def test_a_pool_of_lines(run, serve):
    """direct:// upstreams that differ in where they come from: requests are dealt out over the links."""
    seen = []

    def whence(conn, _server):
        seen.append(conn.getpeername()[0])
        conn.sendall(b"x")

    target = serve(whence)
    router = run(h.policy(
        upstreams=[{"name": f"line{i}", "url": "direct://", "source_address": f"127.0.0.{i}"} for i in (7, 8, 9)],
        pools=[{"name": "lines", "members": ["line7", {"name": "line8", "weight": 2}, "line9"]}], default_route="lines"))
    for _ in range(8):
        s, rep = h.socks5(router.front, "127.0.0.1", target.port)
        assert rep == 0 and h.recv_exactly(s, 1) == b"x"
        s.close()
    assert sorted(seen) == sorted(["127.0.0.7", "127.0.0.9"] * 2 + ["127.0.0.8"] * 4)


# ---- what is taken is given back ----

@pytest.mark.parametrize("how", ["closed", "reset", "deleted", "another policy"])
def test_every_state_gives_its_slot_and_place_back(run, started, how):
    """Sessions that relay, that are being dialled and that wait for a slot all end at once: no gauge keeps any of them. (One that is
    being dialled goes on when its client has ended: it may have ended its own direction only.)"""
    good, mute = started(h.Server(peers.named_upstream("good"))), started(h.Server(says("silence")))
    p = h.policy(
        upstreams=[{"name": "good", "url": f"socks5://127.0.0.1:{good.port}", "max_connections": 4},
                   {"name": "mute", "url": f"socks5://127.0.0.1:{mute.port}", "max_connections": 4}],
        pools=[{"name": "pool", "members": ["good"], "queue": {"max": 10, "timeout": "1h"}}],
        rules=[{"match": {"port": [81]}, "route": "mute"}], default_route="pool", timeouts={"connect": "1h"})
    router = run(p)
    relaying = [who_answers(router)[1] for _ in range(4)]
    asking = []
    for port in [80] * 5 + [81] * 4:
        asking.append(h.connect(router.front))
        asking[-1].sendall(b"\x05\x01\x00" + h.socks5_request("127.0.0.1", port))

    def gauges():
        upstreams = {u["name"]: u["sessions_open"] for u in router.get("/v1/upstreams")["upstreams"]}
        return upstreams.get("good", 0), upstreams.get("mute", 0), router.get("/v1/pools/pool")["waiting"]

    h.wait_until("all to be as they should", lambda: gauges() == (4, 4, 5))
    if how == "another policy":
        other = {**p, "upstreams": [p["upstreams"][0]], "rules": [], "comment": "another"}
        other["pools"] = [{"name": "pool", "members": ["good"]}]
        assert router.call("PUT", "/v1/policy", other).status == 200
    for s in relaying + asking if how != "deleted" else []:
        if how == "reset":
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        s.close()
    if how in ("closed", "another policy"):
        h.wait_until("those that are dialled to be left", lambda: router.stats()["sessions"]["open"] == 4)
    if how != "reset":
        assert router.call("DELETE", "/v1/connections?client=127.0.0.1").status == 204
    h.wait_until("all gauges to be 0", lambda: gauges() == (0, 0, 0))
    assert router.call("PUT", "/v1/policy", {**p, "comment": "once more"}).status == 200
    h.wait_until("no session to be left", lambda: router.stats()["sessions"]["open"] == 0)
    again = [who_answers(router) for _ in range(4)]
    assert [who for who, _ in again] == ["good"] * 4
    for _, s in again:
        s.close()


# ---- checks through whole programs ----

QUICK = {"interval": "100ms", "timeout": "10s", "rise": 1, "fall": 1, "jitter": "0%"}


class Web:
    """A target of http checks: `answer` is what it says, `heads` what it was asked."""

    def __init__(self, started):
        self.answer, self.heads, self.ends = b"HTTP/1.0 200 OK\r\n\r\nall is well\n", [], []
        self.server = started(h.Server(self._serve))
        self.port = self.server.port

    def _serve(self, conn, _server):
        self.heads.append(h.read_head(conn))
        conn.sendall(self.answer)
        conn.shutdown(1)
        self.ends.append(h.recv_all(conn))     # to its end: a reset is an error, and is not noted


@pytest.mark.parametrize("expect, wrong", h.named([
    ("statuses", ["200-204", 301], b"HTTP/1.0 500 No\r\n\r\nall is well\n"),
    ("one status", 200, b"HTTP/1.0 204 No\r\n\r\n"),
    ("a text", {"status": 200, "body": "is well"}, b"HTTP/1.0 200 OK\r\n\r\nall is lost\n"),
    ("the default", None, b"HTTP/1.0 404 No\r\n\r\n"),
]))
def test_http_checks_through_real_proxies(run, started, programs, expect, wrong):
    """The request is as the policy says, the answer decides, and every connection is ended and not broken off."""
    web = Web(started)
    urls = {"squid": f"http://127.0.0.1:{programs.squid()}", "dante": f"socks5://127.0.0.1:{programs.danted()}"}
    health = {"check": "http", "target": f"http://127.0.0.1:{web.port}", "method": "HEAD" if expect == 200 else "GET",
              "path": "/health?x=1", "host": "checked.example", **QUICK, **({"expect": expect} if expect else {})}
    router = run(h.policy(upstreams=[{"name": n, "url": u} for n, u in urls.items()], default_route="pool",
                          pools=[{"name": "pool", "members": list(urls), "health": health}]))
    h.wait_until("both to be up", lambda: set(states(router).values()) == {"up"})
    web.answer = wrong
    h.wait_until("both to be down", lambda: set(states(router).values()) == {"down"})
    last = router.upstream("squid")["last_check"]
    assert last["ok"] is False and last["error"]
    web.answer = b"HTTP/1.0 200 OK\r\n\r\nall is well\n"
    h.wait_until("both to be up again", lambda: set(states(router).values()) == {"up"})
    line, _, rest = web.heads[0].decode().partition("\r\n")
    assert line == f"{health['method']} /health?x=1 HTTP/1.0" and "\r\nhost: checked.example\r\n" in f"\r\n{rest.lower()}"
    p = {**router.policy, "pools": [{"name": "pool", "members": list(urls)}]}
    assert router.call("PUT", "/v1/policy", p).status == 200
    h.wait_until("the last one to end", lambda: len(web.ends) >= len(web.heads) - 2)   # two may be cancelled
    assert set(web.ends) == {b""}


def test_checks_leave_clean_lines_in_an_upstreams_log(run, serve):
    """Each kind of check, through a router that logs: what it began it ended, as a client would."""
    target = serve(h.page())
    egress = run(h.policy())
    kinds = {"handshake": {"check": "handshake"}, "tunnel": {"check": "tunnel", "target": f"127.0.0.1:{target.port}"},
             "http": {"check": "http", "target": f"http://127.0.0.1:{target.port}"}}
    for n, health in kinds.items():
        router = run(h.policy(upstreams=[{"name": "up", "url": f"socks5://127.0.0.1:{egress.front}"}],
                              pools=[{"name": "pool", "members": ["up"], "health": {**health, **QUICK}}], default_route="pool"), name=n)
        h.wait_until("it to be up", lambda: states(router) == {"up": "up"})
        first = router.upstream("up")["last_check"]["at"]
        h.wait_until("another check", lambda: router.upstream("up")["last_check"]["at"] != first)
    lines = [line for line in egress.log_entries("session") if "to" in line]
    assert len(lines) >= 2 and {line["verdict"] for line in lines} == {"granted"}, lines
    assert {line["end"] for line in lines} == {"done"}, lines
    # a handshake is all that is said before a request; then it leaves, and resets nothing
    assert {line["end"] for line in egress.log_entries("session") if "to" not in line} <= {"client left"}


def test_a_pool_that_starts_down(run, started):
    """Nobody is used before a check of it has passed, and nothing goes direct meanwhile."""
    target, port = started(h.Server(h.echo)), h.free_port()
    router = run(h.policy(
        upstreams=[{"name": "a", "url": f"socks5://127.0.0.1:{port}"}], default_route="pool",
        pools=[{"name": "pool", "members": ["a"], "health": {"check": "connect", "start": "down", **QUICK}}]))
    assert states(router) == {"a": "down"}
    assert h.socks5(router.front, "127.0.0.1", target.port)[1] == 1
    router.wait_access_line(verdict="no usable upstream")
    assert target.accepted == 0 and router.call("GET", "/readyz").status == 503
    started(h.Server(peers.named_upstream("a"), port=port))
    h.wait_until("it to be up", lambda: states(router) == {"a": "up"})
    who, s = who_answers(router)
    assert who == "a"
    s.close()


def test_our_own_outage_is_nobodys_fault(run, started):
    """All members and the reference die at once: states stay. The reference comes back: then it was the members."""
    servers = {n: started(h.Server(peers.named_upstream(n))) for n in "abc"}
    reference = started(h.Server(h.echo))
    health = {"check": "connect", "reference": f"127.0.0.1:{reference.port}", **QUICK, "fall": 2}
    router = run(h.policy(
        upstreams=[{"name": n, "url": f"socks5://127.0.0.1:{s.port}"} for n, s in servers.items()], default_route="pool",
        pools=[{"name": "pool", "members": ["a", "b"], "health": health},
               {"name": "clock", "members": ["c"], "health": {"check": "connect", **QUICK}}]))
    up, down = ({"a": state, "b": state, "c": "up"} for state in ("up", "down"))
    h.wait_until("all to be up", lambda: states(router) == up)
    for s in (reference, servers["a"], servers["b"]):
        s.stop()
    checks = servers["c"].accepted             # as often as c is checked a and b are
    h.wait_until("some checks", lambda: servers["c"].accepted >= checks + 10)
    assert states(router) == up
    started(h.Server(h.echo, port=reference.port))
    h.wait_until("both to be down", lambda: states(router) == down)


# ---- by hand ----

def test_members_are_drained_one_after_the_other_under_load(run, started):
    """As an operator does it who renews a fleet: out, empty, back; no client notices."""
    servers = {n: started(h.Server(peers.named_upstream(n))) for n in "abc"}
    router = run(h.policy(upstreams=[{"name": n, "url": f"socks5://127.0.0.1:{s.port}"} for n, s in servers.items()], default_route="pool",
                          pools=[{"name": "pool", "members": list("abc"), "sticky": {"key": "destination"}}]))
    ended, wrong, done = threading.Event(), [], [0]

    def client(n):
        while not ended.is_set():
            who, s = who_answers(router, to_port=n)
            body = os.urandom(20_000)
            s.sendall(body)
            if h.recv_exactly(s, len(body)) != body:
                wrong.append("corrupt")
            s.close()
            done[0] += 1

    def run_client(n):
        try:
            client(n)
        except (OSError, EOFError, AttributeError) as e:
            wrong.append(repr(e))

    threads = [threading.Thread(target=run_client, args=(n,)) for n in range(1, 9)]
    for t in threads:
        t.start()
    try:
        for name in "abc":
            assert router.call("PATCH", f"/v1/upstreams/{name}", {"state": "draining"}).json["state"] == "draining"
            h.wait_until(f"{name} to be empty", lambda: router.upstream(name)["sessions_open"] == 0)
            taken, at = servers[name].accepted, done[0]
            h.wait_until("more sessions", lambda: done[0] >= at + 30)
            assert servers[name].accepted == taken
            assert router.call("PATCH", f"/v1/upstreams/{name}", {"state": "enabled"}).status == 200
    finally:
        ended.set()
        for t in threads:
            t.join()
    assert wrong == []
