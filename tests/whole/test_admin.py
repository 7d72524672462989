"""The admin API: who may talk to it, the shape of each call, changes, and what ill will does to it."""
import http.client
import json
import os
import re
import socket
import threading

import pytest

import harness as h

TOKEN = "open-sesame-37"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
HASH = "$y$j9T$ilRg00OBm9uCaFu3R3n4H1$Da1pkSZcPDu4.MmWFKaNjPzmO/OwgY0bHAzPWTJTgbA"  # "example"
TOP = h.TOP

# Every call of the API: method, path, status without a body where the token is right.
CALLS = [
    ("GET", "/healthz", 200), ("GET", "/readyz", 200), ("GET", "/metrics", 200), ("GET", "/v1/status", 200),
    ("GET", "/v1/stats", 200), ("GET", "/v1/upstreams", 200), ("GET", "/v1/upstreams/one", 200),
    ("PATCH", "/v1/upstreams/one", 400), ("GET", "/v1/pools", 200), ("GET", "/v1/pools/both", 200),
    ("GET", "/v1/chains", 200), ("GET", "/v1/rules", 200), ("GET", "/v1/listeners", 200),
    ("GET", "/v1/connections", 200), ("DELETE", "/v1/connections", 400), ("DELETE", "/v1/connections/1", 404),
    ("GET", "/v1/policy", 200), ("PUT", "/v1/policy", 422), ("POST", "/v1/policy/check", 422),
    ("POST", "/v1/policy/reload", 200), ("GET", "/v1/explain", 400), ("GET", "/v1/events", 200), ("GET", "/v1/dns/cache", 200),
    ("DELETE", "/v1/dns/cache", 204), ("GET", "/v1/log/level", 200), ("PUT", "/v1/log/level", 400),
    ("POST", "/v1/drain", 202),
]
METHODS = ["GET", "PUT", "POST", "PATCH", "DELETE"]


def rich(**more):
    """A policy with something of everything; the second listener serves as both upstreams."""
    egress = h.free_port()
    p = h.policy(
        listeners=[
            {"name": "front", "listen": f"127.0.0.1:{h.free_port()}", "protocols": ["socks4", "socks4a", "socks5", "http"]},
            {"name": "egress", "listen": f"127.0.0.1:{egress}"},
        ],
        upstreams=[
            {"name": "one", "url": f"socks5://me:very-secret-password@127.0.0.1:{egress}"},
            {"name": "two", "url": f"socks4a://127.0.0.1:{egress}"},
        ],
        auth=[{"name": "staff", "methods": ["userpass"], "users": [{"name": "alice", "password_hash": HASH}]}],
        pools=[{"name": "both", "members": ["one", {"name": "two", "weight": 3, "tier": 1}], "balance": "first"}],
        chains=[{"name": "twice", "hops": ["one", "both"]}],
        dns={"hosts": {"db.internal": ["10.9.8.7"], "two.internal": ["10.9.8.8", "192.0.2.1"]}},
        rules=[
            {"name": "egress", "match": {"listener": ["egress"]}, "route": "direct"},
            {"name": "mail", "match": {"port": [25]}, "route": "reject"},
            {"match": {"ip_cidr": ["10.9.8.7/32"]}, "resolve": True, "route": "both"},
            {"name": "inner", "match": {"ip_cidr": ["10.9.8.8/32"]}, "route": "reject"},
            {"name": "near", "match": {"domain_suffix": ["near.example", "two.internal"]}, "route": "direct"},
            {"name": "alice", "match": {"user": ["alice"]}, "route": "twice"},
        ],
        default_route="both",
    )
    p.update(more)
    return p


@pytest.fixture
def rich_run(run):
    return run(rich())


@pytest.fixture
def guarded(run):
    p = rich()
    p["admin"]["token"] = TOKEN
    return run(p)


def is_problem(answer, status):
    assert answer.status == status, (answer.status, answer.body)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json["status"] == status and answer.json["title"] and answer.json["detail"]
    return answer.json


# ---- who may talk to it ----


def test_every_route_needs_the_token_but_health(guarded):
    for method, path, want in CALLS:
        open_to_all = path in ("/healthz", "/readyz")
        for wrong in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}, {"Authorization": f"Bearer {TOKEN}x"},
                      {"Authorization": TOKEN}):
            a = guarded.call(method, path, headers=wrong)
            if open_to_all:
                assert a.status == want
            else:
                is_problem(a, 401)
                assert a.headers["WWW-Authenticate"].startswith("Bearer")
    is_problem(guarded.call("GET", "/no/such/path"), 401)
    for method, path, want in CALLS:
        a = guarded.call(method, path, headers=BEARER)
        assert a.status == want, (method, path, a.status, a.body)
    assert guarded.wait() == 0             # the last call was a drain


def test_a_wrong_method_is_405_with_allow(rich_run):
    known = {}
    for method, path, _ in CALLS:
        known.setdefault(re.sub(r"/(one|both|1)$", "/*", path), (path, []))[1].append(method)
    for path, methods in known.values():
        for method in set(METHODS) - set(methods):
            a = rich_run.call(method, path)
            is_problem(a, 405)
            allow = [m.strip() for m in a.headers["Allow"].split(",")]
            assert set(allow) - {"HEAD"} == set(methods), (method, path)


