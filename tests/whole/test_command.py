"""The command: its help, what it prints where, its exit codes; check, explain, status, connections, reload, drain, hash-password."""
import crypt
import json
import os
import pty
import re
import select
import subprocess
import time

import pytest

import harness as h
from test_admin import HASH, TOKEN, rich

COMMANDS = ["run", "check", "explain", "status", "connections", "reload", "drain", "import", "hash-password"]
NOT_YET = ["top", "replay"]


def sockroute(*args, stdin=b""):
    """(exit code, stdout, stderr)"""
    r = subprocess.run([h.BINARY, *[str(a) for a in args]], input=stdin, capture_output=True, timeout=h.DEADLINE * h.SLOW)
    for sign in (b"Sanitizer", b"runtime error:"):
        assert sign not in r.stderr, r.stderr.decode()
    return r.returncode, r.stdout.decode(), r.stderr.decode()


@pytest.fixture
def guarded(run):
    p = rich()
    p["admin"]["token"] = TOKEN
    r = run(p)
    (r.folder / "token").write_text(TOKEN + "\n")
    r.options = ["--admin", f"http://127.0.0.1:{r.api}", "--token-file", r.folder / "token"]
    return r


# ---- help and usage ----


def test_version_and_help():
    code, out, err = sockroute("--version")
    assert code == 0 and re.fullmatch(r"sockroute \d+\.\d+\.\d+\n", out) and err == ""
    code, out, err = sockroute("--help")
    assert code == 0 and err == ""
    for c in COMMANDS:
        assert re.search(rf"^  {c} ", out, re.M), c
    for c in NOT_YET:
        assert not re.search(rf"^  {c}\b", out, re.M), c


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(command):
    for args in ((command, "--help"), (command, "-h"), (command, "--bogus", "--help")):
        code, out, err = sockroute(*args)
        assert code == 0 and out.startswith(f"usage: sockroute {command}") and err == ""
    code, out, err = sockroute(command, "--bogus")
    assert code == 2 and out == "" and "--bogus" in err


@pytest.mark.parametrize("command", NOT_YET)
def test_what_is_not_built_says_so(command):
    for args in ((command,), (command, "--help")):
        code, out, err = sockroute(*args)
        assert code == 2 and out == "" and "not in this version" in err


def test_usage_errors():
    for args, want in (((), "usage:"), (("frobnicate",), "unknown command"), (("chekc",), "did you mean check"), (("check",), "expected"),
                       (("check", "a", "b"), "unexpected"), (("status", "--jsno"), "did you mean --json"),
                       (("status", "--admin"), "needs a value"), (("run", "--config", "f", "--listen", "127.0.0.1:1"), "--config"),
                       (("run", "file"), "unexpected"), (("explain", "--to", "x:1"), "either"), (("explain", "--config", "x"), "--to"),
                       (("explain", "--to", "x:1", "--config", "x", "--admin", "y"), "either"),
                       (("status", "--admin", "https://127.0.0.1:1"), "http://"), (("hash-password", "secret"), "unexpected")):
        code, out, err = sockroute(*args)
        assert code == 2 and out == "" and want in err, (args, err)


# ---- run ----


def test_run_with_options_makes_a_pool(process, folder, serve):
    egress, front, api = h.free_port(), h.free_port(), h.free_port()
    process([h.BINARY, "run", "--listen", f"127.0.0.1:{egress}", "--admin", f"127.0.0.1:{h.free_port()}"], "egress", port=egress)
    p = process([h.BINARY, "run", "--listen", f"127.0.0.1:{front}", "--upstream", f"socks5://127.0.0.1:{egress}",
                 f"--upstream=socks4a://127.0.0.1:{egress}", "--admin", f"127.0.0.1:{api}"], "router", port=front)
    target = serve(h.echo)
    s, rep = h.socks5(front, "127.0.0.1", target.port)
    assert rep == 0
    s.sendall(b"ping")
    assert h.recv_exactly(s, 4) == b"ping"
    s.close()
    code, out, _ = sockroute("explain", "--to", "example.com:80", "--admin", f"127.0.0.1:{api}", "--json")
    assert code == 0 and json.loads(out)["route"] == "upstreams" and len(json.loads(out)["candidates"]) == 2
    assert p.alive()


