"""The command `live`: newest frames on a local page that nobody else can see, tested with a file, a stream and in a browser."""

import re
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from browser import chromium
from live_data import GRAY, NOSES, SCORES, SIZE, Client, TwoPeople, keypoints_at, serving, write_network, write_video

from evaluator.__main__ import COMMANDS
from evaluator.decoding import People
from evaluator.live import capture as capture_module
from evaluator.live import handler
from evaluator.live import server as server_module
from evaluator.live.inputs import parse_source
from evaluator.live.rates import WINDOW_S, Rate
from evaluator.live.server import LiveServer
from evaluator.tracking.tracker import Tracker
from pipeline.cli import main
from pipeline.skeletons import COCO18

ROOT = Path(__file__).parents[2]
PAGE = Path(server_module.__file__).parent / "page"


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("live") / "clip.avi")


def is_drawn(picture, person):
    """Whether a picture shows a person: its nose is not gray."""
    x, y = NOSES[person]
    return bool(np.abs(picture[y - 2 : y + 3, x - 2 : x + 3].astype(int) - GRAY).max() > 60)


def test_frames_arrive_and_the_threshold_changes_what_is_drawn(video, monkeypatch):
    before = {thread.name for thread in threading.enumerate()}
    predictor = TwoPeople()
    with serving(video, predictor, loop=True) as page:
        headers, picture = page.frame()
        assert picture.shape == (SIZE[1], SIZE[0], 3) and is_drawn(picture, 0) and is_drawn(picture, 1)
        later, _ = page.frame(headers["X-Version"])
        assert int(later["X-Version"]) > int(headers["X-Version"]) and int(later["X-Frame"]) > int(headers["X-Frame"])
        assert 0 <= float(later["X-Age-Ms"]) < 5000 and float(later["X-Waited-Ms"]) >= 0

        predictor.may_answer.clear()  # a threshold is applied to the picture that is shown, and does not wait for the network
        time.sleep(0.1)
        version = page.frame()[0]["X-Version"]
        assert page.set_min_score(0.8) == 200
        headers, picture = page.frame(version)
        assert is_drawn(picture, 0) and not is_drawn(picture, 1)
        facts = page.status()
        assert (facts["min_score"], facts["num_people"], facts["num_drawn"]) == (0.8, 2, 1)
        assert [(each["id"], each["score"], each["drawn"]) for each in facts["people"]] == [
            (1, SCORES[0], True),
            (2, SCORES[1], False),
        ]
        monkeypatch.setattr(handler, "WAIT_S", 0.3)
        assert page.ask(f"frame?after={headers['X-Version']}")[0] == 204, "no other frame for a while"
        predictor.may_answer.set()
        monkeypatch.undo()
        assert not is_drawn(page.frame(headers["X-Version"])[1], 1), "later frames have the threshold, too"
    left = {thread.name for thread in threading.enumerate()} - before
    assert not {name for name in left if name in ("capture", "server")}


def test_frames_are_dropped_and_not_queued(video, capsys):
    delay_s = 0.15
    with serving(video, TwoPeople(delay_s), min_score=1) as page:
        facts = page.wait_for(lambda facts: facts["num_analyzed"] >= 4)
        assert facts["num_dropped"] > 2 * facts["num_analyzed"], "40 frames/s arrive, at most 7 are analyzed"
        # Each frame is dropped, analyzed, under way, or the next one.
        assert 0 <= facts["num_captured"] - facts["num_dropped"] - facts["num_analyzed"] <= 2
        assert 1000 * delay_s <= facts["latency_ms"] <= facts["largest_latency_ms"] < 1500
        assert facts["fps"] < 1 / delay_s and facts["fps"] < facts["source_fps"] < 60
        assert int(page.frame()[0]["X-Frame"]) > 2 * facts["num_analyzed"], "the newest one, not the next one"
        while page.status()["state"] != "ended":
            time.sleep(0.02)
        page.wait_for(lambda facts: facts["num_analyzed"] + facts["num_dropped"] == 40)
    printed = capsys.readouterr().out
    [analyzed, dropped] = map(int, re.search(r"ended; (\d+) frames analyzed, (\d+) dropped", printed).groups())
    assert analyzed + dropped == 40, "the last frame of a file is never lost"


