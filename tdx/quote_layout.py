"""The structures of a quote as field tables, and the numbers that choose between them.

One table per structure; every offset in this package follows from them. Sources: Intel DCAP
``sgx_quote_3.h`` (certification data), ``sgx_quote_4.h``, ``sgx_quote_5.h`` and ``sgx_report.h``.
"""

from __future__ import annotations

from typing import Final

from tdx.layout import Layout

TEE_TYPE_TDX: Final = 0x81
KEY_TYPE_ECDSA_P256: Final = 2
SIGNATURE_BYTES: Final = 64  # r and s, 32 bytes big-endian each
KEY_BYTES: Final = 64  # x and y, 32 bytes big-endian each
MIN_BYTES: Final = {4: 1020, 5: 1026}  # by version
MAX_BYTES: Final = 64 * 1024  # real ECDSA quotes have 5 to 8 KiB, trailing bytes included

HEADER: Final = Layout(
    ("version", 2),
    ("attestation_key_type", 2),
    ("tee_type", 4),
    ("reserved", 4),
    ("qe_vendor_id", 16),
    ("user_data", 20),
)

BODY_10: Final = Layout(
    ("tee_tcb_svn", 16),
    ("mr_seam", 48),
    ("mrsigner_seam", 48),
    ("seam_attributes", 8),
    ("td_attributes", 8),
    ("xfam", 8),
    ("mr_td", 48),
    ("mr_config_id", 48),
    ("mr_owner", 48),
    ("mr_owner_config", 48),
    ("rtmr0", 48),
    ("rtmr1", 48),
    ("rtmr2", 48),
    ("rtmr3", 48),
    ("report_data", 64),
)
# tee_tcb_svn keeps the module's value at TD launch, tee_tcb_svn2 is what runs now.
BODY_15: Final = BODY_10 + Layout(("tee_tcb_svn2", 16), ("mr_servicetd", 48))
BODY_15_EXTENDED: Final = BODY_15 + Layout(
    ("vmid", 1),
    ("td_id", 32),
    ("device_info_hash", 48),
    ("init_servicetd_hash", 48),
    ("init_servicetd_attributes", 8),
    ("init_cpu_svn", 16),
    ("init_tee_tcb_svn", 16),
    ("init_tee_fmspc", 12),
    ("current_servicetd_hash", 48),
    ("current_servicetd_attributes", 8),
)
BODY_DESCRIPTOR: Final = Layout(("body_type", 2), ("body_size", 4))  # version 5 only
TD_10: Final = 2
TD_15: Final = 3
TD_15_EXTENDED: Final = 4
# By the body type of version 5; version 4 has the first one and does not say so.
BODIES: Final = {TD_10: BODY_10, TD_15: BODY_15, TD_15_EXTENDED: BODY_15_EXTENDED}
BODY_NAMES: Final = {TD_10: "TD 1.0", TD_15: "TD 1.5", TD_15_EXTENDED: "TD 1.5 extended"}

QE_REPORT: Final = Layout(
    ("cpu_svn", 16),
    ("misc_select", 4),
    ("", 28),
    ("attributes", 16),
    ("mr_enclave", 32),
    ("", 32),
    ("mr_signer", 32),
    ("", 96),
    ("isv_prod_id", 2),
    ("isv_svn", 2),
    ("", 60),
    ("report_data", 64),
)

# Certification data: what ties the attestation key to a platform.
PPID_PLAIN: Final = 1
PPID_RSA_2048: Final = 2
PPID_RSA_3072: Final = 3
PCK_LEAF: Final = 4
PCK_CHAIN: Final = 5
QE_REPORT_DATA: Final = 6
PLATFORM_MANIFEST: Final = 7
CERTIFICATION_NAMES: Final = {
    PPID_PLAIN: "plain PPID",
    PPID_RSA_2048: "PPID encrypted with RSA-2048",
    PPID_RSA_3072: "PPID encrypted with RSA-3072",
    PCK_LEAF: "PCK leaf certificate",
    PCK_CHAIN: "PCK certificate chain",
    QE_REPORT_DATA: "QE report certification data",
    PLATFORM_MANIFEST: "platform manifest",
}
PLATFORM: Final = Layout(("cpu_svn", 16), ("pce_svn", 2), ("pce_id", 2))
PPID_LAYOUTS: Final = {
    PPID_PLAIN: Layout(("ppid", 16)) + PLATFORM,
    PPID_RSA_2048: Layout(("ppid", 256)) + PLATFORM,
    PPID_RSA_3072: Layout(("ppid", 384)) + PLATFORM,
}
