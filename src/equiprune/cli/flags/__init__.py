"""Flags of the command line as frozen values, and their way to the values of the API; a module for each panel."""
