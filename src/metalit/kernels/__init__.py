"""Operations on the maps of many tasks at once on a CPU, with their own first and second derivatives.

The rule of this room: it sees tensors only. Each operation gives the numbers of the torch functions it stands for, to
rounding, in fewer passes over memory.
"""

from metalit.kernels.block import conv_block
from metalit.kernels.form import Form
from metalit.kernels.library import missing

__all__ = ["Form", "conv_block", "missing"]
