"""`skepd`: the programs that make a cluster, and the only place that wires the rooms together.

    skepd manager      the API server and the controllers, beside an etcd member of its own
    skepd agent        runs containers on a node
    skepd engine       what the node's container engine has to know of skep

Both daemons stay in the foreground, log to stderr, and end cleanly on SIGTERM. Ending the agent
leaves its containers running; the next one adopts them.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import uvloop

from controllers.settings import (
    HOME,
    AgentSettings,
    ManagerSettings,
    address,
    duration,
    labels,
    resources,
)

# Young objects are mostly messages that die at once, old ones the cache that stays: look less
# often than CPython's default of 700 new objects does.
_GC_THRESHOLDS = (50_000, 50, 1_000)

PROVIDERS = Path("/etc/skep/providers.yaml")


_docker_host = click.option(
    "--docker-host",
    default="unix:///var/run/docker.sock",
    show_default=True,
    envvar="DOCKER_HOST",
    help="The engine's socket.",
)
_runtime_dir = click.option(
    "--runtime-dir",
    type=click.Path(path_type=Path),
    default="/usr/local/libexec/skep",
    show_default=True,
    envvar="SKEP_RUNTIME_DIR",
    help="Where the runtime's program is put.",
)


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
    default=HOME / "manager",
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
    "--node-cert-life",
    default="90d",
    show_default=True,
    help="How long a node's certificate is good, 1h at least; nodes renew theirs long before.",
)
@click.option(
    "--sealing-key-life",
    default="30d",
    show_default=True,
    help="How often a new key is made that values in git are sealed to, 1h at least; the old ones"
    " open on.",
)
@click.option(
    "--kms",
    default="",
    metavar="unix:///PATH",
    help="Have the key-encryption key in this KMS, not in DATA_DIR/vault.key: docs/encryption.md.",
)
@click.option(
    "--leave-kms",
    is_flag=True,
    help="Go back from the KMS to a new DATA_DIR/vault.key.",
)
@click.option(
    "--providers",
    type=click.Path(path_type=Path),
    default=None,
    show_default=f"{PROVIDERS}, where that is",
    help="A file that says where secrets' values may be fetched from, and by which namespaces.",
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
    node_cert_life: str,
    sealing_key_life: str,
    providers: Path | None,
    audit_reads: bool,
    kms: str,
    leave_kms: bool,
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
        node_cert_life=_life("--node-cert-life", node_cert_life),
        sealing_key_life=_life("--sealing-key-life", sealing_key_life),
        audit_reads=audit_reads,
        kms=_kms(kms, leave_kms),
        leave_kms=leave_kms,
        providers=providers or (PROVIDERS if PROVIDERS.exists() else None),
    )
    _run(lambda stop: manage(settings, stop))


@main.command()
@click.option(
    "--data-dir", type=click.Path(path_type=Path), default=HOME / "agent", show_default=True
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
    default="",
    help="URL of a manager; several, separated by commas, are tried in turn. Default: those that"
    " were there when it joined.",
)
@click.option(
    "--node", default="", show_default="as it joined, else the machine's name", help="Its name."
)
@click.option(
    "--token",
    default="",
    envvar="SKEP_TOKEN",
    help="Join with this token, where the machine is no node yet.",
)
@click.option("--driver", default="docker", type=click.Choice(["docker", "simulated"]))
@_docker_host
@click.option(
    "--engine-network",
    is_flag=True,
    help="Leave all containers' networks to the engine; starts then take about twice as long.",
)
@click.option("--label", multiple=True, help="key=value, set when the node first registers.")
@click.option(
    "--resource",
    multiple=True,
    help="What tasks may reserve here besides CPUs and memory: gpu=2, gpu=GPU-1,GPU-2 or"
    " modem=/dev/ttyUSB0; the engine's node-generic-resources are known without.",
)
def agent(
    data_dir: Path,
    run_dir: Path,
    server: str,
    node: str,
    token: str,
    driver: str,
    docker_host: str,
    engine_network: bool,
    label: tuple[str, ...],
    resource: tuple[str, ...],
) -> None:
    """Run the containers that managers assign to this node.

    The first time it joins with --token and --server, unless `ctl join` has done so. From then on
    its certificate is in the data directory, and it renews it by itself.
    """
    from controllers.daemons.agent import serve_node

    settings = AgentSettings(
        data_dir=data_dir,
        run_dir=run_dir,
        servers=[url.strip() for url in server.split(",") if url.strip()],
        node=node,
        token=token,
        driver=driver,
        docker_host=docker_host,
        engine_network=engine_network,
        labels=labels(label),
        resources=resources(resource),
    )
    _run(lambda stop: serve_node(settings, stop))


@main.group()
def engine() -> None:
    """What the container engine of this node has to know of skep: the runtime `skep`, with which
    an agent makes containers' networks itself and starts them in about half the time."""


@engine.command(short_help="Have the engine know the runtime `skep`.")
@_docker_host
@_runtime_dir
def install(docker_host: str, runtime_dir: Path) -> None:
    """Have the engine know the runtime `skep`, now and whenever it starts.

    Puts the runtime's program where it stays, adds it to the engine's daemon.json and has the
    engine read that again. Nothing is restarted.
    """
    from controllers.daemons.engine import install_runtime

    _run(lambda stop: install_runtime(docker_host, runtime_dir.absolute()))


@engine.command(short_help="Undo all that `skepd engine install` did.")
@_docker_host
@_runtime_dir
def remove(docker_host: str, runtime_dir: Path) -> None:
    """Undo all that `skepd engine install` did. Not while containers that run need it."""
    from controllers.daemons.engine import remove_runtime

    _run(lambda stop: remove_runtime(docker_host, runtime_dir.absolute()))


def _life(option: str, text: str) -> timedelta:
    life = duration(text)
    if life < timedelta(hours=1):
        raise click.UsageError(f"{option} {text} is too short; 1h is the least")
    return life


def _kms(url: str, leave: bool) -> Path | None:
    if not url:
        if leave:
            raise click.UsageError("--leave-kms needs --kms: what is wrapped there is opened there")
        return None
    path = Path(url.removeprefix("unix://"))
    if not url.startswith("unix:///"):
        raise click.UsageError(f"--kms {url} is not of the form unix:///path/of/a/socket")
    return path


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
