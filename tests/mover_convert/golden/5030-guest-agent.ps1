# Sees to it that the QEMU guest agent runs; its installer was put on the disk by the conversion.
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
