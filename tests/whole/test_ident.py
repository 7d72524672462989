"""Clients known by their host's identd (RFC 1413): a real oidentd, and scripted ones that stall, lie, dribble or answer ERROR.

identd's port is 113, so each test has an address of 127.0.0.0/8 of its own for its client, and needs the right to listen there.
"""
import itertools
import os
import pwd
import re
import select
import socket
import struct
import subprocess
import sys

import pytest

import harness as h

numbers = itertools.count(2)


@pytest.fixture
def host():
    """A client's address that no other test has."""
    n = next(numbers)
    return f"127.{64 + (os.getpid() >> 8) % 128}.{os.getpid() & 255}.{n}"


def lab(host, users=("bob",), methods=("ident",), timeout="1m", **more):
    networks = [{"ip_cidr": [host], **({"users": list(users)} if users is not None else {})}]
    listener = {"name": "front", "listen": f"127.0.0.1:{h.free_port()}", "auth": "lab",
                "protocols": ["socks4", "socks4a", "socks5", "http"]}
    block = {"name": "lab", "methods": list(methods), "networks": networks, "ident": {"timeout": timeout}}
    return h.policy(listeners=[listener], auth=[block], **more)


def come(host, port):
    s = socket.create_connection(("127.0.0.1", port), timeout=h.DEADLINE * h.SLOW, source_address=(host, 0))
    return s


def ask4(s, to, userid=b""):
    s.sendall(b"\x04\x01" + struct.pack(">H", to) + b"\x7f\x00\x00\x01" + userid + b"\x00")
    return h.recv_exactly(s, 8)[1]


def ask5(s, to):
    s.sendall(b"\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01" + struct.pack(">H", to))
    assert h.recv_exactly(s, 2) == b"\x05\x00"
    return h.socks5_read_reply(s)


def ask_http(s, to):
    s.sendall(f"CONNECT 127.0.0.1:{to} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return int(h.recv_exactly(s, 12).split()[1])


def ask_all(host, front, to, userid=b"bob"):
    """The three answers: CD, REP, status."""
    with come(host, front) as a, come(host, front) as b, come(host, front) as c:
        return ask4(a, to, userid), ask5(b, to), ask_http(c, to)


def identd(answer):
    """A scripted identd: answer(theirs, ours) is what it says."""

    def handler(conn, server):
        line = b""
        while not line.endswith(b"\r\n"):
            line += h.recv_exactly(conn, 1)
        asked = re.fullmatch(rb"(\d+) ?, ?(\d+)\r\n", line)
        server.questions.append((*map(int, asked.groups()), conn.getpeername()[0]))
        said = answer(*server.questions[-1][:2])
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)     # each piece in a packet of its own
        for piece in [said] if isinstance(said, bytes) else said:
            conn.sendall(piece)
        conn.recv(1)

    return handler


@pytest.fixture
def script(serve, host):
    def start(answer):
        server = serve(identd(answer), host=host, port=113)
        server.questions = []
        return server

    return start


def named(user):
    return lambda theirs, ours: b"%d , %d : USERID : UNIX : %s\r\n" % (theirs, ours, user)


def test_a_user_is_known_in_every_protocol(run, serve, script, host):
    target, asked = serve(h.echo), script(named(b"bob"))
    s = run(lab(host, rules=[{"name": "bobs", "match": {"user": ["bob"]}, "route": "direct"}], default_route="reject"))
    assert ask_all(host, s.front, target.port) == (90, 0, 200)
    assert all(ours == s.front and peer == "127.0.0.1" for _, ours, peer in asked.questions)
    assert {line["user"] for line in s.access_lines(3)} == {"bob"}


def test_bytes_sent_behind_the_request_wait_for_the_answer(run, serve, script, host):
    target = serve(h.echo)
    script(lambda t, o: [bytes([c]) for c in named(b"bob")(t, o)])
    s = run(lab(host))
    with come(host, s.front) as c:
        c.sendall(b"\x04\x01" + struct.pack(">H", target.port) + b"\x7f\x00\x00\x01bob\x00early bytes")
        assert h.recv_exactly(c, 8)[1] == 90
        assert h.recv_exactly(c, 11) == b"early bytes"


@pytest.mark.parametrize("user,claimed,want", [
    (b"bob", b"bob", 90), (b"bob", b"", 90), (b"bob", b"bob+s1", 90), (b"bob", b"alice", 93), (b"alice", b"alice", 93),
    (b"alice", b"bob", 93), (b"bobby", b"bob", 93), (b"bo", b"bo", 93)])
