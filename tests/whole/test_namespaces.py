"""Routers on hosts of their own: namespaces in a row, each joined to the next by a cable and to nobody else, so that what arrives at the
other end has gone through every router. CONNECT, BIND and UDP, two and three routers far, as one policy's chain and as each one's upstream.

    client == router == router == router == target
"""
import contextlib
import ctypes
import os
import pathlib
import subprocess

import pytest

import harness as h
import peers
from test_bind import Bound, check_exchange
from test_udp import Association, Echo, drops

libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000


def command(*words):
    return subprocess.run([str(w) for w in words], capture_output=True, text=True)


class Row:
    """n network namespaces in a row. On the cable between the i-th and the next, 10.9.i.1 and fd09:i::1 are left, .2 and ::2 right."""

    def __init__(self, n, process):
        if command("unshare", "--net", "true").returncode != 0:
            pytest.skip("no network namespace can be made here")
        h.free_port()              # our block of ports is claimed out here, where all see it
        self.home = os.open("/proc/self/ns/net", os.O_RDONLY)
        outside = os.fstat(self.home).st_ino
        self.hosts, before = [], None
        for i in range(n):
            host = process(["unshare", "--net", "sleep", "1000"], f"host{i}")
            h.wait_until("a namespace", lambda pid=host.pid: os.stat(f"/proc/{pid}/ns/net").st_ino != outside)
            self.hosts.append(os.open(f"/proc/{host.pid}/ns/net", os.O_RDONLY))
            self.ip(i, "link", "set", "lo", "up")
            if i > 0:
                self.ip(i, "link", "add", "left", "type", "veth", "peer", "name", "right", "netns", before)
                self.up(i - 1, "right", i - 1, 1)
                self.up(i, "left", i - 1, 2)
            before = host.pid

    def up(self, host, device, cable, side):
        self.ip(host, "address", "add", f"10.9.{cable}.{side}/24", "dev", device)
        self.ip(host, "address", "add", f"fd09:{cable}::{side}/64", "dev", device, "nodad")
        self.ip(host, "link", "set", device, "up")

    def ip(self, host, *words):
        with self.inside(host):
            r = command("ip", *words)
        if r.returncode != 0 and "veth" in words:
            pytest.skip("the kernel has no veth")
        assert r.returncode == 0, (words, r.stderr)

    @contextlib.contextmanager
    def inside(self, host):
        """What this thread opens and starts meanwhile belongs to that host."""
        assert libc.setns(self.hosts[host], CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        try:
            yield
        finally:
            assert libc.setns(self.home, CLONE_NEWNET) == 0

    def close(self):
        for fd in [self.home, *self.hosts]:
            os.close(fd)


class Cable:
    """A client at one end, routers between, a target at the other."""

    def __init__(self, n, kind, row, run):
        self.row, self.n, self.routers = row, n, []
        self.addresses = [f"10.9.{k}.2" for k in range(n)]
        self.target = {4: f"10.9.{n}.2", 6: f"fd09:{n}::2"}
        upstreams = [{"name": f"hop{k}", "url": f"socks5://{self.addresses[k]}:1080"} for k in range(1, n)]
        for k in reversed(range(n)):
            front = {"name": "front", "listen": f"{self.addresses[k]}:1080", "protocols": ["socks4", "socks4a", "socks5"], "allow_open": True}
            policy = {"workers": 1}
            if kind == "each" and k < n - 1:
                policy.update(upstreams=[upstreams[k]], default_route=f"hop{k + 1}")
            elif kind == "chain" and k == 0:
                policy.update(upstreams=upstreams, default_route="all", chains=[{"name": "all", "hops": [u["name"] for u in upstreams]}])
            with row.inside(k + 1):
                self.routers.append(run(h.policy([front], **policy), name=f"router{k}"))
        self.routers.reverse()

    def ask(self, router, what):
        with self.row.inside(router + 1):
            return what(self.routers[router])


@pytest.fixture
def row(process):
    made = []

    def make(n):
        made.append(Row(n, process))
        return made[-1]

    yield make
    for r in made:
        r.close()


@pytest.fixture(params=[(2, "each"), (3, "each"), (2, "chain"), (3, "chain")], ids=lambda p: f"{p[0]}-{p[1]}")
def cable(request, row, run):
    n, kind = request.param
    return Cable(n, kind, row(n + 2), run)


@pytest.mark.parametrize("family", [4, 6])
def test_connect(cable, started, family):
    with cable.row.inside(cable.n + 1):
        target = started(h.Server(h.digest, host=cable.target[family], family=h.socket.AF_INET6 if family == 6 else h.socket.AF_INET))
    body = os.urandom(1_000_000)
    with cable.row.inside(0):
        s = h.connect(1080, cable.addresses[0])
        s.sendall(b"\x05\x01\x00" + h.socks5_request(cable.target[family], target.port) + body)
        s.shutdown(1)
        assert h.recv_exactly(s, 2) == b"\x05\x00" and h.socks5_read_bound(s)[0] == 0
        assert h.recv_all(s).decode() == h.sha256(body)


@pytest.mark.parametrize("version, family", [(4, 4), (5, 4), (5, 6)])
def test_bind(cable, version, family):
    """The address told is that of the last router, on the side of the peer; nobody else has a way there."""
    good = 90 if version == 4 else 0
    early = os.urandom(700)
    with cable.row.inside(0):
        bound = Bound(1080, cable.target[family], version, early, cable.addresses[0])
    assert bound.code == good
    assert bound.at[0] == cable.target[family][:-1] + "1"
    with cable.row.inside(cable.n + 1):
        peer = h.connect(bound.at[1], bound.at[0])
    code, told = bound.reply()
    assert (code, told) == (good, peer.getsockname()[:2])
    check_exchange(bound, peer, early)


@pytest.mark.parametrize("family", [4, 6])
def test_udp(cable, family):
    """Of several sizes, in parts, and many at once."""
    with cable.row.inside(cable.n + 1):
        echo = Echo(cable.target[family])
    with cable.row.inside(0):
        a = Association(1080, cable.addresses[0], "10.9.0.1")
    assert a.at[0] == cable.addresses[0]
    for size in (0, 1, 1200, 1400, 20_000):
        data = os.urandom(size)
        assert a.echo(cable.target[family], echo.port, data) == ((cable.target[family], echo.port), data)
    for frag, part in ((1, b"one "), (2, b"two "), (0x83, b"three")):
        a.send(cable.target[family], echo.port, part, frag=frag)
    assert a.receive() == ((cable.target[family], echo.port), b"one two three")
    sent = [i.to_bytes(2, "big") * 400 for i in range(50)]
    for data in sent:
        a.send(cable.target[family], echo.port, data)
    assert sorted(a.receive()[1] for _ in sent) == sent
    assert {who[0] for _, who in echo.seen} == {cable.target[family][:-1] + "1"}
    for k in range(cable.n):
        assert cable.ask(k, drops) == {}
        assert cable.ask(k, lambda r: r.stats()["udp"]["up"]) >= 56


def test_a_cut_cable_ends_what_went_through_it(row, run):
    """The association of the hop behind goes with its connection; the client's own stays, and finds the way again."""
    cable = Cable(3, "chain", row(5), run)
    with cable.row.inside(cable.n + 1):
        echo = Echo(cable.target[4])
    with cable.row.inside(0):
        a = Association(1080, cable.addresses[0], "10.9.0.1")
    assert a.echo(cable.target[4], echo.port)[1] == b"ping"
    with cable.row.inside(2):
        cable.routers[1].child.kill()
        cable.routers[1].child.wait()
    h.wait_until("the way to be gone", lambda: cable.ask(0, lambda r: r.upstream("hop1")["sessions_open"]) == 0)
    h.wait_until("the hop behind it to be free", lambda: cable.ask(2, lambda r: r.stats()["sessions"]["open"]) == 0)
    with cable.row.inside(2):
        again = run(cable.routers[1].policy, name="again")

    def answered():
        a.send(cable.target[4], echo.port, b"again")
        return a.receive(0.3)

    assert h.wait_until("the new way", answered)[1] == b"again"
    assert again.alive()


@pytest.mark.parametrize("n", [2, 3])
def test_udp_over_lossy_cables(row, run, n):
    """Every cable loses, doubles, delays and reorders, as far as the kernel can; see also LossyLine, which needs none."""
    cable = Cable(n, "chain", row(n + 2), run)
    with cable.row.inside(cable.n + 1):
        echo = Echo(cable.target[4])
    with cable.row.inside(0):
        a = Association(1080, cable.addresses[0], "10.9.0.1")
    assert a.echo(cable.target[4], echo.port)[1] == b"ping"
    for host in range(n + 1):
        with cable.row.inside(host):
            if command("tc", "qdisc", "add", "dev", "right", "root", "netem", "delay", "2ms", "1ms", "loss", "5%", "duplicate", "2%",
                       "reorder", "25%").returncode != 0:
                pytest.skip("no netem here")
    sent = {b"%d," % i * 40 for i in range(200)}
    got = set()
    for data in sent:
        a.send(cable.target[4], echo.port, data)
        while (answer := a.receive(0)) is not None:
            got.add(answer[1])
    while (answer := a.receive(0.5)) is not None:
        got.add(answer[1])
    assert got <= sent and len(got) > 60



FEW_PORTS = "50000 50005"


def test_short_of_ports(row, run, started, folder):
    """Six connections to an upstream are all that there can be: more go to another member, and nobody is blamed."""
    with row(1).inside(0):
        pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").write_text(FEW_PORTS)
        ports = {name: started(h.Server(peers.named_upstream(name), port=h.free_port())).port for name in "ab"}
        s = run(h.policy(
            [{"name": name, "listen": f"unix:{folder}/{name}"} for name in ("both", "one")],
            upstreams=[{"name": name, "url": f"socks5://127.0.0.1:{port}"} for name, port in ports.items()],
            pools=[{"name": "pool", "members": ["a", "b"], "balance": "first", "retry": {"attempts": 1}, "outlier": {"failures": 1}}],
            rules=[{"name": "one", "match": {"listener": ["one"]}, "route": "a"}], default_route="pool"))

        def refused():
            c, code = h.socks5(s.port_of(1), "192.0.2.1", 80)
            c.close()
            return code

        held = [peers.who_answers(s) for _ in range(6)]
        assert [name for name, _ in held] == ["a"] * 6
        for _ in range(3):
            assert peers.who_answers(s)[0] == "b"
            assert refused() == 1
        a = s.upstream("a")
        assert (a["state"], a["failures_total"]) == ("unknown", 0)
        line = s.wait_access_line(listener="one", reply=1)
        assert (line["stage"], line["detail"]) == ("connect", "no local port or address is free for it")
        assert 1 <= s.log().count("no local port or address is free for an upstream") <= s.policy["workers"]
        for _, c in held[:3]:
            c.close()
        h.wait_until("a port to be free again", lambda: refused() == 0)
