"""Receipts: canonical bytes, and that no change of a chain stays unseen."""

from __future__ import annotations

import json
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receipts import (
    START,
    Body,
    Checkpoint,
    Genesis,
    Head,
    Problem,
    ReceiptsFormatError,
    Segment,
    Stop,
    compare_checkpoints,
    encode_export,
    examine_chain,
    parse_export,
)
from receipts.checkpoints import checkpoint_content
from receipts.record import MAX_RECEIPT_BYTES, MAX_TEXT, Receipt, decode, digest_of, encode, text
from tests.rules.receipt_samples import (
    BOOT,
    GENESIS,
    NOW,
    RELEASE,
    UNSEAL,
    bodies,
    chained,
    with_checkpoint,
)

LINES, HEADS = chained([GENESIS, RELEASE, UNSEAL, RELEASE, Stop()])


def _problems(lines: list[bytes], head: Head | None = None) -> set[Problem]:
    return {found.problem for found in examine_chain(lines, head).problems}


def test_bytes_and_digest_are_fixed() -> None:
    """Written down, so that a verifier in another language can be held to it."""
    assert LINES[0] == (
        b'{"body":{"boot":"' + BOOT.encode() + b'","kind":"genesis","started_us":1700000000000000},'
        b'"previous":"' + b"0" * 96 + b'","sequence":0,"time_us":1700000000000000}'
    )
    assert LINES[1] == (
        b'{"body":{"act":"release","caller":{"pid":41,"via":"ttrpc"},"kind":"access",'
        b'"subject":{"resource":"kbs:///default/key/1"},"verdict":"allowed"},'
        b'"previous":"' + digest_of(LINES[0]).encode() + b'","sequence":1,'
        b'"time_us":1700000000000000}'
    )


@given(bodies)
def test_bytes_are_those_of_rfc_8785(body: Body) -> None:
    line = encode(Receipt(3, "0" * 96, NOW, body))
    plain = json.dumps(
        json.loads(line), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    ).encode()
    assert line == plain
    assert decode(line).body == body


@given(st.binary(max_size=300))
def test_any_other_bytes_are_no_receipt(data: bytes) -> None:
    with pytest.raises(ReceiptsFormatError):
        decode(data)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(LINES[1].replace(b":41", b": 41"), id="white space"),
        pytest.param(LINES[1].replace(b'"uid"', b'"uid"').replace(b":41,", b':41,"uid":0,'),
                     id="a default spelled out"),
        pytest.param(LINES[1].replace(b'"pid":41', b'"pid":41,"who":1'), id="unknown member"),
        pytest.param(LINES[1].replace(b'"pid":41', b'"pid":41,"pid":41'), id="member twice"),
        pytest.param(LINES[1].replace(b"kbs:", b"\\u006bbs:"), id="another escape"),
        pytest.param(LINES[1].replace(b'"access"', b'"other"'), id="unknown kind"),
        pytest.param(LINES[1].replace(b":41", b":-1"), id="negative"),
        pytest.param(LINES[1].replace(b":41", b":9007199254740992"), id="2 to the 53"),
        pytest.param(LINES[1].replace(b'"sequence":1', b'"sequence":1.0'), id="fraction"),
        pytest.param(LINES[1] + b"\n", id="line feed"),
        pytest.param(LINES[1].replace(b"kbs:", b"k\xffs:"), id="not UTF-8"),
        pytest.param(b'{"body":' * 5000, id="deep"),
        pytest.param(b" " * (MAX_RECEIPT_BYTES + 1), id="large"),
    ],
)  # fmt: skip
def test_other_spellings_are_no_receipts(line: bytes) -> None:
    with pytest.raises(ReceiptsFormatError) as raised:
        decode(line)
    assert "kbs" not in str(raised.value)


def test_a_good_chain_holds() -> None:
    chain = examine_chain(LINES, HEADS[-1])
    assert chain.holds and chain.head == HEADS[-1] and chain.boot == BOOT and chain.first == 0
    assert examine_chain(LINES, HEADS[2]).holds  # an older head, of a quote taken then


@given(st.lists(bodies, max_size=6), st.data())
@settings(max_examples=60, deadline=None)
def test_any_changed_byte_is_found(after: list[Body], data: st.DataObject) -> None:
    lines, heads = chained([GENESIS, *after])
    export = bytearray(encode_export(lines, heads[-1]))
    place = data.draw(st.integers(0, len(export) - 1))
    export[place] ^= data.draw(st.integers(1, 255))
    try:
        parsed = parse_export(bytes(export))
    except ReceiptsFormatError:
        return
    assert not examine_chain(parsed.lines, parsed.head).holds


def test_every_byte_of_one_chain() -> None:
    whole = b"\n".join(LINES)
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1
        assert not examine_chain(bytes(changed).split(b"\n"), HEADS[-1]).holds, place


@pytest.mark.parametrize(
    ("change", "found"),
    [
        pytest.param(lambda a: a[:2] + a[3:], Problem.GAP, id="one missing"),
        pytest.param(lambda a: [*a[:3], a[2], *a[3:]], Problem.DUPLICATE, id="one twice"),
        pytest.param(lambda a: [a[0], a[2], a[1], *a[3:]], Problem.ORDER, id="swapped"),
        pytest.param(lambda a: a[:-1], Problem.TRUNCATED, id="end missing"),
        pytest.param(lambda _: [], Problem.TRUNCATED, id="nothing"),
        pytest.param(lambda a: a[1:], Problem.BEGINNING, id="beginning missing"),
        pytest.param(lambda a: [*a[:2], a[2].replace(b"refused", b"allowed"), *a[3:]],
                     Problem.EDITED, id="verdict changed"),
        pytest.param(lambda a: [*a[:-1], a[-1].replace(b":4,", b": 4,")],
                     Problem.FORM, id="last one spelled otherwise"),
        pytest.param(lambda a: [*a[:-1], a[-1].replace(str(NOW).encode(), str(NOW + 1).encode())],
                     Problem.HEAD, id="last one changed"),
    ],
)  # fmt: skip
def test_what_was_done_to_a_chain_is_named(
    change: Callable[[list[bytes]], list[bytes]], found: Problem
) -> None:
    assert found in _problems(change(LINES), HEADS[-1])


