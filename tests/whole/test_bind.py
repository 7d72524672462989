"""BIND: a peer connects back, here or at an upstream, in SOCKS4, 4a and 5; and active-mode FTP over it."""
import ftplib
import io
import os
import socket
import struct
import threading

import pytest

import harness as h
import peers

ANYBODY = "0.0.0.0"


class Bound:
    """A client's BIND, past its first reply: `at` is where the peer is to connect to."""

    def __init__(self, port, host, version=5, early=b"", host_of_router="127.0.0.1", to_port=0):
        self.version = version
        self.s = h.connect(port, host_of_router)
        if version == 5:
            self.s.sendall(b"\x05\x01\x00")
            assert h.recv_exactly(self.s, 2) == b"\x05\x00"
            self.s.sendall(h.socks5_request(host, to_port, 2) + early)
        else:
            self.s.sendall(h.socks4_request(host, to_port, 2) + early)
        self.code, self.at = self.reply()

    def reply(self):
        if self.version == 4:
            _, code, port, address = struct.unpack(">BBH4s", h.recv_exactly(self.s, 8))
            return code, (socket.inet_ntoa(address), port)
        code, address = h.socks5_read_bound(self.s)
        return code, address


def connect_from(source, at):
    family = socket.AF_INET6 if ":" in at[0] else socket.AF_INET
    s = socket.socket(family, socket.SOCK_STREAM)
    s.settimeout(h.DEADLINE * h.SLOW)
    s.bind((source, 0))
    s.connect(at)
    return s


@pytest.fixture
def direct(run):
    return run(h.policy())


def check_exchange(bound, peer, early=b""):
    """Bytes both ways, with what was sent early first, and a half-close."""
    up, down = os.urandom(700_000), os.urandom(300_000)

    def send():
        peer.sendall(down)
        peer.shutdown(socket.SHUT_WR)

    t = threading.Thread(target=send)
    t.start()
    assert h.exchange(bound.s, up) == down
    t.join()
    assert h.recv_all(peer) == early + up


@pytest.mark.parametrize("version, good", [(4, 90), (5, 0)])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", ANYBODY])
def test_the_peer_connects(direct, version, good, host):
    early = os.urandom(500)
    bound = Bound(direct.front, host, version, early)
    assert bound.code == good and bound.at[0] == "127.0.0.1"
    peer = connect_from("127.0.0.1", bound.at)
    assert bound.reply() == (good, peer.getsockname())
    check_exchange(bound, peer, early)
    line = direct.access_lines(1)[0]
    assert (line["command"], line["verdict"], line["end"]) == ("bind", "granted", "done")
    assert (line["up"], line["down"]) == (700_500, 300_000)
    direct.wait_idle()


def test_ipv6(run):
    front = {"name": "front", "listen": f"[::1]:{h.free_port()}"}
    router = run(h.policy([front]))
    bound = Bound(router.front, "::1", host_of_router="::1")
    assert bound.at[0] == "::1"
    peer = connect_from("::1", bound.at)
    assert bound.reply() == (0, peer.getsockname()[:2])
    check_exchange(bound, peer)
    old = Bound(router.front, ANYBODY, 4, host_of_router="::1")
    assert old.code == 90 and old.at[0] == ANYBODY and old.at[1] > 0  # its address can't be said: the one connected to


def test_a_peer_of_both_families(run):
    """SOCKS4 is told of IPv4, as it can't be of the other; SOCKS5 of the one that a CONNECT to that name would go to first."""
    router = run(h.policy(dns={"hosts": {"both.test": ["::1", "127.0.0.1"]}}))
    for version, host in ((4, "127.0.0.1"), (5, "::1")):
        bound = Bound(router.front, "both.test", version)
        assert bound.at[0] == host
        peer = connect_from(host, bound.at)
        assert bound.reply()[1] == peer.getsockname()[:2]


