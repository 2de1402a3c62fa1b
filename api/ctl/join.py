"""`ctl join`: make this machine one of a cluster's."""

from __future__ import annotations

import asyncio
import platform
from pathlib import Path
from typing import TYPE_CHECKING

import click

from api.ctl.daemons import HOME, Daemon
from api.ctl.errors import CtlError, Usage
from api.ctl.session import Session, refusal, unreachable, verb

if TYPE_CHECKING:
    from api.membership import Membership

_START_SECONDS = 30.0


@verb("join")
@click.argument("manager", metavar="HOST:PORT")
@click.option("--token", required=True, envvar="SKEP_TOKEN", help="From `ctl token show`.")
@click.option("--node", default="", help="Its name in the cluster. Default: the machine's.")
@click.option("--label", multiple=True, metavar="KEY=VALUE", help="A label of the node.")
@click.option(
    "--home", type=click.Path(path_type=Path), default=HOME, show_default=True, help="For its data."
)
@click.option(
    "--run-dir",
    type=click.Path(path_type=Path),
    default="/run/skep",
    show_default=True,
    help="Where secrets are mounted, in memory.",
)
@click.option("--driver", default="docker", type=click.Choice(["docker", "simulated"]))
@click.option("--no-start", is_flag=True, help="Only join; say how the agent is started.")
def command(
    session: Session,
    manager: str,
    token: str,
    node: str,
    label: tuple[str, ...],
    home: Path,
    run_dir: Path,
    driver: str,
    no_start: bool,
) -> None:
    """Join this machine to a cluster, and start its agent in the background.

    \b
    The token says which cluster it is and what the machine is to be; `ctl token show` on a
    manager prints the whole line. The machine makes its own key, which never leaves it.
    With a manager's token it also gets the key that opens the cluster's secrets, and the command
    that starts a manager is printed: it needs the etcd that the other managers use. A machine that
    is a node already becomes a manager's in the same way.
    \b
    Example:
      ctl join --token SKEPTKN-1-… 10.0.0.1:7443
    """
    agent = Daemon("agent", home, ["--run-dir", str(run_dir), "--driver", driver])
    member = _join(manager, token, node, _labels(label), home)
    session.output.data(f"node/{member.name} joined as a {member.role}")
    if member.role == "manager":
        vault = home / "manager" / "vault.key"
        part = (
            f"its part of the cluster's key is {vault}"
            if vault.exists()
            else "the cluster's key is in a KMS, so it needs --kms too"
        )
        session.output.note(
            f"{part}; start the manager with the etcd that the others use:\n"
            f"  skepd manager --data-dir {home}/manager --listen 0.0.0.0:7443"
            " --etcd-endpoints https://… --etcd-ca … --etcd-cert … --etcd-key …"
        )
    if runs := agent.owner():
        session.output.note(f"its agent runs already (pid {runs})")
        return
    if no_start:
        session.output.note(f"start its agent with:\n  {agent.command}")
        return
    pid = agent.start()
    agent.until(lambda: b"registered" in agent.log.read_bytes(), "it registers", _START_SECONDS)
    session.output.note(
        f"its agent runs (pid {pid}, log {agent.log}) until this machine is restarted;"
        " hack/systemd has a unit that starts it at boot"
    )


def _join(manager: str, token: str, node: str, labels: dict[str, str], home: Path) -> Membership:
    from api.client import ApiError, ClientError
    from api.membership import Membership, MembershipError, join
    from api.pki.errors import PkiError
    from api.pki.files import make_private_directory, write_private

    url = manager if manager.startswith("https://") else f"https://{manager}"
    directory = home / "agent"
    try:
        known = Membership.load(directory)
        name = node or (known.name if known else platform.node().lower())
        if known is not None and name != known.name:
            raise CtlError(
                f"this machine is node {known.name} of a cluster already",
                f"to leave it: ctl node rm {known.name}, and remove {directory}",
            )
        member, reply = asyncio.run(join([url], token, name=name, labels=labels, member=known))
        if reply.vault_key:
            make_private_directory(home / "manager")
            write_private(home / "manager" / "vault.key", reply.vault_key + "\n")
        member.save(directory)
    except (MembershipError, PkiError) as error:
        raise CtlError(str(error)) from error
    except ApiError as error:
        raise refusal(error) from error
    except ClientError as error:
        raise unreachable(url, str(error)) from error
    except OSError as error:
        raise CtlError(f"{home} can't be written: {error.strerror}", "run it as root?") from error
    return member


def _labels(texts: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise Usage(f"{text!r} is not a label; write it like zone=east")
        found[key] = value
    return found
