"""What the benchmarks share: a network namespace, processes with their CPU time and memory, the proxies, the load generator.

Everything runs on loopback of a namespace of its own: no leftovers of others, and a congestion control that does not pace (bbr does,
and then loopback is what is measured). All processes end with the one that started them.
"""
import contextlib
import ctypes
import json
import os
import pathlib
import platform
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

SOCKROUTE = os.path.abspath(os.environ.get("SOCKROUTE", "sockroute"))
LOAD = os.path.abspath(os.environ.get("BENCH_LOAD", "tests/bench/bench_load"))
BARE = os.path.abspath(os.environ.get("BENCH_BARE", "tests/bench/bench_bare"))
TICK = os.sysconf("SC_CLK_TCK")
CORES = len(os.sched_getaffinity(0))
SESSIONS = 100000                      # idle ones, where so many descriptors can be had
TARGET, PROXY, UPSTREAM, ADMIN = 7100, 7200, 7300, 7400
WAIT = 20.0
ctypes.CDLL(None).prctl(36, 1)          # PR_SET_CHILD_SUBREAPER: who outlives the one that forked it is ours to wait for
FAST_OPEN = str(1 | 2 | 0x400)         # clients, servers, and all listeners are such: with cookies, as it is used between hosts
PACKAGES = {"haproxy": "haproxy", "microsocks": "microsocks", "danted": "dante-server", "gnuplot": "gnuplot-nox", "strace": "strace"}


def enter_namespace():
    """Starts this program again in a network namespace of its own, unless it is there."""
    if os.environ.get("BENCH_NAMESPACE") != "1":
        as_who = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        unshare = find("unshare") or sys.exit("unshare is not installed (Debian: util-linux)")
        os.execve(unshare, [unshare, "--net", *as_who, sys.executable, *sys.argv], {**os.environ, "BENCH_NAMESPACE": "1"})
    subprocess.run([find("ip") or sys.exit("ip is not installed (Debian: iproute2)"), "link", "set", "lo", "up"], check=True)
    for key, value in (("ipv4/tcp_congestion_control", "reno"), ("ipv4/ip_local_port_range", "10000 65000"), ("ipv4/tcp_tw_reuse", "1"),
                       ("core/somaxconn", "4096"), ("ipv4/tcp_fastopen", FAST_OPEN)):
        with contextlib.suppress(OSError):
            pathlib.Path("/proc/sys/net", key).write_text(value)
    raise_descriptors()
    # Killed from outside by SIGTERM, it still runs what is in `finally`.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))


def fast_opened():
    """How many connections of this namespace had data in their SYN that was taken, as the clients' kernel counts and as the servers'."""
    names, values = [line.split()[1:] for line in pathlib.Path("/proc/net/netstat").read_text().splitlines() if line.startswith("TcpExt:")]
    counted = dict(zip(names, map(int, values)))
    return counted["TCPFastOpenActive"], counted["TCPFastOpenPassive"]


OPEN, OTHERS, PIPES = 64, 1024, 512    # descriptors that sockroute has or keeps for other things; for the pipes of one worker
BESIDE = 150                           # sessions that are measured beside idle ones


def raise_descriptors():
    """To what SESSIONS take, where that is allowed; else to the most that is."""
    enough = 2 * (SESSIONS + BESIDE) + OPEN + OTHERS + PIPES * CORES
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    for limit in (max(enough, hard), hard):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
            return


