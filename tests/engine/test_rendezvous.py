"""Launchers of one run find each other; those of another, or too late, are told so."""

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch.distributed import TCPStore

from inspire_d2.engine import rendezvous
from inspire_d2.engine.rendezvous import Machines, meet
from inspire_d2.errors import InputError


def machine(rank: int, count: int = 2, identity: str = "job 1 abc", **options: Any) -> Machines:
    return Machines(count, rank, identity, **{"timeout_s": 60, **options})


def in_thread(work: Callable[[], Any]) -> Callable[[], Any]:
    """Start work in a thread; calling the result waits for its return value or its error."""
    result: list[Any] = []

    def run() -> None:
        try:
            result.append(work())
        except Exception as error:
            result.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def wait() -> Any:
        thread.join(120)
        assert result, "still waiting"
        return result[0]

    return wait


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def address_of(machines: Machines) -> str:
    with meet(machines) as url:
        time.sleep(0.5)  # the others take their leave of the store while it is kept
        return url


def test_meet_in_a_folder_at_a_free_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "127.0.0.1")
    folder = str(tmp_path / ".rendezvous-1.0.0")
    others = [in_thread(lambda r=r: address_of(machine(r, 3, folder=folder))) for r in (2, 1)]
    url = address_of(machine(0, 3, folder=folder))
    assert [wait() for wait in others] == [url, url]
    assert not list(tmp_path.iterdir())


def test_a_host_name_that_others_do_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "no-such-host.invalid")
    monkeypatch.setenv("SLURMD_NODENAME", "127.0.0.1")  # as Slurm may know it
    folder = str(tmp_path / ".rendezvous-1.0.0")
    other = in_thread(lambda: address_of(machine(1, folder=folder)))
    address_of(machine(0, folder=folder))
    assert other().startswith("tcp://127.0.0.1:")
    monkeypatch.setattr(rendezvous, "RESOLVE_S", 0)
    told = "machine 0 calls itself nowhere.invalid, which is not known here: .* --dist-url"
    with pytest.raises(InputError, match=told):
        address_of(machine(1, address="tcp://nowhere.invalid:5000"))


def test_two_runs_of_one_machine_take_two_ports() -> None:
    with meet(machine(0, 1)) as one, meet(machine(0, 1)) as other:
        assert one != other and one.startswith("tcp://127.0.0.1:")


def test_processes_join_the_store_that_the_launcher_keeps() -> None:
    with meet(machine(0, 1)) as url:
        # what rank 0 would otherwise do fails, as the port is taken already
        with pytest.raises(Exception, match="EADDRINUSE"):
            TCPStore("127.0.0.1", int(url.rpartition(":")[2]), is_master=True)
        TCPStore("127.0.0.1", int(url.rpartition(":")[2])).set("here", "1")


def test_a_port_in_use_is_one_sentence(port: int) -> None:
    with socket.socket() as taken:
        taken.bind(("", port))
        taken.listen()
        with pytest.raises(InputError, match=f"^port {port} is in use on .*train.dist.port"):
            address_of(machine(0, port=port))


@pytest.mark.parametrize("address", ["HOST", "tcp://host", "http://host:1", "host:port", "h:99999"])
def test_a_malformed_address_is_refused(address: str) -> None:
    with pytest.raises(InputError, match="not of the form tcp://HOST:PORT"):
        address_of(machine(1, address=address))


def test_another_run_at_the_port_is_refused(port: int) -> None:
    address = f"tcp://127.0.0.1:{port}"
    first = in_thread(lambda: address_of(machine(0, address=address)))
    with pytest.raises(InputError, match=r"machine 1 .* is another one, or has another config"):
        address_of(machine(1, identity="job 2 abc", address=address))
    # and does it no harm
    assert address_of(machine(1, address=address)) == first() == address


def test_a_machine_that_comes_twice_is_refused(port: int) -> None:
    address = f"tcp://127.0.0.1:{port}"
    first = in_thread(lambda: address_of(machine(0, 3, address=address)))
    assert address_of(machine(1, 3, address=address)) == address
    with pytest.raises(InputError, match="machine 1 has come to .* already"):
        address_of(machine(1, 3, address=address))
    address_of(machine(2, 3, address=address))
    assert first() == address


def test_those_who_do_not_come_are_named(tmp_path: Path, port: int) -> None:
    with pytest.raises(InputError, match="machine 1, 2 of 3 has not come"):
        address_of(machine(0, 3, timeout_s=0.5, folder=str(tmp_path / "a")))
    with pytest.raises(InputError, match="machine 0 has not written .*address.json within"):
        address_of(machine(1, timeout_s=0.5, folder=str(tmp_path / "b")))
    with pytest.raises(InputError, match=f"nobody answers at 127.0.0.1:{port}"):
        address_of(machine(1, timeout_s=0.5, address=f"127.0.0.1:{port}"))


def test_addresses_of_ipv6_stay_in_brackets() -> None:
    try:
        with socket.socket(socket.AF_INET6) as free:
            free.bind(("::1", 0))
            port = free.getsockname()[1]
    except OSError:
        pytest.skip("no IPv6 here")
    address = f"tcp://[::1]:{port}"
    other = in_thread(lambda: address_of(machine(1, address=address)))
    assert address_of(machine(0, address=address)) == address == other()
