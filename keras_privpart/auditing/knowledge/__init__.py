"""What an attacker has and sees: its examples, its victims, the view of them, and what stands behind it."""
