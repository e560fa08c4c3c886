"""Running on a cluster: SLURM, or this machine as if it were one."""

from metalit.cluster.base import Cluster
from metalit.cluster.local import Local
from metalit.cluster.slurm import Slurm

__all__ = ["Cluster", "Local", "Slurm"]
