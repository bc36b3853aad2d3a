"""A whole pipeline as one file, each stage a command: ``equiprune run``."""
