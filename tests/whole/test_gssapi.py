"""Clients that prove who they are by Kerberos (RFC 1961): a real KDC, curl, and a client of our own that goes wrong on purpose."""
import contextlib
import os
import pathlib
import signal
import socket
import ssl
import struct
import subprocess
import threading

import pytest

import gss_client as g
import gss_server
import harness as h
from gss_client import GssClient

LEVELS = {"none": g.NONE, "integrity": g.INTEGRITY, "confidentiality": g.CONFIDENTIALITY}
SEALED = ["integrity", "confidentiality"]
UDP_GRO = 104


@pytest.fixture
def realm(kerberos, monkeypatch):
    k = kerberos()
    g.enter_realm(monkeypatch, k)
    return k


@pytest.fixture
def front(run, realm):
    """front(...) starts a sockroute whose clients come by Kerberos: keywords are those of `gssapi`."""

    def start(methods=("gssapi",), block=None, more=None, listener=None, **gssapi):
        gssapi = {"keytab": str(realm.keytab("rcmd")), **gssapi}
        return run(h.policy(
            [h.listener(auth="staff", **(listener or {}))],
            auth=[{"name": "staff", "methods": list(methods), "gssapi": gssapi, **(block or {})}],
            **{"dns": {"family": "ipv4_only"}, "log": {"level": "debug", "format": "json"}, **(more or {})}), env=realm.env)

    return start


@pytest.fixture
def alice(realm):
    """alice(proxy, ...) connects as her, by a ticket of hers."""
    tickets = realm.ccache("alice")
    return lambda proxy, *args, **kw: GssClient(proxy.front, tickets, *args, **kw)


def refusals(proxy, n=1):
    """What the log says of the clients that were refused, as soon as there are n."""
    return h.wait_until(f"{n} refusals", lambda: (
        found := [line["error"] for line in proxy.log_entries("gssapi refused")]) and len(found) >= n and found)


# ---- real clients ----


def curl(realm, proxy, target, *args, service="rcmd", scheme="socks5h"):
    """curl by Kerberos: what it says, and the page that it got. Debian's 7.88 forgets that it may use the method where it has to wait for
    the proxy's answer, so it is held up for a moment after its greeting, longer from try to try."""
    for seconds in (0.2, 1, 5):
        delay = f"inject=sendto:delay_exit={int(seconds * 1e6)}:when=1"
        r = subprocess.run(
            [h.need("strace"), "-f", "-qq", "-o", "/dev/null", "-e", "trace=sendto", "-e", delay, h.need("curl"), "-sSv",
             "--max-time", str(h.DEADLINE * h.SLOW), "--socks5-gssapi", "--socks5-gssapi-service", service, *args,
             "-x", f"{scheme}://localhost:{proxy.front}", f"http://127.0.0.1:{target.port}/"],
            capture_output=True, env={**os.environ, "KRB5CCNAME": f"FILE:{realm.ccache('alice')}"}, timeout=3 * h.DEADLINE * h.SLOW)
        said = r.stderr.decode(errors="replace")
        if "per-message authentication is not supported" not in said:
            break
    return said, r.stdout


def recorder(to, heard):
    """A handler: passes all on to that port of ours, and keeps the messages of RFC 1961 that went either way, in order."""

    def handler(conn, _server):
        with socket.create_connection(("127.0.0.1", to)) as proxy:
            def pass_on(a, b, who):
                while data := a.recv(65536):
                    heard.append((who, data))
                    b.sendall(data)
                b.shutdown(socket.SHUT_WR)

            back = threading.Thread(target=pass_on, args=(proxy, conn, "proxy"), daemon=True)
            back.start()
            pass_on(conn, proxy, "client")
            back.join(h.DEADLINE * h.SLOW)

    return handler


CURL = pytest.mark.parametrize("options", [
    {}, {"scheme": "socks5"}, {"service": "rcmd/localhost@EXAMPLE.TEST"}, ["--socks5-gssapi-nec"], ["--socks5-gssapi-nec", "--socks5-basic"],
    ["--socks5-basic", "--delegation", "always"]], ids=str)


@CURL
def test_curl(front, realm, serve, options):
    """
    It asks for no protection, and is given that. Debian's 7.88 goes on into the branch for methods that it does not know when it has dealt
    with this one, its own success included ("Undocumented SOCKS5 mode"): no option spares it that, and nothing that a proxy could
    answer. One that goes on must get its page.
    """
    heard = []
    proxy, target = front(), serve(h.page())
    via = serve(recorder(proxy.front, heard))
    via.front = via.port
    args, words = (options, {}) if isinstance(options, list) else ([], options)
    said, page = curl(realm, via, target, *args, **words)
    assert "authenticated user alice@EXAMPLE.TEST" in said and "access without GSS-API data protection granted" in said, said
    if "Undocumented SOCKS5 mode" in said:
        assert heard[-1][0] == "proxy" and heard[-1][1][:2] == bytes([1, g.LEVEL]), heard[-1]
    else:
        assert page == b"hello\n", said
    proxy.wait_access_line(user="alice@EXAMPLE.TEST")


