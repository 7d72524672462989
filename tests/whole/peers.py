"""Peers that a router meets: Debian's proxies with their configurations, a scripted upstream, certificates."""
import socket
import subprocess
import time

import harness as h


class Programs:
    """Starts Debian's proxies on free ports; each method gives the port. They end with the test."""

    def __init__(self, process, folder):
        self.start, self.folder, self.n = process, folder, 0
        self.running = {}

    def process(self, args, name, port):
        self.running[port] = self.start(args, name, port)
        return self.running[port]

    def kill(self, port):
        """Ends the one on this port."""
        self.running.pop(port).stop()

    def _file(self, name, text):
        self.n += 1
        path = self.folder / f"{name}{self.n}.conf"
        path.write_text(text)
        return path

    def microsocks(self, user=None, password=None, port=None):
        port = port or h.free_port()
        credentials = ["-u", user, "-P", password] if user else []
        self.process([h.need("microsocks"), "-i", "127.0.0.1", "-p", port, *credentials], f"microsocks{port}", port)
        return port

    def danted(self):
        port = h.free_port()
        conf = self._file("danted", f"logoutput: stderr\ninternal: 127.0.0.1 port = {port}\nexternal: 127.0.0.1\n"
                          "clientmethod: none\nsocksmethod: none\n"
                          "client pass { from: 0/0 to: 0/0 }\nsocks pass { from: 0/0 to: 0/0 }\n")
        self.process([h.need("danted"), "-N", "1", "-f", conf, "-p", self.folder / f"danted{port}.pid"], f"danted{port}", port)
        return port

    def tinyproxy(self, user=None, password=None):
        port = h.free_port()
        login = f"BasicAuth {user} {password}\n" if user else ""
        conf = self._file("tinyproxy", f"Port {port}\nListen 127.0.0.1\nTimeout 20\nMaxClients 50\nLogLevel Info\n{login}")
        self.process([h.need("tinyproxy"), "-d", "-c", conf], f"tinyproxy{port}", port)
        return port

    def squid(self):
        port = h.free_port()
        conf = self._file("squid", f"http_port 127.0.0.1:{port}\nhttp_access allow all\npid_filename none\naccess_log none\n"
                          "cache_log /dev/null\ncache deny all\ncache_mem 0\npinger_enable off\nnetdb_filename none\ncoredump_dir none\n"
                          "shutdown_lifetime 0 seconds\nmax_filedescriptors 1024\nvisible_hostname test\n")
        self.process([h.need("squid"), "-N", "-f", conf], f"squid{port}", port)
        return port

    def haproxy(self, to, certificate=None):
        """Plain or TLS outside, plain inside, to this port."""
        return self.haproxies([(to, certificate)])[0]

    def haproxies(self, fronts):
        """One process with several fronts, each (to, certificate or None); their ports."""
        ports = [h.free_port() for _ in fronts]
        conf = "global\n maxconn 200\n nbthread 1\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 20s\n timeout server 20s\n"
        for port, (to, certificate) in zip(ports, fronts):
            tls = f" ssl crt {certificate}" if certificate else ""
            conf += f"listen p{port}\n bind 127.0.0.1:{port}{tls}\n server s 127.0.0.1:{to}\n"
        self.process([h.need("haproxy"), "-db", "-f", self._file("haproxy", conf)], f"haproxy{ports[0]}", ports[0])
        return ports

    def dnsmasq(self, *records, options=()):
        """Answers for what --address, --host-record etc. in `records` say, NXDOMAIN for the rest; a Dnsmasq with its query log."""
        return Dnsmasq(self.process, self.folder, records, options)


class Dnsmasq:
    def __init__(self, process, folder, records, options):
        self.port = h.free_port()
        self.address = f"127.0.0.1:{self.port}"
        args = [h.need("dnsmasq"), "--keep-in-foreground", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--user=", "--group=",
                "--listen-address=127.0.0.1", "--bind-interfaces", f"--port={self.port}", f"--pid-file={folder}/dnsmasq{self.port}.pid",
                "--log-queries", "--log-facility=-", "--local-ttl=60", "--cache-size=0", "--local=/test/", *options, *records]
        self.process = process(args, f"dnsmasq{self.port}", self.port)

    def queries(self, name=None):
        """The names asked for, each with its type: ("one.test", "A")."""
        found = []
        for line in self.process.log().splitlines():
            words = line.split()
            for i, word in enumerate(words[:-1]):
                if word.startswith("query[") and (name is None or words[i + 1] == name):
                    found.append((words[i + 1], word[6:-1]))
        return found


