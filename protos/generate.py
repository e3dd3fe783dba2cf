"""Writes the ``*_pb2.py`` and ``*_pb2.pyi`` modules from the ``.proto`` files beside them.

Run ``python protos/generate.py`` after changing a ``.proto`` file and commit the result; a gate
test regenerates into a scratch folder and compares. Needs the development tools grpcio-tools and
mypy-protobuf, which the product does not: the generated modules are part of it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
SOURCES: Final = (
    "kms/aliyun/gateway.proto",
    "protos/api.proto",
    "protos/attestation_agent.proto",
    "protos/cguest.proto",
    "protos/getresource.proto",
    "protos/keyprovider.proto",
    "tests/interop/peer.proto",
    "ttrpc/envelope.proto",
)
# Generated text is judged by its generator, not by our formatter or our rules.
HEADER: Final = "# ruff: noqa\n# fmt: off\n"


class GenerationError(RuntimeError):
    """protoc refused the sources; its own report is on stderr."""

    def __init__(self, exit_code: int) -> None:
        self.exit_code = exit_code
        super().__init__(f"protoc left with exit code {exit_code}")


def generated_files() -> tuple[str, ...]:
    """Return the paths, relative to the root, of everything :func:`generate` writes."""
    stems = [source.removesuffix(".proto") for source in SOURCES]
    return tuple(f"{stem}_pb2{suffix}" for stem in stems for suffix in (".py", ".pyi"))


def generate(target: Path) -> None:
    """Write all modules below ``target``. Raises :class:`GenerationError` if protoc fails."""
    # Development tools without type information, imported when generating only.
    import grpc_tools  # type: ignore[import-untyped]
    from grpc_tools import protoc

    well_known = Path(grpc_tools.__file__).parent / "_proto"
    arguments = [
        "protoc",
        # The root as the only path of our own makes the modules import each other by package.
        f"--proto_path={ROOT}",
        f"--proto_path={well_known}",
        f"--plugin=protoc-gen-mypy={Path(sys.executable).parent / 'protoc-gen-mypy'}",
        f"--python_out={target}",
        f"--mypy_out=quiet:{target}",
        *SOURCES,
    ]
    exit_code = protoc.main(arguments)
    if exit_code != 0:
        raise GenerationError(exit_code)
    for name in generated_files():
        path = target / name
        # The plugin's own suppressions name rules of a linter that is not used here.
        text = path.read_text(encoding="utf-8").replace("  # noqa: Y015", "")
        path.write_text(HEADER + text, encoding="utf-8")


if __name__ == "__main__":
    generate(ROOT)
