"""Who a process is, whether it is alive, and how to end what it left behind.

A pid alone says little: it is reused, and means nothing on another machine, after a reboot, or in another pid
namespace. Standard library only on Linux: the frozen supervisor carries this file. Elsewhere psutil answers.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

LINUX = sys.platform == "linux"
ATTEMPT_VARIABLE = "HOLDFAST_ATTEMPT"


@dataclass(frozen=True)
class Identity:
    """A process that cannot be confused with any other.

    `machine` joins the machine id with the host's name, since cloned images share the former. `namespace` is the pid
    namespace: a pid seen from another container proves nothing.
    """

    machine: str
    host: str
    boot: str
    namespace: str
    pid: int
    start: str
    user: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def same_boot(self, other: Identity) -> bool:
        return self.machine == other.machine and self.boot == other.boot

    @property
    def names_machine(self) -> bool:
        """Whether it says for certain which machine: without a machine id, two hosts of one name look alike."""
        return bool(self.boot) and not self.machine.startswith("@")

    def __str__(self) -> str:
        return f"pid {self.pid} of {self.user} on {self.host}"


def current() -> Identity:
    """The identity of the calling process."""
    pid = os.getpid()
    return Identity(**_here(), pid=pid, start=start_time(pid) or "")


@cache
def _here() -> dict[str, str]:
    host = socket.gethostname()
    return {
        "machine": f"{_read_line('/etc/machine-id') or _read_line('/var/lib/dbus/machine-id')}@{host}",
        "host": os.environ.get("SLURMD_NODENAME", host),
        "boot": _boot(),
        "namespace": _namespace(),
        "user": _user(),
    }


def _user() -> str:
    """By the kernel's word: `USER` and `LOGNAME` survive `su` and prove nothing."""
    return user_name(os.geteuid())


def user_name(uid: int) -> str:
    """The name of a user, or the number where it has none."""
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return str(uid)


def _boot() -> str:
    if LINUX:
        return _read_line("/proc/sys/kernel/random/boot_id")
    import psutil

    return str(int(psutil.boot_time()))


def _namespace() -> str:
    with contextlib.suppress(OSError):
        return os.readlink("/proc/self/ns/pid")
    return ""


def _read_line(path: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""


def start_time(pid: int) -> str | None:
    """When the process started, in the kernel's own units, or None if there is no such process (a zombie counts as
    none).
    """
    if not LINUX:
        return _start_time_elsewhere(pid)
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in (b"Z", b"X") else fields[19].decode()


def _start_time_elsewhere(pid: int) -> str | None:
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.NoSuchProcess:
        return None


def is_alive(identity: Identity) -> bool:
    """Whether the very process still runs; ask only on the boot and in the pid namespace that it belongs to.

    Where /proc hides the processes of others, a pid that exists counts as this process.
    """
    start = start_time(identity.pid)
    return _is_hidden(identity.pid) if start is None else start == identity.start


def can_see(owner: Identity) -> bool:
    """Whether we may read the environments of this user's processes, and so find what carries a token."""
    return os.geteuid() == 0 or current().user == owner.user


def _is_hidden(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return not os.path.exists(f"/proc/{pid}") if LINUX else True
    except ProcessLookupError:
        return False
    return False


def carriers(variable: str = ATTEMPT_VARIABLE) -> dict[str, list[int]]:
    """Every attempt token on this host and the processes that carry it in their environment; or of another variable,
    its values.

    A process whose environment may not be read (another user's, or a setuid program) counts as carrying none.
    """
    found: dict[str, list[int]] = {}
    for pid in _pids():
        token = _carried(pid, variable)
        if token and start_time(pid) is not None:
            found.setdefault(token, []).append(pid)
    return found


def _pids() -> list[int]:
    if LINUX:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    import psutil

    return list(psutil.pids())


def _carried(pid: int, variable: str) -> str:
    if LINUX:
        return _value_in_proc(pid, variable)
    import psutil

    with contextlib.suppress(psutil.Error):
        return str(psutil.Process(pid).environ().get(variable, ""))
    return ""


def _value_in_proc(pid: int, variable: str) -> str:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            environment = file.read()
    except OSError:
        return ""
    prefix = variable.encode() + b"="
    for entry in environment.split(b"\0"):
        if entry.startswith(prefix):
            return entry[len(prefix) :].decode(errors="replace")
    return ""


def carriers_of(token: str, spare: Iterable[int] = ()) -> list[int]:
    """The processes on this host that carry `token`, without the pids in `spare`."""
    spared = set(spare)
    return [pid for pid in carriers().get(token, []) if pid not in spared]


def descendants(ancestor: int) -> list[int]:
    """Every living process below this one in the tree (Linux only): also those that cleared their environment."""
    children: dict[int, list[int]] = {}
    for pid in _pids() if LINUX else []:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:
            state, parent, *_ = file.read().rpartition(b")")[2].split()
            if state not in (b"Z", b"X"):
                children.setdefault(int(parent), []).append(pid)
    found: list[int] = []
    todo = [ancestor]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def end_carriers(token: str, grace: float, spare: Iterable[int] = ()) -> list[int]:
    """End every process that carries `token`; see `end_found`."""
    spared = tuple(spare)
    return end_found(lambda: carriers_of(token, spared), grace)


def end_found(find: Callable[[], list[int]], grace: float) -> list[int]:
    """End every process that `find` finds: SIGTERM, then SIGKILL after `grace` seconds, until none is left.

    Returns the pids that were ended. Processes may fork while they are being ended, and a child whose parent ends can
    be missed by a single look at the list: hence the loop, until nothing was seen twice in a row.

    Raises:
        PermissionError: one of them belongs to another user.
    """
    ended: set[int] = set()
    deadline = time.monotonic() + grace
    while pids := find() or find():
        force = time.monotonic() >= deadline
        for pid in pids:
            if force or pid not in ended:
                send_signal(pid, signal.SIGKILL if force else signal.SIGTERM)
        ended.update(pids)
        time.sleep(0.05)
    return sorted(ended)


def memory_kills() -> int | None:
    """How many processes this host's kernel has ended for lack of memory since it started, None where it does not
    say."""
    for line in _read_line("/proc/vmstat").splitlines():
        if line.startswith("oom_kill "):
            return int(line.split()[1])
    return None


def send_signal(pid: int, number: int) -> None:
    """kill(2), where a process that is already gone is no error."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def become_subreaper() -> None:
    """Adopt orphaned descendants, so that a child that daemonises is still ours to end and to reap (Linux only)."""
    if LINUX:
        import ctypes

        pr_set_child_subreaper = 36
        ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1, 0, 0, 0)
