"""admitted: exit 0 when this SSH connection comes from the host itself, or from one of the networks given as arguments."""

import ipaddress
import os
import sys

came_from = ipaddress.ip_address(os.environ["SSH_CONNECTION"].split()[0])
# the rules admit loopback, where an agent on the host hands connections on, as AWS Session Manager's does
if not came_from.is_loopback and not any(
    came_from in ipaddress.ip_network(network, strict=False) for network in sys.argv[1:]
):
    sys.exit(f"firewall_ssh_from does not include {came_from}, the address of this connection")
