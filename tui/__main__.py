"""Where the program starts: hardened, fast, and with an honest exit code."""

import sys


def main() -> int:
    """Run the command line; returns the exit code."""
    if sys.argv[1:] == ["--version"]:
        from tui import VERSION

        print(f"andon {VERSION}")
        return 0
    from tui.cli import NO_ANSWER, run

    try:
        return run(sys.argv[1:])
    except Exception as error:  # noqa: BLE001 - the top: what nobody caught is told without values and without secrets
        from tui.leaving import guard_crashes

        if sys.excepthook is sys.__excepthook__:  # the room has its own, with a log
            guard_crashes()
        sys.excepthook(type(error), error, error.__traceback__)
        return NO_ANSWER


if __name__ == "__main__":
    sys.exit(main())
