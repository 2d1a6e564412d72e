"""One measurement each. No instrument imports another."""
