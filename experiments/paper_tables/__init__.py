"""The small rows of the papers' tables side by side."""
