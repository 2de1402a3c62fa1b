"""A real OpenBao server, which speaks HashiCorp Vault's API, over TLS on loopback; in memory."""

from __future__ import annotations

import contextlib
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

BAO = Path(sys.executable).parent / "bao"
LIMIT = 30.0  # seconds to come up


class OpenBao:
    def __init__(self, home: Path) -> None:
        self.home = home
        self.token = secrets.token_hex(16)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.address = f"https://127.0.0.1:{self.port}"
        self.ca = home / "vault-ca.pem"

    def run(self, *words: str, stdin: str = "", namespace: str = "") -> Any:
        """`bao` with that; its answer."""
        done = subprocess.run(
            [str(BAO), *words],
            env={
                "HOME": str(self.home),
                "BAO_ADDR": self.address,
                "BAO_CACERT": str(self.ca),
                "BAO_TOKEN": self.token,
                "BAO_NAMESPACE": namespace,
                "BAO_FORMAT": "json",
            },
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise AssertionError(f"bao {' '.join(words)}: {done.stderr}")
        try:
            return msgspec.json.decode(done.stdout)
        except msgspec.DecodeError:
            return done.stdout

    def put(self, path: str, *, mount: str = "secret", namespace: str = "", **values: str) -> None:
        said = [f"{key}={value}" for key, value in values.items()]
        self.run("kv", "put", f"-mount={mount}", path, *said, namespace=namespace)

    def policy(self, name: str, *paths: str) -> None:
        rules = "\n".join(f'path "{path}" {{ capabilities = ["read"] }}' for path in paths)
        self.run("policy", "write", name, "-", stdin=rules)

    def made_token(self, *words: str) -> str:
        return str(self.run("token", "create", *words)["auth"]["client_token"])

    def role(self, policy: str, ttl: str = "1h") -> tuple[str, str]:
        """Of an AppRole of that policy: role id and secret id."""
        where = f"auth/approle/role/{policy}"
        self.run("write", "-f", where, f"token_policies={policy}", f"token_ttl={ttl}")
        role = self.run("read", f"{where}/role-id")["data"]["role_id"]
        return role, self.run("write", "-f", f"{where}/secret-id")["data"]["secret_id"]


@contextlib.contextmanager
def openbao(home: Path) -> Iterator[OpenBao]:
    it = OpenBao(home)
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(
            [
                str(BAO), "server", "-dev", "-dev-tls", f"-dev-tls-cert-dir={home}",
                f"-dev-root-token-id={it.token}", f"-dev-listen-address=127.0.0.1:{it.port}",
                "-dev-no-store-token",
            ],
            env={"HOME": str(home)}, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        end = time.monotonic() + LIMIT
        while True:
            if server.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"OpenBao is not up:\n{(home / 'log').read_text()}")
            with contextlib.suppress(AssertionError):
                it.run("token", "lookup")
                break
            time.sleep(0.1)
        yield it
    finally:
        server.terminate()
        server.wait(10)