def test_a_wrong_peer_ends_socks4_and_not_socks5(direct):
    bound = Bound(direct.front, "127.0.0.2", 4)
    stranger = connect_from("127.0.0.3", bound.at)
    assert bound.reply()[0] == 91
    assert h.recv_all(bound.s) == b"" and h.recv_all(stranger) == b""

    bound = Bound(direct.front, "127.0.0.2", 5)
    for _ in range(3):
        assert h.recv_all(connect_from("127.0.0.3", bound.at)) == b""
    peer = connect_from("127.0.0.2", bound.at)
    assert bound.reply() == (0, peer.getsockname())
    check_exchange(bound, peer)
    assert direct.stats()["bind"]["strangers"] == 4
    direct.wait_idle()


def test_the_port_is_shut_once_the_peer_has_come(direct):
    bound = Bound(direct.front, ANYBODY)
    connect_from("127.0.0.1", bound.at)
    assert bound.reply()[0] == 0
    with pytest.raises(ConnectionRefusedError):
        connect_from("127.0.0.1", bound.at)


@pytest.mark.parametrize("version, late", [(4, 91), (5, 6)])
def test_nobody_comes(run, version, late):
    router = run(h.policy(timeouts={"bind": "300ms"}))
    bound = Bound(router.front, "127.0.0.1", version)
    assert bound.reply()[0] == late
    assert h.recv_all(bound.s) == b""
    with pytest.raises(ConnectionRefusedError):
        connect_from("127.0.0.1", bound.at)
    assert router.access_lines(1)[0]["verdict"] == "no answer in time"
    router.wait_idle()


def test_no_time_is_too_long_where_it_is_never(run):
    """Nor do the other times count for it."""
    router = run(h.policy(timeouts={"bind": "0s", "handshake": f"{int(2 * h.SLOW)}s", "idle": f"{int(h.SLOW)}s"}))
    bound = Bound(router.front, "127.0.0.1")
    bound.s.settimeout(2.5 * h.SLOW)
    with pytest.raises(TimeoutError):
        bound.s.recv(1)
    bound.s.settimeout(h.DEADLINE * h.SLOW)
    peer = connect_from("127.0.0.1", bound.at)
    assert bound.reply() == (0, peer.getsockname())
    peer.sendall(b"at last")
    assert h.recv_exactly(bound.s, 7) == b"at last"


@pytest.mark.parametrize("linger", [0, 1])
def test_a_client_that_leaves_takes_its_port_along(direct, linger):
    bound = Bound(direct.front, "127.0.0.1")
    bound.s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", linger, 0))
    bound.s.close()
    direct.wait_idle()
    with pytest.raises(ConnectionRefusedError):
        connect_from("127.0.0.1", bound.at)


def test_a_client_that_has_said_all_still_gets_its_peer(direct):
    bound = Bound(direct.front, "127.0.0.1", early=b"all")
    bound.s.shutdown(socket.SHUT_WR)
    peer = connect_from("127.0.0.1", bound.at)
    assert h.recv_all(peer) == b"all"
    peer.sendall(b"thanks")
    peer.close()
    assert bound.reply()[0] == 0 and h.recv_all(bound.s) == b"thanks"


def test_ports_and_address_of_the_policy(run):
    """Three ports, and a fourth client in vain until one comes free; the address told is the one for outsiders."""
    first = h.free_port(3)
    sockets = {"ports": f"{first}-{first + 2}", "advertise": "203.0.113.7"}
    router = run(h.policy([h.listener(bind=sockets)]))
    held = [Bound(router.front, ANYBODY) for _ in range(3)]
    assert {b.at for b in held} == {("203.0.113.7", first + i) for i in range(3)}
    assert Bound(router.front, ANYBODY).code == 1
    at = ("127.0.0.1", held[0].at[1])
    peer = connect_from("127.0.0.1", at)
    assert held[0].reply()[0] == 0
    check_exchange(held[0], peer)
    again = h.wait_until("a port is free again", lambda: (lambda b: b if b.code == 0 else None)(Bound(router.front, ANYBODY)))
    assert again.at == held[0].at


