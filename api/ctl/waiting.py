"""The options of verbs that can wait for what they did: --wait and --timeout."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from api.types.quantity import parse_duration

if TYPE_CHECKING:
    from api.ctl.resources import Target
    from api.ctl.session import Session

DEFAULT_TIMEOUT = "5m"


class WaitOptions(NamedTuple):
    wait: bool
    timeout: float  # seconds


class Duration(click.ParamType[float]):
    """`30s`, `5m`, `1m30s`, or seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, int | float):
            return float(value)
        try:
            return float(value) if value.isdigit() else parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def wait_until_done(session: Session, targets: Sequence[Target], wait: WaitOptions) -> None:
    """Where it was asked for: until what was done is in effect. Raises CtlError."""
    if not wait.wait:
        return
    from api.ctl.follow import wait_until
    from api.ctl.wanted import IN_EFFECT

    namespace = session.namespace
    session.run(
        lambda client: wait_until(
            session.output, client, targets, namespace, IN_EFFECT, wait.timeout
        )
    )


def wait_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """--wait and --timeout, handed on as `wait: WaitOptions`."""

    @functools.wraps(function)
    def joined(*args: Any, wait: bool, timeout: float, **kwargs: Any) -> Any:
        return function(*args, wait=WaitOptions(wait, timeout), **kwargs)

    for option in (
        click.option(
            "--timeout",
            type=Duration(),
            default=DEFAULT_TIMEOUT,
            show_default=True,
            help="How long to wait.",
        ),
        click.option("--wait", is_flag=True, help="Wait until it is in effect."),
    ):
        joined = option(joined)
    return joined
