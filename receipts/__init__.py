"""Receipts: a hash-chained record of what this guest attested, released, opened and mounted.

Knows no service: those call a sink. Holds never a content, nor a digest of one. What a chain
proves, and what not, is in docs/receipts.md.
"""

from __future__ import annotations

from receipts.chain import START, Chain, ChainProblem, Head, Problem, examine_chain
from receipts.checkpoints import (
    DOMAIN,
    OPERATION,
    ClaimedHead,
    Comparison,
    checkpoint_content,
    compare_checkpoints,
    parse_checkpoint,
)
from receipts.errors import (
    ReceiptError,
    ReceiptsDamagedError,
    ReceiptsFormatError,
    ReceiptsUnavailableError,
)
from receipts.export import Export, encode_export, parse_export
from receipts.log import Extend, LogSettings, ReceiptCounts, ReceiptLog, open_log
from receipts.record import (
    Access,
    Act,
    Body,
    Caller,
    Checkpoint,
    CheckpointResult,
    Gap,
    Genesis,
    Receipt,
    Restart,
    Segment,
    Stop,
    Subject,
    Verdict,
    text,
)
from receipts.segments import DEFAULT_DIRECTORY, SegmentDirectory, read_directory
from receipts.sink import GUEST, NO_RECEIPTS, ReceiptSink, asked_by, noting, sealed_sha384

__all__ = [
    "DEFAULT_DIRECTORY",
    "DOMAIN",
    "GUEST",
    "NO_RECEIPTS",
    "OPERATION",
    "START",
    "Access",
    "Act",
    "Body",
    "Caller",
    "Chain",
    "ChainProblem",
    "Checkpoint",
    "CheckpointResult",
    "ClaimedHead",
    "Comparison",
    "Export",
    "Extend",
    "Gap",
    "Genesis",
    "Head",
    "LogSettings",
    "Problem",
    "Receipt",
    "ReceiptCounts",
    "ReceiptError",
    "ReceiptLog",
    "ReceiptSink",
    "ReceiptsDamagedError",
    "ReceiptsFormatError",
    "ReceiptsUnavailableError",
    "Restart",
    "Segment",
    "SegmentDirectory",
    "Stop",
    "Subject",
    "Verdict",
    "asked_by",
    "checkpoint_content",
    "compare_checkpoints",
    "encode_export",
    "examine_chain",
    "noting",
    "open_log",
    "parse_checkpoint",
    "parse_export",
    "read_directory",
    "sealed_sha384",
    "text",
]
