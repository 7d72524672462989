"""Names: who is asked for which, and who is not, by the query log of a real dnsmasq; cache, families, forbidden addresses."""
import socket
import threading
import time

import pytest

import harness as h
import peers

BOTH = [("target.test", "A"), ("target.test", "AAAA")]


def ask_by_name(router, name="target.test", port=80):
    """By each protocol that carries names; whether it was granted."""
    return [ask(router.front, name, port)[1] for ask in h.ASK.values()]


@pytest.fixture
def dnsmasq(programs):
    return programs.dnsmasq("--address=/target.test/127.0.0.1")


# ---- what must not leak ----

@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "socks4a", "http"])
def test_a_name_for_an_upstream_causes_no_query(run, serve, dnsmasq, scheme):
    """Through an upstream, a pool that tries two, and a chain; a rule on addresses and a rejected one change nothing."""
    exit_ = run(h.policy(dns={"hosts": {"target.test": ["127.0.0.1"]}}))
    target = serve(h.echo)
    router = run(h.policy(
        dns={"servers": [dnsmasq.address]},
        upstreams=[{"name": "up", "url": f"{scheme}://127.0.0.1:{exit_.front}"}, {"name": "dead", "url": f"{scheme}://127.0.0.1:{h.free_port()}"},
                   {"name": "again", "url": f"{scheme}://127.0.0.1:{exit_.front}"}],
        pools=[{"name": "pool", "members": ["dead", "up"], "balance": "first", "retry": {"attempts": 1}}],
        chains=[{"name": "chain", "hops": ["up", "again"]}],
        rules=[{"match": {"ip_cidr": ["192.0.2.0/24"]}, "route": "reject"}, {"match": {"domain": ["no.test"]}, "route": "reject"},
               {"match": {"protocol": ["socks5"]}, "route": "pool"}, {"match": {"protocol": ["http"]}, "route": "chain"}],
        default_route="up"))
    assert ask_by_name(router, port=target.port) == [True] * 3
    assert ask_by_name(router, "no.test") == [False] * 3
    h.wait_until("three connections at the target", lambda: target.accepted == 3)
    assert dnsmasq.queries() == [] and router.stats()["dns"]["queries"] == 0


@pytest.mark.parametrize("upstream, queries", h.named([
    ("direct", None, BOTH),
    ("direct upstream", {"url": "direct://"}, BOTH),
    ("socks4", {"url": "socks4://127.0.0.1:{}"}, BOTH),
    ("resolved here", {"url": "socks5://127.0.0.1:{}", "resolve": "local"}, BOTH),
]))
def test_a_name_that_needs_an_address_is_asked_for(run, serve, dnsmasq, upstream, queries):
    exit_ = run(h.policy())
    target = serve(h.echo)
    more = {} if upstream is None else {"upstreams": [{"name": "up", **upstream, "url": upstream["url"].format(exit_.front)}], "default_route": "up"}
    router = run(h.policy(workers=1, dns={"servers": [dnsmasq.address]}, **more))
    assert ask_by_name(router, port=target.port) == [True] * 3
    assert sorted(dnsmasq.queries()) == queries
    # the rest came from the cache
    stats = router.stats()["dns"]
    assert (stats["queries"], stats["cache_hits"]) == (2, 2)


def test_only_the_upstreams_own_name_is_asked_for(run, dnsmasq):
    exit_ = run(h.policy(dns={"hosts": {"elsewhere.test": ["127.0.0.1"]}}))
    router = run(h.policy(dns={"servers": [dnsmasq.address], "family": "ipv4_only"},
                          upstreams=[{"name": "up", "url": f"socks5://target.test:{exit_.front}"}], default_route="up"))
    assert h.socks5(router.front, "elsewhere.test", exit_.front)[1] == 0
    assert dnsmasq.queries() == [("target.test", "A")]


def test_a_rule_may_ask(run, dnsmasq):
    """"resolve": true looks a name up though its route would not need that."""
    exit_ = run(h.policy())
    router = run(h.policy(
        dns={"servers": [dnsmasq.address], "family": "ipv4_only"}, upstreams=[{"name": "up", "url": f"socks5://127.0.0.1:{exit_.front}"}],
        rules=[{"name": "home", "match": {"ip_cidr": ["127.0.0.0/8"]}, "resolve": True, "route": "reject"}], default_route="up"))
    assert h.socks5(router.front, "target.test", 80)[1] == 2
    assert dnsmasq.queries() == [("target.test", "A")]
    assert router.access_lines()[0]["rule"] == "home"


