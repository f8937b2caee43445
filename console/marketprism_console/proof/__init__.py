"""What became of every message? An audit that is run, watched and kept."""
