#!/bin/sh
# Runs as a service under a real systemd: the package's whole life. Says what it does; the last line is `scenario: passed`.
set -eu
export DEBIAN_FRONTEND=noninteractive
unit=dataflux-probe
state=/var/lib/dataflux-probe
out=/var/log/dataflux-probe/envelopes.jsonl

fail() {
    echo "FAILED: $*"
    systemctl status --no-pager --lines=40 $unit || true
    exit 1
}
property() { systemctl show --value --property "$1" $unit; }
# Tries a command for a minute.
wait_for() {
    tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        [ $tries -lt 300 ] || fail "waited in vain: $*"
        sleep 0.2
    done
}
lines() { wc -l <$out; }
more_lines_than() { [ "$(lines)" -gt "$1" ]; }
is_running() { [ "$(property ActiveState)" = active ] && [ "$(property MainPID)" != 0 ]; }
status_says() { property StatusText | grep -q "$1"; }

echo "== install"
dpkg --install /packages/first.deb
systemctl is-enabled --quiet $unit || fail "not enabled"
wait_for is_running
mkdir -p /etc/systemd/system/$unit.service.d
printf '[Service]\nWatchdogSec=4\n' >/etc/systemd/system/$unit.service.d/quick.conf
sed -i 's/^interval = "10s"/interval = "500ms"/' /etc/dataflux-probe/probe.toml
systemctl daemon-reload
systemctl restart $unit
# `restart` came back, so that READY was heard.
[ "$(property ActiveState)" = active ] || fail "not active after READY"
wait_for status_says '^measuring, '
wait_for test -s $out
wait_for dataflux-probe health --ready --file /run/dataflux-probe/health

echo "== sandbox"
pid=$(property MainPID)
grep -E '^(Uid|Cap|NoNewPrivs|Seccomp):?' "/proc/$pid/status" || true
[ "$(stat -c %U "/proc/$pid")" != root ] || fail "runs as root"
grep -q '^NoNewPrivs:.1' "/proc/$pid/status" || fail "may gain privileges"
grep -q '^Seccomp:.2' "/proc/$pid/status" || fail "no system call filter"
# Older kernels ask for CAP_BPF even to look into maps.
grep -qE '^CapPrm:.(0000000000000000|0000008000000000)$' "/proc/$pid/status" || fail "keeps capabilities"
[ "$(stat -c %U:%a $state)" = dataflux-probe:750 ] || fail "state folder: $(stat -c %U:%a $state)"
journalctl --unit $unit --output cat --no-pager | tail -20
# That would be the unit's own filter in the way.
! journalctl --unit $unit --output cat --no-pager | grep 'not permitted' || fail "the sandbox forbids what the probe needs"

echo "== readers"
grep -q '"reader":"scheduler","status":"ok"' $out || fail "the kernel programs do not work"

echo "== host"
# What systemd says of this machine, beside what the header says.
said() { hostnamectl status | sed -n "s/^ *$1: //p"; }
printf '[metadata.host]\n[metadata.os]\n[metrics.cpu]\n[output.a]\nformatter = "json"\nlogger = "stdout"\n' >/host.toml
dataflux-probe once --window 100ms --format json --config /host.toml >/host.json
header() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" /host.json; }
hostnamectl status || fail "hostnamectl"
[ "$(header machine_id)" = "$(said 'Machine ID')" ] || fail "machine id: $(header machine_id)"
[ "$(header boot_id | tr -d -)" = "$(said 'Boot ID')" ] || fail "boot id: $(header boot_id)"
grep -q "\"host\":{[^}]*\"name\":\"$(said 'Static hostname')\"" /host.json || fail "name: $(cat /host.json)"
[ "Linux $(header kernel)" = "$(said Kernel)" ] || fail "kernel: $(header kernel)"
said 'Operating System' | grep -q "$(grep -o '"os":{[^}]*}' /host.json | sed 's/.*"name":"\([^"]*\)".*/\1/')" || fail "system: $(cat /host.json)"

echo "== reload"
told() { journalctl --unit $unit --output cat --no-pager | grep -q "$1"; }
cp /etc/dataflux-probe/probe.toml /before.toml
sed -i 's/^\[metrics.cpu\]/&\nlabels = { life = "reloaded" }/' /etc/dataflux-probe/probe.toml
systemctl reload $unit || fail "cannot be reloaded"
wait_for told 'reloaded /etc/dataflux-probe/probe.toml: changed metrics.cpu'
wait_for grep -q '"life":"reloaded"' $out
echo '[metrics.nothing]' >>/etc/dataflux-probe/probe.toml
systemctl reload $unit || fail "cannot be reloaded"
wait_for told 'not reloaded'
wait_for status_says 'was refused'
[ "$(property MainPID)" = "$pid" ] || fail "a reload started it anew"
cp /before.toml /etc/dataflux-probe/probe.toml

echo "== upgrade"
ls -R $state/spool
touch $state/spool/marker
before=$(lines)
dpkg --install /packages/second.deb
grep -q 500ms /etc/dataflux-probe/probe.toml || fail "the configuration was replaced"
wait_for is_running
[ "$(property MainPID)" != "$pid" ] || fail "not restarted"
[ -e $state/spool/marker ] || fail "the spool was not kept"
wait_for more_lines_than "$before"
grep -q '"previous":{' $out || fail "the new start does not name the stream before"

echo "== watchdog"
# Longer than the watchdog of 4 s with a pipeline that moves: no restart.
restarts=$(property NRestarts)
sleep 9
[ "$(property NRestarts)" = "$restarts" ] || fail "restarted without a reason"
pid=$(property MainPID)
kill -STOP "$pid"
restarted() { [ "$(property NRestarts)" -gt "$restarts" ] && is_running; }
wait_for restarted
journalctl --unit $unit --output cat --no-pager | grep -i 'watchdog' || fail "not ended by the watchdog"

echo "== stop"
systemctl stop $unit
[ "$(property Result)" = success ] || fail "ended by $(property Result)"
[ ! -e /run/dataflux-probe/health ] || fail "the health file is still there"

echo "== wrong configuration"
cp /etc/dataflux-probe/probe.toml /good.toml
echo '[metrics.nothing]' >>/etc/dataflux-probe/probe.toml
! systemctl start $unit || fail "a wrong configuration started"
sleep 1
[ "$(property ActiveState)" = failed ] || fail "tries a wrong configuration again: $(property ActiveState)"
cp /good.toml /etc/dataflux-probe/probe.toml
systemctl start $unit

echo "== remove"
dpkg --remove $unit
! grep -lx dataflux-probe /proc/[0-9]*/comm 2>/dev/null || fail "still runs"
[ -e $state/spool/marker ] || fail "removing took the spool"
[ -e /etc/dataflux-probe/probe.toml ] || fail "removing took the configuration"

echo "== purge"
dpkg --purge $unit
for path in $state /var/log/dataflux-probe /etc/dataflux-probe/probe.toml; do
    [ ! -e "$path" ] || fail "purging left $path"
done
getent passwd dataflux-probe >/dev/null || fail "purging took the user"
echo "scenario: passed"
