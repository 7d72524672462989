"""sockroute import: what becomes of each property, that it passes the check, and that it runs."""
import json
import subprocess

import pytest

import harness as h


def run_import(folder, kind, *texts):
    """(exit code, policy or None, stderr); each text is a file."""
    files = []
    for i, text in enumerate(texts):
        files.append(folder / f"{i}.conf")
        files[-1].write_text(text)
    r = subprocess.run([h.BINARY, "import", kind, *files], capture_output=True, text=True, timeout=h.DEADLINE * h.SLOW)
    return r.returncode, json.loads(r.stdout) if r.stdout else None, r.stderr


def made(folder, kind, *texts):
    code, policy, errors = run_import(folder, kind, *texts)
    assert (code, errors) == (0, "")
    path = folder / "made.json"
    path.write_text(json.dumps(policy))
    r = subprocess.run([h.BINARY, "check", path], capture_output=True, text=True, timeout=h.DEADLINE * h.SLOW)
    assert r.stdout == f"{path}: ok\n"
    return policy


# ---- jsocks ----


def networks(folder, *texts):
    return made(folder, "jsocks", *texts)["auth"][0]["networks"]


@pytest.mark.parametrize("said,blocks", [
    ("33.33.44.101", ["33.33.44.101"]), ("130.220.", ["130.220.0.0/16"]), ("10.", ["10.0.0.0/8"]), ("1.2.3.", ["1.2.3.0/24"]),
    ("localhost", ["127.0.0.1"]), ("33.44.100.7:33.44.100.20", ["33.44.100.7", "33.44.100.8/29", "33.44.100.16/30", "33.44.100.20"]),
    ("33.44.100.7 33.44.100.7", ["33.44.100.7"]), (" ::1 ; \\u0031.2.3.4", ["::1", "1.2.3.4"]), ("0.0.0.0:255.255.255.255", ["0.0.0.0/0"]), ("255.255.255.254:255.255.255.255", ["255.255.255.254/31"]),
    ("1.1.1.1;2.2.", ["1.1.1.1", "2.2.0.0/16"]), (".", ["0.0.0.0/0", "::/0"])])
def test_the_forms_of_a_range(folder, said, blocks):
    assert networks(folder, f"range = {said}\nusers = bob\n") == [{"ip_cidr": blocks, "users": ["bob"]}]


@pytest.mark.parametrize("said, clients", [
    (".my.net", {"domain_suffix": ["my.net"]}), ("host.my.net", {"domain": ["host.my.net"]}),
    (".a.net;host.b.net;10.0.0.1;.c.net", {"ip_cidr": ["10.0.0.1"], "domain": ["host.b.net"], "domain_suffix": ["a.net", "c.net"]})])
def test_clients_by_name(folder, said, clients):
    assert networks(folder, f"range = {said}\n") == [clients]
    assert networks(folder, f"range = {said}\nusers = bob\n") == [{**clients, "users": ["bob"]}]


@pytest.mark.parametrize("said", ["a.example:b.example"])
def test_clients_that_have_no_equal(folder, said):
    policy = made(folder, "jsocks", f"\nrange = {said};10.0.0.1\n")
    assert policy["auth"][0]["networks"] == [{"ip_cidr": ["10.0.0.1"]}]
    assert "0.conf:2: " in policy["comment"] and said.split(":")[0] in policy["comment"]
    code, policy, errors = run_import(folder, "jsocks", f"range = {said}\n")
    assert (code, policy) == (1, None) and "nobody could come" in errors


@pytest.mark.parametrize("said,why", [("300.1.1.1", '"300.1.1.1" is neither'), ("10.1.1.0/24", '"10.1.1.0/24" is neither'),
                                      ("10.0.0.9:10.0.0.1", "ends before it begins")])
def test_why_no_range_is_left_is_told(folder, said, why):
    code, policy, errors = run_import(folder, "jsocks", f"\nrange = {said}\n")
    assert (code, policy) == (1, None) and "nobody could come" in errors.splitlines()[0]
    assert "0.conf:2: " in errors.splitlines()[1] and why in errors


