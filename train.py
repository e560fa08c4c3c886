"""Train, validate, test or predict: ``python train.py fit --config configs/sinusoid/maml.yaml``."""

from metalit.cli import main

if __name__ == "__main__":
    main()
