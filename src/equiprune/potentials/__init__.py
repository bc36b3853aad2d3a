"""A model that can be evaluated, differentiated, opened and saved."""
