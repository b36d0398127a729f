# ruff: noqa: UP031, B905  (old style on purpose)
"""A hook of the original contract: whole, with jobs, in the order of arguments of the original's template.

It talks to a Box and to a cloud, whose addresses and secrets come with the hook data.
"""

import hashlib
import json

import requests

# The order of the first two differs from how the original importer called it.
settings = {}
cameras = []


def log(message, *details):
    settings["logger"].info(message, *details)


def cloud(method, path, body=None):
    url = path if "://" in path else settings["api_url"] + path
    answer = requests.request(method, url, json=body, headers={"Authorization": "token " + settings["access_token"]})
    log("%s %s: %d", method, path, answer.status_code)
    return answer


def set_hook_data(data):
    settings.update(data)
    if "registered_cameras" in data:
        cameras[:] = data["registered_cameras"]


def register_camera(camera_name, host=None, port=None):
    local_id = hashlib.sha1(camera_name.encode("utf-8")).hexdigest()
    config = {
        "local_camera_id": local_id,
        "name": camera_name,
        "device_id_discovering": settings["device_id"],
        "acquisition_method": "batch",
    }
    if cloud("POST", "/api/cameras/discovered", {local_id: config}).status_code not in (200, 204):
        return None
    return cloud("GET", "/api/cameras/discovered").json()[local_id]


def post_video_content(host, port, camera_name, camera_id, filepath, timestamp, location=None):
    with open(filepath, "rb") as video:
        content = video.read()
    query = {
        "access_token": settings["device_id"],
        "local_camera_id": hashlib.sha1(camera_name.encode("utf-8")).hexdigest(),
        "camera_id": camera_id,
        "hash": hashlib.sha1(content).hexdigest(),
        "timestamp": timestamp,
    }
    if location:
        log("position %r", json.loads(location)["location"])
    answer = requests.post("http://%s:%s/box/content" % (host, port), params=query, data=content)
    return answer.status_code in (200, 204)


def assign_job_ids(self, db, unscheduled):
    if not unscheduled:
        return None
    entry = json.dumps({unscheduled[0]["key"]: {"original_filename": unscheduled[0]["filename"], "size_MB": 0.1}})
    starts = sorted(record["timestamp"] for record in unscheduled)
    answer = cloud(
        "PUT",
        "/api/jobs",
        {
            "device_id": settings["device_id"],
            "item_count": len(unscheduled),
            "item_average_size_bytes": len(entry),
            "cameras": cameras,
            "earliest_date": starts[0] + "+0000",
            "latest_date": starts[-1] + "+0000",
        },
    ).json()
    places = []
    for shard_id in sorted(answer["shard_map"], key=int):
        shard = answer["shard_map"][shard_id]
        places += [shard] * shard["item_count"]
    for record, shard in zip(unscheduled, places):
        record["job_id"] = answer["job_id"]
        record["shard_id"] = shard["shard_id"]
        record["upload_url"] = shard["upload_url"]
        db[record["key"]] = record
    db.sync()
    log("job %s", answer["job_id"])
    return answer["job_id"]


def register_jobs(self, db, jobs):
    for job_id, shard_id in jobs:
        rows = [row for row in db.values() if (row["job_id"], row["shard_id"]) == (job_id, shard_id)]
        hash_map = {row["key"]: {"original_filename": row["filename"], "size_MB": row["size"] / 1e6} for row in rows}
        answer = cloud(
            "PUT",
            rows[0]["upload_url"],
            {"job_id": job_id, "shard_id": shard_id, "item_count": len(hash_map), "hash_map": hash_map},
        )
        if answer.status_code not in (200, 204):
            return False
    return True
