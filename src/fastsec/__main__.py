"""``python -m fastsec`` is the command ``fastsec``."""

from fastsec.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
