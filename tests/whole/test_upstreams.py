"""Upstreams and chains: Debian's proxies, a second router, TLS, and upstreams that do not keep to their protocol."""
import itertools
import os
import threading

import pytest

import harness as h
import peers
from peers import says

GREETING, CHOSEN = b"\x05\x01\x00", b"\x05\x00"


@pytest.fixture
def through(run):
    """through(url, **upstream) starts a router whose only way leads through that upstream."""

    def start(url, policy=None, **upstream):
        return run(h.policy(upstreams=[{"name": "up", "url": url, **upstream}], default_route="up",
                            **{"timeouts": {"connect": "10s"}, **(policy or {})}))

    return start


@pytest.fixture
def second(run):
    """Another router, to be an upstream: its ports with and without a login."""

    def start(**more):
        one = run(h.policy([h.listener("open"), h.listener("login", auth="login")], dns={"family": "ipv4_only"},
                           auth=[{"name": "login", "methods": ["userpass"], "users": h.users("bob")}], **more))
        return one, one.port_of(0), one.port_of(1)

    return start


def check_content(router, serve, host="localhost"):
    """Both directions at once, to the last byte, with a half-close."""
    up, down = os.urandom(1_500_000), os.urandom(2_000_000)
    target = serve(h.gives_and_takes(down))
    s, rep = h.socks5(router.front, host, target.port)
    assert rep == 0
    assert h.sha256(h.exchange(s, up)) == h.sha256(down)
    assert target.noted() == [h.sha256(up)]


# ---- programs ----

@pytest.mark.parametrize("program, scheme, credentials", [
    ("microsocks", "socks5", ""), ("microsocks", "socks5h", "bob:secret@"), ("danted", "socks4", ""), ("danted", "socks5", ""),
    ("tinyproxy", "http", ""), ("tinyproxy", "http", "bob:secret@"),
])
def test_debians_proxies(through, programs, serve, program, scheme, credentials):
    """Of these some end a tunnel at the first half-close, so one request and its page are what is compared."""
    body = os.urandom(2_000_000)
    target = serve(h.page(body))
    port = getattr(programs, program)(*(("bob", "secret") if credentials else ()))
    router = through(f"{scheme}://{credentials}127.0.0.1:{port}")
    for way in ("socks4a", "socks5h", "http"):
        assert h.curl("-p", "-x", f"{way}://127.0.0.1:{router.front}", f"http://127.0.0.1:{target.port}/") == (0, body)
    paths = {(line["path"], line["verdict"]) for line in router.access_lines(3)}
    assert paths == {("up", "granted")}


@pytest.mark.parametrize("program, url", [("microsocks", "socks5://bob:wrong@"), ("microsocks", "socks5://"),
                                          ("tinyproxy", "http://bob:wrong@"), ("tinyproxy", "http://")])
def test_wrong_credentials_are_the_upstreams_failure(through, programs, program, url):
    """Its 407 is never passed on. (tinyproxy says 401 to a wrong password.)"""
    router = through(f"{url}127.0.0.1:{getattr(programs, program)('bob', 'secret')}")
    assert h.socks5(router.front, "127.0.0.1", h.free_port())[1] == 1
    assert h.http_connect(router.front, "127.0.0.1", h.free_port())[1] == 503
    line = router.access_lines(2)[0]
    verdict = "upstream failed" if "tinyproxy" == program and "bob" in url else "upstream refused our credentials"
    assert (line["verdict"], line["stage"], line["hop"]) == (verdict, "handshake", "up")


@pytest.mark.parametrize("program, scheme, rep", [("microsocks", "socks5", 5), ("danted", "socks5", 5), ("tinyproxy", "http", 1)])
def test_their_word_about_the_destination(through, programs, program, scheme, rep):
    """Nobody listens there. tinyproxy says 500."""
    router = through(f"{scheme}://127.0.0.1:{getattr(programs, program)()}")
    assert h.socks5(router.front, "127.0.0.1", h.free_port())[1] == rep


