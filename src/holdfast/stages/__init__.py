"""The kinds that ship, one file each: params and `run`. Here the ML meets the mechanism."""