@CURL
@pytest.mark.parametrize("least", SEALED)
def test_curl_asks_for_less_than_is_demanded(front, realm, serve, options, least):
    proxy, target = front(protection=least), serve(h.page())
    args, words = (options, {}) if isinstance(options, list) else ([], options)
    said, _ = curl(realm, proxy, target, *args, **words)
    assert "authenticated user" in said and "granted" not in said, said
    assert refusals(proxy) == ["the level of protection won't do"]


# ---- tunnels ----


@pytest.mark.parametrize("level", LEVELS)
def test_both_directions_to_the_last_byte(front, alice, serve, level):
    up, down = os.urandom(3_000_000), os.urandom(4_000_000)
    proxy, target = front(), serve(h.gives_and_takes(down))
    c = alice(proxy).enter(LEVELS[level])
    assert c.request("127.0.0.1", target.port)[0] == 0
    sender = threading.Thread(target=lambda: (c.sendall(up), c.shutdown(socket.SHUT_WR)))
    sender.start()
    assert h.sha256(c.recv_all()) == h.sha256(down)
    sender.join()
    assert target.noted() == [h.sha256(up)]
    line = proxy.wait_access_line(user="alice@EXAMPLE.TEST", verdict="granted")
    assert (line["up"], line["down"]) == (len(up), len(down))


@pytest.mark.parametrize("piece", [1, 40_000, 65_000])
def test_messages_of_any_size(front, alice, serve, piece):
    """As the client cuts them, up to what a message can hold."""
    data = os.urandom(300 if piece == 1 else 500_000)
    proxy, target = front(), serve(h.digest)
    c = alice(proxy).enter(g.CONFIDENTIALITY)
    assert c.request("127.0.0.1", target.port)[0] == 0
    c.sendall(data, piece)
    c.shutdown(socket.SHUT_WR)
    assert c.recv_all().decode() == h.sha256(data)


@pytest.mark.parametrize("level", SEALED)
def test_byte_by_byte(front, alice, serve, level):
    proxy, target = front(), serve(h.echo)
    c = alice(proxy)
    c.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    whole = c.s.sendall
    c.s = Dribbler(c.s, whole)
    c.enter(LEVELS[level])
    assert c.request("127.0.0.1", target.port)[0] == 0
    c.sendall(b"ping")
    assert c.recv_exactly(4) == b"ping"
    c.s.shutdown(socket.SHUT_WR)
    assert c.recv_all() == b""


class Dribbler:
    """A socket that sends one byte at a time."""

    def __init__(self, s, sendall):
        self._s, self._sendall = s, sendall

    def sendall(self, data):
        for i in range(len(data)):
            self._sendall(data[i:i + 1])

    def __getattr__(self, name):
        return getattr(self._s, name)


@pytest.mark.parametrize("level", LEVELS)
def test_half_close_by_the_destination(front, alice, serve, level):
    def ends_first(conn, server):
        conn.sendall(b"that is all")
        conn.shutdown(socket.SHUT_WR)
        server.note(h.sha256(h.recv_all(conn)))

    proxy, target, body = front(), serve(ends_first), os.urandom(1_000_000)
    c = alice(proxy).enter(LEVELS[level])
    assert c.request("127.0.0.1", target.port)[0] == 0
    assert c.recv_all() == b"that is all"
    c.sendall(body)
    c.shutdown(socket.SHUT_WR)
    assert target.noted() == [h.sha256(body)]


@pytest.mark.parametrize("level", LEVELS)
def test_all_at_once_and_its_end(front, alice, serve, level):
    """Level, request and payload in one piece, and no more behind it: a client may take for granted what it will be given."""
    proxy, target, body = front(), serve(h.digest), os.urandom(30_000)
    c = alice(proxy)
    assert c.establish()
    asked = g.message(g.LEVEL, c.context.wrap(bytes([LEVELS[level]]), False).message)
    c.level = LEVELS[level]
    c.s.sendall(asked + c.seal(h.socks5_request("127.0.0.1", target.port) + body[:9]) + c.seal(body[9:]))
    c.shutdown(socket.SHUT_WR)
    kind, answer = c.receive()
    assert (kind, c.context.unwrap(answer).message) == (g.LEVEL, bytes([c.level]))
    assert c.reply()[0] == 0
    assert c.recv_all().decode() == h.sha256(body)


