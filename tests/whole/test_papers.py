"""What the papers say is so: their policies pass, their keys and calls exist."""
import json
import pathlib
import re
import subprocess

import pytest

import harness as h

TOP = pathlib.Path(__file__).resolve().parents[2]
PAPERS = sorted([TOP / "README.md", TOP / "CONTRIBUTING.md", *(TOP / "docs").glob("*.md")])
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def policies():
    for paper in PAPERS:
        for i, block in enumerate(re.findall(r"```json\n(.*?)```", paper.read_text(), re.S)):
            if '"default_route"' in block:
                yield pytest.param(block, id=f"{paper.name}-{i}")


@pytest.mark.parametrize("text", policies())
def test_a_policy_passes_the_check(folder, text):
    path = folder / "policy.json"
    path.write_text(text)
    r = subprocess.run([h.BINARY, "check", path], capture_output=True, text=True, timeout=h.DEADLINE * h.SLOW)
    assert (r.returncode, r.stdout) == (0, f"{path}: ok\n")


def test_the_mistake_that_the_readme_shows(folder):
    readme = (TOP / "README.md").read_text()
    example = re.search(r"```json\n(.*?)```", readme, re.S)[1]
    (folder / "policy.json").write_text(example.replace('["corp", "abroad"]', '["corp", "abraod"]'))
    r = subprocess.run([h.BINARY, "check", "policy.json"], cwd=folder, capture_output=True, text=True, timeout=h.DEADLINE * h.SLOW)
    assert r.returncode == 2 and r.stdout.strip() in " ".join(readme.split())


def keys_of(schema):
    found = set(schema["properties"]) if isinstance(schema.get("properties"), dict) else set()
    for value in schema.values():
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, dict):
                found |= keys_of(part)
    return found


def test_the_reference_has_every_key_of_the_schema():
    schema = json.loads((TOP / "configs/sockroute.schema.json").read_text())
    quoted = " ".join(re.findall(r"`([^`]*)`", (TOP / "docs/policy.md").read_text()))
    assert keys_of(schema) - set(re.findall(r"[\w$]+", quoted)) == set()


MANUALS = [TOP / "docs/sockroute.1", TOP / "docs/sockroute.json.5"]


@pytest.mark.parametrize("page", MANUALS, ids=lambda p: p.name)
def test_a_manual_is_sound_mdoc(page):
    r = subprocess.run([h.need("mandoc"), "-Tlint", "-Wwarning", page], capture_output=True, text=True, timeout=h.DEADLINE * h.SLOW)
    assert r.returncode == 0, r.stdout


def manual(page):
    r = subprocess.run([h.need("mandoc"), "-Tutf8", "-Owidth=400", page], capture_output=True, text=True, timeout=h.DEADLINE * h.SLOW)
    return re.sub(r".\x08", "", r.stdout)


def test_the_manual_of_the_policy_has_every_key():
    schema = json.loads((TOP / "configs/sockroute.schema.json").read_text())
    assert keys_of(schema) - set(re.findall(r"[\w$]+", manual(MANUALS[1]))) == set()


def test_the_manual_of_the_command_has_every_command_and_option():
    def of(*args):
        return subprocess.run([h.BINARY, *args], capture_output=True, text=True, timeout=h.DEADLINE * h.SLOW).stdout

    text = manual(MANUALS[0])
    commands = re.findall(r"^  ([a-z][a-z-]*) ", of("--help"), re.M)
    assert len(commands) >= 8
    for command in commands:
        options = set(re.findall(r"--[a-z][a-z-]*", of(command, "--help")))
        assert re.search(rf"\b{command}\b", text), command
        for option in options:
            assert re.search(rf"{option}\b", text), (command, option)


def test_the_reference_has_every_call_of_the_api():
    routes = re.findall(r'^\t\{ "([A-Z]+)", "([^"]+)"', (TOP / "admin/routes.c").read_text(), re.M)
    text = (TOP / "docs/api.md").read_text()
    missing = [(method, path) for method, path in routes
               if not re.search(f"`{method} {re.escape(path)}[`?[]".replace(r"\*", "[A-Z]+"), text)]
    assert len(routes) > 20 and missing == []


def test_links_lead_somewhere():
    for paper in [*PAPERS, TOP / "ARCHITECTURE.md", TOP / "CHANGELOG.md"]:
        for to in LINK.findall(paper.read_text()):
            assert (paper.parent / to).exists(), (paper.name, to)
