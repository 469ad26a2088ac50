"""What the plan asks of the conversion: addresses to keep, scripts, keys, drivers. Looked up and pinned by `prepare`.

Evidence GUEST says what was asked, scripts by their digests and keys by the name of their Secret.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import PurePosixPath

import msgspec

from mtv.kubevirt import pods
from mtv.kubevirt.cluster import Cluster
from mtv.kubevirt.resources import CLAIMS, CONFIG_MAPS, SECRETS
from mtv.model.conversion import ANY_FILE, SCRIPT_NAME, SCRIPT_NAME_CURE, ConvertNic, ConvertSpec, GuestScript, LuksKey
from mtv.model.errors import PermanentError
from mtv.model.evidence import EvidenceKind
from mtv.model.source import SourceVm
from mtv.plan.guest_options import CLAIM, OWN_SET
from mtv.plan.script_sets import MAX_SET_BYTES
from mtv.steps import layout
from mtv.steps.context import VmContext
from mtv.steps.guest_network import nics_of

_CLEAR_PREPARE = "clear the task prepare of this VM and what follows it"


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """The document of evidence GUEST. `scripts` maps names to SHA-256."""

    nics: tuple[ConvertNic, ...] = ()
    scripts: dict[str, str] = {}
    scripts_from: str = ""
    luks: str = ""
    virtio_win: str = ""
    root_disk: str = ""
    inspect: bool = False
    preflight: bool = False


def pin(ctx: VmContext, cluster: Cluster, vm: SourceVm) -> None:
    """Look up all that the conversion needs and keep it as evidence; `vm` is the VM as it was when the run began.

    Raises `PermanentError` for a ConfigMap, Secret or claim that is missing, and for scripts that cannot run.
    """
    if not layout.converts(ctx, vm):
        unused = [name for name in ("customization_scripts", "luks", "inspect", "preflight") if getattr(ctx.vm, name)]
        if unused:
            ctx.log(
                f"{ctx.vm.name}: WARNING: the guest is not converted, so {', '.join(unused)} of the plan do nothing"
            )
        return
    if ctx.vm.luks and not cluster.exists(SECRETS, ctx.vm.luks, ctx.namespace):
        raise _missing(ctx, "luks-secret-missing", f"Secret {ctx.vm.luks} with its LUKS keys", "luks")
    claim = drivers_claim(ctx)
    if claim and not cluster.exists(CLAIMS, claim, ctx.namespace):
        raise _missing(ctx, "virtio-win-missing", f"claim {claim} with virtio-win", "virtio_win")
    asked = Asked(
        nics=_nics(ctx, vm),
        scripts={script.name: _digest(script) for script in _scripts(ctx, cluster)},
        scripts_from=ctx.vm.customization_scripts,
        luks=ctx.vm.luks,
        virtio_win=ctx.vm.virtio_win,
        root_disk=ctx.vm.root_disk,
        inspect=ctx.vm.inspect,
        preflight=ctx.vm.preflight,
    )
    ctx.store.add_evidence(ctx.run.id, ctx.vm.id, EvidenceKind.GUEST, msgspec.to_builtins(asked))


def add_to(ctx: VmContext, cluster: Cluster, spec: ConvertSpec) -> ConvertSpec:
    """Return the spec with what `prepare` pinned. Raises `PermanentError` if scripts are not what they were then."""
    rows = ctx.store.evidence(ctx.run.id, ctx.vm.id, EvidenceKind.GUEST)
    if not rows:
        raise PermanentError(
            f"{ctx.vm.name}: this run has not looked up what its conversion needs",
            cure=_CLEAR_PREPARE,
            code="not-prepared",
        )
    asked = msgspec.convert(rows[-1].document, Asked)
    scripts = _scripts(ctx, cluster)
    if {script.name: _digest(script) for script in scripts} != asked.scripts:
        raise PermanentError(
            f"{ctx.vm.name}: the scripts in {asked.scripts_from} changed since the VM was prepared",
            cure=_CLEAR_PREPARE,
            code="scripts-changed",
        )
    return msgspec.structs.replace(
        spec,
        nics=asked.nics,
        scripts=scripts,
        luks_keys=(LuksKey(file=ANY_FILE),) if ctx.vm.luks else (),
        credentials_dir=pods.KEYS_DIR if ctx.vm.luks else spec.credentials_dir,
        virtio_win=drivers_path(ctx),
        inspect=ctx.vm.inspect,
    )


def drivers_claim(ctx: VmContext) -> str:
    """Return the claim that holds virtio-win, or ""."""
    wanted = ctx.vm.virtio_win
    return wanted.removeprefix(CLAIM).partition("/")[0] if wanted.startswith(CLAIM) else ""


def drivers_path(ctx: VmContext) -> str:
    """Return where the pod finds virtio-win; "" lets the pod look where its image has it."""
    wanted = ctx.vm.virtio_win
    if not wanted.startswith(CLAIM):
        return wanted
    return str(PurePosixPath(pods.DRIVERS_DIR) / wanted.partition("/")[2])


def _nics(ctx: VmContext, vm: SourceVm) -> tuple[ConvertNic, ...]:
    """A guest that is off tells nothing: what an earlier run saw of it, before it shut it down, counts then."""
    if not ctx.vm.preserve_static_ips:
        return ()
    nics = nics_of(vm)
    earlier = ctx.store.latest_evidence(ctx.plan.name, ctx.vm.id, EvidenceKind.GUEST)
    if not nics and earlier is not None:
        own = {nic.mac for nic in vm.nics}
        nics = tuple(nic for nic in msgspec.convert(earlier, Asked).nics if nic.mac in own)
    for nic in nics:
        ctx.log(f"{ctx.vm.name}: card {nic.mac} keeps {', '.join(nic.addresses)}")
    return nics


def _scripts(ctx: VmContext, cluster: Cluster) -> tuple[GuestScript, ...]:
    wanted = ctx.vm.customization_scripts
    if not wanted:
        return ()
    if wanted.startswith(OWN_SET):  # checked with the plan
        found = ctx.plan.scripts[wanted.removeprefix(OWN_SET)]
    else:
        config_map = cluster.get(CONFIG_MAPS, wanted, ctx.namespace)
        if config_map is None:
            raise _missing(ctx, "scripts-missing", f"ConfigMap {wanted} with its scripts", "customization_scripts")
        found = dict(config_map.get("data") or {})
        _refuse_bad(ctx, wanted, found, binary=config_map.get("binaryData") or {})
    return tuple(GuestScript(name=name, content=text) for name, text in sorted(found.items()))


def _refuse_bad(ctx: VmContext, config_map: str, found: dict[str, str], *, binary: Iterable[str]) -> None:
    wrong = sorted({name for name in found if not SCRIPT_NAME.match(name)} | set(binary))
    if wrong:
        raise PermanentError(
            f"{ctx.vm.name}: ConfigMap {config_map} holds {', '.join(wrong)}, whose name does not say when to run it",
            cure=f"{SCRIPT_NAME_CURE}, and keep nothing else in it",
            code="script-name",
        )
    if sum(len(text.encode()) for text in found.values()) > MAX_SET_BYTES:
        raise PermanentError(
            f"{ctx.vm.name}: the scripts in ConfigMap {config_map} are larger than {MAX_SET_BYTES // 1024} KiB",
            cure="let them fetch what they need",
            code="script-large",
        )


def _digest(script: GuestScript) -> str:
    return hashlib.sha256(script.content.encode()).hexdigest()


def _missing(ctx: VmContext, code: str, what: str, option: str) -> PermanentError:
    return PermanentError(
        f"{ctx.vm.name}: there is no {what} in {ctx.namespace}",
        cure=f"create it, or mend {option} in the plan",
        code=code,
    )
