"""What training adds for privacy: adversaries, their goals and weights, and regularisers."""
