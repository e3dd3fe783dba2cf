"""What a scripted mount process, ``fake_ossmount``, is started with."""

from __future__ import annotations

from pathlib import Path

from cdh.mounts.launch import Launch, OssCredentials
from cdh.mounts.spec import OSS, MountPolicy, MountRequest, MountSpec
from secrecy import Secret

FAKE = Path(__file__).with_name("fake_ossmount.py")
KEY_ID, KEY_SECRET = "LTAI-the-id", "the-secret-access-key"


def launch_at(path: Path, bucket: str = "data-bucket") -> Launch:
    options = {
        "akId": KEY_ID,
        "akSecret": KEY_SECRET,
        "bucket": bucket,
        "path": "/",
        "url": "https://oss-cn-x.aliyuncs.com",
        "otherOpts": "-o ro",
        "volumeId": "vol",
    }
    policy = MountPolicy(allowed_roots=(str(path.parents[len(path.parents) - 2]),))
    spec = MountSpec.parse(MountRequest(OSS, options, (), str(path)), policy)
    keys = OssCredentials.check(Secret(KEY_ID), Secret(KEY_SECRET))
    return Launch(spec, keys, ca_pem=None, memory_bytes=64 << 20)
