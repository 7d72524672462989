"""`sockroute probe` and POST /v1/upstreams/NAME/probe: what proxies can do, and which hop is at fault."""
import json
import subprocess
import threading

import pytest

import harness as h
from peers import Certificates, Programs, says


def probe(*args):
    """(exit code, {trial: row}, stderr)"""
    done = subprocess.run([h.BINARY, "probe", *args, "--json"], capture_output=True, text=True, timeout=h.DEADLINE * h.SLOW)
    rows = {t["trial"]: t for t in json.loads(done.stdout)["trials"]} if done.stdout else {}
    return done.returncode, rows, done.stderr


def answers(rows):
    return {name: row["answer"] for name, row in rows.items()}


NOTHING = {
    "handshake": True, "method none": None, "method userpass": None, "method gssapi": None, "CONNECT by name": None,
    "CONNECT by IPv4": True, "CONNECT by IPv6": None, "BIND": None, "UDP": None,
}


def test_socks5(process, folder, serve):
    port, target = Programs(process, folder).danted(), serve(h.echo)
    code, rows, _ = probe(f"socks5://127.0.0.1:{port}", "--to", f"127.0.0.1:{target.port}")
    assert code == 0
    assert answers(rows) == NOTHING | {"method none": True, "method userpass": False, "method gssapi": False, "BIND": True, "UDP": True}
    assert rows["BIND"]["detail"].startswith("at 127.0.0.1:") and rows["UDP"]["detail"].startswith("at 127.0.0.1:")
    assert len(rows["CONNECT by IPv4"]["hops_ms"]) == 1


def test_userpass_is_told_from_none(process, folder, serve):
    port, target = Programs(process, folder).microsocks("alice", "secret"), serve(h.echo)
    code, rows, _ = probe(f"socks5://alice:secret@127.0.0.1:{port}", "--to", f"localhost:{target.port}")
    assert code == 0
    got = answers(rows)
    assert (got["method none"], got["method userpass"], got["CONNECT by name"], got["CONNECT by IPv4"]) == (False, True, True, True)
    code, rows, _ = probe(f"socks5://alice:wrong@127.0.0.1:{port}", "--to", f"localhost:{target.port}")
    assert code == 1
    assert rows["handshake"]["answer"] is False and "refused our credentials" in rows["handshake"]["error"]


def test_chain_through_tls_and_http(process, folder, serve):
    certificates, programs, target = Certificates(folder), Programs(process, folder), serve(h.echo)
    web, inner = programs.tinyproxy(), programs.microsocks()
    code, rows, _ = probe(f"socks5://127.0.0.1:{inner},http://127.0.0.1:{web}", "--to", f"127.0.0.1:{target.port}")
    assert code == 0 and answers(rows) == NOTHING
    assert len(rows["CONNECT by IPv4"]["hops_ms"]) == 2
    tls = programs.haproxy(inner, certificates.unknown_ca)
    code, rows, _ = probe(f"socks5+tls://127.0.0.1:{tls}", "--to", f"127.0.0.1:{target.port}")
    assert code == 1 and rows["method none"]["error"] == "TLS with upstream failed"


def test_which_hop_is_at_fault(process, folder, serve):
    programs = Programs(process, folder)
    good, gone = programs.microsocks(), h.free_port()
    code, rows, _ = probe(f"socks5://127.0.0.1:{gone},socks5://127.0.0.1:{good}", "--to", "127.0.0.1:1")
    assert code == 1
    assert rows["CONNECT by IPv4"]["detail"].startswith("hop 1 (upstream-0) unreachable: Connection refused")
    code, rows, _ = probe(f"socks5://127.0.0.1:{good},socks5://127.0.0.1:{gone}", "--to", "127.0.0.1:1")
    assert code == 1 and rows["CONNECT by IPv4"]["hop_at_fault"] == 2
    assert rows["CONNECT by IPv4"]["detail"] == "hop 1 (upstream-0) says hop 2 (upstream-1) unreachable: it refuses connections"
    code, rows, _ = probe(f"socks5://127.0.0.1:{good}", "--to", f"127.0.0.1:{gone}")
    assert code == 1 and rows["CONNECT by IPv4"]["hop_at_fault"] is None
    assert rows["CONNECT by IPv4"]["detail"] == "upstream upstream-0 says: refused by destination"


def test_peers_that_misbehave(serve):
    for script in (says(b"SSH-2.0-x\r\n", "silence"), says(3, "reset"), says(3, b"\x05")):
        code, rows, err = probe(f"socks5://127.0.0.1:{serve(script).port}", "--to", "127.0.0.1:1")
        assert code == 1 and err == ""
        assert all(row["answer"] in (False, None) for row in rows.values())


@pytest.mark.parametrize("url", ["gopher://127.0.0.1", "direct://", "socks5://127.0.0.1,", ",", "socks5://h:0"])
def test_usage(url):
    code, rows, err = probe(url)
    assert (code, rows) == ((1 if url.endswith("1,") else 2), rows)
    assert url.endswith("1,") or err.startswith("sockroute: probe: ")


def test_table_for_people(process, folder, serve):
    port, target = Programs(process, folder).microsocks(), serve(h.echo)
    done = subprocess.run([h.BINARY, "probe", f"socks5://127.0.0.1:{port}", "--to", f"127.0.0.1:{target.port}"], capture_output=True,
                          text=True, timeout=h.DEADLINE * h.SLOW)
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and lines[0].split() == ["TRIAL", "ANSWER", "MS", "HOP", "1", "DETAIL"] and len(lines) == 10


def ask_in_vain(router):
    try:
        router.call("POST", "/v1/upstreams/silent/probe")
    except OSError:
        pass


def test_api(run, process, folder, serve):
    programs, target = Programs(process, folder), serve(h.echo)
    good, gone, silent = programs.microsocks(), h.free_port(), serve(says("silence"))
    r = run(h.policy(upstreams=[{"name": "good", "url": f"socks5://127.0.0.1:{good}"}, {"name": "gone", "url": f"socks5://127.0.0.1:{gone}"},
                                {"name": "silent", "url": f"socks5://127.0.0.1:{silent.port}"}]))
    told = r.call("POST", "/v1/upstreams/good/probe").json
    assert told["ok"] is True and told["error"] is None and set(told["ms"]) == {"resolve", "connect", "tls", "handshake", "total"}
    assert r.call("POST", f"/v1/upstreams/good/probe?to=127.0.0.1:{target.port}").json["ok"] is True
    told = r.call("POST", "/v1/upstreams/gone/probe").json
    assert told["ok"] is False and told["detail"] == "upstream gone unreachable: Connection refused"
    assert r.get("/v1/upstreams/gone")["failures_total"] == 0, "a probe is no request"
    assert r.call("POST", "/v1/upstreams/nobody/probe").status == 404
    assert r.call("POST", "/v1/upstreams/good/probe?to=x").status == 400
    assert r.call("GET", "/v1/upstreams/good/probe").status == 405
    # one that is under way does not hold up the end
    asked = threading.Thread(target=ask_in_vain, args=(r,), daemon=True)
    asked.start()
    h.wait_until("the probe to be under way", lambda: silent.accepted > 0)
    r.signal(15)
    assert r.wait() == 0
