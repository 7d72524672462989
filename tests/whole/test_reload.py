"""SIGHUP: all or nothing, listeners come and go, and no open session notices."""
import copy
import json
import os
import shutil
import signal
import threading

import pytest

import harness as h
import peers


class Flow:
    """An open session through which data goes there and back without a break; stop() says how much, and that all of it came back."""

    def __init__(self, conn):
        self.conn, self.bytes, self.error, self.stopping = conn, 0, None, False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        piece = os.urandom(20_000)
        try:
            while not self.stopping:
                self.conn.sendall(piece)
                assert h.recv_exactly(self.conn, len(piece)) == piece
                self.bytes += len(piece)
        except (OSError, EOFError, AssertionError) as e:
            self.error = e

    def moves(self):
        """It has carried more since it was asked."""
        before = self.bytes
        h.wait_until("the flow to go on", lambda: self.error or self.bytes > before + 100_000)
        assert self.error is None, self.error
        return True

    def stop(self):
        self.stopping = True
        self.thread.join()
        assert self.error is None, self.error
        return self.bytes


def changed(policy, **keys):
    new = copy.deepcopy(policy)
    new.update(keys)
    return new


def test_listeners_come_and_go_while_data_flows(run, serve):
    """Sessions of a listener that went, and of one that stayed, end when they want to."""
    target = serve(h.echo)
    gone, stays, comes = (h.listener(n) for n in ("gone", "stays", "comes"))
    router = run(h.policy([gone, stays]))
    flows = [Flow(h.socks5(router.port_of(i), "127.0.0.1", target.port)[0]) for i in range(2)]
    for round_ in range(3):
        router.reload(h.policy([stays, comes], admin=router.policy["admin"], limits={"max_connections": 100 + round_}))
        h.wait_until("its port to be shut", lambda: not h.port_answers(int(gone["listen"].split(":")[1])))
        assert [h.socks5(router.port_of(i), "127.0.0.1", target.port)[1] for i in range(2)] == [0, 0]
        assert all(f.moves() for f in flows)
        assert [x["name"] for x in router.get("/v1/listeners")["listeners"]] == ["stays", "comes"]
        router.reload(h.policy([gone, stays], admin=router.policy["admin"], limits={"max_connections": 200 + round_}))
        assert h.socks5(router.port_of(0), "127.0.0.1", target.port)[1] == 0
        h.wait_until("its port to be shut", lambda: not h.port_answers(int(comes["listen"].split(":")[1])))
        assert all(f.moves() for f in flows)
    for f in flows:
        assert f.stop() > 0
        f.conn.close()

    def told():
        return [e["message"] for e in router.log_entries() if e["message"] in ("listener added", "listener removed") and e.get("name") == "comes"]

    h.wait_until("the log to tell", lambda: len(told()) >= 6)
    assert told() == ["listener added", "listener removed"] * 3


def test_no_client_of_a_listener_that_stays_is_turned_away(run, serve):
    """Clients come all the time while the policy changes ten times."""
    target = serve(h.echo)
    router = run(h.policy())
    stopping, outcomes = threading.Event(), []

    def comes_again_and_again():
        while not stopping.is_set():
            try:
                s, rep = h.socks5(router.front, "127.0.0.1", target.port)
                s.sendall(b"x")
                outcomes.append((rep, h.recv_exactly(s, 1)))
                s.close()
            except (OSError, EOFError, AssertionError) as e:
                outcomes.append(e)

    clients = [threading.Thread(target=comes_again_and_again) for _ in range(3)]
    for c in clients:
        c.start()
    for i in range(10):
        router.reload(changed(router.policy, limits={"max_connections": 1000 + i}))
        so_far = len(outcomes)
        h.wait_until("clients to come", lambda: len(outcomes) > so_far + 3)
    stopping.set()
    for c in clients:
        c.join()
    assert set(outcomes) == {(0, b"x")}


def test_a_session_ends_on_the_policy_that_it_began_with(run, serve):
    """Its upstream and its rule are gone; it goes on, and its line still names them."""
    up = serve(peers.named_upstream("up"))
    router = run(h.policy(upstreams=[{"name": "up", "url": f"socks5://127.0.0.1:{up.port}"}],
                          rules=[{"name": "all-over-up", "route": "up"}]))
    name, s = peers.who_answers(router)
    assert name == "up"
    flow = Flow(s)
    router.reload(h.policy([router.policy["listeners"][0]], admin=router.policy["admin"], default_route="reject"))
    assert flow.moves()
    assert peers.who_answers(router)[0] == 2
    assert router.get("/v1/upstreams")["total"] == 0
    assert flow.stop() > 0
    s.close()
    router.wait_access_line(rule="all-over-up", route="up", path="up", end="done")


