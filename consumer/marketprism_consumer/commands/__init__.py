"""The commands of `marketprism`, one module each."""
