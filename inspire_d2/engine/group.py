"""A check, once the processes have met, that they are one run and each has a device of its own."""

import os
import socket

import torch
from detectron2.utils import comm

from ..errors import InputError

__all__ = ["check_group"]


def check_group(identity: str, device: str | None) -> list[str]:
    """Return a line for each rank on what it runs on, if the processes belong together.

    Raises:
        InputError: on every process, where ``identity`` (job and config) differs between them or
            two use one GPU.
    """
    own = {
        "identity": identity,
        "rank": comm.get_rank(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        **_device(device),
    }
    ranks = comm.all_gather(own)
    strangers = [one for one in ranks if one["identity"] != ranks[0]["identity"]]
    if strangers:
        raise InputError(
            f"rank {strangers[0]['rank']} on {strangers[0]['host']} is of another run or has "
            f"another config ({strangers[0]['identity']}) than rank 0 on {ranks[0]['host']} "
            f"({ranks[0]['identity']}): give each run a port of its own, and all its machines one "
            "config."
        )
    users: dict[tuple[str, str], int] = {}
    for one in ranks:
        if not one["uuid"]:
            continue
        first = users.setdefault((one["host"], one["uuid"]), one["rank"])
        if first != one["rank"]:
            raise InputError(
                f"ranks {first} and {one['rank']} on {one['host']} share a GPU ({one['device']}): "
                "see CUDA_VISIBLE_DEVICES."
            )
    return [
        f"rank {one['rank']} of {len(ranks)}: {one['host']}, process {one['pid']}, {one['device']}"
        for one in ranks
    ]


def _device(name: str | None) -> dict[str, str]:
    """Describe the device of this process, with what tells it from others on its machine."""
    if not torch.cuda.is_available() or name == "cpu":
        return {"device": f"CPU, {torch.get_num_threads()} threads", "uuid": ""}
    index = torch.cuda.current_device()
    properties = torch.cuda.get_device_properties(index)
    return {"device": f"cuda:{index} {properties.name}", "uuid": str(properties.uuid)}
