"""TLS in front: curl through an https:// proxy, raw SOCKS inside TLS, client certificates whose subject is the user."""
import hashlib
import os
import socket
import ssl
import struct
import subprocess

import pytest

import harness as h


class Authority:
    """A CA of the test's own and what it signs: paths of NAME.crt and NAME.key."""

    def __init__(self, folder, name="ca"):
        self.folder, self.name = folder, name
        self._openssl("req", "-x509", "-subj", f"/CN={name}", "-out", self.path(name, "crt"), *self._key(name))

    def path(self, name, kind):
        return self.folder / f"{name}.{kind}"

    def _key(self, name):
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", self.path(name, "key"), "-days", "2"]

    def _openssl(self, *args):
        subprocess.run([h.need("openssl"), *map(str, args)], check=True, capture_output=True, timeout=h.DEADLINE * h.SLOW)

    def sign(self, name, subject, names=""):
        request, extra = self.path(name, "csr"), self.path(name, "ext")
        extra.write_text(f"subjectAltName={names}\n" if names else "basicConstraints=CA:FALSE\n")
        self._openssl("req", "-new", "-subj", subject, "-out", request, *self._key(name)[:-2])
        self._openssl("x509", "-req", "-in", request, "-CA", self.path(self.name, "crt"), "-CAkey", self.path(self.name, "key"),
                      "-CAcreateserial", "-days", "2", "-extfile", extra, "-out", self.path(name, "crt"))
        return self


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    a = Authority(tmp_path_factory.mktemp("ca"))
    a.sign("server", "/CN=front", "DNS:localhost,IP:127.0.0.1")
    a.sign("alice", "/O=Example/CN=alice").sign("bob", "/O=Example/CN=bob").sign("long", "/CN=" + "x" * 64 + "".join(
        f"/OU={i}{'y' * 60}" for i in range(4)))
    return a


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("other"), "other").sign("alice", "/O=Example/CN=alice")


def front(ca, client_ca=None, **more):
    tls = {"certificate": str(ca.path("server", "crt")), "key": str(ca.path("server", "key"))}
    if client_ca:
        tls["client_ca"] = str(client_ca.path(client_ca.name, "crt"))
    return {"name": "front", "listen": f"127.0.0.1:{h.free_port()}", "protocols": ["socks4", "socks4a", "socks5", "http"], "tls": tls, **more}


def wrap(ca, raw, who=None, version=None, at=None):
    context = ssl.create_default_context(cafile=ca.path("ca", "crt"))
    if version:
        context.minimum_version = context.maximum_version = version
    if who:
        context.load_cert_chain((at or ca).path(who, "crt"), (at or ca).path(who, "key"))
    return context.wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=False)


def ask(s, port, early=b""):
    s.sendall(b"\x05\x01\x00\x05\x01\x00\x01\x7f\0\0\x01" + struct.pack(">H", port) + early)
    assert h.recv_exactly(s, 2) == b"\x05\x00"
    return h.socks5_read_reply(s)


VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])


@VERSIONS
def test_socks_within_tls(run, serve, ca, version):
    body = os.urandom(1_000_000)
    target = serve(lambda conn, _: conn.sendall(hashlib.sha256(h.recv_exactly(conn, len(body))).digest()))
    s = run(h.policy([front(ca)]))
    with wrap(ca, h.connect(s.front), version=version) as c:
        assert ask(c, target.port, body[:1000]) == 0
        c.sendall(body[1000:])
        assert h.recv_exactly(c, 32) == hashlib.sha256(body).digest()
        assert c.recv(1) == b""  # close_notify, or it would be an error
    assert s.access_lines(1)[0]["up"] == len(body)


def test_an_echo_within_tls(run, serve, ca):
    target = serve(h.echo)
    s = run(h.policy([front(ca)]))
    body = os.urandom(300_000)
    with wrap(ca, h.connect(s.front)) as c:
        assert ask(c, target.port) == 0
        for at in range(0, len(body), 30_000):
            c.sendall(body[at:at + 30_000])
            assert h.recv_exactly(c, 30_000) == body[at:at + 30_000]


TCP_ULP, SOL_TLS, TLS_TX = 31, 282, 1
TLS_1_2_VERSION, TLS_CIPHER_AES_GCM_128 = 0x0303, 51


def by_kernel(version):
    """Whether it does the records: those of TLS 1.2, where it takes AES-GCM over from those who have agreed on it."""
    if version != ssl.TLSVersion.TLSv1_2:
        return False
    with socket.socket() as listening, socket.socket() as c:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        c.connect(listening.getsockname())
        try:
            c.setsockopt(socket.IPPROTO_TCP, TCP_ULP, b"tls")
            c.setsockopt(SOL_TLS, TLS_TX, struct.pack("HH", TLS_1_2_VERSION, TLS_CIPHER_AES_GCM_128) + bytes(8 + 16 + 4 + 8))
        except OSError:
            return False
    return True


def taken_over(which):
    """How many connections the kernel has taken over so far, in that direction."""
    with open("/proc/net/tls_stat") as f:
        return next(int(line.split()[1]) for line in f if line.startswith(f"Tls{which}Sw"))