# ---- who answers ----

def test_hosts_answer_without_a_query(run, serve, dnsmasq):
    target = serve(h.echo)
    router = run(h.policy(dns={"servers": [dnsmasq.address], "hosts": {"Db.Internal": ["127.0.0.1"], "target.test": ["127.0.0.1"]}}))
    for name in ("db.internal", "DB.internal.", "target.test", "localhost"):
        assert h.socks5(router.front, name, target.port)[1] == 0, name
    assert dnsmasq.queries() == []


def test_rules_send_suffixes_to_their_servers(run, serve, programs):
    """The longest suffix wins, on label borders."""
    target = serve(h.echo)
    every = "--address=/#/127.0.0.1"
    main, corp, lab = programs.dnsmasq(every), programs.dnsmasq(every), programs.dnsmasq(every)
    router = run(h.policy(dns={
        "servers": [main.address], "family": "ipv4_only",
        "rules": [{"domain_suffix": ["corp.example"], "servers": [corp.address]}, {"domain_suffix": ["lab.corp.example"], "servers": [lab.address]}]}))
    names = {main: ["example", "notcorp.example", "corp.example.org"], corp: ["corp.example", "a.corp.example", "xlab.corp.example"],
             lab: ["lab.corp.example", "b.lab.corp.example"]}
    for mine in names.values():
        for name in mine:
            assert h.socks5(router.front, name, target.port)[1] == 0
    assert {s.port: [n for n, _ in s.queries()] for s in names} == {s.port: mine for s, mine in names.items()}


def test_a_silent_server_is_passed_over(run, serve, started):
    target = serve(h.echo)
    silent, good = started(h.NameServer(lambda name, qtype: None)), started(h.NameServer({"target.test": ["127.0.0.1"]}))
    router = run(h.policy(dns={"servers": [silent.address, good.address], "timeout": "500ms", "attempts": 5, "family": "ipv4_only"}))
    assert h.socks5(router.front, "target.test", target.port)[1] == 0
    assert silent.queries and good.queries


def test_silence_and_failure_are_told(run, started):
    """Of all servers: no answer in time, and a host that can't be reached."""
    for names, timeout, rep in ((lambda name, qtype: None, "100ms", 6), (lambda name, qtype: (2, []), "1m", 4)):
        server = started(h.NameServer(names))
        router = run(h.policy(dns={"servers": [server.address], "timeout": timeout, "attempts": 1}, timeouts={"connect": timeout}))
        assert h.socks5(router.front, "target.test", 80)[1] == rep


# ---- cache ----

def asked(server, name="target.test"):
    return [n for n, _ in server.queries].count(name)


@pytest.fixture
def one_worker(run, started):
    """A router with one worker (each has a cache of its own) and its name server."""

    def start(names, cache, **server):
        ns = started(h.NameServer(names, **server))
        return run(h.policy(workers=1, dns={"servers": [ns.address], "timeout": "1m", "family": "ipv4_only", "cache": cache})), ns

    return start


def test_an_answer_is_kept_for_its_ttl_within_bounds(one_worker, serve):
    target = serve(h.echo)

    def ask(router):
        assert h.socks5(router.front, "target.test", target.port)[1] == 0

    names = {"target.test": ["127.0.0.1"]}
    for cache, ttl in (({"max_ttl": "300ms"}, 60), ({"min_ttl": "300ms"}, 0)):
        router, ns = one_worker(names, cache, ttl=ttl)
        before = time.monotonic()
        ask(router)
        ask(router)
        after, n = time.monotonic(), asked(ns)
        if after - before < 0.3:
            assert n == 1
        h.wait_until("the entry to be too old", lambda: time.monotonic() - after > 0.35)
        ask(router)
        assert asked(ns) == n + 1
    router, ns = one_worker(names, {}, ttl=0)
    ask(router)
    ask(router)
    assert asked(ns) == 2
    router, ns = one_worker(names, {"max_entries": 0}, ttl=60)
    ask(router)
    ask(router)
    assert asked(ns) == 2


