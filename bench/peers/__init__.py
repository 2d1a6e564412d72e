"""Other people's ways to differentiate an ODE block, as gradient methods, to be compared with.

They are named like anybody's own: --gradient bench.peers.original:ORIGINAL.
"""
