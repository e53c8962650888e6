"""Where the program starts: hardened, fast, and with an honest exit code."""

import sys


def main() -> int:
    """Run the command line; returns the exit code."""
    if sys.argv[1:] == ["--version"]:
        from tui import VERSION

        print(f"andon {VERSION}")
        return 0
    from tui.cli import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
