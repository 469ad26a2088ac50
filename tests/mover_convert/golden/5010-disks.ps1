# Brings every disk online and gives each volume the drive letter that it had before the migration.
$ErrorActionPreference = 'Stop'
$volumes = @(
    @{ Letter = 'D'; Signature = 305441741; Offset = 1048576 }
    @{ Letter = 'E'; Guid = '11111111-2222-3333-4444-555555555555' }
)
if (-not (Get-Command Get-Disk -ErrorAction SilentlyContinue)) {
    # Windows 7 and Server 2008 R2: no storage cmdlets.
    $commands = @('san policy=OnlineAll')
    foreach ($disk in Get-WmiObject Win32_DiskDrive) {
        $commands += "select disk $($disk.Index)", 'online disk noerr', 'attributes disk clear readonly noerr'
    }
    $commands | diskpart
    exit $LASTEXITCODE
}
Set-StorageSetting -NewDiskPolicy OnlineAll
Get-Disk | Where-Object { $_.IsOffline } | Set-Disk -IsOffline $false
Get-Disk | Where-Object { $_.IsReadOnly } | Set-Disk -IsReadOnly $false
Update-HostStorageCache
function Find-Volume($wanted) {
    foreach ($partition in Get-Partition) {
        if ($wanted.Guid) {
            if ("$($partition.Guid)".Trim('{}') -eq $wanted.Guid) { return $partition }
        } else {
            $disk = Get-Disk -Number $partition.DiskNumber
            if ($disk.Signature -eq $wanted.Signature -and $partition.Offset -eq $wanted.Offset) { return $partition }
        }
    }
}
foreach ($volume in $volumes) {
    $partition = Find-Volume $volume
    if (-not $partition) {
        Write-Output "$($volume.Letter): its volume was not found"
        continue
    }
    if ("$($partition.DriveLetter)" -eq $volume.Letter) { continue }
    # Whoever took the letter (often the CD drive) gives it back and gets another.
    $holder = Get-WmiObject Win32_Volume -Filter "DriveLetter='$($volume.Letter):'"
    if ($holder) {
        $taken = (Get-PSDrive -PSProvider FileSystem).Name
        $free = [char[]](90..68) | Where-Object { $taken -notcontains "$_" } | Select-Object -First 1
        $holder.DriveLetter = "${free}:"
        [void]$holder.Put()
    }
    $partition | Set-Partition -NewDriveLetter $volume.Letter
    Write-Output "$($volume.Letter): given back"
}
