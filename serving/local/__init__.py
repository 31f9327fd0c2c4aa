"""A server with TensorFlow Serving's messages in this process, for development and tests."""