FAULTS = h.named([
    ("syntax", lambda p: json.dumps(p)[:-5], "", None),
    ("empty", lambda p: "", "", None),
    ("unknown key", lambda p: {**p, "upsteams": []}, "/upsteams", "upstreams"),
    ("wrong type", lambda p: {**p, "workers": "two"}, "/workers", "an integer"),
    ("no such route", lambda p: {**p, "default_route": "nowhere"}, "/default_route", "nowhere"),
    ("no default route", lambda p: {k: v for k, v in p.items() if k != "default_route"}, "", "default_route"),
    ("two names", lambda p: {**p, "upstreams": [{"name": "u", "url": "socks5://127.0.0.1:1"}] * 2}, "/upstreams/1/name", "u"),
    ("two faults", lambda p: {**p, "workers": -1, "rules": [{"route": "x"}]}, "/rules/0/route", "x"),
    ("set file is missing", lambda p: {**p, "sets": [{"name": "s", "type": "domain", "file": "missing.txt"}]}, "/sets/0/file", "missing.txt"),
    ("open to all", lambda p: {**p, "listeners": [h.listener(listen="0.0.0.0:1")]}, "/listeners/0", "allow_open"),
])


@pytest.mark.parametrize("spoil, pointer, hint", FAULTS)
def test_a_faulty_file_changes_nothing_and_is_told(run, serve, spoil, pointer, hint):
    target = serve(h.echo)
    router = run(h.policy())
    flow = Flow(h.socks5(router.front, "127.0.0.1", target.port)[0])
    before = router.get("/v1/status")["policy"]
    new = h.listener("new")
    good = changed(router.policy, listeners=[*router.policy["listeners"], new])
    router.write_policy(spoil(good))
    router.signal(signal.SIGHUP)
    h.wait_until("the log to tell", lambda: [e for e in router.log_entries() if e["message"].startswith("policy not changed")])
    told = [e["at"] for e in router.log_entries("policy error")]
    assert any(f": {pointer}: " in line and (hint is None or hint in line) for line in told), told
    assert all(line.startswith(f"{router.policy_path}:") for line in told)
    assert router.get("/v1/status")["policy"] == before
    assert not h.port_answers(int(new["listen"].split(":")[1]))
    assert h.socks5(router.front, "127.0.0.1", target.port)[1] == 0 and flow.moves()
    flow.stop()


def test_a_port_that_is_taken_changes_nothing(run, serve):
    """Nor is the other new listener opened."""
    router = run(h.policy())
    taken = serve(h.echo)
    other = h.listener("other")
    router.write_policy(changed(router.policy, listeners=[
        *router.policy["listeners"], other, h.listener("taken", listen=f"127.0.0.1:{taken.port}")]))
    router.signal(signal.SIGHUP)
    line = next(i for i, text in enumerate(router.policy_path.read_text().splitlines(), 1) if str(taken.port) in text)
    at = f"{router.policy_path}:{line}:14: /listeners/2/listen: "
    h.wait_until("the log to tell", lambda: any(e["at"].startswith(at) and "in use" in e["at"] for e in router.log_entries("policy error")))
    assert not h.port_answers(int(other["listen"].split(":")[1]))
    assert router.get("/v1/listeners")["total"] == 1 and router.revision() == 1


@pytest.mark.parametrize("first, then", [("127.0.0.1", "0.0.0.0"), ("0.0.0.0", "127.0.0.1")])
def test_a_listener_opens_up_or_closes_down_on_its_port(run, serve, first, then):
    """The old socket and the new one share the port for a while; sessions of the old one go on."""
    target = serve(h.echo)
    router = run(h.policy([h.listener(listen=f"{first}:{h.free_port()}", allow_open=True)]))
    flow = Flow(h.socks5(router.front, "127.0.0.1", target.port)[0])
    router.reload(changed(router.policy, listeners=[h.listener(listen=f"{then}:{router.front}", allow_open=True)]))
    h.wait_until("only the new one to be open", lambda: h.port_answers(router.front, "127.0.0.2") == (then == "0.0.0.0"))
    assert h.socks5(router.front, "127.0.0.1", target.port)[1] == 0 and flow.moves()
    flow.stop()