@pytest.mark.parametrize("scheme, login", [("socks4", False), ("socks4a", False), ("socks5", False), ("socks5", True), ("socks5h", True),
                                           ("http", False), ("http", True)])
def test_another_router(through, second, serve, scheme, login):
    exit_, open_port, login_port = second()
    url = f"{scheme}://bob:secret@127.0.0.1:{login_port}" if login else f"{scheme}://127.0.0.1:{open_port}"
    router = through(url, {"dns": {"family": "ipv4_only"}})
    check_content(router, serve)
    theirs, ours = exit_.access_lines()[0], router.access_lines()[0]
    assert theirs["to"].startswith("127.0.0.1:" if scheme == "socks4" else "localhost:") and ours["path"] == "up"
    assert theirs.get("user") == ("bob" if login else None)
    assert "up=" in ours["hops_ms"]


def test_haproxy_before_upstream_and_target(through, second, programs, serve):
    body = os.urandom(1_000_000)
    target = serve(h.digest)
    _, port, _ = second()
    to_upstream, to_target = programs.haproxies([(port, None), (target.port, None)])
    s, rep = h.socks5(through(f"socks5://127.0.0.1:{to_upstream}").front, "127.0.0.1", to_target)
    assert rep == 0
    s.sendall(body)
    s.shutdown(1)
    assert h.recv_all(s).decode() == h.sha256(body)


# ---- TLS ----

@pytest.mark.parametrize("scheme", ["socks5+tls", "https"])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_tls(through, second, programs, serve, certificates, scheme, host):
    exit_, _, port = second()
    front = programs.haproxy(port, certificates.good)
    router = through(f"{scheme}://bob:secret@{host}:{front}", {"dns": {"family": "ipv4_only"}}, tls={"ca": str(certificates.ca)})
    check_content(router, serve)
    assert exit_.access_lines()[0]["user"] == "bob"


@pytest.mark.parametrize("scheme", ["socks5+tls", "https"])
def test_certificates_are_verified(run, second, programs, serve, certificates, scheme):
    """A wrong name and an unknown CA fail unless verifying is off or the name is told; nothing is said to such an upstream."""
    exit_, port, _ = second()
    fronts = programs.haproxies([(port, certificates.good), (port, certificates.wrong_name), (port, certificates.unknown_ca)])
    good, wrong_name, unknown_ca = (f"{scheme}://localhost:{p}" for p in fronts)
    ca = {"ca": str(certificates.ca)}
    ways = [
        (good, ca, True), (wrong_name, ca, False), (unknown_ca, ca, False), (good, {}, False),
        (wrong_name, {**ca, "server_name": "elsewhere.test"}, True), (good, {**ca, "server_name": "elsewhere.test"}, False),
        (unknown_ca, {"verify": False}, True), (wrong_name, {"verify": False}, True),
    ]
    router = run(h.policy(
        [h.listener(f"l{i}") for i in range(len(ways))], dns={"family": "ipv4_only"},
        upstreams=[{"name": f"u{i}", "url": url, **({"tls": tls} if tls else {})} for i, (url, tls, _) in enumerate(ways)],
        rules=[{"match": {"listener": [f"l{i}"]}, "route": f"u{i}"} for i in range(len(ways))]))
    target = serve(h.echo)
    for i, (_, _, works) in enumerate(ways):
        assert (h.socks5(router.port_of(i), "127.0.0.1", target.port)[1] == 0) == works, ways[i]
    failed = [line for line in router.access_lines(4) if line.get("verdict") == "TLS with upstream failed"]
    assert len(failed) == 4 and all(line["stage"] == "tls" and line["reply"] == 1 and "certificate" in line["detail"] for line in failed)
    assert exit_.stats()["sessions"]["granted"] == 4


