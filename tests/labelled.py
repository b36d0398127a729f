"""Jobs with labels for the tests: in a Box, and as the service's answers."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from harness import TOKEN, Bench, SkippingClock

from camio_import.account import Account, JobInfo
from camio_import.box import Fault
from camio_import.cloud import Cloud
from camio_import.retry import Backoff
from camio_import.workers import StopRequest

FIRST = datetime(2016, 10, 9, 5, 0, tzinfo=UTC)
LAST = FIRST + timedelta(hours=1)
CAMERAS = {"CAM_A": "id-a", "CAM_B": "id-b"}


def job(**changes: Any) -> JobInfo:
    """A job of an hour and two cameras."""
    fields: dict[str, Any] = {
        "job_id": "job1", "status": "complete", "item_count": 2, "shards": (), "earliest": FIRST, "latest": LAST,
        "cameras": CAMERAS, "raw": {}, **changes,
    }  # fmt: skip
    return JobInfo(**fields)


def written(moment: datetime) -> str:
    """As the service writes it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}-0000"


def after(seconds: float) -> datetime:
    return FIRST + timedelta(seconds=seconds)


def image(seconds: float, *labels: str, source: str = "CAM_A", **changes: Any) -> dict[str, Any]:
    """An image of the service's answer, `seconds` after `FIRST`."""
    return {"date_created": written(after(seconds)), "source": source, "labels": list(labels), **changes}


def answer(*images: Any, considered: float | str | None = None, more: bool = False) -> dict[str, Any]:
    """One page of the service; `considered` in seconds after `FIRST`, or as the service wrote it."""
    result: dict[str, Any] = {"buckets": [{"bucket_id": "1", "images": list(images)}], "more_results": more}
    if considered is not None:
        result["latest_date_considered"] = (
            considered if isinstance(considered, str) else written(after(considered))
        )  # fmt: skip
    return {"result": result}


def answers(bench: Bench, *pages: Any) -> None:
    """The Box answers the next searches so."""
    for page in pages:
        body = page if isinstance(page, bytes) else json.dumps(page).encode()
        bench.box.faults.add(Fault(on="search", status=200, body=body, headers={"Content-Type": "application/json"}))


def account(bench: Bench, *, clock: SkippingClock | None = None, said: list[str] | None = None) -> Account:
    """The Box's account, asked without any real wait."""
    cloud = Cloud.of({"access_token": TOKEN, "api_url": bench.box.url}, {})
    return Account(
        cloud, clock=clock or SkippingClock(), stop=StopRequest(), say=(said if said is not None else []).append,
        backoff=lambda: Backoff(rng=random.Random(1)),
    )  # fmt: skip


def imported(bench: Bench, clips: int, *, cameras: Sequence[str] = ("CAM_A",)) -> str:
    """Import so many clips into the Box; returns the job's id."""
    bench.clips(clips, cameras=cameras)
    bench.run(pattern=r".*/(?P<camera>[\w ]+?)\-(?P<epoch>\d+)\.mp4").must(0)
    return bench.box.jobs()[-1].job_id


def label_everything(bench: Bench, labels: Iterable[str] = ("human", "_ml_human"), *, offset_s: float = 0.1) -> int:
    """Give every content of the Box these labels; returns how many contents there are."""
    contents = bench.box.contents()
    for content in contents:
        bench.box.add_labels(content.sha1, labels, offset_s=offset_s)
    return len(contents)


def searches(bench: Bench) -> list[dict[str, str]]:
    """The queries of all searches that the Box was sent, in order."""
    return [record.query for record in bench.box.log.records() if record.call == "GET /api/search"]
