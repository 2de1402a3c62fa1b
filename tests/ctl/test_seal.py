"""`ctl seal`: into a file and out of it again, on a real manager; the rest of the file stays."""

from __future__ import annotations

import difflib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyrage
import pytest

from api.context import load, save
from tests.ctl.runner import Ctl
from tests.sops.writer import as_json, as_yaml, encrypted

TEXT = """\
# of the shop
apiVersion: skep.dev/v1
kind: Secret
metadata:
  name: db
stringData:
  # changed every spring
  password: "hunter2"   # the old one
  user: me
---
apiVersion: skep.dev/v1
kind: Config
metadata: {name: settings}
data: {a.conf: "x = 1\\n"}
"""


@pytest.fixture
def desk(ctl: Ctl, tmp_path: Path) -> Ctl:
    """`ctl` whose keys are kept in the test's own directory."""
    cache = str(tmp_path / "cache")
    return Ctl(
        {**ctl.environment, "XDG_CACHE_HOME": cache}, namespace=ctl.namespace, directory=tmp_path
    )


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "secrets.yaml"
    path.write_text(TEXT)
    return path


@pytest.fixture
def offline(desk: Ctl, tmp_path: Path) -> Iterator[Ctl]:
    """The same where no manager answers."""
    config = tmp_path / "offline.yaml"
    contexts = load(Path(desk.environment["SKEP_CONFIG"]))
    contexts.contexts[contexts.current].server = "https://127.0.0.1:1"
    save(contexts, config)
    yield Ctl(
        {**desk.environment, "SKEP_CONFIG": str(config)},
        namespace=desk.namespace,
        directory=tmp_path,
    )


def changes(before: str, after: str) -> list[str]:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    return [line for line in lines if line[0] in "+-" and line[:3] not in ("+++", "---")]


def test_a_file_is_sealed_in_place_and_applied(desk: Ctl, manifest: Path) -> None:
    manifest.chmod(0o640)
    sealed = desk("seal", "-f", str(manifest), "--in-place")
    assert sealed.lines[0].startswith(f"{manifest} sealed to key ")
    assert f"sealed for namespace {desk.namespace}" in sealed.err
    text = manifest.read_text()
    assert "hunter2" not in text and manifest.stat().st_mode & 0o777 == 0o640
    assert [line.split(": ")[0] for line in changes(TEXT, text)] == [
        "-stringData:",
        "+sealed:",
        "-  password",
        "-  user",
        "+  password",
        "+  user",
    ]
    assert text.splitlines()[7].endswith("   # the old one")
    assert desk("seal", "-f", str(manifest), "-i").lines == [
        f"{manifest} unchanged (nothing in it is to be sealed)"
    ]
    assert "secret/db created" in desk("apply", "-f", str(manifest)).out
    assert "secret/db unchanged" in desk("apply", "-f", str(manifest)).out
    assert desk("diff", "-f", str(manifest)).out == ""
    shown = desk("get", "secret", "db", "-o", "yaml").out
    assert "skep-seal" not in shown and "version: 1" in shown
    assert desk("seal", "verify", str(manifest)).lines == ["2 sealed values: each opens"]


def test_a_value_that_is_set_is_one_line_of_the_diff(desk: Ctl, manifest: Path) -> None:
    desk("seal", "-f", str(manifest), "-i", "--scope", "namespace")
    before = manifest.read_text()
    done = desk("seal", "set", "db", "password", "--file", str(manifest), stdin="new\n")
    assert "ends with a newline" in done.err
    (gone, come) = changes(before, manifest.read_text())
    assert gone.startswith("-  password: skep-seal:v1:") and gone.endswith("# the old one")
    assert come.startswith("+  password: skep-seal:v1:") and come.endswith("# the old one")
    assert ":namespace:" in come, "a scope that was chosen stays"
    before = manifest.read_text()
    desk("seal", "set", "db", "token", "--file", str(manifest), stdin=b"\x00\xff")
    (come,) = changes(before, manifest.read_text())
    assert come.startswith("+  token: skep-seal:v1:") and ":strict:" in come
    desk("apply", "-f", str(manifest))
    shown = desk("get", "secret", "db", "-o", "yaml").out
    assert "password: 4" in shown and "token: 2" in shown


