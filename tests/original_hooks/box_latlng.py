# ruff: noqa: UP031, C408  (old style on purpose)
"""A hook of the original contract, without jobs, in the form of the README that calls the position `latlng`."""

import hashlib
import logging

import requests

data_from_user = {}
positions = []


def set_hook_data(data_dict):
    data_from_user.update(data_dict)


def register_camera(camera_name, host=None, port=None):
    key = hashlib.sha1(camera_name.encode("utf-8")).hexdigest()
    headers = {"Authorization": "token %s" % data_from_user["access_token"]}
    url = data_from_user["api_url"] + "/api/cameras/discovered"
    camera = {"local_camera_id": key, "name": camera_name, "device_id_discovering": data_from_user["device_id"]}
    requests.post(url, json={key: camera}, headers=headers).raise_for_status()
    return requests.get(url, headers=headers).json().get(key)


def post_video_content(camera_name, camera_id, filepath, timestamp, host=None, port=None, latlng=None):
    logger = data_from_user.get("logger", logging.getLogger())
    digest = hashlib.sha1()
    with open(filepath, "rb") as video:
        for block in iter(lambda: video.read(65536), b""):
            digest.update(block)
    if latlng is not None:
        positions.append(latlng)
    with open(filepath, "rb") as video:
        answer = requests.post(
            "http://" + host + ":" + port + "/box/content",
            params=dict(
                access_token=data_from_user["device_id"],
                local_camera_id=hashlib.sha1(camera_name.encode("utf-8")).hexdigest(),
                camera_id=camera_id,
                hash=digest.hexdigest(),
                timestamp=timestamp,
            ),
            data=video,
        )
    logger.debug("the Box answered %s", answer.status_code)
    return answer.ok
