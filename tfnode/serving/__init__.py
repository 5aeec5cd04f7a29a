"""A trained model elsewhere: loading and checking it, and its portable forms."""