def test_head_has_the_headers_and_no_body(rich_run):
    a = rich_run.call("HEAD", "/v1/status")
    assert a.status == 200 and a.body == b"" and int(a.headers["Content-Length"]) > 20


def test_unknown_paths_and_arguments(rich_run):
    for path in ("/", "/v1", "/v1/", "/v1/nothing", "/v1/upstreams/", "/v1/upstreams/a/b", "/v1/upstreams/%zz", "/v1/upstreams/nobody",
                 "/v1/pools/nobody", "/v1/connections/x"):
        method = "DELETE" if path.startswith("/v1/connections") else "GET"
        is_problem(rich_run.call(method, path), 404)
    for path in ("/v1/status?x=1", "/v1/upstreams?limit=-1", "/v1/upstreams?limit=x", "/v1/upstreams?limit=99999999999999999999",
                 "/v1/upstreams?limit=1&limit=2", "/v1/upstreams?offset=%", "/v1/connections?lmit=1",
                 "/v1/explain?" + "&".join(f"a{i}=1" for i in range(40))):
        is_problem(rich_run.call("GET", path), 400)
    is_problem(rich_run.call("PUT", "/v1/policy?confirm=60s", "{}"), 400)  # not built: nothing is silently ignored
    is_problem(rich_run.call("PUT", "/v1/policy?persist=maybe", "{}"), 400)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "localhost.evil.example", "192.0.2.1"])
def test_a_name_that_leads_to_loopback_is_refused(rich_run, host):
    is_problem(rich_run.call("GET", "/healthz", headers={"Host": host}), 421)
    is_problem(rich_run.call("POST", "/v1/drain", headers={"Host": host}), 421)
    assert rich_run.get("/v1/status")["state"] == "running"


def test_pages_of_other_origins_are_refused(rich_run):
    is_problem(rich_run.call("POST", "/v1/drain", headers={"Origin": "http://evil.example", "Content-Type": "text/plain"}), 403)
    a = rich_run.call("OPTIONS", "/v1/status", headers={"Access-Control-Request-Method": "PUT"})
    is_problem(a, 405)
    assert not [n for n in a.headers if n.lower().startswith("access-control")]
    own = {"Origin": f"http://127.0.0.1:{rich_run.api}"}
    assert rich_run.call("GET", "/v1/status", headers=own).status == 200


# ---- shapes ----


def test_health_and_status(rich_run):
    assert rich_run.call("GET", "/healthz").status == 200
    assert rich_run.call("GET", "/readyz").status == 200
    s = rich_run.get("/v1/status")
    assert set(s) == {"version", "state", "uptime_seconds", "workers", "policy"}
    assert re.fullmatch(r"\d+\.\d+\.\d+", s["version"]) and s["state"] == "running" and s["workers"] == 2
    assert s["policy"]["revision"] == 1 and s["policy"]["source"] == str(rich_run.policy_path)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", s["policy"]["loaded_at"])
    assert rich_run.call("GET", "/v1/policy").headers["ETag"] == f'"{s["policy"]["etag"]}"'


def test_not_ready_without_a_usable_upstream(run):
    r = run(rich())
    for name in ("one", "two"):
        assert r.call("PATCH", f"/v1/upstreams/{name}", {"state": "disabled"}).status == 200
    assert is_problem(r.call("GET", "/readyz"), 503)["detail"] == "no usable upstream for default_route"
    assert r.call("GET", "/healthz").status == 200
    assert r.call("PATCH", "/v1/upstreams/two", {"state": "enabled"}).status == 200
    assert r.call("GET", "/readyz").status == 200


def test_stats_count_what_happened(rich_run, serve):
    target = serve(h.echo)
    s, rep = h.socks5(rich_run.front, "127.0.0.1", target.port)
    assert rep == 0
    s.sendall(b"12345")
    assert h.recv_exactly(s, 5) == b"12345"
    s.close()
    s, rep = h.socks5(rich_run.front, "127.0.0.1", 25)
    assert rep == 2
    s.close()
    h.wait_until("all sessions to be over", lambda: rich_run.get("/v1/stats")["sessions"]["open"] == 0)
    stats = rich_run.get("/v1/stats")
    # the request, and its way through the egress listener
    assert stats["sessions"]["granted"] == 2 and stats["sessions"]["rejected"] == 1 and stats["sessions"]["accepted"] >= 3
    assert stats["by_protocol"]["socks5"] == 3 and stats["by_command"]["connect"] == 3
    assert stats["by_listener"]["egress"]["accepted"] == 1 and stats["by_listener"]["front"]["open"] == 0
    assert stats["bytes"] == {"up": 10, "down": 10}
    assert stats["replies"] == {"granted": 2, "rejected by policy": 1}
    assert set(stats["dns"]) == {"queries", "cache_hits", "failures"}
    u = rich_run.get("/v1/upstreams/one")
    assert u["sessions_total"] == 1 and u["sessions_open"] == 0 and u["failures_total"] == 0 and u["bytes"] == {"up": 5, "down": 5}
    assert u["connect_ms"]["ewma"] > 0 and u["connect_ms"]["p99"] >= u["connect_ms"]["p50"] > 0
    hits = {r["name"]: r["hits"] for r in rich_run.get("/v1/rules")["rules"]}
    assert hits == {"egress": 1, "mail": 1, "rule-2": 0, "inner": 0, "near": 0, "alice": 0}


