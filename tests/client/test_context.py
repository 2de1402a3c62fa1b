"""The context file: kept from others, clear about what is missing."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from api.context import Context, ContextError, ContextFile, default_path, load, save
from api.pki.authority import Authority
from api.pki.errors import PkiError
from api.pki.identity import Role
from tests.server.harness import running_server

PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


def context(server: str = "https://127.0.0.1:7443") -> Context:
    return Context(server=server, ca=PEM, cert=PEM, key=PEM)


def two() -> ContextFile:
    return ContextFile(
        current="home", contexts={"home": context(), "work": context("https://work:7443")}
    )


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "skep" / "config.yaml"
    save(two(), path)
    assert load(path) == two()


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "skep" / "config.yaml"
    save(two(), path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_it_reads_well(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    save(two(), path)
    text = path.read_text()
    assert text.startswith("current: home\ncontexts:\n")
    assert "      -----BEGIN CERTIFICATE-----\n" in text


def test_no_file_is_no_context(tmp_path: Path) -> None:
    file = load(tmp_path / "none")
    assert file == ContextFile()
    with pytest.raises(ContextError, match="there is no context yet"):
        file.select()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "not YAML"),
        ("- a\n", "is wrong"),
        ("contexts: {home: {server: x}}\n", r"missing required field `ca`"),
        ("contexts: {home: 3}\n", "is wrong"),
    ],
)
def test_a_damaged_file_is_said_in_words(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ContextError, match=said):
        load(path)


def test_a_damaged_file_does_not_show_its_key(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("contexts: {home: {key: SECRET, ca: [}}\n")
    with pytest.raises(ContextError) as caught:
        load(path)
    assert "SECRET" not in str(caught.value)


def test_choosing() -> None:
    file = two()
    assert file.select().server == "https://127.0.0.1:7443"
    assert file.select("work").server == "https://work:7443"
    file.use("work")
    assert file.select().server == "https://work:7443"
    with pytest.raises(ContextError, match=r"no context 'wrok'; there are: home, work"):
        file.use("wrok")


def test_removing_the_current_one_leaves_another() -> None:
    file = two()
    file.remove("home")
    assert file.current == "work"


def test_importing_takes_over_the_others_current() -> None:
    file, other = (
        two(),
        ContextFile(current="default", contexts={"default": context("https://n:1")}),
    )
    assert file.import_from(other, "new") == "new"
    assert file.current == "new"
    assert file.select().server == "https://n:1"
    assert file.import_from(other) == "default"
    assert set(file.contexts) == {"home", "work", "new", "default"}


def test_several_servers() -> None:
    assert context("https://a:1, https://b:2,").servers == ["https://a:1", "https://b:2"]


def test_where_the_file_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_path({"SKEP_CONFIG": "/x/y.yaml"}) == Path("/x/y.yaml")
    assert default_path({"XDG_CONFIG_HOME": "/x"}) == Path("/x/skep/config.yaml")
    assert default_path({}) == Path.home() / ".config" / "skep" / "config.yaml"


def test_a_key_does_not_show_when_a_context_is_printed() -> None:
    assert "BEGIN" not in f"{context()} {two()}"


def test_an_expired_certificate_is_said_in_words(tmp_path: Path) -> None:
    past = datetime.now(UTC) - timedelta(days=100)
    issued = Authority.create(tmp_path, clock=lambda: past).issue("admin", Role.ADMIN, days=30)
    expired = Context(ca=issued.ca_pem, cert=issued.cert_pem, key=issued.key_pem)
    with pytest.raises(PkiError, match=r"expired on .* import a new admin.yaml"):
        expired.check()


async def test_a_context_reaches_its_cluster(tmp_path: Path) -> None:
    async with running_server() as server:
        issued = server.credentials()
        made = Context(
            server=server.url, ca=issued.ca_pem, cert=issued.cert_pem, key=issued.key_pem
        )
        save(ContextFile(current="t", contexts={"t": made}), tmp_path / "config.yaml")
        async with load(tmp_path / "config.yaml").select().client() as client:
            assert await client.ready()
