"""Two hosts on one machine, for ranks: network namespaces with names of their own, joined by a bridge in a
third, whose port is the cable that can be pulled. Needs root, `ip` and a kernel with veth and bridges; netem
is not needed."""
import os
import shutil
import signal
import subprocess
import time

ADDRESSES = ("10.77.0.1", "10.77.0.2")
# mpirun sends its own words over TCP, and waits for a host that is gone as long as TCP does: some 15 minutes
# by Linux's 15 repetitions.
RETRIES = 3


class Unable(Exception):
    """This machine cannot have them; the text says why."""


def ip(*words):
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode != 0:
        raise Unable(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


class TwoHosts:
    """`with TwoHosts(folder) as hosts:` the namespaces and whatever runs in them end with it."""

    def __init__(self, folder):
        self.names = [f"host-{letter}" for letter in "ab"]
        self.spaces = [f"retort-{os.getpid()}-{letter}" for letter in "ab"]
        self.wire = f"retort-{os.getpid()}-wire"
        self.agent = folder / "agent"  # what mpirun calls in place of ssh

    def __enter__(self):
        if os.geteuid() != 0 or not shutil.which("ip"):
            raise Unable("namespaces need root and the program ip")
        try:
            self.build()
        except Unable:
            self.__exit__()
            raise
        name, space = self.names[1], self.spaces[1]
        self.agent.write_text(
            "#!/bin/sh\n# agent [OPTION ...] HOST COMMAND...\n"
            'while [ "${1#-}" != "$1" ]; do shift; done\nshift\n'
            f'exec ip netns exec {space} unshare -u sh -c "hostname {name}; $*"\n'
        )
        self.agent.chmod(0o755)
        return self

    def build(self):
        for space in (*self.spaces, self.wire):
            ip("netns", "add", space)
            ip("-n", space, "link", "set", "dev", "lo", "up")
        ip("-n", self.wire, "link", "add", "bridge", "type", "bridge")
        ip("-n", self.wire, "link", "set", "dev", "bridge", "up")
        for space, name, address in zip(self.spaces, self.names, ADDRESSES):
            ip("-n", space, "link", "add", "eth", "type", "veth", "peer", "name", name, "netns", self.wire)
            ip("-n", self.wire, "link", "set", "dev", name, "master", "bridge", "up")
            ip("-n", space, "addr", "add", f"{address}/24", "dev", "eth")
            ip("-n", space, "link", "set", "dev", "eth", "up")
            retries = f"echo {RETRIES} > /proc/sys/net/ipv4/tcp_retries2"
            ip("netns", "exec", space, "sh", "-c", retries)

    def cut(self):
        """What is sent from now on is lost; both ends still see a cable."""
        ip("-n", self.wire, "link", "set", "dev", self.names[1], "nomaster")

    def mend(self):
        ip("-n", self.wire, "link", "set", "dev", self.names[1], "master", "bridge")

    def mpirun(self, ranks):
        """The command that starts so many ranks, half of them on each host, without `-n` and the program."""
        slots = (ranks + 1) // 2
        return (
            ["ip", "netns", "exec", self.spaces[0], "unshare", "-u", "sh", "-c"]
            + [f'hostname {self.names[0]} && exec "$@"', "mpirun", "mpirun", "--allow-run-as-root"]
            + ["--bind-to", "none", "--host", ",".join(f"{address}:{slots}" for address in ADDRESSES)]
            + ["--mca", "plm_rsh_agent", str(self.agent)]
            + [word for layer in ("oob", "btl") for word in ("--mca", f"{layer}_tcp_if_include", "eth")]
        )

    def processes(self):
        return [int(word) for space in self.spaces for word in ip("netns", "pids", space).split()]

    def empty_by(self, moment):
        """Whether all processes on both hosts end before that time.monotonic()."""
        while self.processes():
            if time.monotonic() > moment:
                return False
            time.sleep(0.1)
        return True

    def __exit__(self, *_):
        for space in (*self.spaces, self.wire):
            try:
                for word in ip("netns", "pids", space).split():
                    os.kill(int(word), signal.SIGKILL)
            except (Unable, ProcessLookupError):
                pass  # not there, or it has just ended
            subprocess.run(["ip", "netns", "del", space], capture_output=True)
