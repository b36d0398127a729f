"""The proposals of `check`: naming schemes of real recorders, and anything at all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from camio_import.defaults import DEFAULT_PATTERN
from camio_import.patterns import propose
from camio_import.regex_meta import PathPattern

NOW = datetime(2026, 1, 1, tzinfo=UTC)
STARTS = [datetime(2016, 10, 9, 0, 32, 27, tzinfo=UTC) + timedelta(minutes=17 * n) for n in range(24)]
EPOCH = "{epoch}"


def names(form: str, *cameras: str) -> list[str]:
    """One name for each start; cameras take turns. `form` uses strftime, and {camera} {epoch} {end} {n}."""
    made = []
    for n, start in enumerate(STARTS):
        filled = form.format(
            camera=cameras[n % len(cameras)] if cameras else "",
            epoch=int(start.timestamp()),
            end=f"{start + timedelta(minutes=10):%H.%M.%S}",
            n=n,
        )
        made.append(start.strftime(filled))
    return made


def best(relative_paths: list[str]):
    return propose(relative_paths, "vids", "/data/vids", now=NOW)[0]


@pytest.mark.parametrize(
    ("form", "cameras"),
    [
        ("{camera}-{epoch}.mp4", ["CAM_A", "CAM_B"]),
        ("{camera}-{epoch}.MP4", ["CAM_A", "CAM_B"]),
        ("{camera}-{epoch}.mp4", ["North-Gate", "North-Door"]),
        ("{camera}/%Y-%m-%d/%H-%M-%S.mp4", ["CAM_A", "CAM_B"]),
        ("{camera}/%Y/%m/%d/%H%M%S.mp4", ["CAM_A", "CAM_B"]),
        ("%Y%m%d/{camera}_%H%M%S.avi", ["deck", "stern"]),
        ("{camera}_%Y%m%d_%H%M%S.mp4", ["Port", "Starboard"]),
        ("%Y%m%d%H%M%S_{camera}.mp4", ["ch01", "ch02"]),
        ("%Y-%m-%dT%H_%M_%SZ-{camera}.mp4", ["CamA", "CamB"]),
        ("{camera}_%Y%m%d%H%M%S000.mp4", ["192.168.1.64_01", "192.168.1.64_02"]),
        ("%Y-%m-%d/{camera}/dav/%H/%H.%M.%S-{end}[M][0@0][0].mp4", ["001", "002"]),
        ("{camera}_%Y%m%d%H%M%S.mp4", ["Cam1_00", "Cam1_01"]),
        ("{camera} %Y-%m-%d %H.%M.%S.mp4", ["Camera 1 (10.0.0.5)", "Camera 2 (10.0.0.5)"]),
        ("{camera}/%Y%m%d/%H/%Y%m%d_%H%M%S_{n:04x}.mp4", ["axis-ACCC8E000000", "axis-ACCC8E000001"]),
        ("{camera} %d-%m-%Y %H.%M.%S.mp4", ["Süd", "Nörd 2"]),
        ("{camera} %Y-%m-%d %I.%M.%S %p.mp4", ["Deck cam 1", "Deck cam 2"]),
        ("{camera}/VID_%Y%m%d_%H%M%S.mp4", ["boat1", "boat2"]),
        ("{camera}-{epoch}_{n}.mp4", ["cam1", "cam2"]),
        ("VID_%Y%m%d_%H%M%S.mp4", ["vids"]),
        ("日本 {camera}_%Y%m%d_%H%M%S.mp4", []),
    ],
)
def test_schemes_of_recorders(form, cameras):
    found = names(form, *cameras)
    proposal = best(found)
    assert (proposal.matched, proposal.total) == (len(found), len(found)), proposal
    pattern = PathPattern(proposal.pattern)
    readings = [pattern.read("vids", "/data/vids", name) for name in found]
    assert [reading.starts_at for reading in readings] == STARTS, proposal
    if cameras:
        expected = [cameras[n % len(cameras)] for n in range(len(found))]
        assert [reading.camera_name for reading in readings] == expected, proposal


@pytest.mark.parametrize("camera", ["cam1", "cam2"])
def test_the_original_pattern_is_proposed_where_it_does(camera):
    found = names("cam1-site-{epoch}123.mp4") + names("cam2-site-{epoch}123.mp4")
    proposals = propose(found, "vids", "/data/vids", now=NOW)
    assert proposals[0].pattern == DEFAULT_PATTERN
    assert camera in {reading.camera_name for _, reading in proposals[0].examples}


@pytest.mark.parametrize(
    ("form", "cameras"),
    [("{camera}/DCIM/100GOPRO/GX01{n:04}.MP4", ["port", "stern"]), ("GX01{n:04}.MP4", ["vids"])],
)
def test_names_without_time_take_the_camera_from_a_folder(form, cameras):
    proposal = best(names(form, *cameras))
    assert proposal.matched == proposal.total == len(STARTS)
    assert {reading.camera_name for _, reading in proposal.examples} == set(cameras)
    assert all(reading.starts_at is None for _, reading in proposal.examples)
    assert "inside the videos" in proposal.explanation


def test_a_date_that_can_be_read_in_two_ways_is_proposed_in_both_with_a_caution():
    proposals = propose(names("A %d-%m-%Y %H.%M.%S.mp4"), "vids", "/data/vids", now=NOW)
    assert {proposal.examples[0][1].starts_at.month for proposal in proposals[:2]} == {9, 10}
    assert all("two ways" in proposal.explanation for proposal in proposals[:2])


def test_days_above_twelve_settle_the_order():
    found = [*names("A %d-%m-%Y %H.%M.%S.mp4"), "A 25-10-2016 00.32.27.mp4"]
    assert best(found).matched == len(found)
    assert "(?P<day>" in best(found).pattern.split("(?P<month>")[0]


def test_names_that_do_not_fit_are_counted():
    found = [*names("{camera}-{epoch}.mp4", "CAM_A", "CAM_B"), "notes.mp4", "sub/trailer.mp4"]
    assert (best(found).matched, best(found).total) == (len(found) - 2, len(found))


def test_two_schemes_in_one_folder_are_both_proposed():
    found = names("{camera}-{epoch}.mp4", "CAM_A", "CAM_B") + names("Port_%Y%m%d_%H%M%S.mp4")
    proposals = propose(found, "vids", "/data/vids", now=NOW)
    assert [proposal.matched for proposal in proposals[:2]] == [len(STARTS), len(STARTS)]
    assert {proposals[0].examples[0][0], proposals[1].examples[0][0]} == {found[0], found[len(STARTS)]}


def test_local_times_are_explained():
    assert "--timezone" in best(names("Port_%Y%m%d_%H%M%S.mp4")).explanation
    assert "--timezone" not in best(names("Port-{epoch}.mp4")).explanation


def test_many_names_are_sampled():
    found = [f"CAM_{n % 4}-{1475973147 + n}.mp4" for n in range(20_000)]
    proposal = best(found)
    assert proposal.matched == proposal.total == 200
    assert len({reading.camera_name for _, reading in proposal.examples}) == 3


@pytest.mark.parametrize("found", [[], [""], ["a"], [".mp4"], ["a/"], ["a.mp4"], ["\udcff/\n.mp4"]])
def test_little_to_go_by(found):
    for proposal in propose(found, "vids", "/data/vids", now=NOW):
        assert proposal.matched <= proposal.total == len(found)


PIECES = st.sampled_from(
    ["CAM_A", "20161009", "2016-10-09", "003227", "00.32.27", "1475973147", "-", "_", " ", "/", "[M]", "$HOME", "!",
     '"', "`x`", "%PATH%", "\\", "ü", "\udcff", "\n", "99", "AM", "Z", "T", ".mp4", ".avi"]
)  # fmt: skip


@given(st.lists(st.lists(PIECES, max_size=9).map("".join), max_size=6))
@settings(max_examples=150, deadline=None)
def test_every_proposal_is_true_and_can_be_pasted(found):
    proposals = propose(found, "vids", "/data/vids", now=NOW)
    assert len(proposals) <= 5
    for proposal in proposals:
        assert not set(proposal.pattern) & set('$`!"%\n'), proposal.pattern
        assert "\\\\" not in proposal.pattern
        assert proposal.pattern.startswith(".*/")
        assert proposal.pattern.isprintable()
        assert 0 < proposal.matched <= proposal.total
        assert proposal.examples
        pattern = PathPattern(proposal.pattern)
        for name, reading in proposal.examples:
            assert pattern.read("vids", "/data/vids", name) == reading
        assert sum(not hasattr(pattern.read("vids", "/data/vids", n), "reason") for n in found) == proposal.matched
