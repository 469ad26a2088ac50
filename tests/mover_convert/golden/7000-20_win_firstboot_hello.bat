@echo off
set mtv=%SystemDrive%\Program Files\Guestfs\Firstboot\mtv
powershell.exe -NoProfile -NonInteractive -ExecutionPolicy Bypass -File "%mtv%\7000-20_win_firstboot_hello.ps1" > "%mtv%\7000-20_win_firstboot_hello.log" 2>&1
exit /b %errorlevel%
