"""ANODE that plans what to store within a budget of memory."""
