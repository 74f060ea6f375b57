"""Sound files, damaged by chance."""

import zlib
from collections.abc import Iterator

import numpy as np

__all__ = ["damaged"]


def damaged(content: bytes, seed: int, number: int) -> Iterator[bytes]:
    """Yield a file cut off, or with some bytes changed, put in or left out, by turns."""
    generator = np.random.default_rng((seed, zlib.crc32(content)))
    for turn in range(number):
        changed = bytearray(content)
        places = generator.integers(0, len(changed), max(1, len(changed) // 500))
        if turn % 4 == 0:
            del changed[places[0] :]
        elif turn % 4 == 1:
            for place in places:
                changed[place] ^= 1 << int(generator.integers(8))
        elif turn % 4 == 2:
            changed[places[0] : places[0]] = generator.bytes(40)
        else:
            del changed[places[0] : places[0] + 40]
        yield bytes(changed)