def test_a_file_that_is_gone_changes_nothing(run):
    router = run(h.policy())
    router.policy_path.unlink()
    router.signal(signal.SIGHUP)
    h.wait_until("the log to tell", lambda: any("No such file" in e["at"] for e in router.log_entries("policy error")))
    assert router.revision() == 1 and h.port_answers(router.front)


def test_live_state_is_kept(run, serve, started):
    """Totals, open sessions with their slots, and what health checks found."""
    up, broken = serve(peers.named_upstream("up")), serve(peers.says())
    check = {"check": "connect", "interval": "1h", "timeout": "1s", "fall": 1}
    router = run(h.policy(
        upstreams=[{"name": "up", "url": f"socks5://127.0.0.1:{up.port}", "max_connections": 2},
                   {"name": "dead", "url": f"socks5://127.0.0.1:{h.free_port()}"}, {"name": "broken", "url": f"socks5://127.0.0.1:{broken.port}"}],
        pools=[{"name": "pool", "members": ["dead"], "health": check}],
        rules=[{"match": {"port": [7]}, "route": "broken"}, {"match": {"port": [8]}, "route": "pool"}], default_route="up"))
    h.wait_until("dead to be down", lambda: router.upstream("dead")["state"] == "down")
    assert peers.who_answers(router, 7)[0] == 1
    name, held = peers.who_answers(router)
    before = {n: router.upstream(n) for n in ("up", "dead", "broken")}
    router.reload(changed(router.policy, limits={"max_connections": 99}))
    for n, then in before.items():
        now = router.upstream(n)
        assert {k: now[k] for k in ("state", "sessions_open", "sessions_total", "failures_total")} == {
            k: then[k] for k in ("state", "sessions_open", "sessions_total", "failures_total")}
    assert before["up"]["sessions_open"] == 1 and before["broken"]["failures_total"] == 1
    assert peers.who_answers(router)[0] == "up"
    assert peers.who_answers(router)[0] == 1  # both slots are taken, one of them from before
    assert peers.who_answers(router, 8)[0] == 1
    held.close()
    h.wait_until("a slot to be free", lambda: router.upstream("up")["sessions_open"] == 1)
    assert peers.who_answers(router)[0] == "up"


def test_what_else_is_taken_up(run, serve):
    target = serve(h.echo)
    router = run(h.policy(dns={"hosts": {"name.test": ["127.0.0.9"]}}))
    assert h.socks5(router.front, "name.test", target.port)[1] == 5
    router.reload(changed(router.policy, dns={"hosts": {"name.test": ["127.0.0.1"]}}, timeouts={"handshake": "2s"},
                          log={"format": "text", "level": "debug"}))
    s, rep = h.socks5(router.front, "name.test", target.port)
    assert rep == 0
    s.close()
    assert h.recv_all(h.connect(router.front)) == b""
    h.wait_until("lines in text", lambda: "Z info session id=" in router.log())


def test_a_unix_listener_comes_and_goes(run, serve, folder):
    target = serve(h.echo)
    router = run(h.policy())
    path = folder / "front.sock"
    one = router.policy
    two = changed(one, listeners=[*one["listeners"], h.listener("file", listen=f"unix:{path}")])
    for _ in range(2):
        router.reload(two)
        assert path.is_socket() and h.socks5(str(path), "127.0.0.1", target.port)[1] == 0
        router.reload(one)
        h.wait_until("the file to be gone", lambda: not path.exists())


def test_many_reloads_leave_nothing_behind(run, serve):
    target = serve(h.echo)
    up = serve(peers.named_upstream("up"))
    policy = h.policy(upstreams=[{"name": "up", "url": f"socks5://127.0.0.1:{up.port}"}],
                      pools=[{"name": "pool", "members": ["up"], "health": {"check": "connect", "interval": "1h"}}],
                      rules=[{"match": {"port": [1]}, "route": "pool"}])
    router = run(policy)
    extra = h.listener("extra")
    router.reload(changed(policy, listeners=[*policy["listeners"], extra]))
    router.reload(policy)
    router.wait_idle()
    before = router.descriptors()
    for i in range(10):
        held = h.socks5(router.front, "127.0.0.1", target.port)[0]
        router.reload(changed(policy, listeners=[*policy["listeners"], extra], limits={"max_connections": 500 + i}))
        router.reload(policy)
        held.close()
    for _ in range(50):  # some of these may be one
        router.signal(signal.SIGHUP)
    router.reload(policy)
    router.wait_idle()
    h.wait_until("descriptors to be back", lambda: router.descriptors() <= before)


