"""Fixtures: a folder, and starters of processes and peers that end with the test."""
import functools
import pathlib
import signal
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import harness  # noqa: E402
import peers  # noqa: E402
from kerberos import Kerberos  # noqa: E402


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """What a test that fails leaves to go by: the last words of each process that it started."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for process in harness.Process.of_this_test:
            report.sections.append((f"the end of {process.name}.log", process.last_words()))


@pytest.fixture(autouse=True)
def bounded():
    """No test waits for ever, whatever it waits for: what blocks is interrupted."""
    seconds = int(9 * harness.DEADLINE * harness.SLOW)

    def give_up(_number, _frame):
        raise AssertionError(f"not over after {seconds} s")

    harness.Process.of_this_test.clear()
    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)
    yield
    signal.alarm(0)


@pytest.fixture
def folder():
    f = harness.Folder()
    yield f.path
    f.remove()


@pytest.fixture
def started():
    """started(thing) keeps a process or server until the test's end, last first."""
    things = []

    def keep(thing):
        things.append(thing)
        return thing

    yield keep
    for thing in reversed(things):
        thing.stop()


@pytest.fixture
def run(folder, started):
    """run(policy) starts a sockroute. What must hold after every test: without clients it holds no connection and no gauge, it
    leaves when told to, and its log has no crash and no sanitizer's report."""
    mine = []

    def start(policy, **kw):
        kw.setdefault("name", f"sockroute{len(mine)}")
        mine.append(started(harness.Sockroute(folder, policy, **kw)))
        return mine[-1]

    yield start
    for s in harness.opened:
        s.close()
    harness.opened.clear()
    for s in mine:
        running = s.alive()
        if running:
            s.wait_idle()
        left = s.stop()
        log = s.log_path.read_text(errors="replace")
        for sign in ("Sanitizer", "runtime error:", "Assertion"):
            assert sign not in log, log[-6000:]
        assert left and (not running or s.child.returncode == 0), (s.child.returncode, log[-6000:])


@pytest.fixture
def serve(started):
    """serve(handler) starts a scripted TCP peer."""

    def start(handler, **kw):
        return started(harness.Server(handler, **kw))

    return start


@pytest.fixture
def process(folder, started):
    """process(args, name) starts a program; port: waits until it answers."""

    def start(args, name, port=None, **kw):
        p = started(harness.Process(args, folder, name, **kw))
        if port is not None:

            def up():
                assert p.alive(), p.log()
                return harness.port_answers(port)

            harness.wait_until(f"{name} on {port}", up)
        return p

    return start


@pytest.fixture
def programs(process, folder):
    """Debian's proxies and name server."""
    return peers.Programs(process, folder)


@pytest.fixture
def kerberos(process, folder):
    """kerberos() starts a KDC."""
    return functools.partial(Kerberos, process, folder)


@pytest.fixture(scope="session")
def certificates():
    f = harness.Folder()
    yield peers.Certificates(f.path)
    f.remove()
