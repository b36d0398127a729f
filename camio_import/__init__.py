"""Imports folders of surveillance and fisheries video into Camio, and accounts for every file."""

__version__ = "0.1.0"
