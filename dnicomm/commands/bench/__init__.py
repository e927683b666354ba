"""``dnicomm bench``: the paper's experiments, one or all of them, and their tables."""
