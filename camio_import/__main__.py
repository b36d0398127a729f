"""`python -m camio_import`."""

from camio_import.cli import run

if __name__ == "__main__":
    run()
