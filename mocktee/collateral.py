"""TCB info and QE identity: the two signed JSON documents of the provisioning service.

Owns their text (Intel PCS API version 4). Signing and the certificates around them are in
``mocktee.pki``. A document is made once and kept as text, because its signature covers the exact
bytes.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Final

from mocktee.platform import SVN_COMPONENTS, Platform

QE_MR_SIGNER: Final = bytes.fromhex(
    "dc9e2a7c6f948f17474e34a7fc43ed030f7c1563f1babddf6340c82e0e54a8c5"
)
QE_ATTRIBUTES: Final = bytes.fromhex("1500000000000000e700000000000000")
QE_ISV_PROD_ID: Final = 2
QE_ISV_SVN: Final = 6
TCB_DATE: Final = "2024-03-13T00:00:00Z"
EVALUATION_NUMBER: Final = 17


def _rfc3339(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _text(document: dict[str, object]) -> str:
    return json.dumps(document, separators=(",", ":"))


def _module() -> dict[str, object]:
    """What every TDX module of the mock looks like: no signer, no attributes, all bits compared."""
    return {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}


def tcb_info(platform: Platform, issued: datetime, next_update: datetime, status: str) -> str:
    """One TCB level that this platform meets exactly, with ``status`` ("UpToDate", ...)."""
    level = {"tcbDate": TCB_DATE, "tcbStatus": status}
    # A module level has its own, smaller set of statuses; the platform's decides here.
    module_level = {"tcbDate": TCB_DATE, "tcbStatus": "UpToDate"}
    module_version = platform.tee_tcb_svn[1]
    return _text(
        {
            "id": "TDX",
            "version": 3,
            "issueDate": _rfc3339(issued),
            "nextUpdate": _rfc3339(next_update),
            # Lower case: Intel's service has answered in both, some verifiers compare the text.
            "fmspc": platform.fmspc.hex(),
            "pceId": platform.pce_id.hex(),
            "tcbType": 0,
            "tcbEvaluationDataNumber": EVALUATION_NUMBER,
            "tdxModule": _module(),
            "tdxModuleIdentities": [
                {
                    "id": f"TDX_{module_version:02X}",
                    **_module(),
                    "tcbLevels": [{"tcb": {"isvsvn": platform.tee_tcb_svn[0]}, **module_level}],
                }
            ],
            "tcbLevels": [
                {
                    "tcb": {
                        "sgxtcbcomponents": [
                            {"svn": platform.components[i]} for i in range(SVN_COMPONENTS)
                        ],
                        "pcesvn": platform.pce_svn,
                        "tdxtcbcomponents": [{"svn": svn} for svn in platform.tee_tcb_svn],
                    },
                    **level,
                }
            ],
        }
    )


def qe_identity(issued: datetime, next_update: datetime) -> str:
    """Identity of the TD quoting enclave that ``mocktee.quotes`` plays."""
    return _text(
        {
            "id": "TD_QE",
            "version": 2,
            "issueDate": _rfc3339(issued),
            "nextUpdate": _rfc3339(next_update),
            "tcbEvaluationDataNumber": EVALUATION_NUMBER,
            "miscselect": "00000000",
            "miscselectMask": "FFFFFFFF",
            "attributes": "11" + "00" * 15,
            "attributesMask": "FB" + "FF" * 7 + "00" * 8,
            "mrsigner": QE_MR_SIGNER.hex().upper(),
            "isvprodid": QE_ISV_PROD_ID,
            "tcbLevels": [
                {"tcb": {"isvsvn": 4}, "tcbDate": TCB_DATE, "tcbStatus": "UpToDate"},
            ],
        }
    )
