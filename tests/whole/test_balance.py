"""What happens around a pool's choice, with the whole program: hashing, sticky keys, their table in the API, kept across reloads."""
import os
import subprocess
import threading
import time
from urllib.parse import quote

import pytest

import harness as h
import peers
from peers import says, who_answers
from test_pools import Pool


USERS = [f"user{i}" for i in range(24)]


@pytest.fixture
def pool(run, started):
    return lambda members, **kw: Pool(run, started, members, **kw)


def with_users():
    """What a policy needs to know the users: their password is x."""
    done = subprocess.run([h.need("openssl"), "passwd", "-6", "-salt", "salt", "x"], capture_output=True, text=True, check=True)
    users = [{"name": name, "password_hash": done.stdout.strip()} for name in ("alice", *USERS)]
    return {"listeners": [{"name": "front", "listen": f"127.0.0.1:{h.free_port()}", "auth": "all"}],
            "auth": [{"name": "all", "methods": ["userpass"], "users": users}]}


def as_user(router, user, port=1):
    """Who answers a user's request; its session ends at once."""
    s, rep = h.socks5(router.front, "a.example", port, user=user, password="x")
    try:
        return s.recv(64).decode().strip() if rep == 0 else rep
    finally:
        s.close()


def test_consistent_hash_is_the_same_on_every_node(pool, run):
    """Two routers of the same policy; a member that goes takes only its keys along, and gets them back."""
    p = pool(["a", "b", "c"], balance="consistent_hash", hash_key="user", front=with_users())
    other = run({**p.router.policy, **with_users(), "admin": {"listen": f"127.0.0.1:{h.free_port()}"}})
    users = USERS
    first = {u: as_user(p.router, u) for u in users}
    assert set(first.values()) == {"a", "b", "c"}
    assert {u: as_user(other, u) for u in users} == first
    for state in "disabled", "enabled":
        assert p.router.call("PATCH", "/v1/upstreams/b", {"state": state}).status == 200
        now = {u: as_user(p.router, u) for u in users}
        assert all(now[u] == first[u] for u in users if state == "enabled" or first[u] != "b")
        assert state == "enabled" or "b" not in now.values()


def test_sticky_sessions(pool):
    """The session is what stands behind + in the user name; the table is in the API, and outlives a reload."""
    p = pool(["a", "b", "c"], sticky={"key": "session", "ttl": "10m"}, front=with_users())
    where = {s: as_user(p.router, f"alice+{s}") for s in ("s1", "s2", "s3", "s4")}
    for _ in range(3):
        assert {s: as_user(p.router, f"alice+{s}") for s in where} == where
    listed = p.router.get("/v1/pools/pool/sticky")
    assert listed["total"] == 4 and {e["key"]: e["member"] for e in listed["sticky"]} == where
    assert all(500 < e["expires_in_seconds"] <= 600 for e in listed["sticky"])
    # a reload with the members in another order, and another one in front
    changed = {**p.router.policy, "comment": "another"}
    changed["pools"] = [{**changed["pools"][0], "members": ["c", "b", "a"]}]
    assert p.router.call("PUT", "/v1/policy", changed).status == 200
    assert {s: as_user(p.router, f"alice+{s}") for s in where} == where
    # pinned by hand, and let go
    put = p.router.call("PUT", "/v1/pools/pool/sticky/s1", {"member": "b"})
    assert put.status == 200 and put.json["member"] == "b"
    assert as_user(p.router, "alice+s1") == "b"
    assert p.router.call("PUT", "/v1/pools/pool/sticky/s1", {"member": "nobody"}).status == 404
    assert p.router.call("PUT", "/v1/pools/pool/sticky/s1", {"to": "b"}).status == 400
    assert p.router.call("DELETE", "/v1/pools/pool/sticky/s1").status == 204
    assert p.router.call("DELETE", "/v1/pools/pool/sticky/s1").status == 404
    assert p.router.call("DELETE", "/v1/pools/pool/sticky").status == 204
    assert p.router.get("/v1/pools/pool/sticky")["total"] == 0
    assert p.router.call("GET", "/v1/pools/nobody/sticky").status == 404


