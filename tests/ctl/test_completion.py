"""`ctl completion`, as bash, zsh and fish use it: what a Tab offers."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.ctl.objects import config, service, text
from tests.ctl.runner import Ctl

pytestmark = [pytest.mark.cluster, pytest.mark.etcd, pytest.mark.deadline(40)]

# Each asks its shell's own machinery what it offers for the line in $LINE.
BASH = """
source {script}
COMP_WORDS=($LINE) ; [[ $LINE == *' ' ]] && COMP_WORDS+=('')
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_ctl_completion ctl
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
FISH = """
source {script}
complete -C "$LINE"
"""


@pytest.fixture
def shop(ctl: Ctl) -> Ctl:
    ctl("apply", "-f", "-", stdin=text(config("a"), config("b"), service("web", replicas=0)))
    return ctl


def ask(ctl: Ctl, shell: str, script: str, line: str) -> list[str]:
    """The words offered."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed (hack/install shells)")
    file = ctl.directory / f"completion.{shell}"
    file.write_text(ctl("completion", shell).out)
    path = f"{ctl.bin.parent}:/usr/bin:/bin"
    done = subprocess.run(
        [shell, "-c", script.format(script=file)],
        env={**ctl.environment, "PATH": path, "LINE": line, "HOME": str(ctl.directory)},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stderr == ""
    return [offer.split("\t")[0] for offer in done.stdout.split("\n") if offer]


LINES = [
    ("ctl de", ["delete", "describe"]),
    ("ctl get con", ["configs"]),
    ("ctl get configs ", ["a", "b"]),
    ("ctl get config a ", ["b"]),
    ("ctl scale ", ["web"]),
    ("ctl get configs -n defau", ["default"]),
    ("ctl explain service.spec.rep", ["service.spec.replicas"]),
    ("ctl node ", ["activate", "demote", "drain", "pause", "promote", "rm"]),
    ("ctl node drain ", ["worker-1"]),
    ("ctl context use ", ["default"]),
]


@pytest.mark.parametrize(("line", "offered"), LINES, ids=[line for line, _ in LINES])
@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_tab_offers_what_could_follow(shop: Ctl, shell: str, line: str, offered: list[str]) -> None:
    found = ask(shop, shell, BASH if shell == "bash" else FISH, line)
    assert sorted(found) == offered


def test_tab_completes_kind_slash_name(shop: Ctl) -> None:
    assert ask(shop, "fish", FISH, "ctl describe config/") == ["config/a", "config/b"]
    assert ask(shop, "bash", BASH, "ctl logs service/w") == ["service/web"]


def test_zsh_completes_a_line_that_is_typed(shop: Ctl) -> None:
    if shutil.which("zsh") is None:
        pytest.skip("zsh is not installed (hack/install shells)")
    (shop.directory / "_ctl").write_text(shop("completion", "zsh").out)
    (shop.directory / ".zshrc").write_text(
        "unsetopt zle_bracketed_paste; PS1='ready> '\n"
        f"fpath=({shop.directory} $fpath); autoload -Uz compinit; compinit -u\n"
    )
    zsh = Ctl(
        {
            **shop.environment,
            "PATH": f"{shop.bin.parent}:/usr/bin:/bin",
            "ZDOTDIR": str(shop.directory),
            "HOME": str(shop.directory),
        },
        bin=Path(shutil.which("zsh") or "zsh"),
    )
    with zsh.terminal("-i") as shell:
        shell.expect("ready> ")
        shell.send("ctl describe service w\t")
        shell.expect("service web")
        shell.sendline()
        shell.expect("Name: +web")
        shell.expect("ready> ")
        shell.sendline("exit")


def test_an_unreachable_cluster_holds_up_nobody(shop: Ctl) -> None:
    away = shop.directory / "away.yaml"
    away.write_text(Path(shop.environment["SKEP_CONFIG"]).read_text())
    lost = replace(shop, environment={**shop.environment, "SKEP_CONFIG": str(away)})
    lost("context", "set", "server", "https://127.0.0.1:1")
    assert ask(lost, "bash", BASH, "ctl get configs ") == []
    assert ask(lost, "bash", BASH, "ctl get con") == ["configs"]


def test_a_shell_that_is_not_known(ctl: Ctl) -> None:
    assert "bash" in ctl("completion", "tcsh", code=2).err
