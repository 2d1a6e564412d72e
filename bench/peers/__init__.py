"""Other people's ways to differentiate an ODE block, as gradient methods, to be compared with.

They are named like anybody's own: --gradient bench.peers.original:ORIGINAL. The packages of
torchode, torchdyn and diffrax are an optional extra (pip install -e .[peers]), imported when they
are used.

What the suite `cost` cannot find out by itself, a peer may say in these attributes:

    reproduces       the gradient method of ours, "backprop" or "node", whose gradient it has to
                     have up to rounding; without it the gradient error is recorded and not judged
    outside_torch    true where its work is done by another library, whose memory and evaluations
                     our instruments do not see
    compile_seconds  seconds of compilation since `forget()` was called, which drops what is
                     compiled
"""
