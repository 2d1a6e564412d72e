"""The suites that train nothing, one per file: their cases and how each is measured."""
