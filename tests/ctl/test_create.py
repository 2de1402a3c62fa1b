"""`ctl create`: a secret's bytes arrive as they were given, and are shown nowhere."""

from __future__ import annotations

import json

import pytest

from tests.ctl.runner import Ctl, at_end

pytestmark = [pytest.mark.cluster, pytest.mark.etcd, pytest.mark.deadline(40)]

PAYLOAD = "hunter2-canary"


def sizes(ctl: Ctl, name: str) -> dict[str, int]:
    found = json.loads(ctl("get", "secret", name, "-o", "json").out)
    assert "data" not in found
    assert PAYLOAD not in json.dumps(found)
    sizes: dict[str, int] = found["status"]["sizes"]
    return sizes


def test_from_files_literals_and_an_env_file(ctl: Ctl) -> None:
    (ctl.directory / "tls.key").write_bytes(b"\x00\xff\n")
    (ctl.directory / ".env").write_text("A=1\n# no\nB=22\n")
    done = ctl.program(
        "create", "secret", "s", "--from-file", "tls.key", "--from-file", "other=tls.key",
        "--from-literal", f"password={PAYLOAD}", "--from-env-file", ".env", "-l", "app=shop",
    )  # fmt: skip
    assert done.out == "secret/s created\n"
    assert "the shell's history" in done.err
    assert PAYLOAD not in done.out + done.err
    assert sizes(ctl, "s") == {"tls.key": 3, "other": 3, "password": 14, "A": 1, "B": 2}
    assert ctl("get", "secrets", "-l", "app=shop", "-o", "name").out == "secret/s\n"


def test_from_stdin_byte_for_byte(ctl: Ctl) -> None:
    done = ctl.program("create", "secret", "s", "--from-stdin", "k", stdin=PAYLOAD)
    assert (done.out, done.err) == ("secret/s created\n", "")
    assert sizes(ctl, "s") == {"k": 14}
    newline = ctl("create", "secret", "n", "--from-stdin", "k", stdin=f"{PAYLOAD}\n")
    assert "ends with a newline, which is kept" in newline.err
    assert sizes(ctl, "n") == {"k": 15}


def test_typed_at_a_terminal_twice_and_not_shown(ctl: Ctl) -> None:
    with ctl.terminal("create", "secret", "s", "--prompt", "password") as child:
        child.expect("password: ")
        child.waitnoecho(5)
        child.sendline(PAYLOAD)
        child.expect("Repeat for confirmation: ")
        child.waitnoecho(5)
        child.sendline("something else")
        child.expect("(?i)error: .*do not match")
        child.expect("password: ")
        child.waitnoecho(5)
        child.sendline(PAYLOAD)
        child.expect("Repeat for confirmation: ")
        child.waitnoecho(5)
        child.sendline(PAYLOAD)
        code, shown = at_end(child)
    assert (code, shown.strip()) == (0, "secret/s created")
    assert sizes(ctl, "s") == {"password": 14}


def test_a_prompt_needs_a_terminal(ctl: Ctl) -> None:
    done = ctl.program("create", "secret", "s", "--prompt", "k", stdin=PAYLOAD, code=1)
    assert "there is no terminal to ask for k at" in done.err
    assert PAYLOAD not in done.err


def test_what_exists_is_replaced_only_when_asked(ctl: Ctl) -> None:
    ctl("create", "secret", "s", "--from-stdin", "k", stdin="one")
    again = ctl("create", "secret", "s", "--from-stdin", "other", stdin="four", code=5)
    assert "exists already" in again.err
    assert "--replace" in again.err
    done = ctl("create", "secret", "s", "--from-stdin", "other", "--replace", stdin="four")
    assert done.out == "secret/s configured\n"
    assert sizes(ctl, "s") == {"other": 4}
    version = ctl("get", "secret", "s", "-o", "jsonpath={.status.version}").out
    assert version == "2"


def test_a_replaced_secret_made_by_create_first(ctl: Ctl) -> None:
    done = ctl("create", "secret", "s", "--from-stdin", "k", "--replace", stdin="one")
    assert done.out == "secret/s created\n"
    same = ctl("create", "secret", "s", "--from-stdin", "k", "--replace", stdin="one")
    assert same.out == "secret/s unchanged\n"


def test_a_dry_run_writes_nothing(ctl: Ctl) -> None:
    done = ctl("create", "secret", "s", "--from-stdin", "k", "--dry-run", stdin=PAYLOAD)
    assert done.out == "secret/s created (dry run)\n"
    assert ctl("get", "secrets", "-o", "name").out == ""


def test_no_output_of_any_verb_shows_the_payload(ctl: Ctl) -> None:
    ctl("create", "secret", "s", "--from-stdin", "k", stdin=PAYLOAD)
    for words in (
        ["get", "secret", "s"], ["get", "secret", "s", "-o", "wide"],
        ["get", "secret", "s", "-o", "yaml"], ["get", "secret", "s", "-o", "json"],
        ["get", "secret", "s", "-o", "jsonpath={}"], ["describe", "secret", "s"], ["events"],
        ["label", "secret", "s", "x=y"],
    ):  # fmt: skip
        done = ctl(*words)
        assert PAYLOAD not in done.out + done.err
        assert "aHVudGVyMi1jYW5hcnk" not in done.out + done.err, words


def test_a_wrong_secret_is_refused_without_its_payload(ctl: Ctl) -> None:
    done = ctl("create", "secret", "Not_A_Name", "--from-stdin", "k", stdin=PAYLOAD, code=4)
    assert PAYLOAD not in done.err
    assert "metadata.name" in done.err


def test_a_config_can_be_read(ctl: Ctl) -> None:
    (ctl.directory / "nginx.conf").write_text("listen 80;\n")
    (ctl.directory / "logo").write_bytes(b"\xff\xfe")
    done = ctl.program(
        "create", "config", "web", "--from-file", "nginx.conf", "--from-file", "logo"
    )
    assert done.out == "config/web created\n"
    found = json.loads(ctl("get", "config", "web", "-o", "json").out)
    assert found["data"] == {"nginx.conf": "listen 80;\n"}
    assert found["binaryData"] == {"logo": "//4="}


def test_a_namespace(ctl: Ctl) -> None:
    name = f"{ctl.namespace}-made"
    assert ctl("create", "namespace", name, "-l", "team=a").out == f"namespace/{name} created\n"
    assert "exists already" in ctl("create", "namespace", name, code=5).err
    ctl("delete", "namespace", name)


def test_in_a_namespace_that_is_not_there(ctl: Ctl) -> None:
    done = ctl("create", "config", "c", "--from-literal", "a=1", "-n", "nowhere", code=None)
    assert done.code == 3
    assert "namespace nowhere does not exist" in done.err
