"""Networks of protein-ligand complexes."""

from metalit.networks.complexes.affinity_head import AffinityHead
from metalit.networks.complexes.density_head import DensityHead
from metalit.networks.complexes.protein_ligand_network import DistancesOf, ProteinLigandNetwork

__all__ = ["AffinityHead", "DensityHead", "DistancesOf", "ProteinLigandNetwork"]
