"""The whole program under test, with the peers that it meets: every process and port belongs to one test and ends with it.

Ports are free ones of loopback; waiting is for an event (a port that answers, a line, an API value), bounded by DEADLINE;
processes are stopped by pid. SOCKROUTE names the binary, else the one at the top of the build tree.
"""
import base64
import contextlib
import hashlib
import http.client
import json
import os
import pathlib
import random
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("SOCKROUTE", str(TOP / "sockroute"))
DEADLINE = float(os.environ.get("SOCKROUTE_TEST_DEADLINE", "20"))
SLOW = float(os.environ.get("SOCKROUTE_TEST_SLOW", "1"))  # a sanitizer build is slower


class Ports:
    """The ports that this process may use: a block of them, below those that the kernel gives to clients. It is ours for as long as
    we live, and no other process that runs these tests has it: a name in the abstract namespace, which only one can have, stands
    for it. So a port that was given out stays free until it is used, and one where nobody listens stays like that. They are given
    out in turn: one comes again only when many tests have passed. Where a server closed first its port is not quite free for a
    minute (TIME_WAIT), so there are enough of them for that."""

    FIRST, LAST, SIZE = 10000, 32000, 1000

    def __init__(self):
        starts = list(range(self.FIRST, self.LAST, self.SIZE))
        random.Random(os.urandom(16)).shuffle(starts)
        self.name = socket.socket(socket.AF_UNIX)
        self.start = next(start for start in starts if self._claim(start))
        self.at = 0

    def _claim(self, start):
        try:
            self.name.bind(f"\0sockroute tests, ports from {start}")
            return True
        except OSError:
            return False

    @staticmethod
    def _is_free(port, reuse):
        try:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(socket.AF_INET, kind) as s:
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse and kind == socket.SOCK_STREAM)
                    s.bind(("127.0.0.1", port))
            return True
        except OSError:
            return False

    def take(self, n):
        for reuse in (False, True):            # all in TIME_WAIT: servers that take such a port are most of them
            for _ in range(0, self.SIZE, n):
                first = self.at if self.at + n <= self.SIZE else 0
                self.at = first + n
                if all(self._is_free(self.start + first + i, reuse) for i in range(n)):
                    return self.start + first
        raise AssertionError(f"no {n} free ports from {self.start} on")


def free_port(n=1):
    """A port of 127.0.0.1 where nobody listens, for TCP and UDP; the first of n in a row."""
    if free_port.ports is None:
        free_port.ports = Ports()
    return free_port.ports.take(n)


free_port.ports = None


def wait_until(what, condition, seconds=None):
    """Polls until condition() is true; its value."""
    end = time.monotonic() + (seconds or DEADLINE) * SLOW
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"in vain waited for: {what}")
        select.select([], [], [], 0.01)


def port_answers(port, host="127.0.0.1"):
    """A port, or the path of a Unix socket."""
    try:
        with _socket_to(port, host, 1):
            return True
    except OSError:
        return False


def need(program):
    """The path of a program from Debian; the test fails where it is missing."""
    for folder in (None, "/usr/sbin", "/sbin"):
        path = shutil.which(program, path=folder)
        if path:
            return path
    raise AssertionError(f"{program} is not installed")


