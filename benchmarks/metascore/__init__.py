"""MetaScore: affinities of protein-ligand complexes, one table into docs/guide/metascore.md.

    python -m benchmarks.metascore

The rows are the configs of ``configs/metascore``, trained by ``train.py fit`` into ``--out``, and what needs no other
training: the pooled model fine-tuned on the support, a network from scratch and ridge regression on each task, and
the mean of the support. All are tested on the same divisions of the same clusters. Correlations and errors are those of
a cluster, averaged over its divisions; intervals are over clusters, and so are the paired differences. Clusters of
the zero-shot group are predicted without any of their own affinities, and reported apart. What has a checkpoint in
``--out`` already is not trained again.
"""
