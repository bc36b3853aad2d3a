"""What architectures built on e3nn share."""
