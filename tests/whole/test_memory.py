"""What sessions hold: little while they are idle, nothing once they are gone."""

import pytest

import harness as h

QUIET = {"workers": 1, "log": {"format": "json", "level": "info"}}
MANY = 1000


def sanitized():
    with open(h.BINARY, "rb") as f:
        return b"__asan_init" in f.read() or b"__tsan_init" in f.read()


def tunnels(router, target, n):
    made = []
    for _ in range(n):
        s, rep = h.socks5(router.front, "127.0.0.1", target.port)
        assert rep == 0
        s.sendall(b"e")
        assert h.recv_exactly(s, 1) == b"e"
        made.append(s)
    return made


def end(sockets):
    for s in sockets:
        s.close()
    h.opened.clear()


def session_bytes(router):
    return router.stats()["memory_bytes"]["sessions"]


def test_memory_goes_back_after_a_peak(run, serve):
    target = serve(h.echo)
    router = run(h.policy(**QUIET))
    end(tunnels(router, target, 10))
    router.wait_idle()
    before, resident = session_bytes(router), router.memory_kib()
    open_now = tunnels(router, target, MANY)
    peak = session_bytes(router)
    assert peak >= before + MANY * 512
    end(open_now)
    router.wait_idle()
    # All but a little, kept for those who come next.
    h.wait_until("the sessions' memory to go back", lambda: session_bytes(router) <= before + 320 * 1024)
    if not sanitized():
        assert router.memory_kib() <= resident + 1024


def test_an_idle_session_is_small(run, serve):
    if sanitized():
        pytest.skip("a sanitizer's memory is counted, too")
    target = serve(h.echo)
    router = run(h.policy(**QUIET))
    end(tunnels(router, target, 100))
    router.wait_idle()
    resident = router.memory_kib()
    open_now = tunnels(router, target, MANY)
    # 0.8 kB in the long run; here whole pages, and a first few of everything, count as well.
    assert (router.memory_kib() - resident) / MANY < 1.5
    assert router.stats()["memory_bytes"]["buffers"] == 0
    end(open_now)


def test_a_session_through_tls_holds_no_record_buffers(run, serve, programs, certificates):
    if sanitized():
        pytest.skip("a sanitizer's memory is counted, too")
    target = serve(h.echo)
    inner = run(h.policy(**QUIET))
    outside = programs.haproxy(inner.front, certificates.good)
    router = run(h.policy(upstreams=[{"name": "tls", "url": f"socks5+tls://127.0.0.1:{outside}",
                                      "tls": {"ca": str(certificates.ca)}}], default_route="tls", **QUIET))
    end(tunnels(router, target, 20))
    router.wait_idle()
    resident = router.memory_kib()
    n = 100
    open_now = tunnels(router, target, n)
    # OpenSSL's own for a connection is about 15 kB; the two buffers that a record wants would be 34 more.
    assert (router.memory_kib() - resident) / n < 30
    assert router.stats()["memory_bytes"]["buffers"] == 0
    end(open_now)
