"""Arguments that commands share, as frozen values, and their way to the values of the API; a module for each panel."""