def test_only_the_page_of_this_server_gets_pictures(video):
    with serving(video, TwoPeople(), loop=True) as page:
        assert page.ask("frame")[0] == page.ask("status")[0] == page.set_min_score(1) == 200
        port = page.address.split(":")[-1].strip("/")
        for host in (f"localhost:{port}", "127.0.0.1", f"[::1]:{port}"):
            assert page.ask("status", Host=host)[0] == 200
        for host in ("evil.example", f"evil.example:{port}", "10.0.0.1", "localhost.evil.example", "[", ""):
            for path in ("", "live.js", "frame", "status"):
                assert page.ask(path, Host=host)[0] == 403, "DNS rebinding"
            assert page.set_min_score(0.7, Host=host) == 403
        for origin in ("http://evil.example", "null", f"http://localhost.evil.example:{port}"):
            assert page.set_min_score(0.7, Origin=origin) == 403 == page.ask("frame", Origin=origin)[0]
        assert page.set_min_score(1, Origin=page.address.rstrip("/")) == 200
        for token in (None, "Bearer ", "Bearer wrong", "Basic x", "Bearer \xff"):
            assert page.ask("frame", Authorization=token)[0] == page.ask("status", Authorization=token)[0] == 401
            assert page.set_min_score(0.7, Authorization=token) == 401 and page.ask("", Authorization=token)[0] == 200
        assert page.set_min_score(0.7, **{"Content-Type": "text/plain"}) == 415, "as a form of another site sends it"
        for path in ("../setup.cfg", "live.html", "%2e%2e/server.py", "/etc/passwd", "page/live.js", "threshold"):
            assert page.ask(path)[0] == 404, path
        for body in (
            b"",
            b"x",
            b"{}",
            b'{"min_score": NaN}',
            b'{"min_score": -1}',
            b'{"min_score": 1.5}',
            b'{"min_score": "3"}',
            b" " * 2000,
        ):
            assert page.set_min_score(body) == 400, body
        assert page.ask("frame?after=-1")[0] == page.ask("frame?after=%C2%B2")[0] == 400
        assert page.status()["min_score"] == 1
        _, headers, _ = page.ask("")
        assert "default-src 'none'" in headers["Content-Security-Policy"] and headers["Cache-Control"] == "no-store"
        assert "Python" not in headers["Server"] and "Access-Control-Allow-Origin" not in headers


def test_the_page_loads_nothing_from_elsewhere_and_has_all_elements_that_its_script_uses():
    texts = {path.suffix: path.read_text() for path in PAGE.iterdir()}
    assert set(texts) == {".html", ".css", ".js"}
    assert not any(re.search(r"https?:|//[a-z]|@import", re.sub(r"(?m)^\s*//.*$", "", text)) for text in texts.values())
    used = set(re.findall(r'\$\("([^"]+)"\)', texts[".js"]))
    assert used and used <= set(re.findall(r'id="([^"]+)"', texts[".html"]))


def test_the_server_is_bound_to_this_machine_unless_asked(capsys):
    with LiveServer("127.0.0.1", 0, token=False) as server:
        port = server.server_port
        assert server.is_local and server.page_address() == f"http://127.0.0.1:{port}/"
        arguments = ["live", "none.mp4", "--checkpoint", "none", "--port", str(port)]
        assert main("python -m evaluator", "", COMMANDS, arguments) == 1
        assert f"--port {port}: is used by another program; choose another one, or 0" in capsys.readouterr().err
    with LiveServer("0.0.0.0", 0, token=True) as server:
        assert not server.is_local and server.page_address().startswith(f"http://{socket.gethostname()}:")
        assert server.accepts_host("192.168.1.5:8000") and server.accepts_host(socket.gethostname())
        assert not server.accepts_host("evil.example")
        assert Client(server).headers["Authorization"] != "Bearer "


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["7"], "camera 7: cannot be opened; this machine has"),
        (["none.mp4"], "video none.mp4: No such file or directory"),
        ([str(ROOT / "setup.cfg")], "cannot be opened; it is not a video that OpenCV can decode"),
        (["ftp://me:secret@host/x"], "source ftp://host/x: not an address of a stream; use rtsp,"),
        (["rtsp://me:secret@127.0.0.1:9/x?key=secret"], "stream rtsp://127.0.0.1:9/x: cannot be opened; check address, password"),
        (["0", "--loop"], "--loop: only a video file ends and can begin again"),
        (["x.mp4", "--host", "192.0.2.1"], "--host 192.0.2.1: not an address of this machine"),
    ],
)
def test_a_source_that_cannot_be_used_is_named(words, reason, capfd):
    assert main("python -m evaluator", "", COMMANDS, ["live", *words, "--checkpoint", "none.onnx", "--port", "0"]) == 1
    error = capfd.readouterr().err
    assert reason in error and "Traceback" not in error and "secret" not in error


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("0", "is_camera", "camera 0"),
        ("/dev/video2", "is_camera", "camera 2"),
        ("./0", "is_file", "video ./0"),
        ("RTSP://a:p@ss/w@host:554/live?x=1", "is_stream", "stream RTSP://host:554/live"),
        ("http://host/@", "is_stream", "stream http://"),
    ],
)
def test_kinds_of_sources(text, kind, name):
    source = parse_source(text)
    assert getattr(source, kind) and sum((source.is_camera, source.is_file, source.is_stream)) == 1 and source.name == name