# ---- files that the policy names ----

def write_by_renaming(path, text):
    new = path.with_name(path.name + "~")
    new.write_text(text)
    new.rename(path)


def write_in_place(path, text):
    path.write_text(text)


@pytest.mark.parametrize("write", [write_by_renaming, write_in_place])
def test_a_users_file_is_taken_up(run, serve, folder, write):
    """Added, removed (though remembered), changed password; a faulty file keeps what was, and is told."""
    target = serve(h.echo)
    users = folder / "users.json"
    users.write_text(json.dumps(h.users("alice")))
    router = run(h.policy([h.listener(auth="staff")], auth=[{"name": "staff", "methods": ["userpass"], "users_file": "users.json"}]))

    def may(user, password="secret"):
        return h.socks5(router.front, "127.0.0.1", target.port, user, password)[1] == 0

    held = h.socks5(router.front, "127.0.0.1", target.port, "alice")[0]
    assert may("alice") and not may("bob")
    write(users, json.dumps(h.users("alice", "bob")))
    h.wait_until("bob to be known", lambda: may("bob"))
    assert may("alice")
    write(users, json.dumps(h.users("bob")))
    h.wait_until("alice to be unknown", lambda: not may("alice"))
    write(users, '[{"name": "alice"')
    h.wait_until("the fault to be told", lambda: any("users_file" in e["at"] for e in router.log_entries("policy error")))
    assert may("bob") and not may("alice")
    write(users, json.dumps(h.users("bob", password_hash=h.FAST_HASH[:-1] + "8")))
    h.wait_until("the password to be another", lambda: not may("bob"))
    held.sendall(b"still here")
    assert h.recv_exactly(held, 10) == b"still here"


@pytest.mark.parametrize("write", [write_by_renaming, write_in_place])
def test_set_files_are_taken_up(run, serve, folder, write):
    target = serve(h.echo)
    names, nets = folder / "names.txt", folder / "nets.txt"
    names.write_text("# nothing yet\n")
    nets.write_text("192.0.2.0/24\n")
    router = run(h.policy(
        dns={"hosts": {"a.ads.test": ["127.0.0.1"]}},
        sets=[{"name": "names", "type": "domain", "file": "names.txt"}, {"name": "nets", "type": "ip", "file": str(nets)}],
        rules=[{"match": {"set": ["names"]}, "route": "reject"}, {"match": {"set": ["nets"]}, "route": "reject"}]))

    def ask(host):
        return h.socks5(router.front, host, target.port)[1]

    assert (ask("a.ads.test"), ask("127.0.0.1")) == (0, 0)
    write(names, "ads.test\n")
    h.wait_until("the name to be rejected", lambda: ask("a.ads.test") == 2)
    assert ask("127.0.0.1") == 0
    write(nets, "127.0.0.0/8\n")
    h.wait_until("the net to be rejected", lambda: ask("127.0.0.1") == 2)
    write(nets, "no net\n")
    h.wait_until("the fault to be told", lambda: any("/sets/1" in e["at"] for e in router.log_entries("policy error")))
    assert ask("127.0.0.1") == 2
    write(nets, "192.0.2.0/24\n")
    write(names, "")
    h.wait_until("both to be allowed", lambda: (ask("a.ads.test"), ask("127.0.0.1")) == (0, 0))


def test_a_set_file_behind_a_link_is_taken_up(run, folder):
    """When the file changes that the link leads to, and when the link leads elsewhere."""
    lists = folder / "lists"
    lists.mkdir()
    names = lists / "names.txt"
    names.write_text("a.test\n")
    (folder / "names.txt").symlink_to(names)
    router = run(h.policy(sets=[{"name": "names", "type": "domain", "file": "names.txt"}],
                          rules=[{"match": {"set": ["names"]}, "route": "reject"}],
                          upstreams=[{"name": "up", "url": "socks5://127.0.0.1:1"}], default_route="up"))

    def rejected(host):
        return router.get(f"/v1/explain?to={host}:80")["route"] == "reject"

    assert rejected("a.test")
    write_by_renaming(names, "b.test\n")
    h.wait_until("the file to be taken up", lambda: rejected("b.test"))
    (lists / "other.txt").write_text("c.test\n")
    (folder / "new").symlink_to(lists / "other.txt")
    (folder / "new").rename(folder / "names.txt")
    h.wait_until("the other file to be taken up", lambda: rejected("c.test"))
    write_by_renaming(lists / "other.txt", "d.test\n")
    h.wait_until("the other file's change to be taken up", lambda: rejected("d.test"))