def test_that_a_name_does_not_exist_is_kept_too(one_worker):
    """For negative_ttl at most; a server's failure is not."""
    router, ns = one_worker({}, {"negative_ttl": "300ms"})
    before = time.monotonic()
    for _ in range(2):
        assert h.socks5(router.front, "target.test", 80)[1] == 4
    after, n = time.monotonic(), asked(ns)
    if after - before < 0.3:
        assert n == 1
    h.wait_until("the entry to be too old", lambda: time.monotonic() - after > 0.35)
    assert h.socks5(router.front, "target.test", 80)[1] == 4
    assert asked(ns) == n + 1
    router, ns = one_worker(lambda name, qtype: (2, []), {"negative_ttl": "10s"})
    assert h.socks5(router.front, "target.test", 80)[1] == 4
    first = asked(ns)
    assert h.socks5(router.front, "target.test", 80)[1] == 4
    assert asked(ns) == 2 * first


def test_the_cache_is_shown_and_emptied(one_worker, serve):
    target = serve(h.echo)
    router, ns = one_worker({"target.test": ["127.0.0.1"]}, {})
    assert h.socks5(router.front, "target.test", target.port)[1] == 0
    entry = router.get("/v1/dns/cache")["entries"][0]
    assert (entry["name"], entry["addresses"]) == ("target.test", ["127.0.0.1"]) and 50 < entry["ttl_seconds"] <= 60
    assert router.call("DELETE", "/v1/dns/cache?name=target.test").status == 204
    assert router.get("/v1/dns/cache")["total"] == 0
    assert h.socks5(router.front, "target.test", target.port)[1] == 0
    assert asked(ns) == 2


def test_those_who_ask_for_one_name_share_a_query(one_worker, serve):
    target = serve(h.echo)
    release = threading.Event()

    def slow(name, qtype):
        release.wait(h.DEADLINE * h.SLOW)
        return 0, ["127.0.0.1"]

    router, ns = one_worker(slow, {})
    clients = []
    for _ in range(20):
        s = h.connect(router.front)
        s.sendall(h.socks4_request("target.test", target.port))
        clients.append(s)
    h.wait_until("all to wait", lambda: [c["state"] for c in router.get("/v1/connections")["connections"]].count("dialing") == 20)
    release.set()
    assert [h.recv_exactly(s, 8)[1] for s in clients] == [90] * 20
    assert asked(ns) == 1


# ---- families ----

@pytest.fixture
def both_families(started, serve):
    """A name with an address of each family; a target on each that says which it is."""
    port = h.free_port()
    serve(lambda conn, server: conn.sendall(b"4"), port=port)
    serve(lambda conn, server: conn.sendall(b"6"), host="::1", family=socket.AF_INET6, port=port)
    return started(h.NameServer({"target.test": ["127.0.0.1", "::1"], "four.test": ["127.0.0.1"], "six.test": ["::1"]})), port


def in_order(ns, first):
    """That type is answered before the other: who is told of one waits for the other for a moment only, be it the preferred one."""
    def answer(name, qtype, names=ns.names):
        if name == "target.test" and qtype != first:
            h.wait_until("the first answer to be sent", lambda: (name, first) in ns.answered)
        return (0, names[name]) if name in names else (3, [])

    ns.names = answer


@pytest.mark.parametrize("family, got, types", [
    ("auto", b"6", {1, 28}), ("ipv4", b"4", {1, 28}), ("ipv6", b"6", {1, 28}), ("ipv4_only", b"4", {1}), ("ipv6_only", b"6", {28})])
def test_families(run, both_families, family, got, types):
    ns, port = both_families
    if types == {1, 28}:
        in_order(ns, 1 if got == b"4" else 28)
    router = run(h.policy(dns={"servers": [ns.address], "family": family}))
    s, rep = h.socks5(router.front, "target.test", port)
    assert rep == 0 and h.recv_all(s) == got
    assert {qtype for _, qtype in ns.queries} == types
    for name, its in (("four.test", 1), ("six.test", 28)):
        assert h.socks5(router.front, name, port)[1] == (0 if its in types else 4)