BULK = 4_000_000


@VERSIONS
def test_bulk_down_within_tls(run, serve, ca, version):
    """Copied, or spliced where the kernel has TLS; then small pieces, and the end."""
    body, tail = os.urandom(BULK), [os.urandom(n) for n in (1, 100, 20_000, 7)]

    def answer(conn, _):
        conn.sendall(body)
        for part in tail:
            assert h.recv_exactly(conn, 1) == b"?"
            conn.sendall(part)

    target = serve(answer)
    s = run(h.policy([front(ca)]))
    before = taken_over("Tx") if by_kernel(version) else None
    with wrap(ca, h.connect(s.front), version=version) as c:
        assert ask(c, target.port) == 0
        assert h.recv_exactly(c, len(body)) == body
        for part in tail:
            c.sendall(b"?")
            assert h.recv_exactly(c, len(part)) == part
        assert c.recv(1) == b""  # close_notify, or it would be an error
        c.unwrap()
    s.wait_access_line(end="done", up=len(tail), down=len(body) + sum(map(len, tail)))
    assert before is None or taken_over("Tx") > before


@VERSIONS
@pytest.mark.parametrize("notified", [True, False])
def test_bulk_up_within_tls(run, serve, ca, version, notified):
    """An end that TLS did not tell may have been made by anyone: it is a reset, which may overtake what the target has not read."""
    body, seen = os.urandom(BULK), []
    target = serve(lambda conn, _: seen.append(h.recv_exactly(conn, len(body)) + conn.recv(1)))
    s = run(h.policy([front(ca)]))
    before = taken_over("Rx") if by_kernel(version) else None
    c = wrap(ca, h.connect(s.front), version=version)
    assert ask(c, target.port) == 0
    c.sendall(body)
    if notified:
        c.unwrap()
    else:
        c.shutdown(socket.SHUT_WR)
    line = s.wait_access_line(up=len(body))
    c.close()
    assert line["end"] == ("done" if notified else "client reset")
    assert seen == ([body] if notified else [])
    assert before is None or taken_over("Rx") > before


