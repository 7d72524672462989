"""Pools: who is chosen how often, retry, tiers, health checks; and never direct where nothing is usable."""
import collections

import pytest

import harness as h
import peers
from peers import says, who_answers

QUICK = {"interval": "100ms", "timeout": "10s", "rise": 1, "fall": 1, "jitter": "0%"}
CONNECT = {"check": "connect", **QUICK}
CHOSEN, SOCKS5_REQUEST = b"\x05\x00", 10


class Pool:
    """A router in front of a pool, and the scripted upstreams that are its members, each with its name."""

    def __init__(self, run, started, members, handlers=None, upstream=None, timeouts=None, front=None, **pool):
        self.started = started
        self.names = [m if isinstance(m, str) else m["name"] for m in members]
        self.handlers = {n: peers.named_upstream(n) for n in self.names} | (handlers or {})
        self.ports = {n: h.free_port() for n in self.names}
        self.servers = {}
        for n in self.names:
            self.start(n)
        self.router = run(h.policy(
            upstreams=[{"name": n, "url": f"socks5://127.0.0.1:{p}", **(upstream or {})} for n, p in self.ports.items()],
            pools=[{"name": "pool", "members": members, **pool}], default_route="pool", timeouts=timeouts or {}, **(front or {})))

    def start(self, name):
        self.servers[name] = self.started(h.Server(self.handlers[name], port=self.ports[name]))

    def kill(self, *names):
        for name in names:
            self.servers[name].stop()

    def ask(self, n=1, hold=False):
        """Who answers the next n requests; hold: their sessions stay open, in `held`."""
        names = []
        for _ in range(n):
            name, s = who_answers(self.router)
            names.append(name)
            if s is not None and not hold:
                s.close()
                # its slot is free a moment later, when the upstream has ended too
                h.wait_until("its slot to be free", lambda: self.router.stats()["sessions"]["open"] <= len(self.held or ()))
            elif hold:
                self.held.append((name, s))
        return names

    held = None

    def hold(self, n=1):
        if self.held is None:
            self.held = []
        return self.ask(n, hold=True)

    def let_go(self, name):
        """Ends the held sessions of a member, and waits until its count is back."""
        for who, s in self.held:
            if who == name:
                s.close()
        self.held = [(who, s) for who, s in self.held if who != name]
        h.wait_until(f"{name} to be free", lambda: self.router.upstream(name)["sessions_open"] == 0)

    def wait_state(self, name, state):
        h.wait_until(f"{name} to be {state}", lambda: self.router.upstream(name)["state"] == state)


@pytest.fixture
def pool(run, started):
    return lambda members, **kw: Pool(run, started, members, **kw)


# ---- balance ----

def test_round_robin_is_exact(pool):
    """In any seven of them in a row, whichever worker has them, and without runs longer than they must be."""
    p = pool([{"name": "a", "weight": 5}, "b", "c", {"name": "never", "weight": 0}], balance="round_robin")
    order = p.ask(28)
    for i in range(len(order) - 6):
        assert collections.Counter(order[i:i + 7]) == {"a": 5, "b": 1, "c": 1}, order
    assert "aaaa" not in "".join(order)
    listed = {m["name"]: m["picks"] for m in p.router.get("/v1/pools/pool")["members"]}
    assert listed == {"a": 20, "b": 4, "c": 4, "never": 0}


def test_picks_are_of_the_pool_that_made_them(run, serve):
    """Of an upstream that two pools have, each tells its own; they are kept by a reload that keeps the member."""
    upstreams = [{"name": n, "url": f"socks5://127.0.0.1:{serve(peers.named_upstream(n)).port}"} for n in "abc"]
    pools = [{"name": "one", "members": ["a", "b"]}, {"name": "two", "members": ["b"]}]
    rules = [{"match": {"port": [2]}, "route": "two"}]
    router = run(h.policy(upstreams=upstreams, pools=pools, rules=rules, default_route="one"))

    def picks(name):
        return {m["name"]: m["picks"] for m in router.get(f"/v1/pools/{name}")["members"]}

    for port in (1, 1, 1, 1, 2, 2, 2):
        who_answers(router, to_port=port)[1].close()
    assert picks("one") == {"a": 2, "b": 2} and picks("two") == {"b": 3}
    router.reload({**router.policy, "pools": [{"name": "one", "members": ["c", "b"]}, pools[1]]})
    assert picks("one") == {"c": 0, "b": 2} and picks("two") == {"b": 3}