class Stream(BaseHTTPRequestHandler):
    """Sends frames as an IP camera does, and breaks off the connection after 8."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        jpeg = cv2.imencode(".jpg", np.full((SIZE[1], SIZE[0], 3), GRAY, np.uint8))[1].tobytes()
        for _ in range(8):
            self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(jpeg), jpeg))
            time.sleep(0.02)

    def log_message(self, *args):
        pass


def test_a_stream_that_breaks_off_is_opened_again(monkeypatch, capfd):
    monkeypatch.setattr(capture_module, "RETRY_S", 0.3)
    with ThreadingHTTPServer(("127.0.0.1", 0), Stream) as camera:
        threading.Thread(target=camera.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        with serving(f"http://127.0.0.1:{camera.server_port}/cam.mjpg", TwoPeople()) as page:
            page.wait_for(lambda facts: facts["state"] == "reconnecting")
            assert page.ask("frame")[0] == 200, "the last picture stays"
            page.wait_for(lambda facts: facts["state"] == "running" and facts["num_captured"] > 8)
        camera.shutdown()
    error = capfd.readouterr().err
    assert "cam.mjpg: connection lost; trying again" in error and "cam.mjpg: connected again" in error


def test_rates_are_those_of_the_last_seconds():
    rate = Rate()
    assert rate.per_s(5.0) == 0 and rate.median_and_largest(5.0) is None
    for number in range(40):
        rate.add(10 + number / 10, number)
    assert rate.per_s(13.9) == pytest.approx(10) and rate.median_and_largest(13.9) == (29.5, 39)
    assert rate.per_s(13.9 + WINDOW_S / 2) == pytest.approx(5), "frames that no longer arrive lower the rate at once"
    assert rate.per_s(20) == 0 and rate.median_and_largest(20) is None
    start = Rate()
    for number in range(11):
        start.add(number / 10)
    assert start.per_s(1.0) == pytest.approx(10), "not too high at the start"


def test_dropped_frames_count_as_time_for_identities():
    """A person who runs is recognized if one frame in six is analyzed; the tracker is as if it had seen nobody in the others."""

    def at(x):
        return People(keypoints=keypoints_at(x, 30)[None], scores=np.array([9.0], np.float32))

    nobody = People(keypoints=np.zeros((0, 18, 3), np.float32), scores=np.zeros(0, np.float32))
    sparse, dense = Tracker(COCO18, 30.0), Tracker(COCO18, 30.0)
    for frame in range(0, 60, 6):
        if frame:
            for _ in range(5):
                dense.update(nobody)
        assert sparse.update(at(100 + 8 * frame), 6).tolist() == dense.update(at(100 + 8 * frame)).tolist() == [1]
    assert sparse.update(at(100), 10**6).tolist() != [1], "nobody is remembered for hours"


@pytest.mark.slow
def test_the_command_ends_at_ctrl_c_and_leaves_nothing(video, tmp_path):
    network = write_network(tmp_path / "net.onnx")
    words = ["live", str(video), "--checkpoint", str(network), "--port", "0", "--loop", "--host", "0.0.0.0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "evaluator", *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        address = re.search(r"open (http://\S+) in a browser", "".join(process.stdout.readline() for _ in range(3)))[1]
        server = type("Printed", (), {"page_address": lambda: re.sub(r"//[^/:]+", "//127.0.0.1", address)})
        headers, picture = Client(server).frame()
        assert picture.shape == (SIZE[1], SIZE[0], 3) and int(headers["X-Frame"]) >= 1
        children = psutil.Process(process.pid).children(recursive=True)
        start_s = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=20)
        assert time.monotonic() - start_s < 3
    finally:
        process.kill()
    assert process.returncode == 130 and re.search(r"stopped by Ctrl-C; [\d,]+ frames? analyzed, [\d,]+ dropped\n$", error)
    assert "warning: --host 0.0.0.0: the page is not encrypted, and everybody on the network who has" in error
    assert not children and "Traceback" not in error


CONTRAST = """
const number = (color) => color.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
function ground(node) {
  for (; node; node = node.parentElement) {
    const color = number(getComputedStyle(node).backgroundColor);
    if (color.length === 3 || color[3] === 1) return color;
  }
  return [255, 255, 255];
}
return [...document.querySelectorAll("h1, h2, p, label, input, button, dt, dd, dd b, th, td")]
  .filter((node) => node.offsetParent && (node.textContent.trim() || node.type === "number"))
  .map((node) => {
    const both = [light(number(getComputedStyle(node).color)), light(ground(node))].sort((a, b) => b - a);
    return [(both[0] + 0.05) / (both[1] + 0.05), node.outerHTML.slice(0, 60)];
  });
