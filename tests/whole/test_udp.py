"""UDP ASSOCIATE: datagrams by address and name, their senders, fragments, policy, its end; through upstreams and chains of them."""
import os
import random
import re
import select
import socket
import struct
import subprocess
import threading
import time

import pytest

import harness as h
import peers


def header(host, port, frag=0):
    return b"\x00\x00" + bytes([frag]) + h.socks5_address(host) + struct.pack(">H", port)


def unwrap(datagram):
    """(sender, payload)."""
    assert datagram[:3] == b"\x00\x00\x00", datagram
    family, size = {1: (socket.AF_INET, 4), 4: (socket.AF_INET6, 16)}[datagram[3]]
    host = socket.inet_ntop(family, datagram[4:4 + size])
    return (host, struct.unpack(">H", datagram[4 + size:6 + size])[0]), datagram[6 + size:]


class Association:
    """A client: the TCP connection, and a socket for its datagrams, bound to `source`."""

    def __init__(self, port, host="127.0.0.1", source=None, hint=("0.0.0.0", 0), user=None):
        self.s, self.rep, self.at = None, None, None
        self.s = h.connect(port, host)
        if user is None:
            self.s.sendall(b"\x05\x01\x00")
            assert h.recv_exactly(self.s, 2) == b"\x05\x00"
        else:
            self.s.sendall(b"\x05\x01\x02" + h.userpass(user, "secret"))
            assert h.recv_exactly(self.s, 4) == b"\x05\x02\x01\x00"
        self.s.sendall(h.socks5_request(*hint, 3))
        self.rep, self.at = h.socks5_read_bound(self.s)
        self.udp = udp_socket(source or host)

    def send(self, host, port, payload, frag=0, to=None):
        self.udp.sendto(header(host, port, frag) + payload, to or self.at)

    def receive(self, seconds=None):
        """(sender, payload); None: nothing came in that time."""
        if not select.select([self.udp], [], [], h.DEADLINE * h.SLOW if seconds is None else seconds)[0]:
            assert seconds is not None, "no datagram came"
            return None
        datagram, relay = self.udp.recvfrom(70000)
        assert relay[:2] == self.at
        return unwrap(datagram)

    def echo(self, host, port, payload=b"ping"):
        self.send(host, port, payload)
        return self.receive()

    def close(self):
        self.s.close()
        self.udp.close()


def udp_socket(host="127.0.0.1", port=0):
    s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    s.bind((host, port))
    h.opened.append(s)
    return s


class Echo:
    """Sends datagrams back; it notes each with its sender. answer(data) gives the list of what is sent, from `other` if that is set."""

    def __init__(self, host="127.0.0.1", answer=lambda data: [data], other=None):
        self.socket = udp_socket(host)
        self.host, self.port = self.socket.getsockname()[:2]
        self.answer, self.other, self.seen = answer, other, []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                data, who = self.socket.recvfrom(70000)
            except OSError:
                return
            if not data and self.socket.fileno() < 0:
                return
            self.seen.append((data, who))
            for piece in self.answer(data):
                (self.other or self.socket).sendto(piece, who)


@pytest.fixture
def direct(run):
    return run(h.policy())


def drops(router):
    return {k.removeprefix("dropped_"): v for k, v in router.stats()["udp"].items() if k.startswith("dropped_") and v}


def await_drops(router, **want):
    h.wait_until(f"{want} drops", lambda: drops(router) == want)


def test_there_and_back(direct):
    """By address and by name, of every size that a datagram may have."""
    echo = Echo()
    a = Association(direct.front)
    assert a.rep == 0 and a.at[0] == "127.0.0.1"
    for host in ("127.0.0.1", "localhost"):
        for size in (0, 1, 1200, 9000, 60000):
            data = os.urandom(size)
            assert a.echo(host, echo.port, data) == (("127.0.0.1", echo.port), data)
    stats = h.wait_until("the last to be counted", lambda: (found := direct.stats())["udp"]["down"] >= 10 and found)
    assert (stats["udp"]["up"], stats["udp"]["down"], drops(direct)) == (10, 10, {})
    assert stats["by_command"]["udp"] == 1
    a.close()
    line = direct.access_lines(1)[0]
    assert (line["command"], line["verdict"], line["end"]) == ("udp", "granted", "done")
    assert (line["up"], line["down"], line["datagrams_up"], line["datagrams_down"]) == (140402, 140402, 10, 10)
    direct.wait_idle()


def test_ipv6(run):
    router = run(h.policy([{"name": "front", "listen": f"[::1]:{h.free_port()}"}]))
    six, four = Echo("::1"), Echo()
    a = Association(router.front, "::1")
    assert a.at[0] == "::1"
    assert a.echo("::1", six.port, b"six") == (("::1", six.port), b"six")
    assert a.echo("127.0.0.1", four.port, b"four") == (("127.0.0.1", four.port), b"four")
    assert a.echo("::ffff:127.0.0.1", four.port, b"mapped") == (("127.0.0.1", four.port), b"mapped")


