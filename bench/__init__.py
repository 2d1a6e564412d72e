"""The harness: suites of experiments, the instruments that run them, and their records."""
