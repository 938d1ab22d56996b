"""What the callers of a gateway are told, as the providers' own SDKs read it.

Usage: callers.py openai|anthropic BASE_URL. The keys are those of tests/e2e/sdk.rs.
"""

import sys

MESSAGES = [{"role": "user", "content": "hello"}]


def openai_client(base, key, retries):
    import openai

    client = openai.OpenAI(base_url=base + "/v1", api_key=key, max_retries=retries)
    return lambda model: client.chat.completions.create(model=model, messages=MESSAGES)


def anthropic_client(base, key, retries):
    import anthropic

    client = anthropic.Anthropic(base_url=base, api_key=key, max_retries=retries)
    return lambda model: client.messages.create(model=model, messages=MESSAGES, max_tokens=16)


def refused(kind, word, act):
    try:
        act()
    except kind as error:
        if word not in str(error) or "tollgate" not in str(error):
            raise AssertionError(f"not a message that helps: {error}")
        return
    raise AssertionError(f"no {kind.__name__}")


def main():
    package, base = sys.argv[1], sys.argv[2]
    sdk = __import__(package)
    make = openai_client if package == "openai" else anthropic_client
    client = lambda key, retries=0: make(base, key, retries)

    refused(sdk.AuthenticationError, "key", lambda: client("sk-nobody-knows-this-key")("echo"))
    refused(sdk.PermissionDeniedError, "address", lambda: client("sk-from-elsewhere-0123456")("echo"))
    refused(sdk.NotFoundError, "model", lambda: client("sk-restricted-0123456789")("echo"))

    slow = client("sk-one-in-a-second-01234")
    slow("echo")
    refused(sdk.RateLimitError, "again in", lambda: slow("echo"))
    # With retries it waits as long as it is told, and is served.
    client("sk-one-in-a-second-01234", retries=3)("echo")
    print(f"{package} callers: ok")


if __name__ == "__main__":
    main()
