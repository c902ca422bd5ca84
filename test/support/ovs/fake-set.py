"""A fake set, in a network namespace: serves and probes, and sends and captures raw frames.

Usage: fake-set.py NAME INTERFACE. It reads one command a line, and writes one answer a line, both
JSON. Each received frame is a line, too. It serves echo on port 7000 by TCP and UDP, and answers
"NAME:" before the text, so that a caller knows which set has answered.
"""

import json
import random
import socket
import struct
import sys
import threading
import time

NAME, INTERFACE = sys.argv[1:3]
PORT = 7000
ALL_FRAMES = 0x0003
OUTGOING = 4
STREAM_TEXTS = 600
STREAM_PAUSE_SECONDS = 0.05

write_lock = threading.Lock()
connections = {}
loads = {}


def write(value):
    with write_lock:
        sys.stdout.write(json.dumps(value) + "\n")
        sys.stdout.flush()


def capture(raw):
    while True:
        frame, address = raw.recvfrom(65536)
        # The frames of a load are too many.
        if address[2] != OUTGOING and not loads:
            write({"frame": frame.hex()})


def listen(kind):
    server = socket.socket(socket.AF_INET6, kind)
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("::", PORT))
    return server


def serve_udp(server):
    while True:
        data, peer = server.recvfrom(65536)
        server.sendto(NAME.encode() + b":" + data, peer)


def serve_tcp(server):
    server.listen(64)
    while True:
        connection, _ = server.accept()
        threading.Thread(target=echo_tcp, args=(connection,), daemon=True).start()


def echo_tcp(connection):
    """Each request is its length and its text; so is each answer. "stream" has many answers."""
    try:
        while True:
            text = receive_text(connection)
            for _ in range(STREAM_TEXTS if text == "stream" else 1):
                send_text(connection, NAME + ":" + text)
                if text == "stream":
                    time.sleep(STREAM_PAUSE_SECONDS)
    except (OSError, EOFError):
        connection.close()


def send_text(connection, text):
    data = text.encode()
    connection.sendall(struct.pack("!I", len(data)) + data)


def receive_text(connection):
    (size,) = struct.unpack("!I", receive_bytes(connection, 4))
    return receive_bytes(connection, size).decode()


def receive_bytes(connection, count):
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def probe_tcp(command):
    family = socket.AF_INET6 if ":" in command["address"] else socket.AF_INET
    # The resolver splits the address and the interface of a link-local address.
    port = command.get("port", PORT)
    target = socket.getaddrinfo(command["address"], port, family, socket.SOCK_STREAM)[0][4]
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(command["timeout"])
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if "sourcePort" in command:
            connection.bind(("", command["sourcePort"]))
        connection.connect(target)
        send_text(connection, command["text"])
        return receive_text(connection)


def probe_udp(command):
    family = socket.AF_INET6 if ":" in command["address"] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.settimeout(command["timeout"])
        client.bind(("", command.get("sourcePort", 0)))
        client.sendto(command["text"].encode(), (command["address"], command.get("port", PORT)))
        return client.recv(65536).decode()


def start_load(command):
    """Opens one connection after another, until stop_load counts the answers and the errors."""
    load = {"isRunning": True, "answers": {}}
    loads[command["id"]] = load
    probe = {"tcp": probe_tcp, "udp": probe_udp}[command["protocol"]]

    def run():
        while load["isRunning"]:
            try:
                answer = probe({**command, "text": ""})[:-1]
            except (OSError, EOFError) as error:
                answer = "error: " + (str(error) or type(error).__name__)
            load["answers"][answer] = load["answers"].get(answer, 0) + 1

    load["thread"] = threading.Thread(target=run, daemon=True)
    load["thread"].start()
    return str(command["id"])


def stop_load(command):
    load = loads.pop(int(command["load"]))
    load["isRunning"] = False
    load["thread"].join()
    return json.dumps(load["answers"])


def probe_icmp(command):
    """Sends one echo request, and returns the answer's text without a name."""
    is_ipv6 = ":" in command["address"]
    family = socket.AF_INET6 if is_ipv6 else socket.AF_INET
    protocol = socket.IPPROTO_ICMPV6 if is_ipv6 else socket.IPPROTO_ICMP
    request, reply = (128, 129) if is_ipv6 else (8, 0)
    identifier = random.randrange(65536)  # another connection than that of earlier requests
    text = command["text"].encode()
    with socket.socket(family, socket.SOCK_RAW, protocol) as client:
        client.settimeout(command["timeout"])
        body = struct.pack("!HH", identifier, 1) + text
        sum_ = checksum(struct.pack("!BBH", request, 0, 0) + body)
        client.sendto(struct.pack("!BBH", request, 0, sum_) + body, (command["address"], 0))
        while True:
            packet = client.recv(65536)
            message = packet if is_ipv6 else packet[(packet[0] & 15) * 4 :]
            if message[0] == reply and message[4:] == body:
                return message[8:].decode()


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def connect(command):
    target = (command["address"], command.get("port", PORT))
    connection = socket.create_connection(target, command["timeout"])
    connections[command["id"]] = connection
    return str(command["id"])


def talk(command):
    connection = connections[int(command["connection"])]
    connection.settimeout(command["timeout"])
    send_text(connection, command["text"])
    return receive_text(connection)


def hear(command):
    connection = connections[int(command["connection"])]
    connection.settimeout(command["timeout"])
    return receive_text(connection)


def send_frame(command):
    raw.send(bytes.fromhex(command["frame"]))
    return ""


commands = {
    "tcp": probe_tcp,
    "udp": probe_udp,
    "icmp": probe_icmp,
    "connect": connect,
    "talk": talk,
    "hear": hear,
    "startLoad": start_load,
    "stopLoad": stop_load,
    "send": send_frame,
}


def perform(command):
    try:
        write({"id": command["id"], "text": commands[command["do"]](command)})
    except (OSError, EOFError) as error:
        write({"id": command["id"], "error": str(error) or type(error).__name__})


raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_FRAMES))
raw.bind((INTERFACE, 0))
for work, argument in [
    (capture, raw),
    (serve_udp, listen(socket.SOCK_DGRAM)),
    (serve_tcp, listen(socket.SOCK_STREAM)),
]:
    threading.Thread(target=work, args=(argument,), daemon=True).start()
write({"id": 0, "text": "ready"})
for line in sys.stdin:
    threading.Thread(target=perform, args=(json.loads(line),), daemon=True).start()
