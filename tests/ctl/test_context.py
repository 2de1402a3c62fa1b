"""`ctl context`: which cluster, as whom, in which namespace; and what `ctl` does without one."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from api.pki.authority import Authority
from api.pki.identity import Role
from tests.ctl.runner import Ctl


def admin_file(directory: Path, server: str = "https://127.0.0.1:1") -> Path:
    """What a manager writes for its admin."""
    directory.mkdir(exist_ok=True)
    issued = Authority.open(directory / "pki").issue("ada", Role.ADMIN)
    blocks = {"ca": issued.ca_pem, "cert": issued.cert_pem, "key": issued.key_pem}
    lines = [f"current: home\ncontexts:\n  home:\n    server: {server}"]
    for name, pem in blocks.items():
        lines += [f"    {name}: |", *(f"      {line}" for line in pem.splitlines())]
    path = directory / "admin.yaml"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def ctl(tmp_path: Path) -> Ctl:
    environment = {"SKEP_CONFIG": str(tmp_path / "home" / "config.yaml"), "PATH": "/usr/bin:/bin"}
    return Ctl(environment, directory=tmp_path)


@pytest.fixture
def home(ctl: Ctl, tmp_path: Path) -> Ctl:
    """With two contexts."""
    file = str(admin_file(tmp_path))
    ctl("context", "import", file, "--name", "other")
    ctl("context", "import", file)
    return ctl


def test_a_context_is_imported_and_shown_without_its_key(ctl: Ctl, tmp_path: Path) -> None:
    done = ctl.program("context", "import", str(admin_file(tmp_path)))
    assert done.out == "context/home imported and in use\n"
    kept = tmp_path / "home" / "config.yaml"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    shown = ctl("context", "show")
    assert {"name: home", "server: https://127.0.0.1:1", "namespace: default"} <= set(shown.lines)
    assert "ada" in shown.out
    assert "PRIVATE" not in shown.out + ctl("context", "list").out


def test_listing_and_choosing(home: Ctl) -> None:
    rows = home("context", "list").rows
    assert rows[1] == ["*", "home", "https://127.0.0.1:1", "default"]
    assert home("context", "list", "-o", "name").lines == ["home", "other"]
    assert home("context", "use", "other").out == "context/other in use\n"
    assert "name: other" in home("context", "show").lines
    assert "there are: home, other" in home("context", "use", "none", code=3).err


def test_changing_one(home: Ctl) -> None:
    home("context", "set", "namespace", "shop")
    assert "namespace: shop" in home("context", "show").lines
    home("context", "set", "namespace", "b", "--context", "other")
    assert "namespace: b" in home("context", "show", "other").lines
    assert "namespace: shop" in home("context", "show", "home").lines
    home("context", "set", "server", "https://127.0.0.1:2")
    assert "server: https://127.0.0.1:2" in home("context", "show").lines


@pytest.mark.parametrize(
    ("what", "value", "said"),
    [
        ("server", "http://127.0.0.1:7443", "https://"),
        ("server", "nonsense", "https://"),
        ("namespace", "Not A Name", "namespace"),
    ],
)
def test_what_cannot_be_right_is_not_kept(home: Ctl, what: str, value: str, said: str) -> None:
    assert said in home("context", "set", what, value, code=2).err
    assert value not in home("context", "show").out


def test_forgetting_one(home: Ctl) -> None:
    done = home("context", "delete", "home")
    assert done.out == "context/home deleted\n"
    assert done.err == "the current context is now other\n"
    home("context", "delete", "other")
    assert "there is no context yet" in home("context", "list").err


def test_the_environment_and_an_option_choose(home: Ctl) -> None:
    home("context", "set", "server", "https://127.0.0.1:2", "--context", "other")
    chosen = home.program("version", code=6, environment={"SKEP_CONTEXT": "other"})
    assert "https://127.0.0.1:2" in chosen.err
    assert "https://127.0.0.1:1" in home("version", "--context", "home", code=6).err
    shown = home.program("context", "show", environment={"SKEP_CONTEXT": "other"})
    assert "name: other" in shown.lines


def test_without_any(ctl: Ctl) -> None:
    done = ctl("get", "services", code=1)
    assert "there is no context yet" in done.err
    assert "ctl context import FILE" in done.err
    assert "there is no context" in ctl("context", "show", code=3).err


def test_files_that_are_no_contexts(ctl: Ctl, tmp_path: Path) -> None:
    assert "does not exist" in ctl("context", "import", str(tmp_path / "none"), code=1).err
    (tmp_path / "bad.yaml").write_text("contexts: [")
    assert (
        "is not YAML (line 1)" in ctl("context", "import", str(tmp_path / "bad.yaml"), code=1).err
    )
    (tmp_path / "odd.yaml").write_text("contexts: {home: {server: 1}}\n")
    assert "is wrong" in ctl("context", "import", str(tmp_path / "odd.yaml"), code=1).err


def test_no_manager_answers(home: Ctl) -> None:
    done = home.program("get", "services", code=6)
    assert done.err.splitlines() == [
        "error: no manager answers at https://127.0.0.1:1: https://127.0.0.1:1 refused the"
        " connection: no manager runs there",
        "  is it running? (hack/up starts one; `ctl context show` says where ctl looks)",
    ]
