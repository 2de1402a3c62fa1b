"""`ctl completion`: the script that teaches a shell to complete ctl's words."""

from __future__ import annotations

import click

from api.ctl.errors import CtlError
from api.ctl.session import Session, verb


@verb("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(session: Session, shell: str) -> None:
    """Print the completion script of a shell.

    Kinds, names, contexts and namespaces are completed from the cluster.

    \b
    bash   ctl completion bash > /etc/bash_completion.d/ctl     (bash 4.4 or newer)
    zsh    ctl completion zsh > "${fpath[1]}/_ctl"
    fish   ctl completion fish > ~/.config/fish/completions/ctl.fish
    """
    from click.shell_completion import get_completion_class

    completion = get_completion_class(shell)
    if completion is None:
        raise CtlError(f"there is no completion for {shell}")
    root = click.get_current_context().find_root().command
    maker = completion(root, {}, "ctl", "_CTL_COMPLETE")
    # `source()` would also run bash to warn of an old one, which has no place in a script's text.
    session.output.data(maker.source_template % maker.source_vars())
