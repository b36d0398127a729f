"""What holds when the user says nothing. Loads nothing."""

DEFAULT_PATTERN = r".*/(?P<camera>\w+?)\-.*\-(?P<epoch>\d+)\.mp4"
"""The pattern of the original importer, used when no `--regex` is given."""