def test_upstreams_and_pages(rich_run):
    all_of_them = rich_run.get("/v1/upstreams")
    assert all_of_them["total"] == 2 and [u["name"] for u in all_of_them["upstreams"]] == ["one", "two"]
    for u in all_of_them["upstreams"]:
        assert set(u) >= {"name", "url", "state", "weight", "sessions_open", "sessions_total", "failures_total", "connect_ms", "bytes",
                          "last_check"}
        assert u["state"] == "unknown" and u["last_check"] is None
    assert [u["url"] for u in all_of_them["upstreams"]] == [
        rich_run.policy["upstreams"][0]["url"].replace("very-secret-password", "***"), rich_run.policy["upstreams"][1]["url"]]
    assert [u["weight"] for u in all_of_them["upstreams"]] == [1, 3]
    page = rich_run.get("/v1/upstreams?limit=1&offset=1")
    assert page["total"] == 2 and [u["name"] for u in page["upstreams"]] == ["two"]
    assert rich_run.get("/v1/upstreams?offset=7")["upstreams"] == []
    assert rich_run.get("/v1/rules?limit=0") == {"total": 6, "rules": []}
    assert rich_run.get("/v1/upstreams/%6fne")["name"] == "one"


def test_patch_an_upstream(rich_run):
    u = rich_run.call("PATCH", "/v1/upstreams/one", {"state": "draining", "weight": 7}).json
    assert u["state"] == "draining" and u["weight"] == 7 and u["name"] == "one"
    member = rich_run.get("/v1/pools/both")["members"][0]
    assert member["state"] == "draining" and member["weight"] == 7 and not member["usable"] and member["reason"]
    for body in ('{"state": "up"}', '{"state": 1}', '{"weight": 257}', '{"weight": -1}', '{"weight": 1.5}', '{"weigth": 1}',
                 '{"weight": "1"}', '{"weight": 99999999999}'):
        is_problem(rich_run.call("PATCH", "/v1/upstreams/one", body), 422)
    for body in ("", "{", "[]", "1", '{"weight": 1, "weight": 2}', b"\xff", "[" * 100_000, '{"a": 1} x'):
        is_problem(rich_run.call("PATCH", "/v1/upstreams/one", body), 400)
    is_problem(rich_run.call("PATCH", "/v1/upstreams/nobody", {"weight": 1}), 404)
    assert rich_run.get("/v1/upstreams/one")["weight"] == 7
    # until the next policy
    p = rich_run.policy
    p["timeouts"] = {"idle": "9m"}
    assert rich_run.call("PUT", "/v1/policy", p).status == 200
    u = rich_run.get("/v1/upstreams/one")
    assert u["state"] == "unknown" and u["weight"] == 1


def test_pools_chains_rules_listeners(rich_run):
    pools = rich_run.get("/v1/pools")
    assert pools["total"] == 1
    pool = pools["pools"][0]
    assert pool == rich_run.get("/v1/pools/both")
    assert pool["name"] == "both" and pool["balance"] == "first" and pool["usable"] is True
    assert [(m["name"], m["weight"], m["tier"], m["sessions_open"], m["picks"], m["state"]) for m in pool["members"]] == [
        ("one", 1, 0, 0, 0, "unknown"), ("two", 3, 1, 0, 0, "unknown")]
    chains = rich_run.get("/v1/chains")
    assert chains["total"] == 1 and chains["chains"][0]["hops"] == ["one", "both"] and chains["chains"][0]["usable"]
    rules = rich_run.get("/v1/rules")["rules"]
    assert rules[1] == {"name": "mail", "match": {"port": [25]}, "route": "reject", "hits": 0}
    assert rules[2]["name"] == "rule-2"
    listeners = rich_run.get("/v1/listeners")["listeners"]
    assert [x["name"] for x in listeners] == ["front", "egress"]
    assert all(x["state"] == "listening" and x["sessions_open"] == 0 for x in listeners)