class Certificates:
    """A CA, and what it (or another that nobody knows) signed: PEM files with certificate and key."""

    def __init__(self, folder):
        self.folder = folder
        self.ca = self._make("ca", [], ["-subj", "/CN=test CA", "-addext", "basicConstraints=critical,CA:TRUE"])
        self.good = self._signed("good", "DNS:localhost,IP:127.0.0.1")
        self.wrong_name = self._signed("wrong-name", "DNS:elsewhere.test")
        self.unknown_ca = self._make("unknown-ca", [], ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])

    def _make(self, name, sign, request):
        key, cert, both = (self.folder / f"{name}.{part}" for part in ("key", "crt", "pem"))
        subprocess.run([h.need("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
                        "2", "-keyout", key, "-out", cert, *sign, *request], check=True, capture_output=True)
        both.write_bytes(cert.read_bytes() + key.read_bytes())
        return both

    def _signed(self, name, names):
        return self._make(name, ["-CA", self.folder / "ca.crt", "-CAkey", self.folder / "ca.key"],
                          ["-subj", f"/CN={name}", "-addext", f"subjectAltName={names}", "-addext", "basicConstraints=CA:FALSE"])


def says(*script, then=None):
    """A scripted upstream: bytes are sent, a number is how many must come first, "reset" and "silence" are what they say.
    then(conn, server) goes on behind it; without one the connection is closed."""

    def handler(conn, server):
        for step in script:
            if isinstance(step, int):
                h.recv_exactly(conn, step)
            elif step == "head":
                h.read_head(conn)
            elif step == "reset":
                conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
                return
            elif step == "silence":
                h.recv_all(conn)
            else:
                conn.sendall(step)
        if then is not None:
            then(conn, server)

    return handler


def dribbles(handler):
    """The same, but each byte in a packet of its own."""

    class Slow:
        def __init__(self, conn):
            self.conn = conn

        def sendall(self, data):
            for b in data:
                self.conn.sendall(bytes([b]))
                time.sleep(0)

        def __getattr__(self, name):
            return getattr(self.conn, name)

    return lambda conn, server: handler(Slow(conn), server)


def read_socks5_request(conn):
    """A SOCKS5 server's part up to the request; (user or None, host, port). Takes any credentials that are given."""
    user = None
    methods = h.recv_exactly(conn, h.recv_exactly(conn, 2)[1])
    if 2 in methods:
        conn.sendall(b"\x05\x02")
        user = h.recv_exactly(conn, h.recv_exactly(conn, 2)[1]).decode()
        user += ":" + h.recv_exactly(conn, h.recv_exactly(conn, 1)[0]).decode()
        conn.sendall(b"\x01\x00")
    else:
        conn.sendall(b"\x05\x00")
    kind = h.recv_exactly(conn, 4)[3]
    if kind == 3:
        host = h.recv_exactly(conn, h.recv_exactly(conn, 1)[0]).decode()
    else:
        host = socket.inet_ntop(*{1: (socket.AF_INET, h.recv_exactly(conn, 4)), 4: (socket.AF_INET6, b"")}[kind])
    return user, host, int.from_bytes(h.recv_exactly(conn, 2), "big")


def named_upstream(name):
    """A SOCKS5 upstream that grants everything and then says its name, and echoes: shows who was chosen. It notes each request."""

    def handler(conn, server):
        server.note(read_socks5_request(conn))
        conn.sendall(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x01" + name.encode() + b"\n")
        h.echo(conn, server)

    return handler


def who_answers(router, to_port=80, host="127.0.0.1"):
    """Asks for a tunnel to a named_upstream; (its name or the REP, the socket)."""
    s, rep = h.socks5(router.front, host, to_port)
    if rep != 0:
        s.close()
        return rep, None
    name = b""
    while not name.endswith(b"\n"):
        name += h.recv_exactly(s, 1)
    return name.decode().strip(), s