def test_run_refuses_a_faulty_policy(folder):
    bad = folder / "bad.json"
    bad.write_text('{\n  "default_route": "nowhere"\n}\n')
    code, out, err = sockroute("run", "--config", bad)
    assert code == 2 and out == "" and f"{bad}:2:20: /default_route: " in err
    code, out, err = sockroute("run", "--config", folder / "none.json")
    assert code == 2 and "none.json" in err
    code, out, err = sockroute("run", "--listen", "nowhere")
    assert code == 2 and out == ""


def test_run_says_which_address_is_taken(folder, serve):
    taken = serve(h.echo).port
    code, out, err = sockroute("run", "--listen", f"127.0.0.1:{h.free_port()}", "--admin", f"127.0.0.1:{taken}")
    assert code == 2 and out == "" and f"127.0.0.1:{taken}" in err and "in use" in err
    code, out, err = sockroute("run", "--listen", f"127.0.0.1:{taken}", "--admin", f"127.0.0.1:{h.free_port()}")
    assert code == 2 and out == "" and f"127.0.0.1:{taken}" in err


# ---- check ----


def test_check(folder):
    good = folder / "good.json"
    good.write_text(json.dumps(rich()))
    assert sockroute("check", good) == (0, f"{good}: ok\n", "")
    bad = folder / "bad.json"
    bad.write_text('{\n  "upsteams": [],\n  "workers": "many"\n}\n')
    code, out, err = sockroute("check", bad)
    assert code == 2 and err == ""
    lines = out.splitlines()
    assert all(re.match(re.escape(str(bad)) + r":\d+:\d+: (/[^:]*)?: .", line) for line in lines)
    assert [line for line in lines if line.startswith(f"{bad}:2:") and "/upsteams" in line and "did you mean" in line]
    assert [line for line in lines if line.startswith(f"{bad}:3:") and "/workers" in line]
    assert [line for line in lines if line.startswith(f"{bad}:1:1: : ") and "default_route" in line]
    code, out, err = sockroute("check", folder / "none.json")
    assert code == 2 and "none.json" in out


def test_check_refuses_what_run_would(folder):
    p = rich()
    p["upstreams"].append({"name": "tls", "url": "socks5+tls://192.0.2.1:1", "tls": {"ca": "none.pem"}})
    path = folder / "p.json"
    path.write_text(json.dumps(p))
    code, out, _ = sockroute("check", path)
    assert code == 2 and "none.pem" in out
    assert sockroute("run", "--config", path)[0] == 2


def test_a_full_disk_is_no_success():
    with open("/dev/full", "wb") as full:
        r = subprocess.run([h.BINARY, "status", "--help"], stdout=full, stderr=subprocess.PIPE, timeout=h.DEADLINE * h.SLOW)
    assert r.returncode == 1


# ---- explain ----


def test_explain_offline_is_what_the_api_says(guarded):
    for options in (["--to", "db.internal:80"], ["--to", "two.internal:80"], ["--to", "192.0.2.1:25"],
                    ["--to", "192.0.2.1:80", "--user", "alice+s1", "--client", "192.0.2.7", "--protocol", "http", "--command", "connect"],
                    ["--to", "192.0.2.1:80", "--listener", "egress"]):
        offline = sockroute("explain", *options, "--config", guarded.policy_path, "--json")
        online = sockroute("explain", *options, *guarded.options, "--json")
        assert offline[0] == online[0] == 0 and offline[2] == online[2] == ""
        assert json.loads(offline[1]) == json.loads(online[1])


def explain(folder, policy, to):
    path = folder / "explained.json"
    path.write_text(json.dumps(policy))
    code, out, err = sockroute("explain", "--to", to, "--config", path, "--json")
    assert code == 0 and err == ""
    return json.loads(out)


