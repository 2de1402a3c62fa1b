"""How a machine becomes one of the cluster's nodes, and remembers that it is.

    name     who it is to the managers      servers  where they are (https URLs)
    cluster  the cluster's uid              role     worker | manager, as it joined
    cert, key, ca                           PEM

All of it is one file, 0600, replaced whole: a crash never leaves a key beside another key's
certificate.

Joining trusts nobody: the manager's authority is asked for over a connection that is not verified,
compared with the digest in the token, and only then, over a connection that it verifies, is the
token's secret told.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from api.client import Client
from api.pki.authority import digest, parse_certificate
from api.pki.credentials import Credentials
from api.pki.errors import PkiError
from api.pki.files import make_private_directory, read_private, write_private
from api.pki.requests import new_request
from api.pki.tls import client_context, stranger_context
from api.pki.tokens import JoinToken
from api.types.join import JoinReply, JoinRequest

_MOST_SERVERS = 16  # managers come and go; the first ones are as it joined
FILE = "membership.json"  # in the agent's data directory


class MembershipError(Exception):
    """The machine is no member, or what it remembers can't be used; says what to do."""


class Membership(msgspec.Struct, kw_only=True):
    name: str
    role: str
    cluster: str
    servers: list[str]
    cert: str
    key: str
    ca: str

    def __repr__(self) -> str:
        return f"Membership({self.name})"  # never the key

    @property
    def credentials(self) -> Credentials:
        return Credentials(cert_pem=self.cert, key_pem=self.key, ca_pem=self.ca)

    @classmethod
    def load(cls, directory: Path) -> Membership | None:
        """None where there is none yet. Raises MembershipError."""
        path = directory / FILE
        if not path.exists():
            return None
        try:
            return msgspec.json.decode(read_private(path), type=cls)
        except PkiError as error:
            raise MembershipError(str(error)) from error
        except msgspec.MsgspecError as error:
            raise MembershipError(
                f"{path} is damaged ({error}); remove it and join anew with a token"
            ) from error

    def save(self, directory: Path) -> None:
        """Raises OSError."""
        make_private_directory(directory)
        write_private(directory / FILE, msgspec.json.encode(self).decode())


async def join(
    servers: Sequence[str],
    token: str,
    *,
    name: str,
    role: str = "",
    labels: dict[str, str] | None = None,
    member: Membership | None = None,
) -> tuple[Membership, JoinReply]:
    """Join as `name`; as a `member` already, in another role.

    Raises MembershipError, PkiError for what is no token, ClientError.
    """
    parsed = JoinToken.parse(token)
    ca = await _authority(servers, parsed)
    key, request = new_request()
    wanted = JoinRequest(
        token=str(parsed), request=request, node=name, role=role, labels=labels or {}
    )
    known = stranger_context(ca)
    if member is not None:
        known = client_context(member.credentials._replace(ca_pem=ca))
    async with Client(servers, known) as client:
        reply = await client.join(wanted)
    made = Membership(
        name=reply.node,
        role=reply.role,
        cluster=reply.cluster,
        servers=[*dict.fromkeys([*servers, *reply.servers])],
        cert=reply.certificate,
        key=key,
        ca=reply.trust,
    )
    return made, reply


async def renew(member: Membership, client: Client) -> Membership:
    """With a new key, its certificate, and the authorities to trust from now on.

    Raises ClientError, PkiError where what came can't be used.
    """
    key, request = new_request()
    reply = await client.renew(request)
    renewed = msgspec.structs.replace(
        member,
        key=key,
        cert=reply.certificate,
        ca=reply.trust,
        servers=[*dict.fromkeys([*member.servers, *reply.servers])][:_MOST_SERVERS],
    )
    client_context(renewed.credentials)
    return renewed


async def _authority(servers: Sequence[str], token: JoinToken) -> str:
    """The certificate of the token's cluster, PEM. Raises MembershipError, ClientError."""
    async with Client(servers, stranger_context()) as client:
        offered = (await client.join_offer()).authorities
        where = client.server
    try:
        known = {digest(parse_certificate(pem)): pem for pem in offered}
    except PkiError as error:
        raise MembershipError(f"{where} does not say who it is: {error}") from error
    if token.digest not in known:
        raise MembershipError(
            f"{where} is not of the cluster that this token is for: its authority has another"
            " digest. Either the address is another cluster's, or somebody is in between, or the"
            " cluster's root was replaced since the token was shown (see `ctl token show worker`)."
            " The token was not sent"
        )
    return known[token.digest]
