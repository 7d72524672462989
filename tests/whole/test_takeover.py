"""SIGUSR2: a new process takes the sockets over; nobody is turned away, open sessions end as they began."""
import contextlib
import os
import signal
import threading

import pytest

import harness as h


def heir_of(router):
    """The pid of the process that router has started."""
    with open(f"/proc/{router.pid}/task/{router.pid}/children", encoding="ascii") as f:
        pids = f.read().split()
    return int(pids[0]) if pids else None


def stop(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    h.wait_until("the heir to end", lambda: has_ended(pid))


def has_ended(pid):
    """It is nobody's child here: whoever is to bury it may take its time."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            return f.read().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def hand_over(router, target):
    """Has router start its heir and end; the heir's pid. A session keeps the old one alive until the heir has been seen."""
    s, rep = h.socks5(router.front, "127.0.0.1", target.port)
    assert rep == 0
    router.signal(signal.SIGUSR2)
    heir = h.wait_until("the heir", lambda: heir_of(router))
    h.wait_until("the old one to drain", lambda: "handed over to a new process" in router.log())
    s.close()
    return heir


def policy():
    p = h.policy(timeouts={"drain": f"{int(15 * h.SLOW)}s"})
    p["listeners"].append({"name": "second", "listen": f"127.0.0.1:{h.free_port()}"})
    return p


def test_nobody_is_turned_away(run, serve):
    target = serve(h.echo)
    router = run(policy())
    open_session, rep = h.socks5(router.front, "127.0.0.1", target.port)
    assert rep == 0
    failures, done, ended = [], [0], threading.Event()

    def client():
        while not ended.is_set():
            try:
                s, code = h.socks5(router.front, "127.0.0.1", target.port)
                s.sendall(b"x")
                assert code == 0 and h.recv_exactly(s, 1) == b"x"
                s.close()
                done[0] += 1
            except (OSError, EOFError, AssertionError) as e:
                failures.append(repr(e))

    threads = [threading.Thread(target=client) for _ in range(4)]
    for t in threads:
        t.start()
    heir = None
    try:
        h.wait_until("some sessions", lambda: done[0] > 50)
        router.signal(signal.SIGUSR2)
        heir = h.wait_until("the heir", lambda: heir_of(router))
        h.wait_until("the old one to drain", lambda: "handed over to a new process" in router.log())
        at = done[0]
        h.wait_until("sessions of the new one", lambda: done[0] > at + 100)
        # the old process still has its session, and it works
        assert router.alive()
        open_session.sendall(b"still here")
        assert h.recv_exactly(open_session, 10) == b"still here"
        assert router.get("/v1/status")["state"] == "running"  # the API is the new one's
        open_session.close()
        assert router.wait() == 0
        ended.set()
        for t in threads:
            t.join()
        assert failures == []
        s, rep = h.socks5(router.front, "127.0.0.1", target.port)
        assert rep == 0
        s.close()
    finally:
        ended.set()
        if heir:
            stop(heir)


def test_an_heir_that_can_not_start_changes_nothing(run, serve):
    target = serve(h.echo)
    router = run(policy())
    router.write_policy('{"listeners": 1}')
    router.signal(signal.SIGUSR2)
    h.wait_until("the failure to be told", lambda: "not handed over, going on" in router.log())
    s, rep = h.socks5(router.front, "127.0.0.1", target.port)
    assert rep == 0
    s.close()
    assert router.get("/v1/status")["state"] == "running"


def test_another_number_of_workers_serves_every_socket(run, serve):
    target = serve(h.echo)
    p = policy()
    p["workers"] = 4
    router = run(p)
    p["workers"] = 1
    router.write_policy(p)
    heir = hand_over(router, target)
    try:
        assert router.wait() == 0
        for _ in range(60):  # the kernel deals them out to all four sockets
            s, rep = h.socks5(router.front, "127.0.0.1", target.port)
            assert rep == 0
            s.close()
    finally:
        stop(heir)


def test_a_unix_socket_keeps_its_path(run, serve, folder):
    target = serve(h.echo)
    path = folder / "front.sock"
    p = policy()
    p["listeners"].append({"name": "local", "listen": f"unix:{path}"})
    router = run(p)
    heir = hand_over(router, target)
    try:
        assert router.wait() == 0
        assert path.exists()
        code, _ = h.curl("--socks5", f"localhost:{router.front}", f"http://127.0.0.1:{router.api}/healthz")
        assert code == 0
        import socket

        s = socket.socket(socket.AF_UNIX)
        s.connect(str(path))
        s.sendall(b"\x05\x01\x00")
        assert h.recv_exactly(s, 2) == b"\x05\x00"
        s.sendall(b"\x05\x01\x00\x01\x7f\x00\x00\x01" + target.port.to_bytes(2, "big"))
        assert h.socks5_read_reply(s) == 0
        s.close()
    finally:
        stop(heir)


def test_sticky_tables_go_with_it(run, serve):
    target = serve(h.echo)
    p = policy()
    exits = [{"name": f"exit-{i}", "listen": f"127.0.0.1:{h.free_port()}"} for i in range(4)]
    p["listeners"] += exits
    p["upstreams"] = [{"name": f"u{i}", "url": f"socks5://{e['listen']}"} for i, e in enumerate(exits)]
    p["pools"] = [{"name": "pool", "members": [u["name"] for u in p["upstreams"]], "balance": "random",
                   "sticky": {"key": "destination", "ttl": "10m"}}]
    p["rules"] = [{"name": "out", "match": {"listener": [e["name"] for e in exits]}, "route": "direct"}]
    p["default_route"] = "pool"
    router = run(p)
    targets = [target] + [serve(h.echo) for _ in range(19)]
    for t in targets:
        s, rep = h.socks5(router.front, "127.0.0.1", t.port)
        assert rep == 0
        s.close()
    before = {e["key"]: e["member"] for e in router.get("/v1/pools/pool/sticky?limit=100")["sticky"]}
    assert len(before) == 20
    heir = hand_over(router, target)
    try:
        assert router.wait() == 0
        after = {e["key"]: e["member"] for e in router.get("/v1/pools/pool/sticky?limit=100")["sticky"]}
        assert after == before
    finally:
        stop(heir)


@pytest.mark.parametrize("first, then", [("127.0.0.1", "0.0.0.0"), ("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "127.0.0.2")])
def test_an_address_that_changed_is_opened_beside_the_old_one(run, serve, first, then):
    """The same port on another address: the old process listens on its own until the heir serves the new one."""
    target = serve(h.echo)
    p = policy()

    def listen(address, listener):
        p["listeners"][listener].update(listen=f"{address}:{p['listeners'][listener]['listen'].rsplit(':')[-1]}", allow_open=True)

    listen(first, 0)
    router = run(p)
    listen(then, 0)
    router.write_policy(p)
    failures, ended = [], threading.Event()

    def client():
        """Of the other listener, which stays as it was."""
        while not ended.is_set():
            try:
                s, code = h.socks5(router.port_of(1), "127.0.0.1", target.port)
                assert code == 0
                s.close()
            except (OSError, EOFError, AssertionError) as e:
                failures.append(repr(e))

    thread = threading.Thread(target=client)
    thread.start()
    heir = None
    try:
        heir = hand_over(router, target)
        assert router.wait() == 0
        for _ in range(20):
            s = h.connect(router.front, "127.0.0.1" if then == "127.0.0.1" else "127.0.0.2")
            s.sendall(h.socks4_request("127.0.0.1", target.port))
            assert h.recv_exactly(s, 8)[1] == 90
            s.close()
        assert h.port_answers(router.front, "127.0.0.1") == (then != "127.0.0.2")
        assert h.port_answers(router.front, "127.0.0.2") == (then != "127.0.0.1")
        assert router.get("/v1/status")["state"] == "running"
    finally:
        ended.set()
        thread.join()
        if heir:
            stop(heir)
    assert failures == []


@pytest.mark.parametrize("first, then", [("127.0.0.1", "0.0.0.0"), ("0.0.0.0", "127.0.0.1")])
def test_the_api_moves_on_its_port_too(run, serve, folder, first, then):
    target = serve(h.echo)
    p = policy()
    p["admin"] = {"listen": f"{first}:{h.free_port()}", "token": "a-token-of-some-length"}
    headers = {"Authorization": f"Bearer {p['admin']['token']}"}
    router = run(p)
    p["admin"]["listen"] = f"{then}:{router.api}"
    router.write_policy(p)
    heir = hand_over(router, target)
    try:
        assert router.wait() == 0
        assert router.get("/v1/status", headers=headers)["state"] == "running"
        assert h.port_answers(router.api, "127.0.0.2") == (then == "0.0.0.0")
    finally:
        stop(heir)
