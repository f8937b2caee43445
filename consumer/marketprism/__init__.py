"""What a notebook imports: `from marketprism import data`."""
