"""Clients in front: every protocol, spoken byte by byte and with the programs that people use."""
import hashlib
import os
import socket
import struct
import subprocess
import threading
import time

import pytest

import harness as h

# ---- tunnels ----

WAYS = [("socks4", "127.0.0.1"), ("socks4", "localhost"), ("socks5", "127.0.0.1"), ("socks5", "localhost"),
        ("http", "127.0.0.1"), ("http", "localhost")]


@pytest.fixture
def direct(run):
    return run(h.policy(dns={"family": "ipv4_only"}))


@pytest.mark.parametrize("way, host", WAYS)
def test_both_directions_at_once_to_the_last_byte(direct, serve, way, host):
    up, down = os.urandom(4_000_000), os.urandom(5_000_000)
    target = serve(h.gives_and_takes(down))
    s, granted = h.ASK[way](direct.front, host, target.port)
    assert granted
    assert h.sha256(h.exchange(s, up)) == h.sha256(down)
    assert target.noted() == [h.sha256(up)]


@pytest.mark.parametrize("way, host", WAYS)
def test_half_close_by_the_client(direct, serve, way, host):
    """The destination answers only after it has seen the end of what was sent."""
    target = serve(h.digest)
    body = os.urandom(1_000_000)
    s, _ = h.ASK[way](direct.front, host, target.port)
    s.sendall(body)
    s.shutdown(socket.SHUT_WR)
    assert h.recv_all(s).decode() == h.sha256(body)


@pytest.mark.parametrize("way", h.ASK)
def test_half_close_by_the_destination(direct, serve, way):
    """It ends first, and still gets all that the client sends then."""

    def ends_first(conn, server):
        conn.sendall(b"that is all")
        conn.shutdown(socket.SHUT_WR)
        server.note(h.sha256(h.recv_all(conn)))

    target = serve(ends_first)
    body = os.urandom(1_000_000)
    s, _ = h.ASK[way](direct.front, "127.0.0.1", target.port)
    assert h.recv_all(s) == b"that is all"
    s.sendall(body)
    s.shutdown(socket.SHUT_WR)
    assert target.noted() == [h.sha256(body)]


@pytest.mark.parametrize("way, host", WAYS)
@pytest.mark.parametrize("size", [1, 700, 40_000])
def test_early_bytes_reach_the_destination(direct, serve, way, host, size):
    """Sent together with the request, before any answer."""
    target = serve(h.digest)
    early = os.urandom(size)
    s, granted = h.ASK[way](direct.front, host, target.port, early=early)
    assert granted
    s.sendall(b"and more")
    s.shutdown(socket.SHUT_WR)
    assert h.recv_all(s).decode() == h.sha256(early + b"and more")


def test_a_client_that_has_ended_before_the_answer_is_served(direct, serve):
    target = serve(h.digest)
    got = h.talk(direct.front, b"\x05\x01\x00" + h.socks5_request("127.0.0.1", target.port) + b"early", shut=True)
    assert got[:4] == b"\x05\x00\x05\x00" and got[12:].decode() == h.sha256(b"early")


def test_a_destination_that_speaks_first_comes_behind_the_reply(direct, serve):
    target = serve(lambda conn, server: conn.sendall(b"220 hello"))
    for way in h.ASK:
        s, granted = h.ASK[way](direct.front, "127.0.0.1", target.port)
        assert granted and h.recv_all(s) == b"220 hello"


def test_a_reset_is_passed_on(direct, serve):
    def reset(conn, _server):
        h.recv_exactly(conn, 1)
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    target = serve(reset)
    s, _ = h.socks5(direct.front, "127.0.0.1", target.port)
    s.sendall(b"x")
    with pytest.raises(ConnectionResetError):
        h.recv_all(s)


def test_ipv6(run):
    target = h.Server(h.echo, host="::1", family=socket.AF_INET6)
    policy = h.policy([h.listener(listen=f"[::1]:{h.free_port()}")])
    try:
        one = run(policy)
        for ask in (h.socks5, h.http_connect):
            with_ipv6 = h.connect(one.front, "::1")
            if ask is h.socks5:
                with_ipv6.sendall(b"\x05\x01\x00" + h.socks5_request("::1", target.port))
                answer = h.recv_exactly(with_ipv6, 2 + 22)
                assert answer[:6] == b"\x05\x00\x05\x00\x00\x04" and answer[6:22] == socket.inet_pton(socket.AF_INET6, "::1")
            else:
                with_ipv6.sendall(h.http_request("::1", target.port))
                assert h.read_head(with_ipv6).startswith(b"HTTP/1.1 200 ")
            with_ipv6.sendall(b"ping")
            assert h.recv_exactly(with_ipv6, 4) == b"ping"
    finally:
        target.stop()


