"""daemon: the embedded cloud's daemon: moto on two addresses, instances, disk and forwarder behind one lock.

`lifecycle` starts it as `python -m tasks.cloud.embedded.daemon FOLDER`. It outlives the command that started it.
"""

from __future__ import annotations

import functools
import ipaddress
import logging
import os
import secrets
import signal
import socket
import sys
import threading
from pathlib import Path

from tasks.cloud.embedded import debian_root, forwarder
from tasks.cloud.embedded.address import ACCOUNT, LOOPBACK
from tasks.cloud.embedded.containers import Containers
from tasks.cloud.embedded.home import CloudIdentity, Home
from tasks.cloud.embedded.listen import listen, listen_somewhere
from tasks.process.life import this_boot

REGION = "eu-central-1"
HOME_GONE_EVERY = 10.0
"""Seconds between two checks whether the home still exists; without it the daemon ends."""
SETTINGS = {
    "MOTO_EC2_LOAD_DEFAULT_AMIS": "false",  # 1,300 images that cannot be launched here
    "MOTO_DISABLE_GLOBAL_CORS": "true",  # no web page may use this cloud
    "AWS_EC2_METADATA_DISABLED": "true",
}


def serve(home: Home, identity: CloudIdentity, runtime: object | None = None) -> None:
    """Run the cloud of this home until SIGTERM. Tests pass a `runtime` in place of containers."""
    os.environ.update(SETTINGS)
    from tasks.cloud.embedded import api, moto_patches  # moto reads its settings when it is imported
    from tasks.cloud.embedded.access import Access
    from tasks.cloud.embedded.debian_ami import DebianAmi
    from tasks.cloud.embedded.disk import Disk
    from tasks.cloud.embedded.faults import LATE, PACE, Faults
    from tasks.cloud.embedded.instances import Instances, Pace

    api_socket = _bind(identity.port)
    forward_socket = _bind(identity.forward_port, 8080)
    identity = home.change(
        identity,
        port=api_socket.getsockname()[1],
        forward_port=forward_socket.getsockname()[1],
        presign_key=identity.presign_key or secrets.token_hex(16),  # a cloud that was made without one
        presign_secret=identity.presign_secret or secrets.token_hex(32),
    )
    lock = threading.RLock()
    disk = Disk(home.state, home.objects, former=max(LATE) if identity.faults else 0)
    key = debian_root.key()
    faults = Faults() if identity.faults else None
    instances = Instances(
        runtime=runtime or Containers(identity.id),  # type: ignore[arg-type]
        lock=lock,
        save=functools.partial(disk.save, "ec2"),
        folder=home.hosts,
        debian_ami=f"ami-{key.ljust(17, '0')}",
        debian_image=debian_root.reference(key),
        subnet=identity.subnet,
        pace=PACE if faults else Pace(),
    )
    moto_patches.install(instances)
    disk.load()
    claim = instances.runtime.image(instances.debian_ami)
    debian_ami = DebianAmi(instances.debian_ami, claim, lock, disk, made=runtime is not None)
    api.region(ACCOUNT, REGION)
    debian_ami.register()
    with lock:
        instances.resume(bring_back=identity.paused or identity.boot != this_boot())
        disk.save("ec2")
    identity = home.change(identity, paused=False, boot=this_boot())

    access = Access(
        key=identity.key or "nobody",
        secret=identity.secret or "nobody",
        presigning=identity.presigning,
        account=ACCOUNT,
        region=REGION,
        issuers=home.issuer_keys,
    )
    application = api.WsgiApplication(
        lock=lock, disk=disk, instances=instances, debian_ami=debian_ami, faults=faults, access=access
    )
    gateway = [] if runtime else [listen(identity.gateway, identity.port, freebind=True)]
    allowed = ipaddress.ip_network(identity.subnet)
    threads = [
        threading.Thread(target=api.serve, args=(application, each, allowed), daemon=True)
        for each in (api_socket, *gateway)
    ]
    threads.append(threading.Thread(target=instances.watch, daemon=True))
    names = forwarder.SiteNames(instances, lock)
    threads.append(threading.Thread(target=forwarder.serve, args=(forward_socket, names), daemon=True))
    for thread in threads:
        thread.start()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    home.announce()
    while not stop.wait(HOME_GONE_EVERY) and home.folder.exists():
        pass
    debian_ami.close()
    instances.close()
    lock.acquire()  # every request under way is answered and stored
    os._exit(0)


def _bind(port: int, *preferred: int) -> socket.socket:
    return listen(LOOPBACK, port) if port else listen_somewhere(LOOPBACK, *preferred)


def main() -> None:
    """Serve the folder that the command line names."""
    logging.basicConfig(format="%(asctime)s %(message)s")
    home = Home(folder=Path(sys.argv[1]))
    serve(home, home.load())


if __name__ == "__main__":
    main()
