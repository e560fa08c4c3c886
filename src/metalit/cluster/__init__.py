"""Running on a cluster: SLURM, or this machine in its place.

The rule of this room: a job is an ordinary command, checked and written into a script; nothing here trains.
"""

from metalit.cluster.base import Cluster
from metalit.cluster.local import Local
from metalit.cluster.slurm import Slurm

__all__ = ["Cluster", "Local", "Slurm"]
