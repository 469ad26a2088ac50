@echo off
set mtv=%SystemDrive%\Program Files\Guestfs\Firstboot\mtv
powershell.exe -NoProfile -NonInteractive -ExecutionPolicy Bypass -File "%mtv%\5010-disks.ps1" > "%mtv%\5010-disks.log" 2>&1
exit /b %errorlevel%
