"""What moved from hot to cold, what waits, and what stands still."""
