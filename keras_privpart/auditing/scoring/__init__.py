"""From what an attacker said to numbers: scores, intervals, leakage, bounds."""
