"""What all attacks rest on: `Attack` itself, and how an attacker's network is trained."""