class Process:
    """A child with its output in a file; stopped by pid."""

    of_this_test = []

    def __init__(self, args, folder, name, env=None, **kw):
        self.name = name
        self.log_path = pathlib.Path(folder) / f"{name}.log"
        self.log_file = open(self.log_path, "wb")
        self.child = subprocess.Popen([str(a) for a in args], stdin=subprocess.DEVNULL, stdout=kw.pop("stdout", self.log_file),
                                      stderr=kw.pop("stderr", self.log_file), env={**os.environ, **(env or {})}, start_new_session=True, **kw)
        self.pid = self.child.pid
        self.of_this_test.append(self)

    def last_words(self):
        """The end of its log, where that is still there."""
        with contextlib.suppress(OSError), open(self.log_path, "rb") as f:
            f.seek(max(0, f.seek(0, os.SEEK_END) - 4000))
            return f.read().decode(errors="replace")
        return ""

    def log(self):
        self.log_file.flush()
        return self.log_path.read_text(errors="replace")

    def alive(self):
        return self.child.poll() is None

    def signal(self, number):
        self.child.send_signal(number)

    def wait(self, seconds=None):
        return self.child.wait((seconds or DEADLINE) * SLOW)

    # What the kernel knows of it.

    def links(self):
        """What its descriptors are: "socket:[123]"."""
        found = []
        for fd in os.listdir(f"/proc/{self.pid}/fd"):
            with contextlib.suppress(OSError):
                found.append(os.readlink(f"/proc/{self.pid}/fd/{fd}"))
        return found

    def descriptors(self):
        """How many, without the pipes: a few of those are kept for later."""
        return sum(not link.startswith("pipe:") for link in self.links())

    def pipes(self):
        return sum(link.startswith("pipe:") for link in self.links()) // 2

    def streams(self):
        """Its connected stream sockets: not those that listen, no datagrams."""
        inodes = {m[1] for link in self.links() if (m := re.fullmatch(r"socket:\[(\d+)\]", link))}
        listening, unlisted = "0A", "00"
        n = 0
        for table in ("tcp", "tcp6"):
            for line in pathlib.Path(f"/proc/{self.pid}/net/{table}").read_text().splitlines()[1:]:
                field = line.split()
                n += field[9] in inodes and field[3] not in (listening, unlisted)
        for line in pathlib.Path(f"/proc/{self.pid}/net/unix").read_text().splitlines()[1:]:
            field = line.split()
            n += field[6] in inodes and field[4] == "0001" and field[5] == "03"
        return n

    def cpu_seconds(self):
        """User and system time of all its threads, to the nanosecond."""
        total = 0
        for task in os.listdir(f"/proc/{self.pid}/task"):
            with contextlib.suppress(OSError):
                total += int(pathlib.Path(f"/proc/{self.pid}/task/{task}/schedstat").read_text().split()[0])
        return total / 1e9

    def spins(self, seconds=1):
        """Does a loop of it turn for nothing? One that does takes all the CPU time that it gets; one that waits, next to none,
        whatever else the machine has to do."""
        before = self.cpu_seconds()
        select.select([], [], [], seconds)
        return self.cpu_seconds() - before > 0.3 * seconds

    def limit(self, name):
        """One of its soft limits: "Max open files"."""
        return int(re.search(rf"^{name}\s+(\d+)\s", pathlib.Path(f"/proc/{self.pid}/limits").read_text(), re.M)[1])

    def memory_kib(self, what="VmRSS"):
        """VmRSS now, VmHWM at most so far."""
        return int(re.search(rf"^{what}:\s+(\d+) kB", pathlib.Path(f"/proc/{self.pid}/status").read_text(), re.M)[1])

    def stop(self):
        """Ends it if it has not ended; True: it left by itself when asked."""
        left = True
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGTERM)
            try:
                self.child.wait(3 * SLOW)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.pid, signal.SIGKILL)
                self.child.wait(5)
                left = False
        self.log_file.close()
        return left


class Answer:
    def __init__(self, response, body):
        self.status = response.status
        self.headers = response.headers
        self.body = body

    @property
    def json(self):
        return json.loads(self.body)


