"""What could not become a row, and why."""
