#!/bin/sh
# Becomes a systemd that knows only the units in $1: run it as the first process of new namespaces
# (pid, mount, cgroup, uts, ipc). Nothing that happens here is seen outside of them.
# $2 python prefix, $3 site-packages, $4 this repository, $5 model store, $6 settings.
set -eu
mount --make-rprivate /
scratch=$(mktemp -d)
mount -t tmpfs tmpfs "$scratch"
for directory in /usr/bin /etc /opt /var/lib /var/log; do
    upper=$scratch$directory
    mkdir -p "$upper/new" "$upper/work"
    mount -t overlay overlay \
        -o "lowerdir=$directory,upperdir=$upper/new,workdir=$upper/work" "$directory"
done
mkdir -p /opt/python /opt/site /opt/repository /opt/store /etc/outrider
mount --bind "$2" /opt/python
mount --bind "$3" /opt/site
mount --bind "$4" /opt/repository
mount --bind "$5" /opt/store
cp "$6" /etc/outrider/outrider.toml
cat > /usr/bin/outrider <<'END'
#!/bin/sh
export LD_LIBRARY_PATH=/opt/python/lib PYTHONDONTWRITEBYTECODE=1
repository=/opt/repository
export PYTHONPATH=$repository/common:$repository/edge:$repository/cloud:$repository/proto:/opt/site
exec /opt/python/bin/python3 -m outrider "$@"
END
chmod 755 /usr/bin/outrider
mount -t tmpfs -o mode=755 tmpfs /run
umount -R /sys/fs/cgroup 2>/dev/null || umount -l /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin SYSTEMD_UNIT_PATH="$1" \
    /lib/systemd/systemd --system --unit=machine.target --log-target=null
