"""A pool's race: a member that is slow is joined by another; who grants first serves the client, the other one is left in peace."""
import concurrent.futures
import socket
import struct
import time

import pytest

import harness as h
import peers
from test_pools import Pool

LONG = {"connect": "2m"}                       # nobody who waits for it passes in time


def stalls(*script):
    """Plays it, then says nothing more; notes when the other end has left, be it in the middle."""
    play = peers.says(*script, "silence")

    def handler(conn, server):
        try:
            play(conn, server)
        finally:
            server.note("left")

    return handler


def racing(run, started, handlers, race=None, **pool):
    return Pool(run, started, list(handlers), handlers={n: f for n, f in handlers.items() if f is not None},
                **{"balance": "first", "race": race or {"count": 2, "delay": "200ms"}, "timeouts": LONG, **pool})


def in_parallel(p, n, at_once):
    """Who answers each of n requests."""

    def one(_):
        name, s = peers.who_answers(p.router)
        if s is not None:
            s.close()
        return name

    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(one, range(n)))


@pytest.mark.parametrize("script", [(), (3,), (3, b"\x05\x00"), (3, b"\x05\x00", 10), (3, b"\x05\x00", 10, b"\x05\x00\x00")],
                         ids=["accepts", "hears", "greets", "is asked", "half an answer"])
def test_a_member_that_stalls(run, started, script):
    p = racing(run, started, {"a": stalls(*script), "b": None})
    began = time.monotonic()
    assert p.hold() == ["b"]
    assert time.monotonic() - began >= 0.2
    assert [c["path"] for c in p.router.get("/v1/connections")["connections"]] == [["b"]]
    p.let_go("b")
    assert p.servers["a"].noted(1) == ["left"]
    p.router.wait_idle()
    a = p.router.upstream("a")
    assert (a["failures_total"], a["sessions_total"], a["sessions_open"]) == (0, 0, 0)
    assert p.router.upstream("b")["sessions_total"] == 1
    line = p.router.wait_access_line(path="b", race="late", attempts=2)
    assert line["route"] == "pool"
    upstreams = p.router.stats()["upstreams"]
    assert (upstreams["races"], upstreams["races_won"], upstreams["retries"]) == (1, 1, 0)


def test_a_member_that_does_not_answer_the_syn(run, started):
    silent = started(h.SilentPort())
    good = started(h.Server(peers.named_upstream("b")))
    router = run(h.policy(upstreams=[{"name": "a", "url": f"socks5://127.0.0.1:{silent.port}"},
                                     {"name": "b", "url": f"socks5://127.0.0.1:{good.port}"}],
                          pools=[{"name": "p", "members": ["a", "b"], "balance": "first", "race": {"delay": "50ms"}}],
                          default_route="p", timeouts=LONG))
    for _ in range(3):
        name, s = peers.who_answers(router)
        assert name == "b"
        s.close()
    router.wait_idle()
    assert router.upstream("a")["failures_total"] == 0


def test_bytes_go_once_and_whole(run, started):
    """What the client sends behind its request reaches the winner once, and nobody else."""
    p = racing(run, started, {"a": stalls(3, b"\x05\x00", 10), "b": None})
    s, rep = h.socks5(p.router.front, "127.0.0.1", 80, early=b"hello ")
    assert rep == 0
    s.sendall(b"world")
    s.shutdown(1)
    assert h.recv_all(s) == b"b\nhello world"
    s.close()
    p.router.wait_idle()


def test_quick_members_are_not_raced(run, started):
    """The delay is one that they stay below, on whatever machine."""
    p = racing(run, started, {"a": None, "b": None}, race={"delay": "1m"})
    assert p.ask(10) == ["a"] * 10
    assert p.router.stats()["upstreams"]["races"] == 0
    assert p.servers["b"].accepted == 0


def test_the_destination_s_answer_ends_it(run, started):
    p = racing(run, started, {"a": stalls(), "b": peers.says(3, b"\x05\x00", 10, b"\x05\x05\x00\x01\0\0\0\0\0\0", "silence")})
    assert p.ask() == [5]
    assert p.servers["a"].noted(1) == ["left"]
    p.router.wait_idle()
    assert [p.router.upstream(n)["failures_total"] for n in "ab"] == [0, 0]


def test_the_client_leaves(run, started):
    """Both are left, and nobody is blamed."""
    p = racing(run, started, {"a": stalls(), "b": stalls()})
    s = h.connect(p.router.front)
    s.sendall(b"\x05\x01\x00" + h.socks5_request("127.0.0.1", 80))
    h.wait_until("both to be dialled", lambda: p.servers["a"].accepted == p.servers["b"].accepted == 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()                                  # a reset: who only ends its own direction is served still
    assert p.servers["a"].noted(1) == p.servers["b"].noted(1) == ["left"]
    p.router.wait_idle()
    assert [p.router.upstream(n)["failures_total"] for n in "ab"] == [0, 0]
    h.wait_until("the race to be counted", lambda: p.router.stats()["upstreams"]["races"] == 1)


def test_200_requests_with_a_member_that_stalls(run, started):
    p = racing(run, started, {"a": stalls(3, b"\x05\x00", 10), "b": None}, balance="round_robin", race={"delay": "20ms"})
    assert in_parallel(p, 200, 20) == ["b"] * 200
    p.router.wait_idle()
    a = p.servers["a"]
    h.wait_until("all that stalled to be left", lambda: len(a.notes) == a.accepted)
    # each of them was joined by another; who was slow of itself may have been, too
    assert 50 <= a.accepted <= p.router.stats()["upstreams"]["races"] <= 200
    a = p.router.upstream("a")
    assert (a["failures_total"], a["sessions_total"]) == (0, 0)
    assert p.router.upstream("b")["failures_total"] == 0


def test_no_more_dials_than_max_extra_percent(run, started):
    """Of 60 requests, all to the member that stalls, six may be raced. The others wait, and are tried again."""
    p = racing(run, started, {"a": stalls(), "b": None}, race={"delay": "100ms", "max_extra_percent": 10},
               timeouts={"connect": f"{int(2 * h.SLOW)}s"})
    assert in_parallel(p, 60, 60) == ["b"] * 60
    p.router.wait_idle()
    upstreams = p.router.stats()["upstreams"]
    assert 1 <= upstreams["races"] <= 6
    assert upstreams["races_won"] + upstreams["retries"] >= 60
    assert p.servers["a"].accepted + p.servers["b"].accepted <= 60 + 6 + upstreams["retries"]
    # kept across a reload: a policy changed again and again is no way around it
    for i in range(3):
        assert p.router.call("PUT", "/v1/policy", {**p.router.policy, "comment": str(i)}).status == 200
        assert p.ask() == ["b"]
    assert p.router.stats()["upstreams"]["races"] <= 6


def test_a_sticky_key_goes_with_the_winner(run, started):
    p = racing(run, started, {"a": stalls(), "b": None}, sticky={"key": "client_ip"})
    assert p.ask(3) == ["b"] * 3
    assert p.servers["a"].accepted == 1        # only the first request went there
    assert p.router.get("/v1/pools/pool/sticky")["sticky"][0]["member"] == "b"
