"""Episodes: batches of few-shot tasks, the one data type that all parts of metalit exchange.

Legend for every shape in this package:
    B tasks in a meta-batch, N ways, K shots per class, S = N*K support examples, Q query examples per task.
"""

from typing import Any, NamedTuple, cast

from torch import Tensor


class Tokens(NamedTuple):
    """Texts as token ids, padded to one length: the inputs of an episode of texts.

    Attributes:
        ids: ``[..., n, T]`` int64, >= 0; 0 where there is no token.
        mask: ``[..., n, T]`` bool, True where there is a token; each text has at least one, and the first T_i places.
    """

    ids: Tensor
    mask: Tensor


class MarkedTokens(NamedTuple):
    """Texts with two marked places each, such as the entities of a relation.

    Attributes:
        ids: as in ``Tokens``.
        mask: as in ``Tokens``.
        spans: ``[..., n, 2]`` int64, positions along T of the two marks.
    """

    ids: Tensor
    mask: Tensor
    spans: Tensor


class Graphs(NamedTuple):
    """Graphs with features at nodes and edges, padded to one size: the inputs of an episode of molecules.

    Edges are directed: an undirected one is listed in both directions.

    Attributes:
        nodes: ``[..., n, V, F]`` float, features of the nodes; 0 where there is no node.
        edges: ``[..., n, E, 2]`` int64, source and target of each edge, in 0..V-1; 0 where there is no edge.
        edge_features: ``[..., n, E, D]`` float; D may be 0. 0 where there is no edge.
        node_mask: ``[..., n, V]`` bool, True where there is a node; each graph has at least one, and the first V_i
            places.
        edge_mask: ``[..., n, E]`` bool, True where there is an edge; a graph may have none.
    """

    nodes: Tensor
    edges: Tensor
    edge_features: Tensor
    node_mask: Tensor
    edge_mask: Tensor


class Complexes(NamedTuple):
    """Complexes of a pocket and a ligand, padded to one size: the inputs of an episode of protein-ligand affinities.

    Attributes:
        pocket: graphs of residues, ``[..., n]`` with V nodes each.
        ligand: graphs of atoms, ``[..., n]`` with A nodes each.
        distances: ``[..., n, V, A]`` float, Å, between residues and atoms; 0 where one of both is padding.
    """

    pocket: Graphs
    ligand: Graphs
    distances: Tensor


class Labelled(NamedTuple):
    """Examples with their labels.

    Attributes:
        x: inputs, ``[B, n, *features]``, or a pytree of such tensors (``Tokens``), which is passed to the network
            unchanged.
        y: labels; ``[B, n]`` int64 in ``0..N-1`` for classification, ``[B, n, outputs]`` float for regression.
    """

    x: Any
    y: Tensor

    @property
    def mask(self) -> Tensor | None:
        """Return None: there is an example at every place. ``PaddedLabelled`` has a mask."""
        return None


class PaddedLabelled(NamedTuple):
    """Examples with their labels, of tasks of unequal size that are padded to one size; used in place of ``Labelled``.

    Attributes:
        x: as in ``Labelled``; 0 where there is no example.
        y: as in ``Labelled``; 0 where there is no example.
        mask: ``[B, n]`` bool, True where there is an example. Each task has at least one, and its examples come first.
    """

    x: Any
    y: Tensor
    mask: Tensor


def labelled(x: Any, y: Tensor, mask: Tensor | None = None) -> Labelled:
    """Return ``Labelled``, or ``PaddedLabelled`` if there is a mask.

    Both have ``mask`` and ``_replace``, so code that handles examples need not know which one it has.
    """
    # one type for the annotations: what takes Labelled takes both
    return Labelled(x, y) if mask is None else cast(Labelled, PaddedLabelled(x, y, mask))


class Episode(NamedTuple):
    """A meta-batch: B tasks, each with a support set to learn from and a query set to be evaluated on.

    All members are pytrees of tensors whose first axis is the task axis B, so that ``torch.func.vmap`` maps over tasks.

    Attributes:
        support: support examples, ``[B, S, ...]``; ``PaddedLabelled`` if tasks differ in size.
        query: query examples, ``[B, Q, ...]``; ``PaddedLabelled`` if tasks differ in size.
        index: ``[B]`` int64, the index of each task in the stream of its split, >= 0. It determines a task's random
            numbers and identifies the task in evaluations and messages, so tasks of a split must have distinct indices.
            For an episode made by hand use ``torch.arange(B)``.
    """

    support: Labelled
    query: Labelled
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which is of no use for tensors


class TaskBatch(NamedTuple):
    """A batch of tasks of reinforcement learning, before anything was experienced in them.

    Attributes:
        parameters: what distinguishes the tasks, such as goals: a pytree of tensors ``[B, ...]``.
        index: ``[B]`` int64, as in ``Episode``.
    """

    parameters: Any
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which is of no use for tensors


class Steps(NamedTuple):
    """What happened in n trajectories of H time steps: the labels ``y`` of an episode of reinforcement learning.

    Attributes:
        actions: ``[..., n, H, actions]`` float, or ``[..., n, H]`` int64 if they are discrete.
        advantages: ``[..., n, H]``, estimates of how much better than average each action was.
        distributions: ``[..., n, H, P]``, parameters of the distributions that the actions were drawn from.
        log_probs: ``[..., n, H]``, log-probabilities of the actions under these.
        mask: ``[..., n, H]`` bool, False after the end of a trajectory.
        credit: ``[..., n, H]``, how good what was learned from the trajectories turned out to be; 0 if not known.
    """

    actions: Tensor
    advantages: Tensor
    distributions: Tensor
    log_probs: Tensor
    mask: Tensor
    credit: Tensor
