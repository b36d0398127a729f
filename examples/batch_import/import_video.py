"""The importer under its old name. The same as the command camio-import.

    python import_video.py --regex "…" --hook_data_json_file samples/sample_hook_data.json \
        ~/input_videos camio_hooks.py 192.168.1.57
"""

import sys
from pathlib import Path

try:
    from camio_import.cli import run
except ModuleNotFoundError as error:
    sys.exit(
        f"import_video.py needs the package camio-import, which is not installed completely ({error.name} is missing)."
        f'\n  -> Install it for this Python: "{sys.executable}" -m pip install "{Path(__file__).resolve().parents[2]}"'
    )

if __name__ == "__main__":
    run()
