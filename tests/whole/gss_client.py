"""A client that proves who it is by Kerberos (RFC 1961), step by step, so that a test can go wrong wherever it likes."""
import os
import socket
import struct

import gssapi
from gssapi import raw

import harness as h

CONTEXT, LEVEL, DATA, ABORT = 1, 2, 3, 0xff
NONE, INTEGRITY, CONFIDENTIALITY, SELECTIVE = range(4)
FLAGS = (raw.RequirementFlag.mutual_authentication, raw.RequirementFlag.replay_detection,
         raw.RequirementFlag.out_of_sequence_detection, raw.RequirementFlag.integrity, raw.RequirementFlag.confidentiality)


def message(kind, token):
    return struct.pack("!BBH", 1, kind, len(token)) + token


class GssClient:
    """Stands where method 1 has been chosen. Its tickets are in ccache; os.environ must name the realm (see `enter`)."""

    def __init__(self, port, ccache, target="rcmd/localhost", methods=b"\x01", flags=FLAGS, wrap=lambda s: s):
        self.s = wrap(h.connect(port))
        self.credentials = gssapi.Credentials(usage="initiate", store={"ccache": f"FILE:{ccache}"})
        self.context = gssapi.SecurityContext(
            name=gssapi.Name(target, gssapi.NameType.kerberos_principal), creds=self.credentials, usage="initiate",
            mech=gssapi.MechType.kerberos, flags=flags)
        self.level = NONE
        self.got = b""
        self.s.sendall(bytes([5, len(methods)]) + methods)
        self.method = h.recv_exactly(self.s, 2)[1]

    # Messages.

    def send(self, kind, token):
        self.s.sendall(message(kind, token))

    def receive(self):
        """The next message: (type, token); None: the end."""
        head = self.s.recv(1)
        if not head:
            return None
        head += h.recv_exactly(self.s, 1)
        assert head[0] == 1
        if head[1] == ABORT:
            return ABORT, b""
        (n,) = struct.unpack("!H", h.recv_exactly(self.s, 2))
        return head[1], h.recv_exactly(self.s, n)

    def first_token(self):
        return self.context.step()

    def establish(self):
        """False: we were refused."""
        token = self.first_token()
        while True:
            if token:
                self.send(CONTEXT, token)
            if self.context.complete:
                return True
            kind, answer = self.receive()
            if kind == ABORT:
                return False
            assert kind == CONTEXT
            token = self.context.step(answer)

    def ask_level(self, level, bare=False):
        """The level that we get; None: refused."""
        self.send(LEVEL, bytes([level]) if bare else self.context.wrap(bytes([level]), False).message)
        kind, answer = self.receive()
        if kind == ABORT:
            return None
        assert kind == LEVEL
        if not bare:
            opened = self.context.unwrap(answer)
            assert not opened.encrypted
            answer = opened.message
        (self.level,) = answer
        return self.level

    def enter(self, level):
        assert self.method == 1 and self.establish()
        assert self.ask_level(level) == level
        return self

    # What is sealed, as the level says.

    def seal(self, data):
        if self.level == NONE:
            return data
        return message(DATA, self.context.wrap(data, self.level == CONFIDENTIALITY).message)

    def sendall(self, data, piece=16000):
        for at in range(0, len(data), piece):
            self.s.sendall(self.seal(data[at:at + piece]))

    def open(self, token):
        opened = self.context.unwrap(token)
        assert opened.encrypted == (self.level == CONFIDENTIALITY)
        return opened.message

    def recv(self, n):
        """As of a socket; b"" at the end, which must not cut a message."""
        if self.level == NONE:
            return self.s.recv(n)
        if not self.got:
            received = self.receive()
            if received is None:
                return b""
            kind, token = received
            assert kind == DATA
            self.got = self.open(token)
        data, self.got = self.got[:n], self.got[n:]
        return data

    def recv_exactly(self, n):
        data = b""
        while len(data) < n:
            more = self.recv(n - len(data))
            assert more, (data, n)
            data += more
        return data

    def recv_all(self):
        return b"".join(iter(lambda: self.recv(1 << 20), b""))

    def request(self, host, port, command=1, early=b""):
        """REP and the bound address."""
        self.sendall(h.socks5_request(host, port, command) + early)
        return self.reply()

    def reply(self):
        head = self.recv_exactly(4)
        assert head[0] == 5
        kind = {1: socket.AF_INET, 4: socket.AF_INET6}[head[3]]
        address = socket.inet_ntop(kind, self.recv_exactly(4 if head[3] == 1 else 16))
        return head[1], (address, struct.unpack("!H", self.recv_exactly(2))[0])

    def shutdown(self, how):
        self.s.shutdown(how)

    def is_over(self):
        """The proxy has ended the connection, without another word."""
        try:
            return self.s.recv(1) == b""
        except ConnectionResetError:
            return True


def enter_realm(monkeypatch, realm):
    """What this process does by Kerberos it does there."""
    for name, value in realm.env.items():
        monkeypatch.setitem(os.environ, name, value)