def most_sessions():
    """How many idle sessions one process can hold, two descriptors each: as router/places.h deals them out."""
    left = resource.getrlimit(resource.RLIMIT_NOFILE)[1] - OPEN
    return min(SESSIONS, (left - min(left // 8, OTHERS) - min(left // 8, PIPES * CORES)) // 2 - BESIDE)


def find(program):
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")


def _spent():
    """(now, the seconds that the machine's cores have worked for programs or were kept from it by its host, and ours of them)"""
    user, nice, system, _, _, _, _, steal = map(int, pathlib.Path("/proc/stat").read_text().split(maxsplit=9)[1:9])
    return time.monotonic(), (user + nice + system + steal) / TICK, sum(os.times()[:4])


_began = _spent()


def other_work():
    """How many cores' time has gone to others since we began, on average. Ours is that of all processes that have ended."""
    (then, busy_then, ours_then), (now, busy, ours) = _began, _spent()
    return max(0.0, busy - busy_then - (ours - ours_then)) / (now - then)


def machine():
    """What the figures were taken on, in one line; when they all have been."""
    cpu = re.search(r"model name\s*:\s*(.+)", pathlib.Path("/proc/cpuinfo").read_text())
    name = re.sub(r"\((R|TM)\)|\bCPU\b|\s+", lambda m: " " if m[0].isspace() else "", cpu[1]) if cpu else platform.machine()
    return (f"{CORES} cores of {' '.join(name.split())}, Linux {platform.release().split('-')[0]}, "
            f"other work beside: {other_work():.2f} of {os.cpu_count()} cores")


# ---- processes ----


class Place:
    """Where on the machine programs run; `with Place(core)`: those that are started within it. They have most of what the core gives to
    ordinary programs; first: they run before all such. Where that is allowed: can_be_first()."""

    now = None

    def __init__(self, core, first=False):
        self.core, self.first = core, first

    def __enter__(self):
        self.before, Place.now = Place.now, self

    def __exit__(self, *_):
        Place.now = self.before

    def take(self):
        os.sched_setaffinity(0, {self.core})
        with contextlib.suppress(PermissionError):
            if self.first:
                os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
            else:
                os.setpriority(os.PRIO_PROCESS, 0, -20)


def can_be_first():
    """May programs be started that run before others (SCHED_RR)?"""
    asked = subprocess.run([sys.executable, "-c", "import os; os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))"],
                           stderr=subprocess.DEVNULL)
    return asked.returncode == 0


def _at_start():
    """In a child, before it becomes its program: it ends with its parent, and runs where it should."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if Place.now:
        Place.now.take()


class Process:
    """A program in a session of its own, so that all that it forks is found again."""

    def __init__(self, args, folder, name):
        self.name = name
        self.log_path = pathlib.Path(folder) / f"{name}.log"
        with open(self.log_path, "wb") as log:
            self.child = subprocess.Popen([str(a) for a in args], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                          start_new_session=True, preexec_fn=_at_start)
        self.pid = self.child.pid

    def wait_port(self, port):
        end = time.monotonic() + WAIT
        while True:
            if self.child.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{self.name} does not serve:\n{self.log_path.read_text(errors='replace')[-2000:]}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return self
            time.sleep(0.01)

    def _stats(self):
        """The fields of /proc/PID/stat behind the name, of each process of the session."""
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
                if int(fields[3]) == self.pid:
                    yield int(pid), fields

    def cpu(self):
        """Seconds, user and system, of all its processes, those that ended too."""
        utime, cstime = 11, 14
        return sum(sum(map(int, fields[utime:cstime + 1])) for _, fields in self._stats()) / TICK

    def memory_kb(self):
        """User memory of all its processes; what they share counts once."""
        return sum(int(re.search(r"^Pss:\s+(\d+)", pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)[1])
                   for pid, _ in self._stats())

    def descriptors(self):
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid, _ in self._stats())

    def stop(self):
        """It and all that it forked, whose time is ours then."""
        pids = [pid for pid, _ in self._stats()]
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        for pid in pids:               # of other groups
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.child.wait()
        for pid in pids:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


class Lab:
    """A folder and the processes of one measurement; `with Lab() as lab`."""

    def __enter__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="bench-"))
        self.folder.chmod(0o755)
        self.running = []
        return self

    def __exit__(self, *_):
        for p in reversed(self.running):
            p.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, args, name, port):
        p = Process(args, self.folder, name)
        self.running.append(p)
        return p.wait_port(port)

    def file(self, name, text):
        path = self.folder / name
        path.write_text(text)
        return path

    def target(self, port=TARGET, threads=CORES):
        return self.start([LOAD, "serve", port, threads], f"target{port}", port)

    def sockroute(self, policy, name="sockroute"):
        """Serves a policy; its access lines go to a file."""
        path = self.file(f"{name}.json", json.dumps(policy))
        port = int(policy["listeners"][0]["listen"].rsplit(":", 1)[1])
        return self.start([SOCKROUTE, "run", "--config", path], name, port)


# ---- load ----


def load_args(mode, socks5=None, to=TARGET, **options):
    args = [LOAD, mode, "--to", to]
    if socks5:
        args += ["--socks5", socks5]
    for key, value in options.items():
        args += [f"--{key}", value]
    return [str(a) for a in args]


class Running:
    """A run of the load generator; goes on beside others until found() waits for what it found."""

    def __init__(self, mode, **options):
        self.mode, self.within = mode, float(options.get("seconds", 1)) + float(options.get("warm", 1)) + 90
        self.child = subprocess.Popen(load_args(mode, **options), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                      text=True, preexec_fn=_at_start)

    def found(self):
        try:
            out, err = self.child.communicate(timeout=self.within)
        finally:
            self.child.kill()
        if self.child.returncode != 0:
            raise RuntimeError(f"load {self.mode}: {err} {out}")
        return json.loads(out)


def load(mode, **options):
    """One run of the load generator; what it found."""
    return Running(mode, **options).found()


class Held:
    """A load that stays: "idle" sessions, "slow" readers, a flood of "half" handshakes; `with Held(...)`."""

    def __init__(self, mode, **options):
        self.child = subprocess.Popen(load_args(mode, **options), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                      preexec_fn=_at_start)
        if mode in ("idle", "slow") and self.child.stdout.readline() != "ready\n":
            raise RuntimeError(f"load {mode} does not get its connections")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.stdin.close()
        self.child.kill()
        self.child.wait()


# ---- proxies ----


def rules(n):
    """All are tried, none matches."""
    return [{"match": {"domain_suffix": [f"r{i}.example"], "port": [1 + i % 60000]}, "route": "reject"} for i in range(n)]


def policy(port=PROXY, workers=None, **more):
    """The whole product: rules, access lines, counters, deadlines, the API."""
    return {
        "workers": workers or CORES,
        "listeners": [{"name": "front", "listen": f"127.0.0.1:{port}", "protocols": ["socks4", "socks4a", "socks5", "http"]}],
        "admin": {"listen": f"127.0.0.1:{ADMIN + port - PROXY}"},
        "rules": rules(100),
        "default_route": "direct",
        **more,
    }


def through(upstream, how=(), **more):
    """The same, all by one SOCKS5 upstream; how: switches of the upstream that are on."""
    up = {"name": "up", "url": f"socks5://127.0.0.1:{upstream}", **dict.fromkeys(how, True)}
    return policy(upstreams=[up], **{"default_route": "up", **more})


DANTE = """logoutput: /dev/null
internal: 127.0.0.1 port = {port}
external: lo
clientmethod: none
socksmethod: none
user.privileged: root
user.unprivileged: root
client pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}
socks pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 command: connect }}
{route}
"""
DANTE_ROUTE = """route {{
 from: 0.0.0.0/0 to: 0.0.0.0/0 via: 127.0.0.1 port = {up}
 proxyprotocol: socks_v5
 command: connect
}}"""
HAPROXY = """global
 maxconn {most}
 nbthread {cores}