class Sockroute(Process):
    """A running sockroute with a policy; `front` is the port of its first listener, `api` that of its admin API."""

    def __init__(self, folder, policy, name="sockroute", args=(), wait=True, env=None, prefix=(), **kw):
        self.folder = pathlib.Path(folder)
        self.policy_path = self.folder / f"{name}.json"
        self.write_policy(policy)
        self.front = self.port_of(0)
        self.api = _port_of(policy["admin"]["listen"]) if "admin" in policy else None
        super().__init__([*prefix, BINARY, "run", "--config", self.policy_path, *args], folder, name, env=env, **kw)
        if wait:
            self.wait_ready()

    def port_of(self, listener):
        """The port, or the path, of a listener by its place."""
        return _port_of(self.policy["listeners"][listener]["listen"])

    def write_policy(self, policy):
        """Puts it in the place of the file at once, as an editor does."""
        if not isinstance(policy, (str, bytes)):
            self.policy = policy
            policy = json.dumps(policy, indent=1)
        new = self.policy_path.with_suffix(".new")
        new.write_bytes(policy if isinstance(policy, bytes) else policy.encode())
        new.rename(self.policy_path)

    def wait_ready(self):
        def ready():
            if not self.alive():
                raise AssertionError(f"{self.name} ended with {self.child.returncode}:\n{self.log()}")
            return port_answers(self.api or self.front)

        wait_until(f"{self.name} to serve", ready)

    def reload(self, policy):
        """Puts this policy in force by SIGHUP and waits until it is."""
        before = self.revision()
        self.write_policy(policy)
        self.signal(signal.SIGHUP)
        wait_until("the new policy to be in force", lambda: self.revision() > before)

    def revision(self):
        return self.get("/v1/status")["policy"]["revision"]

    def call(self, method, path, body=None, headers=None):
        """One request to the API; an Answer. A stream has no end, so none of it is read."""
        c = http.client.HTTPConnection("127.0.0.1", self.api, timeout=DEADLINE * SLOW)
        try:
            if body is not None and not isinstance(body, (bytes, str)):
                body = json.dumps(body)
            c.request(method, path, body=body, headers=headers or {})
            r = c.getresponse()
            return Answer(r, b"" if r.headers["Content-Type"] == "text/event-stream" else r.read())
        finally:
            c.close()

    def get(self, path, **kw):
        a = self.call("GET", path, **kw)
        assert a.status == 200, (path, a.status, a.body)
        return a.json

    def stats(self):
        return self.get("/v1/stats")

    def upstream(self, name):
        return self.get(f"/v1/upstreams/{name}")

    def log_entries(self, message=None):
        """The lines of a JSON log, as dicts."""
        found = []
        for line in self.log().splitlines():
            with contextlib.suppress(ValueError):
                value = json.loads(line)
                if isinstance(value, dict) and message in (None, value.get("message")):
                    found.append(value)
        return found

    def access_lines(self, n=1):
        """The access lines of all that asked for something, as dicts, as soon as there are n (log.format must be "json")."""

        def lines():
            found = [line for line in self.log_entries("session") if "to" in line]
            return found if len(found) >= n else None

        return wait_until(f"{n} access lines", lines)

    def wait_access_line(self, **values):
        """An access line with these values."""
        return wait_until(f"an access line with {values}", lambda: next(
            (line for line in self.log_entries("session") if values.items() <= line.items()), None))

    def wait_idle(self):
        """Until no session is open: none has a socket, and every gauge is back at 0."""
        wait_until(f"{self.name} to be without connections", lambda: self.streams() == 0)
        if self.api is None or not shares_our_network(self.child.pid) or not port_answers(self.api):
            return

        token = self.policy["admin"].get("token")
        headers = {"Authorization": f"Bearer {token}"} if token else {}

        def gauges():
            upstreams = self.get("/v1/upstreams", headers=headers)["upstreams"]
            taken = [(u["name"], u["sessions_open"]) for u in upstreams if u["sessions_open"]]
            return self.get("/v1/stats", headers=headers)["sessions"]["open"] == 0 and not taken

        wait_until(f"{self.name}'s gauges to be 0", gauges)


def shares_our_network(pid):
    """A process in a namespace of its own can't be asked from here: its port's number may be another's on this side."""
    return os.stat(f"/proc/{pid}/ns/net").st_ino == os.stat("/proc/self/ns/net").st_ino


def _port_of(listen):
    if listen.startswith("unix:"):
        return listen.removeprefix("unix:")
    return int(listen.rsplit(":", 1)[-1])


def listener(name="front", **more):
    """On a free port, for every protocol."""
    return {"name": name, "listen": f"127.0.0.1:{free_port()}", "protocols": EVERY_PROTOCOL, **more}


def policy(listeners=None, **more):
    """A policy on free ports, direct by default, with an admin API and a JSON log."""
    p = {
        "workers": 2,
        "log": {"format": "json", "level": "debug"},
        "listeners": listeners or [listener()],
        "admin": {"listen": f"127.0.0.1:{free_port()}"},
        "default_route": "direct",
    }
    p.update(more)
    return p


