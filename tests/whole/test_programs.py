"""Programs from Debian whose every connection goes through us: FTP in active mode, SSH and its own SOCKS server, PySocks, programs
that know nothing of proxies."""
import os
import pathlib
import pwd
import subprocess

import pytest
import socks

import harness as h
from test_bind import Bound, check_exchange, connect_from
from test_udp import Association, Echo

FTP_SERVER = """
import sys
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import FTPServer
authorizer = DummyAuthorizer()
authorizer.add_anonymous(sys.argv[2], perm="elradfmw")
FTPHandler.authorizer = authorizer
FTPHandler.permit_privileged_ports = True
FTPServer(("127.0.0.1", int(sys.argv[1])), FTPHandler).serve_forever()
"""


@pytest.fixture
def through(run):
    """through(scheme, ...): a router, and one before it for each scheme, whose upstream it is; the first one."""

    def start(*schemes):
        last = run(h.policy(dns={"family": "ipv4_only"}))
        for n, scheme in enumerate(reversed(schemes)):
            upstream = {"name": "up", "url": f"{scheme}://127.0.0.1:{last.front}"}
            last = run(h.policy(upstreams=[upstream], default_route="up"), name=f"before{n}")
        return last

    return start


def communicate(args, data=b"", env=None, cwd=None):
    """What a program makes of its input."""
    done = subprocess.run([str(a) for a in args], input=data, capture_output=True, timeout=h.DEADLINE * h.SLOW, cwd=cwd,
                          env={**os.environ, **(env or {})})
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done.stdout


# ---- dante's client ----

def socksify(folder, port, version, *commands):
    """The words before a command, and the environment, that take it to this proxy."""
    conf = folder / "socks.conf"
    conf.write_text(f"route {{\n from: 0.0.0.0/0 to: 0.0.0.0/0 via: 127.0.0.1 port = {port}\n proxyprotocol: socks_v{version}\n"
                    f" command: {' '.join(commands)}\n protocol: tcp{' udp' if 'udpassociate' in commands else ''}\n method: none\n}}\n")
    return [h.need("socksify")], {"SOCKS_CONF": str(conf), "SOCKS_AUTOADD_LANROUTES": "no"}


@pytest.mark.parametrize("version, schemes", [(5, []), (4, []), (5, ["socks5"]), (4, ["socks5"]), (5, ["socks4", "socks5"])])
def test_ftp_in_active_mode(through, process, folder, version, schemes):
    """tnftp knows nothing of proxies: dante's library makes of each PORT command a BIND."""
    store, mine = folder / "store", folder / "mine"
    store.mkdir()
    mine.mkdir()
    (store / "down").write_bytes(os.urandom(900_000))
    (mine / "up").write_bytes(os.urandom(1_100_000))
    port = h.free_port()
    process(["/usr/bin/python3", "-W", "ignore", "-c", FTP_SERVER, port, store], "ftpd", port)
    router = through(*schemes)
    words, env = socksify(folder, router.front, version, "connect", "bind")
    said = communicate([*words, h.need("tnftp"), "-A", "-n", "-v"], cwd=mine, env=env, data=(
        f"open 127.0.0.1 {port}\nuser anonymous nobody\nbinary\nls\nget down\nput up\nbye\n").encode())
    assert said.count(b"226 ") == 3, said
    assert (mine / "down").read_bytes() == (store / "down").read_bytes()
    assert (store / "up").read_bytes() == (mine / "up").read_bytes()
    commands = router.stats()["by_command"]
    assert (commands["connect"], commands["bind"]) == (1, 3)


# ---- PySocks ----

KINDS = {"socks4": socks.SOCKS4, "socks5": socks.SOCKS5, "http": socks.HTTP}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("remote_names", [False, True])
def test_pysocks(through, serve, kind, remote_names):
    router, target, body = through(), serve(h.digest), os.urandom(300_000)
    with socks.socksocket() as s:
        s.settimeout(h.DEADLINE * h.SLOW)
        s.set_proxy(KINDS[kind], "127.0.0.1", router.front, rdns=remote_names)
        s.connect(("localhost", target.port))
        s.sendall(body)
        s.shutdown(1)
        assert h.recv_all(s).decode() == h.sha256(body)


def test_pysocks_with_a_password(run, serve):
    target = serve(h.digest)
    router = run(h.policy([h.listener(auth="staff")], auth=[{"name": "staff", "methods": ["userpass"], "users": h.users("alice")}]))
    for password, good in (("secret", True), ("wrong", False)):
        with socks.socksocket() as s:
            s.settimeout(h.DEADLINE * h.SLOW)
            s.set_proxy(socks.SOCKS5, "127.0.0.1", router.front, username="alice", password=password)
            if not good:
                with pytest.raises(socks.ProxyError):
                    s.connect(("127.0.0.1", target.port))
                continue
            s.connect(("127.0.0.1", target.port))
            s.shutdown(1)
            assert h.recv_all(s).decode() == h.sha256(b"")


@pytest.mark.parametrize("schemes", [[], ["socks5", "socks5"]])
def test_pysocks_with_datagrams(through, process, folder, schemes):
    """An echo by socat."""
    port = h.free_port()
    echo = process([h.need("socat"), f"UDP4-RECVFROM:{port},bind=127.0.0.1,fork", "EXEC:cat"], "echo")
    router = through(*schemes)
    with socks.socksocket(type=socks.socket.SOCK_DGRAM) as s:
        s.settimeout(0.5)
        s.set_proxy(socks.SOCKS5, "127.0.0.1", router.front)

        def answered():
            assert echo.alive(), echo.log()
            s.sendto(b"ping", ("127.0.0.1", port))
            try:
                return s.recvfrom(100)
            except socks.socket.timeout:
                return None

        assert h.wait_until("an answer", answered) == (b"ping", ("127.0.0.1", port))