@pytest.mark.parametrize("flags", [g.FLAGS[1:], ()], ids=["no answer is asked for", "nothing is"])
def test_who_does_not_ask_us_to_prove_ourselves(front, alice, serve, flags):
    """The context stands with its first token, and nothing is said to that; the level comes next."""
    proxy, target = front(), serve(h.echo)
    for level in LEVELS.values():
        c = alice(proxy, flags=flags).enter(level)
        assert c.request("127.0.0.1", target.port)[0] == 0
        c.sendall(b"ping")
        assert c.recv_exactly(4) == b"ping"


def test_many_on_two_workers(front, alice, serve):
    proxy, target = front(more={"workers": 2}), serve(h.echo)
    failed = []

    def one(i):
        try:
            c, data = alice(proxy).enter(i % 3), os.urandom(100_000)
            assert c.request("127.0.0.1", target.port)[0] == 0
            sender = threading.Thread(target=lambda: (c.sendall(data), c.shutdown(socket.SHUT_WR)))
            sender.start()
            assert c.recv_all() == data
            sender.join()
        except Exception as e:
            failed.append(repr(e))

    threads = [threading.Thread(target=one, args=(i,)) for i in range(24)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failed, failed
    assert proxy.stats()["sessions"]["accepted"] >= 24


def test_a_burst_of_one_address(front, alice):
    """A proxy before us: all of its clients come from one address, maybe at once."""
    proxy = front()
    clients = [alice(proxy) for _ in range(100)]
    tokens = [c.first_token() for c in clients]
    for c, token in zip(clients, tokens):
        c.send(g.CONTEXT, token)
    assert {c.receive()[0] for c in clients} == {g.CONTEXT}


@pytest.mark.parametrize("level", SEALED)
def test_within_tls(front, alice, serve, certificates, level):
    proxy = front(listener={"tls": {"certificate": str(certificates.good)}})
    target, data = serve(h.echo), os.urandom(20_000)
    context = ssl.create_default_context(cafile=str(certificates.ca))
    c = alice(proxy, wrap=lambda s: context.wrap_socket(s, server_hostname="localhost")).enter(LEVELS[level])
    assert c.request("127.0.0.1", target.port)[0] == 0
    for _ in range(10):    # in turns: a TLS connection of Python's is for one thread
        c.sendall(data)
        assert c.recv_exactly(len(data)) == data


# ---- BIND and UDP ----


@pytest.mark.parametrize("level", LEVELS)
def test_bind(front, alice, level):
    proxy = front()
    c = alice(proxy).enter(LEVELS[level])
    rep, at = c.request("127.0.0.1", 0, command=2)
    assert rep == 0
    peer = h.connect(at[1], at[0])
    assert c.reply() == (0, peer.getsockname())
    peer.sendall(b"from the peer")
    assert c.recv_exactly(13) == b"from the peer"
    c.sendall(b"to the peer")
    c.shutdown(socket.SHUT_WR)
    assert h.recv_all(peer) == b"to the peer"
    peer.close()
    assert c.recv_all() == b""


class Datagrams:
    """A client's association. What it gets is sealed as its level says."""

    def __init__(self, client, target):
        self.c, self.target = client, target
        rep, self.at = client.request("0.0.0.0", 0, command=3)
        assert rep == 0
        self.s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.s.bind(("127.0.0.1", 0))
        self.s.settimeout(h.DEADLINE * h.SLOW)
        h.opened.append(self.s)

    def plain(self, payload):
        return b"\x00\x00\x00" + h.socks5_address("127.0.0.1") + struct.pack(">H", self.target.getsockname()[1]) + payload

    def send(self, payload):
        datagram = self.c.seal(self.plain(payload))
        self.s.sendto(datagram, self.at)
        return datagram

    def receive(self):
        datagram = self.s.recv(70000)
        if self.c.level != g.NONE:
            version, kind, n = struct.unpack("!BBH", datagram[:4])
            assert (version, kind, n) == (1, g.DATA, len(datagram) - 4)
            datagram = self.c.open(datagram[4:])
        head = self.plain(b"")
        assert datagram[:len(head)] == head
        return datagram[len(head):]


@pytest.fixture
def echoes():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("127.0.0.1", 0))

    def serve():
        while True:
            data, who = s.recvfrom(70000)
            if data == b"end":
                return
            s.sendto(data, who)

    t = threading.Thread(target=serve)
    t.start()
    yield s
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
        last.sendto(b"end", s.getsockname())
    t.join()
    s.close()


