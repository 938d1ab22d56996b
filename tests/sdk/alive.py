"""Read streams that are kept alive through an SDK, and without one.

Usage: alive.py openai|anthropic BASE_URL. The gateway over the mock provider puts a frame into each silence of a stream; the model
`slow` is silent for 100 ms before each word. Read as bytes, the frames are there; the SDK hands over the words and nothing else.
"""
import json
import sys
import urllib.request

from checks import equal

TEXT = "what is the toll for a \"caf\u00e9\" today?"
ECHO = "Echo: " + TEXT
MESSAGES = [{"role": "user", "content": TEXT}]


def raw(base, path, body):
    """The lines of a stream as they came."""
    request = urllib.request.Request(base + path, json.dumps(body).encode(), {"content-type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request) as answer:
        return answer.read().split(b"\n")


def frames(lines, frame):
    count = lines.count(frame)
    assert count >= 3, f"{count} frames {frame!r} in {lines[:40]!r}"


def openai_streams(base):
    import openai

    client = openai.OpenAI(base_url=base + "/v1", api_key="sk-none", max_retries=0)
    frames(raw(base, "/v1/chat/completions", {"model": "slow", "messages": MESSAGES, "stream": True}), b": ")
    chunks = list(client.chat.completions.create(model="slow", messages=MESSAGES, stream=True))
    equal("".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices), ECHO)
    with client.chat.completions.stream(model="slow", messages=MESSAGES) as stream:
        for _ in stream:
            pass
        equal(stream.get_final_completion().choices[0].message.content, ECHO)
    frames(raw(base, "/v1/responses", {"model": "slow", "input": TEXT, "stream": True}), b": ")
    events = list(client.responses.create(model="slow", input=TEXT, stream=True))
    equal("".join(event.delta for event in events if event.type == "response.output_text.delta"), ECHO)
    equal(events[-1].type, "response.completed")


def anthropic_streams(base):
    import anthropic

    client = anthropic.Anthropic(base_url=base, api_key="sk-none", max_retries=0)
    body = {"model": "slow", "max_tokens": 64, "messages": MESSAGES, "stream": True}
    frames(raw(base, "/v1/messages", body), b"event: ping")
    events = list(client.messages.create(model="slow", max_tokens=64, messages=MESSAGES, stream=True))
    equal("".join(event.delta.text for event in events if event.type == "content_block_delta"), ECHO)
    equal(events[-1].type, "message_stop")
    with client.messages.stream(model="slow", max_tokens=64, messages=MESSAGES) as stream:
        equal("".join(stream.text_stream), ECHO)
        equal(stream.get_final_message().stop_reason, "end_turn")


if __name__ == "__main__":
    {"openai": openai_streams, "anthropic": anthropic_streams}[sys.argv[1]](sys.argv[2])
    print("alive: ok")
