"""The one kind of error a user can mend, and how a program says it."""

import sys
from collections.abc import Callable


class InputError(ValueError):
    """Something handed to a program is wrong.

    The message is one sentence that names the file, the key or the tensor, what was found,
    what was expected and what to do about it.
    """


def run(main: Callable[[], None]) -> int:
    """Call `main`; print an InputError as one line on stderr. Returns the exit status."""
    try:
        main()
    except InputError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0
