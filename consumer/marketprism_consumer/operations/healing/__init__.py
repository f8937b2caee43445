"""What was missing comes back: from the stream, where it still holds it, else from files."""