def test_unix_listener(run, serve, folder):
    target = serve(h.page(b"through a file"))
    front = run(h.policy([h.listener(listen=f"unix:{folder}/front.sock")]))
    for way in h.ASK:
        s, granted = h.ASK[way](front.front, "127.0.0.1", target.port)
        assert granted
        s.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert h.recv_all(s).endswith(b"through a file")
        s.close()
    assert h.curl("-x", f"socks5h://localhost{folder}/front.sock", f"http://127.0.0.1:{target.port}/") == (0, b"through a file")
    assert {line["client"] for line in front.access_lines(4)} == {"unix"}


def test_several_listeners_each_with_its_own_protocols(run, serve):
    target = serve(h.echo)
    one = run(h.policy([h.listener(p, protocols=[p]) for p in h.EVERY_PROTOCOL]))
    for i, mine in enumerate(h.EVERY_PROTOCOL):
        served = set()
        for way, host in WAYS:
            protocol = {"socks4": "socks4" if host[0] == "1" else "socks4a"}.get(way, way)
            try:
                s, granted = h.ASK[way](one.port_of(i), host, target.port)
            except (AssertionError, EOFError):  # SOCKS5: no acceptable method
                continue
            if granted:
                served.add(protocol)
        assert served == {mine}


# ---- answers, byte for byte ----

REFUSED, SILENT, DEAD_UPSTREAM, FORBIDDEN, NOWHERE = "refused", "silent", "dead upstream", "forbidden", "nowhere"
HTTP_REASONS = {400: b"Bad Request", 403: b"Forbidden", 405: b"Method Not Allowed", 407: b"Proxy Authentication Required",
                501: b"Not Implemented", 502: b"Bad Gateway", 503: b"Service Unavailable", 504: b"Gateway Timeout"}
GREETING, CHOSEN = b"\x05\x01\x00", b"\x05\x00"


@pytest.fixture
def answering(run, started):
    """A router in front of one of each way to fail, and where each of them is."""
    silent = started(h.SilentPort())
    names = started(h.NameServer({}))
    places = {REFUSED: ("127.0.0.1", h.free_port()), SILENT: ("127.0.0.1", silent.port), FORBIDDEN: ("127.0.0.1", 1),
              DEAD_UPSTREAM: ("127.0.0.1", 2), NOWHERE: ("nowhere.test", 80)}
    policy = h.policy(
        [h.listener(), h.listener("socks", protocols=["socks4", "socks4a", "socks5"]), h.listener("staff", auth="staff")],
        dns={"servers": [names.address]},
        auth=[{"name": "staff", "methods": ["userpass"], "users": h.users("alice")}],
        upstreams=[{"name": "dead", "url": f"socks5://127.0.0.1:{h.free_port()}"}],
        rules=[{"match": {"port": [1]}, "route": "reject"}, {"match": {"port": [2]}, "route": "dead"}],
        timeouts={"connect": f"{int(1500 * h.SLOW)}ms", "handshake": "1m"},
    )
    one = run(policy)
    one.places = places
    return one


def socks5_answer(rep):
    return b"\x05" + bytes([rep]) + b"\x00\x01" + bytes(6)


def socks4_answer(code):
    return b"\x00" + bytes([code]) + bytes(6)


def is_http_answer(got, status):
    """A whole response that says so, with no byte behind it."""
    head, _, body = got.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 %d %s" % (status, HTTP_REASONS[status])
    fields = {k.lower(): v for k, _, v in (line.partition(b": ") for line in lines[1:])}
    assert fields[b"connection"] == b"close" and int(fields[b"content-length"]) == len(body) > 0
    assert (b"proxy-authenticate" in fields) == (status == 407) and (b"allow" in fields) == (status == 405)
    return True


def dribble(port, data):
    """The same as talk, one byte in each packet."""
    with h.connect(port) as s:
        try:
            for b in data:
                s.sendall(bytes([b]))
        except (BrokenPipeError, ConnectionResetError):
            pass  # it had its answer before the end
        return h.recv_all(s)


SPEAK = {"at once": h.talk, "byte by byte": dribble}
OUTCOMES = [(FORBIDDEN, 2, 91, 403), (NOWHERE, 4, 91, 502), (REFUSED, 5, 91, 502), (SILENT, 6, 91, 504), (DEAD_UPSTREAM, 1, 91, 503)]


