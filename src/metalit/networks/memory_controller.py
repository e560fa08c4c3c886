"""An LSTM with an external memory (Santoro et al. 2016)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from metalit.errors import at_least, check, positive
from metalit.functional.lstm import lstm_step
from metalit.functional.memory import least_used, read_weights, write, write_weights

EMPTY = 1e-6  # what a slot holds at first


class MemoryState(NamedTuple):
    """What is carried from step to step; any number of leading axes.

    Attributes:
        hidden: ``[..., hidden]``, output of the LSTM.
        cell: ``[..., hidden]``, its cell.
        memory: ``[..., slots, slot_size]``.
        reading: ``[..., heads, slots]``, weights of the last read.
        read: ``[..., heads * slot_size]``, what was read.
        usage: ``[..., slots]``, how much each slot was read and written, in decay.
    """

    hidden: Tensor
    cell: Tensor
    memory: Tensor
    reading: Tensor
    read: Tensor
    usage: Tensor


class MemoryController(nn.Module):
    """Reads a sequence with a memory that it writes by least recently used access.

    Args:
        inputs: length of an input, >= 1.
        outputs: length of an output, >= 1.
        hidden: width of the LSTM, >= 1.
        slots: of the memory, >= heads.
        slot_size: length of a slot, >= 1.
        heads: how many slots are read and written at a step, >= 1.
        usage_decay: gamma, by which the usage of a slot fades in a step, in [0, 1].
        key_strength: what the cosines are multiplied by before the softmax of a read, > 0.

    Shape:
        a sequence ``[steps, inputs]`` to the state after it and ``[steps, outputs]``; ``next_step`` takes alternative
        next steps ``[branches, inputs]``, which do not see one another, to ``[branches, outputs]``.

    Raises:
        ValueError: a number outside its range.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        hidden: int = 200,
        slots: int = 128,
        slot_size: int = 40,
        heads: int = 4,
        usage_decay: float = 0.95,
        key_strength: float = 1.0,
    ) -> None:
        super().__init__()
        at_least(1, hidden=hidden, slots=slots, slot_size=slot_size, heads=heads)
        check("slots", slots, slots >= heads, f"at least heads, which is {heads}, for each needs a free slot")
        check("usage_decay", usage_decay, 0 <= usage_decay <= 1, "a number in [0, 1]")
        self.slots, self.heads, self.usage_decay = slots, heads, usage_decay
        self.key_strength = positive("key_strength", key_strength)
        self.from_inputs = nn.Linear(inputs, 4 * hidden)
        self.from_state = nn.Linear(hidden + heads * slot_size, 4 * hidden, bias=False)
        self.keys = nn.Linear(hidden, heads * slot_size)
        self.contents = nn.Linear(hidden, heads * slot_size)
        self.gates = nn.Linear(hidden, heads)
        self.head = nn.Linear(hidden + heads * slot_size, outputs)
        for name, parameter in self.named_parameters():
            nn.init.zeros_(parameter) if name.endswith("bias") else nn.init.xavier_uniform_(parameter)

    def forward(self, x: Tensor) -> tuple[MemoryState, Tensor]:
        """Return the state after a sequence, and one output vector for each of its steps."""
        driven = self.from_inputs(x)  # of all steps at once, which is faster
        state, seen = self.initial_state(), []
        for step in driven:
            state = self.step(step, state)
            seen.append(torch.cat([state.hidden, state.read], dim=-1))
        return state, self.head(torch.stack(seen))

    def next_step(self, x: Tensor, state: MemoryState) -> Tensor:
        """Return outputs ``[branches, outputs]`` of next steps ``[branches, inputs]``."""
        after = self.step(self.from_inputs(x), state)
        return self.head(torch.cat([after.hidden, after.read], dim=-1))  # type: ignore[no-any-return]

    def initial_state(self) -> MemoryState:
        """Return the state before the first step: the same for every task."""
        hidden, size = self.keys.in_features, self.keys.out_features // self.heads
        like = self.keys.weight
        return MemoryState(
            hidden=like.new_zeros(hidden),
            cell=like.new_zeros(hidden),
            memory=like.new_full((self.slots, size), EMPTY),
            reading=like.new_zeros(self.heads, self.slots),
            read=like.new_zeros(self.heads * size),
            usage=like.new_zeros(self.slots),
        )

    def step(self, driven: Tensor, state: MemoryState) -> MemoryState:
        """Return the state after one step.

        Args:
            driven: what the input contributes to the LSTM's gates, ``[..., 4 * hidden]``.
            state: that before the step.
        """
        recurrent = self.from_state(torch.cat([state.hidden, state.read], dim=-1))
        hidden, cell = lstm_step((driven + recurrent).chunk(4, dim=-1), state.cell)

        shape = (*hidden.shape[:-1], self.heads, state.memory.shape[-1])
        keys, content = self.keys(hidden).tanh().reshape(shape), self.contents(hidden).tanh().reshape(shape)
        free = least_used(state.usage, self.heads)
        writing = write_weights(self.gates(hidden).sigmoid().unsqueeze(-1), state.reading, free)
        memory = write(state.memory, writing, content, erased=free[..., 0, :])
        reading = read_weights(keys, memory, self.key_strength)
        used = self.usage_decay * state.usage + (reading + writing).sum(dim=-2)
        return MemoryState(hidden, cell, memory, reading, (reading @ memory).flatten(-2), used.detach())
