"""Starts the command `rootsweep`, also as `python -m operate`."""

import sys

from botocore.exceptions import ProfileNotFound


def main() -> None:
    """Run the command. Importing it already makes the SDK look for the profile in AWS_PROFILE."""
    try:
        from operate import cli
    except ProfileNotFound as error:
        print(f"rootsweep: {error}; AWS_PROFILE names it", file=sys.stderr)
        sys.exit(2)
    cli.main()


if __name__ == "__main__":
    main()
