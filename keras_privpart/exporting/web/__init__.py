"""What a bundle holds for browsers beside the LiteRT half: a manifest, the client module, and LiteRT.js where it was asked for."""
