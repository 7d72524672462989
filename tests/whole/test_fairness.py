"""Clients that take their time, hold on to half a handshake or move all they can: others on the same worker go on meanwhile.

Nothing is timed: what must happen has to happen while the others still hold on, within the usual deadline.
"""
import itertools
import os
import pathlib
import socket

import pytest

import harness as h

ONE_WORKER = {"workers": 1, "log": {"format": "json", "level": "info"}}
MESSAGE = b"x" * 1000


def endless(conn, _server):
    """Sends until the peer has gone."""
    block = b"s" * 65536
    while True:
        conn.sendall(block)


def tunnel(router, target):
    s, rep = h.socks5(router.front, "127.0.0.1", target.port)
    assert rep == 0
    return s


def assert_goes_on(established, router, target):
    """On a session of before, and on one that begins now."""
    for s in (established, tunnel(router, target)):
        for _ in range(20):
            s.sendall(MESSAGE)
            assert h.recv_exactly(s, len(MESSAGE)) == MESSAGE


def test_readers_of_a_byte(run, serve):
    router, target, source = run(h.policy(**ONE_WORKER)), serve(h.echo), serve(endless)
    established = tunnel(router, target)
    slow = [tunnel(router, source) for _ in range(8)]
    held = []
    for _ in range(5):
        for s in slow:
            assert h.recv_exactly(s, 1) == b"s"
        assert_goes_on(established, router, target)
        held.append(router.stats()["memory_bytes"]["buffers"])
    # A short send leaves at most one buffer behind, however long its reader takes.
    assert max(held) <= len(slow) * 16384, held


def test_half_open_handshakes(run, serve):
    router, target = run(h.policy(timeouts={"handshake": "10m"}, **ONE_WORKER)), serve(h.echo)
    established = tunnel(router, target)
    parts = itertools.cycle([b"", b"\x05", b"\x05\x02\x00", b"\x04\x01", b"CONNECT 127.0.0.1:1 HTTP/1.1\r\n"])
    for _ in range(5):
        for part in itertools.islice(parts, 60):
            h.connect(router.front).sendall(part)
        assert_goes_on(established, router, target)
    assert router.stats()["sessions"]["open"] >= 300


def test_beside_streams_without_end(run, serve):
    router, target, source = run(h.policy(**ONE_WORKER)), serve(h.echo), serve(endless)
    established = tunnel(router, target)
    streams = [tunnel(router, source) for _ in range(8)]
    taken = [0] * len(streams)

    def drain():
        for i, s in enumerate(streams):
            s.setblocking(False)
            try:
                taken[i] += len(s.recv(1 << 20))
            except BlockingIOError:
                pass

    while min(taken) < 4 << 20:
        drain()
        established.sendall(MESSAGE)
        assert h.recv_exactly(established, len(MESSAGE)) == MESSAGE
    for s in streams:
        s.setblocking(True)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")


def worker_schedulers(router):
    tasks = f"/proc/{router.pid}/task"
    names = {task: pathlib.Path(tasks, task, "comm").read_text().strip() for task in os.listdir(tasks)}
    return [os.sched_getscheduler(int(task)) for task, name in names.items() if name.startswith("worker-")]


def test_workers_take_no_core_from_who_runs(run):
    router = run(h.policy(workers=2))
    h.wait_until("both to be batch threads", lambda: worker_schedulers(router) == [os.SCHED_BATCH] * 2)


def test_a_scheduling_policy_of_the_operators_choice_stays(run, serve):
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except PermissionError:
        pytest.skip("may not choose a real-time policy")
    try:
        router = run(h.policy(workers=2))
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    tunnel(router, serve(h.echo))   # so one has begun to run
    assert worker_schedulers(router) == [os.SCHED_RR] * 2
