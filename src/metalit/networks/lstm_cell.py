"""An LSTM cell built from linear layers."""

from torch import Tensor, nn

from metalit.functional.lstm import lstm_step


class LSTMCell(nn.Module):
    """One step of an LSTM, as ``torch.nn.LSTMCell`` but with second derivatives and a rule for ``vmap``.

    Args:
        inputs: length of an input.
        hidden: length of output and cell state.

    Shape:
        input ``[n, inputs]``, previous output and cell state ``[n, hidden]``, to output and cell state ``[n, hidden]``.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        # one bias is enough: torch's second one is added to the same gates
        self.inputs, self.hidden = nn.Linear(inputs, 4 * hidden), nn.Linear(hidden, 4 * hidden, bias=False)

    def forward(self, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Return output and cell state after an input."""
        return lstm_step((self.inputs(x) + self.hidden(hidden)).chunk(4, dim=-1), cell)
