"""One run of `ctl`: which cluster it talks to, as whom, in which namespace.

The context file is read, and the client made, only when a verb asks for them: `explain`,
`completion` and `context` work without a cluster. Every failure of the connection or of the API
becomes one of `api.ctl.errors` here, with what to do about it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import click

from api.ctl.errors import Conflict, CtlError, Invalid, NotFound, Unreachable, Usage
from api.ctl.output import Output

if TYPE_CHECKING:
    from api.client import Client
    from api.context import Context
    from api.ctl.blocking import BlockingClient
    from api.rest import ApiError

T = TypeVar("T")


class Session:
    """What the global options say, and what follows from them."""

    def __init__(self, output: Output) -> None:
        self.output = output
        self.context_name = os.environ.get("SKEP_CONTEXT", "")
        self.given_namespace = ""
        self.server = ""
        self.verbose = False

    @cached_property
    def context(self) -> Context:
        """The context in use. Raises CtlError."""
        from api.context import ContextError, load

        try:
            chosen = load().select(self.context_name)
        except ContextError as error:
            raise CtlError(str(error)) from None
        if self.server:
            chosen.server = self.server
        return chosen

    @property
    def namespace(self) -> str:
        """Given with -n, else the context's."""
        return self.given_namespace or self.context.namespace

    def run(self, work: Callable[[Client], Awaitable[T]]) -> T:
        """Do `work` with a client. Raises CtlError."""
        import asyncio

        async def with_client() -> T:
            with _no_other_authorities():
                import api.client  # noqa: F401
            async with self.context.client() as client:
                done = await _singly(work(client))
                if client.told_to_renew:
                    await self._renew(client)
                return done

        return self._translated(lambda: asyncio.run(with_client()))

    def ask(self, work: Callable[[BlockingClient], Coroutine[None, None, T]], **limits: float) -> T:
        """Do `work`, which asks and is done then; sooner than `run`. Raises CtlError.

        `limits` are the BlockingClient's.
        """

        def blocking() -> T:
            from api.ctl.blocking import BlockingClient

            client = BlockingClient(self.context.servers, self.context.tls(), **limits)
            with contextlib.closing(client):
                done = _at_once(work(client))
            if client.told_to_renew:
                self.run(self._renew)
            return done

        return self._translated(blocking)

    async def _renew(self, client: Client) -> None:
        """When what was asked for is done: a manager says that our certificate is due."""
        from api.ctl.context import renewed
        from api.pki.errors import PkiError
        from api.rest import ClientError

        try:
            await renewed(self, client)
        except (CtlError, ClientError, PkiError) as error:
            self.output.note(f"this context's certificate is due, and not renewed: {error}")
            client.told_to_renew = False

    def _translated(self, work: Callable[[], T]) -> T:
        """Failures as errors of ours. Raises CtlError."""
        from api.pki.errors import PkiError
        from api.rest import ApiError, ClientError, Unreachable

        if self.verbose:
            self.output.note(f"talking to {self.context.server}, namespace {self.namespace}")
        try:
            try:
                return work()
            except ApiError as error:
                raise refusal(error) from error
            except Unreachable as error:
                self.context.check()
                raise unreachable(self.context.server, str(error)) from error
            except ClientError as error:
                raise Usage(str(error), "`ctl context show` says where ctl looks") from error
        except PkiError as error:
            raise CtlError(
                f"the certificate in this context can't be used: {error}",
                "import the manager's admin.yaml again with `ctl context import FILE`",
            ) from error


def _at_once(work: Coroutine[None, None, T]) -> T:
    """What a coroutine gives that never waits for a loop. Without one, asyncio needn't load."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    work.close()
    raise RuntimeError("what asks must not wait for anything but a BlockingClient")


async def _singly(work: Awaitable[T]) -> T:
    """Of several things done at once, the first that went wrong is what the user wants to read."""
    try:
        return await work
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None


@contextlib.contextmanager
def _no_other_authorities() -> Iterator[None]:
    """Within: TLS contexts that are made know no authority.

    aiohttp reads all the system's when it is imported, which takes longer than a request, and none
    of them is ever asked here: managers are known by their own cluster's authority alone.
    """
    before = {name: os.environ.get(name) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR")}
    os.environ.update(dict.fromkeys(before, os.devnull))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def refusal(error: ApiError) -> CtlError:
    """What the API answered, as the error it is for the user."""
    kinds: dict[int, type[CtlError]] = {404: NotFound, 409: Conflict, 422: Invalid}
    message = error.message or f"the server answered {error.code} {error.reason}"
    if error.code == 422:
        return Invalid(message)
    if error.code == 413:
        return CtlError(message, "apply it in several steps: some files at a time")
    if error.code == 503:
        return Unreachable(message)
    return kinds.get(error.code, CtlError)(message)


def unreachable(server: str, why: str) -> Unreachable:
    return Unreachable(
        f"no manager answers at {server}: {why}",
        "is it running? (hack/up starts one; `ctl context show` says where ctl looks)",
    )


def _set(attribute: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    def callback(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        session = ctx.find_object(Session)
        if session is not None and value:
            setattr(session, attribute, value)
        return value

    return callback


def global_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that every verb takes, before and after its name."""
    from api.ctl.suggestions import contexts, namespaces

    options = (
        click.option(
            "-n",
            "--namespace",
            metavar="NAME",
            shell_complete=namespaces,
            help="Work in this namespace, not the context's.",
            expose_value=False,
            callback=_set("given_namespace"),
        ),
        click.option(
            "--context",
            metavar="NAME",
            shell_complete=contexts,
            help="Use this context, not the current one.",
            expose_value=False,
            callback=_set("context_name"),
        ),
        click.option(
            "--server",
            metavar="URL",
            help="Ask this manager, with the context's certificate.",
            expose_value=False,
            callback=_set("server"),
        ),
        click.option(
            "-v",
            "--verbose",
            is_flag=True,
            help="Say on stderr what is done.",
            expose_value=False,
            callback=_set("verbose"),
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def verb(name: str, **settings: Any) -> Callable[[Callable[..., None]], click.Command]:
    """A command of `ctl`; its function gets the Session first."""

    def decorate(function: Callable[..., None]) -> click.Command:
        with_session: Callable[..., None] = click.pass_obj(function)
        make: Callable[[Callable[..., None]], click.Command] = click.command(name, **settings)
        return make(global_options(with_session))

    return decorate
