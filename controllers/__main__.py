"""`skepd`: the programs that make a cluster, and the only place that wires the rooms together.

    skepd manager      the API server and the controllers, beside an etcd member of its own
    skepd agent        runs containers on a node
    skepd init-node    makes the certificate of a node of a manager on this machine

Both daemons stay in the foreground, log to stderr, and end cleanly on SIGTERM. Ending the agent
leaves its containers running; the next one adopts them.
"""

from __future__ import annotations

import asyncio
import gc
import platform
import signal
import sys
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import uvloop

from controllers.settings import AgentSettings, ManagerSettings, address, labels

# Young objects are mostly messages that die at once, old ones the cache that stays: look less
# often than CPython's default of 700 new objects does.
_GC_THRESHOLDS = (50_000, 50, 1_000)


@click.group(help=__doc__, context_settings={"max_content_width": 100})
@click.version_option(version("skep"), prog_name="skepd")
@click.option("--log-level", default="info", type=click.Choice(["debug", "info", "warning"]))
@click.option("--log-format", default="text", type=click.Choice(["text", "json"]))
def main(log_level: str, log_format: str) -> None:
    from controllers.logs import configure

    configure(log_level, log_format)


@main.command()
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    default="/var/lib/skep/manager",
    show_default=True,
)
@click.option(
    "--listen", default="127.0.0.1:7443", show_default=True, help="Address and port of the API."
)
@click.option(
    "--advertise", multiple=True, help="A name or address clients use; goes into the certificate."
)
@click.option(
    "--etcd-endpoints", default="", help="Use this etcd (URLs, comma-separated), not one of ours."
)
@click.option("--etcd-ca", type=click.Path(path_type=Path))
@click.option("--etcd-cert", type=click.Path(path_type=Path))
@click.option("--etcd-key", type=click.Path(path_type=Path))
@click.option(
    "--heartbeat",
    default=5.0,
    show_default=True,
    type=click.FloatRange(min=0.5),
    help="Seconds between an agent's signs of life; three missed mean it is lost.",
)
@click.option(
    "--audit-reads",
    is_flag=True,
    help="Write to the audit log (DATA_DIR/audit.log) who read what, too.",
)
def manager(
    data_dir: Path,
    listen: str,
    advertise: tuple[str, ...],
    etcd_endpoints: str,
    etcd_ca: Path | None,
    etcd_cert: Path | None,
    etcd_key: Path | None,
    heartbeat: float,
    audit_reads: bool,
) -> None:
    """Serve the API and reconcile what is wanted with what runs."""
    from controllers.daemons.manager import manage

    host, port = address(listen)
    settings = ManagerSettings(
        data_dir=data_dir,
        host=host,
        port=port,
        advertise=list(advertise),
        etcd_endpoints=[url.strip() for url in etcd_endpoints.split(",") if url.strip()],
        etcd_files=_all_or_none(etcd_ca, etcd_cert, etcd_key),
        heartbeat=heartbeat,
        audit_reads=audit_reads,
    )
    _run(lambda stop: manage(settings, stop))


@main.command()
@click.option(
    "--data-dir", type=click.Path(path_type=Path), default="/var/lib/skep/agent", show_default=True
)
@click.option(
    "--run-dir",
    type=click.Path(path_type=Path),
    default="/run/skep",
    show_default=True,
    help="Where secrets are mounted, in memory.",
)
@click.option(
    "--server",
    required=True,
    help="URL of a manager; several, separated by commas, are tried in turn.",
)
@click.option("--node", default=platform.node, show_default="the machine's name")
@click.option("--ca", required=True, type=click.Path(path_type=Path))
@click.option("--cert", required=True, type=click.Path(path_type=Path))
@click.option("--key", required=True, type=click.Path(path_type=Path))
@click.option("--driver", default="docker", type=click.Choice(["docker", "simulated"]))
@click.option(
    "--docker-host",
    default="unix:///var/run/docker.sock",
    show_default=True,
    envvar="DOCKER_HOST",
    help="The engine's socket.",
)
@click.option("--label", multiple=True, help="key=value, set when the node first registers.")
def agent(
    data_dir: Path,
    run_dir: Path,
    server: str,
    node: str,
    ca: Path,
    cert: Path,
    key: Path,
    driver: str,
    docker_host: str,
    label: tuple[str, ...],
) -> None:
    """Run the containers that managers assign to this node."""
    from controllers.daemons.agent import serve_node

    settings = AgentSettings(
        data_dir=data_dir,
        run_dir=run_dir,
        servers=[url.strip() for url in server.split(",") if url.strip()],
        node=node,
        ca=ca,
        cert=cert,
        key=key,
        driver=driver,
        docker_host=docker_host,
        labels=labels(label),
    )
    _run(lambda stop: serve_node(settings, stop))


@main.command("init-node")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    default="/var/lib/skep/manager",
    show_default=True,
)
@click.option("--node", default=platform.node, show_default="the machine's name")
@click.option("--out", required=True, type=click.Path(path_type=Path))
@click.option("--days", default=90.0, show_default=True, help="The certificate's life.")
def init_node(data_dir: Path, node: str, out: Path, days: float) -> None:
    """Write ca.crt, node.crt and node.key for a node of the manager on this machine."""
    from api.pki.authority import Authority
    from api.pki.errors import PkiError
    from api.pki.identity import Role

    try:
        issued = Authority.load(data_dir / "pki").issue(node, Role.NODE, days=days)
        issued.write(out, "node")
    except (PkiError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"wrote {out}/ca.crt, node.crt and node.key for node {node}")


def _all_or_none(
    ca: Path | None, cert: Path | None, key: Path | None
) -> tuple[Path, Path, Path] | None:
    if ca and cert and key:
        return ca, cert, key
    if ca or cert or key:
        raise click.UsageError("--etcd-ca, --etcd-cert and --etcd-key go together")
    return None


def _run(daemon: Callable[[asyncio.Event], Awaitable[Any]]) -> None:
    """Run until it ends or SIGTERM or SIGINT sets the event it was given."""
    from controllers.settings import Fatal

    gc.set_threshold(*_GC_THRESHOLDS)

    async def until_stopped() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await daemon(stop)

    try:
        uvloop.run(until_stopped())
    except Fatal as error:
        click.echo(f"skepd: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
