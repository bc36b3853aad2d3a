"""Make equivariant interatomic potentials smaller and faster, with the numbers right."""
