"""What a cut costs: multiply-adds, bytes, parameters, time."""
