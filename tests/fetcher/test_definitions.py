"""The operator's file of providers: what it may say, and what is said of mistakes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from controllers.fetcher.definitions import Definitions, ProvidersError, parse, read

GOOD = """
providers:
  - name: corp-vault
    namespaces: [shop, blog]
    vault:
      address: https://vault.example.com:8200
      prefix: skep/{namespace}/
      appRole: {roleId: r, secretId: {file: /etc/skep/secret-id}}
  - name: values
    namespaces: ["*"]
    files: {directory: "/etc/skep/values/{namespace}"}
  - name: hsm
    namespaces: [shop]
    command: {argv: [/bin/cat, /proc/self/status], timeout: 2s, format: raw}
"""


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_what_it_defines_is_for_the_namespaces_that_it_names(tmp_path: Path) -> None:
    definitions = Definitions(write(tmp_path / "providers.yaml", GOOD))
    definitions.load()
    vault = definitions.get("corp-vault", "shop")
    assert vault is not None and vault.vault is not None
    assert (vault.vault.mount, vault.vault.kv) == ("secret", 2)
    assert definitions.get("corp-vault", "ops") is None
    assert definitions.get("values", "ops") is not None
    assert definitions.get("nothing", "shop") is None
    assert Definitions(None).get("values", "ops") is None


def one(rest: str, namespaces: str = "[x]") -> str:
    return f"providers: [{{name: a, namespaces: {namespaces}{rest}}}]"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("providers: [", "no YAML"),
        ("[]", "expected a mapping"),
        ("provider: []", "did you mean providers?"),
        ("providers: [{name: a}]", "namespaces"),
        (one(""), "one of vault, files and command"),
        (one(", files: {directory: /a}, command: {argv: [/bin/cat]}"), "got files and command"),
        (one(", files: {directory: /a}", "[x, y]"), "{namespace}"),
        (one(", files: {directory: /a}", '["*"]'), "{namespace}"),
        (one(', files: {directory: "/a{namespace}"}', "[x, y]"), "a part of its own"),
        (one(", command: {argv: [/bin/cat]}", "[x, y]"), "shared: true"),
        (one(", files: {directory: /a/../b}"), "without '..'"),
        (one(", command: {argv: [cat]}"), "absolute path"),
        (one(", command: {argv: [/nothing]}"), "can't be run"),
        (one(", command: {argv: [/proc/self/status]}"), "no program"),
        (one(", command: {argv: [/bin/cat], timeout: 2m}"), "over 1m"),
        (one(", vault: {address: http://a, token: {file: /a}}"), "http is not spoken"),
        (one(", vault: {address: https://a}"), "token and appRole"),
        (one(", vault: {address: https://a, token: {}}"), "file and secret"),
        (one(", vault: {address: https://a, token: {file: /a}, ca: /nothing}"), "no file /nothing"),
        (GOOD + GOOD.replace("providers:", ""), "two called corp-vault"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(wrong: str, words: str) -> None:
    with pytest.raises(ProvidersError) as caught:
        parse(wrong.encode(), "providers.yaml")
    assert words in str(caught.value)
    assert "providers.yaml" in str(caught.value)


def test_all_of_it_is_said_at_once() -> None:
    both = (
        "providers: [{name: a, namespaces: [x, y], files: {directory: /a}},"
        " {name: a, namespaces: [x], command: {argv: [/nothing]}}]"
    )
    with pytest.raises(ProvidersError) as caught:
        parse(both.encode(), "p")
    assert len(str(caught.value).splitlines()) == 3


def test_a_file_that_others_may_read_or_change_is_refused(tmp_path: Path) -> None:
    for mode in (0o644, 0o620, 0o602):
        with pytest.raises(ProvidersError, match="open to other users"):
            read(write(tmp_path / f"{mode}", GOOD, mode))
    if os.geteuid() == 0:
        path = write(tmp_path / "theirs", GOOD)
        os.chown(path, 65534, -1)
        with pytest.raises(ProvidersError, match="open to other users"):
            read(path)


def test_a_program_that_others_may_change_is_refused(tmp_path: Path) -> None:
    program = write(tmp_path / "program", "#!/bin/sh\n", 0o777)
    text = f"providers: [{{name: a, namespaces: [x], command: {{argv: [{program}]}}}}]"
    with pytest.raises(ProvidersError, match="can be changed by other users"):
        parse(text.encode(), "p")


def test_a_file_that_changes_counts_at_once_and_a_wrong_one_never(tmp_path: Path) -> None:
    path = write(tmp_path / "providers.yaml", GOOD)
    definitions = Definitions(path)
    definitions.load()
    write(path, "providers: [{name: new, namespaces: [shop], files: {directory: /a}}]")
    assert definitions.get("new", "shop") is not None
    write(path, "providers: [{name: newer")
    assert definitions.get("new", "shop") is not None
    path.unlink()
    assert definitions.get("new", "shop") is not None
