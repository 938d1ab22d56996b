"""Drive the Anthropic SDK against a gateway over the mock provider, by base URL only.

Usage: anthropic_sdk.py BASE_URL [API_KEY], for example http://127.0.0.1:8080 (the SDK adds `/v1` itself).
Prints one line per check; the first failure ends the script with a status other than 0.
"""
import anthropic

from checks import equal, raised, run, true

TEXT = "what is the toll for a \"caf\u00e9\" \U0001f600\ttoday?"
ECHO = "Echo: " + TEXT
REQUEST = {"max_tokens": 64, "messages": [{"role": "user", "content": TEXT}]}


def text(client):
    answer = client.messages.create(model="echo", **REQUEST)
    equal((answer.content[0].text, answer.stop_reason), (ECHO, "end_turn"))
    usage(answer.usage)


def streamed(client):
    events = list(client.messages.create(model="echo", stream=True, **REQUEST))
    pieces = [event.delta.text for event in events if event.type == "content_block_delta"]
    equal("".join(pieces), ECHO)
    true(len(pieces) > 1, "the text came in one piece")
    equal((events[0].type, events[-1].type), ("message_start", "message_stop"))
    true(events[0].message.usage.input_tokens >= 1, "no input tokens at the start")
    last = next(event for event in events if event.type == "message_delta")
    equal(last.delta.stop_reason, "end_turn")
    true(last.usage.output_tokens >= 1, f"usage {last.usage}")


def stream_helper(client):
    with client.messages.stream(model="echo", **REQUEST) as stream:
        equal("".join(stream.text_stream), ECHO)
        final = stream.get_final_message()
    equal(final.content[0].text, ECHO)
    usage(final.usage)


def count_tokens(client):
    counted = client.messages.count_tokens(model="echo", messages=REQUEST["messages"])
    equal(counted.input_tokens, client.messages.create(model="echo", **REQUEST).usage.input_tokens)


def models(client):
    names = [model.id for model in client.models.list()]
    true({"echo", "slow", "long", "cut", "e429", "e500"} <= {name.rsplit("/", 1)[-1] for name in names}, f"models {names}")


def rate_limit(client):
    error = raised(anthropic.RateLimitError, lambda: client.messages.create(model="e429", **REQUEST))
    equal((error.status_code, error.body["error"]["type"]), (429, "rate_limit_error"))
    true(error.response.headers.get("retry-after"), "no retry-after")


def server_error(client):
    raised(anthropic.InternalServerError, lambda: client.messages.create(model="e500", **REQUEST))


def unknown_model(client):
    error = raised(anthropic.NotFoundError, lambda: client.messages.create(model="no-such-model", **REQUEST))
    equal(error.body["error"]["type"], "not_found_error")


def cut(client):
    """A broken transport or an error event within the stream: not an answer of another status and never a short success."""
    asks = [
        lambda: list(client.messages.create(model="cut", stream=True, **REQUEST)),
        lambda: client.messages.create(model="cut", **REQUEST),
    ]
    for ask in asks:
        error = raised(Exception, ask)
        # The SDK raises an error event with the status of the answer in which it came.
        true(not isinstance(error, anthropic.APIStatusError) or error.status_code == 200, f"a cut gave {error!r}")


CHECKS = [text, streamed, stream_helper, count_tokens, models, rate_limit, server_error, unknown_model, cut]


def usage(found):
    true(found and found.input_tokens >= 1 and found.output_tokens >= 1, f"usage {found}")


if __name__ == "__main__":
    run(anthropic, CHECKS, lambda base, **more: anthropic.Anthropic(base_url=base, **more))
