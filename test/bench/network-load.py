"""Load between two network namespaces, for the benchmark `network`. Python adds a few microseconds to
each call of the kernel, on both sides of each comparison.

    network-load.py serve                         serves on three ports until it is killed
    network-load.py throughput ADDRESS SECONDS    one connection that sends as fast as it can
    network-load.py latency ADDRESS SECONDS       one byte there and back, again and again
    network-load.py connections A,B,... COUNT     new connections to each in turn, of WORKERS processes
    network-load.py watch-dns SERVER NAME         a line for each new answer, until it is killed

All others print one line of JSON.
"""
import json
import os
import random
import socket
import struct
import sys
import threading
import time

BULK_PORT, ECHO_PORT, SHORT_PORT = 9001, 9002, 9003
BUFFER_BYTES = 256 * 1024
WORKERS = 4
CONNECT_TIMEOUT_SECONDS = 3
# A connection that waits for this long means that packets were lost for good.
STALL_SECONDS = 20
# All connections of a worker. Without it, a server that never answers costs an hour.
CONNECTIONS_SECONDS_MAX = 300
DNS_POLL_SECONDS = 0.005


def receive_all(connection):
    buffer = bytearray(BUFFER_BYTES)
    while connection.recv_into(buffer) > 0:
        pass
    connection.sendall(b".")  # the sender's time ends here


def echo(connection):
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while True:
        data = connection.recv(1)
        if not data:
            return
        connection.sendall(data)


def answer_once(connection):
    if connection.recv(1):
        connection.sendall(b".")


def serve_port(port, serve):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("", port))
    listener.listen(1024)

    def run(connection):
        with connection:
            # In the kernel: a timeout of Python would cost another system call for each byte.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", STALL_SECONDS, 0))
            try:
                serve(connection)
            except OSError:
                pass  # the client's failure, which the client counts

    while True:
        connection, _ = listener.accept()
        if port == SHORT_PORT:
            run(connection)
        else:
            threading.Thread(target=run, args=(connection,), daemon=True).start()


def serve():
    for port, function in ((BULK_PORT, receive_all), (ECHO_PORT, echo), (SHORT_PORT, answer_once)):
        threading.Thread(target=serve_port, args=(port, function), daemon=True).start()
    print("ready", flush=True)
    threading.Event().wait()


def connect(address, port, timeout=CONNECT_TIMEOUT_SECONDS):
    connection = socket.create_connection((address, port), timeout=timeout)
    connection.settimeout(STALL_SECONDS)
    return connection


def receive_answer(connection):
    """An end of the connection would count as a fast answer."""
    if connection.recv(1) != b".":
        raise OSError("the server closed the connection")


def throughput(address, seconds):
    sent, chunk = 0, bytes(BUFFER_BYTES)
    with connect(address, BULK_PORT) as connection:
        started = time.monotonic()
        while time.monotonic() - started < seconds:
            sent += connection.send(chunk)
        connection.shutdown(socket.SHUT_WR)
        receive_answer(connection)
        elapsed = time.monotonic() - started
    return {"megabytesPerSecond": sent / elapsed / 1e6}


def latency(address, seconds):
    all_us = []
    with connect(address, ECHO_PORT) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            started = time.perf_counter_ns()
            connection.sendall(b".")
            receive_answer(connection)
            all_us.append((time.perf_counter_ns() - started) / 1000)
    all_us.sort()
    return {"p50Us": all_us[len(all_us) // 2], "p99Us": all_us[len(all_us) * 99 // 100]}


def connections(addresses, count):
    # Many ports: a closed connection occupies one for a minute.
    with open("/proc/sys/net/ipv4/ip_local_port_range", "w") as settings:
        settings.write("10000 65000")
    readers = []
    started = time.monotonic()
    for _ in range(WORKERS):
        reader, writer = os.pipe()
        if os.fork() == 0:
            os.write(writer, json.dumps(open_connections(addresses, count // WORKERS)).encode())
            os._exit(0)
        os.close(writer)
        readers.append(reader)
    results = [json.loads(os.fdopen(reader).read()) for reader in readers]
    elapsed = time.monotonic() - started
    failed = sum(result["failed"] for result in results)
    done = sum(result["done"] for result in results)
    errors = [error for result in results for error in result["errors"]]
    return {"perSecond": done / elapsed, "failed": failed, "errors": errors[:3]}


def open_connections(addresses, count):
    done, errors = 0, []
    ends = time.monotonic() + CONNECTIONS_SECONDS_MAX
    for number in range(count):
        if time.monotonic() > ends:
            raise TimeoutError(f"{number} of {count} connections in {CONNECTIONS_SECONDS_MAX} s: {errors[:3]}")
        try:
            with connect(addresses[number % len(addresses)], SHORT_PORT) as connection:
                connection.settimeout(CONNECT_TIMEOUT_SECONDS)
                connection.sendall(b".")
                receive_answer(connection)
            done += 1
        except OSError as error:
            errors.append(str(error))
    return {"done": done, "failed": len(errors), "errors": errors[:3]}


def watch_dns(server, name):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    question = labels + b"\0" + struct.pack("!HH", 1, 1)
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(1)
    client.connect((server, 53))
    last = None
    while True:
        number = random.randrange(65536)
        try:
            client.send(struct.pack("!HHHHHH", number, 0x100, 1, 0, 0, 0) + question)
            reply = client.recv(65535)
            while struct.unpack("!H", reply[:2])[0] != number:
                reply = client.recv(65535)
        except OSError:
            time.sleep(DNS_POLL_SECONDS)  # a refused query fails immediately
            continue
        addresses = read_addresses(reply, len(question))
        if addresses != last:
            print(json.dumps({"atMs": time.time() * 1000, "addresses": addresses}), flush=True)
            last = addresses
        time.sleep(DNS_POLL_SECONDS)


def read_addresses(reply, question_length):
    """The IPv4 addresses of the answers, whose names are pointers to the question."""
    count, place, found = struct.unpack("!H", reply[6:8])[0], 12 + question_length, []
    for _ in range(count):
        while reply[place] != 0 and reply[place] < 0xC0:
            place += 1 + reply[place]
        place += 2 if reply[place] >= 0xC0 else 1
        kind, _, _, length = struct.unpack("!HHIH", reply[place : place + 10])
        place += 10
        if kind == 1:
            found.append(socket.inet_ntoa(reply[place : place + length]))
        place += length
    return sorted(found)


def main():
    mode, *args = sys.argv[1:]
    if mode == "serve":
        serve()
    elif mode == "watch-dns":
        watch_dns(*args)
    elif mode == "throughput":
        print(json.dumps(throughput(args[0], float(args[1]))))
    elif mode == "latency":
        print(json.dumps(latency(args[0], float(args[1]))))
    else:
        print(json.dumps(connections(args[0].split(","), int(args[1]))))


main()
