"""Gradient methods of other libraries, to compare with.

They are named like a user's own: --gradient bench.peers.original:ORIGINAL. The packages of
torchode, torchdyn and diffrax are an optional extra (pip install -e .[peers]), imported when used.

A peer may state in these attributes what the study `cost` cannot find out by itself:

    reproduces       our gradient method, "backprop" or "node", whose gradient it must have up to
                     rounding; without it the gradient error is recorded and not judged
    outside_torch    true where another library does the work, whose memory and evaluations our
                     instruments do not see
    compile_seconds  seconds of compilation since the last call of `forget()`, which drops compiled
                     code
"""
