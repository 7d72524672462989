"""Tor's RESOLVE and RESOLVE_PTR: looked up here, or by the socks5 upstream that the request goes to; never where they are off."""
import socket
import struct

import pytest

import harness as h
from peers import Programs

RESOLVE, PTR = 0xF0, 0xF1


@pytest.fixture
def dns(process, folder):
    return Programs(process, folder).dnsmasq(
        "--host-record=six.test,2001:db8::6", "--host-record=one.test,192.0.2.1", "--host-record=both.test,192.0.2.2,2001:db8::2", "--address=/inner.test/10.0.0.7",
        "--ptr-record=9.2.0.192.in-addr.arpa,nine.test")


def front(**more):
    return [{"name": "front", "listen": f"127.0.0.1:{h.free_port()}", "protocols": ["socks4", "socks5"], "tor_resolve": True, **more}]


def ask(port, host, command=RESOLVE, to_port=0):
    """REP and what it found; the connection ends behind it."""
    with h.connect(port) as s:
        s.sendall(b"\x05\x01\x00\x05" + bytes([command, 0]) + h.socks5_address(host) + struct.pack(">H", to_port))
        assert h.recv_exactly(s, 2) == b"\x05\x00"
        _, rep, _, kind = h.recv_exactly(s, 4)
        size = {1: 4, 4: 16}.get(kind) or h.recv_exactly(s, 1)[0]
        found = h.recv_exactly(s, size)
        assert h.recv_exactly(s, 2) == b"\0\0"
        assert s.recv(1) == b""
    if rep:
        return rep, None
    return rep, found.decode() if kind == 3 else socket.inet_ntop(socket.AF_INET if kind == 1 else socket.AF_INET6, found)


CASES = [("one.test", RESOLVE, 0, "192.0.2.1"), ("ONE.test", RESOLVE, 0, "192.0.2.1"), ("six.test", RESOLVE, 0, "2001:db8::6"),
         ("192.0.2.77", RESOLVE, 0, "192.0.2.77"), ("gone.test", RESOLVE, 4, None),
         ("192.0.2.9", PTR, 0, "nine.test"), ("192.0.2.1", PTR, 0, "one.test"), ("2001:db8::6", PTR, 0, "six.test"),
         ("192.0.2.88", PTR, 4, None)]


def test_looked_up_here(run, dns):
    s = run(h.policy(front(), dns={"servers": [dns.address]}))
    for host, command, rep, found in CASES:
        assert ask(s.front, host, command) == (rep, found), host
        assert ask(s.front, host, command, 80) == (rep, found), host
    assert ask(s.front, "one.test", PTR)[0] == 8
    lines = s.access_lines(2 * len(CASES))
    assert {line["command"] for line in lines} == {"resolve", "resolve_ptr"}
    assert {line["end"] for line in lines} == {"done", "refused"}
    assert s.get("/v1/stats")["by_command"]["resolve"] == 2 * len(CASES)


@pytest.mark.parametrize("hops", [1, 2])
def test_looked_up_by_the_upstream_that_it_goes_to(run, dns, hops):
    last = run(h.policy(front(), dns={"servers": [dns.address]}))
    middle = run(h.policy())
    upstreams = [{"name": "middle", "url": f"socks5://127.0.0.1:{middle.front}"}, {"name": "last", "url": f"socks5://127.0.0.1:{last.front}"}]
    s = run(h.policy(front(), dns={"servers": ["127.0.0.1:9"]}, upstreams=upstreams,
                     chains=[{"name": "way", "hops": ["middle", "last"][2 - hops:]}], default_route="way"))
    for host, command, rep, found in CASES:
        assert ask(s.front, host, command) == (rep, found), host


def test_kept_like_other_answers(run, dns):
    s = run(h.policy(front(), dns={"servers": [dns.address]}, workers=1))
    asked = "9.2.0.192.in-addr.arpa"
    for _ in range(3):
        assert ask(s.front, "192.0.2.9", PTR) == (0, "nine.test")
        assert ask(s.front, "192.0.2.88", PTR)[0] == 4
    assert len(dns.queries(asked)) == 1
    entry, = [e for e in s.get("/v1/dns/cache")["entries"] if e["name"] == asked]
    assert entry["addresses"] == ["nine.test"]
    assert s.call("DELETE", f"/v1/dns/cache?name={asked}").status == 204
    assert ask(s.front, "192.0.2.9", PTR) == (0, "nine.test")
    assert len(dns.queries(asked)) == 2


def test_not_where_it_is_off(run, dns):
    s = run(h.policy(dns={"servers": [dns.address]}))
    assert ask(s.front, "one.test")[0] == 7
    assert ask(s.front, "192.0.2.9", PTR)[0] == 7
    assert dns.queries() == []


def ask4(port, host, command=RESOLVE):
    """CD and the address."""
    with h.connect(port) as s:
        s.sendall(h.socks4_request(host, 0, command))
        answer = h.recv_exactly(s, 8)
        assert answer[0] == 0 and answer[2:4] == b"\0\0" and s.recv(1) == b""
    return answer[1], socket.inet_ntoa(answer[4:])


@pytest.mark.parametrize("through", [False, True])
def test_socks4_is_told_ipv4_addresses(run, dns, through):
    s = run(h.policy(front(protocols=["socks4", "socks4a", "socks5"]), dns={"servers": [dns.address]}))
    if through:
        s = run(h.policy(front(protocols=["socks4", "socks4a"]), default_route="up", upstreams=[{"name": "up", "url": f"socks5://127.0.0.1:{s.front}"}]))
    assert ask4(s.front, "one.test") == (90, "192.0.2.1")
    if not through:  # an upstream tells one address, of whatever kind
        assert ask4(s.front, "both.test") == (90, "192.0.2.2")
    assert ask4(s.front, "192.0.2.77") == (90, "192.0.2.77")
    for host, command in ("six.test", RESOLVE), ("gone.test", RESOLVE), ("192.0.2.9", PTR):
        assert ask4(s.front, host, command) == (91, "0.0.0.0")


def test_an_upstream_that_has_no_such_command(run, dns):
    http = run(h.policy())
    s = run(h.policy(front(), dns={"servers": [dns.address]}, default_route="up",
                     upstreams=[{"name": "up", "url": f"http://127.0.0.1:{http.front}"}]))
    assert ask(s.front, "one.test")[0] == 7
    assert dns.queries() == []  # the name is not given away to our own servers


def test_rules_decide_as_for_connect(run, dns):
    rules = [{"name": "name", "match": {"domain": ["one.test"], "command": ["connect"]}, "route": "reject"},
             {"name": "inner", "match": {"ip_cidr": ["10.0.0.0/8"]}, "route": "reject"}]
    s = run(h.policy(front(), dns={"servers": [dns.address]}, rules=rules))
    assert ask(s.front, "one.test")[0] == 2
    assert ask(s.front, "a.inner.test")[0] == 2  # a name can't get around a rule on addresses
    assert ask(s.front, "10.0.0.7", PTR)[0] == 2
    assert ask(s.front, "six.test") == (0, "2001:db8::6")


def test_a_name_server_that_is_silent(run, serve):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        s = run(h.policy(front(), dns={"servers": ["127.0.0.1:%d" % silent.getsockname()[1]]}, timeouts={"connect": "300ms"}))
        assert ask(s.front, "192.0.2.1", PTR)[0] == 6
        assert ask(s.front, "one.test")[0] in (4, 6)
        with h.connect(s.front) as c:
            c.sendall(b"\x05\x01\x00\x05\xf1\x00\x01\xc0\x00\x02\x01\0\0")
        s.wait_idle()