def test_where_to_listen(run):
    router = run(h.policy([h.listener(bind={"address": "127.0.0.5"})]))
    bound = Bound(router.front, "127.0.0.1")
    assert bound.at[0] == "127.0.0.5"
    peer = connect_from("127.0.0.1", bound.at)
    assert bound.reply()[0] == 0
    check_exchange(bound, peer)


def test_rules_see_the_command(run):
    router = run(h.policy(rules=[{"match": {"command": ["bind"], "ip_cidr": ["127.0.0.2/32"]}, "route": "reject"}]))
    assert Bound(router.front, "127.0.0.2").code == 2
    assert Bound(router.front, "127.0.0.2", 4).code == 91
    assert Bound(router.front, "127.0.0.1").code == 0


def test_a_reload_leaves_it_alone(direct):
    bound = Bound(direct.front, "127.0.0.1")
    direct.reload({**direct.policy, "rules": [{"match": {"command": ["bind"]}, "route": "reject"}]})
    peer = connect_from("127.0.0.1", bound.at)
    assert bound.reply()[0] == 0
    check_exchange(bound, peer)
    assert Bound(direct.front, "127.0.0.1").code == 2


# ---- through upstreams ----

@pytest.fixture
def chained(run):
    """chained(scheme, ...) starts routers, each the upstream of the one before; the first one."""

    def start(*schemes):
        last = run(h.policy())
        for n, scheme in enumerate(reversed(schemes)):
            url = f"{scheme}://127.0.0.1:{last.front}"
            last = run(h.policy(upstreams=[{"name": "up", "url": url}], default_route="up"), name=f"before{n}")
        return last

    return start


@pytest.mark.parametrize("schemes", [["socks5"], ["socks4"], ["socks4a"], ["socks5", "socks4", "socks5"]])
@pytest.mark.parametrize("version, good", [(4, 90), (5, 0)])
def test_through_routers(chained, schemes, version, good):
    router = chained(*schemes)
    early = os.urandom(900)
    for host in ("127.0.0.1", "localhost"):
        bound = Bound(router.front, host, version, early)
        assert bound.code == good and bound.at[0] == "127.0.0.1"
        peer = connect_from("127.0.0.1", bound.at)
        assert bound.reply() == (good, peer.getsockname())
        check_exchange(bound, peer, early)


def test_through_a_chain(run):
    """Two hops in one policy: what stands before the last one only gives a tunnel, so HTTP will do."""
    far = run(h.policy(), name="far")
    hops = [{"name": "near", "url": f"http://127.0.0.1:{far.front}"}, {"name": "far", "url": f"socks5://127.0.0.1:{far.front}"}]
    router = run(h.policy(upstreams=hops, chains=[{"name": "both", "hops": ["near", "far"]}], default_route="both"))
    bound = Bound(router.front, "127.0.0.1")
    peer = connect_from("127.0.0.1", bound.at)
    assert bound.reply() == (0, peer.getsockname())
    check_exchange(bound, peer)
    assert router.access_lines(1)[0]["path"] == "near>far"


def test_through_danted(run, programs):
    router = run(h.policy(upstreams=[{"name": "up", "url": f"socks5://127.0.0.1:{programs.danted()}"}], default_route="up"))
    bound = Bound(router.front, "127.0.0.1")
    assert bound.code == 0
    peer = connect_from("127.0.0.1", bound.at)
    assert bound.reply() == (0, peer.getsockname())
    check_exchange(bound, peer)


def test_members_that_cant_are_passed_over(run, serve):
    target = run(h.policy(), name="target")
    web = serve(h.echo)
    upstreams = [{"name": "web", "url": f"http://127.0.0.1:{web.port}"}, {"name": "socks", "url": f"socks5://127.0.0.1:{target.front}"}]
    router = run(h.policy(upstreams=upstreams, pools=[{"name": "pool", "members": ["web", "socks"], "balance": "first"}],
                          rules=[{"match": {"ip_cidr": ["127.0.0.9/32"]}, "route": "web"}], default_route="pool"))
    bound = Bound(router.front, "127.0.0.1")
    assert bound.code == 0 and web.accepted == 0
    assert Bound(router.front, "127.0.0.9").code == 7  # the one that the rule names has no BIND


