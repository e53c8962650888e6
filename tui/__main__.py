"""Where the program starts: hardened, fast, and with an honest exit code."""

import sys


def main() -> int:
    """Run the command line; returns the exit code."""
    from tui.cli import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
