"""Bandits with 5 arms: RL^2 beside Thompson sampling and UCB1, one table into docs/results.md.

    python -m benchmarks.bandits --seeds 3

``configs/bandit/rl2_10.yaml`` and ``rl2_100.yaml`` are trained with seeds 0, 1, ...; then all strategies play the same
1000 test tasks. Regret is the expected reward of the best arm minus that of the arms pulled, summed over a trial, and
the mean of ten trials per task. A finished training is not repeated, and an interrupted one is resumed.
"""
