"""Fuzzing: valid inputs (`seeds`), what is done to them (`mutations`), who reads them (`readers`), and `trials`."""
