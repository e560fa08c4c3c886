"""One step of a long short-term memory (LSTM)."""

from collections.abc import Sequence

from torch import Tensor


def lstm_step(gates: Sequence[Tensor], cell: Tensor) -> tuple[Tensor, Tensor]:
    """Return output and cell state after one step (Hochreiter and Schmidhuber 1997; Gers et al. 2000).

    ``torch.nn.LSTMCell`` computes the same, but its kernel has no second derivative and no ``vmap`` rule.

    Args:
        gates: pre-activations of input gate, forget gate, candidate and output gate, ``[..., H]`` each.
        cell: the previous cell state, ``[..., H]``.
    """
    input_gate, forget_gate, candidate, output_gate = gates
    cell = forget_gate.sigmoid() * cell + input_gate.sigmoid() * candidate.tanh()
    return output_gate.sigmoid() * cell.tanh(), cell