"""


@pytest.mark.slow
def test_the_page_works_in_chromium(video):
    with chromium() as window, serving(video, TwoPeople(0.01), loop=True) as page:
        window.get(page.address + "#token=" + page.headers["Authorization"].split()[1])

        def wait_until(script):
            deadline_s = time.monotonic() + 15
            while not window.execute_script(f"return {script}"):
                assert time.monotonic() < deadline_s, script
                time.sleep(0.05)

        text = 'document.getElementById("{}").textContent'.format
        wait_until('document.getElementById("picture").naturalWidth === 320')
        wait_until(f'{text("drawn")} === "2" && Number({text("fps")}) > 0 && Number({text("screen-latency")}) > 0')
        assert window.execute_script(f"return {text('state')}") == "Running"
        # Colors of the second person's nose in the picture that is shown.
        window.execute_script(
            "window.nose = () => { const canvas = new OffscreenCanvas(320, 240).getContext('2d');"
            f"canvas.drawImage(document.getElementById('picture'), 0, 0); const at = canvas.getImageData({NOSES[1][0]}, {NOSES[1][1]}, 1, 1);"
            "return Math.max(...at.data.slice(0, 3)) - Math.min(...at.data.slice(0, 3)); }"
        )
        wait_until("window.nose() > 60")
        slider = window.find_element("id", "min-score")
        slider.send_keys("\ue010")  # End: the keyboard moves it to the highest score
        wait_until(f'{text("drawn")} === "0" && window.nose() < 30')
        assert page.status()["min_score"] == 1
        number = window.find_element("id", "min-score-number")
        number.clear()
        number.send_keys("0.55")
        page.wait_for(lambda facts: facts["min_score"] == 0.55)
        wait_until("window.nose() > 60")
        button = window.find_element("id", "pause")
        button.send_keys(" ")
        shown = window.find_element("id", "picture").get_dom_attribute("src")
        time.sleep(0.4)
        assert button.text == "Continue" and window.find_element("id", "picture").get_dom_attribute("src") == shown
        button.send_keys(" ")
        wait_until(f"document.getElementById('picture').src !== '{shown}'")
        unlabeled = "[...document.querySelectorAll('input, button, img')].filter(n => !(n.labels?.length || n.ariaLabel || n.alt || n.textContent))"
        assert window.execute_script(f"return {unlabeled}.length") == 0

        window.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
        )
        for scheme in ("light", "dark"):
            window.execute_cdp_cmd(
                "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
            )
            assert window.execute_script("return document.documentElement.scrollWidth") <= 390
            found = window.execute_script(CONTRAST)
            assert len(found) > 20 and min(found)[0] >= 4.5, min(found)
        names = window.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
        assert all(name.startswith((page.address, "blob:", "data:")) for name in names)
        assert window.get_log("browser") == []