def test_several_files(folder):
    first = "range = 10.0.0.1\nusers = root;cis-dude\nport = 1081\n"
    assert networks(folder, first, "range=10.1.\nport=99\n", "range : 10.2.\nusers Bob\n") == [
        {"ip_cidr": ["10.0.0.1"], "users": ["root", "cis-dude"]}, {"ip_cidr": ["10.1.0.0/16"]}, {"ip_cidr": ["10.2.0.0/16"], "users": ["Bob"]}]
    policy = made(folder, "jsocks", first, "range=10.1.\nport=99\n")
    assert policy["listeners"][0]["listen"] == "0.0.0.0:1081"
    assert '1.conf:2: "port" counts in the first file only' in policy["comment"]


def test_an_open_range_says_so(folder):
    policy = made(folder, "jsocks", "range = .\n")
    assert policy["listeners"][0]["allow_open"] is True and "comment" in policy["listeners"][0]
    assert "allow_open" not in made(folder, "jsocks", "range = .\nusers = bob\n")["listeners"][0]
    assert "allow_open" not in made(folder, "jsocks", "range = .\nhost = 127.0.0.1\n")["listeners"][0]


@pytest.mark.parametrize("said,want", [
    ("", {"idle": "3m", "bind": "3m", "udp_idle": "3m"}),
    ("iddleTimeout    = 600000   # 10 minutes\nacceptTimeout=0\nudpTimeout=1500\n", {"idle": "10m", "bind": "0s", "udp_idle": "1500ms"}),
    ("iddleTimeout = soon\n", {"idle": "3m", "bind": "3m", "udp_idle": "3m"})])
def test_timeouts(folder, said, want):
    assert made(folder, "jsocks", "range = 10.\n" + said)["timeouts"] == want


def test_proxies_and_direct_hosts(folder):
    policy = made(folder, "jsocks", "range = 10.\nproxy = www-proxy;second:99:joe;third:1:u:p w\\u00e9\\u20ac\n"
                  "directHosts = 130.220.;\\\n   .unisa.edu.au;localhost;host.example\n")
    assert policy["upstreams"] == [
        {"name": "proxy-1", "url": "socks5://www-proxy:1080"}, {"name": "proxy-2", "url": "socks4://second:99", "username": "joe"},
        {"name": "proxy-3", "url": "socks5://third:1", "username": "u", "password": "p wé€"}]
    assert policy["chains"] == [{"name": "proxies", "hops": ["proxy-1", "proxy-2", "proxy-3"]}]
    assert policy["default_route"] == "proxies"
    assert [(rule["match"], rule.get("resolve"), rule["route"]) for rule in policy["rules"]] == [
        ({"domain": ["host.example"]}, None, "direct"), ({"domain_suffix": ["unisa.edu.au"]}, None, "direct"),
        ({"ip_cidr": ["130.220.0.0/16", "127.0.0.1"]}, True, "direct")]


def test_one_proxy_none_and_all_direct(folder):
    assert made(folder, "jsocks", "range = 10.\nproxy = a:1\n")["default_route"] == "proxy-1"
    assert made(folder, "jsocks", "range = 10.\ndirectHosts = 10.\n")["default_route"] == "direct"
    assert made(folder, "jsocks", "range = 10.\nproxy = a:1\ndirectHosts = .\n")["default_route"] == "direct"


def test_what_is_noted(folder):
    notes = made(folder, "jsocks", "# remark\n! another\nrange = 10.\nUsers = bob\ndatagramSize = 8192\nlog = /var/log/socks\nhost = my.host\n")
    assert notes["listeners"][0]["udp"] == {"max_datagram": "8192B"}
    for note in ('0.conf:4: "Users" is no property', "0.conf:6: logs go to stderr", '0.conf:7: "my.host" is no address'):
        assert note in notes["comment"]
    assert notes["listeners"][0]["listen"] == "127.0.0.1:1080"  # not wider than it was
    assert notes["log"] == {"access": True}


