"""``python -m flowbuilder``: the command line."""

from flowbuilder.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
