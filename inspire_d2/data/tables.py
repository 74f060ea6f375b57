"""Reading the text files and tables that users write."""

import csv
from collections.abc import Sequence
from pathlib import Path

from inspire_d2.errors import InputError

__all__ = ["MEANT_COLUMNS", "read_table", "read_text"]

MEANT_COLUMNS = ("name", "centre", "patient", "sequence")


def read_text(file: Path) -> str:
    """Return a text file's content, without a byte order mark; raise InputError if it is none."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not a text file in UTF-8") from error


def read_table(index: Path, *columns: str) -> list[dict[str, str]]:
    """Return the rows of a csv file by its header; cells that a row lacks are "".

    Around names of columns spaces do not count; those with a meaning here are in small letters.

    Raises:
        InputError: the file cannot be read, is no table, or lacks one of ``columns``.
    """
    reader = csv.DictReader(read_text(index).splitlines(), restkey="", restval="")
    try:
        header = reader.fieldnames = _columns(reader.fieldnames or ())
        rows = list(reader)
    except csv.Error as error:
        where = f"line {reader.line_num + 1}"
        raise InputError(f"the index {index} is no table of csv: {where}: {error}") from error
    for column in columns:
        if column not in header:
            raise InputError(f"the index {index} has no column {column!r}")
    return [{key: cell.strip() for key, cell in row.items() if key} for row in rows]


def _columns(names: Sequence[str]) -> list[str]:
    """Spell a header's names as they are known here, each once."""
    names = [name.strip() for name in names]
    lower = [name.lower() for name in names]
    return [
        small if small in MEANT_COLUMNS and lower.count(small) == 1 else name
        for name, small in zip(names, lower, strict=True)
    ]
