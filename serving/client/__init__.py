"""What a device runs: the client and its checks. Loads no TensorFlow."""
