"""``python -m equiprune`` is the command line."""

from equiprune.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