# ---- targets ----


class Server:
    """A scripted TCP peer: `handler(socket, server)` in a thread for each connection. Errors of the peer's going are ignored."""

    def __init__(self, handler, host="127.0.0.1", port=0, family=socket.AF_INET):
        self.handler = handler
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind((host, port))
        self.socket.listen(512)
        self.host, self.port = self.socket.getsockname()[:2]
        self.accepted = 0
        self.notes = []  # what the handler has to tell the test
        self.open = set()
        self.lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                conn, _ = self.socket.accept()
            except OSError:
                return
            with self.lock:
                self.accepted += 1
                self.open.add(conn)
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _serve(self, conn):
        try:
            conn.settimeout(DEADLINE * SLOW)
            self.handler(conn, self)
        except (OSError, EOFError):
            pass
        finally:
            with self.lock:
                self.open.discard(conn)
            conn.close()

    def note(self, what):
        with self.lock:
            self.notes.append(what)

    def noted(self, n=1):
        """All notes, as soon as there are n."""
        wait_until(f"{n} notes", lambda: len(self.notes) >= n)
        return list(self.notes)

    def hang_up(self):
        """Ends all that is connected."""
        with self.lock:
            for conn in list(self.open):
                with contextlib.suppress(OSError):
                    conn.shutdown(socket.SHUT_RDWR)

    def stop(self):
        # shutdown wakes the accepting thread; close alone would not
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.hang_up()


def echo(conn, _server):
    """Sends back what comes, ends when the peer has ended."""
    while data := conn.recv(65536):
        conn.sendall(data)
    conn.shutdown(socket.SHUT_WR)


def digest(conn, _server):
    """Reads to the end, then answers with the SHA-256 of it: shows half-close and every byte."""
    h = hashlib.sha256()
    while data := conn.recv(65536):
        h.update(data)
    conn.sendall(h.hexdigest().encode())


def gives_and_takes(body):
    """Sends `body` while it reads all that comes, and notes the SHA-256 of that in server.got: both directions at once."""

    def handler(conn, server):
        h = hashlib.sha256()
        sender = threading.Thread(target=send_all_and_end, args=(conn, body))
        sender.start()
        while data := conn.recv(65536):
            h.update(data)
        sender.join()
        server.note(h.hexdigest())

    return handler


def send_all_and_end(conn, data):
    with contextlib.suppress(OSError):
        conn.sendall(data)
        conn.shutdown(socket.SHUT_WR)


def exchange(conn, data):
    """Sends `data` and its end while it reads; what came, to the other's end."""
    sender = threading.Thread(target=send_all_and_end, args=(conn, data))
    sender.start()
    got = recv_all(conn)
    sender.join()
    return got


def sha256(data):
    return hashlib.sha256(data).hexdigest()