def test_who_socks4_says_and_who_identd_says(run, serve, script, host, user, claimed, want):
    target = serve(h.echo)
    script(named(user))
    s = run(lab(host))
    with come(host, s.front) as c:
        assert ask4(c, target.port, claimed) == want


@pytest.mark.parametrize("what,answer,want,timeout", [
    ("error", lambda t, o: b"%d,%d:ERROR:HIDDEN-USER\r\n" % (t, o), (93, 2, 403), "1m"),
    ("another user", named(b"mallory"), (93, 2, 403), "1m"),
    ("a user of two words", named(b"bob smith"), (93, 2, 403), "1m"),
    ("a user that nobody can be", named(b"b" * 512), (93, 2, 403), "1m"),
    ("other ports", lambda t, o: b"%d,%d:USERID:UNIX:bob\r\n" % (t + 1, o), (92, 2, 403), "1m"),
    ("no end", lambda t, o: b"x" * 70000, (92, 2, 403), "1m"),
    ("garbage", lambda t, o: b"\x00\xff\r\n", (92, 2, 403), "1m"),
    ("nothing", lambda t, o: b"", (92, 2, 403), "300ms"),
    ("half", lambda t, o: b"%d,%d:USERID:UN" % (t, o), (92, 2, 403), "300ms")])
def test_no_good_answer(run, serve, script, host, what, answer, want, timeout):
    target = serve(h.echo)
    script(answer)
    s = run(lab(host, timeout=timeout))
    assert ask_all(host, s.front, target.port) == want
    assert target.accepted == 0


def test_no_identd(run, serve, host):
    target = serve(h.echo)
    s = run(lab(host))
    assert ask_all(host, s.front, target.port) == (92, 2, 403)


def test_an_answer_that_stalls_holds_nobody_else_up(run, serve, script, host):
    target = serve(h.echo)
    asked = script(lambda t, o: b"")
    s = run(lab(host) | {"workers": 1})
    with come(host, s.front) as slow:
        slow.sendall(b"\x04\x01" + struct.pack(">H", target.port) + b"\x7f\x00\x00\x01bob\x00")
        h.wait_until("identd to be asked", lambda: asked.questions)
        with h.connect(s.front) as other:
            assert ask4(other, target.port) == 91
        assert not select.select([slow], [], [], 0)[0]
        asked.hang_up()
        assert h.recv_exactly(slow, 8)[1] == 92


@pytest.mark.parametrize("users, granted", [(("bob",), True), (("eve",), False)])
def test_every_command_waits_for_the_answer(run, script, host, users, granted):
    script(named(b"bob"))
    s = run(lab(host, users=users))
    with come(host, s.front) as c:
        c.sendall(h.socks4_request("0.0.0.0", 0, 2, b"bob"))
        assert h.recv_exactly(c, 8)[1] == (90 if granted else 93)
    for command in 2, 3:
        with come(host, s.front) as c:
            c.sendall(b"\x05\x01\x00" + h.socks5_request("0.0.0.0", 0, command))
            assert h.recv_exactly(c, 2) == b"\x05\x00"
            assert h.socks5_read_reply(c) == (0 if granted else 2)


def test_a_client_of_ipv6(run, serve):
    target, asked = serve(h.echo), serve(identd(named(b"bob")), host="::1", port=113, family=socket.AF_INET6)
    asked.questions = []
    policy = lab("::1")
    policy["listeners"][0]["listen"] = f"[::1]:{h.free_port()}"
    s = run(policy)
    assert ask5(h.connect(s.front, "::1"), target.port) == 0
    assert asked.questions[0][1:] == (s.front, "::1")


def test_the_client_of_a_proxy_header_is_asked_about_its_own_connection(run, serve, script, host):
    asked, target = script(named(b"bob")), serve(h.echo)
    policy = lab(host)
    policy["listeners"][0]["proxy_protocol"] = True
    s = run(policy)
    with h.connect(s.front) as c:
        c.sendall(f"PROXY TCP4 {host} 198.51.100.2 4321 1080\r\n".encode())
        assert ask5(c, target.port) == 0
    assert asked.questions[0][:2] == (4321, 1080)


def test_clients_of_no_network_are_refused_unasked(run, serve, host):
    target = serve(h.echo)
    s = run(lab(host))
    assert ask_all("127.0.0.1", s.front, target.port) == (91, 2, 403)