def test_many_at_once(direct):
    """Runs of one length, which go as one message, and others between them; none is lost on loopback, none changed."""
    echoes = [Echo(), Echo()]
    a = Association(direct.front)
    sizes = [100] * 20 + [99] + [1200] * 20 + [0, 5, 0, 70, 70] + [5000] * 2
    sent = [(echoes[i % 7 == 3], i.to_bytes(2, "big") * (size // 2)) for i, size in enumerate(sizes)]
    for echo, data in sent:
        a.send("127.0.0.1", echo.port, data)
    got = sorted(a.receive() for _ in sent)
    assert drops(direct) == {}
    assert got == sorted((("127.0.0.1", echo.port), data) for echo, data in sent)


def test_only_its_client_is_heard(run):
    router = run(h.policy([h.listener()]))
    echo = Echo()
    a = Association(router.front)
    stranger, second = udp_socket("127.0.0.2"), udp_socket("127.0.0.1")
    stranger.sendto(header("127.0.0.1", echo.port) + b"first of all", a.at)
    assert a.echo("127.0.0.1", echo.port, b"mine")[1] == b"mine"
    for s in (stranger, second):
        s.sendto(header("127.0.0.1", echo.port) + b"theirs", a.at)
    await_drops(router, sender=3)
    assert [data for data, _ in echo.seen] == [b"mine"]
    assert a.echo("127.0.0.1", echo.port, b"still mine")[1] == b"still mine"


def test_the_address_in_the_request_is_no_promise(direct):
    """It is a hint, and behind NAT a wrong one; rules on addresses don't look at it either."""
    echo = Echo()
    for hint in (("0.0.0.0", 0), ("192.0.2.1", 5555), ("127.0.0.1", 0), ("0.0.0.0", 1), ("::", 0), ("client.test", 1)):
        assert Association(direct.front, hint=hint).echo("127.0.0.1", echo.port, b"x")[1] == b"x"


def test_who_says_from_where_it_will_send_is_heard_from_there_only(direct):
    """Another program of that host can't get in first."""
    echo, mine, other = Echo(), udp_socket(), udp_socket()
    a = Association(direct.front, hint=mine.getsockname())
    other.sendto(header("127.0.0.1", echo.port) + b"theirs", a.at)
    await_drops(direct, sender=1)
    a.udp = mine
    assert a.echo("127.0.0.1", echo.port, b"mine")[1] == b"mine"
    assert [data for data, _ in echo.seen] == [b"mine"]


def test_the_true_sender(direct):
    other = udp_socket()
    echo = Echo(other=other)
    a = Association(direct.front)
    assert a.echo("127.0.0.1", echo.port) == (("127.0.0.1", other.getsockname()[1]), b"ping")


def test_each_destination_meets_the_rules(run):
    allowed, forbidden = Echo(), Echo("127.0.0.2")
    router = run(h.policy(rules=[{"match": {"command": ["udp"], "ip_cidr": ["127.0.0.2/32"]}, "route": "reject"},
                                 {"match": {"command": ["udp"], "domain_suffix": ["blocked.test"]}, "route": "reject"}],
                          dns={"hosts": {"sly.test": ["127.0.0.2"], "both.test": ["127.0.0.2", "127.0.0.1"], "blocked.test": ["127.0.0.1"]}}))
    a = Association(router.front)
    a.send("127.0.0.2", forbidden.port, b"by address")
    a.send("sly.test", forbidden.port, b"by a name")
    a.send("www.blocked.test", allowed.port, b"by a name that a rule knows")
    assert a.echo("both.test", allowed.port, b"ok") == (("127.0.0.1", allowed.port), b"ok")
    await_drops(router, rejected=3)
    assert forbidden.seen == [] and len(allowed.seen) == 1


def test_answers_from_where_policy_forbids(run):
    """A stranger's datagram is passed on only where it could be a destination; an address reached by a permitted name is welcome."""
    stranger = udp_socket("127.0.0.2")
    echo = Echo(other=stranger)
    named = Echo("127.0.0.3")
    router = run(h.policy(rules=[{"match": {"domain": ["named.test"]}, "route": "direct"},
                                 {"match": {"ip_cidr": ["127.0.0.1/32"]}, "route": "direct"}],
                          dns={"hosts": {"named.test": ["127.0.0.3"]}}, default_route="reject"))
    a = Association(router.front)
    a.send("127.0.0.1", echo.port, b"x")
    await_drops(router, rejected=1)
    assert a.echo("named.test", named.port, b"named") == (("127.0.0.3", named.port), b"named")


def test_no_association_where_all_is_rejected(run):
    router = run(h.policy(rules=[{"match": {"port": [53]}, "route": "reject"}, {"match": {"command": ["udp"]}, "route": "reject"}]))
    assert Association(router.front).rep == 2
    echo = Echo()
    router.reload({**router.policy, "rules": [{"match": {"port": [echo.port]}, "route": "direct"}, {"route": "reject"}]})
    assert Association(router.front).echo("127.0.0.1", echo.port)[1] == b"ping"


def test_a_name_is_looked_up_once(run, programs):
    dnsmasq = programs.dnsmasq("--address=/one.test/127.0.0.1")
    router = run(h.policy(dns={"servers": [dnsmasq.address], "cache": {"max_ttl": "0s"}, "family": "ipv4_only"}))
    a = Association(router.front)
    echoes = [Echo(), Echo()]
    for i in range(6):
        assert a.echo("one.test", echoes[i % 2].port, b"%d" % i)[1] == b"%d" % i
    assert len(dnsmasq.queries("one.test")) == 1
    a.send("none.test", 1, b"x")
    await_drops(router, unresolved=1)


def test_what_is_held_for_a_name_is_bounded(run):
    silent = udp_socket()
    router = run(h.policy(dns={"servers": [f"127.0.0.1:{silent.getsockname()[1]}"], "timeout": "2s", "attempts": 1}))
    a = Association(router.front)
    for _ in range(100):
        a.send("slow.test", 9, b"x" * 1000)
    h.wait_until("all to be dropped", lambda: sum(drops(router).values()) == 100)
    assert drops(router) == {"full": 36, "unresolved": 64}


def test_a_name_that_is_never_found_keeps_no_other_out(run):
    """What has waited longest makes room."""
    silent, echo = udp_socket(), Echo()
    router = run(h.policy(dns={"servers": [f"127.0.0.1:{silent.getsockname()[1]}"], "timeout": "10s", "attempts": 1,
                               "hosts": {"known.test": ["127.0.0.1"]}}, timeouts={"connect": "10s"}))
    a = Association(router.front)
    for _ in range(64):
        a.send("slow.test", 9, b"x")
    assert a.echo("known.test", echo.port)[1] == b"ping"
    assert drops(router) == {"full": 1}


@pytest.mark.parametrize("bad", [b"", b"\x00", b"\x00\x00\x00\x01\x7f", b"\x00\x00\x00\x09\x01", b"\x00\x00\x00\x03\x00\x00\x01",
                                 b"\x00\x00\x00\x01\x7f\x00\x00\x01\x00\x00to port 0", b"\x00\x00\x00\x03\x04a b\x00\x00\x09"])
def test_rubbish_is_dropped(direct, bad):
    echo = Echo()
    a = Association(direct.front)
    a.udp.sendto(bad, a.at)
    await_drops(direct, header=1)
    assert a.echo("127.0.0.1", echo.port)[1] == b"ping"


def test_icmp_errors_and_lengths_end_nothing(direct):
    echo = Echo()
    a = Association(direct.front)
    for _ in range(5):
        a.send("127.0.0.1", h.free_port(), b"nobody is there")
        a.send("255.255.255.255", 9, b"may not be sent")
        a.send("240.0.0.1", 9, b"goes nowhere")
    assert a.echo("127.0.0.1", echo.port)[1] == b"ping"
    nobody, a.udp = a.udp, udp_socket()
    nobody.close()  # from now on answers meet an ICMP error at the client too
    assert a.s.fileno() >= 0 and direct.stats()["sessions"]["open"] == 1


# ---- fragments ----

def test_fragments(direct):
    echo = Echo()
    a = Association(direct.front)
    parts = [os.urandom(1000) for _ in range(40)]
    for i, part in enumerate(parts):
        a.send("localhost", echo.port, part, frag=i + 1 | (0x80 if i == len(parts) - 1 else 0))
    assert a.receive() == (("127.0.0.1", echo.port), b"".join(parts))
    a.send("localhost", echo.port, b"alone", frag=0x81)
    assert a.receive()[1] == b"alone"
    assert drops(direct) == {}


@pytest.mark.parametrize("frags", [[1, 3, 0x84], [2, 3, 0x84], [1, 2, 1, 0x83], [1, 2, 0, 0x83], [1, 0x80], [0x82]])
def test_fragments_out_of_order(direct, frags):
    echo = Echo()
    a = Association(direct.front)
    for frag in frags:
        a.send("127.0.0.1", echo.port, b"part", frag=frag)
    assert a.echo("127.0.0.1", echo.port, b"last")[1] == (b"part" if 0 in frags else b"last")
    h.wait_until("the parts to be dropped", lambda: drops(direct).get("fragment") == len([f for f in frags if f]))
    assert {data for data, _ in echo.seen} <= {b"part", b"last"}


def test_fragments_of_too_much(direct):
    echo = Echo()
    a = Association(direct.front)
    for i in range(1, 6):
        a.send("127.0.0.1", echo.port, bytes(20000), frag=i | (0x80 if i == 5 else 0))
    await_drops(direct, fragment=5)
    assert a.echo("127.0.0.1", echo.port)[1] == b"ping"


def test_fragments_run_out_of_time(direct):
    """Memory of a sequence that nobody goes on with is given back by itself."""
    a = Association(direct.front)
    a.send("127.0.0.1", 9, b"first", frag=1)
    h.wait_until("the part to be given up", lambda: drops(direct) == {"fragment": 1}, 25)


def test_fragments_of_one_that_ends(direct):
    """What it leaves behind is counted as lost."""
    a = Association(direct.front)
    for _ in range(2):
        a.send("127.0.0.1", 9, b"first", frag=1)
    await_drops(direct, fragment=1)  # the copy: the first has been taken
    a.close()
    await_drops(direct, fragment=2)


def test_fragments_beside_all_that_waits(run):
    """Datagrams that a stranger has wait for a name, as many as there is memory for, keep no parts out."""
    silent, echo = udp_socket(), Echo()
    router = run(h.policy(workers=1, timeouts={"connect": "10m"},
                          dns={"servers": [f"127.0.0.1:{silent.getsockname()[1]}"], "timeout": "10m", "attempts": 1}))
    for _ in range(5):
        stranger = Association(router.front)
        for _ in range(60):
            stranger.send("slow.test", 9, bytes(61000))
            assert stranger.echo("127.0.0.1", echo.port, b"next")[1] == b"next"  # else the socket would be full
    h.wait_until("the memory to be used up", lambda: drops(router).get("full"))
    clients = [Association(router.front) for _ in range(2)]
    for frag in (1, 0x82):
        for a in clients:
            a.send("127.0.0.1", echo.port, b"part", frag=frag)
    for a in clients:
        assert a.receive()[1] == b"partpart"
    assert set(drops(router)) == {"full"}


# ---- the end ----

def test_it_ends_with_its_connection(direct):
    echo = Echo()
    a = Association(direct.front)
    a.echo("127.0.0.1", echo.port)
    a.s.close()
    direct.wait_idle()
    a.udp.connect(a.at)

    def refused():
        try:
            a.udp.send(header("127.0.0.1", echo.port))
            return False
        except ConnectionRefusedError:
            return True

    h.wait_until("its port to be shut", refused)


def test_idle(run):
    router = run(h.policy(timeouts={"udp_idle": f"{int(1500 * h.SLOW)}ms"}))
    echo = Echo()
    a = Association(router.front)
    before = time.monotonic()
    while time.monotonic() - before < 3.5 * h.SLOW:
        assert a.echo("127.0.0.1", echo.port)[1] == b"ping"
        assert a.receive(0.05) is None
    assert h.recv_all(a.s) == b""
    assert router.access_lines(1)[0]["end"] == "idle"


def test_idle_never(run):
    router = run(h.policy(timeouts={"udp_idle": "0s", "idle": "200ms", "handshake": f"{int(2 * h.SLOW)}s"}))
    echo = Echo()
    a = Association(router.front)
    assert a.receive(2.5 * h.SLOW) is None
    assert a.echo("127.0.0.1", echo.port)[1] == b"ping"


def test_ports_and_address_of_the_policy(run):
    first = h.free_port(2)
    sockets = {"ports": f"{first}-{first + 1}", "advertise": "203.0.113.7"}
    router = run(h.policy([h.listener(udp=sockets)]))
    held = [Association(router.front) for _ in range(2)]
    assert {a.at for a in held} == {("203.0.113.7", first), ("203.0.113.7", first + 1)}
    assert Association(router.front).rep == 1
    echo = Echo()
    held[0].at = ("127.0.0.1", held[0].at[1])
    assert held[0].echo("127.0.0.1", echo.port)[1] == b"ping"


def test_the_size_that_policy_allows(run):
    """In both directions, and of what was put together."""
    router = run(h.policy([h.listener(udp={"max_datagram": "1000B"})]))
    echo, grows = Echo(), Echo(answer=lambda data: [data * 2, data])
    a = Association(router.front)
    assert a.echo("127.0.0.1", echo.port, bytes(1000))[1] == bytes(1000)
    a.send("127.0.0.1", echo.port, bytes(1001))
    for frag in (1, 0x82):
        a.send("127.0.0.1", echo.port, bytes(501), frag=frag)
    await_drops(router, size=2)
    assert a.echo("127.0.0.1", grows.port, bytes(501))[1] == bytes(501)
    await_drops(router, size=3)
    assert [len(data) for data, _ in echo.seen] == [1000]


def test_the_longest_that_there_are(run):
    """65507 bytes come from a destination over IPv4, but the header must go before them."""
    router = run(h.policy())
    echo = Echo(answer=lambda data: [bytes(int(data))])
    a = Association(router.front)
    assert a.echo("127.0.0.1", echo.port, b"65497")[1] == bytes(65497)
    for size in (b"65498", b"65507"):
        a.send("127.0.0.1", echo.port, size)
    await_drops(router, size=2)
    a.close()
    line = router.access_lines(1)[0]
    assert (line["down"], line["datagrams_down"], line["dropped"]) == (65497, 1, 2)


def test_a_unix_socket(run, folder):
    path = folder / "door"
    router = run(h.policy([{"name": "door", "listen": f"unix:{path}"}]))
    echo = Echo()
    s = socket.socket(socket.AF_UNIX)
    h.opened.append(s)
    s.settimeout(h.DEADLINE * h.SLOW)
    s.connect(str(path))
    s.sendall(b"\x05\x01\x00" + h.socks5_request("0.0.0.0", 0, 3))
    assert h.recv_exactly(s, 2) == b"\x05\x00"
    rep, at = h.socks5_read_bound(s)
    assert rep == 0 and at[0] == "127.0.0.1"
    client = udp_socket()
    client.settimeout(h.DEADLINE * h.SLOW)
    client.sendto(header("127.0.0.1", echo.port) + b"ping", at)
    assert unwrap(client.recv(100))[1] == b"ping"
    assert router.alive()


def test_many_destinations(direct):
    """More than are remembered; it answers all the time."""
    echo = Echo()
    a = Association(direct.front)
    for i in range(700):
        host = f"127.1.{i // 200}.{i % 200 + 1}"
        a.send(host, echo.port, b"nobody")
        if i % 50 == 49:  # what is before it has been read then: the kernel holds only so much
            assert a.echo("127.0.0.1", echo.port)[1] == b"ping"


# ---- through upstreams ----

def chain_of(run, n, workers=1, **policy):
    """n routers, and one whose only route is the chain of them."""
    routers = [run(h.policy(workers=workers, **policy), name=f"hop{i}") for i in range(n)]
    upstreams = [{"name": f"hop{i}", "url": f"socks5://127.0.0.1:{r.front}"} for i, r in enumerate(routers)]
    first = run(h.policy(upstreams=upstreams, chains=[{"name": "all", "hops": [u["name"] for u in upstreams]}], default_route="all"))
    return first, routers


@pytest.mark.parametrize("n", [1, 2, 3])
def test_through_a_chain(run, n):
    """Names are looked up by the last of them."""
    first, hops = chain_of(run, n)
    echo = Echo()
    a = Association(first.front)
    for host in ("127.0.0.1", "localhost"):
        for size in (0, 1, 1200, 9000):
            data = os.urandom(size)
            assert a.echo(host, echo.port, data) == (("127.0.0.1", echo.port), data)
    assert first.stats()["dns"]["queries"] == 0 and drops(first) == {}
    assert hops[-1].stats()["udp"]["up"] == 8
    seen = first.upstream("hop0")
    assert (seen["sessions_open"], seen["sessions_total"]) == (1, 1)
    assert [r.stats()["by_command"]["udp"] for r in hops] == [1] * n  # an association with each
    assert [r.stats()["by_command"]["connect"] for r in hops] == [n - 1 - i for i in range(n)]
    a.close()
    for r in [first, *hops]:
        r.wait_idle()
    assert h.wait_until("the board to know of the bytes", lambda: first.upstream("hop0")["bytes"]["up"] == 20402)


def test_fragments_through_a_chain(run):
    """They are put together at the first router; what is behind it need not know of them."""
    first, _ = chain_of(run, 2)
    echo = Echo()
    a = Association(first.front)
    a.send("localhost", echo.port, b"one ", frag=1)
    a.send("localhost", echo.port, b"two", frag=0x82)
    assert a.receive() == (("127.0.0.1", echo.port), b"one two")


def test_many_at_once_through_a_chain(run):
    first, _ = chain_of(run, 3)
    echo = Echo()
    a = Association(first.front)
    a.echo("127.0.0.1", echo.port)
    sent = [i.to_bytes(2, "big") * 100 for i in range(60)]
    for data in sent:
        a.send("127.0.0.1", echo.port, data)
    assert sorted(a.receive()[1] for _ in sent) == sent


def test_what_others_see_of_it(run):
    """The upstreams that its datagrams go through are on its path, and who ends what goes through one ends it."""
    up, idle = run(h.policy(), name="up"), run(h.policy(), name="idle")
    upstreams = [{"name": name, "url": f"socks5://127.0.0.1:{r.front}"} for name, r in (("up", up), ("idle", idle))]
    router = run(h.policy(upstreams=upstreams, chains=[{"name": "twice", "hops": ["up", "up"]}], default_route="twice",
                          rules=[{"match": {"ip_cidr": ["127.0.0.2/32"]}, "route": "direct"}, {"match": {"port": [9]}, "route": "idle"}]))
    near, far = Echo("127.0.0.2"), Echo()
    a = Association(router.front)

    def path():
        seen = router.get("/v1/connections")["connections"]
        assert [(c["command"], c["state"], c["timing_ms"]["hops"]) for c in seen] == [("udp", "associated", [])]
        return seen[0]["path"]

    assert path() == []
    assert a.echo("127.0.0.2", near.port)[1] == b"ping" and path() == ["direct"]
    assert a.echo("127.0.0.1", far.port)[1] == b"ping" and path() == ["direct", "up"]
    assert router.get("/v1/connections?upstream=idle")["total"] == 0
    assert router.get("/v1/connections?upstream=up")["total"] == 1
    assert router.call("DELETE", "/v1/connections?upstream=up").status == 204
    assert h.recv_all(a.s) == b""
    line = router.access_lines(1)[0]
    assert (line["end"], line["path"]) == ("deleted", "direct,up")
    router.wait_idle()


def test_each_destination_takes_its_own_route(run):
    """Direct, through an upstream, and rejected, in one association."""
    up = run(h.policy(), name="up")
    near, far = Echo(), Echo("127.0.0.2")
    router = run(h.policy(upstreams=[{"name": "up", "url": f"socks5://127.0.0.1:{up.front}"}],
                          rules=[{"match": {"ip_cidr": ["127.0.0.2/32"]}, "route": "up"}, {"match": {"port": [9]}, "route": "reject"}]))
    a = Association(router.front)
    for _ in range(3):
        assert a.echo("127.0.0.1", near.port)[0] == ("127.0.0.1", near.port)
        assert a.echo("127.0.0.2", far.port)[0] == ("127.0.0.2", far.port)
        a.send("127.0.0.1", 9, b"x")
    await_drops(router, rejected=3)
    assert up.stats()["udp"]["up"] == 3


def test_members_that_cant_are_passed_over(run, serve):
    up = run(h.policy(), name="up")
    other = serve(h.echo)
    upstreams = [{"name": name, "url": f"{name}://127.0.0.1:{other.port}"} for name in ("http", "https", "socks4", "socks4a", "socks5+tls")]
    upstreams.append({"name": "up", "url": f"socks5://127.0.0.1:{up.front}"})
    pool = {"name": "pool", "members": [u["name"] for u in upstreams], "balance": "first"}
    router = run(h.policy(upstreams=upstreams, pools=[pool], default_route="pool",
                          rules=[{"match": {"ip_cidr": ["127.0.0.2/32"]}, "route": "http"}]))
    echo = Echo()
    a = Association(router.front)
    assert a.echo("127.0.0.1", echo.port)[1] == b"ping"
    a.send("127.0.0.2", echo.port, b"by one that can't")
    await_drops(router, no_way=1)
    assert other.accepted == 0


def test_members_on_the_way_that_turn_out_not_to_are_passed_over(run, serve):
    """A hop that gives a tunnel to the next one must give an association besides."""
    near, far = run(h.policy(), name="near"), run(h.policy(), name="far")

    def tunnels_only(conn, server):
        h.recv_exactly(conn, 3)
        conn.sendall(b"\x05\x00")
        request = h.recv_exactly(conn, 10)
        server.note(request[1])
        if request[1] == 3:
            conn.sendall(b"\x05\x07\x00\x01" + bytes(6))
            return
        with socket.create_connection(("127.0.0.1", far.front)) as onward:
            conn.sendall(b"\x05\x00\x00\x01" + bytes(6))
            back = threading.Thread(target=lambda: [conn.sendall(data) for data in iter(lambda: onward.recv(4096), b"")])
            back.start()
            while data := conn.recv(4096):
                onward.sendall(data)
            onward.shutdown(socket.SHUT_RDWR)
            back.join()

    unable = [serve(tunnels_only) for _ in range(2)]
    upstreams = [{"name": f"unable{i}", "url": f"socks5://127.0.0.1:{s.port}"} for i, s in enumerate(unable)]
    upstreams += [{"name": r.name, "url": f"socks5://127.0.0.1:{r.front}"} for r in (near, far)]
    router = run(h.policy(upstreams=upstreams, pools=[{"name": "pool", "members": ["unable0", "unable1", "near"], "balance": "first"}],
                          chains=[{"name": "chain", "hops": ["pool", "far"]}], default_route="chain"))
    a = Association(router.front)
    assert a.echo("127.0.0.1", Echo().port)[1] == b"ping"
    assert router.get("/v1/connections")["connections"][0]["path"] == ["near", "far"]
    assert [sorted(s.notes) for s in unable] == [[1, 3], [1, 3]]
    assert drops(router) == {}


def test_no_association_where_no_route_carries_datagrams(run):
    """By the kinds of upstreams; a rejected destination more makes no difference."""
    port = h.free_port()
    upstreams = [{"name": name, "url": f"{name}://127.0.0.1:{port}"} for name in ("http", "socks4", "socks5", "socks5+tls")]
    routes = {"http": False, "socks4": False, "socks5+tls": False, "socks5": True, "none": False, "one": True, "by-http": False}
    policy = h.policy(upstreams=upstreams, pools=[{"name": "none", "members": ["http", "socks4"]}, {"name": "one", "members": ["http", "socks5"]}],
                      chains=[{"name": "by-http", "hops": ["http", "socks5"]}], rules=[{"match": {"port": [53]}, "route": "reject"}])
    router = run(policy)
    for route, can in routes.items():
        router.reload({**policy, "default_route": route})
        assert Association(router.front).rep == (0 if can else 7), route
    router.reload({**policy, "rules": [{"match": {"port": [53]}, "route": "direct"}], "default_route": "http"})
    assert Association(router.front).rep == 0


@pytest.mark.parametrize("answer", [b"\x05\x07\x00\x01" + bytes(6), b"\x05\x02\x00\x01" + bytes(6), b""], ids=["says so", "forbids it", "hangs up"])
def test_members_that_turn_out_not_to_are_passed_over(run, serve, answer):
    """The first datagram goes through already; they are not at fault, and no retry."""
    up = run(h.policy(), name="up")
    unable = [serve(peers.says(3, b"\x05\x00", 10, answer)) for _ in range(3)]
    upstreams = [{"name": f"unable{i}", "url": f"socks5://127.0.0.1:{s.port}"} for i, s in enumerate(unable)]
    upstreams.append({"name": "able", "url": f"socks5://127.0.0.1:{up.front}"})
    pool = {"name": "pool", "members": [u["name"] for u in upstreams], "balance": "first", "retry": {"attempts": 0}}
    router = run(h.policy(upstreams=upstreams, pools=[pool], default_route="pool"))
    echo = Echo()
    a = Association(router.front)
    for _ in range(3):
        assert a.echo("127.0.0.1", echo.port)[1] == b"ping"
    assert [s.accepted for s in unable] == [1, 1, 1]
    assert all(router.upstream(u["name"])["failures_total"] == 0 for u in upstreams)


def test_why_there_is_no_way_is_told(run, serve):
    """To who wants to know: the level is debug."""
    bad = serve(peers.says(3, b"\x05\x00", 10, b"\x05\x01\x00\x01" + bytes(6)))
    router = run(h.policy(upstreams=[{"name": "bad", "url": f"socks5://127.0.0.1:{bad.port}"}], default_route="bad"))
    a = Association(router.front)
    a.send("192.0.2.1", 9, b"lost")
    await_drops(router, no_way=1)
    line = h.wait_until("a line", lambda: router.log_entries("no way for datagrams"))[0]
    assert (line["level"], line["client"], line["route"], line["verdict"]) == ("debug", "127.0.0.1", "bad", "upstream failed")
    assert "upstream bad" in line["detail"]


def test_an_upstream_that_comes_back(run):
    """The association outlives its way: datagrams are dropped while there is none, and a new one is made."""
    port = h.free_port()
    policy = h.policy([{"name": "front", "listen": f"127.0.0.1:{port}"}], timeouts={"drain": "100ms"})
    up = run(policy, name="up")
    router = run(h.policy(upstreams=[{"name": "up", "url": f"socks5://127.0.0.1:{port}"}], default_route="up"))
    echo = Echo()
    a = Association(router.front)
    assert a.echo("localhost", echo.port)[1] == b"ping"
    up.signal(15)
    up.wait()
    h.wait_until("the way to be gone", lambda: router.upstream("up")["sessions_open"] == 0)
    a.send("localhost", echo.port, b"lost")
    h.wait_until("a drop", lambda: drops(router).get("no_way", 0) >= 1)
    run({**policy, "admin": {"listen": f"127.0.0.1:{h.free_port()}"}}, name="again")

    def answered():
        a.send("localhost", echo.port, b"again")
        return a.receive(0.3)

    assert h.wait_until("the new way", answered)[1] == b"again"


@pytest.mark.parametrize("bound", [b"\x01" + bytes(4), b"\x04" + bytes(16), b"\x03\x0drelay.invalid"], ids=["zeros", "IPv6 zeros", "a name"])
def test_a_relay_without_an_address_is_the_upstream_itself(run, serve, bound):
    relay = udp_socket()
    relay.settimeout(h.DEADLINE * h.SLOW)

    def upstream(conn, _server):
        h.recv_exactly(conn, 3)
        conn.sendall(b"\x05\x00")
        h.recv_exactly(conn, 10)
        conn.sendall(b"\x05\x00\x00" + bound + struct.pack(">H", relay.getsockname()[1]))
        h.recv_all(conn)

    router = run(h.policy(upstreams=[{"name": "up", "url": f"socks5://127.0.0.1:{serve(upstream).port}"}], default_route="up"))
    a = Association(router.front)
    a.send("192.0.2.9", 53, b"question")
    got, way = relay.recvfrom(1000)
    assert got == header("192.0.2.9", 53) + b"question"
    relay.sendto(header("192.0.2.9", 53) + b"answer", way)
    assert a.receive() == (("192.0.2.9", 53), b"answer")


class ScriptedChain:
    """A router whose only route is a chain of two upstreams, both played here: `relay` is the socket that datagrams come to and
    answers leave from. After the question of the association `a`, `way` is where the router hears answers."""

    def __init__(self, run, serve):
        self.relay = udp_socket()
        self.relay.settimeout(h.DEADLINE * h.SLOW)
        port = self.relay.getsockname()[1]
        self.holding = []  # the connections that hold its associations

        def upstream(conn, _server):
            h.recv_exactly(conn, 3)
            conn.sendall(b"\x05\x00")
            request = h.recv_exactly(conn, 10)
            if request[1] == 1:  # to the second hop: this plays it too
                conn.sendall(b"\x05\x00\x00\x01" + bytes(6))
                upstream(conn, _server)
                return
            self.holding.append(conn)
            conn.sendall(b"\x05\x00\x00\x01\x00\x00\x00\x00" + struct.pack(">H", port))
            h.recv_all(conn)

        upstreams = [{"name": f"hop{i}", "url": f"socks5://127.0.0.1:{serve(upstream).port}"} for i in range(2)]
        self.router = run(h.policy(upstreams=upstreams, chains=[{"name": "all", "hops": ["hop0", "hop1"]}], default_route="all"))
        self.a = Association(self.router.front)
        self.a.send("192.0.2.9", 53, b"question")
        got, self.way = self.relay.recvfrom(1000)
        self.second, self.target = header("127.0.0.1", port), header("192.0.2.9", 53)
        assert got == self.second + self.target + b"question"

    def answer(self, datagram):
        self.relay.sendto(datagram, self.way)

    def hang_up(self):
        self.holding[0].shutdown(socket.SHUT_RDWR)


def test_relays_that_others_speak_for(run, serve):
    """Of a chain's answers only those count that come from the relay of the hop behind."""
    chain, impostor = ScriptedChain(run, serve), udp_socket()
    port = chain.relay.getsockname()[1]
    for bad in (header("127.0.0.1", 1) + chain.target, header("127.0.0.2", port) + chain.target, chain.target, b""):
        chain.answer(bad + b"forged")
    impostor.sendto(chain.second + chain.target + b"forged", chain.way)  # from another than the relay: the kernel keeps it away
    chain.answer(chain.second + chain.target + b"answer")
    assert chain.a.receive() == (("192.0.2.9", 53), b"answer")
    await_drops(chain.router, header=4)


def test_answers_in_parts(run, serve):
    """Put together at each hop that cuts: by the last one, by the first one, and by both."""
    chain = ScriptedChain(run, serve)
    far = [header("192.0.2.9", 53, frag) + piece for frag, piece in ((1, b"one "), (2, b"two "), (0x83, b"three"))]
    for part in far:
        chain.answer(chain.second + part)
    assert chain.a.receive() == (("192.0.2.9", 53), b"one two three")
    port, inner = chain.relay.getsockname()[1], chain.target + os.urandom(2990)
    for frag, at in ((1, 0), (2, 1000), (0x83, 2000)):
        chain.answer(header("127.0.0.1", port, frag) + inner[at:at + 1000])
    assert chain.a.receive() == (("192.0.2.9", 53), inner[10:])
    for part in far:
        chain.answer(header("127.0.0.1", port, 1) + part[:7])
        chain.answer(header("127.0.0.1", port, 0x82) + part[7:])
    assert chain.a.receive() == (("192.0.2.9", 53), b"one two three")
    assert drops(chain.router) == {}


def test_answers_in_parts_that_make_no_sense(run, serve):
    """Out of order, cut off by a whole one, of too much, for another relay; what comes whole is never held up, and memory comes back."""
    chain = ScriptedChain(run, serve)

    def part(frag, piece=b"part", target=("192.0.2.9", 53)):
        chain.answer(chain.second + header(*target, frag) + piece)

    part(2)
    part(1), part(3)
    part(1), part(0x82, target=("192.0.2.8", 53))
    part(1)
    chain.answer(chain.second + chain.target + b"whole")
    assert chain.a.receive() == (("192.0.2.9", 53), b"whole")
    await_drops(chain.router, fragment=6)
    for i in range(1, 5):
        part(i, bytes(20000))
    await_drops(chain.router, fragment=10)
    for frag in (1, 0x82):
        chain.answer(header("127.0.0.2", 9, frag) + chain.target + b"forged")
    await_drops(chain.router, fragment=10, header=1)
    part(1)
    h.wait_until("the part to be given up", lambda: drops(chain.router) == {"fragment": 11, "header": 1}, 25)
    part(0x81, b"alone")
    assert chain.a.receive() == (("192.0.2.9", 53), b"alone")


@pytest.mark.parametrize("who", ["client", "upstream"])
def test_answers_in_parts_of_one_that_ends(run, serve, who):
    """What it leaves behind is counted as lost."""
    chain = ScriptedChain(run, serve)
    for _ in range(2):
        chain.answer(chain.second + header("192.0.2.9", 53, 1) + b"part")
    await_drops(chain.router, fragment=1)  # the copy: the first has been taken
    if who == "client":
        chain.a.close()
    else:
        chain.hang_up()
    h.wait_until("the part to be counted", lambda: drops(chain.router) == {"fragment": 2}, 25)


def test_through_danted(run, programs):
    router = run(h.policy(upstreams=[{"name": "up", "url": f"socks5://127.0.0.1:{programs.danted()}"}], default_route="up"))
    echo = Echo()
    a = Association(router.front)
    assert a.echo("127.0.0.1", echo.port, b"through dante") == (("127.0.0.1", echo.port), b"through dante")


def test_socksify(run, folder, process):
    """dante's client, around a program that knows nothing of proxies."""
    router = run(h.policy())
    echo = Echo()
    conf = folder / "socks.conf"
    conf.write_text(f"route {{\n from: 0.0.0.0/0 to: 0.0.0.0/0 via: 127.0.0.1 port = {router.front}\n proxyprotocol: socks_v5\n"
                    " command: connect udpassociate\n protocol: tcp udp\n method: none\n}\n")
    program = ("import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(15);"
               f"s.sendto(b'hello', ('127.0.0.1', {echo.port})); print(s.recvfrom(100))")
    out = folder / "out"
    with open(out, "wb") as f:
        p = process([h.need("socksify"), "/usr/bin/python3", "-c", program], "socksify", stdout=f,
                    env={"SOCKS_CONF": str(conf), "SOCKS_AUTOADD_LANROUTES": "no"})
        assert p.wait() == 0, p.log()
    assert out.read_text() == f"(b'hello', ('127.0.0.1', {echo.port}))\n"
    h.wait_until("both to be counted", lambda: (router.stats()["udp"]["up"], router.stats()["udp"]["down"]) == (1, 1))


# ---- a line that loses and reorders ----

class LossyLine:
    """Forwards datagrams between whoever sends to `at` and the one behind it; some are lost, some come twice, some late."""

    def __init__(self, at, behind, seed):
        self.front, self.back = udp_socket(*at), udp_socket()
        self.behind, self.random, self.who = behind, random.Random(seed), None
        for s, pass_on in ((self.front, self._up), (self.back, self._down)):
            threading.Thread(target=self._serve, args=(s, pass_on), daemon=True).start()

    def _up(self, data, who):
        self.who = who
        self.back.sendto(data, self.behind)

    def _down(self, data, _who):
        self.front.sendto(data, self.who)

    def _serve(self, s, pass_on):
        late = None
        while True:
            try:
                data, who = s.recvfrom(70000)
                chance = self.random.random()
                if chance < 0.05:
                    continue
                if chance < 0.15 and late is None:
                    late = data
                    continue
                for _ in range(2 if chance > 0.95 else 1):
                    pass_on(data, who)
                if late is not None:
                    pass_on(late, who)
                    late = None
            except OSError:
                return


def check_lossy(first, echo, n):
    """What is answered is right, whatever was lost; most is answered, and some of what went in parts."""
    a = Association(first.front)
    h.wait_until("the way to stand", lambda: a.send("127.0.0.1", echo.port, b"ping") or a.receive(0.2))
    got = set()

    def collect(seconds):
        while (answer := a.receive(seconds)) is not None:
            assert answer[0] == ("127.0.0.1", echo.port)
            got.add(answer[1])

    alone, whole = {b"%d," % i * 50 for i in range(n)}, {b"%d;" % i * 90 for i in range(n)}
    for i in range(n):
        a.send("127.0.0.1", echo.port, b"%d," % i * 50)
        for frag in (1, 2, 0x83):
            a.send("127.0.0.1", echo.port, b"%d;" % i * 30, frag=frag)
        collect(0.02)
    collect(0.5 * h.SLOW)
    # Fragments have no number of their message, so that those of several may make one (RFC 1928, section 7).
    assert all(data in alone or data == b"ping" or re.fullmatch(rb"((\d+;)\2{29}){3}", data) for data, _ in echo.seen)
    assert len(got & alone) > n // 3 and len(got & whole) > n // 20
    assert first.stats()["sessions"]["open"] == 1


def test_lossy_lines_between_routers(run):
    """Three in a row, each behind a line of its own."""
    hops = []
    for i in range(3):
        port = h.free_port()
        udp = {"ports": f"{port}-{port}", "address": "127.0.0.1", "advertise": f"127.0.0.{9 + i}"}
        hops.append(run(h.policy([h.listener(udp=udp)], workers=1), name=f"hop{i}"))
        LossyLine((f"127.0.0.{9 + i}", port), ("127.0.0.1", port), seed=i)
    upstreams = [{"name": f"hop{i}", "url": f"socks5://127.0.0.1:{r.front}"} for i, r in enumerate(hops)]
    check_lossy(run(h.policy(upstreams=upstreams, chains=[{"name": "all", "hops": [u["name"] for u in upstreams]}], default_route="all")),
                Echo(), 80)


def in_namespace(setup, test):
    """Runs a test of this file in a network namespace of its own; skipped where that, or its set-up, can't be had."""
    inner = ["unshare", "-n", "sh", "-c", f"ip link set lo up && {setup} && exec \"$@\"", "-"]
    if subprocess.run([*inner, "true"], capture_output=True).returncode != 0:
        pytest.skip(f"no {setup.split()[0]} here")
    r = subprocess.run([*inner, "/usr/bin/python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", f"{__file__}::{test}"],
                       capture_output=True, timeout=180 * h.SLOW)
    assert r.returncode == 0, r.stdout[-4000:]


def test_netem():
    """The three lossy lines again, on one that the kernel makes lossy besides; only where it can."""
    in_namespace("tc qdisc add dev lo root netem delay 2ms loss 1% duplicate 1% reorder 2%", "test_lossy_lines_between_routers")


def test_datagrams_longer_than_a_packet():
    """The kernel refuses to cut a run into pieces longer than the way's packets: they go one by one, and none is lost."""
    in_namespace("ip link set lo mtu 1000", "test_many_at_once")
