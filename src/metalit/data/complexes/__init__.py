"""Protein-ligand complexes with their affinities, in clusters of similar proteins (MetaScore)."""

from metalit.data.complexes.metascore import MetaScore

__all__ = ["MetaScore"]