@pytest.mark.parametrize("speak", SPEAK)
def test_what_happened_is_told_in_each_protocol(answering, speak):
    say = SPEAK[speak]
    for where, rep, code, status in OUTCOMES:
        at = answering.places[where]
        assert say(answering.front, GREETING + h.socks5_request(*at)) == CHOSEN + socks5_answer(rep), where
        assert say(answering.front, h.socks4_request(*at)) == socks4_answer(code), where
        assert is_http_answer(say(answering.front, h.http_request(*at)), status), where


@pytest.mark.parametrize("speak", SPEAK)
@pytest.mark.parametrize("request_, answer", h.named([
    ("unknown command", GREETING + h.socks5_request("127.0.0.1", 80, command=9), CHOSEN + socks5_answer(7)),
    ("unknown address type", GREETING + b"\x05\x01\x00\x09" + bytes(8), CHOSEN + socks5_answer(8)),
    ("no host", GREETING + b"\x05\x01\x00\x03\x00\x00\x50", CHOSEN + socks5_answer(1)),
    ("port 0", GREETING + h.socks5_request("127.0.0.1", 0), CHOSEN + socks5_answer(1)),
    ("a space in the name", GREETING + h.socks5_request("a b", 80), CHOSEN + socks5_answer(1)),
    ("only methods that nobody has", b"\x05\x02\x03\x80", b"\x05\xff"),
    ("no methods", b"\x05\x00", b"\x05\xff"),
    ("SOCKS4, unknown command", h.socks4_request("127.0.0.1", 80, command=9), socks4_answer(91)),
    ("SOCKS4, port 0", h.socks4_request("127.0.0.1", 0), socks4_answer(91)),
    ("SOCKS4, endless user id", h.socks4_request("127.0.0.1", 80, userid=b"u" * 300), socks4_answer(91)),
    ("no protocol at all", b"\x16\x03\x01\x02\x00\x01", b""),
]))
def test_bad_requests(answering, speak, request_, answer):
    assert SPEAK[speak](answering.front, request_) == answer


