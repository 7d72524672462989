"""Upstreams that want Kerberos (RFC 1961): sockroute itself, and scripted ones, honest and lying, with a real KDC."""
import hashlib
import os
import socket
import struct
import subprocess
import threading

import pytest

import gss_server as gss
import harness as h
from gss_client import enter_realm
from peers import named_upstream
from test_bind import Bound, check_exchange

LEVELS = {"none": gss.NONE, "integrity": gss.INTEGRITY, "confidentiality": gss.CONFIDENTIALITY}


@pytest.fixture
def realm(kerberos, monkeypatch):
    k = kerberos()
    enter_realm(monkeypatch, k)
    return k


def upstream(port, name="corp", host="localhost", scheme="socks5", more=None, **gssapi):
    return {"name": name, "url": f"{scheme}://{host}:{port}", "auth": "gssapi",
            "gssapi": {key: str(value) for key, value in gssapi.items()}, **(more or {})}


def router_to(run, realm, port, more=None, **gssapi):
    """A router whose only way is an upstream that wants Kerberos; it is alice unless `gssapi` says otherwise."""
    gssapi = gssapi or {"keytab": realm.keytab("alice")}
    return run(h.policy(upstreams=[upstream(port, **gssapi)], default_route="corp", workers=1, **(more or {})))


def acceptor(run, kerberos_realm, **gssapi):
    """A router that lets in whom Kerberos knows."""
    return run(h.policy([h.listener(auth="staff")],
                        auth=[{"name": "staff", "methods": ["gssapi"], "gssapi": {"keytab": str(kerberos_realm.keytab("rcmd")), **gssapi}}]))


def carries(router, serve, size=3_000_000):
    """Bytes both ways at once, to the last one, each end ended by itself."""
    there, back = os.urandom(size), os.urandom(size)
    target = serve(h.gives_and_takes(back))
    s, rep = h.socks5(router.front, "127.0.0.1", target.port)
    assert rep == 0, router.log()[-3000:]
    assert h.sha256(h.exchange(s, there)) == h.sha256(back)
    assert target.noted() == [h.sha256(there)]


def refused(router, *parts):
    """The client hears of a failing upstream, and the log has these words for why."""
    s, rep = h.socks5(router.front, "127.0.0.1", 9)
    s.close()
    assert rep == 1
    detail = router.access_lines()[-1]["detail"]
    assert all(part in detail for part in parts), detail
    return detail


# ---- good ones ----


@pytest.mark.parametrize("level", LEVELS)
def test_another_implementation(run, serve, realm, level):
    proxy = serve(gss.proxy(realm.keytab("rcmd")))
    router = router_to(run, realm, proxy.port, keytab=realm.keytab("alice"), protection=level)
    carries(router, serve)
    assert proxy.noted() == [("alice@EXAMPLE.TEST", LEVELS[level])]


@pytest.mark.parametrize("level", LEVELS)
def test_sockroute_to_sockroute(run, serve, realm, level):
    there = acceptor(run, realm, protection=level, realm="EXAMPLE.TEST")
    router = router_to(run, realm, there.front, keytab=realm.keytab("alice"), protection=level)
    carries(router, serve)
    there.wait_access_line(user="alice", verdict="granted")


def test_more_protection_than_was_asked_for(run, serve, realm):
    proxy = serve(gss.proxy(realm.keytab("rcmd"), least=gss.CONFIDENTIALITY))
    carries(router_to(run, realm, proxy.port, keytab=realm.keytab("alice"), protection="none"), serve)
    assert proxy.noted() == [("alice@EXAMPLE.TEST", gss.CONFIDENTIALITY)]


@pytest.mark.parametrize("asked", ["none", "integrity"])
def test_protection_as_each_end_likes(run, serve, realm, asked):
    """A proxy may grant "selective" protection: no message of it is less than whole, and some are secret."""
    proxy = serve(gss.proxy(realm.keytab("rcmd"), least=gss.SELECTIVE))
    carries(router_to(run, realm, proxy.port, keytab=realm.keytab("alice"), protection=asked), serve)
    assert proxy.noted() == [("alice@EXAMPLE.TEST", gss.SELECTIVE)]


