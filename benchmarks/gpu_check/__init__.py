"""Does metalit compute on a GPU what it computes on the CPU, and how fast? One table, in at most eight minutes.

    make gpu-check                    # on the first GPU
    make gpu-check DEVICE=cpu         # dry run: the CPU stands in for the GPU
    python -m benchmarks.gpu_check --only MAML --only rows

Needs the source tree and no network. docs/guide/scaling.md says what is checked and what the columns mean.
"""
