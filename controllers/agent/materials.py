"""Everything that tasks are given as files: secrets from memory, configs beside them."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from pathlib import Path

import structlog

from api.rendering import delivered, needed
from api.types.assignment import Assignments
from api.types.places import CONFIGS, SECRETS
from api.types.template import SecretFile, SecretVariable, TaskTemplate
from controllers.agent.closed import Closed
from controllers.agent.drivers.contract import BoundFile
from controllers.agent.environment import Told
from controllers.agent.files import Files, Place, Scope, Trouble, keep_apart
from controllers.agent.memory import NotInMemory, mount
from controllers.agent.rendering import Renderer

log = structlog.get_logger("skep.agent")

# Of one variable with its name: the kernel's MAX_ARG_STRLEN is 131,072 with the NUL.
_VARIABLE_MAX = 100_000
_LOGIN_KEYS = (".dockerconfigjson", "config.json")  # Kubernetes' name for it, and Docker's


class Materials:
    def __init__(self, directory: Path, *, closed: Iterable[Path] = ()) -> None:
        """`directory` is this node's, e.g. /run/skep/<node>. Nothing is touched until needed.

        `closed`: the directories of the machine that no container is shown.
        """
        self._directory = directory
        self._closed = Closed(closed)
        self._device = -1  # of the secrets' tmpfs, once it was seen
        self._secrets = Files(directory / "secrets", what="secret", inside=SECRETS)
        self._configs = Files(directory / "configs", what="config", inside=CONFIGS)
        self._renderer = Renderer()

    def take(self, message: Assignments, complete: bool) -> None:
        if complete or message.awaited is not None:
            self._secrets.awaited = message.awaited or {}
        if complete:
            self._secrets.replace(message.secrets)
            self._configs.replace(message.configs)
            return
        for id in message.removed_secrets:
            self._secrets.drop(id)
        for id in message.removed_configs:
            self._configs.drop(id)
        for delivery in message.secrets:
            self._secrets.put(delivery)
        for delivery in message.configs:
            self._configs.put(delivery)

    def missing(self, scope: Scope, template: TaskTemplate) -> str:
        """What a task of this template would wait for, in words; empty: all is here."""
        return self._secrets.missing(scope, needed(template)) or self._configs.missing(
            scope, template.configs
        )

    def login(self, scope: Scope, template: TaskTemplate) -> bytes:
        """A Docker configuration to pull its image with; empty: the node's. Raises Trouble."""
        name = template.image_credentials
        if not name:
            return b""
        data = self._secrets.data(scope, name, newest=True)
        found = next((data[key] for key in _LOGIN_KEYS if key in data), None)
        if found is None:
            raise Trouble(
                f"secret {scope.namespace}/{name} has no key {' or '.join(_LOGIN_KEYS)}, which"
                " imageCredentials needs: put the config.json that `docker login` writes there"
            )
        return found

    def variables(self, scope: Scope, template: TaskTemplate) -> dict[str, str]:
        """What the template wants of secrets in the environment. Raises Trouble."""
        return {
            name: self._variable(scope, name, wanted)
            for name, wanted in template.secret_env.items()
        }

    def _variable(self, scope: Scope, name: str, wanted: SecretVariable) -> str:
        data = self._secrets.data(scope, wanted.secret)
        what = f"variable {name} from secret {scope.namespace}/{wanted.secret}"
        if not wanted.key and len(data) != 1:
            raise Trouble(f"{what}: it has several keys ({', '.join(sorted(data))}); name one")
        value = data[wanted.key] if wanted.key else next(iter(data.values()))
        if len(value) > _VARIABLE_MAX or b"\0" in value:
            raise Trouble(
                f"{what}: an environment holds at most {_VARIABLE_MAX} bytes without NUL;"
                " deliver it as a file, under secrets"
            )
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise Trouble(
                f"{what}: it is no UTF-8 text; deliver it as a file, under secrets"
            ) from None

    async def made(self, scope: Scope, told: Told, template: TaskTemplate) -> list[Place]:
        """The task's files that are made from secrets, as they are to be now. Raises Trouble."""
        return [await self._made(scope, told, file) for file in template.secret_files]

    async def _made(self, scope: Scope, told: Told, file: SecretFile) -> Place:
        path = self._secrets.path(file.target, "file")
        secrets = {
            mount.name: self._secrets.data(scope, mount.name, newest=file.swapped)
            for mount in needed(TaskTemplate(image="", secret_files=[file]))
        }
        try:
            data = await self._renderer.render(file.content, secrets, told.fields)
        except Trouble as error:
            raise Trouble(f"secret file {path}: {error}") from None
        return Place("secret file", str(path), file, path, {"": data})

    async def close(self) -> None:
        await self._renderer.close()

    def keep_closed(self, template: TaskTemplate) -> TaskTemplate:
        """The template as its container may be made, without sight of skep. Raises Trouble."""
        return self._closed.keep_from(template)

    def write(
        self,
        task_uid: str,
        scope: Scope,
        template: TaskTemplate,
        made: Sequence[Place] = (),
    ) -> list[BoundFile]:
        """The task's files, there when this returns. Raises Trouble, OSError."""
        if not template.secrets and not template.configs and not made:
            return []
        keep_apart(
            [
                *self._secrets.places(scope, template.secrets),
                *made,
                *self._configs.places(scope, template.configs),
            ]
        )
        self._directory.mkdir(parents=True, exist_ok=True)
        self._directory.chmod(0o700)  # it may be there already, for other things
        if template.secrets or made:
            self._keep_in_memory(self._directory / "secrets")
        secrets = self._secrets.write(task_uid, scope, template.secrets, made)
        try:
            return [*secrets, *self._configs.write(task_uid, scope, template.configs)]
        except BaseException:
            self._secrets.withdraw(task_uid)
            raise

    def versions(self, scope: Scope, template: TaskTemplate) -> dict[str, int]:
        """Of each secret that it is given, the version that the task is to have now; the older one,
        where its mounts differ."""
        found: dict[str, int] = {}
        for wanted in delivered(template):
            delivery = self._secrets.of(scope, wanted)
            if delivery is not None:
                known = found.get(wanted.name, delivery.version)
                found[wanted.name] = min(known, delivery.version)
        return found

    async def swap(self, task_uid: str, scope: Scope, told: Told, template: TaskTemplate) -> None:
        """Bring the files that follow their secrets to the newest versions, all at once. Raises
        Trouble, OSError."""
        followed = [file for file in template.secret_files if file.swapped]
        made = [await self._made(scope, told, file) for file in followed]
        self._secrets.swap(task_uid, scope, template.secrets, made)

    def tidy(self, task_uid: str) -> bool:
        """Remove what a swap has left; False: somebody still reads it. Raises OSError."""
        return self._secrets.tidy(task_uid)

    def _keep_in_memory(self, path: Path) -> None:
        """Looked at closely once, and again where something else is mounted there since: a node
        has a mount or two for each container, too many to read for each task. Raises Trouble."""
        if path.exists() and path.stat().st_dev == self._device:
            return
        try:
            warning = mount(path)
        except NotInMemory as error:
            raise Trouble(str(error)) from error
        if warning:
            log.warning(warning)
        self._device = path.stat().st_dev

    def withdraw(self, task_uid: str) -> None:
        """Raises OSError; what could be removed is."""
        try:
            self._secrets.withdraw(task_uid)
        finally:
            self._configs.withdraw(task_uid)

    def sweep(self, known: Container[str]) -> None:
        """Withdraw the files of tasks that are not known any more."""
        for task_uid in {*self._secrets.holders(), *self._configs.holders()}:
            if task_uid not in known:
                self.withdraw(task_uid)