def test_confidentiality_is_the_default_and_nothing_is_in_the_clear(run, serve, realm):
    """Somebody listens between the two."""
    heard = []
    there = acceptor(run, realm)

    def listens(conn, _server):
        with socket.create_connection(("127.0.0.1", there.front)) as to:
            def back():
                while data := to.recv(65536):
                    heard.append(data)
                    conn.sendall(data)
                conn.shutdown(socket.SHUT_WR)

            thread = threading.Thread(target=back, daemon=True)
            thread.start()
            while data := conn.recv(65536):
                heard.append(data)
                to.sendall(data)
            to.shutdown(socket.SHUT_WR)
            thread.join(h.DEADLINE * h.SLOW)

    router = router_to(run, realm, serve(listens).port)
    target = serve(h.echo)
    s, rep = h.socks5(router.front, "127.0.0.1", target.port)
    assert rep == 0
    assert h.exchange(s, b"in confidence") == b"in confidence"
    said = b"".join(heard)
    assert b"confidence" not in said and struct.pack("!H", target.port) + b"\x05" not in said
    assert said.count(b"\x01\x03") >= 4  # request, reply, and the bytes both ways


def test_tickets_of_a_cache(run, serve, realm):
    proxy = serve(gss.proxy(realm.keytab("rcmd")))
    router = router_to(run, realm, proxy.port, ccache=realm.ccache("bob"))
    carries(router, serve, 1000)
    assert proxy.noted()[0][0] == "bob@EXAMPLE.TEST"


def test_the_systems_own_cache_and_a_principal_of_several(run, serve, realm, monkeypatch):
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{realm.ccache('bob')}")
    proxy = serve(gss.proxy(realm.keytab("rcmd")))
    carries(router_to(run, realm, proxy.port, service="rcmd"), serve, 1000)
    both = realm.folder / "both.keytab"
    both.write_bytes(realm.keytab("alice").read_bytes() + realm.keytab("bob").read_bytes()[2:])
    carries(router_to(run, realm, proxy.port, keytab=both, principal="bob@EXAMPLE.TEST"), serve, 1000)
    carries(router_to(run, realm, proxy.port, keytab=both), serve, 1000)
    assert [name for name, _ in proxy.noted(3)] == ["bob@EXAMPLE.TEST", "bob@EXAMPLE.TEST", "alice@EXAMPLE.TEST"]


def test_the_service_names_another_host(run, serve, realm):
    proxy = serve(gss.proxy(realm.keytab("rcmd")))
    u = upstream(proxy.port, host="127.0.0.9", keytab=realm.keytab("alice"), service="rcmd/localhost")
    u["url"] = f"socks5://127.0.0.1:{proxy.port}"
    carries(run(h.policy(upstreams=[u], default_route="corp")), serve, 1000)


def test_who_else_holds_its_tickets(run, serve, realm):
    """Many at once, with tickets that are fetched once and kept; afterwards the KDC isn't needed."""
    there = acceptor(run, realm)
    router = router_to(run, realm, there.front)
    target = serve(h.echo)
    carries(router, serve, 1000)
    asked = realm.kdc.log().count("TGS_REQ")
    assert asked == 1
    realm.stop()
    sockets = [h.connect(router.front) for _ in range(50)]
    for s in sockets:
        s.sendall(b"\x05\x01\x00" + h.socks5_request("127.0.0.1", target.port) + b"hello")
    for s in sockets:
        assert h.recv_exactly(s, 2) == b"\x05\x00" and h.socks5_read_reply(s) == 0 and h.recv_exactly(s, 5) == b"hello"
        s.close()


# ---- in chains ----


