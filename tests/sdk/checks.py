"""What the scripts that drive an SDK check with."""
import sys


def run(sdk, checks, client):
    """Runs each check with a client of the gateway that the first argument names; the second is a key, if it wants one."""
    base = sys.argv[1].rstrip("/").removesuffix("/v1")
    key = sys.argv[2] if len(sys.argv) > 2 else "dummy"
    with client(base, api_key=key, max_retries=0, timeout=30) as client:
        for check in checks:
            print(f"{sdk.__name__} {sdk.__version__} {check.__name__}: ", end="", flush=True)
            check(client)
            print("ok", flush=True)


def equal(found, expected):
    true(found == expected, f"found {found!r}, expected {expected!r}")


def true(good, complaint):
    if not good:
        sys.exit(f"FAIL {complaint}")


def raised(kind, act):
    """The error of this kind, or of one of these, that `act` raises; to raise none is a failure."""
    try:
        found = act()
    except kind as error:
        return error
    sys.exit(f"FAIL {kind} was not raised, found {found!r}")