@pytest.mark.parametrize("level", LEVELS)
def test_datagrams(front, alice, echoes, level):
    proxy = front()
    d = Datagrams(alice(proxy).enter(LEVELS[level]), echoes)
    for size in (0, 1, 1200, 9000, 60_000):
        payload = os.urandom(size)
        d.send(payload)
        assert d.receive() == payload
    proxy.get("/v1/connections")
    d.c.s.close()
    line = proxy.wait_access_line(command="udp")
    assert (line["user"], line["datagrams_up"], line["datagrams_down"], line["up"]) == ("alice@EXAMPLE.TEST", 5, 5, 70_201)


def test_datagrams_of_others(front, alice, echoes):
    """Unsealed, forged, cut, sealed less than agreed, and one that comes twice: none is passed on, and none takes the port."""
    proxy = front()
    d = Datagrams(alice(proxy).enter(g.CONFIDENTIALITY), echoes)
    stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    h.opened.append(stranger)
    stranger.bind(("127.0.0.1", 0))
    forged = bytearray(d.c.seal(d.plain(b"forged")))
    forged[-1] ^= 1
    lesser = g.message(g.DATA, d.c.context.wrap(d.plain(b"less"), False).message)
    good = d.c.seal(d.plain(b"good"))
    for bad in (d.plain(b"unsealed"), bytes(forged), good[:-1], good + b"x", lesser, b"", b"\x01", b"\x01\xff", b"\x01\x03\x00\x00"):
        stranger.sendto(bad, d.at)
    h.wait_until("all to be dropped", lambda: proxy.stats()["udp"]["dropped_header"] == 9)
    d.s.sendto(good, d.at)
    assert d.receive() == b"good"
    d.s.sendto(good, d.at)
    h.wait_until("what came twice to be dropped", lambda: proxy.stats()["udp"]["dropped_header"] == 10)
    d.send(b"next")
    assert d.receive() == b"next"


@pytest.mark.parametrize("flags", [g.FLAGS, (*g.FLAGS[:2], *g.FLAGS[3:]), (g.FLAGS[0], *g.FLAGS[3:])], ids=["both", "replay", "neither"])
def test_datagrams_recorded(front, alice, echoes, flags):
    """Whatever the client's library asked to be looked at: one that comes again is not passed on, and neither is one of long ago."""
    proxy = front()
    d = Datagrams(alice(proxy, flags=flags).enter(g.INTEGRITY), echoes)
    recorded = [d.send(b"%d" % i) for i in range(3)]
    late = d.c.seal(d.plain(b"late"))
    for i in range(3):
        assert d.receive() == b"%d" % i
    d.s.sendto(recorded[1], d.at)
    h.wait_until("what came twice to be dropped", lambda: proxy.stats()["udp"]["dropped_header"] == 1)
    d.send(b"one more")
    assert d.receive() == b"one more"
    d.s.sendto(late, d.at)
    assert d.receive() == b"late"
    for i in range(70):
        d.send(b"more")
        assert d.receive() == b"more"
    d.s.sendto(recorded[0], d.at)
    h.wait_until("what is old to be dropped", lambda: proxy.stats()["udp"]["dropped_header"] == 2)


@pytest.mark.parametrize("flags", [g.FLAGS, (g.FLAGS[0], *g.FLAGS[3:])], ids=["both", "neither"])
def test_messages_of_a_stream_that_are_left_out(front, alice, serve, flags):
    proxy, target = front(), serve(h.echo)
    c = alice(proxy, flags=flags).enter(g.INTEGRITY)
    assert c.request("127.0.0.1", target.port)[0] == 0
    c.sendall(b"first")
    assert c.recv_exactly(5) == b"first"
    c.seal(b"left out")
    c.sendall(b"third")
    assert proxy.wait_access_line()["end"] == "client reset"


def test_a_flood_where_nothing_is_to_come(front, alice, echoes):
    """On the connection that stands for an association: it ends it, rather than keep a worker busy."""
    proxy = front()
    d = Datagrams(alice(proxy).enter(g.INTEGRITY), echoes)
    d.c.s.sendall(b"".join(d.c.seal(b"x") for _ in range(2000)))
    assert proxy.wait_access_line(command="udp")["end"] == "client reset"


@pytest.mark.parametrize("hops", [["confidentiality"], ["integrity"], ["integrity", "confidentiality"], ["plain", "confidentiality"],
                                  ["confidentiality", "plain", "integrity"], ["none"], ["none", "none"], ["confidentiality", "none"],
                                  ["none", "integrity", "none"]], ids=">".join)
