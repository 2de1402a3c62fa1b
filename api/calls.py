"""What can be asked of a manager in one request, over whatever carries it.

Objects are plain JSON documents for `ctl`, which must not lose a field it doesn't know. Errors are
those of `api.rest`.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

import msgspec

from api.rest import BASE, PAGE, ApiError, ClientError, Document, Listing, given, object_path
from api.types.join import (
    AuthorityStatus,
    JoinOffer,
    JoinReply,
    JoinRequest,
    RenewReply,
    RenewRequest,
    TokenReply,
    UserCertificateRequest,
)
from api.types.keys import KeysStatus, UnlockKeyReply
from api.types.kinds import BY_NAME, SECRET, Kind
from api.types.sealing import SealedValue, SealedValues, Verdict, Verdicts

if TYPE_CHECKING:
    from api.seal.keyfile import KeyFile

SealedPlace = tuple[str, str, str, str]  # namespace, name and key of a secret, and the sealed value
ACCEPT = {"Accept": "application/json"}
_ANSWER_SECONDS = 30.0
_APPLY_SECONDS = 600.0
_MERGE_PATCH = "application/merge-patch+json"


class Applied(msgspec.Struct, kw_only=True):
    kind: str
    namespace: str = ""
    name: str
    result: str  # created | configured | unchanged | pruned
    warnings: list[str] = []
    object: Document | None = None  # where it was asked for, and in a dry run


class ApplyResult(msgspec.Struct, kw_only=True):
    items: list[Applied]


class Request(NamedTuple):
    """What is sent, and how long the answer may take.

    It is tried for `patience` seconds (None: as long as the client does): always where no
    connection came about, and where it is `repeatable`, which it is unless doing it twice is not
    doing it once.
    """

    method: str
    path: str
    query: Mapping[str, str]
    body: bytes | None
    headers: Mapping[str, str]
    repeatable: bool
    seconds: float
    patience: float | None


class Calls(abc.ABC):
    """One identity's requests. Who carries them says how in `_carry`."""

    told_to_renew = False  # our certificate, by a manager

    @property
    @abc.abstractmethod
    def server(self) -> str:
        """The manager in use."""

    @abc.abstractmethod
    async def _carry(self, request: Request) -> bytes:
        """The body of the answer. Raises ApiError, Unreachable."""

    # Objects

    async def get(self, kind: Kind, namespace: str, name: str) -> Document:
        """Raises ApiError 404 where there is none."""
        return await self._document("GET", object_path(kind, namespace, name))

    async def list(
        self,
        kind: Kind,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
    ) -> Listing:
        """All that match, read in pages of one moment; `namespace` "" is all of them."""
        query = given(labelSelector=label_selector, fieldSelector=field_selector, limit=PAGE)
        for _ in range(3):
            try:
                return await self._pages(object_path(kind, namespace), query)
            except ApiError as error:
                if error.code != 410:
                    raise
        # It changes faster than it can be read in pages.
        del query["limit"]
        return await self._pages(object_path(kind, namespace), query)

    async def _pages(self, path: str, query: Mapping[str, str]) -> Listing:
        items: list[Document] = []
        following = dict(query)
        while True:
            page = await self._document("GET", path, query=following)
            items += page["items"]
            metadata = page["metadata"]
            if not metadata.get("continue"):
                return Listing(items, metadata["resourceVersion"])
            following = {**query, "continue": metadata["continue"]}

    async def names(self, kind: Kind, namespace: str, most: int) -> Sequence[str]:
        """The first names there are, `most` of them at most."""
        page = await self._document("GET", object_path(kind, namespace), query=given(limit=most))
        return [item["metadata"]["name"] for item in page["items"]]

    async def create(self, document: Document, *, dry_run: bool = False) -> Document:
        """Raises ApiError 409 where it exists."""
        kind, namespace, _ = _identity(document)
        return await self._document(
            "POST",
            object_path(kind, namespace),
            query=_dry(dry_run),
            body=document,
            repeatable=False,
        )

    async def replace(self, document: Document, *, dry_run: bool = False) -> Document:
        """With its resourceVersion, only if it is still at that. Raises ApiError 409."""
        kind, namespace, name = _identity(document)
        path = object_path(kind, namespace, name)
        return await self._document("PUT", path, query=_dry(dry_run), body=document)

    async def patch(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        patch: Document,
        *,
        status: bool = False,
        dry_run: bool = False,
    ) -> Document:
        """A merge patch (RFC 7386) of the object, or of its status alone."""
        path = object_path(kind, namespace, name) + ("/status" if status else "")
        return await self._document(
            "PATCH", path, query=_dry(dry_run), body=patch, content_type=_MERGE_PATCH
        )

    async def delete(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        *,
        uid: str = "",
        dry_run: bool = False,
        force: bool = False,
    ) -> Document:
        """The object on its way, or a Status where it is gone. Raises ApiError 404."""
        body: Document = {"preconditions": {"uid": uid}} if uid else {}
        if force:
            body["gracePeriodSeconds"] = 0
        path = object_path(kind, namespace, name)
        return await self._document("DELETE", path, query=_dry(dry_run), body=body)

    async def secret_holders(self, namespace: str, name: str) -> Document:
        """Who uses a secret: `services`, and `versions` with the `tasks` that hold each."""
        return await self._document("GET", f"{object_path(SECRET, namespace, name)}/holders")

    async def roll_back_secret(self, namespace: str, name: str, version: int = 0) -> Document:
        """Give a secret the bytes that it had in that version (0: in the one before); as it is
        then."""
        path = f"{object_path(SECRET, namespace, name)}/rollback"
        body = {"version": version}
        return await self._document("POST", path, body=body, repeatable=version > 0)

    async def destroy_secret_version(self, namespace: str, name: str, version: int) -> Document:
        """End the bytes of a version that nobody holds; the secret as it is then."""
        path = f"{object_path(SECRET, namespace, name)}/versions/{version}"
        return await self._document("DELETE", path)

    async def delete_collection(
        self,
        kind: Kind,
        namespace: str,
        *,
        label_selector: str = "",
        field_selector: str = "",
        dry_run: bool = False,
    ) -> Listing:
        """Delete all that match; what they were."""
        query = given(labelSelector=label_selector, fieldSelector=field_selector) | _dry(dry_run)
        page = await self._document("DELETE", object_path(kind, namespace), query=query, body={})
        return Listing(page["items"], page["metadata"]["resourceVersion"])

    async def apply(
        self,
        documents: Sequence[Document],
        *,
        namespace: str = "",
        dry_run: bool = False,
        prune: str = "",
        full: bool = False,
        field_manager: str = "ctl",
    ) -> ApplyResult:
        """All of them or, where one is invalid, none. `namespace` is for those that name none.

        Raises ApiError 422, whose causes have `index` and `field` (`items[3].spec.replicas`).
        """
        query = given(namespace=namespace, prune=prune, fieldManager=field_manager)
        query |= _dry(dry_run) | given(full="true" if full else "")
        raw = await self._bytes(
            "POST",
            f"{BASE}/apply",
            query=query,
            body=msgspec.json.encode({"items": documents}),
            seconds=_APPLY_SECONDS,
        )
        return msgspec.json.decode(raw, type=ApplyResult)

    # The cluster's authority

    async def join_offer(self) -> JoinOffer:
        """Who the manager says it is; asked before it is trusted."""
        return msgspec.json.decode(await self._bytes("GET", f"{BASE}/join"), type=JoinOffer)

    async def join(self, request: JoinRequest) -> JoinReply:
        """Raises ApiError 403 where the token is refused, 409 where the name is taken."""
        body = msgspec.json.encode(request)
        raw = await self._bytes("POST", f"{BASE}/join", body=body)
        return msgspec.json.decode(raw, type=JoinReply)

    async def renew(self, request: str) -> RenewReply:
        """Our next certificate, for the key of a certificate request."""
        body = msgspec.json.encode(RenewRequest(request=request))
        raw = await self._bytes("POST", f"{BASE}/certificate", body=body)
        return msgspec.json.decode(raw, type=RenewReply)

    async def user_certificate(
        self, name: str, request: str, *, days: float, withdraw: bool = False
    ) -> RenewReply:
        """A user's certificate, for the key of a certificate request. Raises ApiError 404."""
        wanted = UserCertificateRequest(request=request, days=days, withdraw=withdraw)
        path = f"{BASE}/users/{quote(name, safe='')}/certificate"
        raw = await self._bytes("POST", path, body=msgspec.json.encode(wanted), repeatable=False)
        return msgspec.json.decode(raw, type=RenewReply)

    async def token(self, role: str, *, rotate: bool = False) -> str:
        """What lets a machine join as a `worker` or `manager`; with `rotate` a new one."""
        path = f"{BASE}/tokens/{quote(role, safe='')}"
        raw = await (
            self._bytes("POST", f"{path}/rotate", repeatable=False)
            if rotate
            else self._bytes("GET", path)
        )
        return msgspec.json.decode(raw, type=TokenReply).token

    async def authority(self, *, rotate: bool = False, keep: float = 0.0) -> AuthorityStatus:
        """How the cluster's authority is; with `rotate` its root begins to be replaced, and is
        accepted for `keep` seconds more at least."""
        path = f"{BASE}/authority"
        raw = await (
            self._bytes(
                "POST", f"{path}/rotate", query={"keepSeconds": f"{keep:.0f}"}, repeatable=False
            )
            if rotate
            else self._bytes("GET", path)
        )
        return msgspec.json.decode(raw, type=AuthorityStatus)

    # What the store is sealed with

    async def keys(self, *, rotate: bool = False) -> KeysStatus:
        """How the keys are; with `rotate` all is sealed anew with another one from now on."""
        path = f"{BASE}/keys"
        raw = await (
            self._bytes("POST", f"{path}/rotate", repeatable=False)
            if rotate
            else self._bytes("GET", path)
        )
        return msgspec.json.decode(raw, type=KeysStatus)

    async def discard_unusable(self, key: str) -> KeysStatus:
        """Delete what is stored at a key of the store and can't be used. Raises ApiError 404."""
        raw = await self._bytes("DELETE", f"{BASE}/keys/unusable", query={"key": key})
        return msgspec.json.decode(raw, type=KeysStatus)

    async def rewrap_keys(self) -> str:
        """Another key-encryption key; the new unlock key, where the cluster is locked."""
        return await self._unlock_key("/rewrap")

    async def lock(self, *, rotate: bool = False) -> str:
        """Lock, or with `rotate` change the unlock key; which is said once."""
        return await self._unlock_key("/lock/rotate" if rotate else "/lock")

    async def take_off_lock(self) -> KeysStatus:
        raw = await self._bytes("DELETE", f"{BASE}/keys/lock")
        return msgspec.json.decode(raw, type=KeysStatus)

    async def _unlock_key(self, path: str) -> str:
        raw = await self._bytes("POST", f"{BASE}/keys{path}", repeatable=False)
        return msgspec.json.decode(raw, type=UnlockKeyReply).unlock_key

    # Sealing

    async def sealing_keys(self) -> KeyFile:
        """The public keys to seal values for git to, the newest first."""
        return _keys(await self._bytes("GET", f"{BASE}/sealing-keys"))

    async def renew_sealing_key(self) -> KeyFile:
        """Have another newest key made."""
        return _keys(await self._bytes("POST", f"{BASE}/sealing-keys/renew", repeatable=False))

    async def drop_sealing_key(self, id: str) -> KeyFile:
        """For ever. Raises ApiError 409 where it is the newest, or none."""
        path = f"{BASE}/sealing-keys/{quote(id, safe='')}"
        return _keys(await self._bytes("DELETE", path, repeatable=False))

    async def verify_sealed(self, values: Sequence[SealedPlace]) -> Sequence[Verdict]:
        """Whether each opens."""
        return await self._verdicts("verify", values)

    async def reseal(self, values: Sequence[SealedPlace]) -> Sequence[Verdict]:
        """Each as it is when sealed to the newest key; what is in it never leaves the manager."""
        return await self._verdicts("reseal", values)

    async def _verdicts(self, what: str, values: Sequence[SealedPlace]) -> Sequence[Verdict]:
        items = [
            SealedValue(namespace=namespace, name=name, key=key, sealed=text)
            for namespace, name, key, text in values
        ]
        body = msgspec.json.encode(SealedValues(items=items))
        raw = await self._bytes("POST", f"{BASE}/sealed/{what}", body=body)
        return msgspec.json.decode(raw, type=Verdicts).items

    async def components(self) -> Sequence[Document]:
        """The manager's parts and how they are."""
        items: Sequence[Document] = (await self._document("GET", f"{BASE}/components"))["items"]
        return items

    async def version(self) -> Document:
        return await self._document("GET", "/version")

    async def metrics(self) -> str:
        """The manager's own figures, as Prometheus reads them."""
        return (await self._bytes("GET", "/metrics")).decode()

    async def ready(self) -> bool:
        """Whether the manager has read the store and reaches it. Raises Unreachable."""
        try:
            await self._bytes("GET", "/readyz", patience=0)
        except ApiError:
            return False
        return True

    async def _bytes(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
        repeatable: bool = True,
        seconds: float = _ANSWER_SECONDS,
        patience: float | None = None,
    ) -> bytes:
        headers = ACCEPT if body is None else {**ACCEPT, "Content-Type": content_type}
        request = Request(method, path, query or {}, body, headers, repeatable, seconds, patience)
        return await self._carry(request)

    async def _document(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Document | None = None,
        content_type: str = "application/json",
        repeatable: bool = True,
    ) -> Document:
        raw = await self._bytes(
            method,
            path,
            query=query,
            body=None if body is None else msgspec.json.encode(body),
            content_type=content_type,
            repeatable=repeatable,
        )
        document: Document = msgspec.json.decode(raw)
        return document


def _identity(document: Document) -> tuple[Kind, str, str]:
    kind = BY_NAME.get(str(document.get("kind")))
    if kind is None:
        raise ClientError(f"{document.get('kind')!r} is not a kind that this version knows")
    metadata = document.get("metadata") or {}
    namespace = metadata.get("namespace") or "default" if kind.namespaced else ""
    return kind, namespace, str(metadata.get("name") or "")


def _dry(dry_run: bool) -> dict[str, str]:
    return {"dryRun": "All"} if dry_run else {}


def _keys(raw: bytes) -> KeyFile:
    from api.seal.keyfile import parse  # cryptography takes long to load

    return parse(raw)