@pytest.mark.parametrize("speak", SPEAK)
@pytest.mark.parametrize("listener, request_, status", h.named([
    ("another method", 0, b"GET http://127.0.0.1/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 405),
    ("one with a body", 0, b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody", 405),
    ("no port", 0, b"CONNECT localhost HTTP/1.1\r\n\r\n", 400),
    ("port 0", 0, b"CONNECT localhost:0 HTTP/1.1\r\n\r\n", 400),
    ("no HTTP", 0, b"HELO example.com\r\n\r\n", 400),
    ("folded field", 0, b"CONNECT localhost:80 HTTP/1.1\r\nA: b\r\n c\r\n\r\n", 400),
    ("SOCKS port", 1, b"GET / HTTP/1.1\r\n\r\n", 501),
    ("SOCKS port, CONNECT", 1, h.http_request("127.0.0.1", 80), 501),
    ("no credentials", 2, h.http_request("127.0.0.1", 80), 407),
    ("bad credentials", 2, h.http_request("127.0.0.1", 80, h.basic("alice", "wrong")), 407),
    ("unknown user", 2, h.http_request("127.0.0.1", 80, h.basic("bob", "secret")), 407),
    ("another scheme", 2, h.http_request("127.0.0.1", 80, b"Proxy-Authorization: Digest x\r\n"), 407),
]))
def test_bad_http_requests(answering, speak, listener, request_, status):
    assert is_http_answer(SPEAK[speak](answering.port_of(listener), request_), status)


def test_a_head_without_end(answering):
    assert is_http_answer(h.talk(answering.front, b"CONNECT localhost:80 HTTP/1.1\r\n" + b"A: " + b"a" * 20_000), 400)


@pytest.mark.parametrize("speak", SPEAK)
@pytest.mark.parametrize("user, password, good", [
    ("alice", "secret", True), ("alice", "secreT", False), ("alice", "secret ", False), ("alice", "secre", False),
    ("alice", "", False), ("alice", "secret\0", False), ("alice\0", "secret", False), ("", "secret", False), ("alic", "secret", False),
    ("bob", "secret", False), ("alice", "s" * 255, False), ("alice+s1", "secret", True),
])
def test_credentials(answering, serve, speak, user, password, good):
    """Whatever follows bad ones gets no answer and does not eat the one that they get."""
    target = serve(lambda conn, server: None)
    got = SPEAK[speak](answering.port_of(2), b"\x05\x01\x02" + h.userpass(user, password) +
                       h.socks5_request("127.0.0.1", target.port) + b"x" * 20_000 * (not good and speak == "at once"))
    if good:
        assert got[:8] == b"\x05\x02\x01\x00\x05\x00\x00\x01" and len(got) == 2 + 2 + 10
    else:
        assert got == b"\x05\x02\x01\x01"
    assert target.accepted == int(good)


def test_credentials_where_none_are_wanted_or_offered(answering):
    staff = answering.port_of(2)
    assert h.talk(staff, GREETING) == b"\x05\xff"
    assert h.talk(staff, h.socks4_request("127.0.0.1", 80)) == socks4_answer(91)
    assert h.talk(staff, h.socks4_request("localhost", 80)) == socks4_answer(91)
    # a version other than RFC 1929's
    assert h.talk(staff, b"\x05\x01\x02" + b"\x05\x05alice\x06secret") == b"\x05\x02\x01\x01"


@pytest.mark.parametrize("speak", SPEAK)
def test_granted_tells_the_address_that_the_destination_sees(direct, serve, speak):
    def tell_peer(conn, server):
        server.note(conn.getpeername())

    target = serve(tell_peer)
    got = SPEAK[speak](direct.front, GREETING + h.socks5_request("127.0.0.1", target.port))
    assert got == CHOSEN + b"\x05\x00\x00\x01\x7f\x00\x00\x01" + struct.pack(">H", target.noted(1)[0][1])
    got = SPEAK[speak](direct.front, h.socks4_request("127.0.0.1", target.port))
    assert got == b"\x00\x5a" + struct.pack(">H", target.noted(2)[1][1]) + b"\x7f\x00\x00\x01"
    got = SPEAK[speak](direct.front, h.http_request("127.0.0.1", target.port))
    assert got.startswith(b"HTTP/1.1 200 ") and got.endswith(b"\r\n\r\n") and got.count(b"\r\n\r\n") == 1


def test_no_route_is_told_apart(run, folder):
    """In a network of its own, where one net is unreachable and nothing else is known."""
    own_network = ["unshare", "-rn", "sh", "-c",
                   'ip link set lo up && ip route add unreachable 198.51.100.0/24 && exec "$@"', "sh"]
    if subprocess.run([*own_network, "true"], capture_output=True).returncode != 0:
        pytest.skip("no network namespace can be made here")
    policy = h.policy([h.listener(listen=f"unix:{folder}/front.sock")])
    del policy["admin"]
    one = run(policy, prefix=own_network)
    for host, rep in (("198.51.100.1", 4), ("192.0.2.1", 3)):
        assert h.talk(one.front, GREETING + h.socks5_request(host, 80)) == CHOSEN + socks5_answer(rep)
        assert h.talk(one.front, h.socks4_request(host, 80)) == socks4_answer(91)
        assert is_http_answer(h.talk(one.front, h.http_request(host, 80)), 502)


# ---- passwords ----

def test_a_slow_hash_stalls_nobody(run, serve):
    """Expensive logins beside an open session of the same worker, which would have its turn only between them if they were computed
    there; a good pair is remembered."""
    target = serve(h.echo)
    one = run(h.policy([h.listener(), h.listener("staff", auth="staff")], workers=1, timeouts={"handshake": "10m"},
                       auth=[{"name": "staff", "methods": ["userpass"], "users": h.users("alice", password_hash=h.SLOW_HASH)}]))

    def login(password):
        return h.socks5(one.port_of(1), "127.0.0.1", target.port, "alice", password)[1]

    open_session, _ = h.socks5(one.front, "127.0.0.1", target.port)
    before = one.cpu_seconds()
    assert login("secret") == 0
    one_hash = one.cpu_seconds() - before
    logins = [threading.Thread(target=login, args=(f"wrong{i}",)) for i in range(8)]
    for t in logins:
        t.start()
    rounds = 0
    while any(t.is_alive() for t in logins):
        open_session.sendall(b"ping")
        assert h.recv_exactly(open_session, 4) == b"ping"
        rounds += 1
    assert rounds > 3 * len(logins)
    before = one.cpu_seconds()
    assert login("secret") == 0
    assert one.cpu_seconds() - before < one_hash / 2


# ---- programs ----

@pytest.fixture
def both(run):
    """A port for all and one for those who log in."""
    return run(h.policy([h.listener(), h.listener("staff", auth="staff")], dns={"family": "ipv4_only"},
                        auth=[{"name": "staff", "methods": ["userpass"], "users": h.users("alice")}]))


@pytest.mark.parametrize("scheme", ["socks4", "socks4a", "socks5", "socks5h", "http"])
def test_curl(both, serve, scheme):
    body = os.urandom(300_000)
    target = serve(h.page(body))
    url = f"http://localhost:{target.port}/"
    assert h.curl("-4", "-p", "-x", f"{scheme}://127.0.0.1:{both.front}", url) == (0, body)
    if scheme.startswith("socks4"):
        return
    staff = f"127.0.0.1:{both.port_of(1)}"
    assert h.curl("-4", "-p", "-x", f"{scheme}://alice:secret@{staff}", url) == (0, body)
    for nobody in ("alice:wrong@", "bob:secret@", ""):
        code, got = h.curl("-4", "-p", "-x", f"{scheme}://{nobody}{staff}", url)
        assert (code, got) == (56 if scheme == "http" else 97, b"")
    assert target.accepted == 2
    lines = both.access_lines(2)
    assert {(line["protocol"], line.get("user"), line["verdict"]) for line in lines} == {(p, u, "granted") for p in [lines[0]["protocol"]] for u in (None, "alice")}


@pytest.mark.parametrize("option", ["--socks4", "--socks4a", "--socks5", "--socks5-hostname"])
def test_curl_uploads(both, serve, option):
    """Half of it up, half of it down, with the classic options."""
    body = os.urandom(1_500_000)

    def mirror(conn, _server):
        head = h.read_head(conn)
        size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        got = h.recv_exactly(conn, size)
        conn.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + got[::-1])

    target = serve(mirror)
    up = both.folder / "up"
    up.write_bytes(body)
    code, got = h.curl("-4", option, f"127.0.0.1:{both.front}", "-H", "Expect:", "-T", up, f"http://localhost:{target.port}/")
    assert code == 0 and h.sha256(got) == h.sha256(body[::-1])


def pipe_through(args, data, env=None):
    """Gives data to a program that copies between its own ends and the network; what it printed."""
    r = subprocess.run([str(a) for a in args], input=data, capture_output=True, timeout=h.DEADLINE * h.SLOW, env={**os.environ, **(env or {})})
    assert r.returncode == 0, r.stderr
    return r.stdout


@pytest.mark.parametrize("kind, credentials", [("socks4", False), ("socks5", False), ("socks5", True), ("http", False), ("http", True)])
def test_ncat(both, serve, kind, credentials):
    body, target = os.urandom(500_000), serve(h.digest)
    args = [h.need("ncat"), "-4", "--proxy", f"127.0.0.1:{both.port_of(int(credentials))}", "--proxy-type", kind]
    args += ["--proxy-auth", "alice:secret"] if credentials else []
    assert pipe_through([*args, "127.0.0.1", target.port], body).decode() == h.sha256(body)


@pytest.mark.parametrize("address", [
    "SOCKS4:127.0.0.1:127.0.0.1:{to},socksport={front}",
    "SOCKS4A:127.0.0.1:localhost:{to},socksport={front}",
    "PROXY:127.0.0.1:localhost:{to},proxyport={front}",
    "PROXY:127.0.0.1:localhost:{to},proxyport={staff},proxyauth=alice:secret",
])
def test_socat(both, serve, address):
    body, target = os.urandom(500_000), serve(h.digest)
    address = address.format(to=target.port, front=both.front, staff=both.port_of(1))
    assert pipe_through([h.need("socat"), "-t", "10", "-", address], body).decode() == h.sha256(body)


@pytest.mark.parametrize("line", ["socks4 127.0.0.1 {front}", "socks5 127.0.0.1 {front}", "socks5 127.0.0.1 {staff} alice secret",
                                  "http 127.0.0.1 {front}", "http 127.0.0.1 {staff} alice secret",
                                  "http 127.0.0.1 {front}\nsocks5 127.0.0.1 {front}\nsocks5 127.0.0.1 {staff} alice secret"])
def test_proxychains(both, serve, folder, line):
    """The last one goes through us three times."""
    body = os.urandom(200_000)
    target = serve(h.page(body))
    conf = folder / "proxychains.conf"
    conf.write_text("strict_chain\nquiet_mode\n[ProxyList]\n" + line.format(front=both.front, staff=both.port_of(1)) + "\n")
    args = [h.need("proxychains4"), "-q", "-f", conf, h.need("curl"), "-sS", f"http://127.0.0.1:{target.port}/"]
    assert hashlib.sha256(pipe_through(args, b"")).hexdigest() == h.sha256(body)
    assert len(both.access_lines(1 + line.count("\n"))) == 1 + line.count("\n")
