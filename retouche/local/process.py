"""One child process: started with a log of its own, never left behind."""

import ctypes
import math
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

STOP_SECONDS = 10.0

_PR_SET_PDEATHSIG = 1
_LOG_LINES = 12


@dataclass
class Process:
    """A command, its environment on top of ours, and where its output goes."""

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    restarts: int = 0  # in a row
    restarted: float = -math.inf  # seconds of the monotonic clock
    _child: "subprocess.Popen[bytes] | None" = None
    _sessions: list[int] = field(
        default_factory=list
    )  # of every start: a killed worker leaves its work-horse

    def start(self) -> None:
        # The number of a session that has ended may be given to a stranger's.
        self._sessions = [session for session in self._sessions if _members([session])]
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self._child = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.environment},
                start_new_session=True,  # Ctrl-C is for us alone: children are stopped in order
                preexec_fn=die_with_parent,
            )
        self._sessions.append(self._child.pid)

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    @property
    def members(self) -> list[int]:
        """This process and everything that it has started, RQ's work-horses too."""
        return _members([self._child.pid]) if self._child else []

    def ask_to_stop(self) -> None:
        if self._child is not None and self.running:
            self._child.terminate()

    def wait_or_kill(self, seconds: float = STOP_SECONDS) -> None:
        """Wait so long for the end, then kill it; what it has started ends with it."""
        if self._child is None:
            return
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(seconds)
        for member in _members(self._sessions):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(member, signal.SIGKILL)
        self._child.wait()

    def last_lines(self) -> str:
        """The end of the log, for a person to read."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-_LOG_LINES:])


def _members(sessions: Sequence[int]) -> list[int]:
    """Every process of these sessions: RQ's work-horses are in process groups of their own."""
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(ProcessLookupError):
                if os.getsid(int(entry.name)) in sessions:
                    members.append(int(entry.name))
    return members


def die_with_parent() -> None:
    """Have Linux send this process SIGTERM when its parent is gone, even if that was killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