def test_round_robin_takes_turns(pool):
    order = pool(["a", "b", "c"]).ask(12)
    assert order == order[:3] * 4 and set(order) == {"a", "b", "c"}


def test_least_connections(pool):
    p = pool(["a", "b", {"name": "c", "weight": 2}], balance="least_connections")
    assert collections.Counter(p.hold(12)) == {"a": 3, "b": 3, "c": 6}
    p.let_go("b")
    assert p.hold(3) == ["b", "b", "b"]
    assert {u["name"]: u["sessions_open"] for u in p.router.get("/v1/upstreams")["upstreams"]} == {"a": 3, "b": 3, "c": 6}


def test_random_by_weight(pool):
    """300 of them: the bounds are five standard deviations wide."""
    p = pool(["a", {"name": "b", "weight": 2}, {"name": "never", "weight": 0}], balance="random")
    counts = collections.Counter(p.ask(300))
    assert set(counts) == {"a", "b"} and 59 <= counts["a"] <= 141, counts


def test_first(pool):
    """The next one only where the first has no free slot."""
    p = pool(["a", "b", "c"], balance="first", upstream={"max_connections": 2})
    assert p.ask(5) == ["a"] * 5
    assert p.hold(5) == ["a", "a", "b", "b", "c"]
    p.let_go("a")
    assert p.hold(3) == ["a", "a", "c"]
    assert p.ask(1) == [1]
    p.router.wait_access_line(verdict="no usable upstream", stage="pick")


def test_pools_in_pools(run, serve):
    """A pool counts as a member by its weight, and is usable while one of its own is."""
    servers = {n: serve(peers.named_upstream(n)) for n in "abcd"}
    router = run(h.policy(
        upstreams=[{"name": n, "url": f"socks5://127.0.0.1:{s.port}"} for n, s in servers.items()],
        pools=[{"name": "one", "members": ["a", "b"], "health": CONNECT}, {"name": "two", "members": ["c", "d"]},
               {"name": "all", "members": ["one", {"name": "two", "weight": 2}]}], default_route="all"))

    def ask(n):
        return collections.Counter(who_answers(router)[0] for _ in range(n))

    assert ask(12) == {"a": 2, "b": 2, "c": 4, "d": 4}
    for n in "ab":
        servers[n].stop()
    for n in "ab":
        h.wait_until(f"{n} to be down", lambda: router.upstream(n)["state"] == "down")
    assert ask(6) == {"c": 3, "d": 3}


# ---- retry ----

def speaks(*script):
    return says(3, CHOSEN, SOCKS5_REQUEST, *script)


UPSTREAMS_FAULT = {
    "closes": says(), "resets": says(3, "reset"), "garbage": says(3, b"HTTP/1.1 400 No\r\n\r\n"), "no method": says(3, b"\x05\xff"),
    "REP 1": speaks(b"\x05\x01\x00\x01" + bytes(6)), "REP 1 of 3 bytes": speaks(b"\x05\x01\x00"), "silent": says("silence"),
    "silent after the request": speaks("silence"), "cut short": speaks(b"\x05\x00\x00"),
}


@pytest.mark.parametrize("what", ["refuses the connection", *UPSTREAMS_FAULT])
def test_retry_where_the_upstream_is_at_fault(pool, what):
    p = pool(["bad", "good"], balance="first", retry={"attempts": 1}, handlers={"bad": UPSTREAMS_FAULT.get(what, says())},
             timeouts={"connect": f"{int(2 * h.SLOW)}s"} if "silent" in what else {})
    if what not in UPSTREAMS_FAULT:
        p.kill("bad")
    assert p.ask(2) == ["good", "good"]
    lines = p.router.access_lines(2)
    assert [(line["attempts"], line["path"], line["verdict"]) for line in lines] == [(2, "good", "granted")] * 2
    assert p.router.upstream("bad")["failures_total"] == 2 and p.router.upstream("good")["failures_total"] == 0