@pytest.fixture
def everybody(run, realm, certificates):
    """A router that speaks everything, and the upstreams that lead to it, by name."""
    tls = {"certificate": str(certificates.good)}
    there = run(h.policy(
        [h.listener("plain"), h.listener("tls", tls=tls), h.listener("krb", auth="staff"), h.listener("krb+tls", auth="staff", tls=tls)],
        auth=[{"name": "staff", "methods": ["gssapi"], "gssapi": {"keytab": str(realm.keytab("rcmd"))}}]))
    port = {name: there.port_of(i) for i, name in enumerate(("plain", "tls", "krb", "krb+tls"))}
    trust = {"tls": {"ca": str(certificates.ca)}}
    alice, bob = realm.keytab("alice"), realm.keytab("bob")
    return [
        {"name": "socks", "url": f"socks5://localhost:{port['plain']}"},
        {"name": "old", "url": f"socks4a://localhost:{port['plain']}"},
        {"name": "web", "url": f"http://localhost:{port['plain']}"},
        {"name": "tls", "url": f"socks5+tls://localhost:{port['tls']}", **trust},
        {"name": "webs", "url": f"https://localhost:{port['tls']}", **trust},
        upstream(port["krb"], "secret", keytab=alice),
        upstream(port["krb"], "whole", keytab=bob, protection="integrity"),
        upstream(port["krb"], "bare", keytab=bob, protection="none"),
        upstream(port["krb+tls"], "both", scheme="socks5+tls", keytab=bob, more=trust),
    ]


CHAINS = ["secret socks", "socks secret", "old secret web", "web whole old", "secret tls", "tls secret", "secret webs socks", "bare tls whole",
          "secret whole", "whole secret whole", "both both", "both secret both", "secret both tls whole webs secret"]


@pytest.mark.parametrize("hops", CHAINS)
def test_chain(run, serve, everybody, hops):
    """Whatever lies on what: sealed within sealed, TLS within sealed within TLS."""
    router = run(h.policy(upstreams=everybody, chains=[{"name": "c", "hops": hops.split()}], default_route="c"))
    carries(router, serve, 300_000)
    small = serve(h.digest)
    for body in (b"", b"x"):
        s, rep = h.socks5(router.front, "127.0.0.1", small.port)
        assert rep == 0
        s.sendall(body)
        s.shutdown(socket.SHUT_WR)
        assert h.recv_all(s) == hashlib.sha256(body).hexdigest().encode()


def test_pipeline_leaves_it_out(run, serve, everybody):
    """Its neighbours may be told all at once."""
    for u in everybody:
        u["pipeline"] = True
    for hops in (["socks", "secret", "web"], ["secret", "secret"], ["secret", "socks", "old", "whole"]):
        router = run(h.policy(upstreams=everybody, chains=[{"name": "c", "hops": hops}], default_route="c"))
        for _ in range(2):
            carries(router, serve, 1000)
        assert router.stats()["sessions"]["failed"] == 0
        router.stop()


@pytest.mark.parametrize("hops", ["secret", "socks secret", "secret secret", "both"])
def test_bind_through_it(run, everybody, hops):
    router = run(h.policy(upstreams=everybody, chains=[{"name": "c", "hops": hops.split()}], default_route="c"))
    b = Bound(router.front, "127.0.0.1")
    with socket.create_connection(b.at) as peer:
        assert b.reply()[0] == 0
        check_exchange(b, peer)


# ---- kept ready, checked, probed ----


def test_warm(run, serve, realm):
    there = acceptor(run, realm)
    target = serve(h.echo)
    router = run(h.policy(upstreams=[upstream(there.front, keytab=realm.keytab("alice"), more={"warm": 1})], default_route="corp", workers=1))
    for _ in range(3):
        h.wait_until("a connection to be ready", lambda: router.upstream("corp")["warm"] == 1)
        s, rep = h.socks5(router.front, "127.0.0.1", target.port)
        assert rep == 0 and h.exchange(s, b"warm") == b"warm"
    assert router.call("PUT", "/v1/policy", {**router.policy, "upstreams": [], "default_route": "direct"}).status == 200