def test_explain_offline_asks_the_policys_servers(folder, programs):
    """As a running router would: servers by suffix, hosts before them, and the family that is wanted."""
    main = programs.dnsmasq("--address=/target.test/192.0.2.1", "--address=/target.test/2001:db8::1")
    corp = programs.dnsmasq("--address=/in.corp.test/192.0.2.2")
    dns = {"servers": [main.address], "family": "ipv4_only", "hosts": {"here.test": ["192.0.2.3"]},
           "rules": [{"domain_suffix": ["corp.test"], "servers": [corp.address]}]}
    rules = [{"name": "two", "match": {"ip_cidr": ["192.0.2.2"]}, "resolve": True, "route": "reject"}]
    for name, addresses, rule in ("target.test", ["192.0.2.1"], "default"), ("in.corp.test", ["192.0.2.2"], "two"), \
            ("here.test", ["192.0.2.3"], "default"), ("none.test", [], "default"):
        answer = explain(folder, h.policy(dns=dns, rules=rules), f"{name}:80")
        assert [a["address"] for a in answer["addresses"]] == addresses and answer["rule"] == rule, name
    assert set(main.queries()) == {("target.test", "A"), ("none.test", "A")} and set(corp.queries()) == {("in.corp.test", "A")}


@pytest.mark.parametrize("bounds", [{"dns": {"timeout": "100ms", "attempts": 1}}, {"timeouts": {"connect": "100ms"}, "dns": {"timeout": "10m"}}])
def test_explain_offline_waits_no_longer_than_the_policy_says(folder, started, bounds):
    silent = started(h.NameServer(lambda name, qtype: None))
    bounds["dns"]["servers"] = [silent.address]
    before = time.monotonic()
    assert explain(folder, h.policy(**bounds), "target.test:80")["addresses"] == []
    assert time.monotonic() - before < 10 * h.SLOW and silent.queries


def test_explain_for_people(guarded):
    code, out, err = sockroute("explain", "--to", "db.internal:80", "--listener", "front", *guarded.options)
    assert code == 0 and err == ""
    assert out.splitlines()[:2] == ["rule       rule-2", "route      both"]
    assert "tried      no  egress: " in out and "           yes rule-2: " in out
    assert "\nresolve    local\naddresses  10.9.8.7\n" in out and out.endswith("\npath       one\n")
    code, out, _ = sockroute("explain", "--to", "x:25", "--config", guarded.policy_path, "--listener", "front")
    assert code == 0 and out.endswith("\npath       none\n")


def test_explain_usage(guarded):
    for options in (["--to", "x"], ["--to", "x:1", "--client", "y"], ["--to", "x:1", "--protocol", "y"], ["--to", "x:1", "--listener", "y"]):
        code, out, _ = sockroute("explain", *options, "--config", guarded.policy_path)
        assert code == 2 and out == ""
    code, out, err = sockroute("explain", "--to", "x:1", "--config", guarded.folder / "none.json")
    assert code == 2 and out == "" and "none.json" in err


# ---- a running router ----


def test_status_and_connections(guarded, serve):
    target = serve(h.echo)
    s, rep = h.socks5(guarded.front, "127.0.0.1", target.port)
    assert rep == 0
    s.sendall(b"ping")
    assert h.recv_exactly(s, 4) == b"ping"
    code, out, err = sockroute("status", *guarded.options)
    assert code == 0 and err == "" and "running" in out and "revision 1" in out and "2 open" in out
    assert re.search(r"^one +unknown +1 +1 +0 ", out, re.M) and "secret" not in out
    code, out, _ = sockroute("status", *guarded.options, "--json")
    assert code == 0 and json.loads(out)["state"] == "running"
    code, out, err = sockroute("connections", *guarded.options)
    assert code == 0 and err == ""
    lines = out.splitlines()
    assert lines[0].split() == ["ID", "CLIENT", "USER", "PROTOCOL", "TO", "RULE", "PATH", "STATE", "AGE", "UP", "DOWN"]
    assert len(lines) == 3 and f"127.0.0.1:{target.port}" in lines[1] and " one " in out and "relaying" in out
    code, out, _ = sockroute("connections", *guarded.options, "--json")
    assert code == 0 and json.loads(out)["total"] == 2
    s.close()


def test_what_clients_send_does_not_steer_the_terminal(guarded, serve):
    p = guarded.policy
    p["auth"][0]["users"] = [{"name": "a\x1b[31mb", "password_hash": HASH}]
    p["listeners"][0].update(auth="staff", protocols=["socks5"])
    assert guarded.call("PUT", "/v1/policy", p, headers={"Authorization": f"Bearer {TOKEN}"}).status == 200
    target = serve(h.echo)
    s, rep = h.socks5(guarded.front, "127.0.0.1", target.port, user="a\x1b[31mb", password="example")
    assert rep == 0
    code, out, _ = sockroute("connections", *guarded.options)
    assert code == 0 and "\x1b" not in out and "a?[31mb" in out
    s.close()


