"""A real registry on loopback, open or with a password, with an image of several layers in it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
from base64 import b64encode
from pathlib import Path

from tests.agent.ground import IMAGE, docker

PROGRAM = "/usr/bin/docker-registry"
USER, PASSWORD = "puller", "correct horse"
PATIENCE = 30.0


class Registry:
    def __init__(self, home: Path, *, password: bool = False) -> None:
        self._home = home
        self._password = password
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        self.image = f"{self.address}/skep/layers:1"
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        self._home.mkdir()
        config = {
            "version": "0.1",
            "storage": {"filesystem": {"rootdirectory": str(self._home / "data")}},
            "http": {"addr": self.address},
            "log": {"level": "error", "accesslog": {"disabled": True}},
        }
        if self._password:
            # perl's crypt is libxcrypt's, which knows bcrypt, the only hash the registry takes.
            salt = "$2y$05$abcdefghijklmnopqrstuu"
            words = ["perl", "-e", "print crypt($ARGV[0], $ARGV[1])", PASSWORD, salt]
            hashed = subprocess.run(words, check=True, capture_output=True, text=True).stdout
            (self._home / "users").write_text(f"{USER}:{hashed}\n")
            config["auth"] = {"htpasswd": {"realm": "skep", "path": str(self._home / "users")}}
        (self._home / "config.json").write_text(json.dumps(config))  # JSON is YAML
        process = self._serve()
        host, _, port = self.address.partition(":")

        def listens() -> bool:
            with contextlib.closing(socket.socket()) as probe:
                return probe.connect_ex((host, int(port))) == 0

        end = time.monotonic() + PATIENCE
        while not listens():
            assert time.monotonic() < end, "the registry does not listen"
            assert process.poll() is None, "the registry has ended"
            time.sleep(0.05)

    def also_in(self, pid: int) -> None:
        """At the same address in the network namespace of that process, too."""
        self._serve("nsenter", f"--net=/proc/{pid}/ns/net")

    def _serve(self, *within: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [*within, PROGRAM, "serve", str(self._home / "config.json")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OTEL_TRACES_EXPORTER": "none"},
        )
        self._processes.append(process)
        return process

    def push(self) -> None:
        """Two layers beside busybox's, the first big enough for a pull to be seen at work."""
        context = self._home / "context"
        context.mkdir()
        (context / "big").write_bytes(os.urandom(8 << 20))
        (context / "small").write_text("small\n")
        (context / "Dockerfile").write_text(f"FROM {IMAGE}\nCOPY big /\nCOPY small /\n")
        login = self._home / "login"
        login.mkdir()
        (login / "config.json").write_text(json.dumps(self.config(PASSWORD)))
        docker("build", "-q", "-t", self.image, str(context))
        docker("--config", str(login), "push", "-q", self.image)
        self.forget()

    def built(self) -> str:
        """The image that was pushed, here."""
        docker("pull", "-q", self.image)
        return self.image

    def tag(self, image: str, source: str) -> None:
        """Let a name in the registry, which has no password, stand for another image."""
        docker("tag", source, image)
        docker("push", "-q", image)

    def lose(self, repository: str, digest: str) -> None:
        """It doesn't have that any more."""
        manifests = self._home / "data/docker/registry/v2/repositories" / repository / "_manifests"
        shutil.rmtree(manifests / "revisions" / digest.replace(":", "/"))

    def config(self, password: str) -> dict[str, object]:
        """Docker's config.json, as `docker login` leaves it."""
        login = b64encode(f"{USER}:{password}".encode()).decode()
        return {"auths": {self.address: {"auth": login}}}

    def forget(self) -> None:
        """The engine does not have the image any more."""
        if docker("images", "-q", self.image):
            docker("rmi", "-f", self.image)

    def stop(self) -> None:
        for process in self._processes:
            process.terminate()
            process.wait()
        self.forget()