# ---- SSH ----

class Ssh:
    """dropbear on a free port, with a home of its own, and the words that a client needs for it."""

    def __init__(self, process, folder):
        home = pathlib.Path(pwd.getpwuid(os.getuid()).pw_dir)
        own_home = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" "$1" && shift && exec "$@"', folder / "home", home]
        (folder / "home" / ".ssh").mkdir(parents=True, mode=0o700)
        os.chmod(folder / "home", 0o700)
        if subprocess.run([*own_home, "true"], capture_output=True).returncode != 0:
            pytest.skip("no file can be mounted here")
        subprocess.run([h.need("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", folder / "key"], check=True)
        subprocess.run([h.need("dropbearkey"), "-t", "ed25519", "-f", folder / "host"], check=True, capture_output=True)
        (folder / "home" / ".ssh" / "authorized_keys").write_bytes((folder / "key.pub").read_bytes())
        os.chmod(folder / "home" / ".ssh" / "authorized_keys", 0o600)
        self.port = h.free_port()
        process([*own_home, h.need("dropbear"), "-F", "-E", "-s", "-m", "-r", folder / "host", "-p", f"127.0.0.1:{self.port}",
                 "-P", folder / "dropbear.pid"], "dropbear", self.port)
        self.client = [h.need("ssh"), "-F", "none", "-i", folder / "key", "-p", self.port, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
                       "-o", f"UserKnownHostsFile={folder}/known", "-o", "LogLevel=ERROR"]


@pytest.mark.parametrize("kind", ["socks4", "socks5", "http"])
def test_ssh_through_us(through, process, folder, kind):
    ssh, router, body = Ssh(process, folder), through(), os.urandom(700_000)
    proxy = f"ProxyCommand={h.need('ncat')} --proxy 127.0.0.1:{router.front} --proxy-type {kind} %h %p"
    assert communicate([*ssh.client, "-o", proxy, "127.0.0.1", "sha256sum"], body).split()[0].decode() == h.sha256(body)
    assert router.access_lines(1)[0]["verdict"] == "granted"


@pytest.mark.parametrize("scheme", ["socks4", "socks4a", "socks5"])
def test_ssh_as_an_upstream(run, serve, process, folder, scheme):
    """Its -D takes SOCKS4, 4a and 5, and reaches what its server reaches."""
    ssh, target, body, inner = Ssh(process, folder), serve(h.digest), os.urandom(700_000), h.free_port()
    process([*ssh.client, "-N", "-D", f"127.0.0.1:{inner}", "127.0.0.1"], "ssh", inner)
    router = run(h.policy(upstreams=[{"name": "ssh", "url": f"{scheme}://127.0.0.1:{inner}"}], default_route="ssh", dns={"family": "ipv4_only"}))
    for host in ("127.0.0.1", "localhost"):
        s, rep = h.socks5(router.front, host, target.port)
        assert rep == 0
        s.sendall(body)
        s.shutdown(1)
        assert h.recv_all(s).decode() == h.sha256(body)
    assert h.socks5(router.front, "127.0.0.1", h.free_port())[1] == 1


def test_ssh_in_a_pool(run, process, folder):
    """It knows no BIND and no UDP, and hangs up when asked: both go to the other member, and it stays in use for what it can do."""
    ssh, inner = Ssh(process, folder), h.free_port()
    process([*ssh.client, "-N", "-D", f"127.0.0.1:{inner}", "127.0.0.1"], "ssh", inner)
    able = run(h.policy(), name="able")
    upstreams = [{"name": "ssh", "url": f"socks5://127.0.0.1:{inner}"}, {"name": "able", "url": f"socks5://127.0.0.1:{able.front}"}]
    pool = {"name": "pool", "members": ["ssh", "able"], "balance": "first", "outlier": {"failures": 1, "max_ejected_percent": 100}}
    router = run(h.policy(upstreams=upstreams, pools=[pool], default_route="pool"))
    bound = Bound(router.front, "127.0.0.1")
    peer = connect_from("127.0.0.1", bound.at)
    assert (bound.code, bound.reply()) == (0, (0, peer.getsockname()))
    check_exchange(bound, peer)
    assert Association(router.front).echo("127.0.0.1", Echo().port)[1] == b"ping"
    seen = router.upstream("ssh")
    assert (seen["state"], seen["failures_total"], able.stats()["by_command"]["connect"]) == ("unknown", 0, 0)


# ---- chains of others ----

def test_a_chain_of_everybody(run, serve, programs):
    """dante, microsocks, tinyproxy and haproxy, one behind the other, each with its own way to speak."""
    hops = [f"socks5://127.0.0.1:{programs.danted()}", f"socks4a://127.0.0.1:{programs.danted()}", f"socks5://127.0.0.1:{programs.microsocks()}",
            f"http://127.0.0.1:{programs.haproxy(programs.tinyproxy())}"]
    body = os.urandom(300_000)
    target = serve(h.page(body))
    router = run(h.policy(upstreams=[{"name": f"hop{i}", "url": url} for i, url in enumerate(hops)],
                          chains=[{"name": "all", "hops": [f"hop{i}" for i in range(len(hops))]}], default_route="all"))
    assert h.curl("--socks5-hostname", f"127.0.0.1:{router.front}", f"http://127.0.0.1:{target.port}/") == (0, body)