@pytest.mark.parametrize("check", ["handshake", "tunnel"])
def test_health_checks(run, serve, realm, check):
    """One that has lost its key is seen to be down, and another member serves."""
    there, spare = acceptor(run, realm), serve(named_upstream("spare"))
    health = {"check": check, "interval": "200ms", "timeout": "5s", "rise": 1, "fall": 1, "start": "down"}
    if check == "tunnel":
        health["target"] = f"127.0.0.1:{serve(h.echo).port}"
    # its tickets are asked for anew each time
    cache = realm.ccache("alice")
    router = run(h.policy(
        upstreams=[upstream(there.front, ccache=cache), {"name": "spare", "url": f"socks5://127.0.0.1:{spare.port}"}],
        pools=[{"name": "p", "members": ["corp", {"name": "spare", "tier": 1}], "health": health, "retry": {"attempts": 0}}], default_route="p"))
    h.wait_until("it to be up", lambda: router.upstream("corp")["state"] == "up")
    cache.write_bytes(realm.ccache("alice", life="1s").read_bytes())
    h.wait_until("it to be down", lambda: router.upstream("corp")["state"] == "down")
    assert h.wait_until("the spare", lambda: router.upstream("spare")["state"] == "up")


def test_probe(realm, run):
    there = acceptor(run, realm)
    done = subprocess.run([h.BINARY, "probe", f"socks5://localhost:{there.front}", "--json"], capture_output=True, text=True,
                          timeout=h.DEADLINE * h.SLOW)
    assert '"trial": "method gssapi", "answer": true' in " ".join(done.stdout.replace('":', '": ').split()), done.stdout


# ---- what goes wrong ----


def at_greeting(*said):
    def handler(conn, _server):
        h.recv_exactly(conn, h.recv_exactly(conn, 2)[1])
        for part in said:
            conn.sendall(part)

    return handler


def at_token(answer):
    """What the first token is answered with, made from the honest answer."""

    def make(keytab):
        def handler(conn, server):
            class Instead:
                def sendall(self, data):
                    conn.sendall(answer(data))

                def __getattr__(self, name):
                    return getattr(conn, name)

            gss.greet(conn)
            gss.establish(Instead(), keytab)
            server.note("established")
            h.recv_all(conn)

        return handler

    return make


def at_level(answer):
    """What the level is answered with: answer(context, asked) gives the bytes."""

    def make(keytab):
        def handler(conn, _server):
            gss.greet(conn)
            context = gss.establish(conn, keytab)
            _, token = gss.receive(conn)
            conn.sendall(answer(context, context.unwrap(token).message[0]))
            h.recv_all(conn)

        return handler

    return make


def level(value, sealed=False):
    return at_level(lambda context, asked: gss.message(gss.LEVEL, context.wrap(value, sealed).message))


def broken(token, at):
    return token[:at] + bytes([token[at] ^ 1]) + token[at + 1:]


