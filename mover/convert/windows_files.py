"""Scripts that a Windows guest runs at its first boot, in the folder of virt-v2v's own first-boot service.

That service starts every .bat of its folder in order; each of ours starts a PowerShell script beside it and keeps its
output in a log. Everything put into a script was checked to be an address, a number or a letter: no text of the source
reaches PowerShell.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping

import msgspec

from mover.convert.interface_names import mac_of
from mover.convert.linux_files import GuestFile
from mtv.model.conversion import ConvertNic, GuestScript
from mtv.model.errors import PermanentError

FOLDER = "/Program Files/Guestfs/Firstboot"
_BYTE_ORDER_MARK = "\ufeff"
_WINDOWS_FOLDER = r"%SystemDrive%\Program Files\Guestfs\Firstboot\mtv"
_IPV4, _IPV6 = 4, 6

_BATCH = r"""@echo off
set mtv={folder}
powershell.exe -NoProfile -NonInteractive -ExecutionPolicy Bypass -File "%mtv%\{name}.ps1" > "%mtv%\{name}.log" 2>&1
exit /b %errorlevel%
"""

_DISKS = r"""# Brings every disk online and gives each volume the drive letter that it had before the migration.
$ErrorActionPreference = 'Stop'
$volumes = @(
{volumes}
)
if (-not (Get-Command Get-Disk -ErrorAction SilentlyContinue)) {{
    # Windows 7 and Server 2008 R2: no storage cmdlets.
    $commands = @('san policy=OnlineAll')
    foreach ($disk in Get-WmiObject Win32_DiskDrive) {{
        $commands += "select disk $($disk.Index)", 'online disk noerr', 'attributes disk clear readonly noerr'
    }}
    $commands | diskpart
    exit $LASTEXITCODE
}}
Set-StorageSetting -NewDiskPolicy OnlineAll
Get-Disk | Where-Object {{ $_.IsOffline }} | Set-Disk -IsOffline $false
Get-Disk | Where-Object {{ $_.IsReadOnly }} | Set-Disk -IsReadOnly $false
Update-HostStorageCache
function Find-Volume($wanted) {{
    foreach ($partition in Get-Partition) {{
        if ($wanted.Guid) {{
            if ("$($partition.Guid)".Trim('{{}}') -eq $wanted.Guid) {{ return $partition }}
        }} else {{
            $disk = Get-Disk -Number $partition.DiskNumber
            if ($disk.Signature -eq $wanted.Signature -and $partition.Offset -eq $wanted.Offset) {{ return $partition }}
        }}
    }}
}}
foreach ($volume in $volumes) {{
    $partition = Find-Volume $volume
    if (-not $partition) {{
        Write-Output "$($volume.Letter): its volume was not found"
        continue
    }}
    if ("$($partition.DriveLetter)" -eq $volume.Letter) {{ continue }}
    # Whoever took the letter (often the CD drive) gives it back and gets another.
    $holder = Get-WmiObject Win32_Volume -Filter "DriveLetter='$($volume.Letter):'"
    if ($holder) {{
        $taken = (Get-PSDrive -PSProvider FileSystem).Name
        $free = [char[]](90..68) | Where-Object {{ $taken -notcontains "$_" }} | Select-Object -First 1
        $holder.DriveLetter = "${{free}}:"
        [void]$holder.Put()
    }}
    $partition | Set-Partition -NewDriveLetter $volume.Letter
    Write-Output "$($volume.Letter): given back"
}}
"""

_NETWORK = r"""# Gives each network card the addresses that it had before the migration. A card is known by its MAC.
$ErrorActionPreference = 'Stop'
$cards = @(
{cards}
)
function Wait-Card($mac) {{
    foreach ($try in 1..60) {{
        $card = Get-WmiObject Win32_NetworkAdapter |
            Where-Object {{ $_.MACAddress -eq $mac -and $_.NetConnectionID -and $_.PNPDeviceID -notlike 'ROOT\*' }} |
            Select-Object -First 1
        if ($card) {{ return $card }}
        Start-Sleep -Seconds 5
    }}
}}
$script:failures = 0
function Invoke-Netsh {{
    netsh.exe @args
    if ($LASTEXITCODE) {{
        Write-Output "failed: netsh $args"
        $script:failures++
    }}
}}
foreach ($wanted in $cards) {{
    $card = Wait-Card $wanted.Mac
    if (-not $card) {{
        Write-Output "$($wanted.Mac): no such card after 5 minutes"
        $script:failures++
        continue
    }}
    $index = $card.InterfaceIndex
    foreach ($family in 'ipv4', 'ipv6') {{
        $addresses = @($wanted.Addresses | Where-Object {{ $_.Family -eq $family }})
        if (-not $addresses) {{ continue }}
        if ($family -eq 'ipv4') {{
            # The first one replaces DHCP and whatever stood there; default routes of this card go with it.
            $first = $addresses[0]
            Invoke-Netsh interface ipv4 set address name=$index source=static address=$($first.Ip) mask=$($first.Mask)
            $others = @($addresses | Select-Object -Skip 1)
            foreach ($address in $others) {{
                Invoke-Netsh interface ipv4 add address name=$index address=$($address.Ip) mask=$($address.Mask)
            }}
        }} else {{
            foreach ($address in $addresses) {{
                $full = "$($address.Ip)/$($address.Prefix)"
                Invoke-Netsh interface ipv6 add address interface=$index address=$full
            }}
        }}
        $gateway = $wanted.Gateways | Where-Object {{ $_.Family -eq $family }} | Select-Object -First 1
        if ($gateway) {{
            $all = if ($family -eq 'ipv4') {{ '0.0.0.0/0' }} else {{ '::/0' }}
            # It may not be there yet; then there is nothing to delete.
            netsh.exe interface $family delete route $all $index $gateway.Ip | Out-Null
            Invoke-Netsh interface $family add route $all $index $gateway.Ip store=persistent
        }}
        $place = 1
        foreach ($server in @($wanted.Dns | Where-Object {{ $_.Family -eq $family }})) {{
            $ip = $server.Ip
            if ($place -eq 1) {{
                Invoke-Netsh interface $family set dnsservers name=$index source=static address=$ip validate=no
            }} else {{
                Invoke-Netsh interface $family add dnsservers name=$index address=$ip index=$place validate=no
            }}
            $place++
        }}
    }}
    Write-Output "$($wanted.Mac): done (interface $index)"
}}
exit $script:failures
"""

_AGENT = r"""# Sees to it that the QEMU guest agent runs; its installer was put on the disk by the conversion.
foreach ($try in 1..10) {
    $service = Get-Service -Name 'QEMU-GA', 'qemu-ga' -ErrorAction SilentlyContinue | Select-Object -First 1
    if ($service) {
        if ($service.Status -ne 'Running') { Start-Service -InputObject $service }
        Write-Output "the guest agent runs (try $try)"
        exit 0
    }
    $arch = if ([Environment]::Is64BitOperatingSystem) { 'x86_64' } else { 'i386' }
    $places = "$env:SystemDrive\", "$env:SystemRoot\Drivers\VirtIO\", "$env:SystemRoot\Temp\"
    $installer = $places | ForEach-Object { Join-Path $_ "qemu-ga-$arch.msi" } |
        Where-Object { Test-Path -LiteralPath $_ } | Select-Object -First 1
    if (-not $installer) {
        Write-Output 'no installer of the guest agent is on the disk; install it by hand'
        exit 2
    }
    $done = Start-Process msiexec.exe -Wait -PassThru -ArgumentList '/i', "`"$installer`"", '/qn', '/norestart'
    Write-Output "try ${try}: the installer ended with $($done.ExitCode)"
    Start-Sleep -Seconds 60
}
exit 1
"""


class DriveLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A letter and the volume that had it: the MBR's signature (8 hex digits) and offset, or a GPT partition's GUID."""

    letter: str
    disk_signature: str = ""
    offset: int = 0
    partition_guid: str = ""


def first_boot_files(
    *, letters: Iterable[DriveLetter], nics: Iterable[ConvertNic], scripts: Iterable[GuestScript]
) -> list[GuestFile]:
    """All first-boot files of a Windows guest: disks and letters, addresses, guest agent, then the user's scripts."""
    parts = {"5010-disks": disks_script(letters)}
    if network := network_script(nics):
        parts["5020-network"] = network
    parts["5030-guest-agent"] = _AGENT
    for number, script in enumerate(scripts):
        stem = re.sub(r"[^A-Za-z0-9_-]", "-", script.name.removesuffix(".ps1"))
        parts[f"{7000 + number}-{stem}"] = script.content
    files = []
    for name, content in parts.items():
        files.append(GuestFile(f"{FOLDER}/mtv/{name}.ps1", _power_shell_text(content)))
        batch = _BATCH.format(folder=_WINDOWS_FOLDER, name=name)
        files.append(GuestFile(f"{FOLDER}/scripts/{name}.bat", _windows_text(batch)))
    return files


def disks_script(letters: Iterable[DriveLetter]) -> str:
    """The script that brings disks online and gives drive letters back."""
    lines = []
    for volume in sorted(letters, key=lambda volume: volume.letter):
        if not re.fullmatch(r"[A-Z]", volume.letter):
            raise ValueError(f"{volume.letter!r} is no drive letter")
        if volume.letter == "C":
            continue  # Windows itself sees to its own volume
        if volume.partition_guid:
            guid = re.fullmatch(r"[0-9a-f-]{36}", volume.partition_guid)
            lines.append(f"    @{{ Letter = '{volume.letter}'; Guid = '{guid[0] if guid else ''}' }}")
        else:
            signature = int(volume.disk_signature, 16)
            lines.append(f"    @{{ Letter = '{volume.letter}'; Signature = {signature}; Offset = {volume.offset} }}")
    return _DISKS.format(volumes="\n".join(lines))


def network_script(nics: Iterable[ConvertNic]) -> str:
    """The script that gives cards their addresses; empty without any. IPv6 link-local addresses are left out.

    Raises `PermanentError` (code nic-address) for what is no address.
    """
    cards = [card for nic in nics if (card := _card(nic))]
    return _NETWORK.format(cards="\n".join(cards)) if cards else ""


def _card(nic: ConvertNic) -> str:
    try:
        interfaces = [ipaddress.ip_interface(text) for text in nic.addresses]
        gateways = [ipaddress.ip_address(text) for text in nic.gateways]
        servers = [ipaddress.ip_address(text) for text in nic.dns]
        mac = mac_of(nic.mac).upper()
    except ValueError as error:
        raise PermanentError(
            f"card {nic.mac}: {error}", cure="correct the card's addresses in the plan", code="nic-address"
        ) from error
    addresses = [
        _hash(
            {"Family": f"'ipv{it.version}'", "Ip": f"'{it.ip}'", "Prefix": str(it.network.prefixlen)}
            | ({"Mask": f"'{it.netmask}'"} if it.version == _IPV4 else {})
        )
        for it in sorted(interfaces, key=lambda it: it.version)
        if not (it.version == _IPV6 and it.is_link_local)
    ]
    if not addresses:
        return ""
    lines = ["    @{", f"        Mac = '{mac}'"]
    for key, values in (
        ("Addresses", addresses),
        ("Gateways", [_hash({"Family": f"'ipv{ip.version}'", "Ip": f"'{ip}'"}) for ip in gateways]),
        ("Dns", [_hash({"Family": f"'ipv{ip.version}'", "Ip": f"'{ip}'"}) for ip in servers]),
    ):
        lines.append(f"        {key} = @(" + ", ".join(values) + ")")
    return "\n".join([*lines, "    }"])


def _hash(values: Mapping[str, str]) -> str:
    return "@{ " + "; ".join(f"{key} = {value}" for key, value in values.items()) + " }"


def _power_shell_text(text: str) -> str:
    """Windows PowerShell reads a file without a byte order mark in the old code page: to it an en dash in UTF-8 holds a
    quotation mark, which ends a string.
    """
    plain = text.removeprefix(_BYTE_ORDER_MARK)
    return _windows_text(plain if plain.isascii() else _BYTE_ORDER_MARK + plain)


def _windows_text(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\n", "\r\n")
