"""Do I have all of it? Exchange × symbol × time, by day or by hour."""
