"""Drive an SDK against the failing models of the mock provider, behind a gateway.

Usage: failures.py openai|anthropic BASE_URL. Each call names its request (`x-request-id`), so that the gateway's log tells how many
there were. The SDK keeps its own retries. The first failure ends the script with a status other than 0.
"""
import sys
import time

from checks import raised

MESSAGES = [{"role": "user", "content": "what is the toll?"}]


def openai_calls(base):
    import openai

    client = openai.OpenAI(base_url=base + "/v1", api_key="sk-none")

    def call(model, **more):
        headers = {"x-request-id": model} if more.pop("named", True) else {}
        return client.chat.completions.create(model=model, messages=MESSAGES, extra_headers=headers, **more)

    return call, openai.InternalServerError, openai.RateLimitError, (openai.APIError,)


def anthropic_calls(base):
    import anthropic

    client = anthropic.Anthropic(base_url=base, api_key="sk-none")

    def call(model, **more):
        headers = {"x-request-id": model} if more.pop("named", True) else {}
        return client.messages.create(model=model, max_tokens=64, messages=MESSAGES, extra_headers=headers, **more)

    return call, anthropic.InternalServerError, anthropic.RateLimitError, (anthropic.APIError, anthropic.APIConnectionError)


def main(package, base):
    call, server_error, rate_limit, any_error = {"openai": openai_calls, "anthropic": anthropic_calls}[package](base)

    error = raised(server_error, lambda: call("e500"))
    assert error.response.headers["x-should-retry"] == "false", error.response.headers

    began = time.monotonic()
    # The SDK's own tries are requests of their own.
    raised(rate_limit, lambda: call("e429", named=False))
    assert time.monotonic() - began >= 1, "a Retry-After of a second was not waited for"

    seen = []

    def cut():
        for chunk in call("cut", stream=True):
            seen.append(chunk)

    raised(any_error, cut)
    assert seen, "nothing came before the cut"

    assert list(call("slow", stream=True)), "nothing came"
    print("failures: ok")


if __name__ == "__main__":
    main(*sys.argv[1:])
