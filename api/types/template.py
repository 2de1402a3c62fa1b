"""The task template: everything about one container of a service.

Quantities (`512Mi`) and durations (`1m30s`) are kept as the user wrote them and parsed where
they are used: see `api.types.quantity`.
"""

from __future__ import annotations

import msgspec

from api.types.meta import Struct

RESTART, NONE = "restart", "none"  # words of `on_change`


class OnChange(Struct, kw_only=True):
    """One of: what follows in the container when its file was replaced."""

    signal: str = ""  # to its first process
    command: list[str] = []


class SecretMount(Struct, kw_only=True):
    """A secret, or one key of it, as a file in the container.

    `target` is a name under /run/secrets, or an absolute path; it defaults to `name`. Without
    `key`, a secret of one key is a file and a secret of several is a directory of files.
    """

    name: str
    key: str = ""
    target: str = ""
    uid: int = 0
    gid: int = 0
    mode: str = "0444"  # octal
    # restart | none | what follows the new file. Empty is restart: mounts of earlier versions don't
    # say it, and applied again they must not be another template.
    on_change: str | OnChange = ""

    @property
    def swapped(self) -> bool:
        """Whether a new version comes to a container that runs, in place of the one it has."""
        return self.on_change not in ("", RESTART)


class SecretFile(Struct, kw_only=True):
    """A file made on the node from several secrets: see `api.rendering` for its text."""

    target: str  # a name under /run/secrets, or an absolute path
    content: str
    uid: int = 0
    gid: int = 0
    mode: str = "0444"
    on_change: str | OnChange = RESTART  # as a SecretMount's

    @property
    def swapped(self) -> bool:
        return self.on_change != RESTART


class SecretVariable(Struct, kw_only=True):
    """A secret's value, which leaves the agent's memory for the engine's files."""

    secret: str
    key: str = ""


class ConfigMount(Struct, kw_only=True):
    """Like SecretMount, under /run/configs."""

    name: str
    key: str = ""
    target: str = ""
    uid: int = 0
    gid: int = 0
    mode: str = "0444"


class Mount(Struct, kw_only=True):
    type: str = "volume"  # bind | volume | tmpfs
    source: str = ""  # a path for bind, a name for volume (empty: anonymous), none for tmpfs
    target: str
    read_only: bool = False
    size: str | int = ""  # tmpfs only, a quantity of bytes
    mode: str = ""  # tmpfs only, octal


class Reservations(Struct, kw_only=True):
    cpus: str | float | int = 0
    memory: str | int = 0
    generic: dict[str, int] = {}  # kind → how many: gpu: 2


class Limits(Struct, kw_only=True):
    cpus: str | float | int = 0  # 0: no limit
    memory: str | int = 0
    pids: int = 0


class Resources(Struct, kw_only=True):
    reservations: Reservations = msgspec.field(default_factory=Reservations)
    limits: Limits = msgspec.field(default_factory=Limits)


class HttpCheck(Struct, kw_only=True):
    """A GET to the container's address, by the agent."""

    port: int
    path: str = "/"
    scheme: str = "http"  # http | https, whose certificate is not verified
    expected_status: int = 0  # 0: 200 to 399


class TcpCheck(Struct, kw_only=True):
    """A connection to the container's address, by the agent."""

    port: int


class Healthcheck(Struct, kw_only=True):
    """Defaults are the Engine's: they fill each field that is not given."""

    command: list[str] = []  # with no other: the image's own check, if it has one
    http: HttpCheck | None = None
    tcp: TcpCheck | None = None
    disable: bool = False
    interval: str = "30s"
    timeout: str = "30s"
    retries: int = 3
    start_period: str = "0s"
    start_interval: str = "5s"


class Readiness(Struct, kw_only=True):
    """One of command, http and tcp. It never fails a task: it only says who gets traffic."""

    command: list[str] = []
    http: HttpCheck | None = None
    tcp: TcpCheck | None = None
    interval: str = "10s"
    timeout: str = "5s"
    retries: int = 3
    start_period: str = "0s"
    start_interval: str = "1s"


class Capabilities(Struct, kw_only=True):
    add: list[str] = []
    drop: list[str] = []


class Device(Struct, kw_only=True):
    """One path of the node's, or those of a generic resource that the task was given."""

    source: str = ""  # on the node
    resource: str = ""  # a kind that the task reserves
    target: str = ""  # in the container; empty: as on the node
    permissions: str = "rwm"
    driver: str = ""  # of the engine, for names that are no paths; empty: who has the capabilities
    capabilities: list[str] = []  # of that driver; empty: gpu


class SeLinux(Struct, kw_only=True):
    """Parts of the label, each the engine's where it is empty."""

    user: str = ""
    role: str = ""
    type: str = ""
    level: str = ""
    disable: bool = False


class Security(Struct, kw_only=True):
    no_new_privileges: bool = True
    seccomp: str = "default"  # default | unconfined
    seccomp_profile: str = ""  # JSON, in place of the default
    app_armor: str = ""  # a profile's name, or unconfined; empty: the engine's
    se_linux: SeLinux | None = None


class Ulimit(Struct, kw_only=True):
    name: str
    soft: int  # -1: no limit
    hard: int | None = None  # None: as soft


class Dns(Struct, kw_only=True):
    servers: list[str] = []
    search: list[str] = []
    options: list[str] = []


class Logging(Struct, kw_only=True):
    driver: str = "json-file"
    options: dict[str, str] = {}


class Port(Struct, kw_only=True):
    target: int
    published: int = 0  # 0: the engine chooses; see the task's status
    protocol: str = "tcp"  # tcp | udp | sctp
    mode: str = "host"  # host: on the address of the node that runs the task


class TaskTemplate(Struct, kw_only=True):
    image: str
    image_pull: str = "ifNotPresent"  # always | ifNotPresent | never
    image_credentials: str = ""  # a Secret's name
    command: list[str] = []  # replaces the image's entrypoint
    args: list[str] = []  # replaces the image's command
    env: dict[str, str | int | float] = {}
    workdir: str = ""
    user: str = ""
    hostname: str = ""
    labels: dict[str, str] = {}
    init: bool = False
    read_only: bool = False
    capabilities: Capabilities = msgspec.field(default_factory=Capabilities)
    privileged: bool = False
    devices: list[Device] = []
    security: Security = msgspec.field(default_factory=Security)
    sysctls: dict[str, str | int] = {}
    ulimits: list[Ulimit] = []
    shm_size: str | int = 0  # 0: the engine's
    extra_hosts: dict[str, str] = {}  # name → address, or host-gateway
    dns: Dns = msgspec.field(default_factory=Dns)
    logging: Logging = msgspec.field(default_factory=Logging)
    secrets: list[SecretMount] = []
    secret_files: list[SecretFile] = []
    secret_env: dict[str, SecretVariable] = {}
    configs: list[ConfigMount] = []
    mounts: list[Mount] = []
    resources: Resources = msgspec.field(default_factory=Resources)
    healthcheck: Healthcheck | None = None
    readiness: Readiness | None = None
    stop_delay: str = "0s"  # without traffic, before pre_stop and the signal
    pre_stop: list[str] = []  # run in the container before the signal, for half the grace
    stop_signal: str = ""  # empty: the image's, else SIGTERM
    stop_grace_period: str = "10s"
    ports: list[Port] = []
    force_update: int = 0  # `ctl restart` counts this up: a new revision of the same content