def test_new_keys_under_way(run, serve, ca):
    """openssl's client asks for new keys both ways, which TLS 1.3 has for long streams."""
    target = serve(h.echo)
    s = run(h.policy([front(ca)]))
    client = subprocess.Popen(
        [h.need("openssl"), "s_client", "-tls1_3", "-CAfile", ca.path("ca", "crt"), "-verify_return_error", "-connect", f"127.0.0.1:{s.front}"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0)
    said = bytearray()

    def say(what, answer):
        client.stdin.write(what)
        while answer not in said:
            part = client.stdout.read(4096)
            assert part, said[-500:]
            said.extend(part)

    try:
        say(b"", b"Verify return code: 0")
        say(b"\x05\x01\0\x05\x01\0\x01\x7f\0\0\x01" + struct.pack(">H", target.port), b"\x05\0\x05\0\0\x01\x7f\0\0\x01")
        say(b"before\n", b"before\n")
        say(b"K\n", b"KEYUPDATE")  # its command, where it is alone in what is read: new keys, and the same is asked of the peer
        say(b"after\n", b"after\n")
        say(b"again\n", b"again\n")
    finally:
        client.kill()
        client.wait()
        client.stdin.close()
        client.stdout.close()


def test_curl_with_an_https_proxy(run, serve, ca):
    body = os.urandom(500_000)
    target = serve(h.page(body))
    s = run(h.policy([front(ca)]))
    code, got = h.curl("-p", "--proxy-cacert", ca.path("ca", "crt"), "-x", f"https://localhost:{s.front}", f"http://127.0.0.1:{target.port}/")
    assert code == 0 and hashlib.sha256(got).digest() == hashlib.sha256(body).digest()


def test_plain_socks_is_not_spoken(run, serve, ca):
    target = serve(h.echo)
    s = run(h.policy([front(ca)]))
    with h.connect(s.front) as c:
        c.sendall(b"\x05\x01\x00\x05\x01\x00\x01\x7f\0\0\x01" + struct.pack(">H", target.port))
        try:
            assert b"\x05\x00" not in c.recv(100)
        except ConnectionResetError:
            pass
    s.wait_access_line(end="TLS handshake failed")
    assert s.get("/v1/stats")["accept"]["tls_failures"] == 1
    assert target.accepted == 0


def test_the_subject_is_the_user(run, serve, ca):
    target = serve(h.echo)
    rules = [{"name": "alice", "match": {"user": ["CN=alice,O=Example"]}, "route": "direct"}]
    s = run(h.policy([front(ca, ca)], rules=rules, default_route="reject"))
    for who, want in ("alice", 0), ("bob", 2):
        with wrap(ca, h.connect(s.front), who) as c:
            assert ask(c, target.port) == want
    assert {(line["user"], line["rule"]) for line in s.access_lines(2)} == {("CN=alice,O=Example", "alice"), ("CN=bob,O=Example", "default")}


def refused(c, port):
    """TLS 1.3 tells a client only after its first bytes that its certificate was not good."""
    try:
        return ask(c, port) is None
    except (ssl.SSLError, OSError, EOFError):
        return True


@VERSIONS
@pytest.mark.parametrize("who", [None, "stranger", "long"])
def test_who_has_no_good_certificate_is_not_served(run, serve, ca, stranger, who, version):
    target = serve(h.echo)
    s = run(h.policy([front(ca, ca)]))
    raw = h.connect(s.front)
    try:
        with wrap(ca, raw, "alice" if who == "stranger" else who, version, stranger if who == "stranger" else ca) as c:
            assert refused(c, target.port)
    except (ssl.SSLError, OSError):
        pass
    s.wait_access_line(end="TLS handshake failed")
    assert target.accepted == 0


def test_other_hosts_may_reach_it_where_certificates_are_asked_for(run, ca):
    s = run(h.policy([front(ca, ca) | {"listen": f"0.0.0.0:{h.free_port()}"}]))
    assert s.alive()


def test_tls_stands_behind_the_proxy_header(run, serve, ca):
    target = serve(h.echo)
    s = run(h.policy([front(ca, proxy_protocol=True)]))
    for header in (b"PROXY TCP4 203.0.113.9 1.2.3.4 4321 1\r\n",
                   b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + socket.inet_aton("203.0.113.9") + socket.inet_aton("1.2.3.4") + b"\x10\xe1\0\x01"):
        raw = h.connect(s.front)
        raw.sendall(header)
        with wrap(ca, raw) as c:
            assert ask(c, target.port) == 0
    assert {line["client"] for line in s.access_lines(2)} == {"203.0.113.9:4321"}


def test_a_renewed_certificate_is_taken_up(run, serve, folder, ca):
    mine = Authority(folder)
    mine.sign("server", "/CN=first", "DNS:localhost")
    s = run(h.policy([front(mine)]))

    def subject():
        with wrap(mine, h.connect(s.front)) as c:
            return dict(part[0] for part in c.getpeercert()["subject"])["commonName"]

    assert subject() == "first"
    mine.sign("server", "/CN=second", "DNS:localhost")
    h.wait_until("the new certificate", lambda: s.alive() and subject_or_none(subject) == "second")


def subject_or_none(subject):
    try:
        return subject()
    except OSError:
        return None


def test_a_client_that_stalls_in_the_handshake_is_left(run, ca):
    s = run(h.policy([front(ca)], timeouts={"handshake": "300ms"}))
    with h.connect(s.front) as c:
        c.sendall(b"\x16\x03\x01\x02\x00")
        assert c.recv(1) == b""
    s.wait_access_line(end="handshake timeout")


INSIDE = 512  # TLS_GATE_MAX
HELLO = b"\x16\x03\x01\x02\x00"  # the beginning of one


def test_handshakes_that_stall_leave_room_for_others(run, serve, ca):
    target = serve(h.echo)
    s = run(h.policy([front(ca), {"name": "plain", "listen": f"127.0.0.1:{h.free_port()}"}], workers=1, timeouts={"handshake": "60s"}))

    def counts():
        return s.get("/v1/stats")["accept"]

    with wrap(ca, h.connect(s.front)) as open_before:
        assert ask(open_before, target.port) == 0
        stalled = [h.connect(s.front) for _ in range(INSIDE + 20)]
        for c in stalled:
            c.sendall(HELLO)
        h.wait_until("all of them", lambda: s.get("/v1/stats")["sessions"]["open"] == 1 + len(stalled))
        h.wait_until("as many inside as may be", lambda: counts()["tls_handshakes"] == INSIDE and counts()["tls_waits"] >= 20)
        # Who waits and leaves is not kept for its turn.
        for c in stalled[INSIDE:]:
            c.close()
        del stalled[INSIDE:]
        h.wait_until("those to be gone", lambda: s.get("/v1/stats")["sessions"]["open"] == 1 + len(stalled))
        open_before.sendall(b"still there")
        assert h.recv_exactly(open_before, 11) == b"still there"
        plain, granted = h.socks5(s.port_of(1), "127.0.0.1", target.port)
        assert granted == 0
        # Those who left make room for who waits ...
        for c in stalled[:100]:
            c.close()
        h.wait_until("room inside", lambda: counts()["tls_handshakes"] <= INSIDE - 100)
        with wrap(ca, h.connect(s.front)) as c:
            assert ask(c, target.port) == 0
        # ... and so does who has stalled for long.
        assert counts()["tls_shed"] == 0
        stalled += [h.connect(s.front) for _ in range(100)]
        for c in stalled[-100:]:
            c.sendall(HELLO)
        with wrap(ca, h.connect(s.front)) as c:
            assert ask(c, target.port) == 0
        assert 0 < counts()["tls_shed"] <= 121
    s.wait_access_line(end="TLS handshake stalled")
    for c in stalled:
        c.close()
    h.wait_until("nobody inside", lambda: counts()["tls_handshakes"] == 0)