def test_a_network_without_users_is_let_in_unasked(run, serve, script, host):
    target, asked = serve(h.echo), script(named(b"mallory"))
    s = run(lab(host, users=None))
    assert ask_all(host, s.front, target.port) == (90, 0, 200)
    assert asked.accepted == 0


def test_networks_by_name(run, serve, script, programs, host):
    """The name that DNS says both ways decides; a PTR that its owner made up does not."""
    target, net = serve(h.echo), host.rpartition(".")[0]
    liar, nobody = f"{net}.251", f"{net}.252"
    script(named(b"bob"))
    turned = ".".join(reversed(liar.split(".")))
    dns = programs.dnsmasq(f"--host-record=desk.lab.test,{host}", f"--ptr-record={turned}.in-addr.arpa,desk.lab.test")
    policy = lab(host, dns={"servers": [dns.address]}, workers=1)
    policy["auth"][0]["networks"] = [{"ip_cidr": ["127.0.0.1"]}, {"domain": ["desk.lab.test"], "users": ["bob"]}]
    s = run(policy)
    assert ask_all("127.0.0.1", s.front, target.port) == (90, 0, 200)
    assert dns.queries() == []  # its address says enough
    assert ask_all(host, s.front, target.port) == (90, 0, 200)
    for client in (liar, nobody):
        assert ask_all(client, s.front, target.port) == (91, 2, 403)
    assert len(dns.queries(f"{turned}.in-addr.arpa")) == 1
    assert {line.get("user") for line in s.access_lines(12)} == {"bob", None}
    policy["auth"][0]["networks"] = [{"domain_suffix": ["lab.test"]}]
    s.reload(policy)
    assert ask_all(host, s.front, target.port) == (90, 0, 200)
    assert ask_all(liar, s.front, target.port) == (91, 2, 403)


def test_a_client_that_leaves_while_its_name_is_looked_up(run, host):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        policy = lab(host, dns={"servers": ["127.0.0.1:%d" % silent.getsockname()[1]], "timeout": "300ms", "attempts": 1}, timeout="400ms")
        policy["auth"][0]["networks"] = [{"domain": ["desk.lab.test"]}]
        s = run(policy)
        for _ in range(5):
            with come(host, s.front) as c:
                c.sendall(b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00")
        assert ask_all(host, s.front, 80) == (91, 2, 403)
        s.wait_idle()


def test_beside_none_it_only_tells_who_it_is(run, serve, host):
    target = serve(h.echo)
    s = run(lab(host, methods=("none", "ident")))
    assert ask_all(host, s.front, target.port) == (90, 0, 200)
    assert all("user" not in line for line in s.access_lines(3))


def test_a_client_that_leaves_while_identd_is_asked(run, serve, script, host):
    script(lambda t, o: b"")
    s = run(lab(host, timeout="1s"))
    before = s.descriptors()
    for _ in range(5):
        with come(host, s.front) as c:
            c.sendall(b"\x04\x01\x00\x50\x7f\x00\x00\x01bob\x00")
    s.access_lines(5)
    h.wait_until("descriptors to be given back", lambda: s.descriptors() <= before)


def test_oidentd(run, serve, process, host):
    """The real one, for a client of another user than root too."""
    target = serve(h.echo)
    process([h.need("oidentd"), "--foreground", "--nosyslog", "--address", host], "oidentd")
    h.wait_until("oidentd", lambda: h.port_answers(113, host))
    me, other = pwd.getpwuid(os.geteuid()).pw_name, "daemon"
    s = run(lab(host, users=(me, other), rules=[{"name": "other", "match": {"user": [other]}, "route": "reject"}]))
    with come(host, s.front) as c:
        assert ask4(c, target.port, me.encode()) == 90
    with come(host, s.front) as c:
        assert ask4(c, target.port, other.encode()) == 93
    client = ("import socket, sys; s = socket.create_connection(('127.0.0.1', int(sys.argv[1])), 10, (sys.argv[2], 0));"
              "s.sendall(b'\\x05\\x01\\x00\\x05\\x01\\x00\\x01\\x7f\\x00\\x00\\x01\\x00\\x50'); print(s.recv(2).hex(), s.recv(10).hex()[:4])")
    r = subprocess.run([sys.executable, "-c", client, str(s.front), host], user=other, capture_output=True, text=True,
                       timeout=h.DEADLINE * h.SLOW, cwd="/")
    assert r.stdout.split() == ["0500", "0502"], r.stderr
    assert {(line.get("user"), line.get("rule")) for line in s.access_lines(3)} == {(me, "default"), (None, None), (other, "other")}
