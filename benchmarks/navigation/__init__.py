"""2D navigation: policies that adapt, beside three that do not learn to; one table into docs/results.md.

    python -m benchmarks.navigation --seeds 3
    python -m benchmarks.navigation --quick --seeds 3

Each row of ``rows.yaml`` is a config of ``configs/navigation`` with options, trained with seeds 0, 1, ... and tested on
the same 40 goals. The rate of the policies from scratch is the best of several on the validation tasks, so they have
what a user would have. With ``--quick`` all have the batches and meta-steps of ``maml_quick.yaml``, and folders of
their own. What has results in ``--out`` already is not repeated, and a training that was interrupted is resumed.
"""
