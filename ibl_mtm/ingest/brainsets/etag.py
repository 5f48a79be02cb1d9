"""Whether a file is the object that a bucket's ETag names, as far as an ETag can tell.

    agrees(path, '"9b2cf535f27731c974343645a3985328"')        # by MD5: True or False
    agrees(path, '"9b2cf535f27731c974343645a3985328-12"')     # by the MD5 of its parts, or None

An object that was put whole has its MD5 for an ETag; one that was put in parts, the MD5 of their
MD5s, and how many there were. The size of the parts is nowhere told, but few are in use.
"""

import hashlib
import re
from pathlib import Path

__all__ = ["agrees"]

_MB = 1 << 20
_PART_SIZES = (5, 8, 10, 15, 16, 20, 25, 32, 50, 64, 100, 128, 256, 512)  # MiB
_READ = 1 << 22


def agrees(path: Path, etag: str) -> bool | None:
    """Whether a file has this ETag; None where that cannot be told."""
    digest, _, n_parts = etag.strip('"').partition("-")
    if not re.fullmatch(r"[0-9a-f]{32}", digest):
        return None
    size = path.stat().st_size
    if not n_parts:
        return _md5(path, 0, size).hex() == digest
    if not n_parts.isdecimal():
        return None
    for part in (mb * _MB for mb in _PART_SIZES):
        if -(-size // part) == int(n_parts):
            parts = b"".join(_md5(path, start, part) for start in range(0, size, part))
            if hashlib.md5(parts, usedforsecurity=False).hexdigest() == digest:
                return True
    return None  # put in parts of another size, perhaps


def _md5(path: Path, start: int, length: int) -> bytes:
    md5 = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        file.seek(start)
        while length > 0 and (block := file.read(min(_READ, length))):
            md5.update(block)
            length -= len(block)
    return md5.digest()