def test_set_files_as_kubernetes_mounts_them(run, folder):
    """names.txt -> ..data/names.txt, ..data -> ..1: only ..data is replaced, and what it led to goes; a faulty one in between, and a folder
    that is reached through a link of its own."""
    mount = folder / "mount"
    mount.mkdir()
    (folder / "conf").symlink_to("mount")

    def lead_to(version, text):
        (mount / version).mkdir()
        (mount / version / "names.txt").write_text(text)
        (mount / "..data_tmp").symlink_to(version)
        (mount / "..data_tmp").rename(mount / "..data")

    lead_to("..1", "a.test\n")
    (mount / "names.txt").symlink_to("..data/names.txt")
    router = run(h.policy(sets=[{"name": "names", "type": "domain", "file": "conf/names.txt"}],
                          rules=[{"match": {"set": ["names"]}, "route": "reject"}],
                          upstreams=[{"name": "up", "url": "socks5://127.0.0.1:1"}], default_route="up"))

    def rejected(host):
        return router.get(f"/v1/explain?to={host}:80")["route"] == "reject"

    assert rejected("a.test")
    lead_to("..2", "b.test\n")
    shutil.rmtree(mount / "..1")
    h.wait_until("the swap to be taken up", lambda: rejected("b.test"))
    lead_to("..3", "no name at all: \x01\n")
    h.wait_until("the fault to be told", lambda: router.log_entries("policy error"))
    assert rejected("b.test")
    (mount / "..3" / "names.txt").write_text("c.test\n")
    h.wait_until("what was mended there to be taken up", lambda: rejected("c.test"))
    other = folder / "other"
    other.mkdir()
    (other / "names.txt").write_text("d.test\n")
    (folder / "new").symlink_to("other")
    (folder / "new").rename(folder / "conf")
    h.wait_until("the other folder to be taken up", lambda: rejected("d.test"))


@pytest.mark.parametrize("remove", [lambda path: path.unlink(), lambda path: path.rename(path.with_suffix(".old")),
                                    lambda path: shutil.rmtree(path.parent)], ids=["deleted", "moved", "with its folder"])
def test_a_set_file_that_goes_is_told_once_and_missed_by_nobody(run, folder, remove):
    """What was in it holds on, and when it is back it counts again."""
    names = folder / "lists" / "names.txt"
    names.parent.mkdir()
    names.write_text("a.test\n")
    router = run(h.policy(sets=[{"name": "names", "type": "domain", "file": "lists/names.txt"}, {"name": "more", "type": "domain", "values": []}],
                          rules=[{"match": {"set": ["names"]}, "route": "reject"}],
                          upstreams=[{"name": "up", "url": "socks5://127.0.0.1:1"}], default_route="up"))

    def rejected(host):
        return router.get(f"/v1/explain?to={host}:80")["route"] == "reject"

    remove(names)
    told = h.wait_until("it to be told", lambda: router.log_entries("policy error"))
    assert "/sets/0/file" in told[0]["at"], told
    assert rejected("a.test")
    names.parent.mkdir(exist_ok=True)
    names.write_text("b.test\n")
    h.wait_until("it to be taken up", lambda: rejected("b.test"))
    assert not rejected("a.test") and len(router.log_entries("policy error")) == 1


def test_a_listener_on_both_families_reloads(run):
    """The same port on 127.0.0.1 and ::1 are two listeners; one may go without the other."""
    port = h.free_port()
    four, six = h.listener("four", listen=f"127.0.0.1:{port}"), h.listener("six", listen=f"[::1]:{port}")
    router = run(h.policy([four, six]))
    assert h.port_answers(port) and h.port_answers(port, "::1")
    router.reload(changed(router.policy, listeners=[six]))
    h.wait_until("one port to be shut", lambda: not h.port_answers(port))
    assert h.port_answers(port, "::1")
