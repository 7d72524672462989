"""`sockroute probe` and POST /v1/upstreams/NAME/probe: what proxies can do, and which hop is at fault."""
import json
import re
import socket
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
    "CONNECT by IPv4": True, "CONNECT by IPv6": None, "BIND": None, "BIND by name": None, "BIND by IPv4": None, "BIND by IPv6": None,
    "UDP": None, "UDP by name": None, "UDP by IPv4": None, "UDP by IPv6": None,
}
SOCKS5 = NOTHING | {"method none": True, "method userpass": False, "method gssapi": False}
ALL_BY_IPV4 = SOCKS5 | {"BIND": True, "BIND by IPv4": True, "UDP": True, "UDP by IPv4": True}


def echo_of_both(serve, host="127.0.0.1"):
    """A port where connections and datagrams are answered."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    target = serve(h.echo, host=host, family=family, port=h.free_port())
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.bind((host, target.port))
    h.opened.append(s)

    def answer():
        while True:
            try:
                s.sendto(*s.recvfrom(1000))
            except OSError:
                return

    threading.Thread(target=answer, daemon=True).start()
    return target.port


def test_socks5(process, folder, serve):
    port, target = Programs(process, folder).danted(), echo_of_both(serve)
    code, rows, _ = probe(f"socks5://127.0.0.1:{port}", "--to", f"127.0.0.1:{target}")
    assert code == 0
    assert answers(rows) == ALL_BY_IPV4
    bind, udp = rows["BIND"]["detail"], rows["UDP"]["detail"]
    assert re.fullmatch(r"at 127.0.0.1:\d+, peer 127.0.0.1:\d+", bind) and re.fullmatch(r"at 127.0.0.1:\d+", udp)
    assert rows["UDP by IPv4"]["detail"] == f"from 127.0.0.1:{target}"
    assert len(rows["CONNECT by IPv4"]["hops_ms"]) == 1


@pytest.mark.parametrize("hops", [1, 2, 3])
@pytest.mark.parametrize("to, kinds", [("127.0.0.1", ["IPv4"]), ("localhost", ["name", "IPv4"]), ("[::1]", ["IPv6"])])
def test_every_command_through_routers(run, serve, hops, to, kinds):
    target = echo_of_both(serve, "::1" if to == "[::1]" else "127.0.0.1")
    routers = [run(h.policy(dns={"family": "ipv4_only"} if to == "localhost" else {})) for _ in range(hops)]
    code, rows, _ = probe(",".join(f"socks5://127.0.0.1:{r.front}" for r in routers), "--to", f"{to}:{target}")
    assert code == 0
    want = SOCKS5 | {"CONNECT by IPv4": None, "BIND": True, "UDP": True}
    want |= {f"{command} by {kind}": True for command in ("CONNECT", "BIND", "UDP") for kind in kinds}
    if to == "localhost":  # which may have an IPv6 address too
        want |= {name: rows[name]["answer"] for name in want if name.endswith("IPv6")}
    assert answers(rows) == want
    assert [r.stats()["by_command"]["bind"] for r in routers][:-1] == [0] * (hops - 1)  # the last one's, through all before it


def grants(port):
    """A SOCKS5 server that grants a BIND or an association at this address and says no more."""
    return says(3, b"\x05\x00", 10, b"\x05\x00\x00\x01\x7f\x00\x00\x01" + port.to_bytes(2, "big"), "silence")


def test_a_destination_that_is_silent(run, serve):
    """No answer says nothing of the proxy."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        code, rows, _ = probe(f"socks5://127.0.0.1:{run(h.policy()).front}", "--to", f"127.0.0.1:{silent.getsockname()[1]}")
        assert code == 1 and answers(rows)["UDP"] is True
        assert (rows["UDP by IPv4"]["answer"], rows["UDP by IPv4"]["error"]) == (None, None)
        assert rows["UDP by IPv4"]["detail"].startswith("nothing came back")
        silent.settimeout(h.DEADLINE)
        assert silent.recv(100) == b"sockroute probe\n"


def test_a_bind_that_nobody_can_reach_or_that_is_not_told(serve):
    code, rows, _ = probe(f"socks5://127.0.0.1:{serve(grants(h.free_port())).port}", "--to", "127.0.0.1:1")
    assert rows["BIND"]["answer"] is True and rows["BIND"]["detail"].endswith("which can't be reached from here: Connection refused")
    listening = serve(h.echo)
    code, rows, _ = probe(f"socks5://127.0.0.1:{serve(grants(listening.port)).port}", "--to", "127.0.0.1:1")
    assert rows["BIND"]["answer"] is False and "did not say so" in rows["BIND"]["detail"]
    assert listening.accepted >= 1


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


@pytest.mark.parametrize("script, error", [((b"HTTP/1.0 400 No\r\n", "silence"), "upstream broke its protocol"), ((3,), "upstream failed"),
                                           ((3, b"\x05"), "upstream failed"), ((3, b"\x04\x00"), "upstream broke its protocol")])
@pytest.mark.parametrize("hops", [1, 2, 3])
def test_who_does_not_speak_socks5_is_at_fault(run, serve, script, error, hops):
    before = [f"socks5://127.0.0.1:{run(h.policy()).front}" for _ in range(hops - 1)]
    code, rows, _ = probe(",".join([*before, f"socks5://127.0.0.1:{serve(says(*script)).port}"]), "--to", "127.0.0.1:1")
    assert code == 1
    for name in "handshake", "method none", "method userpass", "method gssapi", "CONNECT by IPv4", "BIND", "UDP":
        assert (rows[name]["answer"], rows[name]["error"], rows[name]["hop_at_fault"]) == (False, error, hops), rows[name]


def test_a_silent_hop_is_waited_for_once(run, serve):
    """It says nothing to the handshake, so nothing else is tried."""
    first, silent = run(h.policy()), serve(says("silence"))
    code, rows, _ = probe(f"socks5://127.0.0.1:{first.front},socks5://127.0.0.1:{silent.port},socks5://127.0.0.1:1", "--to", "127.0.0.1:1")
    assert code == 1 and silent.accepted == 1
    for name in "handshake", "method none", "CONNECT by IPv4", "BIND", "BIND by IPv4", "UDP", "UDP by IPv4":
        assert (rows[name]["answer"], rows[name]["hop_at_fault"]) == (False, 2)
        assert rows[name]["detail"] == "hop 2 (upstream-1) silent: no answer in time"


def test_a_hop_that_is_silent_to_requests_is_waited_for_less_and_less(run, serve):
    first, silent = run(h.policy()), serve(says(3, b"\x05\x00", "silence"))
    code, rows, _ = probe(f"socks5://127.0.0.1:{first.front},socks5://127.0.0.1:{silent.port}", "--to", "127.0.0.1:1")
    assert code == 1 and rows["handshake"]["answer"] is True
    for name in "CONNECT by IPv4", "BIND", "BIND by IPv4", "UDP", "UDP by IPv4":
        assert (rows[name]["answer"], rows[name]["hop_at_fault"]) == (False, 2)
    assert rows["CONNECT by IPv4"]["ms"] >= 5000
    assert rows["UDP by IPv4"]["ms"] < max(5000, 8 * rows["handshake"]["ms"])


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
    assert done.returncode == 0 and lines[0].split() == ["TRIAL", "ANSWER", "MS", "HOP", "1", "DETAIL"] and len(lines) == 16


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
