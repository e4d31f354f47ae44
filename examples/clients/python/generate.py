#!/usr/bin/env python3
"""Generates the Python messages and stubs below rlhf/ from the .proto files of this repository.

  python generate.py            writes them
  python generate.py --check    compares; exit status 1 and the names that differ

Needs grpcio-tools (requirements.txt has the version); the generated files need grpcio and protobuf alone.
"""
import pathlib
import sys
import tempfile

from grpc_tools import protoc

HERE = pathlib.Path(__file__).resolve().parent
PROTO = HERE.parents[2] / "proto"
FILES = ["rlhf/types/v1/types.proto", "rlhf/reward/v1/reward.proto"]


def generate(out: str) -> dict[str, bytes]:
    """Generates into a folder; what was written, by name."""
    outputs = [f"--python_out={out}", f"--pyi_out={out}", f"--grpc_python_out={out}"]
    if protoc.main(["protoc", f"-I{PROTO}", *outputs, *FILES]) != 0:
        sys.exit("protoc failed")
    written = {str(path.relative_to(out)): path for path in pathlib.Path(out).rglob("*.py*")}
    # types.proto has messages alone: its stub file is empty
    return {name: path.read_bytes() for name, path in written.items() if name != "rlhf/types/v1/types_pb2_grpc.py"}


with tempfile.TemporaryDirectory() as scratch:
    files = generate(scratch)
stale = [name for name, text in files.items() if not (HERE / name).exists() or (HERE / name).read_bytes() != text]
if "--check" in sys.argv:
    for name in stale:
        print(f"{name}: is not what {PROTO} gives; run: python {pathlib.Path(__file__).name}", file=sys.stderr)
    sys.exit(1 if stale else 0)
for name in stale:
    (HERE / name).parent.mkdir(parents=True, exist_ok=True)
    (HERE / name).write_bytes(files[name])
print(f"{len(stale)} files changed")
