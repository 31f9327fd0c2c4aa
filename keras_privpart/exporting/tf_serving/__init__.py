"""TensorFlow Serving's own configuration files, those of a bundle's `serving/`."""
