"""Train, validate, test or predict: ``python train.py fit --config configs/sinusoid/maml.yaml``."""

from metalit.main import main

if __name__ == "__main__":
    main()
