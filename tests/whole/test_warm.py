"""`pipeline` and `warm` with real and scripted upstreams: what they say, what is kept ready, and that no client notices when it dies."""
import signal

import harness as h
from peers import Programs, named_upstream, read_socks5_request, says, who_answers

GRANTED = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x01"


def through(router, target, data=b"hello"):
    s, rep = h.socks5(router.front, "127.0.0.1", target.port)
    assert rep == 0
    with s:
        s.sendall(data)
        assert h.recv_exactly(s, len(data)) == data


def policy_of(port, **more):
    return h.policy(upstreams=[{"name": "u", "url": f"socks5://alice:secret@127.0.0.1:{port}", **more}], default_route="u")


def cool(router):
    """No more warm connections: the test is over, and what is open then would be a leak."""
    assert router.call("PUT", "/v1/policy", {**router.policy, "upstreams": [], "default_route": "direct"}).status == 200


def test_pipeline_through_debians_proxies(run, process, folder, serve):
    """Those that can take it and those that can't: the client sees no difference."""
    programs, target = Programs(process, folder), serve(h.echo)
    ports = {"micro": f"socks5://alice:secret@127.0.0.1:{programs.microsocks('alice', 'secret')}", "dante": f"socks5://127.0.0.1:{programs.danted()}",
             "web": f"http://127.0.0.1:{programs.tinyproxy()}"}
    upstreams = [{"name": name, "url": url, "pipeline": True} for name, url in ports.items()]
    for hops in (["micro"], ["dante"], ["web"], ["micro", "dante"], ["dante", "micro"]):
        r = run(h.policy(upstreams=upstreams, chains=[{"name": "c", "hops": hops}], default_route="c"))
        for _ in range(3):
            through(r, target)
        assert r.get("/v1/stats")["sessions"]["failed"] == 0
        r.stop()


def test_all_is_said_at_once(run, serve):
    """Nothing is answered before the request is there."""

    def handler(conn, server):
        server.said = h.recv_exactly(conn, 3 + 14 + 10)
        conn.sendall(b"\x05\x02" + b"\x01\x00" + GRANTED)
        h.echo(conn, server)

    upstream = serve(handler)
    r = run(policy_of(upstream.port, pipeline=True))
    s, rep = h.socks5(r.front, "192.0.2.1", 80)
    s.close()
    assert rep == 0
    assert upstream.said == b"\x05\x01\x02" + b"\x01\x05alice\x06secret" + b"\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x50"


def test_warm_is_ready_and_replaced(run, process, folder, serve):
    port, target = Programs(process, folder).microsocks("alice", "secret"), serve(h.echo)
    r = run(policy_of(port, warm=2))

    def ready():
        return r.get("/v1/upstreams/u")["warm"] == 2

    for _ in range(5):
        h.wait_until("two connections to be ready", ready)
        through(r, target)
    u = h.wait_until("the sessions to end", lambda: (u := r.get("/v1/upstreams/u"))["sessions_open"] == 0 and u)
    assert u["sessions_total"] == 5 and u["failures_total"] == 0
    r.signal(signal.SIGTERM)
    assert r.wait() == 0, "what is warm holds up no drain"


def test_warm_over_a_restart_of_the_upstream(run, serve):
    """Its connections die with it; requests go on as soon as it is back, and none fails for want of a fresh one."""
    first = serve(named_upstream("one"), port=h.free_port())
    r = run(policy_of(first.port, warm=2))
    h.wait_until("warm connections", lambda: first.accepted >= 2)
    name, s = who_answers(r)
    s.close()
    assert name == "one"
    first.stop()
    h.wait_until("them to be gone", lambda: r.get("/v1/upstreams/u")["warm"] == 0)
    serve(named_upstream("two"), port=first.port)
    name, s = who_answers(r)
    s.close()
    assert name == "two"
    h.wait_until("new ones", lambda: r.get("/v1/upstreams/u")["warm"] == 2, 40)
    cool(r)


def test_warm_that_dies_of_the_request(run, serve):
    """It looked alive: one try with a fresh connection, and nobody is blamed."""

    def handler(conn, server):
        with server.lock:
            server.n = getattr(server, "n", 0) + 1
            dies = server.n <= 2       # those that are warm
        if dies:
            says(4, b"\x05\x02", 14, b"\x01\x00", 10, "reset")(conn, server)
            return
        read_socks5_request(conn)
        conn.sendall(GRANTED)
        h.echo(conn, server)

    upstream = serve(handler)
    r = run(policy_of(upstream.port, warm=2))
    h.wait_until("warm connections", lambda: r.get("/v1/upstreams/u")["warm"] == 2 and upstream.accepted == 2)
    for _ in range(4):
        s, rep = h.socks5(r.front, "192.0.2.1", 80)
        s.close()
        assert rep == 0
    assert r.get("/v1/upstreams/u")["failures_total"] == 0
    cool(r)


def test_warm_leaves_room_below_max_connections(run, serve):
    upstream = serve(named_upstream("u"))
    r = run(policy_of(upstream.port, warm=8, max_connections=3))
    h.wait_until("warm connections", lambda: r.get("/v1/upstreams/u")["warm"] == 2)
    held = []
    for _ in range(3):
        name, s = h.wait_until("a slot", lambda: (got := who_answers(r))[1] and got)
        held.append(s)
        u = r.get("/v1/upstreams/u")
        assert u["sessions_open"] + u["warm"] <= 3, u
        h.wait_until("the upstream to have as many", lambda: len(upstream.open) <= 3)
    assert r.get("/v1/upstreams/u")["sessions_open"] == 3 and r.get("/v1/upstreams/u")["warm"] == 0
    assert who_answers(r)[0] == 1
    for s in held:
        s.close()
    cool(r)


def test_reloads_leave_nothing_behind(run, process, folder, serve):
    port, target = Programs(process, folder).microsocks("alice", "secret"), serve(h.echo)
    r = run(policy_of(port, warm=2))
    h.wait_until("warm connections", lambda: r.get("/v1/upstreams/u")["warm"] == 2)
    before = r.descriptors()
    for i in range(10):
        assert r.call("PUT", "/v1/policy", policy_of(port, warm=2, warm_max_age=f"{30 + i}s") | {"listeners": r.policy["listeners"],
                                                                                                "admin": r.policy["admin"]}).status == 200
        through(r, target)
    h.wait_until("all to be as before", lambda: r.get("/v1/upstreams/u")["warm"] == 2 and r.descriptors() <= before + 2)
    cool(r)
