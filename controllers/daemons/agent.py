"""An agent's life on its node. Its containers outlive it."""

from __future__ import annotations

import asyncio

import structlog

from api.client import Client, ClientError
from api.pki.credentials import read_credentials
from api.pki.errors import PkiError
from api.pki.tls import client_context
from controllers.agent.agent import Agent
from controllers.agent.drivers.contract import Driver
from controllers.daemons.process import alone, background, pause
from controllers.settings import AgentSettings, Fatal

log = structlog.get_logger("skep.agent")


async def serve_node(settings: AgentSettings, stop: asyncio.Event) -> None:
    """Run a node's agent until `stop`. Its containers stay. Raises Fatal."""
    with alone(settings.data_dir):
        try:
            tls = client_context(read_credentials(settings.ca, settings.cert, settings.key))
        except PkiError as error:
            raise Fatal(str(error)) from error
        async with Client(settings.servers, tls) as client:
            cluster = await _known_cluster(settings, client, stop)
            if cluster is None:
                return
            driver = _driver(settings, cluster)
            agent = Agent(client, driver, settings.node, settings.run_dir, labels=settings.labels)
            try:
                async with background(agent.run(), "agent", stop):
                    await stop.wait()
            finally:
                await driver.close()


async def _known_cluster(
    settings: AgentSettings, client: Client, stop: asyncio.Event
) -> str | None:
    """The cluster's uid, which its containers carry. Asked for once, so that an agent can look
    after its containers while no manager answers; None if told to stop before one does."""
    kept = settings.data_dir / "cluster"
    if kept.exists():
        return kept.read_text().strip()
    while not stop.is_set():
        try:
            cluster = str((await client.version())["cluster"])
            kept.write_text(cluster)
            return cluster
        except ClientError as error:
            log.warning("no manager answers yet", error=str(error))
            await pause(stop)
    return None


def _driver(settings: AgentSettings, cluster: str) -> Driver:
    if settings.driver == "simulated":
        from controllers.agent.drivers.simulated import SimulatedDriver

        return SimulatedDriver(cluster=cluster, node=settings.node)
    from controllers.agent.drivers.docker import DockerDriver

    return DockerDriver(
        settings.docker_host, cluster=cluster, node=settings.node, run_dir=settings.run_dir
    )
