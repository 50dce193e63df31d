"""The one error of this package: a checkpoint that cannot be read or written as asked."""


class CheckpointError(ValueError):
    """Names the file and the tensor at fault, and says what to do about it."""


def some(names: list[str], most: int = 3) -> str:
    """The first few names of a long list, for a message."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