@pytest.mark.parametrize("answer", [b"\x05\x07\x00\x01" + bytes(6), b""], ids=["says so", "hangs up"])
def test_members_that_turn_out_not_to_are_passed_over(run, serve, answer):
    """They are not at fault, and no retry: there is nothing wrong with them."""
    target = run(h.policy(), name="target")
    unable = [serve(peers.says(3, b"\x05\x00", 10, answer)) for _ in range(3)]
    upstreams = [{"name": f"unable{i}", "url": f"socks5://127.0.0.1:{s.port}"} for i, s in enumerate(unable)]
    upstreams.append({"name": "able", "url": f"socks5://127.0.0.1:{target.front}"})
    pool = {"name": "pool", "members": [u["name"] for u in upstreams], "balance": "first", "retry": {"attempts": 0}}
    router = run(h.policy(upstreams=upstreams, pools=[pool], default_route="pool"))
    bound = Bound(router.front, "127.0.0.1")
    assert bound.code == 0
    peer = connect_from("127.0.0.1", bound.at)
    assert bound.reply() == (0, peer.getsockname())
    assert [s.accepted for s in unable] == [1, 1, 1]
    assert all(router.upstream(u["name"])["failures_total"] == 0 for u in upstreams)


def test_who_stays_silent_when_asked_is_not_passed_over(run, serve):
    """That is a failure like any other: it counts, and only as many members are tried as may be."""
    silent, other = serve(peers.says(3, b"\x05\x00", 10, "silence")), run(h.policy(), name="other")
    upstreams = [{"name": "silent", "url": f"socks5://127.0.0.1:{silent.port}"}, {"name": "other", "url": f"socks5://127.0.0.1:{other.front}"}]
    pool = {"name": "pool", "members": ["silent", "other"], "balance": "first", "retry": {"attempts": 0}}
    router = run(h.policy(upstreams=upstreams, pools=[pool], default_route="pool", timeouts={"connect": "300ms"}))
    assert Bound(router.front, "127.0.0.1").code == 1
    assert router.upstream("silent")["failures_total"] == 1 and other.stats()["sessions"]["accepted"] == 0


@pytest.mark.parametrize("second, code", [
    (b"\x05\x05\x00\x01" + bytes(6), 5),  # its peer never came
    (b"", 1),  # it went away
    (b"HTTP/1.1", 1),  # nonsense
])
def test_the_upstreams_second_word(run, serve, second, code):
    up = serve(peers.says(3, b"\x05\x00", 10, b"\x05\x00\x00\x01\x00\x00\x00\x00\x12\x34" + second))
    router = run(h.policy(upstreams=[{"name": "up", "url": f"socks5://127.0.0.1:{up.port}"}], default_route="up"))
    bound = Bound(router.front, "192.0.2.1")
    assert bound.code == 0 and bound.at == ("127.0.0.1", 0x1234)  # no address: the upstream's own
    assert bound.reply()[0] == code


TALKS = {  # what an upstream says, step by step: no address in the first reply means its own
    "socks5": (3, b"\x05\x00", 10, b"\x05\x00\x00\x01\x00\x00\x00\x00\x12\x34" + b"\x05\x00\x00\x01\xc0\x00\x02\x01\x00\x14"),
    "socks4": (9, b"\x00\x5a\x12\x34\x00\x00\x00\x00" + b"\x00\x5a\x00\x14\xc0\x00\x02\x01"),
}


@pytest.mark.parametrize("scheme", TALKS)
@pytest.mark.parametrize("version, good", [(4, 90), (5, 0)])
@pytest.mark.parametrize("pace", [lambda handler: handler, peers.dribbles], ids=["at once", "byte by byte"])
def test_bytes_behind_the_upstreams_second_reply(run, serve, scheme, version, good, pace):
    *steps, replies = TALKS[scheme]
    up = serve(pace(peers.says(*steps, replies + b"220 hello", then=h.echo)))
    router = run(h.policy(upstreams=[{"name": "up", "url": f"{scheme}://127.0.0.1:{up.port}"}], default_route="up"))
    bound = Bound(router.front, "192.0.2.1", version, early=b" and you")
    assert (bound.code, bound.at) == (good, ("127.0.0.1", 0x1234))
    assert bound.reply() == (good, ("192.0.2.1", 20))
    assert h.recv_exactly(bound.s, 17) == b"220 hello and you"