def test_set_makes_a_secret_and_a_file_where_there_is_none(desk: Ctl, tmp_path: Path) -> None:
    path = tmp_path / "new.yaml"
    desk("seal", "set", "one", "a", "--file", str(path), stdin="1")
    desk("seal", "set", "two", "b", "--file", str(path), stdin="2")
    assert path.read_text().count("---") == 1
    desk("apply", "-f", str(path))
    assert desk("get", "secrets", "-o", "name").lines == ["secret/one", "secret/two"]


def test_set_asks_at_a_terminal_and_shows_nothing(desk: Ctl, tmp_path: Path) -> None:
    path = tmp_path / "new.yaml"
    with desk.terminal("seal", "set", "one", "a", "--file", str(path)) as child:
        child.expect("a:")
        child.sendline("correct horse")
        child.expect("[Rr]epeat")
        child.sendline("correct horse")
        child.expect("sealed to key")
        assert "correct horse" not in str(child.before)
    desk("apply", "-f", str(path))
    assert "a: 13" in desk("get", "secret", "one", "-o", "yaml").out


def test_a_value_in_the_clear_is_not_doubled(desk: Ctl, manifest: Path) -> None:
    done = desk("seal", "set", "db", "password", "-f", str(manifest), stdin="x", code=1)
    assert f"{manifest}:8:3: password is there in the clear, in stringData" in done.err
    assert f"ctl seal -f {manifest} --in-place" in done.err
    assert manifest.read_text() == TEXT


def test_what_does_not_open_is_said_with_its_place(desk: Ctl, manifest: Path) -> None:
    desk("seal", "-f", str(manifest), "-i")
    lines = manifest.read_text().splitlines()
    password, user = lines[7], lines[8]
    lines[7] = password.replace(password.split()[1], user.split()[1])
    lines[8] = user[:-4]
    manifest.write_text("\n".join(lines) + "\n")
    for words in (["apply", "-f"], ["seal", "verify"], ["seal", "verify", "--offline"]):
        done = desk(*words, str(manifest), code=4)
        assert f"{manifest}:8:3: secrets/db: sealed.password: was sealed for key user" in done.err
        assert f"{manifest}:9:3: secrets/db: sealed.user: was cut off or changed" in done.err
    desk("get", "secret", "db", code=3)


def test_a_copy_for_another_namespace_or_name_is_refused(desk: Ctl, manifest: Path) -> None:
    desk("seal", "-f", str(manifest), "-i")
    other = manifest.with_name("other.yaml")
    other.write_text(manifest.read_text().replace("name: db", "name: other"))
    done = desk("apply", "-f", str(other), code=4)
    assert "was sealed for another namespace, secret or key (its scope is strict)" in done.err
    desk("apply", "-f", str(manifest))
    done = desk("apply", "-f", str(other), code=4)
    assert f"was sealed for key password of secret {desk.namespace}/db" in done.err
    assert "does not open as namespace" not in done.err


def test_without_a_manager_a_key_that_was_fetched_does(
    desk: Ctl, offline: Ctl, manifest: Path, tmp_path: Path
) -> None:
    done = offline("seal", "-f", str(manifest), code=6)
    assert "no sealing key was fetched before" in done.err and "--key FILE" in done.err
    key = tmp_path / "key.json"
    assert "the newest" in desk("seal", "key", "--fetch", str(key)).out
    by_file = offline("seal", "-f", str(manifest), "--key", str(key)).out
    by_cache = offline("seal", "-f", "-", stdin=TEXT).out
    for text in (by_file, by_cache):
        manifest.write_text(text)
        whole = offline("seal", "verify", "--offline", str(manifest))
        assert whole.lines == ["2 sealed values: each is whole and in its place"]
        desk("apply", "-f", str(manifest))
    done = offline("seal", "-f", str(manifest), "--key", str(manifest), code=2)
    assert "ctl seal key --fetch FILE" in done.err


