"""What a caller does with memories that learn: read, give back, clear, and commit what they have learned."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from transformers.cache_utils import Cache
from transformers.generation import GenerationMixin

from eulerc.backends.hf.components.memory_states import keep_memory_states, memory_states


class MemoryGenerationMixin(GenerationMixin):
    """Memories whose states stand in the cache: they last as long as the caller passes it on."""

    def memories(self) -> Iterator[tuple[int, Any]]:
        """Every memory that learns in use, after its slot in a cache."""
        if self.config.shared_module:
            for layer_idx, module_idx in enumerate(self.config.module_indices):
                memory = getattr(self.model.layers[module_idx], "memory", None)
                if hasattr(memory, "state_names"):
                    yield layer_idx, memory
        else:
            for layer in self.model.layers:
                memory = getattr(layer, "memory", None)
                if hasattr(memory, "state_names"):
                    yield memory.layer_idx, memory

    def read_memory(self, past_key_values: Cache) -> dict[str, torch.Tensor]:
        """What a cache holds of memories: `0.weights` is a state of that in layer 0, a row for each sequence."""
        found: dict[str, torch.Tensor] = {}
        for layer_idx, memory in self.memories():
            states = memory_states(past_key_values, layer_idx, memory.first_state, len(memory.state_names))
            if states is not None:
                names = (f"{layer_idx}.{name}" for name in memory.state_names)
                found.update((name, state.clone()) for name, state in zip(names, states, strict=True))
        return found

    def write_memory(self, past_key_values: Cache, states: Mapping[str, torch.Tensor]) -> None:
        """Gives a cache what `read_memory` has read from another one."""
        for layer_idx, memory in self.memories():
            names = [f"{layer_idx}.{name}" for name in memory.state_names]
            if names[0] in states:
                device = memory.o_proj.weight.device
                own = [states[name].to(device) for name in names]
                keep_memory_states(past_key_values, own, layer_idx, memory.first_state)

    def clear_memory(self, past_key_values: Cache, persistence: str | None = None) -> None:
        """Lets memories of a cache begin anew, those of one `persistence` or all; keys and values stay."""
        for layer_idx, memory in self.memories():
            if persistence is None or memory.persistence == persistence:
                layer: Any = past_key_values.layers[layer_idx]
                for index in range(len(memory.state_names)):
                    layer.has_previous_state[memory.first_state + index] = False


class QueryMemoryGenerationMixin(MemoryGenerationMixin):
    """Memories some of which last for one query: a call of `generate`."""

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """As in transformers; memories that last for a query begin anew in a cache that is passed."""
        past_key_values = kwargs.get("past_key_values")
        if past_key_values is not None:
            self.clear_memory(past_key_values, persistence="per_query")
        return super().generate(*args, **kwargs)


class PersistentMemoryGenerationMixin(MemoryGenerationMixin):
    """Memories some of which have a place in the checkpoint."""

    @torch.no_grad()
    def commit_memory(self, past_key_values: Cache, sequence: int = 0) -> None:
        """Makes what persistent memories have learned of one sequence of a cache what new caches begin with.

        It stands in the buffers `memory_state_*`, which are saved. A chunk that has not ended ends there.
        """
        for layer_idx, memory in self.memories():
            states = memory_states(past_key_values, layer_idx, memory.first_state, len(memory.state_names))
            if memory.persistence != "persistent" or states is None:
                continue
            by_name = dict(zip(memory.state_names, states, strict=True))
            for name, source in memory.committed.items():
                learned = by_name[source][sequence]
                initial = getattr(memory, f"initial_{name}", None)
                learned = learned if initial is None else learned - initial.float()
                getattr(memory, f"memory_state_{name}").copy_(learned)
