"""An LSTM's step from linear layers."""

from torch import Tensor, nn


class LSTMCell(nn.Module):
    """One step of an LSTM, the same as ``torch.nn.LSTMCell``, whose fused kernel neither vmap nor double backward take.

    Args:
        inputs: length of an input.
        hidden: length of output and cell.

    Shape:
        input ``[n, inputs]``, last output and cell ``[n, hidden]``, to output and cell ``[n, hidden]``.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.inputs, self.hidden = nn.Linear(inputs, 4 * hidden), nn.Linear(hidden, 4 * hidden, bias=False)

    def forward(self, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Return output and cell after an input."""
        let_in, forget, candidate, let_out = (self.inputs(x) + self.hidden(hidden)).chunk(4, dim=-1)
        cell = forget.sigmoid() * cell + let_in.sigmoid() * candidate.tanh()
        return let_out.sigmoid() * cell.tanh(), cell
