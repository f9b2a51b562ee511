"""HTTP exchanges with the one host that the user named: one deadline each, bounded replies, no other host."""

from __future__ import annotations

import asyncio
import email.utils
import functools
import ipaddress
import json
import os
import re
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass

import httpx2

from punie.evals.replies import Fault
from punie.util.errors import ConfigError
from punie.util.jsonl import excerpt
from punie.util.plain import parse_json

ROUTES = {"completions": "completions", "chat": "chat/completions"}
"""The route of each API, behind the server's address and ``/v1``."""
CONNECT = 10.0
"""Seconds within which a server must accept a connection."""
_HOPS = 5
"""Redirects that are followed in one exchange."""
_REDIRECTS = (301, 302, 307, 308)
_PATH = re.compile(r"(?P<base>.*?)(?P<version>/v1)?(?:/(?P<route>(?:chat/)?completions))?/*")
_SHORTEST_SECRET = 6
"""Shorter keys, such as ``EMPTY``, are no secrets, and are not masked in what is shown."""


class Silence(Exception):
    """No whole reply came back; the message says why."""

    def __init__(self, why: str, *, broken: bool = False) -> None:
        super().__init__(why)
        self.broken = broken
        """The server was there and closed the connection."""


class Elsewhere(Fault):
    """A redirect to another host; the message says where."""


