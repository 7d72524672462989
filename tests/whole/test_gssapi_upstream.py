"""Upstreams that want Kerberos (RFC 1961): sockroute itself, and scripted ones, honest and lying, with a real KDC."""
import hashlib
import os

import pytest

import gss_server as gss
import harness as h

LEVELS = {"none": 0, "integrity": 1, "confidentiality": 2}


def upstream(port, name="corp", host="localhost", scheme="socks5", **gssapi):
    return {"name": name, "url": f"{scheme}://{host}:{port}", "auth": "gssapi",
            "gssapi": {k: v if k == "protection" else str(v) for k, v in gssapi.items()}}


@pytest.fixture
def realm(kerberos, monkeypatch):
    """A KDC that this process, too, uses."""
    k = kerberos()
    for key, value in k.env.items():
        monkeypatch.setenv(key, value)
    return k


@pytest.mark.parametrize("level", LEVELS)
def test_bytes_both_ways(run, serve, realm, level):
    proxy = serve(gss.proxy(realm.keytab("rcmd")))
    target = serve(h.digest)
    r = run(h.policy(upstreams=[upstream(proxy.port, keytab=realm.keytab("alice"), protection=level)], default_route="corp"))
    s, rep = h.socks5(r.front, "127.0.0.1", target.port)
    assert rep == 0, r.log()
    body = os.urandom(3_000_000)
    h.send_all_and_end(s, body)
    assert h.recv_all(s) == hashlib.sha256(body).hexdigest().encode()
    assert proxy.noted() == [("alice@EXAMPLE.TEST", LEVELS[level])]
