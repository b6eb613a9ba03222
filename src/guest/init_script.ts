/**
 * What the default guest runs: the first process, its shutdown, and a shell's profile. All are scripts for BusyBox's ash.
 *
 * Words of the kernel's command line that they know:
 * - `trike.marks`: print lines `TRIKE-MARK:name` at init, prompt (just before the shell) and exit-STATUS (of the script).
 * - `trike.exec=BASE64`: run this script, then power off.
 * - `trike.size=COLUMNSxROWS`: the console's terminal has this size, of which a serial line knows nothing.
 * - `root=`, `rootfstype=`, `rootflags=`, `rw`, `init=`: go on with that root file system, as the kernel itself would.
 */

/** PID 1. It ends in busybox's init, in the root file system's, or in a poweroff. */
export const INIT = `#!/bin/sh
export PATH=/bin HOME=/root
mount -t proc proc /proc
read -r cmdline </proc/cmdline
case " $cmdline " in *" trike.marks "*) echo TRIKE-MARK:init ;; esac
root= fstype= flags= mode=ro init=/sbin/init
set -f
for word in $cmdline; do
  case $word in
    root=*) root=\${word#*=} ;;
    rootfstype=*) fstype=\${word#*=} ;;
    rootflags=*) flags=\${word#*=} ;;
    ro|rw) mode=$word ;;
    init=*) init=\${word#*=} ;;
  esac
done
set +f

mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev

# Drivers for what is there. virtio devices and the power button's input appear by the first round's drivers.
coldplug() {
  modprobe -a -q $(cat "$@" 2>/dev/null) 2>/dev/null
}
coldplug /sys/bus/pci/devices/*/modalias /sys/bus/acpi/devices/*/modalias
coldplug /sys/bus/virtio/devices/*/modalias /sys/class/input/input*/modalias
# disks behind a host adapter are found later, and by nobody if their drivers are not there
[ -e /sys/class/scsi_host/host0 ] && modprobe -a -q sd_mod sr_mod 2>/dev/null

mount_root() {
  tries=0
  while :; do
    case $root in
      *=*) device=$(findfs "$root" 2>/dev/null) ;;
      *) device=$root ;;
    esac
    [ -b "$device" ] && break
    tries=$((tries + 1))
    [ $tries -gt 50 ] && echo "init: there is no device $root" && return 1
    sleep 0.1
  done
  mount \${fstype:+-t "$fstype"} -o "$mode\${flags:+,$flags}" "$device" /newroot || return 1
  mount -o move /proc /newroot/proc && mount -o move /sys /newroot/sys && mount -o move /dev /newroot/dev
}
if [ -n "$root" ]; then
  mount_root && exec switch_root -c /dev/console /newroot "$init"
  echo "init: cannot go on with root=$root; this is the initial file system"
fi

. /etc/rc
`;

/** PID 1 of the ext4 root file system, where the initial one has moved /proc, /sys and /dev to. */
export const ROOT_INIT = `#!/bin/sh
export PATH=/bin HOME=/root
mount -o remount,rw /
. /etc/rc
`;

/** The common end of both: what needs no driver, then the script of the command line, or a shell. */
export const RC = `mkdir -p /dev/pts /dev/shm
mount -t devpts -o mode=620 devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs -o mode=755 tmpfs /run
hostname trike
ifconfig lo up 2>/dev/null
cd /root

# An address for the network card, if there is one, from whoever gives them there.
network() {
  ifconfig eth0 up && udhcpc -i eth0 -n -t 5 -T 1 -s /etc/udhcpc.script >/dev/null 2>&1
}

read -r cmdline </proc/cmdline
exec64= marks=
set -f
for word in $cmdline; do
  case $word in
    trike.marks) marks=1 ;;
    trike.exec=*) exec64=\${word#*=} ;;
  esac
done
set +f

if [ -n "$exec64" ]; then
  [ -e /sys/class/net/eth0 ] && network
  echo "$exec64" | base64 -d >/run/exec && sh /run/exec
  status=$?
  [ -n "$marks" ] && echo "TRIKE-MARK:exit-$status"
  exec /etc/rc.shutdown poweroff
fi

[ -e /sys/class/net/eth0 ] && network &
echo "Linux $(uname -r) and BusyBox; disks are /dev/vda, /dev/vdb and so on. To end: poweroff."
echo "The terminal's own keys: Ctrl-A x leaves at once, Ctrl-A h shows the others."
[ -n "$marks" ] && echo TRIKE-MARK:prompt
# init reports each start and stop on stderr; cttyhack gives the shell the console whatever init has open
exec busybox init 2>/dev/null
`;

/** What udhcpc tells of an address goes to the card, the routes and the resolver. */
export const UDHCPC_SCRIPT = `#!/bin/sh
case $1 in
  deconfig) ifconfig "$interface" 0.0.0.0 ;;
  bound | renew)
    ifconfig "$interface" "$ip" netmask "\${subnet:-255.255.255.0}"
    while route del default dev "$interface" 2>/dev/null; do :; done
    for one in $router; do route add default gw "$one" dev "$interface"; done
    for one in $dns; do echo "nameserver $one"; done >/etc/resolv.conf
    ;;
esac
`;

/** cttyhack finds the console's real device, which can be a controlling terminal; acpid waits for the power button. */
export const INITTAB = `::respawn:/bin/cttyhack /bin/sh -l
::once:/bin/acpid -f -l /dev/null
::ctrlaltdel:/etc/rc.shutdown reboot
::shutdown:/bin/umount -a -r
`;

/** `rc.shutdown poweroff|reboot|halt`: at once, with what was written on the disks. */
export const RC_SHUTDOWN = `#!/bin/sh
sync
umount -a -r 2>/dev/null
exec busybox "$1" -f
`;

/** Found by acpid under its own name for the power button. */
export const POWER_BUTTON = `#!/bin/sh
exec /etc/rc.shutdown poweroff
`;

/** Read by a login shell. */
export const PROFILE = `export PATH=/bin HOME=/root ENV=/etc/shrc PS1='\\w \\$ '
cd
for word in $(cat /proc/cmdline); do
  case $word in
    trike.size=*x*) word=\${word#*=}; stty columns "\${word%x*}" rows "\${word#*x}" 2>/dev/null ;;
  esac
done
unset word
`;

/**
 * Read by every interactive shell. ash prefers its own applets to files, but functions to both. init's way down would work as
 * well; it waits two seconds for processes to end.
 */
export const SHRC = `poweroff() { /etc/rc.shutdown poweroff; }
reboot() { /etc/rc.shutdown reboot; }
halt() { /etc/rc.shutdown halt; }
`;

/** What `mount` tries, in this order, when it is not told the type; the kernel then asks for the module. */
export const FILESYSTEMS = `ext4
vfat
iso9660
squashfs
`;
