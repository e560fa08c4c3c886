"""FS-Mol: models of single tasks, prototypes and MAML by support size, beside the published figures.

    python -m benchmarks.fs_mol --root DATA

``DATA`` holds FS-Mol as ``metalit.data.FSMol`` reads it. Each row of ``rows.yaml`` is a model of scikit-learn or a
config of ``configs/fs_mol``, tested on all test tasks in ten divisions at each support size; a network is trained
first. All rows have the same divisions. What has results in ``--out`` already is not repeated, a training that was
interrupted is resumed; so the table grows from call to call. ``--write`` puts it into docs/results.md.
"""
