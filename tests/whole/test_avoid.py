"""A pool's avoid: an exit that one destination host has blocked is passed over for that host, and for no other."""
import pytest

import harness as h
import peers
from test_pools import Pool

BLOCKED, FINE = "blocked.example", "fine.example"


def blocked_exit(name, rep, blocked=(BLOCKED,)):
    """As named_upstream, but for one host, however it is written, this is its answer."""

    def handler(conn, server):
        _, host, _ = peers.read_socks5_request(conn)
        server.note(host)
        if host in blocked:
            conn.sendall(bytes([5, rep, 0, 1, 0, 0, 0, 0, 0, 0]))
            return
        conn.sendall(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x01" + name.encode() + b"\n")
        h.echo(conn, server)

    return handler


def ask(router, host):
    """The name of who serves it, or the REP."""
    answer, s = peers.who_answers(router, host=host)
    if s is not None:
        s.close()
    return answer


def avoiding(run, started, rep, **pool):
    return Pool(run, started, ["a", "b"], handlers={"a": blocked_exit("a", rep)}, balance="first",
                avoid={"failures": 2, "for": "10m"}, **pool)


@pytest.mark.parametrize("rep", [2, 3, 4, 5, 6])
def test_an_exit_that_one_site_blocks(run, started, rep):
    """Its refusals go to the client at once, until there were enough of them; from then on the other one has that host."""
    p = avoiding(run, started, rep)
    assert [ask(p.router, BLOCKED) for _ in range(5)] == [rep, rep, "b", "b", "b"]
    assert [ask(p.router, FINE) for _ in range(3)] == ["a"] * 3
    # remembered across a reload
    changed = {**p.router.policy, "comment": "another"}
    assert p.router.call("PUT", "/v1/policy", changed).status == 200
    assert [ask(p.router, BLOCKED), ask(p.router, FINE)] == ["b", "a"]
    # where there is no other it is used after all
    assert p.router.call("PATCH", "/v1/upstreams/b", {"state": "draining"}).status == 200
    assert ask(p.router, BLOCKED) == rep


def test_failures_that_are_retried_count(run, started):
    """REP 1: each client is served by the other one, and soon without the detour."""
    p = avoiding(run, started, 1)
    assert [ask(p.router, BLOCKED) for _ in range(5)] == ["b"] * 5
    assert p.servers["a"].notes.count(BLOCKED) == 2
    assert ask(p.router, FINE) == "a"


def test_a_host_is_one_in_either_script(run, started):
    both = "bücher.test", "xn--bcher-kva.test"
    p = Pool(run, started, ["a", "b"], handlers={"a": blocked_exit("a", 5, both)}, balance="first", avoid={"failures": 2, "for": "10m"})
    assert [ask(p.router, host) for host in both * 2] == [5, 5, "b", "b"]
