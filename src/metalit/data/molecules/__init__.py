"""Molecules: assays as tasks, in the files of FS-Mol; no chemistry library is needed.

The rule of this room: a file of molecules is read line by line, and every mistake names its line.
"""

from metalit.data.molecules.fs_mol import FSMol

__all__ = ["FSMol"]