def test_datagrams_through_upstreams(front, realm, run, echoes, hops):
    """Each hop is a sockroute; its own context seals its header and all behind it, and it takes nothing less."""
    proxies, upstreams = [], []
    for i, level in enumerate(hops):
        upstream = {"name": f"hop{i}"}
        if level == "plain":
            proxies.append(run(h.policy()))
        else:
            proxies.append(front(protection=level))
            upstream |= {"auth": "gssapi", "gssapi": {"keytab": str(realm.keytab("alice")), "protection": level}}
        upstreams.append({**upstream, "url": f"socks5://localhost:{proxies[-1].front}"})
    router = run(h.policy(upstreams=upstreams, chains=[{"name": "way", "hops": [u["name"] for u in upstreams]}], default_route="way"),
                 env=realm.env)
    c = Plain(router.front)
    d = Datagrams(c, echoes)
    for size in (0, 1, 1200, 20_000):
        payload = os.urandom(size)
        d.send(payload)
        assert d.receive() == payload
    c.s.close()
    for proxy in proxies:
        line = proxy.wait_access_line(command="udp")
        assert (line["datagrams_up"], line["datagrams_down"], line["dropped"]) == (4, 4, 0)


@pytest.mark.parametrize("before", [None, "confidentiality", "none"])
@pytest.mark.parametrize("granted_level", LEVELS)
def test_datagrams_to_a_proxy_that_is_asked_for_no_protection(front, realm, run, serve, echoes, before, granted_level):
    """Another implementation than ours: what it grants decides, whatever lies between."""
    alice = str(realm.keytab("alice"))
    proxy = serve(gss_server.relay(realm.keytab("rcmd"), least=LEVELS[granted_level]))
    upstreams = [{"name": "last", "url": f"socks5://localhost:{proxy.port}", "auth": "gssapi",
                  "gssapi": {"keytab": alice, "protection": "none"}}]
    if before is not None:
        upstreams.insert(0, {"name": "first", "url": f"socks5://localhost:{front(protection=before).front}", "auth": "gssapi",
                             "gssapi": {"keytab": alice, "protection": before}})
    router = run(h.policy(upstreams=upstreams, chains=[{"name": "way", "hops": [u["name"] for u in upstreams]}], default_route="way"),
                 env=realm.env)
    d = Datagrams(Plain(router.front), echoes)
    for payload in (b"", b"datagram", os.urandom(1200)):
        d.send(payload)
        assert d.receive() == payload
    assert proxy.noted() == [("alice@EXAMPLE.TEST", LEVELS[granted_level])]


RUN = 8


def take_run(s):
    """What has come as one message of the kernel's: how many datagrams, all but the last of one length."""
    s.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
    data, said, _, _ = s.recvmsg(70000, 64)
    length = next((struct.unpack("i", value)[0] for level, kind, value in said if (level, kind) == (socket.IPPROTO_UDP, UDP_GRO)), len(data))
    return [data[at:at + length] for at in range(0, len(data), length)]


@contextlib.contextmanager
def held_up(router):
    """It finds all that comes meanwhile at once."""
    def threads():
        return [path.read_text().rpartition(")")[2].split()[0] for path in pathlib.Path(f"/proc/{router.pid}/task").glob("*/stat")]

    os.kill(router.pid, signal.SIGSTOP)
    try:
        h.wait_until("it to stand still", lambda: set(threads()) == {"T"})
        yield
    finally:
        os.kill(router.pid, signal.SIGCONT)


@pytest.mark.parametrize("level", SEALED)
def test_a_run_of_answers_is_sealed_as_one(front, alice, level):
    """Each by itself, but they go to the kernel together."""
    target = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    h.opened.append(target)
    target.bind(("127.0.0.1", 0))
    target.settimeout(h.DEADLINE * h.SLOW)
    proxy = front(more={"workers": 1})
    d = Datagrams(alice(proxy).enter(LEVELS[level]), target)
    d.send(b"first")
    _, way = target.recvfrom(100)
    d.s.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
    with held_up(proxy):
        for i in range(RUN):
            target.sendto(b"answer %d" % i, way)
    got = take_run(d.s)
    assert [d.c.open(datagram[4:])[-8:] for datagram in got] == [b"answer %d" % i for i in range(RUN)]


@pytest.mark.parametrize("level", SEALED)
def test_a_run_for_an_upstream_is_sealed_as_one(realm, run, serve, echoes, level):
    def take(s, sealed, server):
        server.note([sealed.open_datagram(datagram)[-8:] for datagram in take_run(s)])

    proxy = serve(gss_server.relay(realm.keytab("rcmd"), take=take))
    router = run(h.policy(default_route="up", workers=1, upstreams=[
        {"name": "up", "url": f"socks5://localhost:{proxy.port}", "auth": "gssapi",
         "gssapi": {"keytab": str(realm.keytab("alice")), "protection": level}}]), env=realm.env)
    d = Datagrams(Plain(router.front), echoes)
    d.send(b"opens it")
    assert proxy.noted(2)[1:] == [[b"opens it"]]
    with held_up(router):
        for i in range(RUN):
            d.send(b"number %d" % i)
    assert proxy.noted(3)[2] == [b"number %d" % i for i in range(RUN)]


