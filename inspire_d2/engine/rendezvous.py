"""Where the processes of one run meet: a port that is theirs, and a check of who comes there."""

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlparse

from torch.distributed import DistError, TCPStore

from ..errors import InputError, first_few
from .checkpoint_files import replace_file

__all__ = ["Machines", "meet"]

POLL_S = 0.2
# One attempt to connect: while it lasts, no signal is heard.
CONNECT_S = 5.0
# A name may be known a little later than a machine.
RESOLVE_S = 30.0
# Torch's own sign that a launcher, not the process of rank 0, keeps the store.
KEPT_BY_LAUNCHER = "TORCHELASTIC_USE_AGENT_STORE"


@dataclass(frozen=True)
class Machines:
    """The machines of one start of a run, and how they find each other.

    Args:
        count, rank: how many, and which of them this is.
        identity: what all of them have in common and another run has not.
        address: HOST:PORT given by the user; with none, machine 0 tells the others in ``folder``.
        port: given by the user; 0 takes a free one.
        folder: one that all machines see, with a name that no other start of any run has.
        timeout_s: how long to wait for each other.
    """

    count: int
    rank: int
    identity: str
    address: str = ""
    port: int = 0
    folder: str = ""
    timeout_s: float = 1800


@contextlib.contextmanager
def meet(machines: Machines) -> Iterator[str]:
    """Bring the machines' launchers together; yield the URL for their processes to meet at.

    Machine 0's launcher keeps the store there until the end, so that its port cannot be lost to
    another program in between.

    Raises:
        InputError: the port is taken; a machine does not come in time; one belongs to another run,
            has another config or other numbers of machines and processes, or comes twice.
    """
    host, port = _split(machines.address)
    port = port or machines.port
    if machines.rank == 0:
        store = _open_store(port, machines.timeout_s)
        if machines.count == 1:
            host = "127.0.0.1"
        else:
            host = host or socket.gethostname()
            store.set("identity", machines.identity)
            names = [host] if machines.address else _own_names()
            with _published(machines, [_joined(name, store.port) for name in names]):
                _wait_for_all(store, machines)
        port = store.port
    else:
        hosts = [host] if host else []
        if not host:
            hosts, ports = zip(*map(_split, _find_published(machines)), strict=True)
            port = ports[0]
        host = _resolved(hosts, machines)
        store = _join(host, port, machines)
    before = os.environ.get(KEPT_BY_LAUNCHER)
    os.environ[KEPT_BY_LAUNCHER] = str(True)
    try:
        yield f"tcp://{_joined(host, port)}"
    finally:
        os.environ.pop(KEPT_BY_LAUNCHER, None)
        if before is not None:
            os.environ[KEPT_BY_LAUNCHER] = before
        del store


def _own_names() -> list[str]:
    """Return what this machine may be known by to others: to itself, and to Slurm."""
    names = (socket.gethostname(), os.environ.get("SLURMD_NODENAME", ""))
    return list(dict.fromkeys(filter(None, names)))


def _split(address: str) -> tuple[str, int]:
    """Split HOST:PORT or tcp://HOST:PORT; ("", 0) for none."""
    if not address:
        return "", 0
    try:
        parts = urlparse(address if "://" in address else f"tcp://{address}")
        if parts.scheme == "tcp" and parts.hostname and parts.port:
            return parts.hostname, parts.port
    except ValueError:
        pass
    raise InputError(f"--dist-url {address}: not of the form tcp://HOST:PORT.")


def _joined(host: str, port: int) -> str:
    """Return HOST:PORT, an address of IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _open_store(port: int, timeout_s: float) -> TCPStore:
    try:
        return TCPStore(
            "127.0.0.1",
            port,
            is_master=True,
            wait_for_workers=False,
            timeout=timedelta(seconds=timeout_s),
        )
    except DistError as error:
        if "EADDRINUSE" not in str(error):
            reason = str(error).splitlines()[0]
            raise InputError(f"port {port} cannot be opened on this machine: {reason}") from error
        raise InputError(
            f"port {port} is in use on {socket.gethostname()}, perhaps by another run: set "
            "train.dist.port to another, or leave it out and one that is free is taken."
        ) from error


@contextlib.contextmanager
def _published(machines: Machines, addresses: Sequence[str]) -> Iterator[None]:
    """Tell the other machines the addresses, in a file that is there while they come."""
    if not machines.folder:
        yield
        return
    path = os.path.join(machines.folder, "address.json")
    os.makedirs(machines.folder, exist_ok=True)
    replace_file(path, json.dumps({"addresses": addresses}))
    try:
        yield
    finally:
        os.unlink(path)
        with contextlib.suppress(OSError):
            os.rmdir(machines.folder)


def _find_published(machines: Machines) -> list[str]:
    path = os.path.join(machines.folder, "address.json")
    deadline = time.monotonic() + machines.timeout_s
    while time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError), open(path) as file:
            return json.load(file)["addresses"]
        time.sleep(POLL_S)
    raise InputError(
        f"machine {machines.rank} ({socket.gethostname()}): machine 0 has not written {path} "
        f"within {machines.timeout_s:.0f} s; it has not started, or does not share that folder "
        "(train.output_dir must be one that all nodes see)."
    )


def _resolved(hosts: Sequence[str], machines: Machines) -> str:
    """Return the first name of a machine that is known here, in numbers or by name."""
    deadline = time.monotonic() + RESOLVE_S
    while True:
        for host in hosts:
            with contextlib.suppress(OSError):
                socket.getaddrinfo(host, None)
                return host
        if time.monotonic() > deadline:
            raise InputError(
                f"machine {machines.rank} ({socket.gethostname()}): machine 0 calls itself "
                f"{' or '.join(hosts)}, which is not known here: see to that, or give all machines "
                "--dist-url tcp://ADDRESS:PORT."
            )
        time.sleep(POLL_S)


def _wait_for_all(store: TCPStore, machines: Machines) -> None:
    absent = list(range(1, machines.count))
    deadline = time.monotonic() + machines.timeout_s
    while absent:
        absent = [rank for rank in absent if not store.check([f"machine {rank}"])]
        if absent and time.monotonic() > deadline:
            raise InputError(
                f"machine {first_few(absent)} of {machines.count} has not come to "
                f"{socket.gethostname()}:{store.port} within {machines.timeout_s:.0f} s."
            )
        time.sleep(POLL_S if absent else 0)


def _join(host: str, port: int, machines: Machines) -> TCPStore:
    this, address = f"machine {machines.rank} ({socket.gethostname()})", _joined(host, port)
    store = _connect(host, port, time.monotonic() + machines.timeout_s)
    if store is None:
        raise InputError(
            f"{this}: nobody answers at {address} within {machines.timeout_s:.0f} s; is "
            "machine 0 running there, and does the network let that port through?"
        )
    identity = store.get("identity").decode()
    if identity != machines.identity:
        raise InputError(
            f"{this}: the run at {address} is another one, or has another config or other "
            f"--num-machines and --num-gpus ({identity}, not {machines.identity})."
        )
    if store.add(f"machine {machines.rank}", 1) != 1:
        raise InputError(f"{this}: machine {machines.rank} has come to {address} already.")
    return store


def _connect(host: str, port: int, deadline: float) -> TCPStore | None:
    while True:
        with contextlib.suppress(DistError):
            store = TCPStore(host, port, timeout=timedelta(seconds=CONNECT_S))
            store.wait(["identity"])
            return store
        if time.monotonic() > deadline:
            return None
