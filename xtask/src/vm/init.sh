#!/bin/sh
# The first process of a VM: mounts what a machine has, runs the plan, says how it went, ends the machine.
# Says on the second serial port what it did, a line each: `up SECONDS`, `begin NUMBER UPTIME`, `end NUMBER STATUS UPTIME`, `done`.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp TERM="${TERM:-dumb}"
mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys
mkdir -p /dev/pts /dev/shm /run
mount -t devpts pts /dev/pts; mount -t tmpfs shm /dev/shm; mount -t tmpfs run /run
mount -t bpf bpf /sys/fs/bpf; mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t debugfs debug /sys/kernel/debug; mount -t tracefs trace /sys/kernel/tracing
mkdir -p /run/netns /run/lock
ln -s /proc/self/fd /dev/fd
# Devices whose module is loaded when they are opened; on a machine udev makes them from the same list.
while read -r module node number; do
    case $number in [bc]*:*) ;; *) continue ;; esac
    mkdir -p "/dev/$(dirname "$node")"
    major=${number#?}
    mknod "/dev/$node" "${number%"$major"}" "${major%:*}" "${major#*:}" 2>/dev/null
done <"/lib/modules/$(uname -r)/modules.devname"
ip link set lo up
ulimit -n 20000

# The console of virtio is many times as fast as a serial port under emulation. It comes a moment after its driver.
modprobe -qa virtio_pci virtio_console
tries=0
until [ -c /dev/hvc0 ] && (: >/dev/hvc0) 2>/dev/null; do
    tries=$((tries + 1))
    [ "$tries" -lt 200 ] || { echo "<1>no console of virtio" >/dev/kmsg; reboot -f; }
    sleep 0.05
done
stty raw -echo </dev/ttyS1
exec 4>/dev/ttyS1
read -r up _ </proc/uptime
echo "up $up" >&4

begin() {
    read -r uptime _ </proc/uptime
    echo "begin $1 $uptime" >&4
}

end() {
    read -r uptime _ </proc/uptime
    echo "end $1 $2 $uptime" >&4
}

# run NUMBER SECONDS FOLDER PROGRAM [ARGUMENT]...
# The program's path in full: busybox would run its own program of that name, whatever is in the path.
run() {
    number=$1 limit=$2 folder=$3 program=$(command -v "$4" || echo "$4")
    shift 4
    begin "$number"
    (cd "$folder" && exec timeout -k 5 "$limit" "$program" "$@" 4>&-)
    end "$number" $?
}

# talk NUMBER FOLDER PROGRAM [ARGUMENT]...: with the console as its terminal, for a person.
talk() {
    number=$1 folder=$2 program=$(command -v "$3" || echo "$3")
    shift 3
    begin "$number"
    (cd "$folder" && exec setsid -c "$program" "$@" 4>&-) </dev/hvc0
    end "$number" $?
}

. /plan.environment
if [ -z "$VM_TERMINAL" ]; then
    stty raw -echo </dev/hvc0
else
    stty sane rows "${VM_ROWS:-24}" columns "${VM_COLUMNS:-80}" </dev/hvc0
fi
. /plan </dev/null >/dev/hvc0 2>&1
echo "done" >&4
reboot -f