class Plain(GssClient):
    """A client that needs not prove who it is."""

    def __init__(self, port):
        self.s, self.level, self.got = h.connect(port), g.NONE, b""
        self.s.sendall(b"\x05\x01\x00")
        assert h.recv_exactly(self.s, 2) == b"\x05\x00"


# ---- who it is ----


def granted(c, target):
    return c.request("127.0.0.1", target.port)[0] == 0


def test_user_by_realm_map_and_rules(kerberos, monkeypatch, serve, run):
    both = kerberos(realms=("EXAMPLE.TEST", "OTHER.TEST"))
    g.enter_realm(monkeypatch, both)
    target = serve(h.echo)
    proxy = run(h.policy(
        [h.listener(auth="staff")],
        auth=[{"name": "staff", "methods": ["gssapi"], "gssapi": {
            "keytab": str(both.keytab("rcmd")), "realm": "EXAMPLE.TEST", "map": {"bob@OTHER.TEST": "robert"}}}],
        rules=[{"name": "not-alice", "match": {"user": ["alice"]}, "route": "reject"}]), env=both.env)

    def enter(user, realm):
        return GssClient(proxy.front, both.ccache(user, realm), target="rcmd/localhost@EXAMPLE.TEST")

    assert enter("alice", "EXAMPLE.TEST").enter(g.INTEGRITY).request("127.0.0.1", target.port)[0] == 2
    assert granted(enter("bob", "EXAMPLE.TEST").enter(g.INTEGRITY), target)
    assert granted(enter("bob", "OTHER.TEST").enter(g.INTEGRITY), target)
    stranger = enter("alice", "OTHER.TEST")
    assert not stranger.establish() and stranger.is_over()
    for c in h.opened:
        c.close()
    # Their sessions end on several workers, in any order.
    assert sorted((line["user"], line["rule"]) for line in proxy.access_lines(3)) == [
        ("alice", "not-alice"), ("bob", "default"), ("robert", "default")]


def test_who_does_not_offer_it(front, serve):
    """Userpass is next; a SOCKS4 or HTTP client has no such method."""
    proxy, target = front(methods=("gssapi", "userpass"), block={"users": h.users("bob")}), serve(h.echo)
    assert h.ASK["socks5"](proxy.front, "127.0.0.1", target.port, user="bob")[1]
    assert h.talk(proxy.front, b"\x05\x01\x00") == b"\x05\xff"
    assert h.talk(proxy.front, h.socks4_request("127.0.0.1", target.port))[:2] == b"\x00\x5b"
    assert h.talk(proxy.front, b"\x05\x03\x00\x02\x01", shut=True) == b"\x05\x01"


def test_the_connection_is_described(front, alice, serve):
    proxy, target = front(), serve(h.echo)
    c = alice(proxy).enter(g.INTEGRITY)
    assert granted(c, target)
    (row,) = proxy.get("/v1/connections")["connections"]
    assert row["user"] == "alice@EXAMPLE.TEST" and row["protocol"] == "socks5"


# ---- refused ----


@pytest.mark.parametrize("asked, least", [("none", "integrity"), ("none", "confidentiality"), ("integrity", "confidentiality")])
@pytest.mark.parametrize("bare", [False, True])
def test_less_protection_than_demanded(front, alice, asked, least, bare):
    proxy = front(protection=least)
    c = alice(proxy)
    assert c.establish() and c.ask_level(LEVELS[asked], bare) is None and c.is_over()
    assert refusals(proxy) == ["the level of protection won't do"]


@pytest.mark.parametrize("least", LEVELS)
def test_more_protection_than_demanded_is_given(front, alice, serve, least):
    proxy, target = front(protection=least), serve(h.echo)
    for level in LEVELS.values():
        if level >= LEVELS[least]:
            assert granted(alice(proxy).enter(level), target)
    c = alice(proxy)
    assert c.establish() and c.ask_level(g.SELECTIVE) == g.CONFIDENTIALITY
    assert granted(c, target)


def test_bare_level_above_what_is_demanded(front, alice, serve):
    """Nobody gains by changing it: what follows is sealed all the same."""
    proxy, target = front(protection="integrity"), serve(h.echo)
    c = alice(proxy)
    assert c.establish() and c.ask_level(g.CONFIDENTIALITY, bare=True) == g.CONFIDENTIALITY
    assert granted(c, target)


