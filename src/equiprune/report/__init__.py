"""Reports: from the files that a run has left to one page that a browser shows without a network."""
