"""The context file: which clusters a person can reach, and as whom.

    current: home
    contexts:
      home:
        server: https://127.0.0.1:7443      # several, separated by commas, where there are several
        ca: PEM
        cert: PEM
        key: PEM
        namespace: default

It is `~/.config/skep/config.yaml` unless SKEP_CONFIG names another. It holds keys, so it is 0600
from the moment it exists. The manager's `admin.yaml` has this same form, for `import_from`.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import yaml

from api.pki.credentials import Credentials
from api.pki.errors import PkiError
from api.pki.files import make_private_directory, write_private
from api.pki.tls import client_context

if TYPE_CHECKING:
    from api.client import Client

# The C parser, where PyYAML was built with it: this is read at every start of ctl.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
DEFAULT_SERVER = "https://127.0.0.1:7443"


class ContextError(Exception):
    """The context file or a context in it is missing or wrong; says what to do."""


class Context(msgspec.Struct, kw_only=True):
    """One cluster, one identity, one namespace to work in."""

    server: str = DEFAULT_SERVER
    ca: str
    cert: str
    key: str
    namespace: str = "default"

    def __repr__(self) -> str:
        return f"Context({self.server})"  # never the key

    @property
    def servers(self) -> list[str]:
        return [url.strip() for url in self.server.split(",") if url.strip()]

    def credentials(self) -> Credentials:
        return Credentials(cert_pem=self.cert, key_pem=self.key, ca_pem=self.ca)

    def tls(self) -> ssl.SSLContext:
        """Raises PkiError."""
        return client_context(self.credentials())

    def check(self) -> None:
        """Raises PkiError where the certificate has expired. To be asked when managers hang up."""
        from api.pki.authority import expiry  # cryptography takes long to load

        end = expiry(self.cert)
        if end < datetime.now(UTC):
            raise PkiError(
                f"it expired on {end:%Y-%m-%d %H:%M} UTC; import a new admin.yaml of the manager"
            )

    def client(self) -> Client:
        """A client of this context's cluster, to be used with `async with`. Raises PkiError."""
        from api.client import Client  # aiohttp takes long to load, and not every verb needs it

        return Client(self.servers, self.tls())


class ContextFile(msgspec.Struct, kw_only=True):
    current: str = ""
    contexts: dict[str, Context] = {}

    def select(self, name: str = "") -> Context:
        """The context of that name, or the current one. Raises ContextError."""
        wanted = name or self.current
        if not self.contexts:
            raise ContextError(
                "there is no context yet: run hack/up, or import a manager's admin.yaml with"
                " `ctl context import FILE`"
            )
        if not wanted:
            raise ContextError(f"no context is selected; choose one of: {self._names()}")
        if wanted not in self.contexts:
            raise ContextError(f"there is no context {wanted!r}; there are: {self._names()}")
        return self.contexts[wanted]

    def use(self, name: str) -> None:
        """Make it the current context. Raises ContextError."""
        self.select(name)
        self.current = name

    def remove(self, name: str) -> None:
        """Raises ContextError."""
        self.select(name)
        del self.contexts[name]
        if self.current == name:
            self.current = next(iter(self.contexts), "")

    def import_from(self, other: ContextFile, name: str = "") -> str:
        """Take over the other file's current context as `name` and select it; its name here.

        A context of that name is replaced: importing again after a cluster was made anew must
        work. Raises ContextError.
        """
        taken = other.select()
        name = name or other.current
        self.contexts[name] = taken
        self.current = name
        return name

    def _names(self) -> str:
        return ", ".join(sorted(self.contexts))


def default_path(environment: Mapping[str, str] = os.environ) -> Path:
    if environment.get("SKEP_CONFIG"):
        return Path(environment["SKEP_CONFIG"])
    base = environment.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "skep" / "config.yaml"


def load(path: Path | None = None) -> ContextFile:
    """The file, or an empty one where there is none. Raises ContextError."""
    path = path or default_path()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ContextFile()
    except (OSError, UnicodeDecodeError) as error:
        raise ContextError(f"the context file {path} can't be read: {error}") from error
    try:
        content: Any = yaml.load(text, Loader=_LOADER)  # noqa: S506 — a safe one
        return msgspec.convert(content or {}, ContextFile)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        # The C parser places the end of the text on a line of its own.
        where = f" (line {min(mark.line, text.count(chr(10))) + 1})" if mark else ""
        raise ContextError(f"the context file {path} is not YAML{where}") from None
    except msgspec.ValidationError as error:
        raise ContextError(f"the context file {path} is wrong: {error}") from None


def save(file: ContextFile, path: Path | None = None) -> None:
    """Write the file atomically, 0600. Raises ContextError."""
    path = path or default_path()
    try:
        make_private_directory(path.parent)
        write_private(path, yaml.dump(msgspec.to_builtins(file), Dumper=_Dumper, sort_keys=False))
    except OSError as error:
        raise ContextError(f"the context file {path} can't be written: {error}") from error


class _Dumper(yaml.SafeDumper):
    """Writes PEM as the blocks of lines that it is."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
