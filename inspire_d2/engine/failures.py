"""What ends a training step other than a signal, told in one sentence."""

import errno
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from detectron2.utils import comm

from ..errors import InputError, first_few

__all__ = ["ExplainsFailures", "dead_worker", "tells_of_full_disk", "tells_of_memory"]

# How torch tells of them.
_WORKER = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)(.*)", re.DOTALL)
_NO_MEMORY = re.compile(
    r"out of memory|can't allocate memory|not enough memory|unable to allocate|_ALLOC_FAILED",
    re.IGNORECASE,
)
_KILLED = re.compile(r"killed by signal: (\w+)")


def dead_worker(error: object) -> str:
    """Return which of a data loader's workers died, and how, if an error says so, else ""."""
    text = str(error)
    worker, how = _WORKER.search(text), _KILLED.search(text)
    if not worker:
        return ""
    return f"{worker[1]} died{f' by the signal {how[1]}' if how else ''}"


def tells_of_memory(error: object) -> bool:
    """Return whether an error, or its text, says that memory ran out."""
    return isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)) is not None


def tells_of_full_disk(error: BaseException | None) -> bool:
    """Return whether a disk or its quota was full where an error, or what led to it, began."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False


class ExplainsFailures:
    """For a Detectron2 trainer: a step's failures become InputErrors that say what to do.

    They are a loss that is not finite, told by the rank that has it, with the files of its batch;
    memory that does not suffice; and a data loader's worker that has died. A loss is looked at
    before the optimizer's step, so the weights are those of the iteration before.
    """

    def __init__(self, model: Any, data_loader: Iterable[Any], *args: Any, **kwargs: Any) -> None:
        self._batches = _RememberingLoader(data_loader)
        super().__init__(model, self._batches, *args, **kwargs)

    def run_step(self) -> None:
        """Make the step.

        Raises:
            InputError: it failed for one of the reasons above.
        """
        try:
            super().run_step()
        except FloatingPointError as error:  # Detectron2's, of proposals
            raise InputError(self._not_finite(str(error))) from error
        except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is of the first
            explained = self._explain(error)
            if explained:
                raise InputError(explained) from error
            raise

    def _write_metrics(self, loss_dict: Mapping[str, torch.Tensor], *args: Any, **kw: Any) -> None:
        values = {name: float(value.detach()) for name, value in loss_dict.items()}
        wrong = [f"{name} {value}" for name, value in values.items() if not math.isfinite(value)]
        if wrong:
            raise InputError(self._not_finite(", ".join(wrong)))
        super()._write_metrics(loss_dict, *args, **kw)

    def _not_finite(self, what: str) -> str:
        return (
            f"the loss of iteration {self.iter + 1}{self._where()} is not finite ({what}); its "
            f"batch: {self._files()}. The checkpoints before it are kept: look at those images and "
            "their annotations, lower optimizer.lr, or set train.amp.enabled=False, then go on "
            "with --resume."
        )

    def _explain(self, error: Exception) -> str:
        """Return the sentence for an error, "" for one that is none of these."""
        if worker := dead_worker(error):
            return (
                f"the data loader's worker process {worker} in iteration {self.iter + 1}"
                f"{self._where()}: most often memory "
                "runs out (the kernel's log tells); lower dataloader.train.num_workers or "
                "dataloader.train.total_batch_size, and see that /dev/shm is large enough."
            )
        if tells_of_memory(error):
            return (
                f"memory ran out in iteration {self.iter + 1}{self._where()}; its batch: "
                f"{self._files()}. Lower dataloader.train.total_batch_size or the images' sizes, "
                "or set train.amp.enabled=True or, with INSPIRE, "
                "model.backbone.checkpoint_steps=True."
            )
        return ""

    def _where(self) -> str:
        return f" on rank {comm.get_rank()}" if comm.get_world_size() > 1 else ""

    def _files(self) -> str:
        return first_few(self._batches.files, 16) or "of unnamed images"


class _RememberingLoader:
    """A loader that knows the files of the batch that it has handed out last."""

    def __init__(self, loader: Iterable[Any]) -> None:
        self._loader = loader
        self.files: list[str] = []

    def __iter__(self) -> Iterator[Any]:
        for batch in self._loader:
            items = batch if isinstance(batch, list) else []
            self.files = [_name(item) for item in items if isinstance(item, dict)]
            yield batch


def _name(item: dict[str, Any]) -> str:
    return str(item.get("file_name", item.get("image_id", "?")))