@pytest.mark.parametrize("what, token", [
    ("no level", lambda c: c.context.wrap(b"\x09", False).message),
    ("two bytes", lambda c: c.context.wrap(b"\x01\x01", False).message),
    ("nothing", lambda c: c.context.wrap(b"", False).message),
    ("not sealed", lambda c: b"\x01\x01"),
    ("too long", lambda c: c.context.wrap(bytes(5000), False).message),
])
def test_rubbish_for_a_level(front, alice, what, token):
    proxy = front()
    c = alice(proxy)
    assert c.establish()
    c.send(g.LEVEL, token(c))
    assert c.receive() == (g.ABORT, b"") and c.is_over()
    assert proxy.alive()


def test_wrong_keys(front, alice, realm):
    """Tickets for a key that the keytab does not have."""
    realm.change_key()
    proxy = front()
    c = GssClient(proxy.front, realm.ccache("bob"))
    assert not c.establish() and c.is_over()
    assert len(refusals(proxy)) == 1


def test_wrong_service(front, alice, realm, folder):
    """A ticket for another principal, with a key in the same keytab, is none for ours."""
    keytab = folder / "both.keytab"
    keytab.write_bytes(realm.keytab("rcmd").read_bytes() + realm.keytab("bob").read_bytes()[2:])
    proxy = front(keytab=str(keytab))
    c = alice(proxy, target="bob")
    assert not c.establish() and c.is_over()
    assert len(refusals(proxy)) == 1


def test_a_token_twice(front, alice):
    """The replay cache: what was heard on the wire lets nobody else in."""
    proxy = front()
    first = alice(proxy)
    token = first.first_token()
    first.send(g.CONTEXT, token)
    assert first.receive()[0] == g.CONTEXT
    second = alice(proxy)
    second.send(g.CONTEXT, token)
    assert second.receive() == (g.ABORT, b"") and second.is_over()
    assert "replay" in refusals(proxy)[0]


RUBBISH = [
    ("garbage", g.message(g.CONTEXT, b"garbage")),
    ("64 KiB of it", g.message(g.CONTEXT, bytes(65535))),
    ("an empty token", b"\x01\x01\x00\x00"),
    ("another version", b"\x05\x01\x00"),
    ("a level", g.message(g.LEVEL, b"\x00")),
    ("data", b"\x01\x03"),
    ("a request", h.socks5_request("127.0.0.1", 80)),
]


def test_a_keytab_that_is_gone_and_back(front, alice, realm, folder, serve):
    """What the file holds counts from client to client."""
    keytab, target = folder / "moving.keytab", serve(h.echo)
    keytab.write_bytes(realm.keytab("rcmd").read_bytes())
    proxy = front(keytab=str(keytab))
    keytab.rename(folder / "away")
    c = alice(proxy)
    assert not c.establish() and c.is_over()
    assert "No such file" in refusals(proxy)[0]
    (folder / "away").rename(keytab)
    assert granted(alice(proxy).enter(g.INTEGRITY), target)


@pytest.mark.parametrize("data", [data for _, data in RUBBISH], ids=[what for what, _ in RUBBISH])
def test_rubbish_for_a_token(front, data):
    proxy = front()
    answer = h.talk(proxy.front, b"\x05\x01\x01" + data)
    assert answer == b"\x05\x01\x01\xff"


def test_client_gives_up(front):
    proxy = front()
    assert h.talk(proxy.front, b"\x05\x01\x01\x01\xff") == b"\x05\x01"


def test_cut_at_every_step(front, alice, serve):
    """The client leaves, by an end or a reset, wherever it stands: run() sees that nothing stays."""
    proxy, target = front(), serve(h.echo)
    linger = struct.pack("ii", 1, 0)

    def in_pieces(c, kind, token, n):
        c.s.sendall(g.message(kind, token)[:n])

    steps = [
        lambda c: None,
        lambda c: c.s.sendall(b"\x01"),
        lambda c: in_pieces(c, g.CONTEXT, c.first_token(), 4),
        lambda c: in_pieces(c, g.CONTEXT, c.first_token(), 300),
        lambda c: in_pieces(c, g.CONTEXT, c.first_token(), 99999),
        lambda c: c.establish(),
        lambda c: c.establish() and c.s.sendall(b"\x01\x02\x00"),
        lambda c: c.enter(g.INTEGRITY),
        lambda c: c.enter(g.INTEGRITY).s.sendall(c.seal(h.socks5_request("127.0.0.1", target.port))[:20]),
        lambda c: c.enter(g.INTEGRITY).sendall(h.socks5_request("127.0.0.1", target.port)[:6]),
        lambda c: granted(c.enter(g.INTEGRITY), target) and c.s.sendall(c.seal(b"cut")[:-1]),
    ]
    for reset in (False, True):
        for step in steps:
            c = alice(proxy)
            step(c)
            if reset:
                c.s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            c.s.close()
    proxy.wait_idle()


