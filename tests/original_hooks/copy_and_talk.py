# ruff: noqa: UP031  (old style on purpose)
"""The least a hook of the original contract may have: two functions. It copies files, and prints."""

import os
import shutil

print("copy_and_talk is here")

target = os.environ.get("COPY_TARGET")


def register_camera(camera_name, host=None, port=None):
    print("registering", camera_name)
    return {"camera_id": camera_name}


def post_video_content(host, port, camera_name, camera_id, filepath, timestamp, location=None):
    print("copying", filepath)
    shutil.copy(filepath, os.path.join(target, "%s_%s.mp4" % (camera_id, timestamp.replace(":", ""))))
    return True
