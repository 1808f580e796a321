"""The memory of KV caches: slots of one size, side by side, each the cache of one sequence.

Neighbouring slots can go through the graph in one pass. Knows nothing of tokens or trees.
"""

from collections.abc import Sequence
from typing import Any, Final

import onnxruntime
from numpy.typing import NDArray

from outrider_edge.graph_pass import Floats, GraphPass, Rows
from outrider_edge.returned_memory import ReturnedMemory
from outrider_models.bundle import KvLayout

_FIRST_CAPACITY: Final = 256


class KvSlots:
    """Slots that are taken and given back. Not for several threads at once, but for `give`.

    Both their number and their capacity grow by doubling. The system hands out memory when it is
    written to first: free slots cost none, but for the first, which is kept for who comes next.

    Args:
        session: holds the weights.
        kv: the layout of the cache.
        max_positions: the most that a slot must hold.
        num_slots: how many there are at first.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        kv: KvLayout,
        max_positions: int,
        num_slots: int = 1,
    ) -> None:
        self._session = session
        self._kv = kv
        self._max_positions = max_positions
        self._free = list(range(num_slots))
        self._passes: dict[tuple[int, int], GraphPass] = {}
        self._memory = self._zeros(num_slots, min(_FIRST_CAPACITY, max_positions))

    @property
    def num_slots(self) -> int:
        """How many slots there are, free ones included."""
        return int(self._caches.shape[1])

    @property
    def slot_bytes(self) -> int:
        """How much memory a slot takes."""
        return self._caches[:, 0].nbytes

    def take(self) -> int:
        """The lowest free slot, so that those that are taken are neighbours."""
        if not self._free:
            self._free.extend(range(self.num_slots, 2 * self.num_slots))
            self._resize(2 * self.num_slots, self._capacity)
        slot = min(self._free)
        self._free.remove(slot)
        return slot

    def give(self, slot: int) -> None:
        """Free a slot. From any thread: garbage collection may come to it."""
        memory = self._memory  # another may take its place meanwhile: then this one is not used
        if slot:
            for cache in memory.array[:, slot]:
                memory.give_back(cache)
        self._free.append(slot)

    def cache(self, slot: int) -> NDArray[Any]:
        """The cache in a slot, [2 * num_layers, num_kv_heads, capacity, head_size]: a view."""
        return self._caches[:, slot]

    def run(self, first: int, batch: Sequence[Rows], logits: Floats) -> None:
        """One pass over neighbouring slots, see `GraphPass.run`.

        Args:
            first: the slot of the batch's first element.
            batch: rows for each slot.
            logits: where the logits go.
        """
        longest = max(rows.total for rows in batch)
        if longest > self._capacity:
            self._resize(self.num_slots, min(max(2 * self._capacity, longest), self._max_positions))
        key = first, len(batch)
        if key not in self._passes:
            caches = self._caches[:, first : first + len(batch)]
            self._passes[key] = GraphPass(self._session, self._kv, caches)
        self._passes[key].run(batch, logits)

    @property
    def _caches(self) -> NDArray[Any]:
        return self._memory.array

    @property
    def _capacity(self) -> int:
        return int(self._caches.shape[3])

    def _resize(self, num_slots: int, capacity: int) -> None:
        old = self._caches
        self._passes = {}  # they keep addresses
        self._memory = self._zeros(num_slots, capacity)
        for slot in set(range(old.shape[1])) - set(self._free):  # the others must not cost memory
            self._caches[:, slot, :, : old.shape[3]] = old[:, slot]

    def _zeros(self, num_slots: int, capacity: int) -> ReturnedMemory:
        kv = self._kv
        shape = (2 * kv.num_layers, num_slots, kv.num_kv_heads, capacity, kv.head_size)
        return ReturnedMemory(shape, kv.dtype)
