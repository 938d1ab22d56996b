"""Drive the OpenAI SDK against a gateway over the mock provider, by base URL only.

Usage: openai_sdk.py BASE_URL [API_KEY], for example http://127.0.0.1:8080 (the SDK's own `/v1` is added here).
Prints one line per check; the first failure ends the script with a status other than 0.
"""
import openai

from checks import equal, raised, run, true

TEXT = "what is the toll for a \"caf\u00e9\" \U0001f600\ttoday?"
ECHO = "Echo: " + TEXT
MESSAGES = [{"role": "user", "content": TEXT}]


def text(client):
    answer = client.chat.completions.create(model="echo", messages=MESSAGES)
    equal(answer.choices[0].message.content, ECHO)
    equal(answer.choices[0].finish_reason, "stop")
    usage(answer.usage)


def streamed(client):
    stream = client.chat.completions.create(model="echo", messages=MESSAGES, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    equal("".join(pieces), ECHO)
    true(len([piece for piece in pieces if piece]) > 1, "the text came in one piece")
    equal([chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1], "stop")
    usage(chunks[-1].usage)


def stream_helper(client):
    with client.chat.completions.stream(model="echo", messages=MESSAGES) as stream:
        for _ in stream:
            pass
        equal(stream.get_final_completion().choices[0].message.content, ECHO)


def completions(client):
    equal(client.completions.create(model="echo", prompt=TEXT).choices[0].text, ECHO)
    stream = client.completions.create(model="echo", prompt=TEXT, stream=True)
    equal("".join(chunk.choices[0].text for chunk in stream), ECHO)


def responses(client):
    answer = client.responses.create(model="echo", input=TEXT)
    equal((answer.output_text, answer.status), (ECHO, "completed"))
    equal(answer.usage.total_tokens, answer.usage.input_tokens + answer.usage.output_tokens)


def responses_streamed(client):
    events = list(client.responses.create(model="echo", input=TEXT, stream=True))
    equal("".join(event.delta for event in events if event.type == "response.output_text.delta"), ECHO)
    equal((events[0].type, events[-1].type), ("response.created", "response.completed"))
    final = events[-1].response
    equal(final.output_text, ECHO)
    true(final.usage.input_tokens >= 1 and final.usage.output_tokens >= 1, f"usage {final.usage}")


def responses_helper(client):
    with client.responses.stream(model="echo", input=TEXT) as stream:
        for _ in stream:
            pass
        equal(stream.get_final_response().output_text, ECHO)


def embeddings(client):
    answer = client.embeddings.create(model="echo", input=["one", "two"], dimensions=16)
    equal([len(item.embedding) for item in answer.data], [16, 16])
    plain = client.embeddings.create(model="echo", input="one", dimensions=16, encoding_format="float")
    true(all(abs(a - b) < 1e-6 for a, b in zip(answer.data[0].embedding, plain.data[0].embedding)), "base64 and numbers differ")


def models(client):
    names = [model.id for model in client.models.list()]
    true({"echo", "slow", "long", "cut", "e429", "e500"} <= {name.rsplit("/", 1)[-1] for name in names}, f"models {names}")


def rate_limit(client):
    error = raised(openai.RateLimitError, lambda: client.chat.completions.create(model="e429", messages=MESSAGES))
    equal((error.status_code, error.code), (429, "rate_limit_exceeded"))
    true(error.response.headers.get("retry-after"), "no retry-after")


def server_error(client):
    raised(openai.InternalServerError, lambda: client.chat.completions.create(model="e500", messages=MESSAGES))


def unknown_model(client):
    error = raised(openai.NotFoundError, lambda: client.chat.completions.create(model="no-such-model", messages=MESSAGES))
    equal(error.code, "model_not_found")


def cut(client):
    """A broken transport, not an answer of another kind and never a short success."""
    asks = [
        lambda: list(client.chat.completions.create(model="cut", messages=MESSAGES, stream=True)),
        lambda: list(client.responses.create(model="cut", input=TEXT, stream=True)),
        lambda: client.chat.completions.create(model="cut", messages=MESSAGES),
    ]
    for ask in asks:
        error = raised(Exception, ask)
        true(not isinstance(error, openai.APIStatusError), f"a cut gave {error!r}")


CHECKS = [text, streamed, stream_helper, completions, responses, responses_streamed, responses_helper, embeddings, models, rate_limit, server_error,
          unknown_model, cut]


def usage(found):
    true(found and found.prompt_tokens >= 1 and found.completion_tokens >= 1, f"usage {found}")
    equal(found.total_tokens, found.prompt_tokens + found.completion_tokens)


if __name__ == "__main__":
    run(openai, CHECKS, lambda base, **more: openai.OpenAI(base_url=base + "/v1", **more))