@pytest.mark.parametrize("rep", [2, 3, 4, 5, 6, 7, 8])
def test_no_retry_where_the_destination_is(pool, rep):
    """It goes back to the client at once, and is nobody's failure."""
    p = pool(["a", "b"], balance="first", retry={"attempts": 3}, handlers={"a": speaks(bytes([5, rep]) + b"\x00\x01" + bytes(6))})
    assert p.ask() == [rep]
    assert p.servers["b"].accepted == 0 and p.router.upstream("a")["failures_total"] == 0


@pytest.mark.parametrize("attempts, tried", [(None, 3), (0, 1), (1, 2), (2, 3), (9, 4)])
def test_retry_is_bounded(pool, attempts, tried):
    """By the number of attempts (two if nothing is said), and each member is tried once."""
    bad = says(3)
    p = pool(list("abcd"), balance="first", handlers={n: bad for n in "abcd"}, **({} if attempts is None else {"retry": {"attempts": attempts}}))
    assert p.ask() == [1]
    assert sum(s.accepted for s in p.servers.values()) == tried and max(s.accepted for s in p.servers.values()) == 1
    assert p.router.access_lines()[0].get("attempts", 1) == tried


def test_the_client_gets_the_last_attempts_answer(pool):
    p = pool(["bad", "no"], balance="first", retry={"attempts": 1},
             handlers={"bad": says(3), "no": speaks(b"\x05\x05\x00\x01" + bytes(6))})
    assert p.ask() == [5]


# ---- tiers and health ----

def test_tiers(pool):
    """A higher tier while no member of a lower one is usable, and not when they are only busy."""
    p = pool(["a", "b", {"name": "c", "tier": 1}, {"name": "d", "tier": 2}], health=CONNECT, upstream={"max_connections": 2})
    for n in p.names:
        p.wait_state(n, "up")
    assert set(p.ask(8)) == {"a", "b"}
    p.kill("a", "b")
    p.wait_state("a", "down")
    p.wait_state("b", "down")
    assert set(p.ask(4)) == {"c"}
    p.start("b")
    p.wait_state("b", "up")
    assert set(p.ask(4)) == {"b"}
    assert p.hold(2) == ["b", "b"] and p.ask() == [1]


def test_a_dead_member_is_left_out_and_comes_back(pool):
    p = pool(["a", "b"], health=CONNECT)
    p.wait_state("a", "up")
    p.kill("a")
    p.wait_state("a", "down")
    assert p.ask(6) == ["b"] * 6
    assert p.router.upstream("a")["failures_total"] == 0
    p.start("a")
    p.wait_state("a", "up")
    assert sorted(p.ask(6)) == ["a"] * 3 + ["b"] * 3

    def changes():
        return [e["message"] for e in p.router.log_entries() if "upstream is" in e["message"] and e["upstream"] == "a"]

    h.wait_until("the log to tell", lambda: changes()[-2:] == ["upstream is down", "upstream is up"])


def test_a_session_outlives_the_verdict_on_its_upstream(pool):
    """It is the way there that is down; a connection that stands is not cut."""
    p = pool(["a", "b"], health=CONNECT, balance="first")
    p.wait_state("a", "up")
    assert p.hold() == ["a"]
    a = p.servers["a"]
    a.socket.close()  # nobody new gets in
    h.wait_until("a to be down", lambda: p.router.upstream("a")["state"] == "down")
    s = p.held[0][1]
    s.sendall(b"still here")
    assert h.recv_exactly(s, 10) == b"still here"


