"""The log: one access line for each session, hostile bytes escaped, and nobody waits for who reads it."""
import fcntl
import json
import os
import re
import select

import pytest

import harness as h
import peers


def text_entries(log):
    """The access lines of a text log, as dicts: key=word or key="quoted"."""
    entries = []
    for line in log.splitlines():
        if m := re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z info session((?: \w+=(?:[!-~]+|\"[^\"\n]*\"))*)", line):
            entries.append({k: v.strip('"') for k, v in re.findall(r" (\w+)=(\"[^\"]*\"|[!-~]+)", m[1])})
    return entries


@pytest.mark.parametrize("format_", ["json", "text"])
def test_one_line_tells_all_of_a_session(run, serve, format_):
    """Client, user, listener, protocol, command, destination, rule, route, the way it took, what it was told, bytes, times."""
    exit_ = run(h.policy())
    target = serve(h.echo)
    router = run(h.policy(
        [h.listener("staff", auth="staff")], auth=[{"name": "staff", "methods": ["userpass"], "users": h.users("alice")}],
        log={"format": format_, "level": "error"},
        upstreams=[{"name": "one", "url": f"socks5://127.0.0.1:{exit_.front}"}, {"name": "two", "url": f"http://127.0.0.1:{exit_.front}"},
                   {"name": "dead", "url": f"socks5://127.0.0.1:{h.free_port()}"}],
        pools=[{"name": "pool", "members": ["dead", "two"], "balance": "first"}], chains=[{"name": "chain", "hops": ["one", "pool"]}],
        rules=[{"name": "alice-out", "match": {"user": ["alice"]}, "route": "chain"}]))
    s, rep = h.socks5(router.front, "127.0.0.1", target.port, "alice+s7")
    assert rep == 0
    client = "%s:%d" % s.getsockname()
    s.sendall(b"x" * 1000)
    h.recv_exactly(s, 1000)
    s.sendall(b"x" * 234)
    h.recv_exactly(s, 234)
    s.shutdown(1)
    h.recv_all(s)
    s.close()

    def lines():
        found = router.log_entries("session") if format_ == "json" else text_entries(router.log())
        return [line for line in found if "to" in line]

    line = h.wait_until("the line", lines)[0]
    known = {"client": client, "user": "alice", "listener": "staff", "protocol": "socks5", "command": "connect", "to": f"127.0.0.1:{target.port}",
             "rule": "alice-out", "route": "chain", "path": "one>two", "attempts": 2, "reply": 0, "verdict": "granted", "end": "done",
             "up": 1234, "down": 1234}
    if format_ == "text":
        known = {k: str(v) for k, v in known.items()}
    assert {k: line.get(k) for k in known} == known
    assert int(line["id"]) > 0
    hops = dict(part.split("=") for part in line["hops_ms"].split(","))
    assert set(hops) == {"one", "two"} and all(float(t) > 0 for t in hops.values())
    assert 0 < float(line["handshake_ms"]) <= float(line["total_ms"]) <= float(line["duration_ms"])


def test_a_line_for_every_end(run, serve, started):
    """However a session ends, there is one line, with what is known by then."""
    router = run(h.policy(
        [h.listener(), h.listener("staff", auth="staff")], auth=[{"name": "staff", "methods": ["userpass"], "users": h.users("alice")}],
        rules=[{"name": "no", "match": {"port": [1]}, "route": "reject"}], timeouts={"connect": "500ms", "handshake": "2s"}))
    silent = started(h.SilentPort())
    wanted = [
        (lambda: h.socks5(router.front, "127.0.0.1", 1)[0], {"rule": "no", "route": "reject", "reply": 2, "verdict": "rejected by policy", "end": "refused"}),
        (lambda: h.http_connect(router.front, "127.0.0.1", 1)[0], {"protocol": "http", "reply": 403, "end": "refused"}),
        (lambda: h.socks4(router.front, "127.0.0.1", silent.port)[0],
         {"protocol": "socks4", "rule": "default", "route": "direct", "reply": 91, "stage": "connect", "verdict": "no answer in time"}),
        (lambda: h.socks5(router.port_of(1), "127.0.0.1", 80, "alice", "wrong")[0],
         {"listener": "staff", "verdict": "bad credentials", "end": "refused", "protocol": "socks5"}),
        (lambda: h.connect(router.port_of(1)), {"listener": "staff", "end": "handshake timeout"}),
    ]
    for act, _ in wanted:
        s = act()
        h.recv_all(s)
        s.close()
    for _, values in wanted:
        router.wait_access_line(**values)
    assert "wrong" not in router.log() and "secret" not in router.log()


HOSTILE = [b'quote".test', b"back\\slash.test", b"c1\x9b31m.test", b"bad\xff\xfe.test", "umlaut-ü.test".encode(), "turn\u202edaer.test".encode(),
           b"a=b.test", b"'; id ;'.test", b"x" * 255]


@pytest.mark.parametrize("format_", ["json", "text"])
def test_hostile_names_are_escaped(run, format_):
    """Each stays within its line and its value, and what acts on a terminal is not there."""
    router = run(h.policy(log={"format": format_, "level": "debug"}, default_route="reject"))
    for name in HOSTILE:
        s = h.connect(router.front)
        s.sendall(b"\x05\x01\x00\x05\x01\x00\x03" + bytes([len(name)]) + name + b"\x00\x50")
        assert h.recv_exactly(s, 2) == b"\x05\x00" and h.socks5_read_reply(s) in (1, 2)
        s.close()
        assert h.talk(router.front, b"CONNECT " + name + b":80 HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 40")
        assert h.talk(router.front, b"\x04\x01\x00\x50\x00\x00\x00\x01\x1b[31m\n\"\x00" + name + b"\x00")[:2] == b"\x00\x5b"

    def whole():
        raw = router.log_path.read_bytes()
        return raw if raw.count(b" session " if format_ == "text" else b'"session"') >= 3 * len(HOSTILE) else None

    raw = h.wait_until("the lines", whole)
    raw.decode()  # valid UTF-8
    assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", raw) and not {"\u202e", "\u009b"} & set(raw.decode())
    if format_ == "json":
        entries = [json.loads(line) for line in raw.splitlines()]
        assert {e["client"].split(":")[0] for e in entries if e["message"] == "session"} == {"127.0.0.1"}
    else:
        assert all(re.match(rb"\d{4}-\d\d-\d\dT", line) for line in raw.split(b"\n") if b"client=" in line or b".test" in line)


def test_access_lines_may_be_off(run, serve):
    target = serve(h.echo)
    router = run(h.policy(log={"format": "json", "access": False}))
    h.socks5(router.front, "127.0.0.1", target.port)[0].close()
    router.wait_idle()
    router.signal(15)
    assert router.wait() == 0
    assert router.log_entries("session") == [] and router.log_entries("policy in force")


def test_a_stalled_reader_of_the_log_stalls_no_session(run, serve):
    """stderr is a small pipe that nobody reads: lines are dropped and counted, sessions do not notice, memory stays bounded."""
    name = b"\xff" * 250  # makes a long line
    get_reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    target = serve(h.echo)
    up = serve(peers.says())
    router = run(h.policy(workers=1, upstreams=[{"name": "up", "url": f"socks5://127.0.0.1:{up.port}"}],
                          rules=[{"match": {"port": [80]}, "route": "reject"}]), stderr=writing)
    os.close(writing)
    request = b"\x05\x01\x00\x05\x01\x00\x03" + bytes([len(name)]) + name + b"\x00\x50"
    steady, _ = h.socks5(router.front, "127.0.0.1", target.port)
    for i in range(2500):
        s = h.connect(router.front)
        s.sendall(request)
        assert h.recv_exactly(s, 12)[3] == 2
        s.close()
        h.opened.remove(s)
        if i % 10 == 0:  # one that waits for the reader waits for ever
            steady.sendall(b"x")
            assert h.recv_exactly(steady, 1) == b"x"
    assert router.memory_kib() < 60_000 * h.SLOW
    # whoever reads on finds whole lines, and how many are missing
    got = b""
    with os.fdopen(get_reading, "rb", buffering=0) as pipe:

        def told():
            nonlocal got
            while select.select([pipe], [], [], 0)[0] and (piece := pipe.read(65536)):
                got += piece
            return b"dropped" in got

        h.wait_until("the log to tell how many were dropped", told)
        for line in got.splitlines()[:-1]:
            assert line.startswith(b"{") and json.loads(line)
        steady.close()
        router.signal(15)
        h.wait_until("the end", lambda: told() and not router.alive())


def test_a_closed_stderr_is_no_reason_to_stop(run, serve):
    """The reader of the log has gone; SIGPIPE does not come through, and nothing spins."""
    reading, writing = os.pipe()
    target = serve(h.echo)
    router = run(h.policy(), stderr=writing)
    os.close(writing)
    os.close(reading)
    for _ in range(20):
        s, rep = h.socks5(router.front, "127.0.0.1", target.port)
        assert rep == 0
        s.close()
    assert not router.spins()


def test_stdout_says_nothing(run, serve, folder):
    target = serve(h.echo)
    with open(folder / "stdout", "wb") as out:
        router = run(h.policy(), stdout=out)
        h.socks5(router.front, "127.0.0.1", target.port)[0].close()
        router.signal(15)
        assert router.wait() == 0
    assert (folder / "stdout").read_bytes() == b""