@pytest.mark.parametrize("scheme", TALKS)
def test_an_upstream_that_leaves_in_its_replies(run, serve, scheme):
    """Cut at every byte: before the first reply is whole another member is asked, after it the client is told that it failed."""
    *steps, replies = TALKS[scheme]
    first = len(replies) // 2
    cut = {"at": 0}

    def handler(conn, server):
        peers.says(*steps, replies[:cut["at"]])(conn, server)

    bad, good = serve(handler), run(h.policy(), name="good")
    upstreams = [{"name": "bad", "url": f"{scheme}://127.0.0.1:{bad.port}"}, {"name": "good", "url": f"socks5://127.0.0.1:{good.front}"}]
    pool = {"name": "pool", "members": ["bad", "good"], "balance": "first", "retry": {"attempts": 1, "budget_percent": 100}}
    router = run(h.policy(upstreams=upstreams, pools=[pool], default_route="pool"))
    for cut["at"] in range(len(replies)):
        bound = Bound(router.front, "127.0.0.1")
        assert bound.code == 0
        if cut["at"] < first:
            peer = connect_from("127.0.0.1", bound.at)
            assert bound.reply() == (0, peer.getsockname())
        else:
            assert bound.at == ("127.0.0.1", 0x1234) and bound.reply()[0] == 1
        bound.s.close()
    assert bad.accepted == len(replies)


# ---- FTP ----

class ActiveFtp(ftplib.FTP):
    """ftplib in active mode through SOCKS: the control connection by CONNECT, each transfer's by BIND."""

    def __init__(self, proxy, port):
        self.proxy, self.server = proxy, port
        super().__init__()

    def connect_through(self):
        self.sock, rep = h.socks5(self.proxy, "127.0.0.1", self.server)
        assert rep == 0
        self.af = socket.AF_INET
        self.file = self.sock.makefile("r", encoding="latin-1")
        self.host = "127.0.0.1"
        self.welcome = self.getresp()

    def ntransfercmd(self, cmd, rest=None):
        bound = Bound(self.proxy, self.host)
        assert bound.code == 0
        self.sendport(*bound.at)
        answer = self.sendcmd(cmd)
        assert answer[0] == "1", answer
        code, peer = bound.reply()
        assert code == 0 and peer[0] == self.host
        return bound.s, None


FTP_SERVER = """
import sys
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import FTPServer
authorizer = DummyAuthorizer()
authorizer.add_anonymous(sys.argv[2], perm="elradfmw")
FTPHandler.authorizer = authorizer
FTPHandler.permit_privileged_ports = True
FTPServer(("127.0.0.1", int(sys.argv[1])), FTPHandler).serve_forever()
"""


@pytest.mark.parametrize("schemes", [[], ["socks5"], ["socks4", "socks5"]])
def test_active_ftp(chained, process, folder, schemes):
    store = folder / "store"
    store.mkdir()
    (store / "down").write_bytes(os.urandom(1_000_000))
    port = h.free_port()
    process(["/usr/bin/python3", "-W", "ignore", "-c", FTP_SERVER, port, store], "ftpd", port)
    router = chained(*schemes)
    ftp = ActiveFtp(router.front, port)
    ftp.connect_through()
    ftp.login()
    assert sorted(ftp.nlst()) == ["down"]
    got, up = [], os.urandom(1_200_000)
    ftp.retrbinary("RETR down", got.append)
    assert b"".join(got) == (store / "down").read_bytes()
    ftp.storbinary("STOR up", io.BytesIO(up))
    assert (store / "up").read_bytes() == up
    ftp.quit()
