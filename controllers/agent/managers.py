"""What an agent asks of its managers. `api.client.Client` does it over TLS."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from api.types.assignment import (
    Assignments,
    ImageAgreed,
    ImageFound,
    SessionReply,
    SessionRequest,
    StatusReport,
    StatusResult,
)
from api.types.join import Sign


class Pipe(Protocol):
    """The frames of a log or exec: a channel and bytes each."""

    async def send(self, channel: int, data: bytes) -> None:
        """Raises ConnectionError when the other end has gone."""

    def frames(self) -> AsyncGenerator[tuple[int, bytes], None]:
        """Until the other end closes or goes."""

    async def close(self) -> None: ...


class Managers(Protocol):
    """Every method raises ClientError where no manager answers, or one refuses."""

    @property
    def server(self) -> str:
        """The one in use, for people."""

    async def open_session(self, node: str, request: SessionRequest) -> SessionReply: ...

    async def heartbeat(self, node: str) -> Sign:
        """Raises ApiError 410 where the session has ended."""

    def assignments(self, node: str) -> AsyncGenerator[Assignments, None]: ...

    async def report(self, node: str, reports: Sequence[StatusReport]) -> StatusResult: ...

    async def agree_on_image(self, node: str, found: ImageFound) -> ImageAgreed:
        """Raises ApiError 404 where the node has no task of that revision, and 403 from a manager
        of an earlier version."""

    async def dial_stream(self, node: str, id: str) -> Pipe: ...
