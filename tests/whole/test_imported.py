"""What jsocks did by its properties, sockroute does by the policy made from them: who may come, which way, for how long."""
import socket
import struct
import threading
import time

import pytest

import harness as h
from test_ident import ask4, ask5, come, host, named, script  # noqa: F401 (fixtures)
from test_import import made


@pytest.fixture
def jsocks(run, folder):
    """jsocks("range = ...", ...): a router with the policy made from these files."""

    def start(first, *others, **more):
        policy = made(folder, "jsocks", f"host = 127.0.0.1\nport = {h.free_port()}\n{first}", *others)
        for key in ("comment", "log"):
            policy.pop(key, None)
        return run(h.policy(**{**policy, **more}))

    return start


@pytest.mark.parametrize("form", ["{host}", "{net}.", "{host}:{host}", "desk.lab.test", ".lab.test", "10.0.0.1 ; {host} ;"])
def test_a_range_in_each_form_and_its_users(jsocks, serve, programs, script, host, form):  # noqa: F811
    target, net = serve(h.echo), host.rpartition(".")[0]
    script(named(b"bob"))
    dns = programs.dnsmasq(f"--host-record=desk.lab.test,{host}")
    s = jsocks(f"range = {form.format(host=host, net=net)}\nusers = root; bob ;alice\n", dns={"servers": [dns.address]})
    for client, userid, cd, rep in (host, b"bob", 90, 0), (host, b"alice", 93, 0), ("127.0.0.1", b"bob", 91, 2):
        with come(client, s.front) as a, come(client, s.front) as b:
            assert (ask4(a, target.port, userid), ask5(b, target.port)) == (cd, rep)


def test_the_first_range_that_has_the_client_decides(jsocks, serve, script, host):  # noqa: F811
    target, net = serve(h.echo), host.rpartition(".")[0]
    asked = script(named(b"bob"))
    s = jsocks(f"range = {host}\nusers = alice\n", f"range = {net}.\n")
    with come(host, s.front) as c:
        assert ask5(c, target.port) == 2
    with come(f"{net}.250", s.front) as c:
        assert ask5(c, target.port) == 0
    assert asked.accepted == 1


def test_proxies_in_a_row_but_for_direct_hosts(jsocks, run, serve):
    target = serve(h.echo)
    open_to_all, for_joe = run(h.policy()), run(h.policy(rules=[{"match": {"not": {"userid": ["joe"]}}, "route": "reject"}]))
    last = run(h.policy([h.listener(auth="staff")], auth=[{"name": "staff", "methods": ["userpass"], "users": h.users("ann")}]))
    names = h.NameServer({"a.direct.test": ["127.0.0.7"], "near.test": ["127.0.0.1"], "far.test": ["127.0.0.7"]})
    s = jsocks("range = .\n"
               f"proxy = 127.0.0.1:{open_to_all.front};127.0.0.1 : {for_joe.front}:joe;127.0.0.1:{last.front}:ann:secret\n"
               "directHosts = 127.0.0.1;.direct.test\n", dns={"servers": [names.address]})
    try:
        for to in "127.0.0.1", "near.test", "a.direct.test", "127.0.0.7", "far.test":
            h.socks5(s.front, to, target.port)[0].close()
        row = "proxy-1>proxy-2>proxy-3"
        ways = {line["to"].rsplit(":", 1)[0]: (line["path"], line["route"]) for line in s.access_lines(5)}
        assert {to: way for to, (_, way) in ways.items()} == {
            "127.0.0.1": "direct", "near.test": "direct", "a.direct.test": "direct", "127.0.0.7": "proxies", "far.test": "proxies"}
        assert ways["127.0.0.7"][0] == ways["far.test"][0] == row
        assert {line["to"] for line in last.access_lines(2)} == {f"127.0.0.7:{target.port}", f"far.test:{target.port}"}
    finally:
        names.stop()


def sessions(s, target):
    """One of each kind that waits: a tunnel, an association, a BIND."""
    for command, port in ((1, target.port), (3, 0), (2, 0)):
        c, rep = h.socks5(s.front, "127.0.0.1" if command == 1 else "0.0.0.0", port, command=command)
        assert rep == 0
        yield c


def test_each_has_its_own_timeout(jsocks, serve):
    s = jsocks("range = 127.\niddleTimeout = 600\nacceptTimeout = 900\nudpTimeout = 300   # of a second\n")
    ends = {}

    def wait(kind, c):
        ends[kind] = h.recv_all(c), time.monotonic()

    began = time.monotonic()
    threads = [threading.Thread(target=wait, args=a) for a in zip(("tunnel", "association", "bind"), sessions(s, serve(h.echo)))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for kind, least in ("tunnel", 0.55), ("association", 0.25), ("bind", 0.85):
        assert ends[kind][1] - began > least
    assert ends["tunnel"][0] == ends["association"][0] == b"" and ends["bind"][0][:2] == b"\x05\x06"


def test_0_is_never(jsocks, serve):
    target = serve(h.echo)
    s = jsocks("range = 127.\niddleTimeout = 0\nacceptTimeout = 0\nudpTimeout = 0\n")
    open_ = list(sessions(s, target))
    for c in sessions(jsocks("range = 127.\niddleTimeout = 300\nacceptTimeout = 300\nudpTimeout = 300\n"), target):
        h.recv_all(c)  # those that were opened later, and are not for ever, have come to their end
    for c in open_:
        c.settimeout(0.01)
        with pytest.raises(TimeoutError):
            c.recv(1)
        c.settimeout(h.DEADLINE * h.SLOW)
    open_[0].sendall(b"ping")
    assert h.recv_exactly(open_[0], 4) == b"ping"


def test_datagrams_above_the_size_are_dropped(jsocks):
    s = jsocks("range = 127.\ndatagramSize = 100\n")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as echo, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mine:
        echo.bind(("127.0.0.1", 0))
        echo.settimeout(h.DEADLINE * h.SLOW)
        control = h.connect(s.front)
        control.sendall(b"\x05\x01\x00" + h.socks5_request("0.0.0.0", 0, 3))
        h.recv_exactly(control, 2)
        relay = h.socks5_read_bound(control)[1]
        head = b"\0\0\0" + h.socks5_address("127.0.0.1") + struct.pack(">H", echo.getsockname()[1])
        for payload in b"x" * 101, b"y" * 100:
            mine.sendto(head + payload, relay)
        assert echo.recv(1000) == b"y" * 100
        assert s.stats()["udp"]["dropped_size"] == 1
