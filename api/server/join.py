"""Joining: a machine shows a token and gets a certificate. The one thing a stranger may do.

What makes it safe:

- The token's secret is compared in constant time, with that of the role asked for alone.
- Of the certificate request only the public key is taken; the certificate's name is the node's,
  its role `skep:node`, its uid that of a Node object which this very request makes, or which is
  there and never had an agent (a manifest may come before the machine).
- A name that a node has is refused: who holds a token can become a new node, not an old one.
  That node itself, by its certificate, may come again with a token for another role.
- Refusals are events, and a remote that collects them has to wait: `Patience`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from typing import Protocol

import structlog

from api import schema
from api.pki.errors import PkiError
from api.pki.identity import Identity, Role
from api.pki.requests import requested_key
from api.pki.tokens import ROLES, JoinToken
from api.server import admission, status
from api.server.admission import Rejected
from api.server.documents import clean, decode, encode
from api.server.resources import Clock, Resources, utc_now
from api.store.cache import Cache, Item
from api.store.contract import ABSENT, Conflict, Store, Write
from api.trust.progress import progress
from api.trust.trust import Trust
from api.types.join import Cluster, JoinOffer, JoinReply, JoinRequest, RenewReply, Sign
from api.types.kinds import NODE
from api.types.meta import Metadata, Object
from api.types.node import Node

_TRIES = 10
_LOOK = 1.0  # seconds between looks at which nodes are to renew
_log = structlog.get_logger("skep.join")


class Note(Protocol):
    """How events are told: `controllers.reconcile.recorder`."""

    def __call__(
        self, obj: Object, type: str, reason: str, message: str, /, *, component: str = ""
    ) -> None: ...


class Patience:
    """At most `refusals` of one remote within `seconds`; of the last `remotes` of them."""

    def __init__(self, refusals: int = 10, seconds: float = 60.0, remotes: int = 1000) -> None:
        self._refusals = refusals
        self._seconds = seconds
        self._remotes = remotes
        self._seen: OrderedDict[str, deque[float]] = OrderedDict()

    def check(self, remote: str) -> None:
        """Raises Failure 429."""
        times = self._seen.get(remote)
        now = asyncio.get_running_loop().time()
        if times is None or len(times) < self._refusals or now - times[0] >= self._seconds:
            return
        wait = max(1, round(self._seconds - (now - times[0])))
        raise status.Failure(
            429,
            "TooManyRequests",
            f"{remote} was refused {self._refusals} times within {self._seconds:g} s; try again"
            f" in {wait} s",
            retry_after=wait,
        )

    def refused(self, remote: str) -> None:
        times = self._seen.setdefault(remote, deque(maxlen=self._refusals))
        self._seen.move_to_end(remote)
        times.append(asyncio.get_running_loop().time())
        while len(self._seen) > self._remotes:
            self._seen.popitem(last=False)


class Joins:
    """`node_days`: the life of a node's certificate. `shared_store`: whether another manager can
    reach the store, so that one may join."""

    def __init__(
        self,
        store: Store,
        cache: Cache,
        resources: Resources,
        trust: Trust,
        cluster: str,
        note: Note,
        *,
        node_days: float,
        shared_store: bool,
        clock: Clock = utc_now,
        patience: Patience | None = None,
    ) -> None:
        self._store = store
        self._cache = cache
        self._resources = resources
        self._trust = trust
        self._note = note
        self._cluster = cluster
        self._node_days = node_days
        self.shared_store = shared_store
        self._clock = clock
        self._patience = patience or Patience()
        self._asked: frozenset[str] = frozenset()  # nodes that are to renew now
        self._asked_until = 0.0  # the loop's time

    def offer(self) -> JoinOffer:
        return JoinOffer(authorities=[authority.ca_pem for authority in self._trust.trusted])

    async def join(self, wanted: JoinRequest, remote: str, uid: str = "") -> JoinReply:
        """`uid` is that of a node which shows its certificate: it may take another role.

        Raises Failure, StoreError.
        """
        self._patience.check(remote)
        role = self._role(wanted, remote)
        try:
            key = requested_key(wanted.request)
        except PkiError as error:
            raise status.bad_request(str(error)) from None
        if role == "manager" and not self.shared_store:
            raise status.Failure(
                409,
                "Conflict",
                "this cluster's store is an etcd of its only manager's own, which another manager"
                " can't reach; run an etcd cluster, start the managers with --etcd-endpoints, and"
                " join then (or let this machine join as a worker)",
            )
        if len(wanted.node) > 64:
            raise status.bad_request("a node's name has at most 64 characters")
        uid = await self._claim(wanted, role, uid)
        await self._trust.refresh()
        certificate = self._trust.signing.certify(
            key, wanted.node, Role.NODE, uid=uid, days=self._node_days
        )
        _log.info("a node joined", node=wanted.node, role=role, remote=remote)
        return JoinReply(
            node=wanted.node,
            role=role,
            cluster=self._cluster,
            certificate=certificate,
            trust=self._trust.bundle,
            servers=self._servers(),
            vault_key=self._trust.vault_key if role == "manager" else "",
        )

    async def renew(self, identity: Identity, shown: bytes, request: str) -> RenewReply:
        """A new certificate for who showed this one, and the authorities to trust from now on.

        Raises Failure, StoreError.
        """
        await self._trust.refresh()
        days = self._node_days if identity.role is Role.NODE else None
        try:
            key = requested_key(request)
            certificate = self._trust.signing.renew(shown, key, days=days)
        except PkiError as error:
            raise status.bad_request(str(error)) from None
        _log.info("renewed a certificate", who=str(identity))
        return RenewReply(
            certificate=certificate, trust=self._trust.bundle, servers=self._servers()
        )

    def sign(self, node: str) -> Sign:
        """What a node is to know with its heartbeat."""
        if not self._trust.record.next:
            return Sign(trust=self._trust.mark)
        now = asyncio.get_running_loop().time()
        if now >= self._asked_until:
            nodes = [item.obj for item in self._cache.items(NODE)]
            self._asked = progress(self._trust.signing.id, nodes, {}).ask
            self._asked_until = now + _LOOK
        return Sign(renew=node in self._asked)

    def _servers(self) -> list[str]:
        return [manager.url for manager in self._trust.managers.values()]

    # The token

    def _role(self, wanted: JoinRequest, remote: str) -> str:
        """The role that the token is good for. Raises Failure 400, 403."""
        if wanted.role not in ("", *ROLES):
            raise status.bad_request(f"a node joins as one of {', '.join(ROLES)}")
        try:
            token = JoinToken.parse(wanted.token)
        except PkiError as error:
            raise self._refuse(wanted, remote, str(error)) from None
        # Each is compared, whichever is right: the time tells nothing.
        right = [role for role in ROLES if self._trust.token(role).same(token.secret)]
        if not right:
            raise self._refuse(
                wanted,
                remote,
                "the token is not one of this cluster's, or was replaced by a newer one; see"
                " `ctl token show worker`",
            )
        if wanted.role not in ("", right[0]):
            raise self._refuse(
                wanted,
                remote,
                f"the token is for joining as a {right[0]}, not as a {wanted.role}; see"
                f" `ctl token show {wanted.role}`",
            )
        return right[0]

    def _refuse(self, wanted: JoinRequest, remote: str, why: str) -> status.Failure:
        self._patience.refused(remote)
        cluster = Cluster(metadata=Metadata(name="cluster", uid=self._cluster))
        message = f"{remote} may not join: {why}"
        self._note(cluster, "Warning", "JoinRefused", message, component="join")
        _log.warning("refused to let a machine join", remote=remote, why=why)
        return status.forbidden(f"node {wanted.node[:64]} may not join: {why}")

    # The name

    async def _claim(self, wanted: JoinRequest, role: str, mine: str) -> str:
        """The uid of the Node that is this machine's from now on. Raises Failure, StoreError."""
        for _ in range(_TRIES):
            item = self._cache.get(NODE, "", wanted.node)
            uid, write = self._new(wanted, role) if item is None else self._taken(item, role, mine)
            if write is None:
                return uid
            try:
                await self._resources.seen(await self._store.commit([write]))
                return uid
            except Conflict:
                await self._resources.refresh()
        raise status.conflict(NODE, "", wanted.node)

    def _new(self, wanted: JoinRequest, role: str) -> tuple[str, Write]:
        given = {
            "metadata": {"name": wanted.node, "labels": wanted.labels},
            "spec": {"role": role},
        }
        document, _ = clean(NODE, "", wanted.node, given)
        try:
            admission.check(document)
            draft = admission.draft_new(NODE, schema.default(document), now=self._clock())
        except Rejected as error:
            raise status.invalid(NODE, "", wanted.node, error.causes) from None
        return draft.document["metadata"]["uid"], self._resources.writes(draft, ABSENT)[0]

    def _taken(self, item: Item, role: str, mine: str) -> tuple[str, Write | None]:
        """A Node is this machine's if it has its certificate, or if no agent has spoken for it
        yet. Raises Failure 409."""
        node: Node = item.obj
        taken = bool(node.status.agent_version) or item.name in self._cache.sessions
        if taken and mine != node.metadata.uid:
            raise status.Failure(
                409,
                "AlreadyExists",
                f"node {item.name} is another machine; if this one takes its place, remove it first"
                f" with `ctl node rm {item.name}`, else join under another name with --node",
            )
        if role == "worker" or node.spec.role == role:  # a manager's is not taken away so
            return node.metadata.uid, None
        document = decode(item.value)
        document["spec"] = {**document.get("spec", {}), "role": role}
        return node.metadata.uid, Write(item.key, encode(NODE, document), item.revision)


def note_nothing(
    obj: Object, type: str, reason: str, message: str, /, *, component: str = ""
) -> None:
    """Where nobody records events: the log has them all the same."""