@pytest.mark.parametrize("text", ["", "port = 1080\n", "range = 10.\nport = 0\n", "range = 10.\nport = 70000\n", "range = 10.\nproxy = a:b\n",
                                  "range = 10.\nproxy = a:0\n", "range = 10.\nproxy = :\n", "range = 10.\nusers = ;\n", "range = 10.\nproxy = a b\n"])
def test_jsocks_files_of_which_nothing_can_be_made(folder, text):
    code, policy, errors = run_import(folder, "jsocks", text)
    assert (code, policy) == (1, None) and errors.startswith("sockroute: ")


def test_a_policy_of_jsocks_serves_its_range(folder, run, serve):
    target = serve(h.echo)
    policy = made(folder, "jsocks", f"host = 127.0.0.1\nport = {h.free_port()}\nrange = 127.0.0.1\n")
    s = run(policy)
    c, code = h.socks4(s.front, "127.0.0.1", target.port)
    c.close()
    assert code == 90
    with h.socket.create_connection(("127.0.0.1", s.front), 5, ("127.0.0.9", 0)) as c:
        c.sendall(b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00")
        assert h.recv_exactly(c, 8)[1] == 91


# ---- proxychains ----

LIST = "[ProxyList]\nsocks4 127.0.0.1 9050\nsocks5\t192.0.2.2 1080 lamer secret\nhttp 192.0.2.3 8080 justu hidden\n"


def test_debians_own_file(folder):
    policy = made(folder, "proxychains", open("/etc/proxychains4.conf").read())
    assert policy["default_route"] == "proxy-1" and policy["upstreams"] == [{"name": "proxy-1", "url": "socks4a://127.0.0.1:9050"}]
    assert policy["timeouts"]["connect"] == "23s"


def test_upstreams(folder):
    ours = [{"name": "proxy-1", "url": "socks4a://127.0.0.1:9050"},
            {"name": "proxy-2", "url": "socks5://192.0.2.2:1080", "username": "lamer", "password": "secret"},
            {"name": "proxy-3", "url": "http://192.0.2.3:8080", "username": "justu", "password": "hidden"}]
    assert made(folder, "proxychains", "proxy_dns\n" + LIST)["upstreams"] == ours
    local = made(folder, "proxychains", LIST)["upstreams"]
    assert local[0]["url"] == "socks4://127.0.0.1:9050" and [u.get("resolve") for u in local] == [None, "local", "local"]


def test_strict_chain(folder):
    policy = made(folder, "proxychains", "strict_chain\n" + LIST)
    assert policy["chains"] == [{"name": "strict", "hops": ["proxy-1", "proxy-2", "proxy-3"]}] and policy["default_route"] == "strict"


def test_dynamic_chain(folder):
    policy = made(folder, "proxychains", "dynamic_chain\n" + LIST)
    pool, = policy["pools"]
    assert pool["balance"] == "first" and pool["members"] == ["way-1-2-3", "way-2-3", "way-1-3", "way-1-2", "proxy-3", "proxy-2", "proxy-1"]
    assert {c["name"]: c["hops"] for c in policy["chains"]}["way-1-3"] == ["proxy-1", "proxy-3"]
    twice = made(folder, "proxychains", "dynamic_chain\n" + LIST + LIST.replace("[ProxyList]\n", ""))
    assert len(twice["pools"][0]["members"]) == 2 ** 6 - 1 and "too many combinations" not in twice["comment"]
    many = made(folder, "proxychains", "dynamic_chain\n" + LIST + LIST.replace("[ProxyList]\n", "") + "socks5 1.2.3.4 1\n")
    assert len(many["pools"][0]["members"]) == 1 + 7 + 7 and "too many combinations" in many["comment"]


@pytest.mark.parametrize("said,hops", [("", None), ("chain_len = 2\n", 2), ("chain_len=3\n", 3), ("chain_len = 9\n", 3),
                                       ("chain_len = 2 # no more\n", 2), ("chain_len\t=\t2\n", 2)])
def test_random_chain(folder, said, hops):
    policy = made(folder, "proxychains", "random_chain\n" + said + LIST)
    pool, = policy["pools"]
    assert pool["balance"] == "random" and pool["members"] == ["proxy-1", "proxy-2", "proxy-3"]
    assert policy.get("chains") == ([{"name": "random", "hops": ["any"] * hops}] if hops else None)
    assert policy["default_route"] == ("random" if hops else "any")


def test_round_robin_chain(folder):
    policy = made(folder, "proxychains", "round_robin_chain\nchain_len = 2\n" + LIST)
    assert {c["name"]: c["hops"] for c in policy["chains"]} == {f"way-{a}-{b}": [f"proxy-{a}", f"proxy-{b}"] for a in (1, 2, 3)
                                                                for b in (1, 2, 3) if a != b}
    pools = {p["name"]: p for p in policy["pools"]}
    assert pools["from-3"]["members"] == ["way-3-1", "way-3-2", "way-1-2"] and pools["from-3"]["balance"] == "first"
    assert pools["in-turn"] == {"name": "in-turn", "members": ["from-1", "from-3", "from-2"], "balance": "round_robin"}
    assert policy["default_route"] == "in-turn"
    alone = made(folder, "proxychains", "round_robin_chain\n" + LIST)
    assert alone["pools"][0]["members"] == ["proxy-1", "proxy-2", "proxy-3"] and "chains" not in alone
    more = LIST + LIST.replace("[ProxyList]\n", "")
    for extra, members in ("", 3), ("socks5 1.2.3.4 1\n", 7):
        many = made(folder, "proxychains", "round_robin_chain\nchain_len = 2\n" + more + extra)
        assert len(many["pools"][-1]["members"]) == members and ("too many combinations" in many["comment"]) == (members == 7)


def test_the_last_kind_of_chain_counts(folder):
    assert made(folder, "proxychains", "random_chain\nstrict_chain\n" + LIST)["default_route"] == "strict"


@pytest.mark.parametrize("said,match", [
    ("127.0.0.0/255.0.0.0", {"ip_cidr": ["127.0.0.0/8"]}), ("10.0.0.0/8", {"ip_cidr": ["10.0.0.0/8"]}), ("::1/128", {"ip_cidr": ["::1/128"]}),
    ("192.168.1.0:80/255.255.255.0", {"ip_cidr": ["192.168.1.0/24"], "port": [80]}), ("[::]:80/0", {"ip_cidr": ["::/0"], "port": [80]})])
def test_localnet(folder, said, match):
    """Of a name its addresses count only where names are looked up here."""
    rule, = made(folder, "proxychains", f"localnet {said}\nproxy_dns\n" + LIST)["rules"]
    assert rule == {"name": "localnet-1", "match": match, "route": "direct"}
    rule, = made(folder, "proxychains", f"localnet {said}\n" + LIST)["rules"]
    assert rule == {"name": "localnet-1", "match": match, "route": "direct", "resolve": True}


def test_remarks_and_blanks(folder):
    """CRLF, tabs, remarks at a line's end."""
    policy = made(folder, "proxychains", "# strict_chain\r\n\trandom_chain # of them\r\nchain_len = 2\r\nproxy_dns\r\n \t\r\n[ProxyList] # mine\r\n"
                  " # meanwhile\r\n\tsocks5\t192.0.2.1 \t 1080 # no user\r\nhttp 192.0.2.2 3128 joe # no password\r\nsocks5 ::1 1080 u #p\r\n"
                  "socks5 [2001:db8::1] 1080\r\n")
    assert [{k: v for k, v in u.items() if k != "name"} for u in policy["upstreams"]] == [
        {"url": "socks5://192.0.2.1:1080"}, {"url": "http://192.0.2.2:3128", "username": "joe"},
        {"url": "socks5://[::1]:1080", "username": "u", "password": "#p"}, {"url": "socks5://[2001:db8::1]:1080"}]
    assert policy["chains"] == [{"name": "random", "hops": ["any", "any"]}] and "0.conf:" not in policy["comment"].replace("0.conf: programs", "")


@pytest.mark.parametrize("said,want", [("", "14s"), ("tcp_read_time_out 5000\n", "15s"), ("tcp_connect_time_out 500\ntcp_read_time_out 250\n", "750ms"),
                                       ("tcp_connect_time_out 1800000\ntcp_read_time_out 1800000\n", "60m")])
def test_times_of_proxychains(folder, said, want):
    assert made(folder, "proxychains", said + LIST)["timeouts"]["connect"] == want


@pytest.mark.parametrize("said", ["tcp_connect_time_out 0", "tcp_connect_time_out 1800001", "tcp_connect_time_out soon", "tcp_connect_time_out"])
def test_times_that_are_none(folder, said):
    policy = made(folder, "proxychains", f"\n{said}\n" + LIST)
    assert policy["timeouts"]["connect"] == "14s" and "0.conf:2: tcp_connect_time_out is no number" in policy["comment"]


def test_what_proxychains_has_alone(folder):
    policy = made(folder, "proxychains", "dnat 1.1.1.1 1.1.1.2\nlocalnet 10.0.0.0/255.0.255.0\nquiet_mode\nfoo\n" + LIST + "raw 1.2.3.4 99\n")
    for note in ('0.conf:1: "dnat" has no equal', "0.conf:2: this localnet", '0.conf:4: "foo"', '0.conf:9: a proxy of type "raw"'):
        assert note in policy["comment"]
    assert "quiet_mode" not in policy["comment"] and "rules" not in policy


@pytest.mark.parametrize("text", ["", "[ProxyList]\n", "[ProxyList]\nsocks5 1.2.3.4\n", "[ProxyList]\nsocks5 1.2.3.4 0\n", "[ProxyList]\nsocks6 1.2.3.4 1\n",
                                  "[ProxyList]\n" + "socks5 1.2.3.4 1\n" * 17, "[ProxyList]\nsocks5 a/b 1\n", "[ProxyList]\nsocks5 [a] 1\n",
                                  "[ProxyList]\nsocks5 [ 1\n"])
def test_proxychains_files_of_which_nothing_can_be_made(folder, text):
    code, policy, errors = run_import(folder, "proxychains", text)
    assert (code, policy) == (1, None) and errors.startswith("sockroute: ")


@pytest.mark.parametrize("kind", ["strict_chain", "dynamic_chain", "random_chain\nchain_len = 2", "round_robin_chain\nchain_len = 2"])
def test_the_same_file_serves_proxychains_and_us(folder, run, serve, kind):
    target = serve(h.page(b"through all\n"))
    hops = [run(h.policy()) for _ in range(2)]
    text = f"{kind}\nproxy_dns\n[ProxyList]\n" + "".join(f"socks5 127.0.0.1 {hop.front}\n" for hop in hops)
    conf = folder / "proxychains.conf"
    conf.write_text(text)
    r = subprocess.run([h.need("proxychains4"), "-q", "-f", conf, h.need("curl"), "-sS", f"http://127.0.0.1:{target.port}/"], capture_output=True,
                       timeout=h.DEADLINE * h.SLOW)
    assert r.stdout == b"through all\n", r.stderr
    policy = made(folder, "proxychains", text)
    policy["listeners"][0]["listen"] = f"127.0.0.1:{h.free_port()}"
    s = run(policy)
    assert h.curl("--socks5-hostname", f"127.0.0.1:{s.front}", f"http://127.0.0.1:{target.port}/") == (0, b"through all\n")


def imported(folder, run, text, **health):
    """A router that serves a proxychains.conf."""
    policy = made(folder, "proxychains", text)
    for pool in policy.get("pools", []):
        pool.get("health", {}).update(health)
    policy["listeners"][0]["listen"] = f"127.0.0.1:{h.free_port()}"
    return run(h.policy(**{k: v for k, v in policy.items() if k != "comment"}))


def list_of(hops, dead=()):
    """A [ProxyList] of these routers; where those that are dead are nobody listens."""
    return "[ProxyList]\n" + "".join(f"socks5 127.0.0.1 {h.free_port() if n in dead else hop.front}\n" for n, hop in enumerate(hops))


@pytest.mark.parametrize("dead", [[0], [1], [2], [3], [0, 1], [1, 2], [2, 3], [0, 3], [0, 1, 2], [1, 2, 3]])
def test_a_dynamic_chain_skips_the_dead_from_the_first_request_on(folder, run, serve, dead):
    target, hops = serve(h.echo), [run(h.policy()) for _ in range(4)]
    s = imported(folder, run, "dynamic_chain\nproxy_dns\n" + list_of(hops, dead))
    c, rep = h.socks5(s.front, "127.0.0.1", target.port)
    c.close()
    assert rep == 0 and s.access_lines(1)[0]["path"] == ">".join(f"proxy-{n + 1}" for n in range(4) if n not in dead)


@pytest.mark.parametrize("dead", [0, 1, 2])
def test_a_strict_chain_does_not(folder, run, serve, dead):
    target, hops = serve(h.echo), [run(h.policy()) for _ in range(3)]
    s = imported(folder, run, "strict_chain\nproxy_dns\n" + list_of(hops, [dead]))
    assert h.socks5(s.front, "127.0.0.1", target.port)[1] == 1
    line, = s.access_lines(1)
    assert (line["hop"], line["verdict"]) == (f"proxy-{dead + 1}", "upstream failed")


@pytest.mark.parametrize("kind", ["random_chain", "round_robin_chain"])
@pytest.mark.parametrize("length", [1, 2])
def test_chains_of_chain_len_skip_the_dead_and_have_nobody_twice(folder, run, serve, kind, length):
    target, hops = serve(h.echo), [run(h.policy()) for _ in range(4)]
    s = imported(folder, run, f"{kind}\nchain_len = {length}\nproxy_dns\n" + list_of(hops, [1]))
    for _ in range(20):
        c, rep = h.socks5(s.front, "127.0.0.1", target.port)
        c.close()
        assert rep == 0
    paths = [line["path"].split(">") for line in s.access_lines(20)]
    assert all(len(path) == len(set(path)) == length and "proxy-2" not in path for path in paths)
    assert {path[0] for path in paths} >= ({"proxy-3"} if length == 2 and kind == "round_robin_chain" else {"proxy-3", "proxy-4"})


@pytest.mark.parametrize("dead,want", [([], ["1>2", "3>4", "1>2", "3>4"]), ([1], ["1>3", "3>4", "1>3"]), ([0, 2], ["2>4", "4>2", "2>4"]),
                                       ([3, 0], ["2>3", "3>2", "2>3"])])
def test_a_round_robin_chain_goes_on_with_the_next(folder, run, serve, dead, want):
    target, hops = serve(h.echo), [run(h.policy()) for _ in range(4)]
    s = imported(folder, run, "round_robin_chain\nchain_len = 2\nproxy_dns\n" + list_of(hops, dead), interval="100ms", timeout="10s", fall=1)
    for n in dead:
        h.wait_until("the check of it", lambda n=n: s.upstream(f"proxy-{n + 1}")["state"] == "down")
    for n, path in enumerate(want):
        c, rep = h.socks5(s.front, "127.0.0.1", target.port)
        c.close()
        assert rep == 0 and s.access_lines(n + 1)[-1]["path"].replace("proxy-", "") == path


# ---- the command ----


@pytest.mark.parametrize("args,code", [([], 2), (["jsocks"], 2), (["squid", "x"], 2), (["proxychains", "a", "b"], 2), (["jsocks", "/nowhere"], 1),
                                       (["jsocks", "/"], 1), (["--help"], 0)])
def test_exit_codes(args, code):
    r = subprocess.run([h.BINARY, "import", *args], capture_output=True, text=True, timeout=h.DEADLINE * h.SLOW)
    assert r.returncode == code
    assert bool(r.stdout) == (code == 0) and bool(r.stderr) == (code != 0)
