"""The PROXY protocol in front: haproxy and curl as they send it, headers cut at every byte, and connections without one."""
import contextlib
import socket
import struct

import pytest

import harness as h
from peers import Certificates

SIGN = b"\r\n\r\n\0\r\nQUIT\n"


def front(**more):
    return {"name": "front", "listen": f"127.0.0.1:{h.free_port()}", "proxy_protocol": True,
            "protocols": ["socks4", "socks4a", "socks5", "http"], **more}


def v1(client="203.0.113.9", port=4321):
    return f"PROXY TCP4 {client} 198.51.100.2 {port} 1080\r\n".encode()


def v2(client="203.0.113.9", port=4321, tail=b""):
    body = socket.inet_aton(client) + socket.inet_aton("198.51.100.2") + struct.pack(">HH", port, 1080) + tail
    return SIGN + b"\x21\x11" + struct.pack(">H", len(body)) + body


V6 = (SIGN + b"\x21\x21\0\x24" + socket.inet_pton(socket.AF_INET6, "2001:db8::9") + socket.inet_pton(socket.AF_INET6, "2001:db8::2")
      + struct.pack(">HH", 4321, 1080))
LOCAL = SIGN + b"\x20\0\0\0"


def request(port):
    return b"\x05\x01\x00\x05\x01\x00\x01\x7f\0\0\x01" + struct.pack(">H", port)


def ask(s, port, header, early=b""):
    s.sendall(header + request(port) + early)
    assert h.recv_exactly(s, 2) == b"\x05\x00"
    return h.socks5_read_reply(s)


@pytest.mark.parametrize("header,client", [
    (v1(), "203.0.113.9:4321"), (v2(), "203.0.113.9:4321"), (v2(tail=b"\x04\0\x03abc"), "203.0.113.9:4321"),
    (V6, "[2001:db8::9]:4321"), (b"PROXY TCP6 2001:db8::9 ::1 4321 1\r\n", "[2001:db8::9]:4321")],
    ids=["v1", "v2", "tlv", "v2-v6", "v1-v6"])
def test_the_client_is_whom_the_header_names(run, serve, header, client):
    target = serve(h.echo)
    block = [client.rsplit(":", 1)[0].strip("[]")]
    s = run(h.policy([front()], rules=[{"name": "it", "match": {"client_cidr": block}, "route": "direct"}], default_route="reject"))
    with h.connect(s.front) as c:
        assert ask(c, target.port, header, b"ping") == 0
        assert h.recv_exactly(c, 4) == b"ping"
        assert s.get("/v1/connections")["connections"][0]["client"] == client
    assert s.access_lines(1)[0]["client"] == client


@pytest.mark.parametrize("header", [LOCAL, b"PROXY UNKNOWN\r\n"], ids=["LOCAL", "UNKNOWN"])
def test_a_header_without_addresses_leaves_the_connections_own(run, serve, header):
    target = serve(h.echo)
    s = run(h.policy([front()]))
    with h.connect(s.front) as c:
        assert ask(c, target.port, header) == 0
        here = "%s:%d" % c.getsockname()
    assert s.access_lines(1)[0]["client"] == here


@pytest.mark.parametrize("header", [v1(), v2(tail=b"\x04\0\x03abc")], ids=["v1", "v2"])
def test_a_header_may_come_in_pieces(run, serve, header):
    target = serve(h.echo)
    s = run(h.policy([front()]))
    for cut in range(1, len(header)):
        with h.connect(s.front) as c:
            c.sendall(header[:cut])
            if cut % 7 == 0:
                h.port_answers(s.front)  # so that the first piece is read alone
            assert ask(c, target.port, header[cut:]) == 0