def test_a_key_of_long_ago_warns(desk: Ctl, manifest: Path, tmp_path: Path) -> None:
    from datetime import UTC, datetime

    from api.seal.keyfile import KeyFile
    from api.seal.keys import SealingKey

    old = SealingKey.new(datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 1, 31, tzinfo=UTC))
    key = tmp_path / "old.json"
    key.write_text(KeyFile(cluster="", keys=[old.public]).text())
    done = desk("seal", "-f", str(manifest), "--key", str(key))
    assert f"sealing key {old.public.id} expired on 2020-01-31" in done.err
    manifest.write_text(done.out)
    refused = desk("apply", "-f", str(manifest), code=4).err
    assert f"sealed to the key {old.public.id}, which this cluster does not have" in refused
    assert "`ctl seal key`" in refused


def test_rotation_seals_anew_and_dropping_asks_for_it(
    desk: Ctl, manifest: Path, tmp_path: Path
) -> None:
    (tmp_path / "deeper").mkdir()
    path = tmp_path / "deeper" / "s.yaml"
    manifest.rename(path)
    desk("seal", "-f", str(path), "-i")
    desk("apply", "-f", str(path))
    old = desk("seal", "key").rows[1][0]
    new = desk("seal", "keys", "renew").out.split()[5]
    assert new != old and desk("seal", "key").rows[1][0] == new
    assert (
        "2 of them not with the newest key" in desk("seal", "verify", str(tmp_path / "deeper")).out
    )
    refused = desk("seal", "keys", "drop", old, "--yes", "--check", str(path.parent), code=5)
    assert f"{path}:8:3" in refused.err and "rotate --all" in refused.err
    before = path.read_text()
    assert desk("seal", "rotate", "--all", "--dry-run", str(path.parent)).out
    assert path.read_text() == before
    desk("seal", "rotate", str(path.parent), code=2)
    done = desk("seal", "rotate", "--all", str(path.parent))
    assert done.lines == [f"{path}: 2 values sealed to key {new}"]
    assert len(changes(before, path.read_text())) == 4 and old not in path.read_text()
    again = desk("seal", "rotate", "--all", str(path.parent))
    assert again.lines == [f"unchanged: all is sealed to the newest key, {new}"]
    assert "secret/db unchanged" in desk("apply", "-f", str(path)).out
    desk("seal", "keys", "drop", old, "--yes", "--check", str(path.parent))
    assert old not in desk("seal", "key").out
    assert "is the newest" in desk("seal", "keys", "drop", new, "--yes", code=5).err


def test_options_that_make_no_sense_together(desk: Ctl, manifest: Path) -> None:
    desk("seal", code=2)
    desk("seal", "-f", "-", "-i", code=2)
    desk("seal", "-f", str(manifest), "-o", "x", "-i", code=2)
    desk("seal", "-f", str(manifest), "-f", "b.yaml", code=2)
    desk("seal", "-f", "nowhere.yaml", code=1)
    desk("seal", "set", "db", "a/b", "-f", str(manifest), code=2)
    desk("seal", "verify", code=2)