def test_the_other_family_is_dialled_where_the_first_is_dead_or_silent(run, started, serve):
    """RFC 8305: a silent address costs a quarter of a second, not the time-out."""
    target = serve(lambda conn, server: conn.sendall(b"4"), port=h.free_port())
    with socket.socket(socket.AF_INET6) as silent:
        silent.bind(("::1", target.port))
        ns = started(h.NameServer({"target.test": ["127.0.0.1", "::1"]}))
        router = run(h.policy(dns={"servers": [ns.address], "family": "ipv6"}, timeouts={"connect": "20s"}))
        s, rep = h.socks5(router.front, "target.test", target.port)  # bound, but nobody listens: refused
        assert rep == 0 and h.recv_all(s) == b"4"
        silent.listen(0)
        fillers = [socket.socket(socket.AF_INET6) for _ in range(4)]
        for f in fillers:
            f.setblocking(False)
            f.connect_ex(("::1", target.port))
        before = time.monotonic()
        s, rep = h.socks5(router.front, "target.test", target.port)
        assert rep == 0 and h.recv_all(s) == b"4" and time.monotonic() - before < 10
        for f in fillers:
            f.close()


def test_an_answer_that_never_comes_does_not_hold_up_the_other(run, started, serve):
    target = serve(h.echo)
    ns = started(h.NameServer(lambda name, qtype: (0, ["127.0.0.1"]) if qtype == 1 else None))
    router = run(h.policy(dns={"servers": [ns.address], "timeout": "1m"}, timeouts={"connect": "1m"}))
    assert h.socks5(router.front, "target.test", target.port)[1] == 0  # within our own deadline, which is shorter


# ---- forbidden addresses ----

def test_a_name_can_not_get_around_a_reject_rule_on_addresses(run, started, serve):
    forbidden = serve(h.echo, host="127.0.0.2", port=h.free_port())
    allowed = serve(lambda conn, server: conn.sendall(b"allowed"), port=forbidden.port)
    ns = started(h.NameServer({"bad.test": ["127.0.0.2"], "mapped.test": ["::ffff:127.0.0.2"], "mixed.test": ["127.0.0.2", "127.0.0.1"],
                               "good.test": ["127.0.0.1"], "set.test": ["127.0.0.3"]}))
    exit_ = run(h.policy())
    router = run(h.policy(
        [h.listener(), h.listener("old"), h.listener("local")],
        dns={"servers": [ns.address], "hosts": {"host.test": ["127.0.0.2"], "hostmapped.test": ["::ffff:7f00:2"]}},
        sets=[{"name": "three", "type": "ip", "values": ["127.0.0.3"]}],
        upstreams=[{"name": "old", "url": f"socks4://127.0.0.1:{exit_.front}"},
                   {"name": "local", "url": f"http://127.0.0.1:{exit_.front}", "resolve": "local"}],
        rules=[{"match": {"listener": ["old"]}, "route": "old"}, {"match": {"listener": ["local"]}, "route": "local"},
               {"match": {"domain_suffix": ["test"]}, "route": "direct"},
               {"match": {"ip_cidr": ["127.0.0.2/32"]}, "route": "reject"}, {"match": {"set": ["three"]}, "route": "reject"}]))
    for i in range(3):
        for name in ("bad.test", "mapped.test", "host.test", "hostmapped.test", "set.test"):
            assert h.socks5(router.port_of(i), name, forbidden.port)[1] == 2, (i, name)
        assert h.socks5(router.port_of(i), "good.test", forbidden.port)[1] == 0
        s, rep = h.socks5(router.port_of(i), "mixed.test", forbidden.port)
        assert rep == 0 and h.recv_all(s) == b"allowed"
    # spelled as an address it is one, and meets the rule on its own
    for spelled in ("127.0.0.2", "127.2", "0x7f000002", "017700000002", "2130706434", "::ffff:127.0.0.2", "127.0.0.2."):
        assert h.socks5(router.front, spelled, forbidden.port)[1] == 2, spelled
        assert h.http_connect(router.front, spelled, forbidden.port)[1] == 403, spelled
    h.wait_until("six connections at the target", lambda: allowed.accepted == 6)
    assert forbidden.accepted == 0


