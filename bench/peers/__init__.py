"""Gradient methods of other libraries, for comparison.

They are named like a user's own: --gradient bench.peers.original:ORIGINAL. torchode, torchdyn and
diffrax are an optional extra (pip install -e .[peers]), imported when used. Attributes of a peer:

    reproduces       "backprop" or "node": it must have the gradient of this method up to rounding;
                     without it the gradient error is recorded and not judged
    outside_torch    another library does the work: memory and evaluations cannot be measured
    compile_seconds  seconds of compilation since `forget()`, which drops compiled code
"""
