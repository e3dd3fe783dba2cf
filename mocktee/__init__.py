"""Local stand-ins for what a confidential guest meets outside itself, for development and tests.

``mocktee`` owns a fake TEE (configfs-tsm reports, measurement registers, boot event log, quotes
under a mock root), a fake key broker and a fake object store. It is an independent oracle: it
imports none of the product's packages and keeps its own small codecs, so an error in a product
codec cannot hide behind the same error here. It is not part of the wheel.
"""

from __future__ import annotations