def test_a_wrong_token_or_no_router(guarded, folder):
    code, out, err = sockroute("status", "--admin", f"127.0.0.1:{guarded.api}")
    assert code == 1 and out == "" and "401" in err
    (folder / "wrong").write_text("wrong\n")
    code, out, err = sockroute("status", "--admin", f"127.0.0.1:{guarded.api}", "--token-file", folder / "wrong")
    assert code == 1 and "401" in err
    code, out, err = sockroute("status", "--admin", f"127.0.0.1:{guarded.api}", "--token-file", folder / "none")
    assert code == 1 and out == "" and str(folder / "none") in err
    code, out, err = sockroute("status", "--admin", f"127.0.0.1:{h.free_port()}")
    assert code == 1 and out == "" and "refused" in err


def test_what_answers_is_no_api(serve):
    for handler in (lambda conn, _: conn.sendall(b"SSH-2.0-x\r\n\r\n"), lambda conn, _: None,
                    lambda conn, _: conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell"),
                    lambda conn, _: conn.sendall(b"HTTP/1.1 200 OK\r\n\r\nno JSON")):
        code, out, err = sockroute("status", "--admin", f"127.0.0.1:{serve(handler).port}")
        assert code == 1 and out == "" and err


def test_reload(guarded):
    guarded.write_policy(dict(guarded.policy, default_route="direct"))
    assert sockroute("reload", *guarded.options) == (0, "revision 2 is in force\n", "")
    guarded.write_policy('{"default_route": "nowhere"}')
    code, out, err = sockroute("reload", *guarded.options)
    assert code == 2 and out == "" and "/default_route: " in err
    code, out, _ = sockroute("status", *guarded.options, "--json")
    assert json.loads(out)["policy"]["revision"] == 2


def test_drain(guarded):
    assert sockroute("drain", *guarded.options) == (0, "draining\n", "")
    assert guarded.wait() == 0


# ---- hash-password ----


@pytest.mark.parametrize("line", [b"secret\n", b"secret", b"secret\r\n", b"secret\nmore\n"])
def test_hash_password_from_stdin(line):
    code, out, err = sockroute("hash-password", stdin=line)
    assert code == 0 and err == "" and out.startswith("$y$") and out.count("\n") == 1
    assert crypt.crypt("secret", out.strip()) == out.strip()


def test_two_hashes_of_one_password_differ():
    assert sockroute("hash-password", stdin=b"x\n")[1] != sockroute("hash-password", stdin=b"x\n")[1]


@pytest.mark.parametrize("line", [b"", b"\n", b"x" * 256 + b"\n", b"x" * 100_000],
                         ids=["nothing", "empty", "too long", "much too long"])
def test_what_is_no_password(line):
    code, out, err = sockroute("hash-password", stdin=line)
    assert code == 1 and out == "" and err


def test_the_longest_password():
    code, out, _ = sockroute("hash-password", stdin=b"x" * 255 + b"\n")
    assert code == 0 and crypt.crypt("x" * 255, out.strip()) == out.strip()


@pytest.mark.parametrize("second, want", [(b"secret\n", 0), (b"other\n", 1)])
def test_hash_password_at_a_terminal_does_not_show_it(second, want):
    ours, theirs = pty.openpty()
    child = subprocess.Popen([h.BINARY, "hash-password"], stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, close_fds=True)
    os.close(theirs)
    seen = b""
    try:
        for prompt, line in ((b"Password: ", b"secret\n"), (b"Once more: ", second)):
            while not seen.endswith(prompt):
                assert select.select([ours], [], [], h.DEADLINE * h.SLOW)[0], seen
                seen += os.read(ours, 1024)
            os.write(ours, line)
        out = child.communicate(timeout=h.DEADLINE * h.SLOW)[0]
        assert child.wait(h.DEADLINE * h.SLOW) == want
    finally:
        child.kill()
        child.stdout.close()
        os.close(ours)
    assert b"secret" not in seen and b"other" not in seen
    if want == 0:
        assert crypt.crypt("secret", out.decode().strip()) == out.decode().strip()
    else:
        assert out == b""