class NameServer:
    """A scripted DNS server over UDP. names: {name: addresses}, IPv4 and IPv6 mixed, or a function (name, qtype) -> None (no answer),
    or (rcode, [addresses]). Who is not in it does not exist. What was asked is in `queries`: (name, qtype), qtype 1 or 28; what has
    been answered in `answered`."""

    def __init__(self, names, ttl=60, negative_ttl=60):
        self.names, self.ttl, self.negative_ttl = names, ttl, negative_ttl
        self.queries, self.answered = [], []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", free_port()))
        self.port = self.socket.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.stopping = False
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while not self.stopping:
            try:
                query, who = self.socket.recvfrom(4096)
            except OSError:
                return
            threading.Thread(target=self._answer, args=(query, who), daemon=True).start()

    def _answer(self, query, who):
        if self.stopping:
            return
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode())
            at += 1 + query[at]
        question = query[12:at + 5]
        name, qtype = ".".join(labels).lower(), struct.unpack(">H", query[at + 1:at + 3])[0]
        self.queries.append((name, qtype))
        names = self.names
        answer = names(name, qtype) if callable(names) else (0, names[name]) if name in names else (3, [])
        if answer is None:
            return
        rcode, addresses = answer
        family = {1: socket.AF_INET, 28: socket.AF_INET6}.get(qtype)
        found = [socket.inet_pton(family, a) for a in addresses if (":" in a) == (family == socket.AF_INET6)]
        records = b"".join(b"\xc0\x0c" + struct.pack(">HHIH", qtype, 1, self.ttl, len(a)) + a for a in found)
        authority = b""
        if not found and rcode in (0, 3):  # SOA of the root, for the negative TTL (RFC 2308)
            soa = b"\x00\x00" + struct.pack(">IIIII", 1, 60, 60, 60, self.negative_ttl)
            authority = b"\x00" + struct.pack(">HHIH", 6, 1, self.negative_ttl, len(soa)) + soa
        head = query[:2] + struct.pack(">HHHHH", 0x8180 | rcode, 1, len(found), 1 if authority else 0, 0)
        with contextlib.suppress(OSError):
            self.socket.sendto(head + question + records + authority, who)
        self.answered.append((name, qtype))

    def stop(self):
        self.stopping = True
        with contextlib.suppress(OSError):  # wakes the thread
            self.socket.sendto(b"", ("127.0.0.1", self.port))
        self.socket.close()


class SilentPort:
    """A port of loopback that answers no SYN: it listens, but its backlog is full."""

    def __init__(self):
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", free_port()))
        self.socket.listen(0)
        self.port = self.socket.getsockname()[1]
        self.fillers = []
        for _ in range(4):
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex(("127.0.0.1", self.port))
            self.fillers.append(s)

    def stop(self):
        for s in [*self.fillers, self.socket]:
            s.close()


def page(body=b"hello\n"):
    """A tiny HTTP server's handler."""

    def handler(conn, _server):
        head = b""
        while b"\r\n\r\n" not in head:
            data = conn.recv(4096)
            if not data:
                return
            head += data
        conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)

    return handler


def recv_exactly(conn, n):
    data = b""
    while len(data) < n:
        piece = conn.recv(n - len(data))
        if not piece:
            raise EOFError(f"{len(data)} of {n} bytes")
        data += piece
    return data


def ended(conn):
    """True as soon as the other side has closed, by FIN or by RST; what comes before that is thrown away."""
    with contextlib.suppress(ConnectionError):
        recv_all(conn)
    return True


def recv_all(conn):
    data = b""
    while piece := conn.recv(65536):
        data += piece
    return data


# ---- raw clients ----


# crypt(3) of "secret": cheap, and one of about half a second.
FAST_HASH = "$5$rounds=1000$sockroutetest$3XtGgjBMvG0Bzo98w6MFNs5hMyahlIUbapDjzwxd7ID"
SLOW_HASH = "$y$jDT$F5Jx5fExrKuPp53xLKQ..1$NvasNYzq93nghY4KLW0YRwzQb8kVhhOySaaJUtR5.//"


def users(*names, password_hash=FAST_HASH):
    """Their password is "secret"."""
    return [{"name": n, "password_hash": password_hash} for n in names]


def named(rows):
    """Rows of a table for parametrize, each called by its first value."""
    return [pytest.param(*row[1:], id=row[0]) for row in rows]


EVERY_PROTOCOL = ["socks4", "socks4a", "socks5", "http"]

opened = []  # closed at the end of each test


def _socket_to(port, host, seconds):
    if not isinstance(port, str):
        s = socket.create_connection((host, port), timeout=seconds)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return s
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(seconds)
    s.connect(port)
    return s


def connect(port, host="127.0.0.1"):
    """To a port, or to the path of a Unix socket."""
    opened.append(_socket_to(port, host, DEADLINE * SLOW))
    return opened[-1]


def talk(port, data, shut=False):
    """Sends all that a client has to say, at once; what it gets until the other side closes. A reset is an error."""
    with connect(port) as s:
        s.sendall(data)
        if shut:
            s.shutdown(socket.SHUT_WR)
        return recv_all(s)