def test_no_spelling_of_this_host_gets_around_a_reject_rule(run, started, serve):
    """The unspecified address leads here too, written or looked up; blockers of names answer with it."""
    here = serve(h.echo)
    ns = started(h.NameServer({"zero.test": ["0.0.0.0"], "zero6.test": ["::"], "mapped.test": ["::ffff:0.0.0.0"]}))
    router = run(h.policy(dns={"servers": [ns.address], "hosts": {"host.test": ["0.0.0.0"]}},
                          sets=[{"name": "here", "type": "ip", "values": ["127.0.0.0/8", "::1"]}]))
    names = ["zero.test", "zero6.test", "mapped.test", "host.test", "0.0.0.0", "0", "::", "::ffff:0.0.0.0"]
    for match in ({"ip_cidr": ["127.0.0.0/8", "::1/128"]}, {"set": ["here"]}):
        router.reload({**router.policy, "rules": [{"match": match, "route": "reject"}]})
        for name in names:
            assert h.socks5(router.front, name, here.port)[1] == 2, name
    assert here.accepted == 0
    assert h.socks5(router.front, "0.0.0.0", 0, command=2)[1] == 0  # for a BIND that is anybody


# ---- names that are not ASCII ----

BUECHER, A_LABEL = "bücher.test", "xn--bcher-kva.test"


def granted(router, name, port):
    raw = name.encode()
    with h.connect(router.front) as s:
        s.sendall(b"\x05\x01\x00\x05\x01\x00\x03" + bytes([len(raw)]) + raw + port.to_bytes(2, "big"))
        assert h.recv_exactly(s, 2) == b"\x05\x00"
        return h.socks5_read_reply(s)


@pytest.mark.parametrize("written", [BUECHER, "BÜCHER.Test", A_LABEL])
@pytest.mark.parametrize("match", ["domain", "domain_suffix", "domain_keyword", "set", "set file"])
def test_a_rule_knows_a_name_in_either_form(run, folder, written, match):
    rule = {match: [written]}
    more = {}
    if match == "domain_keyword":
        rule = {match: ["bücher" if written == BUECHER else "xn--bcher"]}
    elif match == "set":
        rule, more = {"set": ["s"]}, {"sets": [{"name": "s", "type": "domain", "values": [written]}]}
    elif match == "set file":
        (folder / "names.txt").write_text(f"{written}\n")
        rule, more = {"set": ["s"]}, {"sets": [{"name": "s", "type": "domain", "file": "names.txt"}]}
    router = run(h.policy(upstreams=[{"name": "up", "url": f"socks5://127.0.0.1:{h.free_port()}"}], default_route="up",
                          rules=[{"name": "books", "match": rule, "route": "reject"}], **more))
    names = [BUECHER] if written == BUECHER and match == "domain_keyword" else [BUECHER, "Bücher.test.", A_LABEL]
    for name in names:
        assert granted(router, name, 80) == 2, name
    for name in ("buecher.test", "größe.test"):
        assert granted(router, name, 80) == 1, name


def test_a_name_is_asked_for_in_ascii(run, serve, programs):
    target = serve(h.echo)
    dnsmasq = programs.dnsmasq(f"--address=/{A_LABEL}/127.0.0.1")
    router = run(h.policy(workers=1, dns={"servers": [dnsmasq.address], "family": "ipv4_only", "hosts": {"größe.test": ["127.0.0.1"]}}))
    for name in (BUECHER, A_LABEL, "größe.test"):
        assert granted(router, name, target.port) == 0, name
    assert dnsmasq.queries() == [(A_LABEL, "A")]  # once: it is the same name
    assert {line["to"] for line in router.access_lines(3)} == {f"{name}:{target.port}" for name in (BUECHER, A_LABEL, "größe.test")}


def test_a_name_goes_on_as_it_came(run, serve):
    up = serve(peers.named_upstream("up"))
    router = run(h.policy(upstreams=[{"name": "up", "url": f"socks5://127.0.0.1:{up.port}"}], default_route="up"))
    assert granted(router, BUECHER, 80) == 0
    assert up.noted() == [(None, BUECHER, 80)]
