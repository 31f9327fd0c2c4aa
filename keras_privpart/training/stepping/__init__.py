"""The adversarial training step, and what Keras lacks to run it on several replicas."""
