@echo off
rem Installs, builds and starts ComfyFleet; the first two only when something changed.
rem   run.bat                the gateway
rem   run.bat demo           the gateway with three simulated workers
rem   run.bat verify ^<url^>   uses every worker of a running gateway once and says what it found
rem   run.bat test           the tests
setlocal
cd /d "%~dp0"

where node >nul 2>nul
if errorlevel 1 (
  echo ComfyFleet needs Node 20.19 or newer ^(https://nodejs.org^); no Node was found. 1>&2
  exit /b 1
)
node -e "var v = process.versions.node.split('.'); process.exit(+v[0] > 20 || (+v[0] === 20 && +v[1] >= 19) ? 0 : 1)"
if errorlevel 1 (
  echo ComfyFleet needs Node 20.19 or newer ^(https://nodejs.org^); this one is older. 1>&2
  exit /b 1
)

node scripts\prepare.mjs
if errorlevel 1 exit /b 1

if "%~1"=="test" goto test
if "%~1"=="demo" goto demo
if "%~1"=="verify" goto demo
node dist\main.js %*
exit /b %errorlevel%

:demo
node dist\cli.js %*
exit /b %errorlevel%

:test
set "rest="
:next
shift
if "%~1"=="" goto run
set "rest=%rest% %1"
goto next
:run
call npm test -- %rest%
exit /b %errorlevel%
