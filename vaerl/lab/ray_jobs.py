"""Send a command to a Ray cluster as a job, through the HTTP interface of its head.

The job runs in the folder from which it was sent, so the machines share that path.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vaerl.disk.errors import RunFailed, one_line
from vaerl.lab.on_ray import TOKEN_FILE, check_address

OPTION = "--ray-address"
LOOK = 5.0  # seconds between two questions
PATIENCE = 60.0  # seconds that the head may take for an answer
ENDS = {"SUCCEEDED", "STOPPED", "FAILED"}


def is_job_server(address: str) -> bool:
    """Whether an address takes jobs.

    >>> is_job_server("http://localhost:8265"), is_job_server("localhost:6379")
    (True, False)
    """
    return address.startswith(("http://", "https://"))


def send(address: str, words: Sequence[str]) -> None:
    """Run `vaerl WORDS` as a job, wait for its end and print its output.

    Raises:
        ValueError: the head is another machine and there is no token.
        RunFailed: the head does not answer, or the job did not succeed.
    """
    check_address(address)
    here = shlex.quote(str(Path.cwd()))
    command = f"cd {here} && {shlex.join(['vaerl', *on_the_cluster(words)])}"
    job = _ask("post", address, "", {"entrypoint": command})["submission_id"]
    print(f"job {job} runs: {command}\nto stop it: ray job stop {job} --address {address}")
    while (status := _ask("get", address, job)["status"]) not in ENDS:
        time.sleep(LOOK)
    print(_ask("get", address, f"{job}/logs")["logs"])
    if status != "SUCCEEDED":
        raise RunFailed(f"job {job}: {status}")


def on_the_cluster(words: Sequence[str]) -> list[str]:
    """The command line for a machine of the cluster.

    >>> on_the_cluster(["sweep", "s.toml", "--ray-address", "http://head:8265", "--jobs", "9"])
    ['sweep', 's.toml', '--jobs', '9', '--ray-address', 'auto']
    >>> on_the_cluster(["sweep", "s.toml", "--ray-address=http://head:8265"])
    ['sweep', 's.toml', '--ray-address', 'auto']
    """
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == OPTION:
            next(rest, None)
        elif not word.startswith(f"{OPTION}="):
            kept.append(word)
    return [*kept, OPTION, "auto"]


def _ask(method: str, address: str, place: str, data: Any = None) -> dict[str, Any]:
    """The answer of the head, an object."""
    import requests  # binds a socket, to see whether there is IPv6

    url = f"{address.rstrip('/')}/api/jobs/{place}"
    token = _token()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        answer = requests.request(
            method, url, json=data, headers=headers, timeout=PATIENCE, allow_redirects=False
        )
        if answer.status_code != 200:
            raise RunFailed(f"{url}: {answer.status_code}: {one_line(answer.text, 200)}")
        return dict(answer.json())
    except (requests.RequestException, ValueError) as error:
        raise RunFailed(f"{url}: {one_line(error, 200)}") from error


def _token() -> str:
    """The token, in the order in which Ray looks for it; "" without one."""
    if os.environ.get("RAY_AUTH_MODE") != "token":
        return ""
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token
    file = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or TOKEN_FILE.expanduser())
    return file.read_text().strip() if file.exists() else ""
