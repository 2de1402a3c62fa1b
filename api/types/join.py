"""What a machine and a manager say to each other while the machine joins, and when it renews."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from api.types.meta import Object, Struct

RENEW_HEADER = "Skep-Renew"  # of an answer: the client's certificate should be renewed by now


class Cluster(Object, kw_only=True):
    """What an event about the cluster as a whole is about. There is no such object to get."""

    kind: ClassVar[str] = "Cluster"


class JoinOffer(Struct, kw_only=True):
    """Who the cluster says it is: to be compared with a token's digest."""

    authorities: list[str]  # PEM


class JoinRequest(Struct, kw_only=True):
    token: str
    request: str  # a certificate request, PEM; only its public key counts
    node: str
    role: str = ""  # worker | manager; empty: whichever the token is for
    labels: dict[str, str] = {}  # of the node, where it is new

    def __repr__(self) -> str:
        return f"JoinRequest({self.node})"  # never the token


class JoinReply(Struct, kw_only=True):
    node: str
    role: str
    cluster: str  # its uid
    certificate: str  # PEM
    trust: str  # the authorities to trust, PEM
    servers: list[str] = []  # URLs of managers
    vault_key: str = ""  # for a manager

    def __repr__(self) -> str:
        return f"JoinReply({self.node})"  # never the key


class RenewRequest(Struct, kw_only=True):
    request: str


class RenewReply(Struct, kw_only=True):
    certificate: str
    trust: str
    servers: list[str] = []  # URLs of managers


class UserCertificateRequest(Struct, kw_only=True):
    request: str  # a certificate request, PEM; only its public key counts
    days: float = 365.0
    withdraw: bool = False  # the user's other certificates


class Sign(Struct, kw_only=True):
    """What a manager answers to a heartbeat."""

    trust: str = ""  # the mark of the authorities to trust; renew where ours differs from it
    renew: bool = False  # now, whatever is left of the certificate's life


class TokenReply(Struct, kw_only=True):
    role: str
    token: str

    def __repr__(self) -> str:
        return f"TokenReply({self.role})"


class RootStatus(Struct, kw_only=True):
    id: str
    digest: str
    expires: datetime


class AuthorityStatus(Struct, kw_only=True):
    """How the cluster's authority is, and how far the replacing of its root has come."""

    current: RootStatus
    next: RootStatus | None = None
    since: datetime
    keep_until: datetime | None = None  # the current one is accepted until then at least
    moved: int = 0  # nodes that have a certificate of the root that signs
    nodes: int = 0
    waiting: list[str] = []  # for whom, and why
    managers: list[str] = []  # URLs of those that live
    shared_store: bool = False  # whether another manager could reach the store
