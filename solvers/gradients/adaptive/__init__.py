"""Gradient methods whose solver chooses its steps by an error estimate."""
