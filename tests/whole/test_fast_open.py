"""`fast_open` in a network of its own, where the kernel takes data in every SYN: the bytes ride there, and no client notices a dead upstream."""
import os
import pathlib
import subprocess

import pytest

import harness as h
from peers import named_upstream, who_answers

INSIDE = "SOCKROUTE_TEST_FAST_OPEN"
EVERY_SYN = "1543"  # client and server, without cookies, all listeners
inside = pytest.mark.skipif(INSIDE not in os.environ, reason="part of test_in_a_network_of_its_own")


def rides():
    """How many SYNs of this network's clients had data that was taken."""
    names, values = [line.split()[1:] for line in pathlib.Path("/proc/net/netstat").read_text().splitlines() if line.startswith("TcpExt:")]
    return int(dict(zip(names, values))["TCPFastOpenActive"])


def policy_of(*ports, **more):
    upstreams = [{"name": f"u{i}", "url": f"socks5://127.0.0.1:{port}", "fast_open": True, **more} for i, port in enumerate(ports)]
    pool = {"name": "p", "members": [u["name"] for u in upstreams], "balance": "first", "retry": {"attempts": 2}}
    return h.policy(upstreams=upstreams, pools=[pool], default_route="p")


@inside
@pytest.mark.parametrize("more", [{}, {"pipeline": True}], ids=["plain", "pipeline"])
def test_rides_in_the_syn(run, serve, more):
    r = run(policy_of(serve(named_upstream("one")).port, **more))
    before = rides()
    for _ in range(3):
        name, s = who_answers(r)
        s.close()
        assert name == "one"
    assert rides() == before + 3
    assert r.upstream("u0")["failures_total"] == 0


@inside
def test_dead_upstream_is_passed_over(run, serve):
    dead = h.free_port()
    r = run(policy_of(dead, serve(named_upstream("two")).port))
    name, s = who_answers(r)
    s.close()
    assert name == "two"
    assert r.upstream("u0")["failures_total"] == 1
    assert r.upstream("u1")["failures_total"] == 0


def test_in_a_network_of_its_own():
    inner = f"ip link set lo up && echo {EVERY_SYN} > /proc/sys/net/ipv4/tcp_fastopen && exec \"$@\""
    network = ["unshare", "-rn", "sh", "-c", inner, "-"]
    if subprocess.run([*network, "true"], capture_output=True).returncode != 0:
        pytest.skip("no network of its own here")
    r = subprocess.run([*network, "/usr/bin/python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "not network_of_its_own", __file__],
                       env={**os.environ, INSIDE: "1"}, capture_output=True, text=True, timeout=120 * h.SLOW)
    assert r.returncode == 0 and "3 passed" in r.stdout, r.stdout[-4000:]