def socks5_address(host):
    for family, kind in ((socket.AF_INET, b"\x01"), (socket.AF_INET6, b"\x04")):
        with contextlib.suppress(OSError):
            return kind + socket.inet_pton(family, host)
    raw = host.encode()
    return b"\x03" + bytes([len(raw)]) + raw


def socks5_request(host, port, command=1):
    return b"\x05" + bytes([command]) + b"\x00" + socks5_address(host) + struct.pack(">H", port)


def socks4_request(host, port, command=1, userid=b""):
    """SOCKS4a for a name."""
    try:
        address, tail = socket.inet_pton(socket.AF_INET, host), b""
    except OSError:
        address, tail = b"\x00\x00\x00\x01", host.encode() + b"\x00"
    return b"\x04" + bytes([command]) + struct.pack(">H", port) + address + userid + b"\x00" + tail


def http_request(host, port, headers=b""):
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n".encode() + headers + b"\r\n"


def userpass(user, password):
    """The message of RFC 1929."""
    u, p = user.encode(), password.encode()
    return b"\x01" + bytes([len(u)]) + u + bytes([len(p)]) + p


def basic(user, password):
    return b"Proxy-Authorization: Basic " + base64.b64encode(f"{user}:{password}".encode()) + b"\r\n"


def socks5_read_bound(s):
    """A reply: (REP, (host, port))."""
    head = recv_exactly(s, 4)
    size = {1: 4, 4: 16}.get(head[3])
    host = recv_exactly(s, size if size is not None else recv_exactly(s, 1)[0])
    port = int.from_bytes(recv_exactly(s, 2), "big")
    if size is None:
        return head[1], (host.decode(), port)
    return head[1], (socket.inet_ntop(socket.AF_INET if size == 4 else socket.AF_INET6, host), port)


def socks5_read_reply(s):
    return socks5_read_bound(s)[0]


def socks5(port, host, to_port, user=None, password="secret", command=1, early=b""):
    """A SOCKS5 client's handshake; (socket, REP), with REP None where the credentials are refused."""
    s = connect(port)
    if user is None:
        s.sendall(b"\x05\x01\x00")
        assert recv_exactly(s, 2) == b"\x05\x00"
    else:
        s.sendall(b"\x05\x01\x02")
        assert recv_exactly(s, 2) == b"\x05\x02"
        s.sendall(userpass(user, password))
        if recv_exactly(s, 2) != b"\x01\x00":
            return s, None
    s.sendall(socks5_request(host, to_port, command) + early)
    return s, socks5_read_reply(s)


def socks4(port, host, to_port, userid=b"", command=1, early=b""):
    """A SOCKS4 (4a for a name) client's handshake; (socket, CD)."""
    s = connect(port)
    s.sendall(socks4_request(host, to_port, command, userid) + early)
    return s, recv_exactly(s, 8)[1]


def read_head(s):
    """An HTTP head and no byte more."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += recv_exactly(s, 1)
    return head


def http_connect(port, host, to_port, headers=b"", early=b""):
    """An HTTP CONNECT; (socket, status)."""
    s = connect(port)
    s.sendall(http_request(host, to_port, headers) + early)
    return s, int(read_head(s).split()[1])


# Each way to ask for a tunnel, by what it is called: ask(port, host, to_port, early=b"") gives a socket and whether it was granted.
ASK = {
    "socks4": lambda *a, **k: _granted(socks4(*a, **k), 90),
    "socks5": lambda *a, **k: _granted(socks5(*a, **k), 0),
    "http": lambda *a, **k: _granted(http_connect(*a, **k), 200),
}


def _granted(result, good):
    return result[0], result[1] == good


def curl(*args, timeout=None):
    """Runs curl; (exit code, body)."""
    seconds = (timeout or DEADLINE) * SLOW
    r = subprocess.run([need("curl"), "-sS", "--max-time", str(seconds), *[str(a) for a in args]], capture_output=True,
                       timeout=seconds + 5, env={k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")})
    return r.returncode, r.stdout


class Folder:
    """A temporary directory that goes with the test."""

    def __init__(self):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="sockroute-test-"))

    def remove(self):
        shutil.rmtree(self.path, ignore_errors=True)
