"""Pushing an export to a model hub with `huggingface_hub`, which holds the user's token."""

from __future__ import annotations

import re
from pathlib import Path

from vaerl.disk.errors import RunFailed, one_line
from vaerl.export.folder import contents

NAME = re.compile(r"\w([\w.-]{0,94}\w)?/\w([\w.-]{0,94}\w)?", re.ASCII)


def check_repository(name: str) -> str:
    """Return OWNER/NAME, or raise one line."""
    if not NAME.fullmatch(name):
        raise ValueError(f"--push: got {name!r:.100}, expected OWNER/NAME")
    return name


def push(folder: Path, name: str, private: bool = False) -> str:
    """Upload an export to the repository OWNER/NAME, made if it is missing; the address.

    The token is that of `hf auth login` or HF_TOKEN. Only files of the export are sent.

    Raises:
        ImportError: `huggingface_hub` is not installed.
        RunFailed: the hub refused or did not answer, in one line.
    """
    check_repository(name)
    try:
        from huggingface_hub import HfApi, get_token
    except ImportError as error:
        raise ImportError(
            "--push needs huggingface_hub: install it with  pip install 'vaerl[hub]'"
        ) from error
    api = HfApi()
    try:
        api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=name,
            folder_path=folder,
            allow_patterns=contents(folder),
            commit_message="Export of vaerl",
        )
    except Exception as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        words = one_line(said).replace(get_token() or "\0", "…")
        raise RunFailed(f"--push {name}: {words}; the export is in {folder}") from None
    return f"{api.endpoint}/{name}"