@given(st.lists(bodies, min_size=2, max_size=6), st.data())
@settings(max_examples=60, deadline=None)
def test_no_other_selection_of_receipts_holds(after: list[Body], data: st.DataObject) -> None:
    lines, heads = chained([GENESIS, *after])
    indices = st.lists(st.integers(0, len(lines) - 1), max_size=len(lines) + 2)
    chosen = data.draw(indices)
    holds = examine_chain([lines[i] for i in chosen], heads[-1]).holds
    assert holds == (chosen == list(range(len(lines))))


def test_another_chain_with_the_same_count_is_not_this_one() -> None:
    others, _ = chained([Genesis("00" * 32, NOW), RELEASE, UNSEAL, RELEASE, Stop()])
    assert _problems(others, HEADS[-1]) == {Problem.HEAD}


def test_an_end_without_a_head_is_not_vouched_for() -> None:
    assert examine_chain(LINES[:-1]).holds


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(Genesis(BOOT, NOW), id="second beginning"),
        pytest.param(Segment("00" * 32, 2, 0), id="another boot"),
        pytest.param(Segment(BOOT, 3, 0), id="a file left out"),
        pytest.param(Segment(BOOT, 2, 99), id="dropped what is to come"),
        pytest.param(Checkpoint(1, 1, "00" * 48, "measured"), id="another head"),
        pytest.param(Checkpoint(1, 99, "00" * 48, "measured"), id="a head to come"),
    ],
)
def test_receipts_that_lie_about_their_chain_are_found(body: Body) -> None:
    more, ends = chained([body], HEADS[-1])
    assert _problems(LINES + more, ends[-1]) == {Problem.CLAIM}


def test_a_chain_may_begin_with_a_file_if_the_guest_dropped_the_rest() -> None:
    more, ends = chained([Segment(BOOT, 2, 5), RELEASE], HEADS[-1])
    chain = examine_chain(more, ends[-1])
    assert chain.holds and chain.first == 5
    kept, ends = chained([Segment(BOOT, 2, 0), RELEASE], HEADS[-1])
    assert _problems(kept, ends[-1]) == {Problem.BEGINNING}


def test_checkpoints_vouch_for_what_they_cover() -> None:
    lines, heads = with_checkpoint([GENESIS, RELEASE, UNSEAL])
    content = checkpoint_content(BOOT, heads[2])
    assert content == f'{{"chain":"{BOOT}","head":"{heads[2].digest}","sequence":2}}'
    compared = compare_checkpoints(examine_chain(lines), [content])
    assert not compared.problems and compared.matched == 1 and compared.covered == 2
    before = compare_checkpoints(examine_chain(lines), [])
    assert not before.problems and before.unseen == 1 and before.covered == -1


@pytest.mark.parametrize(
    ("content", "found"),
    [
        pytest.param(checkpoint_content("00" * 32, HEADS[2]), Problem.CHECKPOINT, id="other boot"),
        pytest.param(checkpoint_content(BOOT, Head(9, "00" * 48)), Problem.TRUNCATED, id="ahead"),
        pytest.param(checkpoint_content(BOOT, Head(2, "00" * 48)), Problem.CHECKPOINT, id="other"),
        pytest.param("{}", Problem.CHECKPOINT, id="no checkpoint"),
        pytest.param(checkpoint_content(BOOT, HEADS[2]) + " ", Problem.CHECKPOINT, id="spelling"),
    ],
)
def test_checkpoints_that_do_not_fit_are_found(content: str, found: Problem) -> None:
    compared = compare_checkpoints(examine_chain(LINES), [content])
    assert {problem.problem for problem in compared.problems} == {found}


def test_a_checkpoint_that_was_never_measured_is_found() -> None:
    lines, heads = with_checkpoint([GENESIS, RELEASE])
    more, _ = chained([RELEASE], heads[-1])
    later = checkpoint_content(BOOT, examine_chain(lines + more).head)
    compared = compare_checkpoints(examine_chain(lines + more), [later])
    assert [problem.problem for problem in compared.problems] == [Problem.CHECKPOINT]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{}", id="cut off"),
        pytest.param(b'{"end":1}\n', id="half an end"),
        pytest.param(encode_export(LINES, HEADS[-1]).replace(b'"end":1', b'"end":2'), id="form"),
        pytest.param(encode_export(LINES[1:], HEADS[-1]).replace(b'"records":4', b'"records":5'),
                     id="count"),
    ],
)  # fmt: skip
def test_what_is_no_export_is_refused(data: bytes) -> None:
    with pytest.raises(ReceiptsFormatError):
        parse_export(data)


def test_texts_are_one_printable_line_that_fits() -> None:
    assert text("a\nb\x1b[0m") == "a?b?[0m"
    assert len(text("x" * 9999)) == MAX_TEXT
    widest = RELEASE.__class__(
        "mount", "failed", RELEASE.caller,
        msgspec.structs.replace(RELEASE.subject, **dict.fromkeys(
            ("resource", "kid", "mount_point"), text("\U0001f600" * 9999))),
        text("\U0001f600" * 9999),
    )  # fmt: skip
    assert decode(encode(Receipt(0, START.digest, 0, widest))).body == widest
