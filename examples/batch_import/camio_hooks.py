"""The hook module for Camio under its old name, for command lines that end in `camio_hooks.py BOX_IP`.

It is the built-in hook `camio`, which is used also when no module is named.
"""

from camio_import.hooks.camio import make_hook

__all__ = ["HOOK_NAME", "make_hook"]

HOOK_NAME = "camio"
"""With the built-in hook's name it shares the list of what was sent: files sent by one are known to the other."""