def test_connections_filters_and_ends(rich_run, serve):
    target = serve(h.echo)
    socks = [h.socks5(rich_run.front, "127.0.0.1", target.port)[0] for _ in range(3)]
    near, rep = h.socks5(rich_run.front, "localhost", target.port)
    assert rep == 0
    socks[0].sendall(b"xyz")
    assert h.recv_exactly(socks[0], 3) == b"xyz"
    answer = rich_run.get("/v1/connections")
    # each through `one`, which is the egress listener of the same process
    assert answer["total"] == 8 and len(answer["connections"]) == 8
    ids = [c["id"] for c in answer["connections"]]
    assert ids == sorted(ids)
    front = [c for c in answer["connections"] if c["listener"] == "front"]
    assert len(front) == 4
    c = front[0]
    assert set(c) == {"id", "client", "user", "listener", "protocol", "command", "to", "rule", "route", "path", "state", "age_seconds",
                      "idle_seconds", "bytes", "timing_ms"}
    assert c["client"].startswith("127.0.0.1:") and c["user"] is None and c["protocol"] == "socks5" and c["command"] == "connect"
    assert c["to"] == f"127.0.0.1:{target.port}" and c["rule"] == "default" and c["route"] == "both" and c["path"] == ["one"]
    assert c["state"] == "relaying" and c["bytes"] == {"up": 3, "down": 3}
    assert set(c["timing_ms"]) == {"handshake", "resolve", "hops", "total"} and c["timing_ms"]["hops"][0]["name"] == "one"
    for query, n in (("client=127.0.0.1", 8), ("client=::ffff:127.0.0.1", 8), ("client=192.0.2.1", 0), ("upstream=one", 4),
                     ("upstream=two", 0), ("to=127.0.0.1", 6), (f"to=127.0.0.1:{target.port}", 6), ("to=LOCALHOST", 2),
                     (f"to=127.0.0.1:{target.port + 1}", 0), ("user=alice", 0), ("to=localhost&upstream=one", 1)):
        assert rich_run.get(f"/v1/connections?{query}")["total"] == n, query
    page = rich_run.get("/v1/connections?limit=3&offset=4")
    assert page["total"] == 8 and [x["id"] for x in page["connections"]] == ids[4:7]
    is_problem(rich_run.call("DELETE", "/v1/connections"), 400)
    is_problem(rich_run.call("DELETE", "/v1/connections?limit=1"), 400)
    is_problem(rich_run.call("GET", "/v1/connections?user=" + "x" * 300), 400)
    a = rich_run.call("DELETE", f"/v1/connections/{c['id']}")
    assert a.status == 204 and a.body == b""
    assert h.recv_all(socks[0]) == b""
    is_problem(rich_run.call("DELETE", f"/v1/connections/{c['id']}"), 404)
    assert rich_run.call("DELETE", "/v1/connections?to=localhost").status == 204
    assert h.recv_all(near) == b""
    h.wait_until("two requests to be left", lambda: rich_run.get("/v1/connections")["total"] == 4)
    socks[1].sendall(b"still here")
    assert h.recv_exactly(socks[1], 10) == b"still here"


def test_dns_cache(run):
    r = run(rich(dns={"hosts": {}}))
    empty = r.get("/v1/dns/cache")
    assert empty == {"total": 0, "entries": []}
    assert r.call("DELETE", "/v1/dns/cache").status == 204
    is_problem(r.call("DELETE", "/v1/dns/cache?name=not-there.example"), 404)
    is_problem(r.call("DELETE", "/v1/dns/cache?name=192.0.2.1"), 400)
    is_problem(r.call("DELETE", "/v1/dns/cache?name="), 400)


def test_log_level(rich_run):
    assert rich_run.get("/v1/log/level") == {"level": "debug"}
    assert rich_run.call("PUT", "/v1/log/level", {"level": "error"}).json == {"level": "error"}
    assert rich_run.get("/v1/log/level") == {"level": "error"}
    for body in ({"level": "loud"}, {"level": 1}, {}, {"level": "info", "more": 1}):
        is_problem(rich_run.call("PUT", "/v1/log/level", body), 422)


def test_metrics_are_what_prometheus_reads(rich_run, serve):
    target = serve(h.echo)
    s, _ = h.socks5(rich_run.front, "127.0.0.1", target.port)
    s.close()
    a = rich_run.call("GET", "/metrics")
    assert a.status == 200 and a.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    types, values = {}, {}
    sample = re.compile(r'([a-z_]+)(\{(?:[a-z]+="(?:[^"\\\n]|\\["\\n])*",?)*\})? (\+Inf|[0-9.e+-]+)')
    for line in a.body.decode().splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert name not in types, name
            types[name] = kind
            continue
        if line.startswith("# HELP "):
            continue
        m = sample.fullmatch(line)
        assert m, line
        assert (m[1], m[2]) not in values, line
        values[m[1], m[2]] = float(m[3])
        base = re.sub(r"_(bucket|sum|count)$", "", m[1])
        family = base if types.get(base) == "histogram" else m[1]
        assert family in types and family.startswith("sockroute_"), line
        assert (types[family] == "counter") == family.endswith("_total"), line
    assert values["sockroute_sessions_accepted_total", None] == 2
    assert values["sockroute_rule_hits_total", '{rule="default"}'] == 1
    assert values["sockroute_upstream_sessions_total", '{upstream="one"}'] == 1
    assert values["sockroute_upstream_connect_seconds_count", '{upstream="one"}'] == 1
    assert values["sockroute_handshake_seconds_count", None] == 2
    assert values["sockroute_turn_seconds_count", None] > 2
    assert values["sockroute_listener_accepted_total", '{listener="front"}'] == 1
    assert values["sockroute_pool_member_usable", '{pool="both",member="two"}'] == 1


def test_metrics_lose_a_name_that_has_gone(rich_run):
    p = rich_run.policy
    p["upstreams"].append({"name": 'odd"na\\me', "url": "socks5://192.0.2.9:1"})
    assert rich_run.call("PUT", "/v1/policy", p).status == 200
    assert b'sockroute_upstream_usable{upstream="odd\\"na\\\\me"} 1' in rich_run.call("GET", "/metrics").body
    p["upstreams"].pop()
    assert rich_run.call("PUT", "/v1/policy", p).status == 200
    assert b"odd" not in rich_run.call("GET", "/metrics").body