@pytest.mark.parametrize("kind, written, key, none", [
    ("client_ip", "::ffff:127.0.0.1", "127.0.0.1", "localhost"),
    ("destination_host", "Example.COM.", "example.com", "a..b"),
    ("destination", "Example.COM:80", "example.com:80", "example.com"),
])
def test_a_sticky_key_is_met_however_it_is_written(pool, kind, written, key, none):
    p = pool(["a", "b"], sticky={"key": kind})
    path = "/v1/pools/pool/sticky/"
    for member in ("a", "b"):
        put = p.router.call("PUT", path + written, {"member": member})
        assert put.status == 200 and put.json["key"] == key
        name, s = who_answers(p.router, host="example.com")
        s.close()
        assert name == member
    assert [e["key"] for e in p.router.get("/v1/pools/pool/sticky")["sticky"]] == [key]
    assert p.router.call("PUT", path + none, {"member": "a"}).status == 400
    assert p.router.call("DELETE", path + written).status == 204


def served(router, host):
    name, s = who_answers(router, host=host)
    s.close()
    return name


@pytest.mark.parametrize("kind, key", [("destination_host", "xn--bcher-kva.test"), ("destination", "xn--bcher-kva.test:80")])
def test_a_sticky_key_is_one_in_either_script(pool, kind, key):
    p = pool(["a", "b"], sticky={"key": kind})
    mine, *rest = [served(p.router, host) for host in ("bücher.test", "xn--bcher-kva.test", "BÜCHER.test")]
    assert rest == [mine, mine]
    assert [e["key"] for e in p.router.get("/v1/pools/pool/sticky")["sticky"]] == [key]
    other = {"a": "b", "b": "a"}[mine]
    put = p.router.call("PUT", "/v1/pools/pool/sticky/" + quote(key.replace("xn--bcher-kva", "Bücher")), {"member": other})
    assert put.status == 200 and put.json["key"] == key
    assert [served(p.router, host) for host in ("bücher.test", "xn--bcher-kva.test")] == [other, other]
    for host in ("bücher.test", "xn--bcher-kva.test"):
        assert p.router.get(f"/v1/explain?to={quote(host)}:80")["path"] == [other]


def test_a_hash_key_is_one_in_either_script(pool):
    p = pool(["a", "b", "c"], balance="consistent_hash", hash_key="destination_host")
    names = [f"bücher{i}.test" for i in range(12)]
    first = [served(p.router, name) for name in names]
    assert len(set(first)) > 1
    assert [served(p.router, name.encode("idna").decode()) for name in names] == first


def test_a_sticky_key_moves_when_its_member_goes(pool):
    p = pool(["a", "b"], sticky={"key": "user"}, retry={"attempts": 1}, front=with_users())
    mine = as_user(p.router, "alice")
    p.kill(mine)
    moved = as_user(p.router, "alice")
    assert {mine, moved} == {"a", "b"}
    p.start(mine)
    assert [as_user(p.router, "alice") for _ in range(4)] == [moved] * 4


def test_without_repin_a_key_is_refused(pool):
    p = pool(["a", "b"], sticky={"key": "user", "repin": False}, front=with_users())
    mine = as_user(p.router, "alice")
    assert p.router.call("PATCH", f"/v1/upstreams/{mine}", {"state": "draining"}).status == 200
    assert as_user(p.router, "alice") == 1
    assert p.router.call("PATCH", f"/v1/upstreams/{mine}", {"state": "enabled"}).status == 200
    assert as_user(p.router, "alice") == mine


