"""Camio's hook by itself: settings, and what it says when they cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from harness import TOKEN, Bench, sha1

from camio_import.box import EmbeddedBox, Fault
from camio_import.errors import BadAnswer, CredentialsRefused, RetryLater, Unreachable, UsageError
from camio_import.hooks import HookContext
from camio_import.hooks.camio import CamioHook, local_camera_id, make_hook
from camio_import.hooks.camio_settings import CameraSettings
from camio_import.model import Camera
from camio_import.transport import Answer


def hook_of(box: EmbeddedBox, *, host: str | None = "", **data: Any) -> CamioHook:
    settings = {"access_token": TOKEN, "api_url": box.url, **data}
    return CamioHook(HookContext(data=settings, host=box.host if host == "" else host, port=box.port))


def test_the_local_camera_id_is_that_of_the_protocol() -> None:
    assert local_camera_id("CAM_A") == "38ea723126c76c7ad2f2a2bedcd1ab3598fc936c"
    assert local_camera_id("Müritz") == sha1("Müritz".encode())


def test_that_no_plan_is_set_is_said_once_for_each_camera(box: EmbeddedBox, caplog: pytest.LogCaptureFixture) -> None:
    first, second = "CAM_SAID_ONCE", "CAM_SAID_LATER"  # of this test alone: it is once in a process
    for names in ([first], [first], [first, second]):
        hook = hook_of(box)
        hook.connect()
        hook.register_cameras(camera_names=names)
    said = [record.getMessage() for record in caplog.records if "No plan is set" in record.getMessage()]
    assert [first in text for text in said] == [True, False]
    assert [second in text for text in said] == [False, True]


# --- token and addresses ------------------------------------------------------------------------


@pytest.mark.parametrize("data", [{}, {"access_token": ""}, {"access_token": "  "}])
def test_no_token(data: dict[str, Any]) -> None:
    with pytest.raises(CredentialsRefused, match="no Camio access token") as caught:
        make_hook(context=HookContext(data=data))
    assert "CAMIO_OAUTH_TOKEN" in caught.value.next_step


def test_a_token_with_something_around_it_is_not_shown() -> None:
    with pytest.raises(CredentialsRefused) as caught:
        make_hook(context=HookContext(data={"access_token": f"{TOKEN} x"}))
    assert TOKEN not in str(caught.value) + caught.value.next_step


def test_the_token_of_the_hook_data_wins(box: EmbeddedBox) -> None:
    context = HookContext(
        data={"access_token": TOKEN, "api_url": box.url},
        environment={"CAMIO_OAUTH_TOKEN": "another"},
        port=box.port,
    )
    CamioHook(context).connect()
    assert {record.headers.get("authorization") for record in box.log.records()} == {f"token {TOKEN}", None}


@pytest.mark.parametrize(
    ("data", "url"),
    [
        ({}, "https://www.camio.com"),
        ({"test": True}, "https://test.camio.com"),
        ({"test": "true"}, "https://www.camio.com"),
        ({"api_url": "https://api.example/x/y?z"}, "https://api.example"),
        ({"api_url": "http://127.0.0.1:9/"}, "http://127.0.0.1:9"),
    ],
)
def test_the_cloud(data: dict[str, Any], url: str) -> None:
    assert CamioHook(HookContext(data={"access_token": TOKEN, **data}))._cloud.base_url == url


@pytest.mark.parametrize("url", ["http://www.camio.com", "http://127.evil.example", "ftp://x", "camio.com", "https://"])
def test_addresses_to_which_no_token_is_sent(url: str) -> None:
    with pytest.raises(UsageError, match=r"not protected|not the address"):
        CamioHook(HookContext(data={"access_token": TOKEN, "api_url": url}))


@pytest.mark.parametrize("key", ["access_token", "api_url", "device_id", "ip_address"])
def test_settings_that_are_no_text(box: EmbeddedBox, key: str) -> None:
    with pytest.raises(UsageError, match=key):
        hook_of(box, host=None, **{key: 7}).connect()


def test_something_else_than_a_box_answers(box: EmbeddedBox) -> None:
    for body in (b"<html>", b"[]", b'"x"', b"{}"):
        box.faults.add(Fault(on="settings", status=200, body=body))
        with pytest.raises(BadAnswer, match="not a Camio Box"):
            hook_of(box).connect()


def test_an_account_whose_box_does_not_answer_is_asked_again(box: EmbeddedBox) -> None:
    hook = hook_of(box, host=None)
    box.faults.add(Fault(on="settings", reset_after_bytes=0, times=2))
    for _ in range(2):
        with pytest.raises(Unreachable) as caught:
            hook.connect()
        assert "switched on" in caught.value.next_step
    hook.connect()
    assert box.log.calls().count("GET /box/settings") == 3


@pytest.mark.parametrize("address", ["evil.example/x", "1.2.3.4@evil", "", 7, None])
def test_an_address_from_the_account_that_is_none(box: EmbeddedBox, address: Any) -> None:
    import json

    state = {"state": {"network_configuration_actual": {"ip_address": address}}}
    box.faults.add(Fault(on="devices", status=200, body=json.dumps(state).encode()))
    with pytest.raises(UsageError, match="does not know the address"):
        hook_of(box, host=None, device_id="BOX1").connect()


def test_the_box_s_secret_is_not_quoted(bench: Bench) -> None:
    (path,) = bench.clips(1)
    bench.box.faults.add(Fault(status=415, body=b"no access for access_token=BOX1 here"))
    bench.run().must(3)
    (row,) = bench.rows("SELECT detail FROM file")
    assert "BOX1" not in row["detail"] and "no access" in row["detail"]
    assert path.name in bench.states()


def test_a_busy_cloud_says_when_to_come_back(box: EmbeddedBox) -> None:
    hook = hook_of(box)
    hook.connect()
    box.faults.next_answers(429, on="cameras", retry_after=9)
    with pytest.raises(RetryLater) as caught:
        hook.register_cameras(camera_names=["CAM_A"])
    assert (caught.value.retry_after_s, caught.value.busy) == (9.0, True)


def test_cameras_come_with_the_config_of_the_service(box: EmbeddedBox) -> None:
    hook = hook_of(box)
    hook.connect()
    cameras = hook.register_cameras(camera_names=["CAM_A"])
    (stored,) = box.cameras()
    assert cameras == {"CAM_A": Camera("CAM_A", stored.camera_id, dict(stored.config))}


@pytest.mark.parametrize("answer", [b"[]", b"7", b"null"])
def test_a_list_of_cameras_that_is_none(box: EmbeddedBox, answer: bytes) -> None:
    hook = hook_of(box)
    hook.connect()
    box.faults.add(Fault(on=lambda info: info.call == "cameras" and info.method == "GET", status=200, body=answer))
    with pytest.raises(BadAnswer):
        hook.register_cameras(camera_names=["CAM_A"])


# --- plans and image sizes ------------------------------------------------------------------------


def test_a_value_of_the_camera_wins_over_the_global_one() -> None:
    settings = CameraSettings(
        {"plan": "basic", "img_x_size": 640, "cameras": {"A": {"plan": "PRO", "img_y_size": 480}}}
    )
    assert settings.values_for("A")["plan"]["options"][0]["value"] == "PRO"
    assert set(settings.values_for("A")) == {"plan", "img_x_size", "img_y_size"}
    assert settings.values_for("B")["plan"]["options"][0]["value"] == "BASIC"
    assert set(settings.values_for("B")) == {"plan", "img_x_size"}
    assert settings.cameras_without_plan(["A", "B"]) == []
    assert CameraSettings({"cameras": {"A": {"plan": "pro"}}}).cameras_without_plan(["A", "B"]) == ["B"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"plan": "gold"}, "gold"),
        ({"cameras": {"A": {"plan": "gold"}}}, "of the camera “A”"),
        ({"cameras": ["A"]}, "not a table"),
        ({"cameras": {"A": "pro"}}, "not a table"),
        ({"img_x_size": "1280"}, "'1280'"),
        ({"img_x_size": True}, "True"),
        ({"img_y_size_cover": 0}, "img_y_size_cover"),
        ({"cameras": {"A": {"img_y_size_extraction": 1.5}}}, "of the camera “A”"),
        ({"access_token": 7}, "access_token"),
        ({"plan": "pro", "Plan": "basic"}, "both “Plan” and “plan”"),
        ({"cameras": {"A": {"IMG_X_SIZE": 1, "img_x_size": 2}}}, "of the camera “A”"),
    ],
)
def test_settings_that_cannot_be_used_are_named(data: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        CameraSettings(data)
    assert caught.value.next_step


@pytest.mark.parametrize(
    ("data", "warnings"),
    [
        ({"img_y_size_extraction": 480, "img_y_size": 1080}, 1),
        ({"img_y_size_extraction": 480, "img_y_size_cover": 720}, 1),
        ({"img_y_size_extraction": 1080, "img_y_size": 1080}, 0),
        ({"img_y_size": 1080}, 0),
        ({"img_y_size": 1080, "cameras": {"A": {"img_y_size_extraction": 480}}}, 1),
    ],
)
def test_the_user_is_told_when_camio_will_raise_a_height(data: dict[str, Any], warnings: int) -> None:
    assert len(CameraSettings(data).warnings) == warnings


SEED_HOOK_DATA = {
    "plan": "plus",
    "cameras": {
        name: {
            "plan": "pro", "img_y_size_extraction": 1080, "img_x_size_cover": 1920, "img_y_size_cover": 1080,
            "img_x_size": 1280, "img_y_size": 720,
        }
        for name in ("camera_name_1", "camera_name_2")
    },
    "img_y_size_extraction": 1080, "img_x_size_cover": 1920, "img_y_size_cover": 1080,
}  # fmt: skip
"""The structure that the seed document describes."""

EVERY_TEXT = {
    "access_token": "x",
    "device_id": "x",
    "ip_address": "1.2.3.4",
    "api_url": "http://127.0.0.1",
    "test": True,
}
SAMPLE = Path(__file__).parent.parent / "examples" / "batch_import" / "samples" / "sample_hook_data.json"


@pytest.mark.parametrize("data", [{}, SEED_HOOK_DATA, EVERY_TEXT, json.loads(SAMPLE.read_text("utf-8"))])
def test_settings_that_there_are_need_no_warning(data: dict[str, Any]) -> None:
    assert CameraSettings(data).warnings == []


@pytest.mark.parametrize(
    ("data", "warnings"),
    [
        ({"plam": "pro"}, ["Hook data: “plam” is no setting of Camio, and is not used; is “plan” meant?"]),
        ({"Plan": "pro"}, ["Hook data: “Plan” is no setting of Camio, and is not used; is “plan” meant?"]),
        (
            {"camera": {"A": {}}},
            ["Hook data: “camera” is no setting of Camio, and is not used; is “cameras” meant?"],
        ),
        ({"ours": 1}, ["Hook data: “ours” is not used."]),
        ({"ours": 1, "theirs": {}}, ["Hook data: “ours”, “theirs” are not used."]),
        (
            {"cameras": {"A": {"plann": "pro", "ip_address": "x"}}},
            [
                "Hook data: “plann” of the camera “A” is no setting of Camio, and is not used; is “plan” meant?",
                "Hook data: “ip_address” of the camera “A” is not used.",
            ],
        ),
        ({"\x1b[31m": 1}, ["Hook data: “\\x1b[31m” is not used."]),
    ],
)
def test_a_key_that_is_no_setting_is_told_of(data: dict[str, Any], warnings: list[str]) -> None:
    assert CameraSettings(data).warnings == warnings


def test_the_hook_says_which_keys_it_does_not_use(box: EmbeddedBox, caplog: pytest.LogCaptureFixture) -> None:
    hook_of(box, plam="pro")
    assert "is “plan” meant?" in caplog.text


@pytest.mark.parametrize(
    ("settings", "registered", "meant"),
    [
        (["CAM-A"], ["CAM_A"], "CAM_A"),
        (["cam a"], ["CAM_B", "CAM_A"], "CAM_A"),
        (["starbord"], ["port", "starboard"], "starboard"),
        (["deck7"], ["Deck 07"], "Deck 07"),
        (["CAMA"], ["CAM_A"], "CAM_A"),
        (["CAM_B"], ["CAM_A"], None),
        (["camera_2"], ["camera_1", "camera_22"], None),
        (["stern"], ["CAM_A"], None),
    ],
)
def test_settings_for_a_camera_that_there_is_not(settings: list[str], registered: list[str], meant: str | None) -> None:
    of_cameras = CameraSettings({"plan": "pro", "cameras": {name: {"plan": "basic"} for name in settings}})
    told: set[tuple[str, str | None]] = set()
    (warning,) = of_cameras.warnings_about_names(registered, told)
    assert f"“{settings[0]}”, from which there is nothing to send now" in warning
    assert ("Is it the same camera?" in warning) == (meant is not None)
    assert f"“{meant or registered[0]}”" in warning
    assert of_cameras.warnings_about_names(registered, told) == [], "it is said once"


def test_settings_for_many_cameras_need_no_warning_when_each_has_its_own() -> None:
    settings = CameraSettings({"cameras": {name: {"plan": "pro"} for name in ("CAM_A", "CAM_B", "CAM-B")}})
    assert settings.warnings_about_names(["CAM_A"], set()) == []
    assert CameraSettings({"plan": "pro"}).warnings_about_names(["CAM_A"], set()) == []


def test_a_watch_says_so_when_the_camera_comes() -> None:
    settings, told = CameraSettings({"cameras": {"Aft-1": {}, "Bow 1": {}}}), set[tuple[str, str | None]]()
    assert len(settings.warnings_about_names(["CAM_A"], told)) == 1
    (warning,) = settings.warnings_about_names(["CAM_A", "Bow 1", "AFT_1"], told)
    assert "“Aft-1”" in warning and "“AFT_1”" in warning


def test_the_hook_says_that_a_plan_is_another_cameras(box: EmbeddedBox, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):  # a watch that begins anew
        hook = hook_of(box, plan="pro", cameras={"CAM-OF-THIS-TEST": {"plan": "basic"}})
        hook.connect()
        hook.register_cameras(camera_names=["CAM_OF_THIS_TEST"])
    (said,) = [text for record in caplog.records if "CAM-OF-THIS-TEST" in (text := record.getMessage())]
    assert "none for “CAM_OF_THIS_TEST”" in said


# --- answers that are no Box's ---------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b" \n", b"{}", b'"ok"'])
def test_answers_that_are_success(bench: Bench, body: bytes) -> None:
    bench.clips(1)
    bench.box.faults.add(Fault(status=200, body=body))
    assert bench.run().must(0).summary.uploaded == 1
    assert len(bench.box.log.posts()) == 1


def test_a_page_to_log_in_is_no_success(bench: Bench) -> None:
    bench.clips(30)
    bench.box.faults.add(Fault(status=200, body=b"<html>Log in</html>", times=None))
    ran = bench.run().must(5)
    assert (ran.summary.uploaded, ran.summary.pending) == (0, 30)
    assert "Log in" in ran.summary.stopped_because
    assert "Check the address" in ran.summary.next_step
    assert len(bench.box.log.posts()) < 15
    bench.box.faults.clear()
    bench.run().must(0)
    bench.assert_accounted()


def test_a_single_strange_answer_costs_one_more_try(bench: Bench) -> None:
    bench.clips(3)
    bench.box.faults.add(Fault(status=200, body=b"<html>"))
    bench.run().must(0)
    bench.assert_accounted()


@pytest.mark.parametrize("status", [401, 404, 405, 500, 501])
def test_what_was_never_known_to_be_a_box_is_not_waited_for(bench: Bench, status: int) -> None:
    """A router or a network drive at the address: it knows no settings, and answers all else with pages."""
    bench.clips(2)
    page = b"<!DOCTYPE HTML>\n<html><title>Error</title>No such page</html>"
    html = {"Content-Type": "text/html"}
    bench.box.faults.add(Fault(on="settings", status=404, body=page, headers=html, times=None))
    bench.box.faults.add(Fault(status=status, body=page, headers=html, times=None))
    ran = bench.run(data={"device_id": "BOX1"}).must(5)
    assert ran.seconds < 60
    assert "Check the address" in ran.summary.next_step
    assert ran.summary.pending == 2
    bench.box.faults.clear()
    bench.run().must(0)
    bench.assert_accounted()


def test_an_older_box_that_is_busy_is_waited_for_though_its_server_says_so_with_a_page(bench: Bench) -> None:
    bench.clips(8)
    page = {"body": b"<html>come back later</html>", "headers": {"Content-Type": "text/html", "Retry-After": "30"}}
    bench.box.faults.add(Fault(on="settings", status=404, times=None))
    bench.box.faults.add(Fault(status=503, times=6, **page))
    bench.box.faults.add(Fault(status=502, times=6, body=b"<html>Bad Gateway</html>"))
    bench.run(data={"device_id": "BOX1"}).must(0)
    bench.assert_accounted()


def test_an_older_box_that_has_taken_a_clip_is_known_also_after_it_was_looked_for_again(bench: Bench) -> None:
    bench.box.faults.add(Fault(on="settings", status=404, times=None))
    hook = hook_of(bench.box, device_id="BOX1")
    page = Answer(500, {"Content-Type": "text/html"}, b"<html>trouble</html>")
    hook.connect()
    with pytest.raises(RetryLater, match="with a web page"):
        hook._raise_for_box(page)
    hook._raise_for_box(Answer(204, {}, b""))
    hook.connect()
    with pytest.raises(RetryLater, match="answered the file with 500"):
        hook._raise_for_box(page)
    hook.close()


def test_a_box_that_is_known_may_answer_with_pages_while_it_is_in_trouble(bench: Bench) -> None:
    bench.clips(2)
    bench.box.faults.add(Fault(status=502, body=b"<html>Bad Gateway</html>", times=12))
    bench.run().must(0)
    bench.assert_accounted()


def test_a_server_that_does_not_know_what_a_post_is_has_no_jobs(bench: Bench) -> None:
    bench.clips(1)
    bench.box.faults.add(Fault(on="jobs", status=501, times=None))
    ran = bench.run().must(5)
    assert "501" in ran.summary.stopped_because
    assert "Check the address" in ran.summary.next_step
