"""An LSTM's step from linear layers."""

from torch import Tensor, nn

from metalit.functional.lstm import lstm_step


class LSTMCell(nn.Module):
    """One step of an LSTM: ``torch.nn.LSTMCell`` for tasks.

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
        return lstm_step((self.inputs(x) + self.hidden(hidden)).chunk(4, dim=-1), cell)