@pytest.mark.parametrize("first", [b"", b"\x04\x01\0\x50\x7f\0\0\x01\0", b"CONNECT a:1 HTTP/1.1\r\n\r\n", b"PROXY TCP4 1.2.3.4\r\n",
                                   b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", SIGN + b"\x31\x11\0\0", SIGN + b"\x21\x11\xff\xff", b"x" * 3000],
                         ids=["socks5", "socks4", "http", "short", "lf", "version", "huge", "noise"])
def test_without_a_header_nothing_is_served(run, serve, first):
    target = serve(h.echo)
    s = run(h.policy([front()]))
    with h.connect(s.front) as c:
        c.sendall(first + request(target.port))
        try:
            assert c.recv(10) == b""
        except ConnectionResetError:
            pass
    s.wait_access_line(end="no PROXY header")
    assert target.accepted == 0
    assert s.get("/v1/stats")["accept"]["proxy_headers_bad"] == 1


def test_a_header_is_taken_only_where_it_is_asked_for(run, serve):
    target = serve(h.echo)
    s = run(h.policy())
    for header in v1(), v2():
        with h.connect(s.front) as c:
            c.sendall(header + request(target.port))
            assert not c.recv(2).startswith(b"\x05")
    assert target.accepted == 0


def test_the_limit_per_client_is_of_the_client_that_is_named(run, serve):
    target = serve(h.echo)
    s = run(h.policy([front(max_connections_per_client=1)]))
    with h.connect(s.front) as a, h.connect(s.front) as b, h.connect(s.front) as other:
        assert ask(a, target.port, v1()) == 0
        assert ask(other, target.port, v2("203.0.113.10")) == 0
        b.sendall(v2(port=99) + request(target.port))
        try:
            assert b.recv(10) == b""
        except ConnectionResetError:
            pass
    s.wait_access_line(end="client limit")
    s.wait_idle()
    with h.connect(s.front) as again:
        assert ask(again, target.port, v1()) == 0


def test_a_client_that_sends_half_a_header_is_left_at_the_deadline(run):
    s = run(h.policy([front()], timeouts={"handshake": "300ms"}))
    with h.connect(s.front) as c:
        c.sendall(SIGN)
        assert c.recv(1) == b""
    s.wait_access_line(end="handshake timeout")


@pytest.mark.parametrize("option", ["send-proxy", "send-proxy-v2"])
def test_behind_haproxy(run, serve, process, folder, option):
    body = b"x" * 200_000
    target, port = serve(h.page(body)), h.free_port()
    s = run(h.policy([front()]))
    conf = folder / "haproxy.cfg"
    conf.write_text("global\n maxconn 50\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 20s\n timeout server 20s\n"
                    f"listen l\n bind 127.0.0.1:{port}\n server s 127.0.0.1:{s.front} {option}\n")
    process([h.need("haproxy"), "-db", "-f", conf], "haproxy", port)
    code, got = h.curl("--interface", "127.0.0.9", "--socks5", f"127.0.0.1:{port}", f"http://127.0.0.1:{target.port}/")
    assert code == 0 and got == body
    h.wait_until("the client's address", lambda: any(line["client"].startswith("127.0.0.9:") for line in s.access_lines(1)))


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("client, front_host", [("127.0.0.9", "127.0.0.1"), ("::1", "::1")])
def test_haproxy_behind_us_is_told_the_client(run, serve, process, folder, programs, version, client, front_host):
    body = b"x" * 200_000
    target, port, inner, mine = serve(h.page(body)), h.free_port(), programs.microsocks(), h.free_port()
    conf = folder / "accepts.cfg"
    conf.write_text("global\n maxconn 50\n log stdout format raw local0\ndefaults\n mode tcp\n log global\n log-format from=%ci\n"
                    " timeout connect 5s\n timeout client 20s\n timeout server 20s\n"
                    f"listen l\n bind 127.0.0.1:{port} accept-proxy\n server s 127.0.0.1:{inner}\n")
    haproxy = process([h.need("haproxy"), "-db", "-f", conf], "haproxy", port)
    at = f"[{front_host}]:{mine}" if ":" in front_host else f"{front_host}:{mine}"
    run(through(version, f"socks5://127.0.0.1:{port}", listeners=[h.listener(listen=at)]))
    assert h.curl("--interface", client, "--socks5", at, f"http://127.0.0.1:{target.port}/") == (0, body)
    h.wait_until("haproxy to say so", lambda: f"from={client}\n" in haproxy.log())


def through(version, url, **more):
    return h.policy(upstreams=[{"name": "next", "url": url, "send_proxy": version}], default_route="next", **more)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("scheme", ["socks5", "socks4a", "http"])
def test_a_second_router_sees_the_client_of_the_first(run, serve, version, scheme):
    target = serve(h.echo)
    last = run(h.policy([front()]))
    first = run(through(version, f"{scheme}://127.0.0.1:{last.front}"))
    s, rep = h.socks5(first.front, "127.0.0.1", target.port, early=b"ping")
    with s:
        assert rep == 0
        assert h.recv_exactly(s, 4) == b"ping"
        here = "%s:%d" % s.getsockname()
    assert last.access_lines(1)[0]["client"] == here


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("route", ["next", "row"])
def test_bind_and_udp_name_the_client_too(run, version, route):
    last, middle = run(h.policy([front()])), run(h.policy())
    first = run(h.policy([front()], default_route=route, chains=[{"name": "row", "hops": ["middle", "next"]}], upstreams=[
        {"name": "next", "url": f"socks5://127.0.0.1:{last.front}", "send_proxy": version}, {"name": "middle", "url": f"socks5://127.0.0.1:{middle.front}"}]))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mine, h.connect(first.front) as a, h.connect(first.front) as b:
        bound = []
        for c, command in (a, 3), (b, 2):
            c.sendall(v1("127.0.0.1", 4000 + command) + b"\x05\x01\x00" + h.socks5_request("0.0.0.0", 0, command))
            assert h.recv_exactly(c, 2) == b"\x05\x00"
            bound.append(h.socks5_read_bound(c)[1])
        # the first datagram opens the way
        mine.sendto(b"\0\0\0" + h.socks5_address("127.0.0.1") + struct.pack(">H", h.free_port()) + b"x", bound[0])
        there = {3: "127.0.0.1:4003", 2: "127.0.0.1:4002"}
        h.wait_until("both there", lambda: {c["client"] for c in last.get("/v1/connections")["connections"]} == set(there.values()))


def test_datagrams_of_a_client_that_is_named(run):
    """They come from the proxy that named it, or from itself; not from another."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as target, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mine, \
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        for s, host in (target, "127.0.0.1"), (mine, "127.0.0.5"), (stranger, "127.0.0.6"):
            s.bind((host, 0))
            s.settimeout(h.DEADLINE * h.SLOW)
        datagram = b"\0\0\0" + h.socks5_address("127.0.0.1") + struct.pack(">H", target.getsockname()[1]) + b"hello"
        last = run(h.policy([front()]))
        first = run(h.policy([front()], default_route="next", upstreams=[
            {"name": "next", "url": f"socks5://127.0.0.1:{last.front}", "send_proxy": 2}]))
        for router in (first, last):
            with h.connect(router.front) as c:
                c.sendall(v1("127.0.0.5", 4000) + b"\x05\x01\x00" + h.socks5_request("0.0.0.0", 0, 3))
                assert h.recv_exactly(c, 2) == b"\x05\x00"
                _, at = h.socks5_read_bound(c)
                stranger.sendto(datagram, at)
                h.wait_until("the stranger's to be dropped", lambda: router.stats()["udp"]["dropped_sender"] == 1)
                mine.sendto(datagram, at)
                assert target.recv(100) == b"hello"


def test_a_proxy_that_passes_on_what_a_client_announced_speaks_from_its_own_port(run):
    """The client itself is heard from the port that it announced, and no other."""
    with contextlib.ExitStack() as stack:
        target, announced, other, proxy = (stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(4))
        for s, host in (target, "127.0.0.1"), (announced, "127.0.0.5"), (other, "127.0.0.5"), (proxy, "127.0.0.1"):
            s.bind((host, 0))
            s.settimeout(h.DEADLINE * h.SLOW)
        router = run(h.policy([front()]))
        header = b"\0\0\0" + h.socks5_address("127.0.0.1") + struct.pack(">H", target.getsockname()[1])
        for n, speaker in enumerate([proxy, announced], 1):
            c = stack.enter_context(h.connect(router.front))
            c.sendall(v1("127.0.0.5", 4000) + b"\x05\x01\x00" + h.socks5_request(*announced.getsockname(), 3))
            assert h.recv_exactly(c, 2) == b"\x05\x00"
            _, at = h.socks5_read_bound(c)
            other.sendto(header + b"no", at)
            h.wait_until("that to be dropped", lambda n=n: router.stats()["udp"]["dropped_sender"] == n)
            speaker.sendto(header + b"yes", at)
            assert target.recv(100) == b"yes"


@pytest.mark.parametrize("pipeline", [False, True])
def test_the_header_goes_through_a_chain_and_passes_on_what_it_was_told(run, serve, pipeline):
    target = serve(h.echo)
    last, middle = run(h.policy([front()])), run(h.policy())
    p = h.policy([front()], upstreams=[{"name": "a", "url": f"socks5://127.0.0.1:{middle.front}", "pipeline": pipeline},
                                       {"name": "b", "url": f"socks5://127.0.0.1:{last.front}", "send_proxy": 2}],
                 chains=[{"name": "both", "hops": ["a", "b"]}], default_route="both")
    s = run(p)
    with h.connect(s.front) as c:
        assert ask(c, target.port, v1(), b"ping") == 0
        assert h.recv_exactly(c, 4) == b"ping"
    assert last.access_lines(1)[0]["client"] == "203.0.113.9:4321"


@pytest.mark.parametrize("version,header", [(1, v1()), (2, v2())], ids=["v1", "v2"])
def test_a_direct_destination_gets_it_first(run, serve, version, header):
    target = serve(h.echo)
    s = run(through(version, "direct://") | {"listeners": [front()]})
    with h.connect(s.front) as c:
        assert ask(c, target.port, v1(), b"ping") == 0
        assert h.recv_exactly(c, len(header) + 4) == header + b"ping"


def test_the_header_stands_before_tls(run, serve, folder):
    target = serve(h.echo)
    certificates = Certificates(folder)
    last = run(h.policy([front(tls={"certificate": str(certificates.good)})]))
    first = run(h.policy(upstreams=[{"name": "next", "url": f"socks5+tls://localhost:{last.front}", "send_proxy": 2,
                                     "tls": {"ca": str(folder / "ca.crt")}}], default_route="next"))
    s, rep = h.socks5(first.front, "127.0.0.1", target.port, early=b"ping")
    with s:
        assert rep == 0 and h.recv_exactly(s, 4) == b"ping"
        here = "%s:%d" % s.getsockname()
    assert last.access_lines(1)[0]["client"] == here


@pytest.mark.parametrize("version,header", [(1, b"PROXY UNKNOWN\r\n"), (2, SIGN + b"\x21\0\0\0")], ids=["v1", "v2"])
def test_a_client_of_a_unix_socket_has_no_address(run, serve, folder, version, header):
    """But the connection is a client's, not one of our own."""
    target = serve(h.echo)
    s = run(through(version, "direct://") | {"listeners": [h.listener(listen=f"unix:{folder}/front")]})
    with h.connect(s.front) as c:
        c.sendall(b"\x05\x01\x00" + h.socks5_request("127.0.0.1", target.port) + b"ping")
        assert h.recv_exactly(c, 2) == b"\x05\x00" and h.socks5_read_reply(c) == 0
        assert h.recv_exactly(c, len(header) + 4) == header + b"ping"


def test_a_health_check_names_nobody(run, serve):
    seen = []
    upstream = serve(lambda conn, _: seen.append(h.recv_exactly(conn, len(LOCAL) + 1)))
    pool = {"name": "p", "members": ["next"], "health": {"check": "handshake", "interval": "1s", "timeout": "1s"}}
    run(through(2, f"socks5://127.0.0.1:{upstream.port}", pools=[pool]) | {"default_route": "p"})
    h.wait_until("a check", lambda: seen)
    assert seen[0] == LOCAL + b"\x05"