# ---- explain ----


def explain(r, **query):
    from urllib.parse import urlencode

    return r.get("/v1/explain?" + urlencode(query))


def test_explain(rich_run):
    e = explain(rich_run, to="example.com:25", listener="front")
    assert e["rule"] == "mail" and e["route"] == "reject" and e["resolve"] == "none" and e["path"] == [] and e["candidates"] == []
    assert [(t["rule"], t["matched"]) for t in e["tried"]] == [("egress", False), ("mail", True)] and all(t["reason"] for t in e["tried"])
    e = explain(rich_run, to="192.0.2.1:80", listener="egress")
    assert e["rule"] == "egress" and e["path"] == ["direct"] and e["resolve"] == "none"
    # a rule asks for the address
    e = explain(rich_run, to="db.internal:80", listener="front")
    assert e["rule"] == "rule-2" and e["route"] == "both" and e["resolve"] == "local"
    assert e["addresses"] == [{"address": "10.9.8.7", "rejected_by": None}]
    # without an address in play a name goes upstream as it is
    e = explain(rich_run, to="10.1.1.1:80", listener="front")
    assert e["rule"] == "default" and e["route"] == "both" and e["path"] == ["one"] and len(e["tried"]) == 6
    assert [(c["name"], c["usable"], c["pool"]) for c in e["candidates"]] == [("one", True, "both"), ("two", True, "both")]
    e = explain(rich_run, to="10.1.1.1:80", listener="front", user="alice+s7", client="192.0.2.7", protocol="http", command="connect")
    assert e["rule"] == "alice" and e["route"] == "twice" and e["path"] == ["one", "two"]


def test_explain_tells_which_address_must_not_be_dialled(rich_run):
    e = explain(rich_run, to="two.internal:80", listener="front")
    assert {a["address"]: a["rejected_by"] for a in e["addresses"]} == {"10.9.8.8": "inner", "192.0.2.1": None}


def test_explain_knows_no_way_where_all_addresses_are_forbidden(run):
    hosts = {"one.internal": ["10.9.8.8"], "two.internal": ["10.9.8.8", "192.0.2.1"]}
    r = run(h.policy(dns={"hosts": hosts}, rules=[{"name": "inner", "match": {"ip_cidr": ["10.0.0.0/8"]}, "route": "reject"}]))
    e = explain(r, to="two.internal:80")
    assert e["rule"] == "default" and e["path"] == ["direct"]
    e = explain(r, to="one.internal:80")
    assert e["rule"] == "default" and e["addresses"] == [{"address": "10.9.8.8", "rejected_by": "inner"}] and e["path"] == []
    assert h.socks5(r.front, "one.internal", 80)[1] == 2


def test_explain_says_why_a_member_is_out(rich_run):
    rich_run.call("PATCH", "/v1/upstreams/one", {"state": "disabled"})
    e = explain(rich_run, to="192.0.2.1:80", listener="front")
    one, two = e["candidates"]
    assert one["state"] == "disabled" and one["usable"] is False and one["reason"]
    assert two["usable"] is True and two["reason"] is None and e["path"] == ["two"]
    rich_run.call("PATCH", "/v1/upstreams/two", {"state": "disabled"})
    assert explain(rich_run, to="192.0.2.1:80", listener="front")["path"] == []


def test_explain_says_who_can_not_do_it(run):
    """BIND and UDP, by kind of upstream; what stands before the last hop of a BIND only gives a tunnel."""
    urls = {"web": "http://127.0.0.1:1", "old": "socks4://127.0.0.1:2", "new": "socks5://127.0.0.1:3"}
    r = run(h.policy(upstreams=[{"name": name, "url": url} for name, url in urls.items()],
                     pools=[{"name": "pool", "members": list(urls), "balance": "first"}],
                     chains=[{"name": "chain", "hops": ["web", "old"]}],
                     rules=[{"match": {"port": [1]}, "route": "web"}, {"match": {"port": [2]}, "route": "chain"}], default_route="pool"))
    udp, bind = "carries no datagrams", "knows no BIND"
    for port, command, reasons, path in [
        (3, "connect", {"web": None, "old": None, "new": None}, ["web"]),
        (3, "bind", {"web": bind, "old": None, "new": None}, ["old"]),
        (3, "udp", {"web": udp, "old": udp, "new": None}, ["new"]),
        (1, "bind", {"web": bind}, []), (1, "udp", {"web": udp}, []),
        (2, "bind", {"web": None, "old": None}, ["web", "old"]), (2, "udp", {"web": udp, "old": udp}, []),
    ]:
        said = explain(r, to=f"192.0.2.1:{port}", command=command)
        assert {c["name"]: c["reason"] for c in said["candidates"]} == reasons, (port, command)
        assert all(c["usable"] == (c["reason"] is None) for c in said["candidates"])
        assert said["path"] == path, (port, command)


