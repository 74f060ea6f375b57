"""Settings of the tests of the pyramid."""

from collections.abc import Iterator

import pytest
import torch

from inspire_d2.modeling import isa


@pytest.fixture(autouse=True, scope="package")
def _one_thread() -> Iterator[None]:
    """Run on one thread: on small maps a second one costs more than it saves, on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def true_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave lambda's parameters the gradients of what they do, as numeric ones are."""
    monkeypatch.setattr(isa, "_slowed", lambda parameter: parameter)
