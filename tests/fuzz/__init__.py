"""Generated calls of the public API: a right result, or one sentence that says why not.

    python -m tests.fuzz --calls 20000 --seed 1

``values`` has good and bad values of each kind of argument, ``calls`` says for each
public name which kind its arguments are, and ``verdict`` decides what a call may do.
"""
