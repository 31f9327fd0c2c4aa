"""Messages, transports and TLS: what goes over the network. Loads no TensorFlow."""
