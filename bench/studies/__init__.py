"""The study protocol, and one study per file: its cases, how they are measured and compared."""
