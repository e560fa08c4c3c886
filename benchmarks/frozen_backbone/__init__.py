"""What a pretrained backbone gives without any meta-training: one table into docs/results.md.

    python -m benchmarks.frozen_backbone --root DATA

EfficientNet-Lite0, trained on ImageNet-1k, on the test classes of CIFAR-FS. Each row of ``rows.yaml`` is a config of
``configs/cifar_fs`` with options, tested with 1 and with 5 shots on the same episodes, and compared with the first row
one by one. A test whose folder has results already is not repeated. The packages that bring the network are named in
``configs/cifar_fs/lite0_protonet.yaml``.
"""