def test_explain_does_what_a_request_does(run, serve):
    r = run(rich())
    target = serve(h.echo)
    for host in ("127.0.0.1", "localhost"):
        e = explain(r, to=f"{host}:{target.port}", listener="front")
        s, rep = h.socks5(r.front, host, target.port)
        assert rep == 0
        s.close()
        line = h.wait_until("its access line", lambda: next(
            (x for x in r.access_lines() if x["listener"] == "front" and x["to"] == f"{host}:{target.port}"), None))
        assert (line["rule"], line["route"], line["path"].split(">")) == (e["rule"], e["route"], e["path"])


def test_explain_refuses_what_is_no_question(rich_run):
    for query in ("", "to=example.com", "to=example.com:99999", "to=:80", "to=x:0", "to=a%00b:80", "to=x:1&client=nobody", "to=x:1&protocol=gopher",
                  "to=x:1&command=dance", "what=x"):
        is_problem(rich_run.call("GET", f"/v1/explain?{query}"), 400)
    is_problem(rich_run.call("GET", "/v1/explain?to=x:1&listener=nobody"), 404)


# ---- the policy ----


def test_policy_is_shown_without_secrets(guarded):
    a = guarded.call("GET", "/v1/policy", headers=BEARER)
    shown = a.json
    assert shown["admin"]["token"] == "***"
    assert shown["upstreams"][0]["url"].startswith("socks5://me:***@")
    assert shown["auth"][0]["users"][0]["password_hash"] == "***"
    everything = b"".join(guarded.call("GET", p, headers=BEARER).body for m, p, s in CALLS if m == "GET" and s == 200)
    for secret in (TOKEN, "very-secret-password", HASH):
        assert secret.encode() not in everything and secret not in guarded.log()


def test_put_what_was_shown_keeps_the_secrets(guarded, serve):
    shown = guarded.call("GET", "/v1/policy", headers=BEARER)
    a = guarded.call("PUT", "/v1/policy", shown.body, headers={**BEARER, "If-Match": shown.headers["ETag"]})
    assert a.status == 200 and a.json["revision"] == 2 and a.headers["ETag"] == f'"{a.json["etag"]}"'
    is_problem(guarded.call("GET", "/v1/status"), 401)
    status = guarded.call("GET", "/v1/status", headers=BEARER).json
    assert status["policy"]["revision"] == 2 and status["policy"]["source"] == "api" and status["policy"]["etag"] == a.json["etag"]
    target = serve(h.echo)
    s, rep = h.socks5(guarded.front, "127.0.0.1", target.port)
    assert rep == 0
    s.close()


def test_put_with_a_stale_etag_changes_nothing(rich_run):
    first = rich_run.call("GET", "/v1/policy").headers["ETag"]
    p = dict(rich_run.policy, default_route="direct")
    a = rich_run.call("PUT", "/v1/policy", p, headers={"If-Match": first})
    assert a.status == 200
    for stale in (first, first.strip('"'), '"0000000000000000"', "x", '"', '""', f"{a.json['etag']}0", f"W/{a.headers['ETag']}"):
        is_problem(rich_run.call("PUT", "/v1/policy", rich_run.policy, headers={"If-Match": stale}), 412)
    assert rich_run.call("PUT", "/v1/policy", p, headers={"If-Match": a.json["etag"]}).status == 200      # as JSON has it: no quotes
    assert rich_run.get("/v1/policy")["default_route"] == "direct" and rich_run.get("/v1/status")["policy"]["revision"] == 3
    assert rich_run.call("PUT", "/v1/policy", rich_run.policy, headers={"If-Match": "*"}).status == 200
    assert rich_run.get("/v1/policy")["default_route"] == "both"


