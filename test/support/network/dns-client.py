"""Sends DNS queries for the tests. Reads JSON lines from stdin, and writes one JSON line for each.

A query has "name", "type", "server", "timeout" in seconds, and optionally "source" and "tcp". The
answer has "status" and "records". The status is that of the answer, or "TIMEOUT".
"""

import json
import socket
import struct
import sys

TYPES = {"A": 1, "CNAME": 5, "PTR": 12, "AAAA": 28, "SRV": 33, "ANY": 255}
STATUSES = {0: "NOERROR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}


def encode(name):
    labels = [label.encode() for label in name.split(".")]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def decode(message, offset):
    labels = []
    end = None
    while message[offset]:
        if message[offset] >= 0xC0:
            end = end or offset + 2
            offset = struct.unpack(">H", message[offset : offset + 2])[0] & 0x3FFF
            continue
        labels.append(message[offset + 1 : offset + 1 + message[offset]].decode())
        offset += 1 + message[offset]
    return ".".join(labels), end or offset + 1


def describe(kind, message, offset, length):
    data = message[offset : offset + length]
    if kind == TYPES["A"]:
        return socket.inet_ntop(socket.AF_INET, data)
    if kind == TYPES["AAAA"]:
        return socket.inet_ntop(socket.AF_INET6, data)
    if kind == TYPES["SRV"]:
        return "%d %s" % (struct.unpack(">H", data[4:6])[0], decode(message, offset + 6)[0])
    return decode(message, offset)[0]


def read_answer(message):
    questions, count = struct.unpack(">HH", message[4:8])
    offset = decode(message, 12)[1] + 4 if questions else 12
    records = []
    for _ in range(count):
        offset = decode(message, offset)[1]
        kind, _, ttl, length = struct.unpack(">HHIH", message[offset : offset + 10])
        record = describe(kind, message, offset + 10, length)
        records.append({"type": kind, "ttl": ttl, "data": record})
        offset += 10 + length
    truncated = bool(message[2] & 2)
    return {"status": STATUSES[message[3] & 15], "truncated": truncated, "records": records}


def ask(query):
    kind = socket.SOCK_STREAM if query.get("tcp") else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as connection:
        connection.settimeout(query["timeout"])
        if "source" in query:
            connection.bind((query["source"], 0))
        head = struct.pack(">HHHHHH", 4711, 0x100, 1, 0, 0, 0)
        message = head + encode(query["name"]) + struct.pack(">HH", TYPES[query["type"]], 1)
        connection.connect((query["server"], 53))
        if not query.get("tcp"):
            connection.send(message)
            return read_answer(connection.recv(65536))
        connection.sendall(struct.pack(">H", len(message)) + message)
        stream = connection.makefile("rb")
        return read_answer(stream.read(struct.unpack(">H", stream.read(2))[0]))


for line in sys.stdin:
    try:
        answer = ask(json.loads(line))
    except OSError as error:
        answer = {"status": "TIMEOUT", "records": [], "detail": str(error)}
    print(json.dumps(answer), flush=True)
