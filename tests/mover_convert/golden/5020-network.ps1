# Gives each network card the addresses that it had before the migration. A card is known by its MAC.
$ErrorActionPreference = 'Stop'
$cards = @(
    @{
        Mac = '00:50:56:AA:BB:01'
        Addresses = @(@{ Family = 'ipv4'; Ip = '10.1.2.3'; Prefix = 24; Mask = '255.255.255.0' }, @{ Family = 'ipv4'; Ip = '10.1.2.4'; Prefix = 24; Mask = '255.255.255.0' }, @{ Family = 'ipv6'; Ip = '2001:db8::3'; Prefix = 64 })
        Gateways = @(@{ Family = 'ipv4'; Ip = '10.1.2.1' }, @{ Family = 'ipv6'; Ip = '2001:db8::1' })
        Dns = @(@{ Family = 'ipv4'; Ip = '10.1.2.53' }, @{ Family = 'ipv4'; Ip = '10.1.2.54' }, @{ Family = 'ipv6'; Ip = '2001:db8::53' })
    }
    @{
        Mac = '00:50:56:AA:BB:02'
        Addresses = @(@{ Family = 'ipv4'; Ip = '192.168.7.9'; Prefix = 16; Mask = '255.255.0.0' })
        Gateways = @()
        Dns = @()
    }
)
function Wait-Card($mac) {
    foreach ($try in 1..60) {
        $card = Get-WmiObject Win32_NetworkAdapter |
            Where-Object { $_.MACAddress -eq $mac -and $_.NetConnectionID -and $_.PNPDeviceID -notlike 'ROOT\*' } |
            Select-Object -First 1
        if ($card) { return $card }
        Start-Sleep -Seconds 5
    }
}
$script:failures = 0
function Invoke-Netsh {
    netsh.exe @args
    if ($LASTEXITCODE) {
        Write-Output "failed: netsh $args"
        $script:failures++
    }
}
foreach ($wanted in $cards) {
    $card = Wait-Card $wanted.Mac
    if (-not $card) {
        Write-Output "$($wanted.Mac): no such card after 5 minutes"
        $script:failures++
        continue
    }
    $index = $card.InterfaceIndex
    foreach ($family in 'ipv4', 'ipv6') {
        $addresses = @($wanted.Addresses | Where-Object { $_.Family -eq $family })
        if (-not $addresses) { continue }
        if ($family -eq 'ipv4') {
            # The first one replaces DHCP and whatever stood there; default routes of this card go with it.
            $first = $addresses[0]
            Invoke-Netsh interface ipv4 set address name=$index source=static address=$($first.Ip) mask=$($first.Mask)
            $others = @($addresses | Select-Object -Skip 1)
            foreach ($address in $others) {
                Invoke-Netsh interface ipv4 add address name=$index address=$($address.Ip) mask=$($address.Mask)
            }
        } else {
            foreach ($address in $addresses) {
                $full = "$($address.Ip)/$($address.Prefix)"
                Invoke-Netsh interface ipv6 add address interface=$index address=$full
            }
        }
        $gateway = $wanted.Gateways | Where-Object { $_.Family -eq $family } | Select-Object -First 1
        if ($gateway) {
            $all = if ($family -eq 'ipv4') { '0.0.0.0/0' } else { '::/0' }
            # It may not be there yet; then there is nothing to delete.
            netsh.exe interface $family delete route $all $index $gateway.Ip | Out-Null
            Invoke-Netsh interface $family add route $all $index $gateway.Ip store=persistent
        }
        $place = 1
        foreach ($server in @($wanted.Dns | Where-Object { $_.Family -eq $family })) {
            $ip = $server.Ip
            if ($place -eq 1) {
                Invoke-Netsh interface $family set dnsservers name=$index source=static address=$ip validate=no
            } else {
                Invoke-Netsh interface $family add dnsservers name=$index address=$ip index=$place validate=no
            }
            $place++
        }
    }
    Write-Output "$($wanted.Mac): done (interface $index)"
}
exit $script:failures
