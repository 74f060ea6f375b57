"""A file is written as a whole, or stays as it was with nothing beside it."""

from pathlib import Path

import pytest

from inspire_d2.errors import InputError
from inspire_d2.files import written_in_one_step


def test_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    with written_in_one_step(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new" and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    "error, raised", [(KeyboardInterrupt(), KeyboardInterrupt), (OSError(28, "full"), InputError)]
)
def test_what_fails_changes_nothing(
    tmp_path: Path, error: BaseException, raised: type[BaseException]
) -> None:
    path = tmp_path / "mine"
    path.write_bytes(b"old")
    with pytest.raises(raised), written_in_one_step(path) as file:
        file.write(b"half")
        raise error
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match=r"file/x cannot be written"),
        written_in_one_step(tmp_path / "file" / "x"),
    ):
        pass
