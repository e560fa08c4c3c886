"""Affinity of a ligand to the pocket of a protein, from the graphs of both and the distances between them."""

from typing import NamedTuple

from torch import Tensor, nn

from metalit.episode import Complexes
from metalit.errors import SettingError, at_least, check
from metalit.networks.complexes.density_head import DensityHead
from metalit.networks.complexes.pairs import PairHead, Pairs
from metalit.networks.expected_inputs import known
from metalit.networks.graphs import GatedGCN


class DistancesOf(NamedTuple):
    """Asks a network with a ``DensityHead`` for the likelihood of the distances in place of the affinity.

    Attributes:
        complexes: the complexes.
    """

    complexes: Complexes


class ProteinLigandNetwork(nn.Module):
    """Two gated graph networks, one over residues and one over atoms, whose states meet in pairs.

        f_va = ReLU(P h_v + L h_a);    affinity = head of all f_va and distances d_va

    The architecture is that of GenScore with gated graph networks; see docs/guide/metascore.md.

    Args:
        head: from pairs to affinities: ``AffinityHead`` or ``DensityHead``; its ``inputs`` is the length of f.
        residue_inputs: length of a residue's features. If not given: on the command line and in ``metalit.load`` that
            of the data, else 1. So are the next three.
        contact_inputs: length of a contact's features, >= 0.
        atom_inputs: length of an atom's features, >= 1.
        bond_inputs: length of a bond's features, >= 0.
        width: length of a node's state, >= 1.
        layers: layers of each graph network, >= 1.
        dropout: probability with which a number of a state is dropped in training, in [0, 1).

    Attributes:
        features: 1, the length of an output.

    Shape:
        n complexes to ``[n, 1]``, pK; ``DistancesOf`` them to ``[n, 1]``, the mean log-likelihood of their distances
        in nats.

    Raises:
        SettingError: a number is out of range, or the data do not match.
    """

    features = 1

    def __init__(
        self,
        head: PairHead,
        residue_inputs: int | None = None,
        contact_inputs: int | None = None,
        atom_inputs: int | None = None,
        bond_inputs: int | None = None,
        width: int = 32,
        layers: int = 2,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        residue_inputs, contact_inputs = known(residue_inputs), known(contact_inputs)
        atom_inputs, bond_inputs = known(atom_inputs), known(bond_inputs)
        at_least(1, residue_inputs=residue_inputs, atom_inputs=atom_inputs, width=width, layers=layers)
        at_least(0, contact_inputs=contact_inputs, bond_inputs=bond_inputs)
        check("dropout", dropout, 0 <= dropout < 1, "a number in [0, 1)")
        self.residue_inputs, self.contact_inputs = residue_inputs, contact_inputs
        self.atom_inputs, self.bond_inputs = atom_inputs, bond_inputs
        self.pocket = GatedGCN(residue_inputs, contact_inputs, width, layers, dropout=dropout)
        self.ligand = GatedGCN(atom_inputs, bond_inputs, width, layers, dropout=dropout)
        self.residue, self.atom = nn.Linear(width, head.inputs), nn.Linear(width, head.inputs, bias=False)
        self.head = head

    def forward(self, x: Complexes | DistancesOf) -> Tensor:
        """Return affinities ``[n, 1]``, or log-likelihoods ``[n, 1]``."""
        if not isinstance(x, DistancesOf):
            return self.head(self.pairs(x))  # type: ignore[no-any-return]
        if not isinstance(self.head, DensityHead):
            raise SettingError("head", type(self.head).__name__, "DensityHead, for the likelihood of distances")
        return self.head.log_likelihood(self.pairs(x.complexes))

    def pairs(self, x: Complexes) -> Pairs:
        """Return the pairs of residues and atoms."""
        self._check(x)
        residues, atoms = self.residue(self.pocket.states(x.pocket)), self.atom(self.ligand.states(x.ligand))
        features = (residues.unsqueeze(-2) + atoms.unsqueeze(-3)).relu()
        return Pairs(features, x.distances, x.pocket.node_mask.unsqueeze(-1) & x.ligand.node_mask.unsqueeze(-2))

    def _check(self, x: object) -> None:
        if not isinstance(x, Complexes):
            raise SettingError("network", type(self).__name__, f"an encoder of a {type(x).__name__}")
        found = {
            "residue_inputs": x.pocket.nodes,
            "contact_inputs": x.pocket.edge_features,
            "atom_inputs": x.ligand.nodes,
            "bond_inputs": x.ligand.edge_features,
        }
        for name, features in found.items():
            own = getattr(self, name)
            if features.shape[-1] != own:
                raise SettingError(name, own, f"{features.shape[-1]}, as the data have it", owner=type(self))