def test_tls_towards_one_that_speaks_none(through, serve):
    for handler in (h.echo, says(b"SSH-2.0-x\r\n", "silence"), says()):
        router = through(f"socks5+tls://127.0.0.1:{serve(handler).port}")
        assert h.socks5(router.front, "127.0.0.1", 80)[1] == 1


# ---- chains ----

def test_chains_of_every_order(run, second, programs, serve, certificates):
    """Of one, two and three hops, each of four kinds: 84 chains, every one with its own destination name."""
    exit_, open_port, login_port = second()
    tls_port = programs.haproxy(login_port, certificates.good)
    kinds = {"old": f"socks4://127.0.0.1:{open_port}", "five": f"socks5://bob:secret@127.0.0.1:{login_port}",
             "web": f"http://bob:secret@127.0.0.1:{login_port}", "tls": f"socks5+tls://bob:secret@localhost:{tls_port}"}
    orders = [order for n in (1, 2, 3) for order in itertools.product(kinds, repeat=n)]
    # an upstream may stand in a chain once, so each kind has three
    upstreams = [{"name": f"{kind}{i}", "url": url, **({"tls": {"ca": str(certificates.ca)}} if kind == "tls" else {})}
                 for kind, url in kinds.items() for i in range(3)]
    chains = [{"name": "-".join(order), "hops": [f"{kind}{i}" for i, kind in enumerate(order)]} for order in orders]
    router = run(h.policy(
        upstreams=upstreams, chains=chains, dns={"hosts": {f"{c['name']}.localhost": ["127.0.0.1"] for c in chains}},
        rules=[{"match": {"domain": [f"{c['name']}.localhost"]}, "route": c["name"]} for c in chains]))
    exit_.policy["dns"]["hosts"] = router.policy["dns"]["hosts"]
    exit_.reload(exit_.policy)
    target = serve(h.digest)
    body = os.urandom(30_000)
    for c in chains:
        s, rep = h.socks5(router.front, f"{c['name']}.localhost", target.port)
        assert rep == 0, c
        s.sendall(body)
        s.shutdown(1)
        assert h.recv_all(s).decode() == h.sha256(body), c
        s.close()
    lines = router.access_lines(len(chains))
    assert {line["route"]: line["path"] for line in lines} == {c["name"]: ">".join(c["hops"]) for c in chains}
    assert all(len(line["hops_ms"].split(",")) == line["path"].count(">") + 1 for line in lines)


def test_tls_within_tls_loses_nothing_of_who_ends_last(run, serve, certificates):
    """The destination ends first, so that both layers have ended as soon as the client has: while much of what it sent is on its way."""
    exit_ = run(h.policy([h.listener(tls={"certificate": str(certificates.good)})]))
    ca = {"tls": {"ca": str(certificates.ca)}}
    router = run(h.policy(
        upstreams=[{"name": "outer", "url": f"socks5+tls://localhost:{exit_.front}", **ca},
                   {"name": "inner", "url": f"https://localhost:{exit_.front}", **ca}],
        chains=[{"name": "both", "hops": ["outer", "inner"]}], default_route="both"))

    def ends_first(conn, server):
        conn.shutdown(1)
        server.note(h.sha256(h.recv_all(conn)))

    body = os.urandom(3_000_000)
    for _ in range(8):
        target = serve(ends_first)
        s, rep = h.socks5(router.front, "127.0.0.1", target.port)
        assert rep == 0
        assert h.recv_all(s) == b""
        h.send_all_and_end(s, body)
        assert target.noted() == [h.sha256(body)]


def test_a_chain_carries_bulk_both_ways(run, second, serve):
    _, open_port, login_port = second()
    router = run(h.policy(
        upstreams=[{"name": "one", "url": f"http://127.0.0.1:{open_port}"}, {"name": "two", "url": f"socks5://bob:secret@127.0.0.1:{login_port}"},
                   {"name": "three", "url": f"socks4a://127.0.0.1:{open_port}"}],
        chains=[{"name": "all", "hops": ["one", "two", "three"]}], default_route="all"))
    check_content(router, serve, host="127.0.0.1")