LIES = {
    "no method": (lambda _: at_greeting(b"\x05\xff"), "upstream refused our credentials"),
    "another method": (lambda _: at_greeting(b"\x05\x00"), "upstream broke its protocol"),
    "speaks too early": (lambda _: at_greeting(b"\x05\x01\x01\x01"), "it spoke before it was told who we are"),
    "leaves at the greeting": (lambda _: at_greeting(), "upstream failed"),
    "abort for a token": (at_token(lambda data: b"\x01\xff"), "it refuses our Kerberos ticket"),
    "another version": (at_token(lambda data: b"\x05" + data[1:]), "its answer to the Kerberos ticket is none"),
    "an empty token": (at_token(lambda data: b"\x01\x01\x00\x00"), "its answer to the Kerberos ticket is none"),
    "a level for a token": (at_token(lambda data: b"\x01\x02" + data[2:]), "its answer to the Kerberos ticket is none"),
    "a type that is none": (at_token(lambda data: b"\x01\x09" + data[2:]), "its answer to the Kerberos ticket is none"),
    "a wrong token": (at_token(lambda data: broken(data, len(data) - 1)), "it can't prove who it is"),
    "a token of zeros": (at_token(lambda data: gss.message(gss.CONTEXT, bytes(100))), "it can't prove who it is"),
    "the longest token": (at_token(lambda data: gss.message(gss.CONTEXT, bytes(65535))), "it can't prove who it is"),
    "abort for a level": (at_level(lambda *_: b"\x01\xff"), "it refuses our Kerberos ticket"),
    "less protection": (level(bytes([gss.INTEGRITY])), "it grants less protection than is asked for"),
    "no protection": (level(bytes([gss.NONE])), "it grants less protection than is asked for"),
    "selective protection": (level(b"\x03"), "it grants less protection than is asked for"),
    "a level that is none": (level(b"\x04"), "its answer to the Kerberos ticket is none"),
    "two levels": (level(b"\x02\x02"), "its answer to the Kerberos ticket is none"),
    "no level": (level(b""), "its answer to the Kerberos ticket is none"),
    "a token for a level": (at_level(lambda context, asked: gss.message(gss.CONTEXT, context.wrap(b"\x02", False).message)),
                            "its answer to the Kerberos ticket is none"),
    "a level that is not sealed": (at_level(lambda *_: gss.message(gss.LEVEL, b"\x02")), "the protection that it grants is forged"),
    "a forged level": (at_level(lambda context, asked: gss.message(gss.LEVEL, broken(context.wrap(b"\x02", False).message, 20))),
                       "the protection that it grants is forged"),
}


@pytest.mark.parametrize("lie", LIES)
def test_proxies_that_lie(run, serve, realm, lie):
    make, why = LIES[lie]
    proxy = serve(make(realm.keytab("rcmd")))
    router = router_to(run, realm, proxy.port)
    assert refused(router, why).startswith("upstream corp: ")
    assert router.upstream("corp")["failures_total"] == 1


