"""A SOCKS5 proxy that wants Kerberos (RFC 1961), by another implementation of it than ours: honest, or wrong wherever a test likes.
It reads KRB5_CONFIG and the like from this process's environment."""
import select
import socket
import struct
import threading

import gssapi

import harness as h

CONTEXT, LEVEL, DATA, ABORT = 1, 2, 3, 0xFF
NONE, INTEGRITY, CONFIDENTIALITY, SELECTIVE = range(4)
GRANTED = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x01"


def message(kind, token):
    return struct.pack("!BBH", 1, kind, len(token)) + token


def receive(conn):
    """(type, token) of the next message."""
    version, kind, n = struct.unpack("!BBH", h.recv_exactly(conn, 4))
    assert version == 1
    return kind, h.recv_exactly(conn, n)


class Sealed:
    """What follows the talk: a socket whose bytes are sealed as was agreed on."""

    def __init__(self, conn, context, level):
        self.conn, self.context, self.level, self.got = conn, context, level, b""
        self.n_sealed = 0

    def seal(self, data):
        """By SELECTIVE every other message is secret."""
        if self.level == NONE:
            return data
        self.n_sealed += 1
        secret = self.level == CONFIDENTIALITY or (self.level == SELECTIVE and self.n_sealed % 2 == 0)
        return message(DATA, self.context.wrap(data, secret).message)

    def unseal(self, token):
        opened = self.context.unwrap(token)
        assert self.level == SELECTIVE or opened.encrypted == (self.level == CONFIDENTIALITY)
        return opened.message

    def sendall(self, data):
        for i in range(0, len(data), 30000):
            self.conn.sendall(self.seal(data[i:i + 30000]))

    def recv(self, n):
        if self.level == NONE:
            return self.conn.recv(n)
        while not self.got:
            head = self.conn.recv(1)
            if not head:
                return b""
            rest = h.recv_exactly(self.conn, 3)
            assert (head + rest)[:2] == b"\x01\x03"
            self.got = self.unseal(h.recv_exactly(self.conn, struct.unpack("!H", rest[1:])[0]))
        taken, self.got = self.got[:n], self.got[n:]
        return taken

    def open_datagram(self, data):
        if self.level == NONE:
            return data
        assert data[:4] == struct.pack("!BBH", 1, DATA, len(data) - 4)
        return self.unseal(data[4:])

    def __getattr__(self, name):
        return getattr(self.conn, name)


def greet(conn):
    """The choice of the method is made."""
    methods = h.recv_exactly(conn, h.recv_exactly(conn, 2)[1])
    assert methods == b"\x01", methods
    conn.sendall(b"\x05\x01")


def establish(conn, keytab):
    """The context, when both know each other."""
    context = gssapi.SecurityContext(usage="accept", creds=gssapi.Credentials(usage="accept", store={"keytab": f"FILE:{keytab}"}))
    while not context.complete:
        kind, token = receive(conn)
        assert kind == CONTEXT
        answer = context.step(token)
        if answer:
            conn.sendall(message(CONTEXT, answer))
    return context


def agree(conn, context, least=NONE):
    """The level that is granted, and the connection as it is from then on."""
    kind, token = receive(conn)
    opened = context.unwrap(token)
    assert kind == LEVEL and not opened.encrypted and len(opened.message) == 1
    level = max(opened.message[0], least)
    conn.sendall(message(LEVEL, context.wrap(bytes([level]), False).message))
    return Sealed(conn, context, level)


def read_request(conn):
    command, kind = h.recv_exactly(conn, 4)[1::2]
    if kind == 3:
        host = h.recv_exactly(conn, h.recv_exactly(conn, 1)[0]).decode()
    else:
        host = socket.inet_ntoa(h.recv_exactly(conn, 4))
    return command, host, int.from_bytes(h.recv_exactly(conn, 2), "big")


def give_back(s, sealed, _server):
    data, who = s.recvfrom(70000)
    s.sendto(sealed.seal(sealed.open_datagram(data)), who)


def relay(keytab, least=NONE, take=give_back):
    """A handler: an association for one client whom Kerberos knows. It notes who and at what level, and gives each datagram back, in the
    name of its destination, or whatever `take` does with those that are there."""

    def handler(conn, server):
        greet(conn)
        context = establish(conn, keytab)
        sealed = agree(conn, context, least)
        assert read_request(sealed)[0] == 3
        server.note((str(context.initiator_name), sealed.level))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.bind(("127.0.0.1", 0))
            sealed.sendall(GRANTED[:8] + struct.pack("!H", s.getsockname()[1]))
            while conn not in select.select([conn, s], [], [])[0]:
                take(s, sealed, server)

    return handler


def carry(a, b):
    while data := a.recv(65536):
        b.sendall(data)
    b.shutdown(socket.SHUT_WR)


def proxy(keytab, least=NONE):
    """A handler: CONNECT for everybody whom Kerberos knows. It notes who and at what level."""

    def handler(conn, server):
        greet(conn)
        context = establish(conn, keytab)
        sealed = agree(conn, context, least)
        _, host, port = read_request(sealed)
        server.note((str(context.initiator_name), sealed.level))
        with socket.create_connection((host, port), h.DEADLINE * h.SLOW) as to:
            sealed.sendall(GRANTED)
            there = threading.Thread(target=carry, args=(sealed, to), daemon=True)
            there.start()
            carry(to, sealed)
            there.join(h.DEADLINE * h.SLOW)

    return handler