def git(directory: Path, *words: str) -> str:
    """In a repository of the test's own, with nobody's settings."""
    who = ["-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "commit.gpgsign=false"]
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    done = subprocess.run(
        ["git", *who, *words], cwd=directory, env=environment, capture_output=True, text=True,
        check=True, timeout=30,
    )  # fmt: skip
    return done.stdout


needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@needs_git
def test_a_secret_in_the_clear_in_a_repository_warns(
    desk: Ctl, manifest: Path, tmp_path: Path
) -> None:
    warning = f"{manifest}: secrets/db is in the clear in a git repository"
    assert warning not in desk("apply", "-f", str(manifest)).err
    git(tmp_path, "init", "-q")
    done = desk("apply", "-f", str(manifest))
    assert warning in done.err and f"ctl seal -f {manifest} --in-place" in done.err
    assert warning not in desk("apply", "-f", "-", stdin=TEXT).err
    assert warning not in desk("apply", "-f", str(manifest), "--allow-plaintext").err
    silent = Ctl({**desk.environment, "SKEP_ALLOW_PLAINTEXT": "1"}, desk.namespace)
    assert warning not in silent("apply", "-f", str(manifest)).err
    (tmp_path / ".gitignore").write_text("secrets.yaml\n")
    assert warning not in desk("apply", "-f", str(manifest)).err
    git(tmp_path, "add", "-f", "secrets.yaml")
    assert warning in desk("apply", "-f", str(manifest)).err, "tracked, whatever is ignored"
    desk("seal", "-f", str(manifest), "-i")
    assert warning not in desk("apply", "-f", str(manifest)).err


@needs_git
def test_what_was_committed_in_the_clear_is_said_to_be_there_still(
    desk: Ctl, manifest: Path, tmp_path: Path
) -> None:
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "a mistake")
    done = desk("seal", "-f", str(manifest), "-i")
    assert f"{manifest} was committed in the clear" in done.err
    assert "password of db, user of db" in done.err and "hunter2" not in done.err
    git(tmp_path, "commit", "-q", "-a", "-m", "sealed")
    text = manifest.read_text().replace("sealed:\n", "stringData: {more: x}\nsealed:\n")
    manifest.write_text(text)
    assert "is written in" not in desk("seal", "-f", str(manifest), "-i", code=1).out
    manifest.write_text(text.replace("stringData: {more: x}", "stringData:\n  more: x"))
    assert "in the clear" not in desk("seal", "-f", str(manifest), "-i").err


def test_what_is_too_much_for_a_secret_is_not_sealed(desk: Ctl, manifest: Path) -> None:
    desk("seal", "-f", str(manifest), "-i")
    before = manifest.read_text()
    for name, code in (("db", 4), ("new", 4)):
        words = ("seal", "set", name, "big", "-f", str(manifest))
        done = desk(*words, stdin=b"x" * 512_001, code=code)
        assert "and at most 512000 are allowed" in done.err
    assert manifest.read_text() == before
    desk("seal", "set", "db", "big", "-f", str(manifest), stdin=b"x" * (512_000 - 9))
    desk("apply", "-f", str(manifest))
    assert (
        "holds 512001 bytes"
        in desk("seal", "set", "db", "one", "-f", str(manifest), stdin=b"x", code=4).err
    )


def test_what_sops_encrypted_is_applied_and_is_not_in_the_clear(desk: Ctl, tmp_path: Path) -> None:
    me = pyrage.x25519.Identity.generate()
    secret = {
        "apiVersion": "skep.dev/v1",
        "kind": "Secret",
        "metadata": {"name": "db"},
        "stringData": {"password": "hunter2"},
    }
    made = encrypted([secret], [me.to_public()], lambda path: "stringData" in path,
                     encrypted_regex="^stringData$")  # fmt: skip
    path = tmp_path / "secret.sops.yaml"
    path.write_text(as_yaml(made))
    (tmp_path / ".git").mkdir()
    bare = Ctl({**desk.environment, "HOME": str(tmp_path)}, desk.namespace)
    refused = bare("apply", "-f", str(path), code=4)
    assert f"{path}:7:1: no age identity is there" in refused.err
    assert "SOPS_AGE_KEY_FILE" in refused.err
    (tmp_path / "keys.txt").write_text(f"{me}\n")
    keys = {"SOPS_AGE_KEY_FILE": str(tmp_path / "keys.txt")}
    mine = Ctl({**bare.environment, **keys}, desk.namespace)
    done = mine("apply", "-f", str(path))
    assert "secret/db created" in done.out and "in the clear" not in done.err
    assert "secret/db unchanged" in mine("apply", "-f", str(path)).out
    json_path = tmp_path / "secret.json"
    json_path.write_text(as_json(made[0]))
    assert mine("diff", "-f", str(json_path)).out == ""
    path.write_text(path.read_text().replace("name: db", "name: other"))
    assert "its MAC is another one" in mine("apply", "-f", str(path), code=4).err