def test_cut_at_every_message(run, serve, realm):
    """It leaves behind half of each message, and behind each whole one."""
    steps = []

    class Cut(Exception):
        pass

    def handler(conn, _server):
        left = [steps[0]]

        class Scissors:
            def sendall(self, data):
                for half in (data[:len(data) // 2], data[len(data) // 2:]):
                    if left[0] == 0:
                        raise Cut
                    left[0] -= 1
                    conn.sendall(half)

            def __getattr__(self, name):
                return getattr(conn, name)

        try:
            s = Scissors()
            gss.greet(s)
            context = gss.establish(s, realm.keytab("rcmd"))
            sealed = gss.agree(s, context)
            gss.read_request(sealed)
            sealed.sendall(gss.GRANTED)
            h.recv_all(conn)
        except Cut:
            pass

    proxy = serve(handler)
    router = router_to(run, realm, proxy.port)
    for n in range(8):
        steps[:] = [n]
        s, rep = h.socks5(router.front, "127.0.0.1", 9)
        s.close()
        assert rep == 1, n
    steps[:] = [8]
    s, rep = h.socks5(router.front, "127.0.0.1", 9)
    assert rep == 0
    assert router.upstream("corp")["failures_total"] == 8


@pytest.mark.parametrize("change", [lambda m: broken(m, len(m) - 1), lambda m: b"\x05" + m[1:], lambda m: m + m, lambda m: m[:-1], lambda m: b"bare"],
                         ids=["forged", "no frame", "twice", "cut", "in the clear"])
def test_what_follows_is_tampered_with(run, serve, realm, change):
    """Nothing of it reaches the client: its connection breaks."""

    def handler(conn, server):
        gss.greet(conn)
        sealed = gss.agree(conn, gss.establish(conn, realm.keytab("rcmd")))
        gss.read_request(sealed)
        sealed.sendall(gss.GRANTED)
        h.recv_exactly(sealed, 2)
        conn.sendall(change(sealed.seal(b"wrong")))

    router = router_to(run, realm, serve(handler).port)
    s, rep = h.socks5(router.front, "127.0.0.1", 9)
    assert rep == 0
    s.sendall(b"go")
    got = b""
    with pytest.raises(ConnectionResetError):
        while data := s.recv(100):
            got += data
    assert got in (b"", b"wrong")  # what came whole before it was twice


def test_the_fault_is_at_the_right_hop(run, serve, realm):
    proxy = serve(at_level(lambda *_: b"\x01\xff")(realm.keytab("rcmd")))
    first = run(h.policy())
    router = run(h.policy(upstreams=[{"name": "near", "url": f"socks5://127.0.0.1:{first.front}"}, upstream(proxy.port, keytab=realm.keytab("alice"))],
                          chains=[{"name": "c", "hops": ["near", "corp"]}], default_route="c"))
    assert refused(router, "it refuses our Kerberos ticket").startswith("hop 2 (corp): ")
    assert (router.upstream("near")["failures_total"], router.upstream("corp")["failures_total"]) == (0, 1)


def test_no_credentials(run, serve, kerberos, monkeypatch):
    k = kerberos(realms=("EXAMPLE.TEST", "OTHER.TEST"))
    enter_realm(monkeypatch, k)
    proxy = serve(gss.proxy(k.keytab("rcmd")))
    expired = k.ccache("alice", life="1s")
    k.wait_expired(expired)
    wrong = "no Kerberos credentials: "
    refused(router_to(run, k, proxy.port, ccache=expired), wrong, "expired")
    refused(router_to(run, k, proxy.port, keytab=k.keytab("alice"), service="other"), wrong, "not found in Kerberos database")
    refused(router_to(run, k, proxy.port, keytab=k.keytab("alice"), service="rcmd/localhost@NO.TEST"), wrong, "NO.TEST")
    refused(router_to(run, k, proxy.port, service="rcmd"), wrong)  # the system's cache is not there
    stale = k.folder / "stale.keytab"
    stale.write_bytes(k.keytab("alice").read_bytes())
    k.change_key("alice")
    refused(router_to(run, k, proxy.port, keytab=stale), wrong, "failed")
    # of a realm that is trusted, and of one whose ticket nobody there takes
    carries(router_to(run, k, proxy.port, keytab=k.keytab("bob", "OTHER.TEST")), serve, 1000)
    assert proxy.noted()[0][0] == "bob@OTHER.TEST"
    k.stop()
    refused(router_to(run, k, proxy.port, keytab=k.keytab("bob")), wrong, "Cannot contact any KDC")


def test_the_proxy_has_another_key(run, realm):
    there = acceptor(run, realm)
    realm.change_key()
    refused(router_to(run, realm, there.front), "it refuses our Kerberos ticket")


def test_a_principal_of_another_realm(run, kerberos, monkeypatch):
    k = kerberos(realms=("EXAMPLE.TEST", "OTHER.TEST"))
    enter_realm(monkeypatch, k)
    there = acceptor(run, k, realm="EXAMPLE.TEST")
    refused(router_to(run, k, there.front, keytab=k.keytab("alice", "OTHER.TEST")), "it refuses our Kerberos ticket")


def test_a_kdc_that_stays_silent_keeps_nobody_else_waiting(run, serve, realm):
    """One worker: others go on, the attempt ends in its time, and the process when it is told to."""
    held = threading.Event()

    def silent(conn, _server):
        held.set()
        h.recv_all(conn)

    realm.stop()
    kdc = serve(silent, port=realm.port)
    proxy, target = serve(gss.proxy(realm.keytab("rcmd"))), serve(h.echo)
    router = router_to(run, realm, proxy.port, more={
        "rules": [{"match": {"port": [target.port]}, "route": "direct"}], "timeouts": {"connect": f"{int(3000 * h.SLOW)}ms"}})
    waits = h.connect(router.front)
    waits.sendall(b"\x05\x01\x00" + h.socks5_request("127.0.0.1", 9))
    assert held.wait(h.DEADLINE * h.SLOW)
    for _ in range(3):
        s, rep = h.socks5(router.front, "127.0.0.1", target.port)
        assert rep == 0 and h.exchange(s, b"meanwhile") == b"meanwhile"
    h.recv_exactly(waits, 2)
    assert h.socks5_read_reply(waits) == 1
    waits.close()
    assert router.wait_access_line(reply=1)["detail"] == "upstream corp: no Kerberos credentials: no answer in time"
    assert kdc.accepted >= 1
    assert router.stop() and router.child.returncode == 0, router.log()


def test_a_realm_whose_kdc_stays_silent_delays_no_other(run, serve, kerberos, monkeypatch):
    """Many at once wait for it, through two upstreams; connections through an upstream of another realm are made meanwhile."""
    k = kerberos(realms=("EXAMPLE.TEST", "SILENT.TEST"))
    enter_realm(monkeypatch, k)
    silent = serve(lambda conn, _server: h.recv_all(conn))
    conf = k.folder / "krb5.conf"
    before, after = conf.read_text().split(" SILENT.TEST = {\n", 1)
    conf.write_text(f"{before} SILENT.TEST = {{\n{after.replace(str(k.port), str(silent.port), 1)}")
    there, target = acceptor(run, k), serve(h.echo)
    members = [upstream(there.front, name, keytab=k.keytab(who, realm), service=f"rcmd/localhost@{realm}")
               for name, who, realm in (("dead", "alice", "SILENT.TEST"), ("gone", "bob", "SILENT.TEST"), ("lives", "alice", "EXAMPLE.TEST"))]
    timeout = 20 * h.SLOW
    router = run(h.policy(
        upstreams=members, default_route="lives", timeouts={"connect": f"{int(timeout * 1000)}ms", "handshake": "5m"},
        rules=[{"match": {"port": [1]}, "route": "dead"}, {"match": {"port": [2]}, "route": "gone"}]))
    waiting = []
    for i in range(12):
        s = h.connect(router.front)
        s.sendall(b"\x05\x01\x00" + h.socks5_request("127.0.0.1", 1 + i % 2))
        waiting.append(s)
    h.wait_until("two to be asked of the silent one", lambda: silent.accepted >= 2)
    h.wait_until("all to wait", lambda: sum(c["state"] == "dialing" for c in router.get("/v1/connections")["connections"]) == 12)
    for _ in range(3):
        s, rep = h.socks5(router.front, "127.0.0.1", target.port)
        assert rep == 0 and h.exchange(s, b"meanwhile") == b"meanwhile"
    assert any(c["state"] == "dialing" for c in router.get("/v1/connections")["connections"])
    assert router.call("DELETE", "/v1/connections?client=127.0.0.1").status == 204
    assert router.stop() and router.child.returncode == 0, router.log()[-3000:]


def test_members_that_cant_are_passed_over(run, serve, realm):
    """Another member of the pool serves where Kerberos says no."""
    proxy, spare = serve(gss.proxy(realm.keytab("rcmd"))), serve(named_upstream("spare"))
    realm.stop()
    router = run(h.policy(
        upstreams=[upstream(proxy.port, keytab=realm.keytab("alice")), {"name": "spare", "url": f"socks5://127.0.0.1:{spare.port}"}],
        pools=[{"name": "p", "members": ["corp", "spare"], "balance": "first", "retry": {"attempts": 1}}], default_route="p"))
    s, rep = h.socks5(router.front, "127.0.0.1", 9)
    assert rep == 0 and h.recv_exactly(s, 6) == b"spare\n"
