"""The commands, one function each; `equiprune.cli` gives them their names and catches their errors."""
