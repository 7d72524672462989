"""The policy's schema and the program know the same keys, and the examples pass both."""
import copy
import json
import pathlib
import re
import subprocess

import jsonschema
import pytest

import harness as h

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"
SCHEMA = json.loads((CONFIGS / "sockroute.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
EXAMPLES = sorted(p for p in CONFIGS.glob("*.json") if not p.name.endswith(".schema.json"))
HASH = "$6$saltsalt$qFmFH.bQmmtXzyBY0s9v7Oicd2z4XSIecDzlB5KiA2/jctKu9YterLp8wwnSq.qc.eoxqOmSuNp2xS0ktL3nh/"
KEYTAB = b"\x05\x02\0\0\0\x14\0\x02\0\x01R\0\x04rcmd\0\x01h" + 6 * b"\x07"  # a key of rcmd/h@R

# Every object of a policy that has keys of its own, once.
WHOLE = {
    "log": {},
    "listeners": [{"listen": "127.0.0.1:1080"}],
    "auth": [{"name": "a", "methods": ["userpass", "gssapi"], "users": [{"name": "u", "password_hash": HASH}], "gssapi": {"keytab": "keys"}}],
    "admin": {"listen": "127.0.0.1:9080"},
    "dns": {"rules": [{"domain_suffix": ["a.example"], "servers": ["192.0.2.1"]}], "cache": {}},
    "upstreams": [{"name": "u", "url": "https://192.0.2.2", "tls": {}}, {"name": "k", "url": "socks5://192.0.2.3", "auth": "gssapi", "gssapi": {}}],
    "pools": [{"name": "p", "members": [{"name": "u"}], "retry": {}, "sticky": {"key": "user"}, "queue": {}, "outlier": {}, "health": {"check": "http", "target": "http://a.example", "expect": {}}}],
    "chains": [{"name": "c", "hops": ["u"]}],
    "sets": [{"name": "s", "type": "ip", "values": []}],
    "rules": [{"match": {"not": {"port": [1]}}, "route": "c"}],
    "default_route": "p",
    "limits": {},
    "timeouts": {},
}


def check(folder, policy):
    """What `sockroute check` says of it: exit code and lines."""
    (pathlib.Path(folder) / "keys").write_bytes(KEYTAB)
    path = pathlib.Path(folder) / "policy.json"
    path.write_text(policy if isinstance(policy, str) else json.dumps(policy))
    done = subprocess.run([h.BINARY, "check", str(path)], capture_output=True, text=True, timeout=h.DEADLINE * h.SLOW)
    return done.returncode, done.stdout.splitlines()


def objects(value, path=()):
    """All objects in it, with their paths."""
    if isinstance(value, dict):
        yield path
        for key, inner in value.items():
            yield from objects(inner, path + (key,))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from objects(inner, path + (i,))


def at(value, path):
    for step in path:
        value = value[step]
    return value


def schema_at(path):
    """The schema's own object for that place."""
    found = SCHEMA
    for step in path:
        found = found["items"] if isinstance(step, int) else found["properties"][step]
        while "$ref" in found or "anyOf" in found:
            if "$ref" in found:
                found = SCHEMA["$defs"][found["$ref"].rpartition("/")[2]]
            else:
                found = next(s for s in found["anyOf"] if s.get("type") == "object")
    return found


PLACES = list(objects(WHOLE))
TARGETS = {"tunnel": "example.com:80", "http": "http://example.com"}  # of health checks


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_example(path):
    document = json.loads(path.read_text())
    assert document["$schema"] == "./sockroute.schema.json"
    VALIDATOR.validate(document)
    done = subprocess.run([h.BINARY, "check", str(path)], capture_output=True, text=True, timeout=h.DEADLINE * h.SLOW)
    assert (done.returncode, done.stdout) == (0, f"{path}: ok\n")


def test_the_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    VALIDATOR.validate(WHOLE)


@pytest.mark.parametrize("path", PLACES, ids=lambda p: "/".join(map(str, p)) or "top")
def test_both_know_the_same_keys(folder, path):
    """An unknown key is answered with the known ones: those of the schema."""
    document = copy.deepcopy(WHOLE)
    at(document, path)["@@@@@@@@@@@@"] = 1
    assert not VALIDATOR.is_valid(document)
    code, lines = check(folder, document)
    assert code == 2 and len(lines) == 1, lines
    pointer = "".join(f"/{step}" for step in path) + "/@@@@@@@@@@@@"
    assert f": {pointer}: unknown key" in lines[0]
    known = re.findall(r'"(\S+?)"', lines[0].partition("expected one of")[2])
    assert sorted(known) == sorted(schema_at(path)["properties"])


@pytest.mark.parametrize("path", PLACES, ids=lambda p: "/".join(map(str, p)) or "top")
def test_both_ask_for_the_same_keys(folder, path):
    for key in schema_at(path).get("required", []):
        document = copy.deepcopy(WHOLE)
        del at(document, path)[key]
        assert not VALIDATOR.is_valid(document)
        code, lines = check(folder, document)
        assert code == 2
        assert any(f'the key "{key}" is missing' in line for line in lines), lines


@pytest.mark.parametrize("path", PLACES, ids=lambda p: "/".join(map(str, p)) or "top")
def test_every_key_has_a_type(folder, path):
    """null is right nowhere."""
    for key in schema_at(path)["properties"]:
        document = copy.deepcopy(WHOLE)
        at(document, path)[key] = None
        assert not VALIDATOR.is_valid(document)
        code, lines = check(folder, document)
        pointer = "".join(f"/{step}" for step in path) + f"/{key}"
        assert code == 2
        assert any(f": {pointer}: expected" in line for line in lines), lines


def test_words_and_defaults_of_the_schema_are_taken(folder):
    """Each enum's words and each default, put in their place."""
    for path in PLACES:
        for key, schema in schema_at(path)["properties"].items():
            words = schema.get("enum", []) + ([schema["default"]] if "default" in schema else [])
            for word in words:
                document = copy.deepcopy(WHOLE)
                at(document, path)[key] = word
                if key == "check":
                    health = {"check": word} | ({"target": TARGETS[word]} if word in TARGETS else {})
                    at(document, path[:-1])["health"] = health
                if key == "hash_key":
                    at(document, path)["balance"] = "consistent_hash"
                if key == "auth":
                    at(document, path)["url"] = "socks5+tls://192.0.2.2"
                if key == "type":
                    at(document, path)["values"] = []
                VALIDATOR.validate(document)
                assert check(folder, document)[0] == 0, (path, key, word)


def test_a_hundred_megabytes_and_ten_thousand_arrays(folder):
    code, lines = check(folder, '{"comment": "' + "x" * 100_000_000 + '"}')
    assert code == 2 and "expected at most 67108864" in lines[0]
    code, lines = check(folder, "[" * 10_000)
    assert code == 2 and "1:65: : arrays and objects are nested deeper than 64 levels" in lines[0]
