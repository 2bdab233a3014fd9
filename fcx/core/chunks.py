"""How the files of a Zarr store are written and read: each whole or not at all; a chunk that is absent is refused."""

from __future__ import annotations

import asyncio

from zarr.storage import LocalStore, WrapperStore

from fcx.core.errors import StoreError
from fcx.core.files import write_whole


class WholeFiles(LocalStore):
    """A local folder whose files are replaced whole, under temporary names that `fcx.core.files.sweep` knows."""

    async def set(self, key, value) -> None:
        """Write the bytes of one key."""
        await asyncio.to_thread(write_whole, self.root / key, value.to_bytes())


class AbsentChunkError(StoreError):
    """A chunk that a finished store should hold is not there."""


class AllThere(WrapperStore):
    """A finished store: to read a chunk that is not there is an error, where Zarr would give its fill value."""

    async def get(self, key, prototype=None, byte_range=None):
        """Return the bytes of one key, or None where something else than a chunk is not there.

        Raises: AbsentChunkError naming the array and the chunk.
        """
        content = await super().get(key, prototype, byte_range)
        array, _, chunk = key.rpartition("/")
        if content is None and chunk[:1].isdigit():
            raise AbsentChunkError(f"the chunk {chunk} of {array!r}")
        return content
