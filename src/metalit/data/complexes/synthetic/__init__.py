"""A synthetic set in the shape of PDBbind, written by one command without any download."""

from metalit.data.complexes.synthetic.making import make_synthetic
from metalit.data.complexes.synthetic.sizes import Size

__all__ = ["Size", "make_synthetic"]
