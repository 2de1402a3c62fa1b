"""An agent's life on its node. Its containers outlive it."""

from __future__ import annotations

import asyncio
import platform

import structlog

from api.client import ApiError, Client, ClientError
from api.membership import FILE, Membership, MembershipError, join
from api.pki.errors import PkiError
from api.pki.tls import client_context
from api.types.join import Sign
from controllers.agent.agent import Agent
from controllers.agent.drivers.contract import Driver
from controllers.daemons.process import (
    alone,
    background,
    has_room,
    keep_out_of_dumps,
    pause,
    wall_clock,
)
from controllers.daemons.renewal import AgentRenewal
from controllers.settings import HOME, AgentSettings, Fatal

log = structlog.get_logger("skep.agent")

_LATER = frozenset({429, 503})  # answers that will be others after a while


async def serve_node(settings: AgentSettings, stop: asyncio.Event) -> None:
    """Run a node's agent until `stop`. Its containers stay. Raises Fatal."""
    keep_out_of_dumps()
    with alone(settings.data_dir):
        has_room(settings.run_dir, "run")
        member = await _member(settings, stop)
        if member is None:
            return
        try:
            tls = client_context(member.credentials)
        except PkiError as error:
            raise Fatal(f"the certificate in {settings.data_dir}: {error}") from error
        async with Client(settings.servers or member.servers, tls) as client:
            driver = _driver(settings, member)
            try:
                await _run(settings, member, client, driver, stop)
            finally:
                await driver.close()


async def _run(
    settings: AgentSettings, member: Membership, client: Client, driver: Driver, stop: asyncio.Event
) -> None:
    def save(renewed: Membership) -> None:
        renewed.save(settings.data_dir)

    def heard(sign: Sign) -> None:
        renewal.heard(sign)

    agent = Agent(
        client,
        driver,
        member.name,
        settings.run_dir,
        labels=settings.labels,
        resources=settings.resources,
        heard=heard,
        closed=[settings.data_dir, HOME],
    )
    renewal = AgentRenewal(
        member, client, clock=wall_clock, save=save, renewed=agent.introduce_again
    )
    async with (
        background(agent.run(), "agent", stop),
        background(renewal.run(), "certificate", stop),
    ):
        await stop.wait()


async def _member(settings: AgentSettings, stop: asyncio.Event) -> Membership | None:
    """What this machine remembers of having joined, or is told now that it does.

    None if told to stop before a manager answers. Raises Fatal.
    """
    try:
        member = Membership.load(settings.data_dir)
    except MembershipError as error:
        raise Fatal(str(error)) from error
    if member is not None:
        _agrees(settings, member)
        return member
    if not settings.token or not settings.servers:
        raise Fatal(
            "this machine is no node yet: give --token and --server, as `ctl token show worker`"
            " on a manager says them"
        )
    name = settings.node or platform.node().lower()
    while not stop.is_set():
        try:
            member, _ = await join(
                settings.servers, settings.token, name=name, role="worker", labels=settings.labels
            )
            member.save(settings.data_dir)
            log.info("joined", node=name, server=settings.servers[0])
            return member
        except (MembershipError, PkiError, ApiError) as error:
            if isinstance(error, ApiError) and error.code in _LATER:
                log.warning("may not join yet", error=str(error))
                await pause(stop)
                continue
            raise Fatal(str(error)) from error
        except OSError as error:
            raise Fatal(f"{settings.data_dir} can't be written: {error.strerror}") from error
        except ClientError as error:
            log.warning("no manager answers yet", error=str(error))
            await pause(stop)
    return None


def _agrees(settings: AgentSettings, member: Membership) -> None:
    """Raises Fatal where the command line is about another node than this machine is."""
    if settings.node and settings.node != member.name:
        raise Fatal(
            f"this machine joined as node {member.name}, not as {settings.node}; to join anew,"
            f" remove the node (`ctl node rm {member.name}`) and {settings.data_dir / FILE}"
        )


def _driver(settings: AgentSettings, member: Membership) -> Driver:
    if settings.driver == "simulated":
        from controllers.agent.drivers.simulated import SimulatedDriver

        return SimulatedDriver(cluster=member.cluster, node=member.name)
    from controllers.agent.drivers.docker import DockerDriver

    return DockerDriver(
        settings.docker_host,
        cluster=member.cluster,
        node=member.name,
        run_dir=settings.run_dir,
        engine_network=settings.engine_network,
    )
