"""Whoever restarts what died, as a person, systemd or Kubernetes would; and a watch over killed workers."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from redis import Redis
from redis.exceptions import RedisError

from retouche.coordination import CURATE_QUEUE
from retouche.local.process import Process
from retouche.local.system import HOST, System

_LOOK_SECONDS = 0.1
_AT_WORK = f"rq:wip:{CURATE_QUEUE}"


@dataclass
class Lost:
    """A killed worker's shard: when, and the execution that died."""

    since: float
    execution: str

    @property
    def task(self) -> str:
        return self.execution.split(":")[0]


@dataclass
class Keeper:
    """Keeps a system running; `ports` as it was started with."""

    system: System
    data: Path
    ports: Mapping[str, int]
    restarts: int = 0
    recovery_seconds: list[float] = field(default_factory=list)
    _due: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    _held: dict[str, float] = field(default_factory=dict)
    _lost: list[Lost] = field(default_factory=list)

    @property
    def redis(self) -> Any:
        return Redis.from_url(self.system.redis_url, socket_timeout=5, decode_responses=True)

    def process(self, name: str) -> Process:
        return next(process for process in self.system.processes if process.name == name)

    def is_up(self, name: str) -> bool:
        """Does it run, and answer?"""
        if not self.process(name).running:
            return False
        if name == "redis":
            with suppress(RedisError):
                return bool(self.redis.ping())
            return False
        with suppress(httpx2.TransportError):
            return httpx2.get(
                f"http://{HOST}:{self.ports[name]}/readyz", trust_env=False, timeout=2
            ).is_success
        return False

    def is_held(self, process: Process) -> bool:
        return self._held.get(process.name, 0.0) > time.monotonic()

    def hold(self, process: Process, seconds: float, go_on: Callable[[], None]) -> None:
        """Remember that the process stands still, and make it go on."""
        self._held[process.name] = time.monotonic() + seconds
        self.later(seconds, go_on)

    def later(self, seconds: float, deed: Callable[[], None]) -> None:
        self._due.append((time.monotonic() + seconds, deed))

    def lose(self, worker: Process) -> bool:
        """Note what `worker` is at, to see when it is taken up again; False if it is at nothing."""
        with suppress(RedisError):
            for execution in self._at_work():
                name = self.redis.hget(f"rq:execution:{execution}", "worker_name")
                if self.redis.hget(f"rq:worker:{name}", "pid") == str(worker.pid):
                    self._lost.append(Lost(time.monotonic(), execution))
                    return True
        return False

    def keep(self, seconds: float = _LOOK_SECONDS) -> None:
        """For so long, start again what dies, and do what is due."""
        end = time.monotonic() + seconds
        while True:
            for process in self.system.processes:
                if not process.running:
                    self.restarts += 1
                    process.start()
            for entry in [entry for entry in self._due if entry[0] <= time.monotonic()]:
                self._due.remove(entry)
                entry[1]()
            with suppress(RedisError):
                self._see_recovered()
            if time.monotonic() >= end:
                return
            time.sleep(_LOOK_SECONDS)

    def forget_lost(self) -> None:
        """Redis was killed or emptied: how long a shard lies now is not the worker's doing."""
        self._lost.clear()

    def end_all(self) -> None:
        """Everything begun ends now."""
        for _, deed in self._due:
            deed()
        self._due.clear()

    def _see_recovered(self) -> None:
        if not self._lost:
            return
        at_work = self._at_work()
        queued = self.redis.lrange(f"rq:queue:{CURATE_QUEUE}", 0, -1)
        for lost in list(self._lost):
            again = [each for each in at_work if each.startswith(lost.task) and each != lost.execution]
            if again or lost.task in queued or not self.redis.exists(f"rq:job:{lost.task}"):
                self.recovery_seconds.append(time.monotonic() - lost.since)
                self._lost.remove(lost)

    def _at_work(self) -> list[str]:
        return list(self.redis.zrange(_AT_WORK, 0, -1))
