"""``cguest explain BUNDLE`` and ``cguest attest --explain``: why a key broker refuses.

Collects or reads the material and shows the findings; the rules are ``explain``'s.
"""

from __future__ import annotations

import argparse
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from cguest.bundle_files import load_bundle, save_bundle
from cguest.collecting import Collected, answer_of, collect
from cguest.commands.registry import Verb
from cguest.connection import connect
from cguest.files import read_file
from cguest.outcome import Exit, Outcome, Value
from cguest.sockets import Targets
from explain import Bundle, Finding, Part, Severity, claims_of_token, examine, read_case, worst
from explain.bundle import LIMITS
from kbs import ResourceUri
from protos.stubs import GetResourceStub
from ttrpc import StatusError

# Flag, part and what the file is.
FILES: Final = (
    ("--reference-values", Part.REFERENCE_VALUES, "good values, as RVPS message or JSON map"),
    ("--reference-log", Part.REFERENCE_LOG, "event log of a good boot"),
    ("--initdata", Part.INITDATA, "initdata document (TOML) of this TD"),
    ("--collateral", Part.COLLATERAL, "collateral of the platform (JSON)"),
    ("--trusted-root", Part.ROOT, "root certificate instead of Intel's"),
    ("--policy", Part.RESOURCE_POLICY, "resource policy (Rego) of the key broker"),
    ("--handshakes", Part.HANDSHAKES, "nonces and keys of other handshakes (JSON)"),
)
WIDTH: Final = 100  # columns of text
VALUE_WIDTH: Final = 132  # a register has 96 digits, and words beside it
_EXITS: Final = {Severity.REFUSAL: Exit.REFUSED, Severity.OUTAGE: Exit.ERROR}


def _further(args: argparse.Namespace) -> dict[Part, bytes]:
    """The parts that flags add."""
    parts: dict[Part, bytes] = {}
    for flag, part, _ in FILES:
        path = getattr(args, flag.removeprefix("--").replace("-", "_"))
        if path is not None:
            parts[part] = read_file(path, LIMITS[part])
    if args.token is not None:
        parts[Part.TOKEN_CLAIMS] = claims_of_token(read_file(args.token, LIMITS[Part.TOKEN_CLAIMS]))
    if args.nonce is not None:
        parts[Part.CHALLENGE] = msgspec.json.encode({"nonce": args.nonce, "extra-params": ""})
    return parts


def shown(findings: Sequence[Finding], *, least: Exit = Exit.PASS) -> Outcome:
    """Return findings as text and data. The exit code is that of the worst, or ``least``."""
    severity = worst(findings)
    rows: list[Value] = [
        {
            "code": item.code.value,
            "severity": item.severity.value,
            "found": item.found,
            "expected": item.expected or None,
            "got": item.got or None,
            "advice": item.advice,
        }
        for item in findings
    ]
    found = _EXITS.get(severity, Exit.PASS)
    return Outcome(
        {"verdict": severity.value, "findings": rows},
        text="\n\n".join(_paragraph(item) for item in findings),
        exit=found if found is not Exit.PASS else least,
    )


def _paragraph(item: Finding) -> str:
    rows = {
        "found": item.found,
        "expected": item.expected,
        "got": item.got,
        "do": item.advice,
    }
    return "\n".join(
        [f"{item.severity.value}: {item.code.value}"]
        + [_wrapped(name, text) for name, text in rows.items() if text]
    )


def _wrapped(name: str, text: str) -> str:
    return textwrap.fill(
        text,
        VALUE_WIDTH if name in ("expected", "got") else WIDTH,
        initial_indent=f"  {name:<10}",
        subsequent_indent=" " * 12,
        break_long_words=False,  # values stay whole, to be copied
        break_on_hyphens=False,
    )


async def explain_bundle(args: argparse.Namespace, _targets: Targets) -> Outcome:
    bundle = load_bundle(args.bundle).plus(_further(args))
    return shown(examine(read_case(bundle), time.time()))


def wants_explanation(args: argparse.Namespace) -> bool:
    """Whether any flag of ``cguest attest`` asks for more than the session."""
    further = [getattr(args, flag.removeprefix("--").replace("-", "_")) for flag, _, _ in FILES]
    return args.explain or any(
        value is not None for value in (args.save, args.resource, args.token, args.nonce, *further)
    )


async def attest_explained(args: argparse.Namespace, targets: Targets) -> Outcome:
    """Attest, and explain the result whichever it is; ``--save`` writes the bundle."""
    further = _further(args)
    async with connect(targets.agent, "attestation agent") as client:
        found = await collect(
            client,
            targets,
            force=args.force,
            evidence=bool(further) or args.save is not None,
            timeout_s=args.timeout,
        )
    if found.attested and args.resource is not None:
        await _try_resource(found, args, targets)
    bundle = found.bundle().plus(further)
    if args.save is not None:
        save_bundle(args.save, bundle)
    return _with_session(shown(examine(read_case(bundle))), found, bundle, args.save)


async def _try_resource(found: Collected, args: argparse.Namespace, targets: Targets) -> None:
    """Fetch a resource for the answer alone; its content is dropped unseen."""
    uri = str(ResourceUri.parse(args.resource))
    async with connect(targets.hub, "data hub") as client:
        try:
            await GetResourceStub(client).get_resource(uri, timeout_s=args.timeout)
        except StatusError as error:
            found.parts[Part.ANSWER] = answer_of(error, uri)


def _with_session(
    outcome: Outcome, found: Collected, bundle: Bundle, saved: Path | None
) -> Outcome:
    lines = ["attested" if found.attested else "not attested"]
    if found.renewal_failed:
        lines[0] += ", but the last handshake failed: the session ends without another one"
    if saved is not None:
        lines.append(f"bundle of {len(bundle.parts)} parts, without secrets, in {saved}")
    data = {
        "attested": found.attested,
        "bundle": None if saved is None else str(saved),
        **outcome.data,
    }
    exit_code = outcome.exit
    if not found.attested and exit_code is Exit.PASS:
        exit_code = Exit.ERROR  # no finding says who refused
    return Outcome(data, text="\n".join([*lines, "", outcome.text or ""]), exit=exit_code)


def add_explain_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags that bring further parts."""
    for flag, _, text in FILES:
        parser.add_argument(flag, type=Path, metavar="FILE", help=text)
    parser.add_argument(
        "--token", type=Path, metavar="FILE", help="attestation token; only its claims are read"
    )
    parser.add_argument("--nonce", metavar="TEXT", help="nonce the key broker asked for (its log)")


def add_attest_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``cguest attest`` that belong to explaining."""
    parser.add_argument("--explain", action="store_true", help="say why, and what to do")
    group = parser.add_argument_group("with --explain")
    group.add_argument(
        "--save", type=Path, metavar="DIR", help="write the bundle there, for a ticket"
    )
    group.add_argument(
        "--resource", metavar="URI", help="also try this resource, to explain a denial"
    )
    add_explain_arguments(parser)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "bundle", type=Path, metavar="BUNDLE",
        help="directory, .tar or .json file; or a file of evidence, attestation body or quote",
    )  # fmt: skip
    add_explain_arguments(parser)


TOP = (
    Verb(
        "explain",
        "say from files why a key broker refuses this guest, or would",
        explain_bundle,
        _arguments,
        "Needs no daemon and no network. A bundle comes from: cguest attest --explain --save DIR\n"
        "Exit code 1: something is a reason to refuse; 3: nobody judged the evidence.",
    ),
)
