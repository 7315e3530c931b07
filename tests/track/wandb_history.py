"""Reads what an offline W&B run wrote: a log of 32 kB blocks that hold protobuf records."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK = 32768


def read_history(run_directory: Path) -> list[dict[str, Any]]:
    """The rows that `run.log` stored, in order, without W&B's own keys."""
    rows = []
    for record in _records(run_directory):
        if record.WhichOneof("record_type") == "history":
            row = {}
            for item in record.history.item:
                key = "/".join(item.nested_key) or item.key
                if not key.startswith("_"):
                    row[key] = json.loads(item.value_json)
            rows.append(row)
    return rows


def read_metrics(run_directory: Path) -> dict[str, str]:
    """Step metric by pattern, as `define_metric` stored it."""
    return {
        record.metric.name or record.metric.glob_name: record.metric.step_metric
        for record in _records(run_directory)
        if record.WhichOneof("record_type") == "metric"
    }


def _records(run_directory: Path) -> Iterator[Any]:
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = run_directory.glob("*.wandb")
    for data in _pieces(path.read_bytes()):
        record = Record()
        record.ParseFromString(data)
        yield record


def _pieces(data: bytes) -> Iterator[bytes]:
    position, whole = 7, b""  # the file begins with a header of 7 bytes
    while position + 7 <= len(data):
        if BLOCK - position % BLOCK < 7:
            position += BLOCK - position % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        whole += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # a full record, or the last piece of one
            yield whole
            whole = b""
