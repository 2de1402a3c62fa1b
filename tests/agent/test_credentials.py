"""Registry credentials, in every form that Docker keeps them in."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from controllers.agent.drivers.contract import DriverError
from controllers.agent.drivers.engine.credentials import credentials, registry

HUB = "https://index.docker.io/v1/"


class Home:
    """A user's Docker configuration."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, config: object) -> None:
        text = config if isinstance(config, str) else json.dumps(config)
        (self.folder / "config.json").write_text(text)

    def helper(self, name: str, script: str) -> None:
        path = self.folder / f"docker-credential-{name}"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return Home(tmp_path)


def login(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


async def found(image: str) -> dict[str, Any]:
    header = await credentials(image)
    return dict(json.loads(base64.urlsafe_b64decode(header))) if header else {}


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("redis", HUB),
        ("redis:7", HUB),
        ("library/redis", HUB),
        ("team/app:1", HUB),
        ("registry.example.com/app", "registry.example.com"),
        ("registry:5000/app:1", "registry:5000"),
        ("localhost/app", "localhost"),
        ("127.0.0.1:5000/team/app@sha256:" + "0" * 64, "127.0.0.1:5000"),
    ],
)
def test_the_registry_of_an_image(image: str, expected: str) -> None:
    assert registry(image) == expected


async def test_nobody_has_logged_in(home: Home) -> None:
    assert await credentials("r.example/app") == ""


async def test_a_password_in_the_file(home: Home) -> None:
    home.write({"auths": {"r.example": login("me", "pass:word"), HUB: login("hub", "h")}})
    expected = {"username": "me", "password": "pass:word", "serveraddress": "r.example"}
    assert await found("r.example/app") == expected
    assert (await found("redis"))["username"] == "hub"
    assert await credentials("other.example/app") == ""


@pytest.mark.parametrize("written", ["https://r.example", "http://r.example/v1/", "r.example/"])
async def test_registries_that_old_versions_wrote_as_urls(home: Home, written: str) -> None:
    home.write({"auths": {written: login("me", "secret")}})
    assert (await found("r.example/app"))["username"] == "me"


async def test_a_token(home: Home) -> None:
    home.write({"auths": {"r.example": {"identitytoken": "t0ken", **login("me", "")}}})
    expected = {"identitytoken": "t0ken", "serveraddress": "r.example"}
    assert await found("r.example/app") == expected


@pytest.mark.parametrize("key", ["credsStore", "credHelpers"])
async def test_a_helper_is_asked(home: Home, key: str) -> None:
    home.write({key: "vault" if key == "credsStore" else {"r.example": "vault"}})
    answer = '{\\"ServerURL\\":\\"$name\\",\\"Username\\":\\"me\\",\\"Secret\\":\\"of $name\\"}'
    home.helper("vault", f'[ "$1" = get ] && read -r name; echo "{answer}"')
    expected = {"username": "me", "password": "of r.example", "serveraddress": "r.example"}
    assert await found("r.example/app") == expected


async def test_a_helper_s_token(home: Home) -> None:
    home.write({"credsStore": "vault"})
    home.helper("vault", """cat >/dev/null; echo '{"Username":"<token>","Secret":"t0ken"}'""")
    assert (await found("r.example/app"))["identitytoken"] == "t0ken"


async def test_a_helper_that_has_nothing(home: Home) -> None:
    home.write({"credsStore": "vault", "auths": {"r.example": {}, "s.example": login("me", "s")}})
    home.helper("vault", "cat >/dev/null; echo credentials not found; exit 1")
    assert await credentials("r.example/app") == ""
    assert (await found("s.example/app"))["password"] == "s", "then what is in the file"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("{not json", "can't be read from .*config.json.*docker login"),
        ([1, 2], "can't be read from .*config.json"),
        ({"auths": {"r.example": "me"}}, "can't be read from .*config.json"),
        ({"auths": {"r.example": {"auth": "%%%"}}}, "docker login r.example"),
        ({"auths": {"r.example": {"auth": "bm8gY29sb24="}}}, "docker login r.example"),
        ({"credsStore": "absent"}, "docker-credential-absent.*r.example.*install"),
        ({"credsStore": "odd"}, "docker-credential-odd answered for registry r.example"),
    ],
)
async def test_what_can_t_be_read_is_said(home: Home, config: object, words: str) -> None:
    home.write(config)
    home.helper("odd", "cat >/dev/null; echo hello")
    with pytest.raises(DriverError, match=words):
        await credentials("r.example/app")


@pytest.mark.parametrize("config", [{}, {"auths": None}, {"auths": {}, "HttpHeaders": {"a": "b"}}])
async def test_what_has_no_credentials_is_fine(home: Home, config: object) -> None:
    home.write(config)
    assert await credentials("r.example/app") == ""


async def test_a_secrets_helper_is_not_run(home: Home) -> None:
    """It would be a program on the node that whoever wrote the secret chose."""
    home.helper("evil", f"touch {home.folder}/ran")
    home.write({"auths": {"r.example": login("node", "own")}})
    given = json.dumps({"credsStore": "evil", "credHelpers": {"r.example": "evil"}}).encode()
    header = json.loads(base64.urlsafe_b64decode(await credentials("r.example/app", given)))
    assert header["username"] == "node"
    assert not (home.folder / "ran").exists()


async def test_a_secret_that_is_no_configuration_says_so_and_not_what_it_holds(home: Home) -> None:
    with pytest.raises(DriverError, match="imageCredentials holds no Docker config") as raised:
        await credentials("r.example/app", b"hunter2")
    assert "hunter2" not in str(raised.value)