def test_the_retry_budget_bounds_a_storm(pool):
    """All members refuse: each request may cost one more attempt, but only until the budget is spent."""
    p = pool(["a", "b"], retry={"attempts": 1, "budget_percent": 10})
    p.kill("a", "b")
    requests, began = 200, time.monotonic()
    assert set(p.ask(requests)) == {1}
    spells = 1 + int((time.monotonic() - began) / 10)     # ten seconds have a budget, the next ones another
    failures = sum(u["failures_total"] for u in p.router.get("/v1/upstreams")["upstreams"])
    assert requests + 100 <= failures <= requests + spells * (100 + requests // 10)


def waiting(router):
    return router.get("/v1/pools/pool")["waiting"]


def test_requests_wait_for_a_slot(pool):
    """In order, over both workers, for the first slot that any member frees; who leaves is out of the line."""
    p = pool(["a", "b"], balance="first", upstream={"max_connections": 1}, queue={"max": 3, "timeout": "10m"})
    assert p.hold(2) == ["a", "b"]
    lines = []
    for i in range(3):
        s = h.connect(p.router.front)
        s.sendall(b"\x05\x01\x00" + b"\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50")
        lines.append(s)
        h.wait_until("it to wait", lambda: waiting(p.router) == i + 1)
    assert p.ask(1) == [1]  # no place in the queue
    lines.pop(1).close()
    h.wait_until("it to have left", lambda: waiting(p.router) == 2)
    for name, s in zip("ba", lines):
        next(c for who, c in p.held if who == name).close()
        assert h.recv_exactly(s, 2) == b"\x05\x00" and h.socks5_read_reply(s) == 0
        assert h.recv_exactly(s, 2).decode() == name + "\n"
    assert waiting(p.router) == 0
    for s in lines:
        s.close()
    for name in "ab":
        h.wait_until("all slots to be back", lambda: p.router.upstream(name)["sessions_open"] == 0)


def test_who_waits_too_long_or_for_nobody_is_told(pool):
    p = pool(["a"], upstream={"max_connections": 1}, queue={"timeout": "300ms"})
    p.hold(1)
    assert p.ask(1) == [1]
    p.router.wait_access_line(detail="no slot came free in time")
    s = h.connect(p.router.front)
    s.sendall(b"\x05\x01\x00" + b"\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50")
    h.wait_until("it to wait", lambda: waiting(p.router) == 1)
    assert p.router.call("PATCH", "/v1/upstreams/a", {"state": "disabled"}).status == 200
    assert h.recv_exactly(s, 2) == b"\x05\x00" and h.socks5_read_reply(s) == 1


def test_many_share_few_slots(pool):
    """40 clients at once for 4 slots: all are served, never more than 4 at a time, and no slot is lost."""
    p = pool(["a", "b"], upstream={"max_connections": 2}, queue={"max": 100, "timeout": "10m"})
    answers, most = [], []

    def client():
        who, s = who_answers(p.router)
        if s is not None:
            most.append(sum(u["sessions_open"] for u in p.router.get("/v1/upstreams")["upstreams"]))
            s.close()
        answers.append(who)

    threads = [threading.Thread(target=client) for _ in range(40)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(answers) == 40 and set(answers) <= {"a", "b"}, answers
    assert max(most) <= 4 and waiting(p.router) == 0
    h.wait_until("all slots to be back", lambda: all(u["sessions_open"] == 0 for u in p.router.get("/v1/upstreams")["upstreams"]))


def test_a_member_that_fails_requests_is_ejected(pool):
    """It passes the check (it listens), but no request: out after three, back after one trial."""
    out = int(3 * h.SLOW)  # long enough for the requests below
    handlers = {"bad": says(3, b"\x05\x00", 10, b"\x05\x01\x00\x01\x00\x00\x00\x00\x00\x00")}
    p = pool(["good", "bad"], handlers=handlers, retry={"attempts": 1}, health={"check": "connect", "interval": "100ms"},
             outlier={"failures": 3, "ejection": f"{out}s", "max_ejected_percent": 50})
    assert p.ask(8) == ["good"] * 8
    assert p.router.upstream("bad")["state"] == "ejected"
    assert p.router.upstream("bad")["failures_total"] == 3
    p.kill("bad")
    p.handlers["bad"] = peers.named_upstream("bad")
    p.start("bad")
    h.wait_until("its return", lambda: p.router.upstream("bad")["state"] == "up" or not p.ask(1))
    assert set(p.ask(4)) == {"good", "bad"}


# ---- under load ----

class Load:
    """Clients that send random bytes through the router, one transfer after the other, and compare what echoes back."""

    def __init__(self, router, n=8, size=60_000):
        self.router, self.size = router, size
        self.good, self.refused, self.broken = 0, 0, []
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self._run) for _ in range(n)]
        for t in self.threads:
            t.start()

    def _run(self):
        while not self.stopping.is_set():
            outcome = self._transfer(os.urandom(self.size))
            with self.lock:
                if outcome is None:
                    self.good += 1
                elif isinstance(outcome, int):
                    self.refused += 1
                else:
                    self.broken.append(outcome)

    def _transfer(self, body):
        """None: all came back; a number: the REP that refused it; else whose session ended."""
        who, s = who_answers(self.router)
        if s is None:
            return who
        with s:
            try:
                s.sendall(body)
                return None if h.recv_exactly(s, len(body)) == body else "corrupt"
            except (OSError, EOFError):
                return who

    def wait_good(self, n):
        target = self.good + n
        h.wait_until(f"{n} more transfers", lambda: self.good >= target)

    def stop(self):
        self.stopping.set()
        for t in self.threads:
            t.join()


