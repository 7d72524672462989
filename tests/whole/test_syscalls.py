"""How many system calls a connection costs: the bounds of `make bench-syscalls`, with room for a loaded machine."""
import pathlib
import sys

import pytest

import harness as h

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "bench"))

import syscalls  # noqa: E402

CONNECTIONS = 20
ROOM = 1.2


@pytest.mark.parametrize("way", sorted(syscalls.BOUNDS))
def test_calls_of_a_connect(run, serve, folder, way):
    target = serve(h.echo)
    quiet = {"log": {"format": "json", "level": "info"}, "workers": 1}
    if way != "direct":
        upstream = run(h.policy(**quiet))
        how = dict.fromkeys(syscalls.CHAINED.get(way, ()), True)
        quiet.update(upstreams=[{"name": "up", "url": f"socks5://127.0.0.1:{upstream.front}", **how}], default_route="up")
    router = run(h.policy(**quiet))
    counted = syscalls.count_connections(router.pid, router.front, target.port, CONNECTIONS, folder / "calls")
    if counted is None:
        pytest.skip("strace can't attach here")
    each, sums = counted
    # What any way takes: the table was understood.
    assert each["accept4"] >= 1 and each["connect"] == 1 and each["close"] > 1, each
    assert sums["work"] <= syscalls.BOUNDS[way]["work"] * ROOM, (sums, each)
