"""A file that SOPS encrypted: its metadata, its data key, its values, its MAC.

The model: the data key is opened with one of the reader's age identities; every value that the
file's rules say is encrypted is decrypted where it stands; and what has come out, in the order of
the file, must be what the MAC says. Only then is anything of it given away.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import pyrage
import yaml

from api.sops.errors import Path, SopsError
from api.sops.identities import Identities
from api.sops.values import Leaf, decrypted, is_encrypted, mac_bytes, resolved

METADATA = "sops"
# What the MAC of encrypted values alone begins with: SHA-256 of "sops" (sops.go).
_ONLY_ENCRYPTED = hashlib.sha256(b"sops").digest()
_ARMOUR = re.compile(
    r"-----BEGIN AGE ENCRYPTED FILE-----\s(.*?)-----END AGE ENCRYPTED FILE-----", re.DOTALL
)


class Recipient(msgspec.Struct):
    recipient: str
    enc: str = ""  # the data key, encrypted; armoured


class Metadata(msgspec.Struct, kw_only=True):
    """As far as it matters for reading."""

    mac: str = ""
    lastmodified: str = ""
    age: list[Recipient] | None = None
    key_groups: list[Any] | None = None
    mac_only_encrypted: bool = False
    unencrypted_suffix: str = ""
    encrypted_suffix: str = ""
    unencrypted_regex: str = ""
    encrypted_regex: str = ""
    unencrypted_comment_regex: str = ""
    encrypted_comment_regex: str = ""


def is_sops(values: Sequence[Any]) -> bool:
    """Whether a file's documents say that SOPS encrypted it."""
    return any(isinstance(value, dict) and METADATA in value for value in values)


def decrypt(text: str, values: Sequence[Any], find: Callable[[], Identities]) -> list[Any]:
    """A file's documents in the clear. `values` are they as the manifest reader has them.

    Raises SopsError.
    """
    metadata, at = _metadata(values)
    try:
        key = _data_key(metadata, find())
        rule = _rule(metadata)
    except SopsError as error:
        raise SopsError(error.message, error.hint, document=at, path=(METADATA,)) from None
    digest = hashlib.sha512(_ONLY_ENCRYPTED if metadata.mac_only_encrypted else b"")
    plain = _plain_leaves(text)
    found = []
    for index, value in enumerate(values):
        if not isinstance(value, dict):
            raise SopsError("is no mapping, as SOPS' documents are", document=index)
        body = {name: inner for name, inner in value.items() if name != METADATA}
        walk = _Walk(key, rule, digest, index, plain, only_encrypted=metadata.mac_only_encrypted)
        found.append(_as_texts(value, walk.mapping(body, (), ())))
    _require_mac(metadata, key, digest.hexdigest().upper(), at)
    return found


class _Walk:
    """Through one document, in the order that the MAC has."""

    def __init__(
        self,
        key: bytes,
        rule: Callable[[Sequence[str], Any], bool],
        digest: Any,
        document: int,
        plain: dict[tuple[int, Path], Leaf],
        *,
        only_encrypted: bool,
    ) -> None:
        self._key = key
        self._rule = rule
        self._digest = digest
        self._document = document
        self._plain = plain
        self._only_encrypted = only_encrypted

    def mapping(self, value: dict[str, Any], names: tuple[str, ...], path: Path) -> dict[str, Any]:
        return {
            name: self._value(inner, (*names, name), (*path, name)) for name, inner in value.items()
        }

    def _value(self, value: Any, names: tuple[str, ...], path: Path) -> Any:
        if isinstance(value, dict):
            return self.mapping(value, names, path)
        if isinstance(value, list):
            return [self._value(inner, names, (*path, at)) for at, inner in enumerate(value)]
        return None if value is None else self._leaf(value, names, path)

    def _leaf(self, value: Leaf, names: tuple[str, ...], path: Path) -> Leaf:
        encrypted = self._rule(names, value)
        counted: Leaf = value
        if encrypted and value != "":  # what is empty is left so
            counted = value = self._decrypted(value, names, path)
        elif not encrypted:
            counted = self._plain.get((self._document, path), value)
        if encrypted or not self._only_encrypted:
            self._digest.update(mac_bytes(counted))
        return value

    def _decrypted(self, value: Leaf, names: tuple[str, ...], path: Path) -> Leaf:
        try:
            if not isinstance(value, str):
                raise SopsError("is not encrypted, and the file's rules say that it is")
            return decrypted(value, self._key, "".join(f"{name}:" for name in names))
        except SopsError as error:
            where = {"document": self._document, "path": path}
            raise SopsError(error.message, "decrypt it with sops to see more", **where) from None  # type: ignore[arg-type]


def _metadata(values: Sequence[Any]) -> tuple[Metadata, int]:
    """Of the first document that has it, and which that is."""
    at = next(i for i, value in enumerate(values) if isinstance(value, dict) and METADATA in value)
    try:
        return msgspec.convert(values[at][METADATA], Metadata), at
    except msgspec.ValidationError as error:
        message = f"SOPS' metadata can't be read: {error}"
        raise SopsError(message, document=at, path=(METADATA,)) from None


