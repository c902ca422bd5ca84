import { connectionError, withConnection } from "./daemon-connection.ts";

/** OpenFlow 1.4, as in the calls of ovs-ofctl. */
const version = 5;
const types = { hello: 0, error: 1, echoRequest: 2, echoReply: 3, request: 18, reply: 19 };
const headerBytes = 8;
const requestId = 2;
/** A part of both a request and a reply: OFPMP_AGGREGATE. */
const aggregate = 2;
/** Where the number of flows is in a reply. */
const countOffset = 32;

/**
 * Counts the flows of the bridge whose management socket this is, as `ovs-ofctl dump-aggregate`
 * does. The driver counts them before each change, and a program takes ten milliseconds to start.
 */
export async function readFlowCount(options: {
  socketPath: string;
  timeoutMs: number;
  signal: AbortSignal;
}): Promise<number> {
  return withConnection({ ...options, daemon: "ovs-vswitchd" }, async (connection) => {
    connection.write(Buffer.concat([helloMessage(), requestMessage()]));
    let input = Buffer.alloc(0);
    for (;;) {
      // The length of a message has two bytes, which bounds it.
      while (input.length < headerBytes || input.length < lengthOf(input))
        input = Buffer.concat([input, await connection.read()]);
      const message = input.subarray(0, lengthOf(input));
      input = input.subarray(message.length);
      const type = message[1];
      if (type === types.echoRequest)
        connection.write(toMessage(types.echoReply, message.readUInt32BE(4), message.subarray(8)));
      else if (type === types.error)
        throw connectionError(
          `ovs-vswitchd refused to count flows: ${message.subarray(headerBytes).toString("hex")}.`,
        );
      else if (type === types.reply && message.readUInt32BE(4) === requestId)
        return message.readUInt32BE(countOffset);
    }
  });
}

function lengthOf(message: Buffer): number {
  const bytes = message.readUInt16BE(2);
  if (bytes < headerBytes) throw connectionError("ovs-vswitchd sent a message without a header.");
  return bytes;
}

/** Accepts this version only. */
function helloMessage(): Buffer {
  const versions = Buffer.alloc(8);
  versions.writeUInt16BE(1, 0); // OFPHET_VERSIONBITMAP
  versions.writeUInt16BE(versions.length, 2);
  versions.writeUInt32BE(2 ** version, 4);
  return toMessage(types.hello, 1, versions);
}

/** Of all tables, output ports and groups, with a match that has no fields. */
function requestMessage(): Buffer {
  const body = Buffer.alloc(48);
  body.writeUInt16BE(aggregate, 0);
  body.writeUInt8(0xff, 8);
  body.writeUInt32BE(0xffffffff, 12);
  body.writeUInt32BE(0xffffffff, 16);
  body.writeUInt16BE(1, 40); // OFPMT_OXM
  body.writeUInt16BE(4, 42);
  return toMessage(types.request, requestId, body);
}

function toMessage(type: number, id: number, body: Buffer): Buffer {
  const header = Buffer.alloc(headerBytes);
  header.writeUInt8(version, 0);
  header.writeUInt8(type, 1);
  header.writeUInt16BE(headerBytes + body.length, 2);
  header.writeUInt32BE(id, 4);
  return Buffer.concat([header, body]);
}
