"""A model as a judge, against a server of this process: both orders, ties, retries, going on, and a key kept secret."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.ssd.study.conftest import make
from threestudio_ssd.study.judge import ATTEMPTS, _Failed, _number
from threestudio_ssd.study.votes import read_votes

SECRET = "sk-very-secret"


class Server(ThreadingHTTPServer):
    """Answers as OpenAI's chat completions do; ``answer`` says what, of the request, or a status."""

    daemon_threads = True

    def __init__(self, answer):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer, self.requests, self.headers = answer, [], []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, body))
        self.server.headers.append(dict(self.headers))
        answer = self.server.answer(len(self.server.requests), body)
        if isinstance(answer, int):
            self.send_response(answer)
            self.send_header("Location", "http://127.0.0.1:9/elsewhere")
            self.end_headers()
            self.wfile.write(f"no, {SECRET}".encode())
            return
        content = json.dumps({"choices": [{"message": {"content": answer}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


@pytest.fixture
def serve():
    servers = []

    def start(answer):
        servers.append(Server(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def judged(runs, out, server, *words):
    """Three runs of one edit: three pairs, two questions each, two orders each."""
    judge = (f"judge.url={server.url}", "judge.model=owner/vlm 2", "judge.wait=0", "judge.key_env=JUDGE_KEY")
    return make(runs[::2], out, "views=1", *judge, *words)


def images_of(body: dict) -> list[str]:
    return [part["image_url"]["url"] for part in body["messages"][0]["content"] if part["type"] == "image_url"]


def test_both_orders_are_asked_and_a_steady_judge_votes(runs, tmp_path, serve, monkeypatch, capfd):
    monkeypatch.setenv("JUDGE_KEY", SECRET)
    server = serve(lambda number, body: f"Reasons.\n{1 + (images_of(body)[1] > images_of(body)[2])}")
    assert judged(runs, tmp_path, server) == 0
    assert len(server.requests) == 3 * 2 * 2
    path, body = server.requests[0]
    assert path == "/v1/chat/completions"
    assert body["model"] == "owner/vlm 2"
    assert "a blue ball" in body["messages"][0]["content"][0]["text"]
    first, second = (images_of(server.requests[place][1]) for place in (0, 1))
    assert first[0] == second[0]
    assert first[1:] == second[1:][::-1]
    assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {SECRET}"}
    votes = read_votes(
        [str(tmp_path / "votes-judge-owner-vlm-2.csv")], json.loads((tmp_path / "study-key.json").read_text())
    )
    assert len(votes) == 6
    assert all(vote.method is not None and vote.is_of_judge for vote in votes)
    output = capfd.readouterr()
    written = "".join(path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file())
    assert SECRET not in output.out + output.err + written


def test_a_judge_that_goes_by_place_votes_ties(runs, tmp_path, serve, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", SECRET)
    assert judged(runs, tmp_path, serve(lambda number, body: "1")) == 0
    lines = (tmp_path / "votes-judge-owner-vlm-2.csv").read_text().splitlines()[1:]
    assert {line.rsplit(",")[-1] for line in lines} == {"tie"}


@pytest.mark.parametrize("status", [500, 429, 307])
def test_failures_are_tried_again_then_end_the_run_which_goes_on_later(
    runs, tmp_path, serve, monkeypatch, capfd, status
):
    monkeypatch.setenv("JUDGE_KEY", SECRET)
    server = serve(lambda number, body: status if number == 2 or number > 6 else "2")
    assert judged(runs, tmp_path, server) == 2
    assert len(server.requests) == 6 + ATTEMPTS
    message = capfd.readouterr().err
    assert f"failed {ATTEMPTS} times: HTTP {status} (no, ***)" in message
    assert "start the same command again: 2 of 6 votes are kept" in message
    assert SECRET not in message
    assert judged(runs, tmp_path, server, "judge.model=owner-vlm-2") == 2
    assert "holds votes of judge:owner/vlm 2; expected those of judge:owner-vlm-2" in capfd.readouterr().err
    again = serve(lambda number, body: "2")
    assert judged(runs, tmp_path, again) == 0
    assert len(again.requests) == 4 * 2
    assert len((tmp_path / "votes-judge-owner-vlm-2.csv").read_text().splitlines()) == 7


def test_an_answer_is_the_last_number_that_stands_alone():
    assert [_number(text) for text in ("1", "Result 1 is blue, 12 are not.\n**2**", "result 2.")] == [1, 2, 2]
    for text in ("neither", "", "12", "v2 1.5"):
        with pytest.raises(_Failed, match="neither 1 nor 2"):
            _number(text)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["judge.url=ftp://a/v1", "judge.model=m"], "judge.url is no address that can be asked"),
        (["judge.url=http://user:pw@a/v1", "judge.model=m"], "judge.url is no address that can be asked"),
        (["judge.url=http://a/v1"], "judge.model is empty"),
        (["judge.url=http://a/v1", "judge.model=m", "judge.key_env=NOT_SET"], "judge.key_env names NOT_SET"),
        (["judge.url=http://a/v1", "judge.model=m", "video_frames=2"], "the study shows videos; expected pictures"),
        (["judge.url=http://a/v1", "judge.model=m", "judge.timeout=0"], "judge.timeout is 0.0; expected above 0"),
    ],
)
def test_a_judge_that_cannot_be_asked_is_found_before_any_work(runs, tmp_path, capsys, words, message):
    assert make(runs, tmp_path / "out", *words) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "pw" not in err
    assert not (tmp_path / "out").exists()