@dataclass(frozen=True)
class Received:
    """A reply of any status."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str
    """Where it came from, after redirects."""

    @property
    def message(self) -> str:
        """What it says: the message of its error, or the beginning of its body."""
        text = self.body[:8000].decode(errors="replace")
        try:
            value = parse_json(text)
        except ValueError:
            return text
        for key in ("error", "message", "detail"):
            if isinstance(value, dict) and value.get(key):
                value = value[key]
        shown = value if isinstance(value, str) else json.dumps(value)
        return shown.encode(errors="replace").decode()

    @property
    def words(self) -> str:
        """Its status and what it says, in one line."""
        return f"status {self.status}: {excerpt(self.message, 300)}"

    @property
    def retry_after(self) -> float | None:
        """Seconds that the server asks to wait, given as such or as a date; None if it does not."""
        value = self.headers.get("retry-after", "").strip()
        if re.fullmatch(r"\d{1,9}", value):
            return float(value)
        try:
            return max(email.utils.parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
        except (ValueError, TypeError, OverflowError):
            return None


class Transport:
    """Connections to one host. Redirects are followed within it only, without leaving https.

    The proxies of the environment are not used for a loopback address, and ``~/.netrc`` is not read.

    Raises:
        ConfigError: The URL is not one of a server.
    """

    def __init__(self, url: str, api: str = "completions", *, key: str | None = None) -> None:
        self.base = checked_url(url, api)
        self.addresses = _addresses(url, self.base, api)
        """Where requests may be posted to, the likeliest first."""
        secret = (key or "").rpartition(" ")[2]
        self._secret = secret if len(secret) >= _SHORTEST_SECRET else None
        try:
            loopback = ipaddress.ip_address(self.base.host).is_loopback
        except ValueError:  # a name
            loopback = self.base.host == "localhost"
        headers = {"accept-encoding": "identity"}  # so that the limit holds for what is kept in memory
        if key:
            headers["authorization"] = key if " " in key else f"Bearer {key}"
        # Asynchronous, because only a task can be cancelled wherever it waits: in the resolver, for headers
        # that never end, or for a body.
        self._client = httpx2.AsyncClient(
            timeout=httpx2.Timeout(None, connect=CONNECT),
            verify=_certificates(),
            headers=headers,
            follow_redirects=False,
            trust_env=not loopback,
        )
        self._runner = asyncio.Runner()

    def close(self) -> None:
        """Close the connections."""
        self._runner.run(self._client.aclose())
        self._runner.close()

    def exchange(self, url: str, content: bytes | None, *, limit: int, timeout: float) -> Received:
        """Send a request: POST with a body of JSON, GET without.

        Args:
            url: Of the same host.
            content: The body.
            limit: Longest body of the reply, in bytes.
            timeout: Seconds for all of it: connection, headers and body.

        Raises:
            Silence: No whole reply came back.
            Fault: It is too long, or redirects for ever or to another host (:class:`Elsewhere`).
        """
        try:
            return self._runner.run(self._exchange(url, content, limit, timeout))
        except TimeoutError:
            raise Silence(f"the reply takes longer than {timeout:g} s") from None
        except httpx2.RequestError as error:
            broken = isinstance(error, httpx2.RemoteProtocolError | httpx2.ReadError)
            raise Silence(self._shown(_in_words(error)), broken=broken) from None
        except (httpx2.InvalidURL, UnicodeError, OSError) as error:
            raise Silence(self._shown(_in_words(error))) from None

    async def _exchange(self, url: str, content: bytes | None, limit: int, timeout: float) -> Received:
        method, headers = ("GET", {}) if content is None else ("POST", {"content-type": "application/json"})
        async with asyncio.timeout(timeout):
            for _ in range(_HOPS):
                async with self._client.stream(method, url, content=content, headers=headers) as response:
                    if response.status_code in _REDIRECTS and "location" in response.headers:
                        url = self._redirected(response)
                        continue
                    body = bytearray()
                    async for chunk in response.aiter_raw():
                        body += chunk
                        if len(body) > limit:
                            raise Fault(f"the reply is longer than {limit:,} bytes")
                    shown = bytes(body)
                    if self._secret:  # some servers repeat it in their errors
                        shown = shown.replace(self._secret.encode(), b"***")
                    return Received(response.status_code, response.headers, shown, str(response.url))
        raise Fault(f"more than {_HOPS} redirects, the last one to {self._shown(url)}")

    def _redirected(self, response: httpx2.Response) -> str:
        old, new = response.url, response.url.join(response.headers["location"])
        kept = (new.scheme, new.port) == (old.scheme, old.port)
        if new.host != old.host or not (kept or (old.scheme, new.scheme) == ("http", "https")):
            shown = self._shown(f"{new.scheme}://{new.netloc.decode('ascii', 'replace')}")
            raise Elsewhere(f"a redirect (status {response.status_code}) to another host: {shown}")
        return str(new)

    def _shown(self, text: str) -> str:
        return text.replace(self._secret, "***") if self._secret else text


def checked_url(url: str, api: str = "completions") -> httpx2.URL:
    """The server's URL up to where ``/v1`` or the route of an API begins, with a slash at its end.

    Raises:
        ConfigError: It is not one of a server, or the route of the other API.
    """
    try:
        parsed = httpx2.URL(url)
        route = _parts(parsed)["route"]
        faults = {
            f"the scheme '{parsed.scheme}'": parsed.scheme not in ("http", "https"),
            "no host": not parsed.host,
            f"the port {parsed.port}": parsed.port is not None and not 0 < parsed.port < 2**16,
            "a query or a fragment": parsed.query or parsed.fragment,
            "a user or password; a key belongs into the environment (eval.server.api_key_env)":
                parsed.userinfo,
            f"the route of another API than eval.server.api={api}": route not in (None, ROUTES[api]),
        }  # fmt: skip
        found = next((fault for fault, wrong in faults.items() if wrong), None)
        if found is None:
            return parsed.copy_with(path=str(_parts(parsed)["base"]).rstrip("/") + "/")
    except httpx2.InvalidURL as error:
        found = str(error)
    raise ConfigError(
        "The server's URL cannot be used.",
        where=f"eval.server.url={re.sub('//.*@', '//...@', url)}",  # a password is not shown
        found=found,
        expected="http://host:port, or https",
    )


def api_key(name: str | None) -> str | None:
    """The API key in an environment variable; None without a name.

    Raises:
        ConfigError: The variable is not set, or what it holds cannot be a header's value.
    """
    if name is None:
        return None
    key = os.environ.get(name, "").strip()
    if key and key.isascii() and key.isprintable():
        return key
    raise ConfigError(
        "The variable for the server's API key holds none.",
        where=f"eval.server.api_key_env={name}",
        found="characters that a header cannot have" if key else "it is not set, or empty",
        next_step=f"export {name}=…",
    )


@functools.cache
def _certificates() -> ssl.SSLContext:
    return httpx2.create_ssl_context()  # which takes longer than all else here


def _addresses(url: str, base: httpx2.URL, api: str) -> list[str]:
    version, route = (_parts(httpx2.URL(url))[name] for name in ("version", "route"))
    plain, versioned = f"{base}{ROUTES[api]}", f"{base}v1/{ROUTES[api]}"
    if version:
        return [versioned]
    return [plain] if route else [versioned, plain]


def _parts(url: httpx2.URL) -> Mapping[str, str | None]:
    found = _PATH.fullmatch(url.path)
    return found.groupdict() if found else {"base": url.path, "version": None, "route": None}


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")