def test_of_two_writers_with_one_etag_one_wins(rich_run):
    etag = rich_run.call("GET", "/v1/policy").headers["ETag"]
    statuses = []

    def put(i):
        p = dict(rich_run.policy, timeouts={"idle": f"{i + 1}m"})
        statuses.append(rich_run.call("PUT", "/v1/policy", p, headers={"If-Match": etag}).status)

    threads = [threading.Thread(target=put, args=(i,)) for i in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(statuses) == [200] + [412] * 5


def test_a_faulty_policy_gets_every_error_and_changes_nothing(rich_run):
    before = rich_run.call("GET", "/v1/policy")
    bad = dict(rich_run.policy, default_route="nowhere", upsteams=[], workers="many")
    for call in (("PUT", "/v1/policy"), ("POST", "/v1/policy/check")):
        p = is_problem(rich_run.call(*call, json.dumps(bad, indent=1)), 422)
        found = {e["pointer"]: e for e in p["errors"]}
        assert {"/default_route", "/upsteams", "/workers"} <= set(found)
        for e in p["errors"]:
            assert e["line"] >= 1 and e["column"] >= 1 and e["message"]
        assert 'did you mean "upstreams"' in found["/upsteams"]["message"]
    after = rich_run.call("GET", "/v1/policy")
    assert after.body == before.body and after.headers["ETag"] == before.headers["ETag"]
    for body in ("", "{", "null", "[" * 10_000, b"\x00", b"\xff\xfe", '{"default_route": "direct"} x'):
        is_problem(rich_run.call("PUT", "/v1/policy", body), 422)


def test_check_changes_nothing(rich_run):
    a = rich_run.call("POST", "/v1/policy/check", dict(rich_run.policy, default_route="direct"))
    assert a.status == 200 and a.json["ok"] is True
    assert rich_run.get("/v1/policy")["default_route"] == "both" and rich_run.get("/v1/status")["policy"]["revision"] == 1


def test_check_refuses_what_run_would(rich_run):
    p = dict(rich_run.policy)
    p["upstreams"] = p["upstreams"] + [{"name": "tls", "url": "socks5+tls://192.0.2.1:1", "tls": {"ca": "/nonexistent/ca.pem"}}]
    is_problem(rich_run.call("POST", "/v1/policy/check", p), 422)
    p = dict(rich_run.policy, listeners=[{"name": "open", "listen": f"0.0.0.0:{h.free_port()}"}])
    is_problem(rich_run.call("POST", "/v1/policy/check", p), 422)


def test_persist_writes_the_real_secrets_with_the_files_mode(guarded):
    os.chmod(guarded.policy_path, 0o640)
    shown = guarded.call("GET", "/v1/policy", headers=BEARER).json
    shown["default_route"] = "direct"
    before = guarded.policy_path.read_text()
    assert guarded.call("PUT", "/v1/policy", shown, headers=BEARER).status == 200
    assert guarded.policy_path.read_text() == before
    assert guarded.call("PUT", "/v1/policy?persist=true", shown, headers=BEARER).status == 200
    written = json.loads(guarded.policy_path.read_text())
    assert written["default_route"] == "direct" and written["admin"]["token"] == TOKEN
    assert "very-secret-password" in written["upstreams"][0]["url"] and written["auth"][0]["users"][0]["password_hash"] == HASH
    assert guarded.policy_path.stat().st_mode & 0o777 == 0o640
    assert sorted(p.name for p in guarded.folder.iterdir()) == sorted([guarded.policy_path.name, guarded.log_path.name])
    assert guarded.call("POST", "/v1/policy/reload", headers=BEARER).status == 200
    assert guarded.call("GET", "/v1/policy", headers=BEARER).json["default_route"] == "direct"


def test_persist_writes_through_a_link(rich_run):
    real = rich_run.folder / "elsewhere" / "real.json"
    real.parent.mkdir()
    rich_run.policy_path.rename(real)
    rich_run.policy_path.symlink_to(real)
    assert rich_run.call("PUT", "/v1/policy?persist=true", dict(rich_run.policy, comment="persisted")).status == 200
    assert rich_run.policy_path.is_symlink() and json.loads(real.read_text())["comment"] == "persisted"


def test_persist_without_a_way_to_write_changes_nothing(rich_run):
    rich_run.policy_path.unlink()
    p = dict(rich_run.policy, default_route="direct")
    is_problem(rich_run.call("PUT", "/v1/policy?persist=true", p), 500)
    assert rich_run.get("/v1/policy")["default_route"] == "both"


def test_persist_without_a_file_is_refused(process):
    front, api = h.free_port(), h.free_port()
    process([h.BINARY, "run", "--listen", f"127.0.0.1:{front}", "--admin", f"127.0.0.1:{api}"], "sockroute", api)
    conn = http.client.HTTPConnection("127.0.0.1", api, timeout=h.DEADLINE * h.SLOW)
    conn.request("PUT", "/v1/policy?persist=true", json.dumps(h.policy()))
    r = conn.getresponse()
    is_problem(h.Answer(r, r.read()), 409)
    conn.close()


def test_reload(rich_run):
    changed = dict(rich_run.policy, default_route="direct")
    rich_run.write_policy(changed)
    assert rich_run.call("POST", "/v1/policy/reload").json["revision"] == 2
    assert rich_run.get("/v1/policy")["default_route"] == "direct"
    rich_run.write_policy('{"default_route": "nowhere"}')
    assert is_problem(rich_run.call("POST", "/v1/policy/reload"), 422)["errors"]
    assert rich_run.get("/v1/policy")["default_route"] == "direct"


def test_a_new_token_holds_at_once(guarded):
    p = guarded.policy
    p["admin"]["token"] = "another"
    assert guarded.call("PUT", "/v1/policy", p, headers=BEARER).status == 200
    is_problem(guarded.call("GET", "/v1/status", headers=BEARER), 401)
    assert guarded.call("GET", "/v1/status", headers={"Authorization": "Bearer another"}).status == 200


# ---- the end ----


def test_drain_is_answered_and_ends_the_process(rich_run):
    a = rich_run.call("POST", "/v1/drain")
    assert a.status == 202 and a.json == {"state": "draining"}
    assert rich_run.wait() == 0


def test_while_draining_the_api_stays(rich_run, serve):
    target = serve(h.echo)
    s, rep = h.socks5(rich_run.front, "127.0.0.1", target.port)
    assert rep == 0
    assert rich_run.call("POST", "/v1/drain").status == 202
    h.wait_until("the drain", lambda: rich_run.get("/v1/status")["state"] == "draining")
    assert is_problem(rich_run.call("GET", "/readyz"), 503)["detail"] == "draining"
    assert rich_run.call("GET", "/healthz").status == 200
    is_problem(rich_run.call("PUT", "/v1/policy", rich_run.policy), 409)
    s.sendall(b"still")
    assert h.recv_exactly(s, 5) == b"still"
    s.close()
    assert rich_run.wait() == 0


# ---- ill will ----


def raw(r, request, seconds=10):
    """Sends bytes, reads to the end; the status of the answer, None without one."""
    s = h.connect(r.api)
    s.settimeout(seconds * h.SLOW)
    try:
        s.sendall(request)
        s.shutdown(socket.SHUT_WR)
        answer = h.recv_all(s)
    except OSError:
        return None
    finally:
        s.close()
    return int(answer.split()[1]) if answer.startswith(b"HTTP/1.") else None


def test_a_huge_body_is_413_before_it_is_read(guarded):
    head = f"PUT /v1/policy HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {1 << 40}\r\n\r\n"
    s = h.connect(guarded.api)
    s.sendall(head.encode())
    assert s.recv(64).startswith(b"HTTP/1.1 413")
    s.close()
    # a stranger learns nothing of it
    assert raw(guarded, head.replace(TOKEN, "x").encode()) == 401


def test_an_endless_body_in_chunks_is_refused_in_bounded_memory(rich_run):
    def rss():
        with open(f"/proc/{rich_run.pid}/status") as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read())[1])

    before = rss()
    s = h.connect(rich_run.api)
    s.sendall(b"PUT /v1/policy HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    sent = 0
    try:
        while sent < 200:
            s.sendall(chunk)
            sent += 1
    except OSError:
        pass
    s.close()
    assert 32 <= sent < 200
    assert rich_run.call("GET", "/healthz").status == 200
    assert rss() - before < 150_000 * h.SLOW


def test_a_body_in_chunks_that_is_too_large_is_413(rich_run):
    body = (b"100000\r\n" + b" " * 0x100000 + b"\r\n") * 33 + b"0\r\n\r\n"
    assert raw(rich_run, b"PUT /v1/policy HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n" + body, 20) == 413


@pytest.mark.parametrize("head", [
    b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
    b"Content-Length: 2\r\nContent-Length: 3\r\n",
    b"Content-Length: 2x\r\n",
    b"Content-Length: -2\r\n",
], ids=["beside chunks", "two", "letters", "negative"])
def test_bodies_whose_end_nobody_knows(rich_run, head):
    assert raw(rich_run, b"PUT /v1/log/level HTTP/1.1\r\nHost: 127.0.0.1\r\n" + head + b"\r\n{}") in (400, 413, None)
    assert rich_run.get("/v1/log/level") == {"level": "debug"}


GARBAGE = {
    "nothing": b"",
    "SOCKS": b"\x05\x01\x00",
    "empty lines": b"\r\n\r\n",
    "a method": b"GET",
    "HTTP/0.9": b"GET /healthz\r\n\r\n",
    "HTTP/9.9": b"GET / HTTP/9.9\r\n\r\n",
    "zeros": bytes(4096),
    "random": bytes((i * 167 + 13) % 251 for i in range(4096)),
    "a long path": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "many headers": b"GET /healthz HTTP/1.1\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
    "a NUL in a name": b"GET /v1/upstreams/%00one HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
}


@pytest.mark.parametrize("what", GARBAGE)
def test_garbage(rich_run, what):
    assert raw(rich_run, GARBAGE[what]) != 200
    assert rich_run.call("GET", "/healthz").status == 200


def test_slow_clients_keep_nobody_waiting(rich_run):
    slow = []
    for i in range(60):
        s = h.connect(rich_run.api)
        s.sendall(b"GET /v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: " if i % 2 else
                  b"PUT /v1/policy HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n{")
        slow.append(s)
    assert rich_run.call("GET", "/v1/connections").status == 200
    for s in slow:
        s.close()
    h.wait_until("descriptors to come back", lambda: rich_run.descriptors() < 60)


def test_a_client_that_leaves_while_workers_are_asked(rich_run):
    for _ in range(50):
        s = h.connect(rich_run.api)
        s.sendall(b"GET /v1/connections HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        s.close()
    assert rich_run.get("/v1/connections")["total"] == 0


def test_many_questions_at_once(rich_run):
    def ask():
        for path in ("/v1/connections", "/v1/dns/cache", "/v1/explain?to=db.internal:80&listener=front", "/metrics"):
            for _ in range(10):
                assert rich_run.call("GET", path).status == 200
        done.append(1)

    done = []
    threads = [threading.Thread(target=ask) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(done) == 8


def test_stopping_answers_those_who_wait(run):
    """Questions under way when the process is told to end: each gets an answer or a closed connection, and the process ends."""
    r = run(rich())
    results = []

    def ask():
        try:
            while True:
                results.append(r.call("GET", "/v1/connections").status)
        except (OSError, h.http.client.HTTPException):
            pass

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for t in threads:
        t.start()
    h.wait_until("some answers", lambda: len(results) > 20)
    r.signal(h.signal.SIGTERM)
    assert r.wait() == 0
    for t in threads:
        t.join()
    assert set(results) <= {200, 503}
