#!/usr/bin/env python3
"""Event records as TensorBoard's own protobuf classes and record writer make them ->
tests/golden/report/tensorboard.json.

Needs the `tensorboard` package (no TensorFlow): python -m venv /tmp/tb && /tmp/tb/bin/pip install
tensorboard==2.21.0
"""
import io
import json
import pathlib

import tensorboard
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.record_writer import RecordWriter


def framed(message: bytes) -> str:
    out = io.BytesIO()
    RecordWriter(out).write(message)
    return out.getvalue().hex()


def main() -> None:
    values = [
        summary_pb2.Summary.Value(tag="loss", simple_value=1.25),
        summary_pb2.Summary.Value(tag="learning_rate", simple_value=2e-4),
    ]
    scalars = event_pb2.Event(wall_time=1700000000.5, step=300, summary=summary_pb2.Summary(value=values))
    golden = {
        "tensorboard": tensorboard.__version__,
        "scalar_event": scalars.SerializeToString().hex(),
        "scalar_record": framed(scalars.SerializeToString()),
        "version_record": framed(
            event_pb2.Event(wall_time=1700000000.5, file_version="brain.Event:2").SerializeToString()
        ),
        "start_record": framed(
            event_pb2.Event(
                wall_time=1700000000.5,
                step=7,
                session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START),
            ).SerializeToString()
        ),
    }
    path = pathlib.Path(__file__).parents[2] / "tests/golden/report/tensorboard.json"
    path.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