def test_rise_and_fall(pool):
    p = pool(["a"], health={**CONNECT, "rise": 3, "fall": 3})
    p.wait_state("a", "up")
    p.kill("a")
    p.wait_state("a", "down")
    before = p.router.upstream("a")["last_check"]["at"]
    p.start("a")
    p.wait_state("a", "up")
    h.wait_until("three checks", lambda: p.servers["a"].accepted >= 3)
    assert before != p.router.upstream("a")["last_check"]["at"]


def test_a_tunnel_check_sees_what_a_connection_does_not(pool):
    """The upstream takes connections and greets, but grants nothing; then it does again."""
    works = True

    def moody(conn, server):
        if works:
            peers.named_upstream("a")(conn, server)
        else:
            says(3, CHOSEN, SOCKS5_REQUEST, b"\x05\x01\x00\x01" + bytes(6))(conn, server)

    p = pool(["a", "b"], handlers={"a": moody}, health={"check": "tunnel", "target": "127.0.0.1:7", **QUICK})
    p.wait_state("a", "up")
    works = False
    p.wait_state("a", "down")
    assert p.ask(4) == ["b"] * 4
    assert p.router.upstream("a")["last_check"]["ok"] is False
    works = True
    p.wait_state("a", "up")
    assert ("127.0.0.1", 7) in {(host, port) for _, host, port in p.servers["b"].notes}
    assert "a" in p.ask(2)


def test_all_down_is_told_and_never_direct(pool, serve):
    """Neither in a pool with health checks nor in one that only tries, nor within a chain."""
    target = serve(h.echo)
    p = pool(["a", "b"], health=CONNECT, retry={"attempts": 3})
    p.wait_state("a", "up")
    p.kill("a", "b")
    for way in ("socks4", "socks5", "http"):  # before anybody has noticed
        assert not h.ASK[way](p.router.front, "127.0.0.1", target.port)[1]
    p.wait_state("a", "down")
    p.wait_state("b", "down")
    assert h.socks5(p.router.front, "127.0.0.1", target.port)[1] == 1
    assert h.socks4(p.router.front, "127.0.0.1", target.port)[1] == 91
    assert h.http_connect(p.router.front, "127.0.0.1", target.port)[1] == 503
    assert target.accepted == 0
    p.router.wait_access_line(verdict="no usable upstream", protocol="http", reply=503)
    ready = p.router.call("GET", "/readyz")
    assert ready.status == 503 and b"no usable upstream" in ready.body
    p.start("b")
    p.wait_state("b", "up")
    assert p.router.call("GET", "/readyz").status == 200


def test_in_a_chain_the_hop_at_fault_is_the_one_that_is_down(run, serve, started):
    """Members that are chains over a common first hop: the check goes the whole way."""
    first = run(h.policy())
    good, bad = serve(peers.named_upstream("good")), started(h.Server(says(3)))
    router = run(h.policy(
        upstreams=[{"name": "first", "url": f"socks5://127.0.0.1:{first.front}"}, {"name": "good", "url": f"socks5://127.0.0.1:{good.port}"},
                   {"name": "bad", "url": f"socks5://127.0.0.1:{bad.port}"}],
        chains=[{"name": "over-good", "hops": ["first", "good"]}, {"name": "over-bad", "hops": ["first", "bad"]}],
        pools=[{"name": "pool", "members": ["over-good", "over-bad"], "health": {"check": "tunnel", "target": "127.0.0.1:7", **QUICK}}],
        default_route="pool"))
    h.wait_until("bad to be down", lambda: router.upstream("bad")["state"] == "down")
    h.wait_until("the others to be up", lambda: {router.upstream(n)["state"] for n in ("first", "good")} == {"up"})
    assert [who_answers(router)[0] for _ in range(4)] == ["good"] * 4


def test_checks_come_at_their_interval(pool):
    """Not all at once, nor all the time: about ten in a second, for each member."""
    p = pool(["a", "b"], health={**CONNECT, "jitter": "50%"})
    h.wait_until("ten checks", lambda: p.servers["a"].accepted >= 10 and p.servers["b"].accepted >= 10)
    assert abs(p.servers["a"].accepted - p.servers["b"].accepted) <= 8