def _data_key(metadata: Metadata, identities: Identities) -> bytes:
    if metadata.key_groups:
        raise SopsError("its key is split over several groups, which is not supported")
    if not metadata.age:
        raise SopsError(
            "is not encrypted to an age recipient, the only sort that is read here",
            "add one: sops updatekeys, with age: in .sops.yaml",
        )
    if not identities.keys:
        raise SopsError(
            "no age identity is there to decrypt it",
            "set SOPS_AGE_KEY_FILE or SOPS_AGE_KEY, or put it into ~/.config/sops/age/keys.txt",
        )
    for recipient in metadata.age:
        try:
            key: bytes = pyrage.decrypt(_unarmoured(recipient.enc), identities.keys)
        except pyrage.DecryptError:
            continue
        if len(key) == 32:
            return key
    names = ", ".join(recipient.recipient for recipient in metadata.age)
    raise SopsError(
        f"is encrypted to {names}, and none of the age identities here is theirs:"
        f" {', '.join(identities.recipients)} (from {', '.join(identities.sources)})",
        "have a holder of one run sops updatekeys",
    )


def _unarmoured(text: str) -> bytes:
    found = _ARMOUR.search(text)
    try:
        return base64.b64decode("".join(found[1].split()), validate=True) if found else b""
    except binascii.Error:
        return b""


def _rule(metadata: Metadata) -> Callable[[Sequence[str], Any], bool]:
    """Whether the value under these names is encrypted, as the file says of itself."""
    given = metadata
    if given.encrypted_comment_regex or given.unencrypted_comment_regex:
        # By comments, which a manifest's reader does not see: then by how the value looks.
        return lambda names, value: is_encrypted(value)
    try:
        if given.encrypted_regex:
            wanted = re.compile(given.encrypted_regex)
            return lambda names, value: any(wanted.search(name) for name in names)
        if given.unencrypted_regex:
            unwanted = re.compile(given.unencrypted_regex)
            return lambda names, value: not any(unwanted.search(name) for name in names)
    except re.error:
        raise SopsError("its rule of what is encrypted is no regular expression") from None
    if given.encrypted_suffix:
        suffix = given.encrypted_suffix
        return lambda names, value: any(name.endswith(suffix) for name in names)
    suffix = given.unencrypted_suffix or "_unencrypted"
    return lambda names, value: not any(name.endswith(suffix) for name in names)


def _require_mac(metadata: Metadata, key: bytes, computed: str, at: int) -> None:
    where: dict[str, Any] = {"document": at, "path": (METADATA, "mac")}
    if not metadata.mac:
        raise SopsError("has no MAC, so nobody could tell whether it was changed", **where)
    try:
        stored = str(decrypted(metadata.mac, key, metadata.lastmodified))
    except SopsError:
        raise SopsError("its MAC does not decrypt: the file was changed", **where) from None
    if not hmac.compare_digest(stored.encode(), computed.encode()):
        raise SopsError(
            "its MAC is another one: values were added, removed, moved or changed without sops",
            "if that was you, write it anew with sops (sops edit --ignore-mac)",
            **where,
        )


def _as_texts(encrypted: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    """A secret's values are text, also where they were a number before they were encrypted: so no
    complaint about its sort shows it."""
    if value.get("kind") != "Secret":
        return value
    changed = dict(value)
    for field in ("data", "stringData"):
        if isinstance(value.get(field), dict):
            changed[field] = {
                key: _text(inner) if is_encrypted(encrypted[field].get(key)) else inner
                for key, inner in value[field].items()
            }
    return changed


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return mac_bytes(value).decode() if isinstance(value, int | float) else value


def _plain_leaves(text: str) -> dict[tuple[int, Path], Leaf]:
    """Plain scalars as SOPS reads them, by document and path; only where that is not as here."""
    found: dict[tuple[int, Path], Leaf] = {}
    if text.lstrip()[:1] == "{":
        return found
    documents = (node for node in yaml.compose_all(text, Loader=yaml.SafeLoader) if node)
    for index, node in enumerate(n for n in documents if isinstance(n, yaml.MappingNode)):
        for path, scalar in _scalars(node, ()):
            if scalar.style is None and (value := resolved(scalar.value)) is not None:
                found[index, path] = value
    return found


def _scalars(node: yaml.Node, path: Path) -> Iterator[tuple[Path, yaml.ScalarNode]]:
    if isinstance(node, yaml.ScalarNode):
        yield path, node
    elif isinstance(node, yaml.SequenceNode):
        for index, inner in enumerate(node.value):
            yield from _scalars(inner, (*path, index))
    elif isinstance(node, yaml.MappingNode):
        for key, inner in node.value:
            if isinstance(key, yaml.ScalarNode):
                yield from _scalars(inner, (*path, key.value))
