"""How long a training step takes and how much memory it needs, against other libraries and against the machine's limit.

    make bench                                            # everything, on two threads
    python -m benchmarks.speed --only sine --threads 1    # the cases whose names begin so
    python -m benchmarks.speed --smoke                    # a little of every case: does it run?

docs/speed.md has the figures and says how they are taken. A case is an entry of ``cases.py``, a contender a function
that makes a step.
"""
