"""The journey that must work, step by step, each with an independent judge."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

import dcap_qvl
import fastcrc

from demo.mounting import oss_options
from demo.stage import Stage, run
from demo.story import Step, Story, require
from protos.stubs import (
    AttestationAgentStub,
    GetResourceStub,
    MountStub,
    SealedSecretStub,
    SecureMountStub,
)

SECRETS = 10
BIG = 1 << 30  # bytes, both ways through the mount
BLOCK = 8 << 20
SIGNING_KID = "kbs:///default/signing-key/sealed"
CALL_SECONDS = 50.0  # what kata-agent gives a call


@dataclass(slots=True)
class Journey:
    """The steps share one stage; later steps use what earlier ones made."""

    stage: Stage
    story: Story
    sealed: dict[str, str] = field(default_factory=dict)
    mount_point: Path = Path()

    async def play(self) -> None:
        """Raises :class:`demo.story.StepFailedError` at the first step that does not hold."""
        await self.look_around()
        await self.take_a_quote()
        await self.attest()
        await self.ten_secrets()
        await self.one_resource_three_doors()
        await self.unseal()
        await self.measure()
        await self.mount()
        await self.work_on_the_bucket()
        await self.big_file()
        await self.read_only()
        await self.survive_a_crash()

    async def look_around(self) -> None:
        async with self.story.step("The guest looks at itself (cguest doctor)") as step:
            found = await self.stage.cguest("doctor")
            require(found.code == 0, "every check to be ok", found.text or found.err)
            for line in found.text.splitlines()[1:]:
                step.fact(" ".join(line.split()), "cguest doctor")

    async def take_a_quote(self) -> None:
        async with self.story.step("A TDX quote through configfs-tsm") as step:
            step.progress("(a stock kernel needs about a second for a quote)")
            async with await self.stage.agent() as client:
                reply = await AttestationAgentStub(client).get_evidence(
                    b"demo report data", timeout_s=CALL_SECONDS
                )
            evidence = json.loads(reply.Evidence)
            self._judge(step, base64.b64decode(evidence["quote"]))

    def _judge(self, step: Step, quote: bytes) -> None:
        pki = self.stage.harness.pki
        collateral = dcap_qvl.QuoteCollateralV3.from_json(json.dumps(pki.collateral()))
        now = int(time.time())
        verdict = dcap_qvl.verify_with_root_ca(quote, collateral, pki.root_ca_der, now)
        require(verdict.status == "UpToDate", "TCB status UpToDate", verdict.status)
        step.fact(
            f"quote of {len(quote)} bytes, TCB status {verdict.status}", "dcap-qvl, mock root"
        )
        try:
            dcap_qvl.verify(quote, collateral, now)
        except ValueError as error:
            step.fact(f"refused under Intel's root: {error!s:.60}", "dcap-qvl, its own root")
        else:
            require(False, "a mock quote to be refused under Intel's root", "accepted")

    async def attest(self) -> None:
        async with self.story.step("Attestation: RCAR handshake with the key broker") as step:
            step.progress("(quote, then the key broker's judgement)")
            done = await self.stage.cguest("-o", "json", "attest")
            require(done.code == 0, "an attested session", done.err)
            session = json.loads(done.out)
            require(session["session"] == "attested", "session attested", session)
            step.fact(
                f"session until {session['session_expires']}",
                "the KBS: signature chain, nonce and key in report data, event log, references",
            )

    async def ten_secrets(self) -> None:
        async with self.story.step(f"{SECRETS} secrets at once cost no further quote") as step:
            for number in range(SECRETS):
                await self.stage.harness.put_resource(f"demo/batch/{number}", b"value %d" % number)
            before = await self.stage.harness.quotes_made()
            async with await self.stage.hub() as client:
                stub = GetResourceStub(client)
                replies = await asyncio.gather(
                    *(
                        stub.get_resource(f"kbs:///demo/batch/{n}", timeout_s=CALL_SECONDS)
                        for n in range(SECRETS)
                    )
                )
            values = [reply.Resource for reply in replies]
            require(values == [b"value %d" % n for n in range(SECRETS)], "all ten values", values)
            made = await self.stage.harness.quotes_made() - before
            require(made == 0, "no further quote", made)
            step.fact(
                f"{SECRETS} secrets, 0 further quotes (the reference takes one each)",
                "the fake TSM's own counter",
            )

    async def one_resource_three_doors(self) -> None:
        async with self.story.step("One resource through three doors") as step:
            want = b"the answer is 42"
            await self.stage.harness.put_resource("default/key/demo", want)
            async with await self.stage.hub() as client:
                got = await GetResourceStub(client).get_resource(
                    "kbs:///default/key/demo", timeout_s=CALL_SECONDS
                )
            require(got.Resource == want, "the resource over ttRPC", got.Resource)
            rest = await self.stage.curl("/cdh/resource/default/key/demo")
            require(rest.out == want, "the resource over REST", rest.out or rest.err)
            line = await self.stage.cguest("resource", "get", "kbs:///default/key/demo")
            require(line.out == want, "the resource from cguest", line.out or line.err)
            step.fact("same bytes by ttRPC, REST (curl) and cguest", "comparison with what was put")

    async def unseal(self) -> None:
        async with self.story.step(
            "Sealed secrets: keygen, seal, unseal as kata-agent does"
        ) as step:
            keys = self.stage.folder / "keys"
            keys.mkdir()
            made = await self.stage.cguest(
                "secret", "keygen", "--kid", SIGNING_KID, "--directory", str(keys)
            )
            require(made.code == 0, "a key pair", made.err)
            public = (keys / "sealed-signing-public.json").read_bytes()
            await self.stage.harness.put_resource("default/signing-key/sealed", public)
            for name, resource in (
                ("demo", "kbs:///default/key/demo"),
                ("akId", "kbs:///default/oss/access-key-id"),
                ("akSecret", "kbs:///default/oss/access-key-secret"),
            ):
                sealed = await self.stage.cguest(
                    "secret", "seal", "--resource", resource, "--kid", SIGNING_KID,
                    "--key", str(keys / "sealed-signing-private.json"),
                )  # fmt: skip
                require(sealed.text.startswith("sealed."), "sealed text", sealed.err)
                self.sealed[name] = sealed.text
            async with await self.stage.hub() as client:
                plain = await SealedSecretStub(client).unseal_secret(
                    self.sealed["demo"].encode(), timeout_s=CALL_SECONDS
                )
            require(plain.plaintext == b"the answer is 42", "the plaintext", "another one")
            step.fact("ES256 signature verified with the key named by its kid", "the hub")

    async def measure(self) -> None:
        async with self.story.step(
            "A runtime event is measured, and the guest still attests"
        ) as step:
            step.progress("(needs a fresh quote)")
            done = await self.stage.cguest(
                "measurement", "extend", "--domain", "demo.example", "--operation", "Started",
                "--content", '{"step":"measure"}',
            )  # fmt: skip
            require(done.code == 0, "the event measured", done.err)
            again = await self.stage.cguest("-o", "json", "attest", "--force")
            require(again.code == 0, "attestation with the longer log", again.err)
            step.fact("RTMR3 and the event log agree", "the KBS, replaying the log")

    async def mount(self) -> None:
        async with self.story.step("A bucket is mounted with sealed credentials") as step:
            self.mount_point = self.stage.folder / "mnt" / "bucket"
            options = self._options(path="/", readonly="false")
            async with await self.stage.hub() as client:
                await SecureMountStub(client).secure_mount(
                    "alibaba-cloud-oss", options, [], str(self.mount_point),
                    timeout_s=CALL_SECONDS,
                )  # fmt: skip
            mounts = Path("/proc/self/mountinfo").read_text()
            require(str(self.mount_point) in mounts, "an entry in the mount table", "none")
            step.fact("mounted inside the guest", "the kernel's mount table")
            step.fact("keys came sealed, went to the mount process by a pipe", "tests/e2e")

    def _options(self, *, path: str, readonly: str) -> dict[str, str]:
        return {
            "akId": self.sealed["akId"],
            "akSecret": self.sealed["akSecret"],
            "bucket": self.stage.harness.bucket,
            "path": path,
            "url": self.stage.harness.oss_endpoint,
            "otherOpts": oss_options(self.stage),
            "readonly": readonly,
            "targetPath": "",
            "volumeId": "demo-volume",
        }

    async def _sh(self, script: str) -> str:
        done = await run("sh", "-euc", script, "sh", str(self.mount_point))
        require(done.code == 0, f"`{script}` to succeed", done.err)
        return done.text

    async def work_on_the_bucket(self) -> None:
        async with self.story.step("Ordinary tools work on it") as step:
            await self._sh('cd "$1"; mkdir work; echo one > work/a; cat work/a; ls -l . work')
            await self._sh('cd "$1"; echo two >> work/a; test "$(cat work/a)" = "one\ntwo"')
            await self._sh('cd "$1"; cp /etc/os-release work/b; cmp /etc/os-release work/b')
            await self._sh('cd "$1"; mv work/b work/c; mv work moved; test -f moved/c')
            stored = await self.stage.harness.object_bytes("moved/a")
            require(stored == b"one\ntwo\n", "the object in the store", stored)
            await self._sh('cd "$1"; rm moved/a moved/c; rmdir moved; test ! -e moved')
            step.fact("ls, cat, cp, mkdir, mv, rm, append", "coreutils on the mount")
            step.fact("object moved/a held both lines", "the OSS server's own store")

    async def big_file(self) -> None:
        title = f"A {BIG >> 30} GiB file in and out"
        async with self.story.step(title) as step:
            step.progress("writing")
            start = time.perf_counter()
            sent = await asyncio.to_thread(write_big, self.mount_point / "big.bin")
            middle = time.perf_counter()
            step.progress("reading")
            received = await asyncio.to_thread(read_big, self.mount_point / "big.bin")
            end = time.perf_counter()
            stored = await self.stage.harness.object_crc64("big.bin")
            require(sent == received == stored, f"CRC-64 {sent} three times", (received, stored))
            (self.mount_point / "big.bin").unlink()
            mib = BIG >> 20
            step.fact(
                f"write {mib / (middle - start):.0f} MiB/s, read {mib / (end - middle):.0f} MiB/s",
                "the clock",
            )
            step.fact(f"CRC-64 {sent} written, stored and read", "writer, OSS server and reader")

    async def read_only(self) -> None:
        async with self.story.step("read-only means read-only; unsafe options are refused") as step:
            point = self.stage.folder / "mnt" / "ro"
            async with await self.stage.hub() as client:
                stub = SecureMountStub(client)
                await stub.secure_mount(
                    "alibaba-cloud-oss", self._options(path="/", readonly="true"), [], str(point),
                    timeout_s=CALL_SECONDS,
                )  # fmt: skip
                denied = await run("sh", "-c", f"echo x > {point}/x")
                require(denied.code != 0, "a write to be refused", "written")
                step.fact(denied.err.splitlines()[-1][-60:], "the kernel")
                await MountStub(client).unmount(str(point), timeout_s=CALL_SECONDS)
            unsafe = await self.stage.cguest(
                "mount", "oss", self.stage.harness.bucket, str(self.stage.folder / "mnt" / "no"),
                "--url", self.stage.harness.oss_endpoint, "--ak-id", self.sealed["akId"],
                "--ak-secret", self.sealed["akSecret"], "--other-opts=-ourl=http://evil.example",
            )  # fmt: skip
            require(unsafe.code == 1, "exit code 1 for an unsafe option", unsafe.code)
            step.fact(unsafe.err[:200], "the hub, before anything was started")

    async def survive_a_crash(self) -> None:
        async with self.story.step("A mount process that dies is replaced") as step:
            async with await self.stage.hub() as client:
                stub = MountStub(client)
                (mount,) = (await stub.list_mounts(timeout_s=CALL_SECONDS)).mounts
                os.kill(mount.pid, signal.SIGKILL)
                async with asyncio.timeout(15):
                    while True:
                        (now,) = (await stub.list_mounts(timeout_s=CALL_SECONDS)).mounts
                        if now.state == "mounted" and now.pid != mount.pid:
                            break
                        await asyncio.sleep(0.1)
            await self._sh('ls "$1" > /dev/null')
            step.fact(f"pid {mount.pid} killed, pid {now.pid} serves ({now.last_error})", "the hub")


def _pattern(number: int) -> bytes:
    """A block that differs from every other one, made fast: 16 bytes of counter, repeated."""
    return number.to_bytes(16, "big") * (BLOCK // 16)


def write_big(path: Path) -> int:
    """Write BIG bytes, close (which confirms the upload), return their CRC-64/XZ."""
    crc = 0
    with path.open("wb", buffering=0) as file:
        for number in range(BIG // BLOCK):
            block = _pattern(number)
            crc = fastcrc.crc64.xz(block, crc)
            view = memoryview(block)
            while view:
                view = view[file.write(view) :]
    return crc


def read_big(path: Path) -> int:
    """Read it back and return the CRC-64/XZ of what came."""
    crc = 0
    buffer = bytearray(BLOCK)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            crc = fastcrc.crc64.xz(bytes(memoryview(buffer)[:count]), crc)
    return crc
