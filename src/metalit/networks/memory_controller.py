"""An LSTM with an external memory (Santoro et al. 2016)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from metalit.errors import at_least, check, positive
from metalit.functional.lstm import lstm_step
from metalit.functional.memory import least_used, read_weights, write, write_weights

EMPTY = 1e-6  # initial value of all entries of the memory


class MemoryState(NamedTuple):
    """The recurrent state of the controller, with any number of leading axes.

    Attributes:
        hidden: ``[..., hidden]``, output of the LSTM.
        cell: ``[..., hidden]``, cell state of the LSTM.
        memory: ``[..., slots, slot_size]``.
        reading: ``[..., heads, slots]``, read weights of the last step.
        read: ``[..., heads * slot_size]``, vectors read in the last step.
        usage: ``[..., slots]``, decayed sum of the read and write weights of each slot.
    """

    hidden: Tensor
    cell: Tensor
    memory: Tensor
    reading: Tensor
    read: Tensor
    usage: Tensor


class MemoryController(nn.Module):
    """An LSTM that reads an external memory by content and writes it by least recently used access.

    Args:
        inputs: length of an input, >= 1.
        outputs: length of an output, >= 1.
        hidden: width of the LSTM, >= 1.
        slots: slots of the memory, >= heads.
        slot_size: length of a slot, >= 1.
        heads: slots read and written in each step, >= 1.
        usage_decay: gamma, factor of the usage of a slot in each step, in [0, 1].
        key_strength: factor of the cosines before the softmax of a read, > 0.

    Shape:
        a sequence ``[steps, inputs]`` to the state after it and outputs ``[steps, outputs]``; ``next_step`` maps
        alternative next steps ``[branches, inputs]``, which do not see one another, to ``[branches, outputs]``.

    Raises:
        SettingError: a number is out of range.
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
        check("slots", slots, slots >= heads, f"at least heads ({heads}): each head needs a free slot")
        check("usage_decay", usage_decay, 0 <= usage_decay <= 1, "a number in [0, 1]")
        self.slots, self.heads, self.usage_decay = slots, heads, usage_decay
        self.key_strength = positive("key_strength", key_strength)
        self.from_inputs = nn.Linear(inputs, 4 * hidden)
        self.from_state = nn.Linear(hidden + heads * slot_size, 4 * hidden, bias=False)
        # what is written is a vector of its own, not the read key as in the paper
        self.keys = nn.Linear(hidden, heads * slot_size)
        self.contents = nn.Linear(hidden, heads * slot_size)
        self.gates = nn.Linear(hidden, heads)
        self.head = nn.Linear(hidden + heads * slot_size, outputs)
        # Glorot's rule, as in the re-implementation tristandeleu/ntm-one-shot
        for name, parameter in self.named_parameters():
            nn.init.zeros_(parameter) if name.endswith("bias") else nn.init.xavier_uniform_(parameter)

    def forward(self, x: Tensor) -> tuple[MemoryState, Tensor]:
        """Return the state after a sequence, and one output for each of its steps."""
        driven = self.from_inputs(x)  # all steps at once, which is faster
        state, seen = self.initial_state(), []
        for step in driven:
            state = self.step(step, state)
            seen.append(torch.cat([state.hidden, state.read], dim=-1))
        return state, self.head(torch.stack(seen))

    def next_step(self, x: Tensor, state: MemoryState) -> Tensor:
        """Return outputs ``[branches, outputs]`` for next steps ``[branches, inputs]``."""
        # The state broadcasts: every branch continues from it on its own, and the new states are discarded.
        after = self.step(self.from_inputs(x), state)
        return self.head(torch.cat([after.hidden, after.read], dim=-1))  # type: ignore[no-any-return]

    def initial_state(self) -> MemoryState:
        """Return the state before the first step, which is the same for every task."""
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
            driven: contribution of the input to the LSTM's gates, ``[..., 4 * hidden]``.
            state: the state before the step.
        """
        recurrent = self.from_state(torch.cat([state.hidden, state.read], dim=-1))
        hidden, cell = lstm_step((driven + recurrent).chunk(4, dim=-1), state.cell)

        shape = (*hidden.shape[:-1], self.heads, state.memory.shape[-1])
        keys, content = self.keys(hidden).tanh().reshape(shape), self.contents(hidden).tanh().reshape(shape)
        # head h writes to the h-th least used slot; only the very least used one is erased
        free = least_used(state.usage, self.heads)
        writing = write_weights(self.gates(hidden).sigmoid().unsqueeze(-1), state.reading, free)
        memory = write(state.memory, writing, content, erased=free[..., 0, :])
        reading = read_weights(keys, memory, self.key_strength)
        # The result is detached: usage only selects slots, which is a choice without a gradient.
        used = self.usage_decay * state.usage + (reading + writing).sum(dim=-2)
        return MemoryState(hidden, cell, memory, reading, (reading @ memory).flatten(-2), used.detach())