def test_only_sessions_of_the_dead_end(pool):
    """Upstreams are killed and come back, under another name, under load: no client is refused, and what breaks was theirs."""
    p = pool(["a", "b", "c"], balance="two_choices", retry={"attempts": 2}, slow_start="1s")
    load, killed = Load(p.router), set()
    try:
        for n, name in enumerate("abc" * 2):
            load.wait_good(40)
            assert set(load.broken) <= killed
            killed.add(name if n < 3 else f"{name} again")
            p.kill(name)
            load.wait_good(40)
            p.handlers[name] = peers.named_upstream(f"{name} again" if n < 3 else f"{name} once more")
            p.start(name)
    finally:
        load.stop()
    assert load.refused == 0 and set(load.broken) <= killed
    assert len(load.broken) <= 6 * 8, load.broken
    h.wait_until("all slots to be back", lambda: all(u["sessions_open"] == 0 for u in p.router.get("/v1/upstreams")["upstreams"]))


def test_reloads_under_load(pool):
    """200 policies, each with other weights, members in another order, and another balance: no session fails."""
    p = pool(["a", "b", "c"], sticky={"key": "client_ip"}, queue={"max": 100, "timeout": "10m"}, upstream={"max_connections": 6})
    descriptors = p.router.descriptors()
    load = Load(p.router, size=20_000)
    balances = ["round_robin", "least_connections", "two_choices", "least_latency", "random", "consistent_hash", "first"]
    try:
        for i in range(200):
            changed = {**p.router.policy, "comment": f"{i}"}
            members = [{"name": n, "weight": 1 + (i + k) % 3} for k, n in enumerate("abc")]
            changed["pools"] = [{**changed["pools"][0], "members": members[i % 3:] + members[:i % 3], "balance": balances[i % 7]}]
            assert p.router.call("PUT", "/v1/policy", changed).status == 200
        load.wait_good(200)
    finally:
        load.stop()
    assert (load.refused, load.broken) == (0, [])
    h.wait_until("all slots to be back", lambda: all(u["sessions_open"] == 0 for u in p.router.get("/v1/upstreams")["upstreams"]))
    h.wait_until("its descriptors to be back", lambda: p.router.descriptors() <= descriptors + 2)


def test_ten_thousand_upstreams_by_put(pool):
    """In a second of CPU time, and sessions go on."""
    p = pool(["a", "b"])
    p.hold(2)
    changed = dict(p.router.policy)
    more = [{"name": f"u{i}", "url": f"socks5://10.9.{i >> 8}.{i & 255}:1080"} for i in range(10_000)]
    changed["upstreams"] = changed["upstreams"] + more
    changed["pools"] = [*changed["pools"], {"name": "more", "members": [u["name"] for u in more], "balance": "consistent_hash"}]
    before = p.router.cpu_seconds()
    assert p.router.call("PUT", "/v1/policy", changed).status == 200
    assert p.router.cpu_seconds() - before < 1 * h.SLOW
    for _, s in p.held:
        s.sendall(b"still here")
        assert h.recv_exactly(s, 10) == b"still here"
    assert set(p.ask(4)) == {"a", "b"}