defaults
 mode tcp
 maxconn {most}
 timeout connect 5s
 timeout client 1h
 timeout server 1h
{options}
listen l
 bind 127.0.0.1:{port}
 server t 127.0.0.1:{target}
"""


def start_none(_lab, _chain):
    return None


def start_sockroute(*how):
    def start(lab, chain):
        return lab.sockroute(through(UPSTREAM, how) if chain else policy())

    return start


def start_haproxy(options):
    def start(lab, _chain):
        conf = lab.file("haproxy.conf", HAPROXY.format(cores=CORES, port=PROXY, target=TARGET, options=options,
                                                       most=int(most_sessions() * 0.7)))
        return lab.start([find("haproxy"), "-db", "-f", conf], "haproxy", PROXY)

    return start


def start_microsocks(lab, _chain):
    return lab.start([find("microsocks"), "-i", "127.0.0.1", "-p", PROXY], "microsocks", PROXY)


def start_danted(lab, chain):
    route = DANTE_ROUTE.format(up=UPSTREAM) if chain else ""
    conf = lab.file("danted.conf", DANTE.format(port=PROXY, route=route))
    return lab.start([find("danted"), "-N", CORES, "-f", conf, "-p", lab.folder / "danted.pid"], "danted", PROXY)


def start_bare(lab, chain):
    return lab.start([BARE, PROXY, CORES, *([UPSTREAM] if chain else [])], BARE_RELAY, PROXY)


class Proxy:
    """only: the scenarios that it is made for; none given: all. how: of CHAINED."""

    def __init__(self, name, start, program=None, socks=True, chains=False, idle=4000, only=(), how=()):
        self.name, self.start, self.program, self.socks, self.chains, self.idle = name, start, program, socks, chains, idle
        self.only, self.how = only, how

    def missing(self):
        return self.program is not None and find(self.program) is None


# What peers are measured against, but are none: the client straight to the target, and the least that a SOCKS proxy can do.
OURS, NO_PROXY, BARE_RELAY = "sockroute", "none", "bare-relay"
# Ways to talk to an upstream: its switches that are on.
CHAINED = {"pipeline": ("pipeline",), "fast_open": ("fast_open",), "both": ("pipeline", "fast_open")}
PROXIES = [
    Proxy(NO_PROXY, start_none, socks=False, idle=0),
    Proxy(BARE_RELAY, start_bare, chains=True, only=("connect", "rr", "chain")),
    Proxy(OURS, start_sockroute(), chains=True),
    *(Proxy(f"{OURS}-{name}", start_sockroute(*how), chains=True, only=("chain",), how=how) for name, how in CHAINED.items()),
    Proxy("haproxy", start_haproxy(""), "haproxy", socks=False),
    Proxy("haproxy-splice", start_haproxy(" option splice-request\n option splice-response"), "haproxy", socks=False),
    Proxy("microsocks", start_microsocks, "microsocks"),
    Proxy("danted", start_danted, "danted", chains=True, idle=300),
]


# ---- figures ----


def middle(values):
    return statistics.median(values) if values else None


def spread(values):
    """Half the distance between the lowest and the highest, as a share of the median."""
    m = middle(values)
    return (max(values) - min(values)) / 2 / m if m else None


def show(value):
    """Three digits that count."""
    if value is None:
        return "-"
    if value == 0 or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


def table(head, rows):
    width = [max(len(str(r[i])) for r in [head, *rows]) for i in range(len(head))]
    for r in [head, ["-" * w for w in width], *rows]:
        print("  ".join(str(v).ljust(w) if i == 0 else str(v).rjust(w) for i, (v, w) in enumerate(zip(r, width))), flush=True)