def test_hops_that_are_pools(run, serve):
    """Each pool takes its members in turn, whatever the other does."""
    router_of = {}

    def forwards(name):
        """A SOCKS5 proxy that really connects, and notes through whom."""

        def handler(conn, server):
            _, host, port = peers.read_socks5_request(conn)
            server.note(port)
            onward = h.connect(port, host)
            conn.sendall(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
            back = threading.Thread(target=pump, args=(onward, conn))
            back.start()
            pump(conn, onward)
            back.join()

        return handler

    def pump(a, b):
        try:
            while data := a.recv(65536):
                b.sendall(data)
            b.shutdown(1)
        except OSError:
            pass

    target = serve(h.page(b"done"))
    for name in ("a1", "a2", "b1", "b2", "b3"):
        router_of[name] = serve(forwards(name))
    router = run(h.policy(
        upstreams=[{"name": n, "url": f"socks5://127.0.0.1:{s.port}"} for n, s in router_of.items()],
        pools=[{"name": "a", "members": ["a1", "a2"], "balance": "round_robin"},
               {"name": "b", "members": ["b1", "b2", "b3"], "balance": "round_robin"}],
        chains=[{"name": "ab", "hops": ["a", "b"]}], default_route="ab"))
    for _ in range(12):
        assert h.curl("-x", f"socks5h://127.0.0.1:{router.front}", f"http://127.0.0.1:{target.port}/") == (0, b"done")
    assert [router_of[n].accepted for n in ("a1", "a2", "b1", "b2", "b3")] == [6, 6, 4, 4, 4]
    assert len({line["path"] for line in router.access_lines(12)}) == 6


def test_credentials_are_made_of_the_clients(run, serve):
    up = serve(peers.named_upstream("up"))
    router = run(h.policy(
        [h.listener("staff", auth="staff")], auth=[{"name": "staff", "methods": ["userpass"], "users": h.users("alice", "bob")}],
        upstreams=[{"name": "up", "url": f"socks5://127.0.0.1:{up.port}", "username": "x-{user}", "password": "{session}/p"}], default_route="up"))
    for user in ("alice+s1", "alice+s2", "bob"):
        assert h.socks5(router.front, "127.0.0.1", 80, user)[1] == 0
    assert {user for user, _, _ in up.noted(3)} == {"x-alice:s1/p", "x-alice:s2/p", "x-bob:/p"}


def test_a_hops_fault_is_told_and_counted_there(run, second):
    """A chain whose second hop is dead: its own failure, not that of the first."""
    _, open_port, _ = second()
    router = run(h.policy(
        upstreams=[{"name": "one", "url": f"socks5://127.0.0.1:{open_port}"}, {"name": "two", "url": f"http://127.0.0.1:{h.free_port()}"}],
        chains=[{"name": "both", "hops": ["one", "two"]}], default_route="both"))
    assert h.socks5(router.front, "127.0.0.1", 80)[1] == 1
    line = router.access_lines()[0]
    assert (line["hop"], line["verdict"], line["path"]) == ("two", "upstream failed", "one>two")
    assert (router.upstream("one")["failures_total"], router.upstream("two")["failures_total"]) == (0, 1)


# ---- upstreams that do not keep to their protocol ----

S5, S4, WEB = "socks5", "socks4", "http"
SOCKS5_REQUEST = 10  # to an IPv4 address
UP_TO_REQUEST = (3, CHOSEN, SOCKS5_REQUEST)


def rep(n, tail=b"\x00\x01" + bytes(6)):
    return b"\x05" + bytes([n]) + tail


# what it says, and what our client gets: REP, CD, HTTP status
SLOPPY = [
    *[(f"REP {n}", S5, says(*UP_TO_REQUEST, rep(n)), (n, 91, {2: 403, 3: 502, 4: 502, 5: 502, 6: 504}.get(n, 503))) for n in range(1, 9)],
    ("REP 9, which there is not", S5, says(*UP_TO_REQUEST, rep(9)), (1, 91, 503)),
    ("REP 255", S5, says(*UP_TO_REQUEST, rep(255)), (1, 91, 503)),
    ("error reply of 3 bytes", S5, says(*UP_TO_REQUEST, rep(5, b"\x00")), (5, 91, 502)),
    ("error reply of 2 bytes", S5, says(*UP_TO_REQUEST, rep(4, b"")), (4, 91, 502)),
    ("error reply with an unknown address type", S5, says(*UP_TO_REQUEST, rep(3, b"\x00\x09")), (3, 91, 502)),
    ("success cut short", S5, says(*UP_TO_REQUEST, rep(0, b"\x00\x01\x00")), (1, 91, 503)),
    ("closes at once", S5, says(), (1, 91, 503)),
    ("closes after the greeting", S5, says(3), (1, 91, 503)),
    ("closes after its choice", S5, says(3, CHOSEN), (1, 91, 503)),
    ("closes after the request", S5, says(*UP_TO_REQUEST), (1, 91, 503)),
    ("resets at once", S5, says("reset"), (1, 91, 503)),
    ("resets after the greeting", S5, says(3, "reset"), (1, 91, 503)),
    ("resets after the request", S5, says(*UP_TO_REQUEST, "reset"), (1, 91, 503)),
    ("is silent", S5, says("silence"), (1, 91, 503)),
    ("is silent after its choice", S5, says(3, CHOSEN, "silence"), (1, 91, 503)),
    ("is silent within its reply", S5, says(*UP_TO_REQUEST, b"\x05\x00\x00", "silence"), (1, 91, 503)),
    ("no method is good enough", S5, says(3, b"\x05\xff"), (1, 91, 503)),
    ("chooses what was not offered", S5, says(3, b"\x05\x02"), (1, 91, 503)),
    ("answers as SOCKS4", S5, says(3, b"\x00\x5a" + bytes(6)), (1, 91, 503)),
    ("answers as HTTP", S5, says(3, b"HTTP/1.1 400 Bad Request\r\n\r\n"), (1, 91, 503)),
    ("speaks a lot of nonsense", S5, says(os.urandom(100_000).replace(b"\x05", b"\x06")), (1, 91, 503)),
    ("91", S4, says(9, b"\x00\x5b" + bytes(6)), (1, 91, 503)),
    ("93", S4, says(9, b"\x00\x5d" + bytes(6)), (1, 91, 503)),
    ("error reply of 2 bytes, SOCKS4", S4, says(9, b"\x00\x5b"), (1, 91, 503)),
    ("success cut short, SOCKS4", S4, says(9, b"\x00\x5a\x00"), (1, 91, 503)),
    ("one byte, SOCKS4", S4, says(9, b"\x00"), (1, 91, 503)),
    ("nonsense, SOCKS4", S4, says(9, b"hello"), (1, 91, 503)),
    ("reset, SOCKS4", S4, says(9, "reset"), (1, 91, 503)),
    ("silence, SOCKS4", S4, says("silence"), (1, 91, 503)),
    ("403", WEB, says("head", b"HTTP/1.1 403 No\r\nContent-Length: 3\r\n\r\nno\n"), (2, 91, 403)),
    ("404", WEB, says("head", b"HTTP/1.1 404 No\r\n\r\n"), (4, 91, 502)),
    ("502", WEB, says("head", b"HTTP/1.0 502 No\r\n\r\n"), (4, 91, 502)),
    ("504", WEB, says("head", b"HTTP/1.1 504 No\r\n\r\n"), (6, 91, 504)),
    ("500", WEB, says("head", b"HTTP/1.1 500\r\n\r\n"), (1, 91, 503)),
    ("301", WEB, says("head", b"HTTP/1.1 301 Elsewhere\r\nLocation: /\r\n\r\n"), (1, 91, 503)),
    ("407", WEB, says("head", b"HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), (1, 91, 503)),
    ("only a status line", WEB, says("head", b"HTTP/1.1 403 No\r\n"), (2, 91, 403)),
    ("a head without end", WEB, says("head", b"HTTP/1.1 200 OK\r\nA: ", b"a" * 100_000), (1, 91, 503)),
    ("success cut short, HTTP", WEB, says("head", b"HTTP/1.1 200 OK\r\nA: b\r\n"), (1, 91, 503)),
    ("nonsense, HTTP", WEB, says("head", b"SSH-2.0-OpenSSH\r\n"), (1, 91, 503)),
    ("endless 100s", WEB, says("head", b"HTTP/1.1 100 Continue\r\n\r\n" * 5000), (1, 91, 503)),
    ("silence, HTTP", WEB, says("silence"), (1, 91, 503)),
    ("silence within the head", WEB, says("head", b"HTTP/1.1 200 OK\r\n", "silence"), (1, 91, 503)),
]


def test_sloppy_upstreams(run, serve):
    """Each in each protocol of a client, all at once, since some of them wait for a time-out."""
    upstreams = [{"name": f"u{i}", "url": f"{scheme}://127.0.0.1:{serve(handler).port}"} for i, (_, scheme, handler, _) in enumerate(SLOPPY)]
    router = run(h.policy(
        upstreams=upstreams, rules=[{"match": {"port": [1000 + i]}, "route": f"u{i}"} for i in range(len(SLOPPY))], timeouts={"connect": "5s"}))
    waiting = []
    for i, (what, _, _, want) in enumerate(SLOPPY):
        for code, request_ in zip(want, (GREETING + h.socks5_request("127.0.0.1", 1000 + i), h.socks4_request("127.0.0.1", 1000 + i),
                                         h.http_request("127.0.0.1", 1000 + i))):
            s = h.connect(router.front)
            s.sendall(request_)
            waiting.append((what, code, s))
    wrong = []
    for what, code, s in waiting:
        got = h.recv_all(s)
        if got.startswith(b"HTTP"):
            ok = got.startswith(b"HTTP/1.1 %d " % code) and got.partition(b"\r\n\r\n")[2]
        else:
            ok = got == (b"\x00\x5b" + bytes(6) if code == 91 else CHOSEN + rep(code))
        if not ok:
            wrong.append((what, code, got))
    assert wrong == []
    faults = {line["route"]: line.get("hop") for line in router.access_lines(3 * len(SLOPPY))}
    destination = {"REP 3", "REP 4", "REP 5", "REP 6", "REP 2", "403", "404", "502", "504", "only a status line"}
    for i, (what, _, _, _) in enumerate(SLOPPY):
        if what in destination or what.startswith("error reply") and SLOPPY[i][1] == S5:
            assert faults[f"u{i}"] is None, what


# what it says when it grants; the payload is glued to it
GRANTS = [
    ("IPv4", S5, [*UP_TO_REQUEST, rep(0) + b"hello"]),
    ("IPv6", S5, [*UP_TO_REQUEST, rep(0, b"\x00\x04" + bytes(18)) + b"hello"]),
    ("a name", S5, [*UP_TO_REQUEST, rep(0, b"\x00\x03\x09localhost\x00\x50") + b"hello"]),
    ("an empty name", S5, [*UP_TO_REQUEST, rep(0, b"\x00\x03\x00\x00\x50") + b"hello"]),
    ("both answers before it was asked", S5, [CHOSEN + rep(0) + b"hello"]),
    ("SOCKS4", S4, [9, b"\x00\x5a" + bytes(6) + b"hello"]),
    ("SOCKS4 with version 4", S4, [9, b"\x04\x5a" + bytes(6) + b"hello"]),
    ("HTTP", WEB, ["head", b"HTTP/1.1 200 OK\r\n\r\nhello"]),
    ("HTTP/1.0 without a reason", WEB, ["head", b"HTTP/1.0 200\r\n\r\nhello"]),
    ("HTTP with a length that does not count", WEB, ["head", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nhello"]),
    ("HTTP after an interim answer", WEB, ["head", b"HTTP/1.1 102 Wait\r\nA: b\r\n\r\nHTTP/1.1 204 OK\r\n\r\nhello"]),
    ("HTTP with bare line feeds", WEB, ["head", b"HTTP/1.1 200 OK\nA: b\n\nhello"]),
]


@pytest.mark.parametrize("slow", [False, True])
def test_payload_glued_to_a_grant(run, serve, slow):
    """Not a byte of it is lost, whether it comes in one piece or in a hundred."""
    upstreams = []
    for i, (_, scheme, script) in enumerate(GRANTS):
        handler = says(*script, then=h.echo)
        upstreams.append({"name": f"u{i}", "url": f"{scheme}://127.0.0.1:{serve(peers.dribbles(handler) if slow else handler).port}"})
    router = run(h.policy(upstreams=upstreams, rules=[{"match": {"port": [1000 + i]}, "route": f"u{i}"} for i in range(len(GRANTS))]))
    for i, (what, _, _) in enumerate(GRANTS):
        for ask in h.ASK.values():
            s, granted = ask(router.front, "127.0.0.1", 1000 + i)
            assert granted and h.recv_exactly(s, 5) == b"hello", what
            if what != "both answers before it was asked":  # that one echoes our request
                s.sendall(b"more")
                s.shutdown(1)
                assert h.recv_all(s) == b"more", what
            s.close()


def test_names_go_to_an_upstream_as_they_are(run, serve):
    """Lower case, without a trailing dot; addresses in odd spellings as addresses."""
    up = serve(peers.named_upstream("up"))
    router = run(h.policy(upstreams=[{"name": "up", "url": f"socks5://127.0.0.1:{up.port}"}], default_route="up"))
    for host in ("Example.COM.", "xn--bcher-kva.example", "127.1", "0x7f000001", "::ffff:127.0.0.1"):
        assert h.socks5(router.front, host, 80)[1] == 0
    assert [host for _, host, _ in up.noted(5)] == ["example.com", "xn--bcher-kva.example", "127.0.0.1", "127.0.0.1", "127.0.0.1"]


def test_an_upstreams_slots_are_bounded_and_given_back(run, serve):
    up = serve(peers.named_upstream("up"))
    router = run(h.policy(upstreams=[{"name": "up", "url": f"socks5://127.0.0.1:{up.port}", "max_connections": 2}], default_route="up"))
    for _ in range(3):
        held = [peers.who_answers(router) for _ in range(2)]
        assert [name for name, _ in held] == ["up", "up"] and router.upstream("up")["sessions_open"] == 2
        assert h.talk(router.front, GREETING + h.socks5_request("127.0.0.1", 80)) == CHOSEN + rep(1)
        for _, s in held:
            s.close()
        router.wait_idle()
    assert up.accepted == 6


def test_source_address(run, serve):
    """Of an upstream that is a line of our own, and of a proxy."""
    target = serve(lambda conn, server: conn.sendall(conn.getpeername()[0].encode()))
    up = serve(lambda conn, server: (server.note(conn.getpeername()[0]), peers.named_upstream("up")(conn, server)))
    router = run(h.policy(
        upstreams=[{"name": "line", "url": "direct://", "source_address": "127.0.0.7"},
                   {"name": "up", "url": f"socks5://127.0.0.1:{up.port}", "source_address": "127.0.0.9"}],
        rules=[{"match": {"port": [1]}, "route": "up"}], default_route="line"))
    s, reply = h.socks5(router.front, "127.0.0.1", target.port)
    assert reply == 0 and h.recv_all(s) == b"127.0.0.7"
    assert h.socks5(router.front, "127.0.0.1", 1)[1] == 0 and up.noted()[0] == "127.0.0.9"