def test_a_message_cut_by_its_end_is_no_end(front, alice, serve):
    """The destination gets a reset, as it would of a TLS client: what it has is not all."""
    seen = threading.Event()

    def handler(conn, server):
        try:
            while conn.recv(100):
                pass
            server.note("end")
        except ConnectionResetError:
            server.note("reset")
        seen.set()

    proxy, target = front(), serve(handler)
    c = alice(proxy).enter(g.CONFIDENTIALITY)
    assert granted(c, target)
    c.sendall(b"all of this")
    c.s.sendall(c.seal(b"not all of this")[:-1])
    c.shutdown(socket.SHUT_WR)
    assert seen.wait(h.DEADLINE * h.SLOW) and target.noted() == ["reset"]
    proxy.wait_access_line(end="client reset")


@pytest.mark.parametrize("what, forge", [
    ("unsealed", lambda c: b"GET / HTTP/1.1\r\n\r\n"),
    ("another type", lambda c: g.message(g.LEVEL, c.context.wrap(b"x", True).message)),
    ("an empty token", lambda c: b"\x01\x03\x00\x00"),
    ("a bit changed", lambda c: (lambda m: m[:-1] + bytes([m[-1] ^ 1]))(c.seal(b"x"))),
    ("twice", lambda c: c.seal(b"x") * 2),
    ("one missing", lambda c: c.seal(b"x") and c.seal(b"y")),
    ("not secret", lambda c: g.message(g.DATA, c.context.wrap(b"x", False).message)),
    ("nothing in it, for ever", lambda c: b"".join(c.seal(b"") for _ in range(40))),
])
def test_forged(front, alice, serve, what, forge):
    """What can't be the client's ends the session."""
    proxy, target = front(), serve(h.echo)
    c = alice(proxy).enter(g.CONFIDENTIALITY)
    assert granted(c, target)
    c.s.sendall(forge(c))
    proxy.wait_access_line(end="client reset")


def test_empty_messages_are_passed_over(front, alice, serve):
    proxy, target = front(), serve(h.echo)
    c = alice(proxy).enter(g.CONFIDENTIALITY)
    assert granted(c, target)
    for word in (b"one", b"two"):
        c.s.sendall(b"".join(c.seal(b"") for _ in range(20)) + c.seal(word))
        assert c.recv_exactly(3) == word


def test_unsealed_request(front, alice, serve):
    proxy, target = front(), serve(h.echo)
    c = alice(proxy).enter(g.INTEGRITY)
    c.s.sendall(h.socks5_request("127.0.0.1", target.port))
    assert c.is_over()
    assert not target.noted(0)


# ---- time ----


def test_stalling_clients_are_bounded(front, alice):
    proxy = front(more={"timeouts": {"handshake": f"{int(3 * h.SLOW)}s"}})
    stuck = [alice(proxy) for _ in range(3)]
    stuck[1].s.sendall(g.message(g.CONTEXT, bytes(65535))[:30_000])
    assert stuck[2].establish()
    assert all(c.is_over() for c in stuck)
    assert sum(line["end"] == "handshake timeout" for line in h.wait_until(
        "three lines", lambda: len(proxy.log_entries("session")) >= 3 and proxy.log_entries("session"))) == 3


def test_a_keytab_that_blocks_holds_nobody_else_up(front, alice, realm, folder, serve):
    """Its steps are taken off the loop; those who wait for them are bound by the handshake's time as all are."""
    keytab = folder / "blocking.keytab"
    keytab.write_bytes(realm.keytab("rcmd").read_bytes())
    proxy = front(methods=("gssapi", "userpass"), block={"users": h.users("bob")}, keytab=str(keytab),
                  more={"workers": 1, "timeouts": {"handshake": f"{int(5 * h.SLOW)}s"}})
    target = serve(h.echo)
    keytab.unlink()
    os.mkfifo(keytab)
    stuck = [alice(proxy) for _ in range(5)]
    for c in stuck:
        c.send(g.CONTEXT, c.first_token())
    h.wait_until("them to wait", lambda: sum(
        row["state"] == "checking" for row in proxy.get("/v1/connections")["connections"]) == 5 or proxy.log_entries("session"))
    s, good = h.ASK["socks5"](proxy.front, "127.0.0.1", target.port, user="bob")
    assert good
    s.sendall(b"ping")
    assert h.recv_exactly(s, 4) == b"ping"
    assert all(c.is_over() for c in stuck)
    fd = os.open(keytab, os.O_RDWR)                # nobody waits any more
    keytab.unlink()
    keytab.write_bytes(realm.keytab("rcmd").read_bytes())
    os.close(fd)
    assert granted(alice(proxy).enter(g.INTEGRITY), target)
