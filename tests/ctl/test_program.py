"""What all verbs share: help, exit codes, streams, colours, global options."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from api.ctl.errors import MEANINGS
from api.ctl.main import _VERBS
from tests.ctl.objects import config, text
from tests.ctl.runner import Ctl, at_end

pytestmark = [pytest.mark.cluster, pytest.mark.etcd, pytest.mark.deadline(40)]


def test_help_lists_every_verb_and_every_exit_code(ctl: Ctl) -> None:
    done = ctl.program("--help")
    assert done.err == ""
    assert ctl("-h").out == ctl().out == done.out
    for verb in _VERBS:
        assert re.search(rf"^  {verb}  +\w", done.out, re.MULTILINE), verb
    for code, meaning in MEANINGS.items():
        assert re.search(rf"^ +{code.value}  {re.escape(meaning)}$", done.out, re.MULTILINE)


@pytest.mark.parametrize("verb", _VERBS)
def test_every_verb_has_help_with_an_example_or_commands(ctl: Ctl, verb: str) -> None:
    done = ctl(verb, "--help")
    assert done.lines[0].startswith(f"Usage: ctl {verb}")
    examples = [line for line in done.lines if line.strip().startswith((f"ctl {verb} ", "bash "))]
    commands = "Commands:" in done.lines
    assert examples or commands or verb in ("status", "version"), done.out


def test_words_that_make_no_sense_are_2(ctl: Ctl) -> None:
    assert "did you mean describe?" in ctl.program("descrbe", code=2).err
    assert "see `ctl --help`" in ctl("xyzzy", code=2).err
    assert "--selectr" in ctl("get", "services", "--selectr", "x", code=2).err
    assert "Usage: ctl get" in ctl("get", code=2).err
    assert "it looks like https://" in ctl("get", "services", "--server", "nonsense", code=2).err


def test_global_options_stand_before_and_after_the_verb(ctl: Ctl) -> None:
    ctl("apply", "-f", "-", stdin=text(config("a")))
    before = ctl("-n", ctl.namespace, "get", "configs", "-o", "name")
    after = ctl("get", "configs", "-o", "name", "--namespace", ctl.namespace)
    assert before.out == after.out == "config/a\n"
    assert ctl("get", "configs", "-n", "default", "-o", "name").out == ""
    said = ctl("-v", "get", "configs").err
    assert "talking to https://127.0.0.1:" in said
    assert f"namespace {ctl.namespace}" in said


@pytest.mark.parametrize("group", ["context", "create", "rollout"])
def test_a_group_without_its_verb_shows_its_help(ctl: Ctl, group: str) -> None:
    done = ctl(group, code=2)
    assert done.out == ""
    assert done.err == ctl(group, "--help").out


def test_versions(ctl: Ctl) -> None:
    assert ctl("--version").lines == ctl("version", "--client").lines
    done = ctl.program("version")
    assert re.fullmatch(r"client: 0\.\S+\nserver: v?0\.\S+\n", done.out)
    assert ctl("version", "--client").lines == done.lines[:1]
    assert set(json.loads(ctl("version", "-o", "json").out)) == {"client", "server"}
    gone = ctl("version", "--server", "https://127.0.0.1:1", code=6)
    assert gone.out.startswith("client: ")
    assert "no manager answers" in gone.err


def test_data_is_on_stdout_and_words_on_stderr(ctl: Ctl) -> None:
    done = ctl.program("apply", "-f", "-", stdin="# nothing\n")
    assert (done.out, bool(done.err)) == ("", True)
    done = ctl.program("get", "config", "none", code=3)
    assert (done.out, done.err[:7]) == ("", "error: ")


def test_colours_only_at_a_terminal_and_only_without_no_color(ctl: Ctl) -> None:
    assert "\x1b" not in ctl.program("get", "config", "none", code=3).err
    with ctl.terminal("get", "config", "none") as child:
        child.expect("\x1b\\[31merror:\x1b\\[0m config")
        assert at_end(child)[0] == 3
    with ctl.terminal("get", "config", "none", NO_COLOR="1") as child:
        child.expect("error: config")
        assert "\x1b" not in str(child.before)


def test_a_pipe_that_closes_is_no_error(ctl: Ctl) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{ctl.bin} explain service -r | head -1; echo ${{PIPESTATUS[0]}}"],
        env=dict(ctl.environment),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[0].startswith("KIND:")
    assert done.stdout.splitlines()[1] in ("0", "141")
    assert done.stderr == ""
