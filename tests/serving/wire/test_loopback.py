"""No spelling of this machine's address goes through a proxy, and no other machine's counts as this one."""

import pytest

from keras_privpart.serving.wire.grpc_transport import channel_options
from keras_privpart.serving.wire.loopback import is_loopback

HERE = [
    "localhost:8500",
    "LOCALHOST:8500",
    "localhost.:8500",
    "127.0.0.1:8500",
    "127.1.2.3",
    "[::1]:8500",
    "[0:0:0:0:0:0:0:1]:8500",
    "[::ffff:127.0.0.1]:8500",
    "ipv4:127.0.0.1:8500",
    "ipv4:127.0.0.1:8500,127.0.0.2:8500",
    "ipv6:[::1]:8500",
    "ipv6:%5B::1%5D:8500",
    "dns:localhost:8500",
    "dns:///localhost:8500",
    "DNS:///LocalHost:8500",
    "dns://8.8.8.8/localhost:8500",
    "passthrough:///127.0.0.1:8500",
    "unix:/run/server.sock",
    "unix-abstract:name",
]
ELSEWHERE = [
    "example.org:8500",
    "localhost.example.org:8500",
    "notlocalhost:8500",
    "10.0.0.1:8500",
    "[2001:db8::1]:8500",
    "ipv4:127.0.0.1:8500,10.0.0.1:8500",
    "dns:///faces:8500",
    "dns://127.0.0.1/faces:8500",
]


@pytest.mark.parametrize("address", HERE)
def test_this_machine(address):
    assert is_loopback(address)
    assert ("grpc.enable_http_proxy", 0) in channel_options(address, 1)


@pytest.mark.parametrize("address", ELSEWHERE)
def test_other_machines(address):
    assert not is_loopback(address)
    assert ("grpc.enable_http_proxy", 0) not in channel_options(address, 1)
